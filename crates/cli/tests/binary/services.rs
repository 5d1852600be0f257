//! A Hermes and a proposal index inside the test. Refuses to be a provider: offers are signed here and nobody serves them.

#![allow(
    dead_code,
    reason = "each binary's tests include this file and use a part of it"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpListener;
use wayfare_api::discovery::IndexClient;
use wayfare_chain::Endpoint;
use wayfare_chain::devchain::developer;
use wayfare_discovery::{
    FORMAT, IpType, Limits, Location, Offer, Protocols, ServiceType, SignedProposal,
};
use wayfare_hermes::{Hermes, HermesConfig, Index, Site};
use wayfare_identity::{Address, LocalSigner, NodeKey, SecretKey};
use wayfare_payment::{Amount, IssuerConfig, Price};

use crate::world::{CHAIN_ID, ONE, World};

/// Each offer is newer than the one before it.
static SEQUENCE: AtomicU64 = AtomicU64::new(1);

/// A Hermes that runs until it is dropped.
pub(crate) struct LiveHermes {
    pub(crate) url: String,
    _hermes: Hermes,
    _ledger: tempfile::TempDir,
}

impl LiveHermes {
    /// The one that [`World::hermes`] registered.
    pub(crate) fn new(world: &World, hermes: Address) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Site {
            ledger: folder.path().join("ledger"),
            chain: Endpoint::new(&world.rpc, CHAIN_ID),
            vault: world.vault,
        };
        let config = HermesConfig::new(IssuerConfig {
            hermes,
            chain_id: CHAIN_ID,
            vault: world.vault,
            locked_cap: Amount::from_units(ONE),
        });
        let running = world.runtime.block_on(async {
            let operator = Arc::new(LocalSigner::new(developer()));
            let ports = site.open(operator).await.unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Hermes::start(config, ports, listener).await.unwrap()
        });
        Self {
            url: format!("http://{}", running.address()),
            _hermes: running,
            _ledger: folder,
        }
    }
}

/// An index that runs until it is dropped.
pub(crate) struct LiveIndex {
    pub(crate) url: String,
    _index: Index,
}

impl LiveIndex {
    pub(crate) fn new(world: &World) -> Self {
        let running = world.runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Index::start(listener, Limits::default(), [7; 32], Arc::new(unix_seconds)).unwrap()
        });
        Self {
            url: format!("http://{}", running.address()),
            _index: running,
        }
    }
}

/// A good offer from a provider that does not exist, in the Netherlands, for a token a gibibyte.
pub(crate) fn proposal(world: &World, hermes: Address, contact: SocketAddr) -> SignedProposal {
    proposal_of(world, hermes, contact, unix_seconds())
}

/// The same, as it was signed two hours ago.
pub(crate) fn expired(world: &World, hermes: Address, contact: SocketAddr) -> SignedProposal {
    proposal_of(world, hermes, contact, unix_seconds() - 7_200)
}

fn proposal_of(world: &World, hermes: Address, contact: SocketAddr, now: u64) -> SignedProposal {
    let signer = LocalSigner::new(SecretKey::from_bytes([3; 32]).unwrap());
    let offer = Offer {
        format: FORMAT,
        provider: wayfare_identity::Signer::address(&signer),
        node: NodeKey::from_seed([9; 32]).id(),
        tunnel_key: [8; 32],
        service: ServiceType::vpn(),
        location: Location {
            country: "NL".parse().unwrap(),
            city: None,
            ip_type: IpType::Unstated,
        },
        price: Price {
            per_hour: Amount::from_units(ONE),
            per_gib: Amount::from_units(ONE),
        },
        hermes: vec![hermes],
        chain_id: CHAIN_ID,
        vault: world.vault,
        contact: vec![contact],
        relays: vec![],
        capabilities: std::collections::BTreeSet::new(),
        protocol: Protocols { min: 1, max: 1 },
        sequence: now * 1_000 + SEQUENCE.fetch_add(1, Ordering::Relaxed),
        issued_at: now,
        expires_at: now + 600,
    };
    offer.sign(&signer).unwrap()
}

/// Puts an offer into an index.
pub(crate) fn register(world: &World, index: &str, proposal: &SignedProposal) {
    world.runtime.block_on(async {
        let client = IndexClient::connect(index).unwrap();
        client.register(proposal).await.unwrap();
    });
}

#[allow(
    clippy::disallowed_methods,
    reason = "offers carry wall-clock times, and the binaries compare them with theirs"
)]
fn unix_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}
