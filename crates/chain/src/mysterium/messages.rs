//! What identities and operators sign for the deployed contracts: bytes that are hashed with keccak-256 and signed as they are.
//! It refuses to hash with a prefix: none of these contracts expects one.

use alloy::primitives::{Address, B256, U256, keccak256};
use wayfare_identity::Signer;
use wayfare_payment::{Amount, ChannelId, Preimage};

/// A request to one of the contracts. Nonces are those that the contract hashes; where it counts before hashing, that is the
/// stored nonce plus one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// `Registry.registerIdentity`.
    Register {
        chain_id: U256,
        registry: Address,
        hermes: Address,
        stake: Amount,
        fee: Amount,
        beneficiary: Address,
    },
    /// `Registry.openConsumerChannel`.
    OpenConsumerChannel {
        chain_id: U256,
        registry: Address,
        hermes: Address,
        fee: Amount,
    },
    /// `Registry.setBeneficiary` and `HermesImplementation.settleWithBeneficiary`; the registry's nonce plus one.
    SetBeneficiary {
        chain_id: U256,
        registry: Address,
        identity: Address,
        beneficiary: Address,
        nonce: U256,
    },
    /// `HermesImplementation.payAndSettle`.
    PayAndSettle {
        chain_id: U256,
        channel: ChannelId,
        amount: Amount,
        preimage: Preimage,
        beneficiary: Address,
    },
    /// `HermesImplementation.decreaseStake`; the channel's nonce plus one.
    DecreaseStake {
        chain_id: U256,
        channel: ChannelId,
        amount: Amount,
        fee: Amount,
        nonce: U256,
    },
    /// `ChannelImplementation.fastExit`, signed by the identity and by the operator; the channel's nonce.
    FastExit {
        chain_id: U256,
        channel: Address,
        amount: Amount,
        fee: Amount,
        beneficiary: Address,
        valid_until: U256,
        nonce: U256,
    },
    /// `ChannelImplementation.requestExit` of the first version: no chain id, addresses not padded.
    RequestExitV1 {
        channel: Address,
        beneficiary: Address,
        valid_until: U256,
    },
    /// `Registry.updateHermesURL`; the registry's nonce; no chain id.
    UpdateUrl {
        registry: Address,
        hermes: Address,
        url: String,
        nonce: U256,
    },
    /// `ChannelImplementation.setFundsDestinationByCheque`; the channel's nonce; no chain id.
    FundsDestination {
        channel: Address,
        destination: Address,
        nonce: U256,
    },
}

impl Message {
    /// The bytes that are hashed.
    #[must_use]
    pub fn packed(&self) -> Vec<u8> {
        let bytes = Packed::default();
        match self {
            Self::Register {
                chain_id,
                registry,
                hermes,
                stake,
                fee,
                beneficiary,
            } => bytes
                .word(*chain_id)
                .address(*registry)
                .address(*hermes)
                .word(stake.units())
                .word(fee.units())
                .address(*beneficiary),
            Self::OpenConsumerChannel {
                chain_id,
                registry,
                hermes,
                fee,
            } => bytes
                .word(*chain_id)
                .address(*registry)
                .address(*hermes)
                .word(fee.units()),
            Self::SetBeneficiary {
                chain_id,
                registry,
                identity,
                beneficiary,
                nonce,
            } => bytes
                .word(*chain_id)
                .address(*registry)
                .address(*identity)
                .address(*beneficiary)
                .word(*nonce),
            Self::PayAndSettle {
                chain_id,
                channel,
                amount,
                preimage,
                beneficiary,
            } => bytes
                .word(*chain_id)
                .raw(channel.0.as_slice())
                .word(amount.units())
                .raw(preimage.0.as_slice())
                .address(*beneficiary),
            Self::DecreaseStake {
                chain_id,
                channel,
                amount,
                fee,
                nonce,
            } => bytes
                .raw(b"Stake return request")
                .word(*chain_id)
                .raw(channel.0.as_slice())
                .word(amount.units())
                .word(fee.units())
                .word(*nonce),
            Self::FastExit {
                chain_id,
                channel,
                amount,
                fee,
                beneficiary,
                valid_until,
                nonce,
            } => bytes
                .raw(b"Exit request:")
                .word(*chain_id)
                .raw(channel.into_word().as_slice())
                .word(amount.units())
                .word(fee.units())
                .raw(beneficiary.into_word().as_slice())
                .word(*valid_until)
                .word(*nonce),
            Self::RequestExitV1 {
                channel,
                beneficiary,
                valid_until,
            } => bytes
                .raw(b"Exit request:")
                .address(*channel)
                .address(*beneficiary)
                .word(*valid_until),
            Self::UpdateUrl {
                registry,
                hermes,
                url,
                nonce,
            } => bytes
                .address(*registry)
                .address(*hermes)
                .raw(url.as_bytes())
                .word(*nonce),
            Self::FundsDestination {
                channel,
                destination,
                nonce,
            } => bytes
                .raw(b"Set funds destination:")
                .address(*channel)
                .address(*destination)
                .word(*nonce),
        }
        .0
    }

    /// What is signed.
    #[must_use]
    pub fn digest(&self) -> B256 {
        keccak256(self.packed())
    }

    /// Signs.
    ///
    /// # Errors
    /// Of the signer.
    pub fn sign(
        &self,
        signer: &dyn Signer,
    ) -> Result<wayfare_identity::Signature, wayfare_identity::SignError> {
        signer.sign_digest(self.digest())
    }
}

/// Solidity's `abi.encodePacked`, as far as it is needed.
#[derive(Default)]
struct Packed(Vec<u8>);

impl Packed {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn word(self, number: U256) -> Self {
        self.raw(&number.to_be_bytes::<32>())
    }

    fn address(self, address: Address) -> Self {
        self.raw(address.as_slice())
    }
}
