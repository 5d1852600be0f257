//! 65-byte recoverable signatures: `r ‖ s ‖ v` with `v` 27 or 28 and `s` in the lower half of the curve's order.
//!
//! Anything else is refused when it is parsed, so a [`Signature`] in hand has exactly one encoding.

use alloy_primitives::{Address, B256};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::key::address_of;

/// A recoverable secp256k1 signature in its only accepted encoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 65]);

/// Why bytes are not a signature, or a signature not by whom it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not 65 bytes.
    #[error("a signature has 65 bytes, this one has {0}")]
    Length(usize),
    /// `v` is neither 27 nor 28.
    #[error("the recovery byte v must be 27 or 28, this one is {0}")]
    RecoveryByte(u8),
    /// `s` lies in the upper half: a second encoding of the same signature.
    #[error("s lies in the upper half of the curve's order (malleable signature)")]
    HighS,
    /// `r` or `s` is zero or not below the order.
    #[error("r or s is out of range")]
    OutOfRange,
    /// Another key signed this.
    #[error("signed by {signer}, expected {expected}")]
    WrongSigner {
        /// Who was expected.
        expected: Address,
        /// Whose signature it is.
        signer: Address,
    },
}

impl Signature {
    /// Parses `r ‖ s ‖ v`.
    ///
    /// # Errors
    /// Any encoding but the canonical one; see [`SignatureError`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self, SignatureError> {
        let bytes: [u8; 65] = bytes
            .try_into()
            .map_err(|_| SignatureError::Length(bytes.len()))?;
        if bytes[64] != 27 && bytes[64] != 28 {
            return Err(SignatureError::RecoveryByte(bytes[64]));
        }
        let parsed = secp256k1::ecdsa::Signature::from_compact(&bytes[..64])
            .map_err(|_| SignatureError::OutOfRange)?;
        if bytes[..32] == [0; 32] || bytes[32..64] == [0; 32] {
            return Err(SignatureError::OutOfRange);
        }
        let mut low = parsed;
        low.normalize_s();
        if low != parsed {
            return Err(SignatureError::HighS);
        }
        Ok(Self(bytes))
    }

    pub(crate) fn from_parts(compact: [u8; 64], recovery: u8) -> Self {
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&compact);
        bytes[64] = 27 + recovery;
        Self(bytes)
    }

    /// `r ‖ s ‖ v`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 65] {
        &self.0
    }

    /// Whose signature over `digest` this is. Recovery of a foreign signature yields a meaningless address and no error:
    /// compare, or use [`Signature::verify`].
    ///
    /// # Errors
    /// [`SignatureError::OutOfRange`] when no point on the curve fits.
    pub fn recover(&self, digest: B256) -> Result<Address, SignatureError> {
        let recovery = RecoveryId::from_u8_masked(self.0[64] - 27);
        let signature = RecoverableSignature::from_compact(&self.0[..64], recovery)
            .map_err(|_| SignatureError::OutOfRange)?;
        let message = secp256k1::Message::from_digest(digest.0);
        let public = signature
            .recover(message)
            .map_err(|_| SignatureError::OutOfRange)?;
        Ok(address_of(&public))
    }

    /// Checks that `expected` signed `digest`.
    ///
    /// # Errors
    /// [`SignatureError::WrongSigner`] names both addresses.
    pub fn verify(&self, digest: B256, expected: Address) -> Result<(), SignatureError> {
        let signer = self.recover(digest)?;
        if signer == expected {
            Ok(())
        } else {
            Err(SignatureError::WrongSigner { expected, signer })
        }
    }
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature(0x{})", alloy_primitives::hex::encode(self.0))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        alloy_primitives::Bytes::copy_from_slice(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = alloy_primitives::Bytes::deserialize(deserializer)?;
        Self::from_slice(&bytes).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::SecretKey;
    use alloy_primitives::{U256, keccak256};
    use proptest::prelude::*;

    fn signed() -> (SecretKey, B256, Signature) {
        let key = SecretKey::from_bytes([3; 32]).unwrap();
        let digest = keccak256(b"hello");
        let signature = key.sign_digest(digest);
        (key, digest, signature)
    }

    #[test]
    fn only_the_canonical_encoding_is_accepted() {
        let (_, _, signature) = signed();
        let good = *signature.as_bytes();
        assert_eq!(Signature::from_slice(&good).unwrap(), signature);
        assert_eq!(
            Signature::from_slice(&good[..64]).unwrap_err(),
            SignatureError::Length(64)
        );

        let mut zero_based = good;
        zero_based[64] -= 27;
        assert!(matches!(
            Signature::from_slice(&zero_based).unwrap_err(),
            SignatureError::RecoveryByte(_)
        ));

        let order: U256 = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
            .parse()
            .unwrap();
        let mut high = good;
        let s = U256::from_be_slice(&good[32..64]);
        high[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
        high[64] = 27 + 28 - good[64];
        assert_eq!(
            Signature::from_slice(&high).unwrap_err(),
            SignatureError::HighS
        );

        let mut zero = good;
        zero[..32].fill(0);
        assert_eq!(
            Signature::from_slice(&zero).unwrap_err(),
            SignatureError::OutOfRange
        );
    }

    #[test]
    fn a_foreign_signature_is_named() {
        let (key, digest, signature) = signed();
        signature.verify(digest, key.address()).unwrap();
        let error = signature
            .verify(keccak256(b"other"), key.address())
            .unwrap_err();
        assert!(matches!(
            error,
            SignatureError::WrongSigner { .. } | SignatureError::OutOfRange
        ));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(signature) = Signature::from_slice(&bytes) {
                let _ = signature.recover(B256::ZERO);
            }
        }
    }
}
