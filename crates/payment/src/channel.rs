//! Channels: the 32-byte names under which cumulative promises are kept.

use serde::{Deserialize, Serialize};
use wayfare_identity::{Address, B256, keccak256};

/// A payment channel: a consumer's deposit address padded to 32 bytes, or a provider's account at one Hermes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChannelId(pub B256);

impl ChannelId {
    /// A consumer's channel: its deposit address, left-padded with zeros.
    #[must_use]
    pub fn of_deposit(address: Address) -> Self {
        Self(address.into_word())
    }

    /// A provider's channel: `keccak256(provider ‖ hermesId)`.
    #[must_use]
    pub fn of_provider(provider: Address, hermes: Address) -> Self {
        Self(keccak256([provider.as_slice(), hermes.as_slice()].concat()))
    }
}

impl std::fmt::Display for ChannelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChannelId({})", self.0)
    }
}
