//! The toll: what the caller of a channel pays a relay for the bytes that it passes, by the same promises as its exit.
//!
//! An agreement is made on a connection whose other end is a node; it pays for every channel that this node calls through the
//! relay, from then on, in both directions, and for bytes only. Nothing of it passes through those channels themselves, so a gate
//! that is shut can be paid open. The callee pays nothing and need not know. [`TollKeeper`] is the relay's machine, [`TollPayer`]
//! the consumer's; frames, invoices, promises and settlement are those of a session.
//!
//! Refuses to know relays: how bytes are counted and held back is done by whoever drives these machines.

mod keeper;
mod payer;

use wayfare_identity::{Address, Signature};
use wayfare_payment::{Agreement, Amount, Price, SignedAgreement, Usage};

use crate::{Hello, Refusal, RefusalCode, SessionToken, Welcome};

pub use keeper::{TollConfig, TollKeeper, TollKeeperOutput};
pub use payer::{TollEvent, TollOutput, TollPayer};

/// What a relay asks for, and how it is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tariff {
    /// Who is paid.
    pub operator: Address,
    /// Through which Hermes.
    pub hermes: Address,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The vault on that chain.
    pub vault: Address,
    /// The price of a gibibyte of frames as they reach the relay, both directions together. Nothing: all is free.
    pub per_gib: Amount,
    /// The largest first chunk that it takes.
    pub chunk_most: Amount,
    /// What it passes for a node that has paid nothing, in bytes; then a trickle.
    pub free_bytes: u64,
}

impl Tariff {
    /// The price that an agreement must name.
    #[must_use]
    pub fn price(&self) -> Price {
        Price {
            per_hour: Amount::ZERO,
            per_gib: self.per_gib,
        }
    }
}

/// The consumer's request to pay a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TollRequest {
    /// What the consumer's software can do.
    pub hello: Hello,
    /// The terms, as read from the relay's tariff.
    pub agreement: Agreement,
    /// The consumer's signature over the terms.
    pub consumer_signature: Signature,
}

/// The relay's consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TollReply {
    /// The protocol in use.
    pub welcome: Welcome,
    /// The operator's signature over the same terms.
    pub provider_signature: Signature,
    /// Names the agreement on later streams to the same relay.
    pub token: SessionToken,
}

impl TollRequest {
    /// Checks what the consumer signed.
    ///
    /// # Errors
    /// A [`Refusal`] that names what does not hold.
    pub fn verify(&self) -> Result<(), Refusal> {
        let agreement = &self.agreement;
        self.consumer_signature
            .verify(agreement.digest(), agreement.consumer)
            .map_err(|cause| {
                let message = format!("the agreement is not signed by its consumer: {cause}");
                Refusal::new(RefusalCode::Signature, message)
            })
    }
}

impl TollReply {
    /// Checks what the operator signed, against the request that it answers, and joins both signatures.
    ///
    /// # Errors
    /// A [`Refusal`] that names what does not hold.
    pub fn verify(&self, request: &TollRequest) -> Result<SignedAgreement, Refusal> {
        let signed = SignedAgreement {
            agreement: request.agreement,
            consumer_signature: request.consumer_signature,
            provider_signature: self.provider_signature,
        };
        signed.verify().map_err(|cause| {
            let message = format!("the agreement is not signed by the relay's operator: {cause}");
            Refusal::new(RefusalCode::Signature, message)
        })?;
        Ok(signed)
    }
}

/// Turns a cumulative count that somebody else keeps, and may begin again at nothing, into what passed since a beginning.
#[derive(Debug, Clone, Copy, Default)]
struct Odometer {
    /// As last read.
    shown: [u64; 2],
    /// Passed since the beginning, from the caller and to it.
    passed: [u64; 2],
}

impl Odometer {
    fn starting_at(shown: [u64; 2]) -> Self {
        Self {
            shown,
            passed: [0; 2],
        }
    }

    /// Both only grow, so if either has become less the count is a new one, and all of it is news.
    fn advance(&mut self, shown: [u64; 2]) {
        let anew = shown.iter().zip(self.shown).any(|(now, was)| *now < was);
        let before = if anew { [0; 2] } else { self.shown };
        for (side, passed) in self.passed.iter_mut().enumerate() {
            *passed = passed.saturating_add(shown[side] - before[side]);
        }
        self.shown = shown;
    }

    /// Both directions of what is shown.
    fn shown(&self) -> u64 {
        self.shown[0].saturating_add(self.shown[1])
    }

    fn usage(&self) -> Usage {
        Usage {
            up: self.passed[0],
            down: self.passed[1],
            ..Usage::default()
        }
    }
}

#[cfg(test)]
mod tests;
