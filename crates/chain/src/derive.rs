//! Addresses that anybody can compute from the vault's own, before anything is deployed. It refuses to ask a server.

use alloy::primitives::{Address, B256, keccak256};
use wayfare_payment::ChannelId;

use crate::bindings::DepositBox;

/// The id of the Hermes that `owner` registers: the last 20 bytes of `keccak256(vault ‖ owner)`.
#[must_use]
pub fn hermes_id(vault: Address, owner: Address) -> Address {
    Address::from_word(keccak256([vault.as_slice(), owner.as_slice()].concat()))
}

/// Where a consumer's tokens for a Hermes go: CREATE2 by the vault, salt `keccak256(consumer ‖ hermes)`, the init code of
/// `DepositBox.sol`, which has no arguments.
#[must_use]
pub fn deposit_address(vault: Address, consumer: Address, hermes: Address) -> Address {
    let salt: B256 = keccak256([consumer.as_slice(), hermes.as_slice()].concat());
    vault.create2_from_code(salt, DepositBox::BYTECODE.as_ref())
}

/// The channel of a consumer: its deposit address, padded.
#[must_use]
pub fn consumer_channel(vault: Address, consumer: Address, hermes: Address) -> ChannelId {
    ChannelId::of_deposit(deposit_address(vault, consumer, hermes))
}

/// The channel of a pair in a contract of direct channels: `keccak256(contract ‖ payer ‖ provider)`.
#[must_use]
pub fn direct_channel(contract: Address, payer: Address, provider: Address) -> ChannelId {
    let pair = [contract.as_slice(), payer.as_slice(), provider.as_slice()].concat();
    ChannelId(keccak256(pair))
}
