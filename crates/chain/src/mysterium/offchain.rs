//! What Mysterium's clients send outside the chain: signed HTTP requests, and the preimage that a provider leaves with its Hermes
//! under encryption. It refuses to speak HTTP.

use alloy::primitives::keccak256;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA512, Salt};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use wayfare_identity::{SecretKey, SignError, Signer};
use zeroize::Zeroizing;

/// Why recovery data stays closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// Nonce and tag alone are 28 bytes.
    #[error("recovery data has at least 28 bytes (nonce and tag), this has {0}")]
    Short(usize),
    /// Not sealed with this key, or changed since.
    #[error("the recovery data was not sealed with this key, or it was changed")]
    Closed,
}

/// The `Authorization` header of a request with this body: the signature of `keccak256(body)`, v counted from 0.
///
/// # Errors
/// Of the signer.
pub fn http_authorization(signer: &dyn Signer, body: &[u8]) -> Result<String, SignError> {
    let mut signature = *signer.sign_digest(keccak256(body))?.as_bytes();
    signature[64] -= 27;
    Ok(format!("Signature {}", STANDARD.encode(signature)))
}

/// Opens `r_recovery_data`: nonce ‖ AES-256-GCM ‖ tag, the key being the first 32 bytes of HKDF-SHA512 over the private scalar
/// without its leading zero bytes, with neither salt nor info.
///
/// # Errors
/// [`RecoveryError`].
pub fn open_recovery(key: &SecretKey, sealed: &[u8]) -> Result<Vec<u8>, RecoveryError> {
    let (Some((nonce, sealed)), true) = (
        sealed.split_first_chunk::<NONCE_LEN>(),
        sealed.len() >= NONCE_LEN + AES_256_GCM.tag_len(),
    ) else {
        return Err(RecoveryError::Short(sealed.len()));
    };
    let scalar = key.to_bytes();
    let zeros = scalar.iter().take_while(|byte| **byte == 0).count();
    let mut derived = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA512, &[])
        .extract(&scalar[zeros..])
        .expand(&[], ThirtyTwo)
        .and_then(|okm| okm.fill(derived.as_mut()))
        .expect("32 bytes are less than the 255 hashes that HKDF can give");
    let cipher = UnboundKey::new(&AES_256_GCM, derived.as_ref()).expect("the key has 32 bytes");
    let mut bytes = sealed.to_vec();
    let opened = LessSafeKey::new(cipher)
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::empty(),
            &mut bytes,
        )
        .map_err(|_| RecoveryError::Closed)?;
    Ok(opened.to_vec())
}

struct ThirtyTwo;

impl aws_lc_rs::hkdf::KeyType for ThirtyTwo {
    fn len(&self) -> usize {
        32
    }
}
