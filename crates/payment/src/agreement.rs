//! The agreement: the terms of one session, signed by both sides before the first packet and pinned for its life.

use serde::{Deserialize, Serialize};
use wayfare_identity::{Address, B256, Domain, Signature, SignatureError, TypedStruct, U256};

use crate::{Amount, ChannelId, Price};

/// Of the money that an agreement has already moved, the share that its parties trust each other with next: one eighth.
const TRUST_SHARE: u128 = 8;

/// The random name of one session's agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AgreementId(pub U256);

/// The terms of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// Random, 256 bits.
    pub id: AgreementId,
    /// Who pays.
    pub consumer: Address,
    /// Who is paid.
    pub provider: Address,
    /// Through which Hermes.
    pub hermes: Address,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The vault on that chain.
    pub vault: Address,
    /// The consumer's channel at that Hermes.
    pub consumer_channel: ChannelId,
    /// The price, fixed for the session.
    pub price: Price,
    /// What either side trusts the other with at the beginning.
    pub chunk: Amount,
    /// What either side ever trusts the other with.
    pub chunk_limit: Amount,
}

impl Agreement {
    /// The EIP-712 domain of every message that belongs to this agreement.
    #[must_use]
    pub fn domain(&self) -> Domain {
        Domain {
            chain_id: self.chain_id,
            verifying_contract: self.vault,
        }
    }

    /// What both sides sign.
    #[must_use]
    pub fn digest(&self) -> B256 {
        let message = TypedStruct::new(
            "Agreement(uint256 id,address consumer,address provider,address hermes,bytes32 consumerChannel,uint256 \
             pricePerHour,uint256 pricePerGib,uint256 chunk,uint256 chunkLimit)",
        )
        .uint(self.id.0)
        .address(self.consumer)
        .address(self.provider)
        .address(self.hermes)
        .word(self.consumer_channel.0)
        .uint(self.price.per_hour.units())
        .uint(self.price.per_gib.units())
        .uint(self.chunk.units())
        .uint(self.chunk_limit.units());
        self.domain().digest(&message)
    }

    /// What may be outstanding once `paid` has been promised within this agreement: the first chunk, later an eighth of what was
    /// already paid, never more than the limit. Both sides compute it alike.
    ///
    /// What is at stake: the provider may not be paid for this much, the consumer may have paid this much for nothing. Either has
    /// by then had at least eight times as much from the other, or stakes the first chunk.
    #[must_use]
    pub fn allowance(&self, paid: Amount) -> Amount {
        let earned = paid.mul_div_down(1, TRUST_SHARE);
        self.chunk.max(earned.min(self.chunk_limit))
    }

    /// The same for a side that gives no more than `most`, whatever the other would: it only asks for payments more often.
    #[must_use]
    pub fn allowance_within(&self, paid: Amount, most: Amount) -> Amount {
        self.allowance(paid).min(self.chunk.max(most))
    }
}

/// An agreement that both sides signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedAgreement {
    /// The terms.
    pub agreement: Agreement,
    /// The consumer's signature.
    pub consumer_signature: Signature,
    /// The provider's signature.
    pub provider_signature: Signature,
}

impl SignedAgreement {
    /// Checks both signatures.
    ///
    /// # Errors
    /// [`SignatureError`] of the first that fails.
    pub fn verify(&self) -> Result<(), SignatureError> {
        let digest = self.agreement.digest();
        self.consumer_signature
            .verify(digest, self.agreement.consumer)?;
        self.provider_signature
            .verify(digest, self.agreement.provider)
    }
}
