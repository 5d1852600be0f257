//! Solvency receipts: a Hermes numbers and signs every promise it makes, together with the sum of all of them, so that two
//! receipts with one number, or a broken sum, prove a fraud to anybody.

use serde::{Deserialize, Serialize};
use wayfare_identity::{
    Address, B256, Domain, SignError, Signature, SignatureError, Signer, TypedStruct, U256,
};

use crate::{Amount, ChannelId};

/// One entry of a Hermes' chain of promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The Hermes.
    pub hermes: Address,
    /// Counts from 1 without gaps.
    pub sequence: u64,
    /// Digest of the receipt before; zero for the first.
    pub previous: B256,
    /// The provider's channel.
    pub channel: ChannelId,
    /// Digest of the promise.
    pub promise: B256,
    /// What this promise added.
    pub increment: Amount,
    /// What this Hermes has promised to all providers together.
    pub total_promised: Amount,
}

impl Receipt {
    /// What is signed.
    #[must_use]
    pub fn digest(&self, domain: &Domain) -> B256 {
        domain.digest(
            &TypedStruct::new(
                "Receipt(address hermes,uint256 sequence,bytes32 previous,bytes32 channel,bytes32 promise,uint256 \
                 increment,uint256 totalPromised)",
            )
            .address(self.hermes)
            .uint(U256::from(self.sequence))
            .word(self.previous)
            .word(self.channel.0)
            .word(self.promise)
            .uint(self.increment.units())
            .uint(self.total_promised.units()),
        )
    }

    /// Signs with the operator's key.
    ///
    /// # Errors
    /// [`SignError`] of the signer.
    pub fn sign(self, signer: &dyn Signer, domain: &Domain) -> Result<SignedReceipt, SignError> {
        let signature = signer.sign_digest(self.digest(domain))?;
        Ok(SignedReceipt {
            receipt: self,
            signature,
        })
    }
}

/// A receipt and its operator's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReceipt {
    /// The entry.
    pub receipt: Receipt,
    /// The operator's signature.
    pub signature: Signature,
}

impl SignedReceipt {
    /// Checks that `operator` signed.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(&self, domain: &Domain, operator: Address) -> Result<(), SignatureError> {
        self.signature.verify(self.receipt.digest(domain), operator)
    }
}
