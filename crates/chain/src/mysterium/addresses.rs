//! Where the deployed registry puts channels and Hermes: CREATE2 of an EIP-1167 proxy. It refuses to ask a chain.

use alloy::primitives::{Address, B256, keccak256};
use wayfare_payment::ChannelId;

/// Creation code of an EIP-1167 proxy, before and after the 20 bytes of its implementation.
const PROXY: ([u8; 20], [u8; 15]) = (
    alloy::primitives::hex!("3d602d80600a3d3981f3363d3d373d3d3d363d73"),
    alloy::primitives::hex!("5af43d82803e903d91602b57fd5bf3"),
);

/// A consumer's channel at a Hermes. `implementation` is fixed for each Hermes when it registers.
#[must_use]
pub fn channel_address(
    registry: Address,
    identity: Address,
    hermes: Address,
    implementation: Address,
) -> Address {
    let salt = keccak256([identity.as_slice(), hermes.as_slice()].concat());
    proxy(registry, salt, implementation)
}

/// A Hermes, by its operator.
#[must_use]
pub fn hermes_address(registry: Address, operator: Address, implementation: Address) -> Address {
    proxy(registry, operator.into_word(), implementation)
}

/// The channel on which a Hermes pays out without its fee: `keccak256(identity ‖ hermes ‖ "withdrawal")`.
#[must_use]
pub fn withdrawal_channel(identity: Address, hermes: Address) -> ChannelId {
    ChannelId(keccak256(
        [identity.as_slice(), hermes.as_slice(), b"withdrawal"].concat(),
    ))
}

fn proxy(registry: Address, salt: B256, implementation: Address) -> Address {
    registry.create2_from_code(
        salt,
        [&PROXY.0, implementation.as_slice(), &PROXY.1].concat(),
    )
}
