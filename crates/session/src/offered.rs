//! What somebody who is paid offers, and whether the terms of an agreement are those. It refuses to know what is sold.

use wayfare_identity::Address;
use wayfare_payment::{AdmissionRefusal, Agreement, Amount, ChannelId, Price};

use crate::{AdmissionFacts, Funds, Refusal, RefusalCode};

/// The terms on which somebody serves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offered {
    pub(crate) provider: Address,
    pub(crate) hermes: Address,
    pub(crate) chain_id: u64,
    pub(crate) vault: Address,
    pub(crate) price: Price,
    /// The largest first chunk.
    pub(crate) chunk: Amount,
}

impl Offered {
    /// Whether an agreement says the same. `channel`: the consumer's, derived here.
    pub(crate) fn check(&self, agreement: &Agreement, channel: ChannelId) -> Result<(), Refusal> {
        let terms = |message: String| Err(Refusal::new(RefusalCode::Terms, message));
        if agreement.provider != self.provider {
            return terms(format!(
                "the agreement names {} as provider",
                agreement.provider
            ));
        }
        if agreement.hermes != self.hermes {
            let message = format!("this provider is paid through the Hermes {}", self.hermes);
            return Err(Refusal::new(RefusalCode::Hermes, message));
        }
        if agreement.chain_id != self.chain_id || agreement.vault != self.vault {
            return terms(format!(
                "this provider is paid on chain {} by the vault {}",
                self.chain_id, self.vault
            ));
        }
        if agreement.price != self.price {
            return terms("the price has changed: fetch the offer again".into());
        }
        // How far the consumer would let its credit grow is its own affair: the collector gives what it is told to.
        if agreement.chunk.is_zero() || agreement.chunk > self.chunk {
            return terms(format!("first chunks of up to {} are given", self.chunk));
        }
        if agreement.consumer_channel != channel {
            return terms(
                "the consumer's channel is not the one that follows from its identity".into(),
            );
        }
        Ok(())
    }
}

/// Agreements that one consumer may have opened and not paid for: each holds what it needs for up to two minutes, for nothing.
const MAX_UNPAID: usize = 4;

/// Whether somebody who serves can take one more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) draining: bool,
    pub(crate) taken: usize,
    pub(crate) most: usize,
    /// Those of the same consumer for which nothing was paid yet.
    pub(crate) unpaid: usize,
    /// What the one who serves is called, and what is taken: "provider", "sessions".
    pub(crate) words: [&'static str; 2],
}

impl Room {
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let [who, what] = self.words;
        let (code, message) = if self.draining {
            let message = format!("the {who} is shutting down: choose another one");
            (RefusalCode::Draining, message)
        } else if self.taken >= self.most {
            let message = format!("all {} {what} are taken: choose another {who}", self.most);
            (RefusalCode::Full, message)
        } else if self.unpaid >= MAX_UNPAID {
            let message = format!(
                "{MAX_UNPAID} {what} of this consumer wait for their first payment: pay, or wait until they are given up"
            );
            (RefusalCode::Unpaid, message)
        } else {
            return Ok(());
        };
        Err(Refusal::new(code, message))
    }
}

impl AdmissionFacts {
    /// Whether the agreement is new, and there is a deposit for its first chunk, as far as is known.
    pub(crate) fn check(&self, agreement: &Agreement, used: bool) -> Result<(), Refusal> {
        if used {
            return Err(Refusal::new(
                RefusalCode::Replayed,
                "this agreement was used before: make a new one",
            ));
        }
        self.funds.map_or(Ok(()), |funds| funds.check(agreement))
    }
}

impl Funds {
    /// Whether there is a deposit for the first chunk.
    pub(crate) fn check(&self, agreement: &Agreement) -> Result<(), Refusal> {
        if self.leaving {
            return Err(Refusal::new(
                RefusalCode::Unfunded,
                "the consumer is taking its deposit out",
            ));
        }
        if self.spendable < agreement.chunk {
            let message = format!(
                "the deposit leaves {} to spend, the first chunk costs {}: top up",
                self.spendable, agreement.chunk
            );
            return Err(Refusal::new(RefusalCode::Unfunded, message));
        }
        Ok(())
    }
}

/// Whose fault it is when the collector takes no agreement that passed all checks.
pub(crate) fn code_of(refusal: &AdmissionRefusal) -> RefusalCode {
    match refusal {
        AdmissionRefusal::NotOurs(_) | AdmissionRefusal::NoChunk => RefusalCode::Terms,
        AdmissionRefusal::Signature(_) => RefusalCode::Signature,
        AdmissionRefusal::IdTaken => RefusalCode::Replayed,
        AdmissionRefusal::TooMany(_) => RefusalCode::Full,
        AdmissionRefusal::Stopped => RefusalCode::Internal,
    }
}
