//! EIP-712 typed data: the digests of every message of our own.
//!
//! Promises are older than this and hash their raw bytes (see `payment`).

use alloy_primitives::{Address, B256, U256, keccak256};

/// The EIP-712 domain of a deployment: chain and verifying contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Domain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The vault, or zero for messages that no contract reads.
    pub verifying_contract: Address,
}

impl Domain {
    /// Name and version are fixed: `Wayfare`, `1`.
    #[must_use]
    pub fn separator(&self) -> B256 {
        TypedStruct::new(
            "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)",
        )
        .hash_of(b"Wayfare")
        .hash_of(b"1")
        .uint(U256::from(self.chain_id))
        .address(self.verifying_contract)
        .hash()
    }

    /// `keccak256(0x1901 ‖ separator ‖ hashStruct)`.
    #[must_use]
    pub fn digest(&self, message: &TypedStruct) -> B256 {
        let mut bytes = [0; 66];
        bytes[..2].copy_from_slice(&[0x19, 0x01]);
        bytes[2..34].copy_from_slice(self.separator().as_slice());
        bytes[34..].copy_from_slice(message.hash().as_slice());
        keccak256(bytes)
    }
}

/// A struct being encoded member by member, in the order of its type string.
#[derive(Debug, Clone)]
pub struct TypedStruct {
    encoded: Vec<u8>,
}

impl TypedStruct {
    /// Starts with the type string, for example `Exit(address consumer,uint256 nonce)`.
    #[must_use]
    pub fn new(type_string: &str) -> Self {
        Self {
            encoded: keccak256(type_string).to_vec(),
        }
    }

    /// A `uint256`, or any narrower unsigned integer.
    #[must_use]
    pub fn uint(mut self, value: U256) -> Self {
        self.encoded.extend_from_slice(&value.to_be_bytes::<32>());
        self
    }

    /// An `address`.
    #[must_use]
    pub fn address(self, value: Address) -> Self {
        self.word(value.into_word())
    }

    /// A `bytes32`.
    #[must_use]
    pub fn word(mut self, value: B256) -> Self {
        self.encoded.extend_from_slice(value.as_slice());
        self
    }

    /// A `string` or `bytes`: its keccak256.
    #[must_use]
    pub fn hash_of(self, value: &[u8]) -> Self {
        self.word(keccak256(value))
    }

    /// `hashStruct`.
    #[must_use]
    pub fn hash(&self) -> B256 {
        keccak256(&self.encoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `Mail` example of the EIP itself has another domain; its struct hash is what can be compared.
    #[test]
    fn the_person_struct_of_the_eip() {
        let cow: Address = "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"
            .parse()
            .unwrap_or_default();
        let person = TypedStruct::new("Person(string name,address wallet)")
            .hash_of(b"Cow")
            .address(cow);
        assert_eq!(
            person.hash().to_string(),
            "0xfc71e5fa27ff56c350aa531bc129ebdf613b772b6604664f5d8dbe21b85eb0c8"
        );
    }

    #[test]
    fn another_chain_or_contract_is_another_digest() {
        let message = TypedStruct::new("Note(uint256 n)").uint(U256::from(1));
        let here = Domain {
            chain_id: 1,
            verifying_contract: Address::ZERO,
        };
        let there = Domain {
            chain_id: 2,
            ..here
        };
        let other = Domain {
            verifying_contract: Address::repeat_byte(1),
            ..here
        };
        assert_ne!(here.digest(&message), there.digest(&message));
        assert_ne!(here.digest(&message), other.digest(&message));
    }
}
