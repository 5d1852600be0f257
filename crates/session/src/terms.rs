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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wayfare_identity::{Address, LocalSigner, SecretKey, Signer, U256};
    use wayfare_payment::{AgreementId, Amount, ChannelId, Price};

    use super::*;
    use crate::negotiate;

    fn signer(byte: u8) -> LocalSigner {
        LocalSigner::new(SecretKey::from_bytes([byte; 32]).unwrap())
    }

    fn agreement(id: u64) -> Agreement {
        Agreement {
            id: AgreementId(U256::from(id)),
            consumer: signer(1).address(),
            provider: signer(2).address(),
            hermes: Address::repeat_byte(3),
            chain_id: 5,
            vault: Address::repeat_byte(4),
            consumer_channel: ChannelId::of_deposit(Address::repeat_byte(5)),
            price: Price::default(),
            chunk: Amount::from_units(1),
            chunk_limit: Amount::from_units(2),
        }
    }

    fn bind(by: u8, agreement: &Agreement) -> TunnelBinding {
        let key = [by + 100; 32];
        TunnelBinding::sign(&signer(by), &agreement.domain(), key, agreement.id.0).unwrap()
    }

    fn request() -> OpenRequest {
        let agreement = agreement(1);
        OpenRequest {
            hello: Hello::ours(),
            agreement,
            consumer_signature: signer(1).sign_digest(agreement.digest()).unwrap(),
            binding: bind(1, &agreement),
        }
    }

    fn reply(request: &OpenRequest) -> OpenReply {
        let digest = request.agreement.digest();
        OpenReply {
            welcome: negotiate(&Hello::ours(), &request.hello).unwrap(),
            provider_signature: signer(2).sign_digest(digest).unwrap(),
            binding: bind(2, &request.agreement),
            network: TunnelNetwork {
                consumer_v4: [10, 80, 0, 2].into(),
                consumer_v6: None,
                mtu: 1_420,
            },
            token: SessionToken([0xab; 32]),
        }
    }

    #[test]
    fn a_good_request_and_its_reply_make_an_agreement_signed_by_both() {
        let request = request();
        request.verify().unwrap();
        let signed = reply(&request).verify(&request).unwrap();
        assert_eq!(signed.agreement, request.agreement);
        signed.verify().unwrap();
    }

    #[test]
    fn a_request_stands_and_falls_with_each_of_its_signatures() {
        let check = |what: &str, change: fn(&mut OpenRequest)| {
            let mut bad = request();
            change(&mut bad);
            let code = bad.verify().map_err(|refusal| refusal.code);
            assert_eq!(code, Err(RefusalCode::Signature), "{what}");
        };
        check("other terms", |r| r.agreement.chunk = Amount::from_units(9));
        check("another consumer", |r| {
            r.agreement.consumer = signer(9).address();
        });
        check("somebody else's signature", |r| {
            r.consumer_signature = signer(9).sign_digest(r.agreement.digest()).unwrap();
        });
        check("somebody else's binding", |r| {
            r.binding = bind(9, &r.agreement);
        });
        check("a binding under another agreement", |r| {
            r.binding = bind(1, &agreement(2));
        });
        check("a binding under another agreement, renamed", |r| {
            r.binding = bind(1, &agreement(2));
            r.binding.agreement = r.agreement.id.0;
        });
        check("a binding for another chain", |r| {
            let elsewhere = Agreement {
                chain_id: 6,
                ..r.agreement
            };
            r.binding = bind(1, &elsewhere);
        });
        check("another tunnel key", |r| r.binding.tunnel_key = [0; 32]);
    }

    #[test]
    fn a_reply_stands_and_falls_with_each_of_its_signatures() {
        let check = |what: &str, change: fn(&mut OpenReply, &OpenRequest)| {
            let request = request();
            let mut bad = reply(&request);
            change(&mut bad, &request);
            let code = bad.verify(&request).map_err(|refusal| refusal.code);
            assert_eq!(code.unwrap_err(), RefusalCode::Signature, "{what}");
        };
        check("no consent to these terms", |r, _| {
            r.provider_signature = signer(2).sign_digest(agreement(2).digest()).unwrap();
        });
        check("somebody else's consent", |r, request| {
            let digest = request.agreement.digest();
            r.provider_signature = signer(9).sign_digest(digest).unwrap();
        });
        check("the consumer's own signature", |r, request| {
            r.provider_signature = request.consumer_signature;
        });
        check("somebody else's tunnel", |r, request| {
            r.binding = bind(9, &request.agreement);
        });
        check("the tunnel of another agreement", |r, _| {
            r.binding = bind(2, &agreement(2));
        });
        check("another tunnel key", |r, _| r.binding.tunnel_key = [0; 32]);
    }

    #[test]
    fn a_token_is_not_shown_and_a_refusal_says_what_and_why() {
        let shown = format!("{:?}", reply(&request()));
        assert!(!shown.contains("171") && !shown.contains("abab"), "{shown}");
        let refusal = Refusal::new(RefusalCode::Full, "come back later");
        assert_eq!(
            refusal.to_string(),
            "the provider refused (Full): come back later"
        );
    }
}
