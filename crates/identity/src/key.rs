//! The secret half of an identity: a secp256k1 scalar that is wiped when dropped and never printed.

use alloy_primitives::{Address, B256, keccak256};
use secp256k1::ecdsa::RecoverableSignature;
use zeroize::Zeroizing;

use crate::Signature;

/// A secp256k1 secret key. Wiped on drop; `Debug` shows the address only.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<[u8; 32]>);

/// Why 32 bytes are not a secret key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Zero, or not below the order of the curve.
    #[error("not a secp256k1 secret key: the number must lie between 1 and the order of the curve")]
    OutOfRange,
}

impl SecretKey {
    /// Takes a big-endian scalar.
    ///
    /// # Errors
    /// [`KeyError::OutOfRange`] for zero and for values at or above the order of the curve.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(bytes);
        let mut parsed =
            secp256k1::SecretKey::from_secret_bytes(*bytes).map_err(|_| KeyError::OutOfRange)?;
        parsed.non_secure_erase();
        Ok(Self(bytes))
    }

    /// The scalar, big-endian. The caller owns the copy and its wiping.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// The Ethereum address: the last 20 bytes of the keccak256 of the uncompressed public key.
    #[must_use]
    pub fn address(&self) -> Address {
        let mut key = self.parsed();
        let public = key.public_key();
        key.non_secure_erase();
        address_of(&public)
    }

    /// Signs a 32-byte digest: deterministic nonce (RFC 6979), low-s, `v` 27 or 28.
    #[must_use]
    pub fn sign_digest(&self, digest: B256) -> Signature {
        let mut key = self.parsed();
        let message = secp256k1::Message::from_digest(digest.0);
        let signature = RecoverableSignature::sign_ecdsa_recoverable(message, &key);
        key.non_secure_erase();
        let (recovery, compact) = signature.serialize_compact();
        Signature::from_parts(compact, recovery.to_u8())
    }

    fn parsed(&self) -> secp256k1::SecretKey {
        secp256k1::SecretKey::from_secret_bytes(*self.0).expect("checked when this key was made")
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey(of {})", self.address())
    }
}

/// The address of a public key.
pub(crate) fn address_of(public: &secp256k1::PublicKey) -> Address {
    let uncompressed = public.serialize_uncompressed();
    Address::from_slice(&keccak256(&uncompressed[1..])[12..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn zero_and_the_order_are_refused() {
        assert_eq!(
            SecretKey::from_bytes([0; 32]).unwrap_err(),
            KeyError::OutOfRange
        );
        assert_eq!(
            SecretKey::from_bytes([0xff; 32]).unwrap_err(),
            KeyError::OutOfRange
        );
    }

    #[test]
    fn address_of_a_well_known_development_key() {
        let key: B256 = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
            .parse()
            .unwrap();
        let key = SecretKey::from_bytes(key.0).unwrap();
        assert_eq!(
            key.address().to_string(),
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
        );
    }

    #[test]
    fn debug_shows_no_key_bytes() {
        let key = SecretKey::from_bytes([0x5a; 32]).unwrap();
        assert!(!format!("{key:?}").to_lowercase().contains("5a5a"));
    }
}
