//! The promise: 160 bytes, cumulative for ever, the same on both legs and on both settlement back ends.
//!
//! `keccak256(u256 chainId ‖ pad32 channelId ‖ u256 amount ‖ u256 fee ‖ hashlock32)`, raw: no prefix of any kind.
//! `hashlock = keccak256(R)`; whoever knows `R` can cash the promise.

use serde::{Deserialize, Serialize};
use wayfare_identity::{
    Address, B256, SignError, Signature, SignatureError, Signer, U256, keccak256,
};

use crate::{Amount, ChannelId};

/// The secret `R` that unlocks a promise. Derived, never stored.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preimage(pub B256);

/// `keccak256(R)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hashlock(pub B256);

impl Preimage {
    /// Derives `R` from the provider's secret, the agreement and the invoiced total, so that it can never be lost and never
    /// repeats: totals of one agreement only grow.
    #[must_use]
    pub fn derive(secret: &B256, agreement: U256, total: Amount) -> Self {
        let agreement = agreement.to_be_bytes::<32>();
        let total = total.units().to_be_bytes::<32>();
        Self(keccak256(
            [
                b"wayfare preimage".as_slice(),
                secret.as_slice(),
                &agreement,
                &total,
            ]
            .concat(),
        ))
    }

    /// The lock that this opens.
    #[must_use]
    pub fn hashlock(&self) -> Hashlock {
        Hashlock(keccak256(self.0))
    }
}

impl std::fmt::Debug for Preimage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Preimage(..)")
    }
}

/// A payer's cumulative promise on one channel. Only the largest is ever settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The payer's channel.
    pub channel: ChannelId,
    /// Everything promised on this channel since it exists.
    pub amount: Amount,
    /// A fee for whoever sends the settlement transaction; zero unless authorised.
    pub fee: Amount,
    /// Lock whose preimage cashes the promise.
    pub hashlock: Hashlock,
}

impl Promise {
    /// The 160 bytes that are hashed.
    #[must_use]
    pub fn packed(&self) -> [u8; 160] {
        let mut bytes = [0; 160];
        bytes[..32].copy_from_slice(&U256::from(self.chain_id).to_be_bytes::<32>());
        bytes[32..64].copy_from_slice(self.channel.0.as_slice());
        bytes[64..96].copy_from_slice(&self.amount.units().to_be_bytes::<32>());
        bytes[96..128].copy_from_slice(&self.fee.units().to_be_bytes::<32>());
        bytes[128..].copy_from_slice(self.hashlock.0.as_slice());
        bytes
    }

    /// What is signed.
    #[must_use]
    pub fn digest(&self) -> B256 {
        keccak256(self.packed())
    }

    /// Signs the promise.
    ///
    /// # Errors
    /// [`SignError`] of the signer.
    pub fn sign(self, signer: &dyn Signer) -> Result<SignedPromise, SignError> {
        let signature = signer.sign_digest(self.digest())?;
        Ok(SignedPromise {
            promise: self,
            signature,
        })
    }
}

/// A promise and its payer's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedPromise {
    /// What is promised.
    pub promise: Promise,
    /// By whom.
    pub signature: Signature,
}

impl SignedPromise {
    /// Checks that `payer` signed.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(&self, payer: Address) -> Result<(), SignatureError> {
        self.signature.verify(self.promise.digest(), payer)
    }
}
