//! The exchange message: a consumer's promise together with what it is for.
//!
//! `keccak256(u256 chainId ‖ promiseHash ‖ u256 agreementId ‖ u256 agreementTotal ‖ provider20 [‖ hermesId20])`.

use serde::{Deserialize, Serialize};
use wayfare_identity::{
    Address, B256, SignError, Signature, SignatureError, Signer, U256, keccak256,
};

use crate::{AgreementId, Amount, SignedPromise};

/// The signed part of an [`Exchange`] beside the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeMessage {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Digest of the consumer's promise.
    pub promise_digest: B256,
    /// The session that is paid.
    pub agreement: AgreementId,
    /// Everything promised within that session.
    pub agreement_total: Amount,
    /// Who is paid.
    pub provider: Address,
    /// Through whom; `None` only in messages of the oldest format.
    pub hermes: Option<Address>,
}

impl ExchangeMessage {
    /// 168 bytes, or 148 without a Hermes.
    #[must_use]
    pub fn packed(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(168);
        bytes.extend_from_slice(&U256::from(self.chain_id).to_be_bytes::<32>());
        bytes.extend_from_slice(self.promise_digest.as_slice());
        bytes.extend_from_slice(&self.agreement.0.to_be_bytes::<32>());
        bytes.extend_from_slice(&self.agreement_total.units().to_be_bytes::<32>());
        bytes.extend_from_slice(self.provider.as_slice());
        if let Some(hermes) = self.hermes {
            bytes.extend_from_slice(hermes.as_slice());
        }
        bytes
    }

    /// What is signed.
    #[must_use]
    pub fn digest(&self) -> B256 {
        keccak256(self.packed())
    }
}

/// One payment of a consumer: the promise on its channel, and the signed statement which session and provider it pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The cumulative promise on the consumer's channel.
    pub promise: SignedPromise,
    /// The session that is paid.
    pub agreement: AgreementId,
    /// Everything promised within that session.
    pub agreement_total: Amount,
    /// Who is paid.
    pub provider: Address,
    /// Through whom.
    pub hermes: Address,
    /// The consumer's signature over [`Exchange::message`].
    pub signature: Signature,
}

impl Exchange {
    /// Signs an exchange around a signed promise.
    ///
    /// # Errors
    /// [`SignError`] of the signer.
    pub fn sign(
        signer: &dyn Signer,
        promise: SignedPromise,
        agreement: AgreementId,
        agreement_total: Amount,
        provider: Address,
        hermes: Address,
    ) -> Result<Self, SignError> {
        let digest = ExchangeMessage {
            chain_id: promise.promise.chain_id,
            promise_digest: promise.promise.digest(),
            agreement,
            agreement_total,
            provider,
            hermes: Some(hermes),
        }
        .digest();
        let signature = signer.sign_digest(digest)?;
        Ok(Self {
            promise,
            agreement,
            agreement_total,
            provider,
            hermes,
            signature,
        })
    }

    /// What the consumer signed beside the promise.
    #[must_use]
    pub fn message(&self) -> ExchangeMessage {
        ExchangeMessage {
            chain_id: self.promise.promise.chain_id,
            promise_digest: self.promise.promise.digest(),
            agreement: self.agreement,
            agreement_total: self.agreement_total,
            provider: self.provider,
            hermes: Some(self.hermes),
        }
    }

    /// Checks that `consumer` signed both the promise and the message.
    ///
    /// # Errors
    /// [`SignatureError`] of the first that fails.
    pub fn verify(&self, consumer: Address) -> Result<(), SignatureError> {
        self.promise.verify(consumer)?;
        self.signature.verify(self.message().digest(), consumer)
    }
}
