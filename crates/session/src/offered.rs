//! What somebody who is paid offers, and whether the terms of an agreement are those. It refuses to know what is sold.

use wayfare_identity::Address;
use wayfare_payment::{AdmissionRefusal, Agreement, Amount, ChannelId, Price};

use crate::{AdmissionFacts, Refusal, RefusalCode};

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

impl AdmissionFacts {
    /// Whether the agreement is new, and there is a deposit for its first chunk.
    pub(crate) fn check(&self, agreement: &Agreement, used: bool) -> Result<(), Refusal> {
        if used {
            return Err(Refusal::new(
                RefusalCode::Replayed,
                "this agreement was used before: make a new one",
            ));
        }
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
