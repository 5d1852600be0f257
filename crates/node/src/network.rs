//! Which network a node joins: chain, vault, Hermes, index.

use wayfare_identity::{Address, NodeAddress};

/// Values that belong together, so that a user names one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// A development chain and services on this machine.
    Local,
}

/// A network's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// JSON-RPC server of the chain.
    pub rpc: String,
    /// EIP-155 chain id, compared with what the server says.
    pub chain_id: u64,
    /// The vault contract.
    pub vault: Address,
    /// The Hermes' id.
    pub hermes: Address,
    /// Where the Hermes listens.
    pub hermes_url: String,
    /// Where proposals are indexed: any number of addresses, separated by commas. None is needed where `bootstrap` names nodes.
    pub index_url: String,
    /// Nodes through which the distributed table of proposals is joined; any relay is one. None: it is not asked.
    pub bootstrap: Vec<NodeAddress>,
}

impl Network {
    /// A network of a preset's kind around a deployed vault and a registered Hermes.
    #[must_use]
    pub fn new(preset: Preset, vault: Address, hermes: Address) -> Self {
        match preset {
            Preset::Local => Self {
                rpc: "http://127.0.0.1:8545".into(),
                chain_id: 31_337,
                vault,
                hermes,
                hermes_url: "http://127.0.0.1:7400".into(),
                index_url: "http://127.0.0.1:7401".into(),
                bootstrap: Vec::new(),
            },
        }
    }

    /// The address of each index.
    pub fn index_urls(&self) -> impl Iterator<Item = &str> {
        let urls = self.index_url.split(',').map(str::trim);
        urls.filter(|url| !url.is_empty())
    }
}
