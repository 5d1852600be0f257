//! The consumer's settings, and the node that they describe.

use std::path::PathBuf;
use std::sync::Arc;

use wayfare_cli::{Failure, Kind, Setting, Settings};
use wayfare_identity::LocalSigner;
use wayfare_node::{Network, Node, NodeBuilder, NodeError, open_ledger};

/// Every key that `wayfare` knows.
pub(crate) const TABLE: &[Setting] = &[
    Setting {
        key: "state_dir",
        preset: Some("/var/lib/wayfare/consumer"),
        help: "directory of keys, ledger, journal, socket",
    },
    Setting {
        key: "passphrase_file",
        preset: None,
        help: "file whose first line is the keystore's passphrase",
    },
    Setting {
        key: "identity",
        preset: None,
        help: "address of the identity, where there are several",
    },
    Setting {
        key: "dev_keys",
        preset: Some("false"),
        help: "cheap passphrase hashing, for throw-away keys only",
    },
    Setting {
        key: "rpc",
        preset: Some("http://127.0.0.1:8545"),
        help: "JSON-RPC server of the chain",
    },
    Setting {
        key: "chain_id",
        preset: Some("31337"),
        help: "EIP-155 id of the chain",
    },
    Setting {
        key: "vault",
        preset: None,
        help: "address of the vault contract",
    },
    Setting {
        key: "hermes",
        preset: None,
        help: "id of the Hermes that payments go through",
    },
    Setting {
        key: "hermes_url",
        preset: Some("http://127.0.0.1:7400"),
        help: "where that Hermes listens",
    },
    Setting {
        key: "index_url",
        preset: Some("http://127.0.0.1:7401"),
        help: "where proposals are indexed: addresses with commas between, or empty for none",
    },
    Setting {
        key: "bootstrap",
        preset: None,
        help: "nodes that know the distributed table of proposals, each NODE@ADDRESS:PORT; any relay does",
    },
    Setting {
        key: "listen",
        preset: Some("[::]:0"),
        help: "local address of the UDP socket; [::] is both families",
    },
    Setting {
        key: "port_mapping",
        preset: Some("true"),
        help: "ask the router to forward the port (PCP, NAT-PMP, UPnP)",
    },
    Setting {
        key: "device",
        preset: Some("wayfare0"),
        help: "name of the tunnel device",
    },
    Setting {
        key: "kill_switch",
        preset: Some("true"),
        help: "drop everything that would go around the tunnel",
    },
    Setting {
        key: "budget",
        preset: None,
        help: "most that one run of `up` may cost, all its sessions together",
    },
    Setting {
        key: "chunk",
        preset: None,
        help: "first payment, smallest units; by default what flows in three round trips, 1 to 16 mebibytes",
    },
    Setting {
        key: "relay_price_most",
        preset: None,
        help: "most that a relay on the way may ask per GiB, smallest units; by default the provider's own price, 0 for free relays only",
    },
];

/// The network that the settings describe.
pub(crate) fn network(settings: &Settings) -> Result<Network, Failure> {
    Ok(Network {
        rpc: settings.need("rpc")?,
        chain_id: settings.need("chain_id")?,
        vault: settings.need("vault")?,
        hermes: settings.need("hermes")?,
        hermes_url: settings.need("hermes_url")?,
        index_url: settings.parse::<String>("index_url")?.unwrap_or_default(),
        bootstrap: settings.list("bootstrap")?,
    })
}

/// Unlocks the identity, opens the ledger, builds the node.
pub(crate) async fn node(settings: &Settings) -> Result<Node, Failure> {
    builder(settings)?.build().await.map_err(failure)
}

/// What a node is made of.
pub(crate) fn builder(settings: &Settings) -> Result<NodeBuilder, Failure> {
    let network = network(settings)?;
    let signer = Arc::new(LocalSigner::new(wayfare_cli::unlock(settings)?));
    let state: PathBuf = settings.need("state_dir")?;
    let ledger = open_ledger(&state.join("ledger")).map_err(failure)?;
    Ok(Node::builder(network).signer(signer).ledger(ledger))
}

/// Where the daemon listens for the command line.
pub(crate) fn socket(settings: &Settings) -> Result<PathBuf, Failure> {
    Ok(settings.need::<PathBuf>("state_dir")?.join("control.sock"))
}

/// A node's error as the command line tells it.
pub(crate) fn failure(error: NodeError) -> Failure {
    Failure::new(Kind::from_code(error.code()), &error).next(error.next_step())
}
