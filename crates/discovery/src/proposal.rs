//! Proposals: an offer under its provider's signature, on the wire and verified. It refuses bytes that are not exactly what the
//! same release would have written.
//!
//! On the wire a proposal is postcard: the offer's fields in order, then the 65-byte signature, at most [`MAX_ENCODED`] bytes.
//! The format number comes first, so that another release's proposal is told from junk.

use std::ops::Deref;

use serde::{Deserialize, Serialize};
use wayfare_identity::{Signature, SignatureError, Signer};

use crate::{FORMAT, Offer, OfferError, ProposalKey};

/// The largest encoded proposal, in bytes.
pub const MAX_ENCODED: usize = 4096;

/// How far a provider's clock may be ahead, in seconds.
pub const MAX_SKEW: u64 = 60;

/// A proposal as it travels. Nothing about it has been checked but its shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedProposal {
    /// What is offered.
    pub offer: Offer,
    /// By whom, it claims.
    pub signature: Signature,
}

/// A verified proposal: well-formed, signed by the provider that it names, in force at the time of verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal(SignedProposal);

/// Why bytes are no proposal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// More than [`MAX_ENCODED`].
    #[error("the proposal has {0} bytes, the most are {MAX_ENCODED}")]
    TooLarge(usize),
    /// Written by another release.
    #[error("the proposal has format {0}, this release reads {FORMAT}")]
    Format(u32),
    /// Not the encoding of anything.
    #[error("these bytes are no proposal: {0}")]
    Encoding(String),
    /// A second spelling of a proposal.
    #[error("the proposal is not in its canonical encoding")]
    NotCanonical,
}

/// Why a proposal is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// A field breaks a rule.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// Its encoding is too large.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Its time is over.
    #[error("the proposal expired at {expires_at}, it is {now}")]
    Expired {
        /// Unix seconds.
        expires_at: u64,
        /// Unix seconds.
        now: u64,
    },
    /// Its time has not come; or one of the clocks is wrong.
    #[error(
        "the proposal was issued at {issued_at}, but it is only {now}: one of the two clocks is wrong"
    )]
    FromFuture {
        /// Unix seconds.
        issued_at: u64,
        /// Unix seconds.
        now: u64,
    },
    /// Not signed by the provider that it names.
    #[error("the provider did not sign this proposal: {0}")]
    BadSignature(#[from] SignatureError),
}

/// Why an offer was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// A field breaks a rule.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// The encoding would be too large: name fewer contacts, Hermes or capabilities.
    #[error(transparent)]
    TooLarge(#[from] Malformed),
    /// The offer names one provider, the signer is another.
    #[error("the offer is in another provider's name than the signer's")]
    OtherProvider,
    /// The holder of the key did not sign.
    #[error(transparent)]
    Signer(#[from] wayfare_identity::SignError),
}

impl Offer {
    /// Signs the offer.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(self, signer: &dyn Signer) -> Result<SignedProposal, SignError> {
        self.check()?;
        if signer.address() != self.provider {
            return Err(SignError::OtherProvider);
        }
        let signature = signer.sign_digest(self.digest())?;
        let signed = SignedProposal {
            offer: self,
            signature,
        };
        bounded(&signed.to_bytes())?;
        Ok(signed)
    }
}

impl SignedProposal {
    /// Reads a proposal from the wire. It must still be verified.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        bounded(bytes)?;
        let junk = |error: postcard::Error| Malformed::Encoding(error.to_string());
        let (format, _) = postcard::take_from_bytes::<u32>(bytes).map_err(junk)?;
        if format != FORMAT {
            return Err(Malformed::Format(format));
        }
        let signed: Self = postcard::from_bytes(bytes).map_err(junk)?;
        // Also catches bytes left over, doubled capabilities and numbers written long.
        if signed.to_bytes() != bytes {
            return Err(Malformed::NotCanonical);
        }
        Ok(signed)
    }

    /// The bytes for the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("no map, no unsized sequence: postcard writes all of it")
    }

    /// Checks everything; `now` in Unix seconds.
    ///
    /// # Errors
    /// [`ProposalError`], the cheapest check first.
    pub fn verify(self, now: u64) -> Result<Proposal, ProposalError> {
        let offer = &self.offer;
        offer.check()?;
        let Offer {
            issued_at,
            expires_at,
            ..
        } = *offer;
        if expires_at <= now {
            return Err(ProposalError::Expired { expires_at, now });
        }
        if issued_at > now.saturating_add(MAX_SKEW) {
            return Err(ProposalError::FromFuture { issued_at, now });
        }
        bounded(&self.to_bytes())?;
        self.signature.verify(offer.digest(), offer.provider)?;
        Ok(Proposal(self))
    }
}

impl Proposal {
    /// What distinguishes it from other proposals; a later one under the same key replaces it.
    #[must_use]
    pub fn key(&self) -> ProposalKey {
        ProposalKey {
            provider: self.provider,
            service: self.service.clone(),
            node: self.node,
        }
    }

    /// As it travels, to be passed on.
    #[must_use]
    pub fn signed(&self) -> &SignedProposal {
        &self.0
    }
}

impl Deref for Proposal {
    type Target = Offer;

    fn deref(&self) -> &Offer {
        &self.0.offer
    }
}

fn bounded(bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.len() > MAX_ENCODED {
        Err(Malformed::TooLarge(bytes.len()))
    } else {
        Ok(())
    }
}
