//! The node's ed25519 key as TLS sees it: a self-signed certificate and the key that signs.
//!
//! The certificate is a wrapper for the public key, which is all that is ever checked. It refuses
//! to store the seed; the signing key inside the TLS library is the only copy kept.

use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::error::QuicError;

/// PKCS #8 version 1 around an ed25519 seed (RFC 8410 section 7): everything but the seed itself.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What a node shows when it serves and when it dials. Cheap to clone.
#[derive(Debug, Clone)]
pub struct QuicIdentity {
    pub(super) node_key: [u8; 32],
    pub(super) certified: Arc<CertifiedKey>,
}

impl QuicIdentity {
    /// Makes the identity from the 32-byte seed (RFC 8032 private key) of the node key.
    ///
    /// # Errors
    /// The TLS library refused the key; with a 32-byte seed it has no reason to.
    pub fn from_ed25519_seed(seed: [u8; 32]) -> Result<Self, QuicError> {
        let mut der = PKCS8_PREFIX.to_vec();
        der.extend_from_slice(&seed);
        let der = PrivatePkcs8KeyDer::from(der);
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519)?;
        let node_key = pair
            .der_bytes()
            .try_into()
            .expect("an ed25519 public key has 32 bytes (RFC 8032 section 5.1.5)");
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = DistinguishedName::new();
        let certificate = params.self_signed(&pair)?;
        let signer = provider()
            .key_provider
            .load_private_key(PrivateKeyDer::Pkcs8(der))?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], signer);
        Ok(Self {
            node_key,
            certified: Arc::new(certified),
        })
    }

    /// The ed25519 public key others dial this node by.
    #[must_use]
    pub fn node_key(&self) -> [u8; 32] {
        self.node_key
    }

    pub(super) fn certificate(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.certified)))
    }
}

/// Gathers the randomness that the first handshake of a process begins with: tens of milliseconds of
/// one processor, once. For those who will need it soon and wait for something else now; it blocks.
pub fn gather_randomness() {
    // A failure shows again, and is told, where randomness is needed.
    let _ = provider().secure_random.fill(&mut [0; 32]);
}

/// The one cryptography provider, given explicitly: a process default could be set by anybody.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// RFC 8032 section 7.1, test 1.
    #[test]
    fn the_node_key_is_the_public_key_of_the_seed() {
        let hex = |text: &str| -> [u8; 32] {
            std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
        };
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let public = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        let identity = QuicIdentity::from_ed25519_seed(seed).unwrap();
        assert_eq!(identity.node_key(), public);
        let shown = &identity.certified.cert[0];
        assert_eq!(super::super::verify::node_key_of(shown), Some(public));
    }
}
