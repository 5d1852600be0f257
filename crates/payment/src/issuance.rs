//! What a provider and a Hermes say to each other: a request for a promise, its answer, and the reasons for a refusal.

use serde::{Deserialize, Serialize};
use wayfare_identity::{
    Address, B256, Domain, SignError, Signature, SignatureError, Signer, TypedStruct,
};

use crate::{Exchange, SignedPromise, SignedReceipt};

/// A provider's request: turn this consumer's payment into your promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueRequest {
    /// Who paid.
    pub consumer: Address,
    /// The payment.
    pub exchange: Exchange,
}

impl IssueRequest {
    /// What the provider signs: nobody else may move its channel, or a consumer could lock it with a hashlock of its own.
    #[must_use]
    pub fn digest(&self, vault: Address) -> B256 {
        let chain_id = self.exchange.promise.promise.chain_id;
        let domain = Domain {
            chain_id,
            verifying_contract: vault,
        };
        let message = TypedStruct::new("IssueRequest(bytes32 exchange)")
            .word(self.exchange.message().digest());
        domain.digest(&message)
    }

    /// Signs in the name of the provider that is paid.
    ///
    /// # Errors
    /// [`SignError`] of the signer.
    pub fn sign(
        self,
        provider: &dyn Signer,
        vault: Address,
    ) -> Result<SignedIssueRequest, SignError> {
        let provider_signature = provider.sign_digest(self.digest(vault))?;
        Ok(SignedIssueRequest {
            request: self,
            provider_signature,
        })
    }
}

/// A request with the consent of the provider that it pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedIssueRequest {
    /// What is asked for.
    pub request: IssueRequest,
    /// The provider's signature over [`IssueRequest::digest`].
    pub provider_signature: Signature,
}

impl SignedIssueRequest {
    /// Checks that the paid provider asks.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(&self, vault: Address) -> Result<(), SignatureError> {
        let provider = self.request.exchange.provider;
        self.provider_signature
            .verify(self.request.digest(vault), provider)
    }
}

/// A Hermes' answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueReply {
    /// The cumulative promise on the provider's channel, with the hashlock of the consumer's promise.
    pub promise: SignedPromise,
    /// The entry of the Hermes' chain of receipts that counts it.
    pub receipt: SignedReceipt,
}

/// Why a Hermes does not issue, or does not take a preimage.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    thiserror::Error,
)]
pub enum IssueRefusal {
    /// Addressed to another Hermes.
    #[error("the payment names another Hermes")]
    WrongHermes,
    /// Of another chain.
    #[error("the promise is for another chain")]
    WrongChain,
    /// Not on the consumer's channel at this Hermes.
    #[error("the promise is not on the consumer's channel at this Hermes")]
    WrongChannel,
    /// Carries a fee, which nobody authorised.
    #[error("the promise carries a fee")]
    Fee,
    /// Not signed by the consumer.
    #[error("promise and payment are not both signed by the consumer")]
    Signature,
    /// The agreement's total is below what was accepted.
    #[error("the payment is older than one already accepted for this agreement")]
    Stale,
    /// The agreement's total was accepted with another lock.
    #[error("this total was already accepted with another hashlock")]
    LockChanged,
    /// The agreement pays another provider.
    #[error("this agreement of the consumer pays another provider")]
    OtherProvider,
    /// The consumer's promises do not add up to what they pay for.
    #[error("the consumer's promises do not cover what they are meant to pay")]
    NotCovered,
    /// A sum above 2^256.
    #[error("amounts too large to add")]
    Overflow,
    /// No deposit for it.
    #[error("the consumer's deposit does not cover the payment: the consumer has to top up")]
    OverDeposit,
    /// The consumer is taking its deposit back.
    #[error(
        "the consumer has asked for its deposit back: it has to cancel the exit or open another channel"
    )]
    ExitPending,
    /// The provider holds a promise whose preimage it has not revealed.
    #[error("reveal the preimage of the previous promise first")]
    RevealFirst,
    /// Too much, or to too many providers, of what this consumer paid is still locked.
    #[error("too much of what this consumer paid is still unrevealed: try again later")]
    Crowded,
    /// The preimage opens no promise of this channel that is still locked.
    #[error("the preimage does not open the last promise on this channel")]
    WrongPreimage,
    /// The Hermes' own disk or key failed.
    #[error("the Hermes cannot sign or store now: try again later")]
    OutOfOrder,
}

impl IssueRefusal {
    /// Every refusal.
    pub const ALL: [Self; 16] = [
        Self::WrongHermes,
        Self::WrongChain,
        Self::WrongChannel,
        Self::Fee,
        Self::Signature,
        Self::Stale,
        Self::LockChanged,
        Self::OtherProvider,
        Self::NotCovered,
        Self::Overflow,
        Self::OverDeposit,
        Self::ExitPending,
        Self::RevealFirst,
        Self::Crowded,
        Self::WrongPreimage,
        Self::OutOfOrder,
    ];

    /// A stable name for wires and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::WrongHermes => "wrong-hermes",
            Self::WrongChain => "wrong-chain",
            Self::WrongChannel => "wrong-channel",
            Self::Fee => "fee",
            Self::Signature => "signature",
            Self::Stale => "stale",
            Self::LockChanged => "lock-changed",
            Self::OtherProvider => "other-provider",
            Self::NotCovered => "not-covered",
            Self::Overflow => "overflow",
            Self::OverDeposit => "over-deposit",
            Self::ExitPending => "exit-pending",
            Self::RevealFirst => "reveal-first",
            Self::Crowded => "crowded",
            Self::WrongPreimage => "wrong-preimage",
            Self::OutOfOrder => "out-of-order",
        }
    }

    /// Reads [`IssueRefusal::code`]; `None` for a code of a newer release.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.code() == code)
    }

    /// Whether the same payment will be refused for ever.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::WrongHermes
            | Self::WrongChain
            | Self::WrongChannel
            | Self::Fee
            | Self::Signature
            | Self::Stale
            | Self::LockChanged
            | Self::OtherProvider
            | Self::NotCovered
            | Self::Overflow
            | Self::WrongPreimage => true,
            Self::OverDeposit
            | Self::ExitPending
            | Self::RevealFirst
            | Self::Crowded
            | Self::OutOfOrder => false,
        }
    }
}

/// Why a provider got no promise for a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssueFailure {
    /// No answer: it is not known whether the Hermes has seen the request.
    #[error("the Hermes does not answer")]
    Unreachable,
    /// An answer.
    #[error("the Hermes refused: {0}")]
    Refused(#[from] IssueRefusal),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_read_back() {
        for refusal in IssueRefusal::ALL {
            assert_eq!(IssueRefusal::from_code(refusal.code()), Some(refusal));
        }
        assert_eq!(IssueRefusal::from_code("nonsense"), None);
    }
}
