//! Withdrawals: a provider takes its proposal back before it expires. It refuses to be used against anybody else's, or against a
//! later proposal.

use serde::{Deserialize, Serialize};
use wayfare_identity::{
    Address, B256, Domain, NodeId, Signature, SignatureError, Signer, TypedStruct, U256,
};

use crate::{ProposalKey, ServiceType};

/// The largest encoded withdrawal, in bytes: 20 + 32 + 33 + 10 + 65 and their lengths.
const MAX_ENCODED: usize = 256;

/// A verified wish to take back every proposal of one service of one node up to a sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal {
    /// Whose.
    pub key: ProposalKey,
    /// Up to which one, inclusive.
    pub sequence: u64,
}

/// A withdrawal as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedWithdrawal {
    /// Who takes back.
    pub provider: Address,
    /// Of which node.
    pub node: NodeId,
    /// Which service.
    pub service: ServiceType,
    /// Up to which proposal, inclusive.
    pub sequence: u64,
    /// The provider's signature.
    pub signature: Signature,
}

/// Why a withdrawal is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WithdrawalError {
    /// Not the canonical encoding of a withdrawal.
    #[error("these bytes are no withdrawal: {0}")]
    Malformed(String),
    /// Not signed by the provider that it names.
    #[error("the provider did not sign this withdrawal: {0}")]
    BadSignature(#[from] SignatureError),
}

impl SignedWithdrawal {
    /// Signs a withdrawal in the signer's own name.
    ///
    /// # Errors
    /// Those of the signer.
    pub fn sign(
        node: NodeId,
        service: ServiceType,
        sequence: u64,
        signer: &dyn Signer,
    ) -> Result<Self, wayfare_identity::SignError> {
        let provider = signer.address();
        let signature = signer.sign_digest(digest(provider, node, &service, sequence))?;
        Ok(Self {
            provider,
            node,
            service,
            sequence,
            signature,
        })
    }

    /// Reads a withdrawal from the wire (postcard). It must still be verified.
    ///
    /// # Errors
    /// [`WithdrawalError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WithdrawalError> {
        if bytes.len() > MAX_ENCODED {
            return Err(WithdrawalError::Malformed(format!(
                "{} bytes are too many",
                bytes.len()
            )));
        }
        let signed: Self = postcard::from_bytes(bytes)
            .map_err(|error| WithdrawalError::Malformed(error.to_string()))?;
        if signed.to_bytes() != bytes {
            return Err(WithdrawalError::Malformed(
                "not in canonical encoding".to_owned(),
            ));
        }
        Ok(signed)
    }

    /// The bytes for the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("no map, no unsized sequence: postcard writes all of it")
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`WithdrawalError::BadSignature`].
    pub fn verify(self) -> Result<Withdrawal, WithdrawalError> {
        let Self {
            provider,
            node,
            service,
            sequence,
            signature,
        } = self;
        signature.verify(digest(provider, node, &service, sequence), provider)?;
        Ok(Withdrawal {
            key: ProposalKey {
                provider,
                service,
                node,
            },
            sequence,
        })
    }
}

/// EIP-712, in the domain of no chain and no contract: a proposal is taken back on whatever chain it wants to be paid.
fn digest(provider: Address, node: NodeId, service: &ServiceType, sequence: u64) -> B256 {
    Domain {
        chain_id: 0,
        verifying_contract: Address::ZERO,
    }
    .digest(
        &TypedStruct::new(
            "Withdrawal(address provider,bytes32 node,string service,uint64 sequence)",
        )
        .address(provider)
        .word(B256::from(node.0))
        .hash_of(service.as_str().as_bytes())
        .uint(U256::from(sequence)),
    )
}
