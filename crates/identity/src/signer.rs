//! The signing port: whoever can sign digests for an identity, be it a key in memory, a keystore or a rule-bound device.

use std::fmt::Debug;

use alloy_primitives::{Address, B256};

use crate::{SecretKey, Signature};

/// Signs digests in the name of one identity. Object-safe; calls return at once or fail.
pub trait Signer: Debug + Send + Sync {
    /// The identity that this signer speaks for.
    fn address(&self) -> Address;

    /// Signs a digest, without any prefix.
    ///
    /// # Errors
    /// [`SignError`] when the holder of the key refuses or is not there.
    fn sign_digest(&self, digest: B256) -> Result<Signature, SignError>;
}

/// Why a digest was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The holder's rules forbid this signature.
    #[error("the signer refused: {0}")]
    Refused(String),
    /// The holder cannot be reached.
    #[error("the signer is not available: {0}")]
    Unavailable(String),
}

/// A key held in this process's memory.
#[derive(Debug, Clone)]
pub struct LocalSigner {
    key: SecretKey,
    address: Address,
}

impl LocalSigner {
    /// A signer over `key`.
    #[must_use]
    pub fn new(key: SecretKey) -> Self {
        let address = key.address();
        Self { key, address }
    }
}

impl Signer for LocalSigner {
    fn address(&self) -> Address {
        self.address
    }

    fn sign_digest(&self, digest: B256) -> Result<Signature, SignError> {
        Ok(self.key.sign_digest(digest))
    }
}
