//! Opening a session: what the consumer asks for and what the provider answers, each bound by signatures.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use wayfare_identity::{Signature, TunnelBinding};
use wayfare_payment::{Agreement, SignedAgreement};

use crate::{Hello, Welcome};

/// The consumer's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// What the consumer's software can do.
    pub hello: Hello,
    /// The terms, as read from the provider's proposal.
    pub agreement: Agreement,
    /// The consumer's signature over the terms.
    pub consumer_signature: Signature,
    /// The consumer's tunnel key, bound to its identity and this agreement.
    pub binding: TunnelBinding,
}

/// The provider's consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReply {
    /// The protocol in use.
    pub welcome: Welcome,
    /// The provider's signature over the same terms.
    pub provider_signature: Signature,
    /// The provider's tunnel key, bound to its identity and this agreement.
    pub binding: TunnelBinding,
    /// The consumer's place in the provider's network.
    pub network: TunnelNetwork,
    /// Names the session on later streams of the same provider.
    pub token: SessionToken,
}

/// Addresses inside the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelNetwork {
    /// The consumer's address.
    pub consumer_v4: Ipv4Addr,
    /// The consumer's IPv6 address; `None` when the exit carries no IPv6.
    pub consumer_v6: Option<Ipv6Addr>,
    /// Largest inner packet in bytes.
    pub mtu: u16,
}

/// A secret that names a session; never logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionToken(pub [u8; 32]);

impl std::fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionToken(..)")
    }
}

/// Why a provider does not open, or closes, a session. Codes are part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RefusalCode {
    /// No common protocol version.
    Incompatible,
    /// The terms are not the ones offered: price, chunk, chain, vault.
    Terms,
    /// The provider does not work with that Hermes, or cannot reach it.
    Hermes,
    /// A signature or binding does not hold.
    Signature,
    /// The consumer's deposit does not cover the first chunk.
    Unfunded,
    /// The agreement was used before.
    Replayed,
    /// No room for another session.
    Full,
    /// The provider is shutting down.
    Draining,
    /// No session of that token.
    Unknown,
    /// The consumer did not pay in time.
    Unpaid,
    /// A fault of the provider's own.
    Internal,
}

/// A refusal, with words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the provider refused ({code:?}): {message}")]
pub struct Refusal {
    /// What programs decide upon.
    pub code: RefusalCode,
    /// Cause and next step.
    pub message: String,
}

impl Refusal {
    /// A refusal with its reason.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl OpenRequest {
    /// Checks what the consumer signed.
    ///
    /// # Errors
    /// A [`Refusal`] that names what does not hold.
    pub fn verify(&self) -> Result<(), Refusal> {
        let agreement = &self.agreement;
        let signature = |what: &str, cause: &dyn std::fmt::Display| {
            Refusal::new(RefusalCode::Signature, format!("{what}: {cause}"))
        };
        self.consumer_signature
            .verify(agreement.digest(), agreement.consumer)
            .map_err(|cause| signature("the agreement is not signed by its consumer", &cause))?;
        if self.binding.identity != agreement.consumer || self.binding.agreement != agreement.id.0 {
            return Err(signature(
                "the tunnel key",
                &"is bound to another identity or agreement",
            ));
        }
        self.binding
            .verify(&agreement.domain())
            .map_err(|cause| signature("the tunnel key", &cause))
    }
}

impl OpenReply {
    /// Checks what the provider signed, against the request that it answers, and joins both signatures.
    ///
    /// # Errors
    /// A [`Refusal`] that names what does not hold.
    pub fn verify(&self, request: &OpenRequest) -> Result<SignedAgreement, Refusal> {
        let agreement = request.agreement;
        let signature = |what: &str| {
            Refusal::new(
                RefusalCode::Signature,
                format!("{what}: choose another provider"),
            )
        };
        let signed = SignedAgreement {
            agreement,
            consumer_signature: request.consumer_signature,
            provider_signature: self.provider_signature,
        };
        signed
            .verify()
            .map_err(|_| signature("the provider did not sign these terms"))?;
        if self.binding.identity != agreement.provider || self.binding.agreement != agreement.id.0 {
            return Err(signature(
                "the provider's tunnel key is bound to another identity or agreement",
            ));
        }
        self.binding
            .verify(&agreement.domain())
            .map_err(|_| signature("the provider's tunnel key is not bound to its identity"))?;
        Ok(signed)
    }
}
