//! The provider's role: an exit on this computer, announced, paid through a Hermes, cashed on the chain.

mod announce;
mod books;
mod driver;
mod hermes;
mod paths;
mod peer;
mod remote;
mod settlement;
mod shares;
mod streams;
mod waiting;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wayfare_api::hermes::HermesClient;
use wayfare_chain::{Endpoint, VaultClient, Wallet};
use wayfare_host::{ExitRules, Held, Journal, configure_interface};
use wayfare_identity::{Address, B256, NodeAddress, NodeId, NodeKey, Signer, keccak256};
use wayfare_nat::{MapperConfig, Swarm};
use wayfare_payment::{Amount, Chain, Collector, Ledger, Price, SettlePolicy, Usage};
use wayfare_session::{Exit, ExitConfig, SessionStatus};
use wayfare_transport::{
    Clock, Pump, QuicEndpoint, QuicIdentity, SharedSocket, SocketOptions, Tun, TunDevice,
    TunOptions, quic_endpoint,
};
use wayfare_tunnel::{EndpointConfig, StaticSecret};

use self::announce::Announcer;
use self::driver::Driver;
use self::peer::PeerDesk;
use crate::persistence::Persistence;
use crate::reach::{Reach, ReachConfig};
use crate::{Network, NodeError, chance, discover, node_name, plane};

pub(crate) use self::books::{Books, Doors};
pub(crate) use self::driver::{Command, sleep_until};
pub(crate) use self::hermes::{HermesAnswer, HermesLink};
pub(crate) use self::peer::{Reception, accept, accept_streams};
pub use self::remote::ProviderRemote;
pub(crate) use self::remote::{Ask, watch_chain};
pub(crate) use self::settlement::Settlement;
pub(crate) use self::shares::Shares;
pub(crate) use self::streams::Streams;
pub(crate) use self::waiting::WaitingRoom;

/// Inner packets are at most this long: 1,500 less 40 (IPv6), 8 (UDP) and 32 (tunnel).
const MTU: u16 = 1_420;
/// What a consumer with a deposit may use while its first payment is on its way, which takes three round trips: connections begin,
/// and a small page comes. With the four sessions that one consumer may have unpaid for two minutes, 600 bytes a second.
const WELCOME: Usage = Usage {
    up: 16 << 10,
    down: 0,
    time: Duration::from_secs(1),
};
/// Requests that may wait for the exit's owner.
const COMMANDS: usize = 1_024;
/// How often this computer's own addresses and networks are read again: a LAN plugged in later is closed this soon.
const REFRESH_RULES: Duration = Duration::from_secs(10);
/// How long a provider that only relays can ring waits for one before it announces itself all the same.
const RING_PATIENCE: Duration = Duration::from_secs(5);
/// How long a drain may take: the last payments of all sessions.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(8);

/// What is offered to consumers.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The price.
    pub price: Price,
    /// The largest first chunk accepted.
    pub chunk: Amount,
    /// The most credit ever given to one session, also to one whose terms would allow more.
    pub chunk_limit: Amount,
    /// ISO 3166 alpha-2 code of the country of the exit.
    pub country: String,
    /// Where consumers can dial this node from outside; none where relays ring it.
    pub contact: Vec<SocketAddr>,
    /// Relays to stay connected to, so that consumers reach this node behind any address translation.
    pub relays: Vec<NodeAddress>,
}

/// How much of the line consumers get, in bits of inner packets a second and in each direction; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Each session.
    pub session: Option<u64>,
    /// All sessions together. Set below what the line carries, it is shared fairly and nobody waits in a router's queue.
    pub total: Option<u64>,
}

/// What a provider needs.
pub struct ProviderBuilder {
    /// The network.
    pub network: Network,
    /// Who is paid, and sends settlements.
    pub signer: Arc<dyn Signer>,
    /// Secret bytes of this node: its node key, tunnel key and preimages are derived from them.
    pub secret: [u8; 32],
    /// Where payments are remembered.
    pub ledger: Arc<dyn Ledger>,
    /// What is offered.
    pub offer: Offer,
    /// Local address of the one UDP socket.
    pub listen: SocketAddr,
    /// Whether the router may be asked to forward its port to us.
    pub port_mapping: bool,
    /// Name of the tunnel device.
    pub device: String,
    /// Tunnel addresses.
    pub pool_v4: Ipv4Net,
    /// IPv6 tunnel addresses.
    pub pool_v6: Option<Ipv6Net>,
    /// The interface towards the internet; `None`: any but the tunnel.
    pub uplink: Option<String>,
    /// Special-purpose prefixes that consumers may reach all the same; for private test networks.
    pub allow: Vec<IpNet>,
    /// Most sessions.
    pub max_sessions: usize,
    /// Their shares of the line.
    pub limits: Limits,
    /// When to cash.
    pub settle: SettlePolicy,
    /// Where the journal of changes to this computer lives.
    pub state: PathBuf,
}

impl std::fmt::Debug for ProviderBuilder {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderBuilder")
            .field("identity", &self.signer.address())
            .field("network", &self.network)
            .field("offer", &self.offer)
            .field("listen", &self.listen)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

/// A provider in numbers.
#[derive(Debug, Clone)]
pub struct ProviderStatus {
    /// Who.
    pub identity: Address,
    /// Running sessions.
    pub sessions: Vec<SessionStatus>,
    /// Sessions since the start.
    pub sessions_seen: u64,
    /// Promised by the Hermes, ever.
    pub promised: Amount,
    /// Settled on the chain, ever.
    pub settled: Amount,
}

/// A running provider.
#[derive(Debug)]
pub struct Provider {
    asks: mpsc::Sender<Ask>,
    driver: JoinHandle<Result<(), NodeError>>,
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    withdraw: CancellationToken,
    closed: CancellationToken,
    rules: JoinHandle<Result<(), NodeError>>,
    sessions: watch::Receiver<usize>,
    local: SocketAddr,
    node: NodeId,
    endpoint: QuicEndpoint,
    _reach: Reach,
}

/// Announces what can be reached: who is found and does not answer is not tried again.
async fn announce(announcer: Announcer, reach: Option<Reach>, withdraw: CancellationToken) {
    if let Some(reach) = reach {
        reach.attached(RING_PATIENCE).await;
    }
    announcer.run(withdraw).await;
}

/// The node key of a provider or a relay: derived rather than stored.
pub(crate) fn node_key(secret: &[u8; 32]) -> NodeKey {
    NodeKey::from_seed(derive(secret, "node key").0)
}

/// Derived, so that who comes back after a crash is the one who has the mapping.
fn mapping(secret: &[u8; 32], local: SocketAddr) -> MapperConfig {
    let derived = derive(secret, "port mapping");
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&derived.0[..12]);
    MapperConfig::new(local.port(), nonce)
}

pub(crate) fn derive(secret: &[u8; 32], purpose: &str) -> B256 {
    keccak256([b"wayfare provider ".as_slice(), purpose.as_bytes(), secret].concat())
}

impl ProviderBuilder {
    /// Makes the exit safe, opens it, and announces it.
    ///
    /// # Errors
    /// See [`NodeError`]; what was changed on this computer is undone.
    pub async fn start(self) -> Result<Provider, NodeError> {
        let identity = self.signer.address();
        let country = self
            .offer
            .country
            .parse()
            .map_err(|error| NodeError::Setting(format!("country: {error}")))?;
        let books = self.books();
        let doors = books.doors().await?;
        let indexes = discover::indexes(&self.network)?;

        let node_key = node_key(&self.secret);
        let (socket, receiver) = SharedSocket::bind(self.listen, SocketOptions::default())?;
        let quic_identity = QuicIdentity::from_ed25519_seed(*node_key.seed())?;
        let endpoint = quic_endpoint(&socket, &quic_identity)?;
        let local = socket.local_addr();

        let (tun, rules) = self.open_device(local).await?;
        let collector = books.collector().await?;
        let mut exit = self.exit(collector, rules.carries_v6())?;
        exit.handle_hermes(doors.account, Clock::now());
        let chain = doors.chain;
        let settlement = books
            .settlement(exit.collector(), Arc::clone(&chain))
            .await?;
        self.address_device(&exit).await?;

        let needs_relay = self.offer.contact.is_empty();
        let (reach, table) = self.reach(&node_key, &socket, &endpoint, &quic_identity)?;
        let stop = CancellationToken::new();
        let withdraw = stop.child_token();
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (asks, asked) = mpsc::channel(COMMANDS);
        let (session_count, sessions) = watch::channel(0);
        let framing = plane::framing(tun.mtu());
        let (funds, funds_found) = mpsc::channel(COMMANDS);
        let driver = Driver {
            exit,
            shares: Shares::new(self.limits, Clock::now()),
            waiting: WaitingRoom::default(),
            pump: Pump::new(socket, receiver, tun, framing),
            persistence: Persistence::new(Arc::clone(&self.ledger)),
            hermes: HermesLink::start(
                doors.hermes.clone(),
                Arc::clone(&self.signer),
                self.network.vault,
            ),
            settlement,
            commands: inbox,
            asks: asked,
            funds: funds_found,
            streams: Streams::default(),
            identity,
            sessions_seen: 0,
            sessions: session_count,
        };
        let driver = tokio::spawn(driver.run(stop.clone()));
        let closed = CancellationToken::new();
        let rules = tokio::spawn(keep_rules(rules, closed.clone()));
        let (paths, path_changes) = mpsc::channel(paths::AT_ONCE);
        let desk = Arc::new(PeerDesk {
            reception: Reception {
                commands,
                chain: Arc::clone(&chain),
                hermes_client: doors.hermes,
                hermes: self.network.hermes,
            },
            paths,
            funds,
        });
        let announcer = Announcer {
            indexes,
            table,
            signer: Arc::clone(&self.signer),
            offer: self.offer.clone(),
            country,
            network: self.network.clone(),
            node: node_key.id(),
            tunnel_key: self.tunnel_secret().public().0,
        };
        let watch = watch_chain(
            chain,
            identity,
            self.network.hermes,
            asks.clone(),
            stop.clone(),
        );
        let tasks = vec![
            tokio::spawn(peer::listen(endpoint.clone(), desk, stop.clone())),
            tokio::spawn(paths::keep(self.device.clone(), path_changes)),
            tokio::spawn(announce(
                announcer,
                needs_relay.then(|| reach.clone()),
                withdraw.clone(),
            )),
            tokio::spawn(watch),
        ];
        Ok(Provider {
            asks,
            driver,
            tasks,
            stop,
            withdraw,
            closed,
            rules,
            sessions,
            local,
            node: node_key.id(),
            endpoint,
            _reach: reach,
        })
    }

    /// The swarm on our socket, with what finds paths; once more where there is somebody to tell of the offer through it.
    fn reach(
        &self,
        key: &NodeKey,
        socket: &SharedSocket,
        endpoint: &QuicEndpoint,
        identity: &QuicIdentity,
    ) -> Result<(Reach, Option<Swarm>), NodeError> {
        let local = socket.local_addr();
        let config = ReachConfig {
            key: key.clone(),
            relays: self.offer.relays.clone(),
            serves: None,
            manual: self.offer.contact.clone(),
            mapping: self.port_mapping.then(|| mapping(&self.secret, local)),
        };
        // First contacts are those of the network, and our own relays.
        let mut seeds = self.network.bootstrap.clone();
        seeds.extend(&self.offer.relays);
        let alone = seeds.is_empty();
        // Whoever can be dialed keeps records for others; alone in the world it still waits for them.
        let dht = discover::table(seeds, !self.offer.contact.is_empty());
        let (reach, swarm) =
            Reach::start_in(socket.clone(), endpoint, identity, config, Some(dht))?;
        Ok((reach, (!alone).then_some(swarm)))
    }

    /// Looks at chain, Hermes and index, for a doctor: a name and what was found, or what is wrong.
    pub async fn check(&self) -> Vec<(&'static str, Result<String, NodeError>)> {
        let service = |what| move |source| NodeError::Service { what, source };
        let chain = async {
            let wallet = Wallet::new(
                Endpoint::new(&self.network.rpc, self.network.chain_id),
                Arc::clone(&self.signer),
            )?;
            let chain = VaultClient::new(wallet, self.network.vault);
            chain.check().await?;
            let account = chain.hermes(self.network.hermes).await?;
            Ok::<_, NodeError>(format!(
                "the vault is there; the Hermes' collateral is {}",
                account.collateral
            ))
        };
        let hermes = async {
            let client =
                HermesClient::connect(&self.network.hermes_url).map_err(service("the Hermes"))?;
            let described = client.describe().await.map_err(service("the Hermes"))?;
            Ok::<_, NodeError>(format!("answers as {}", described.terms.hermes))
        };
        let mut found = vec![("chain", chain.await), ("Hermes", hermes.await)];
        match discover::indexes(&self.network) {
            Ok(indexes) => {
                for (url, client) in indexes {
                    let count = client.describe().await.map_err(discover::index_error);
                    let told = |count| format!("{url} answers; it lists {count} offers");
                    found.push(("index", count.map(told)));
                }
            }
            Err(error) => found.push(("index", Err(error))),
        }
        found
    }

    fn derive(&self, purpose: &str) -> B256 {
        derive(&self.secret, purpose)
    }

    fn books(&self) -> Books<'_> {
        Books {
            network: &self.network,
            signer: &self.signer,
            ledger: &self.ledger,
            preimages: self.derive("preimages"),
            credit_cap: self.offer.chunk_limit,
            settle: self.settle,
        }
    }

    fn tunnel_secret(&self) -> StaticSecret {
        StaticSecret::from_bytes(self.derive("tunnel key").0)
    }

    fn exit(&self, collector: Collector, carries_v6: bool) -> Result<Exit, NodeError> {
        let network = &self.network;
        let config = ExitConfig {
            hermes: network.hermes,
            chain_id: network.chain_id,
            vault: network.vault,
            price: self.offer.price,
            chunk: self.offer.chunk,
            pool_v4: self.pool_v4,
            pool_v6: self.pool_v6.filter(|_| carries_v6),
            mtu: MTU,
            max_sessions: self.max_sessions,
            welcome: WELCOME,
            tunnel: EndpointConfig::default(),
        };
        let (wall, now) = (Clock::wall(), Clock::now());
        Ok(Exit::new(
            config,
            Arc::clone(&self.signer),
            self.tunnel_secret(),
            collector,
            chance::bytes()?,
            wall,
            now,
        ))
    }

    /// Rules first, device addresses after: without the rules nothing is forwarded.
    async fn open_device(&self, local: SocketAddr) -> Result<(Arc<dyn Tun>, ExitRules), NodeError> {
        let (journal, recovered) =
            Journal::recover(&self.state, &node_name(&self.device), Held::Release).await?;
        if recovered.undone > 0 {
            tracing::info!(
                changes = recovered.undone,
                "undid what an earlier run had left"
            );
        }
        let options = TunOptions {
            // Super-packets from the internet are as long as their sender made them. A longer one than the device takes
            // would be cut into single packets by the kernel; for us it is merely a second train.
            segments: 64,
            ..TunOptions::default()
        };
        let tun = TunDevice::create_with(&self.device, usize::from(MTU), options)?;
        let mut config =
            wayfare_host::ExitConfig::new(node_name(&self.device), &self.device, self.pool_v4);
        config.pool_v6 = self.pool_v6;
        config.uplink.clone_from(&self.uplink);
        config.listen_ports = vec![local.port()];
        config.also_ours = self.offer.contact.iter().map(SocketAddr::ip).collect();
        config.allow.clone_from(&self.allow);
        let rules = ExitRules::apply(config, &journal).await?;
        Ok((Arc::new(tun), rules))
    }

    async fn address_device(&self, exit: &Exit) -> Result<(), NodeError> {
        let (v4, v6) = exit.device_addresses();
        let mut addresses = vec![IpNet::V4(
            Ipv4Net::new(v4, self.pool_v4.prefix_len()).unwrap_or(v4.into()),
        )];
        if let (Some(v6), Some(pool)) = (v6, self.pool_v6) {
            addresses.push(IpNet::V6(
                Ipv6Net::new(v6, pool.prefix_len()).unwrap_or(v6.into()),
            ));
        }
        Ok(configure_interface(&self.device, &addresses, MTU).await?)
    }
}

impl Provider {
    /// Where the one UDP socket listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The node key's public half, as announced.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// A way to ask and command the provider from elsewhere.
    #[must_use]
    pub fn remote(&self) -> ProviderRemote {
        ProviderRemote {
            asks: self.asks.clone(),
            withdraw: self.withdraw.clone(),
        }
    }

    /// Waits until the exit fails; never returns while it runs.
    ///
    /// # Errors
    /// Ledger, socket or device failed; everything stops.
    pub async fn failed(&mut self) -> Result<(), NodeError> {
        match (&mut self.driver).await {
            Ok(result) => result,
            Err(error) => Err(NodeError::Setting(format!(
                "the exit's task ended: {error}"
            ))),
        }
    }

    /// Takes the last payments, then stops and gives the computer its own rules back.
    ///
    /// # Errors
    /// Something on this computer could not be undone; the next start tries again.
    pub async fn stop(mut self) -> Result<(), NodeError> {
        self.remote().drain().await;
        let drained = self.sessions.wait_for(|count| *count == 0);
        if tokio::time::timeout(DRAIN_LIMIT, drained).await.is_err() {
            tracing::warn!("stopping with sessions that did not pay their last chunk in time");
        }
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            let abort = task.abort_handle();
            if tokio::time::timeout(Duration::from_secs(3), task)
                .await
                .is_err()
            {
                abort.abort();
            }
        }
        // Relays and consumers learn of it now, not by waiting.
        self.endpoint.close().await;
        self.driver.abort();
        // The exit's rules fall only after its device: until then they stand between consumers and this computer's networks. A
        // task that has finished may have been awaited before.
        if !self.driver.is_finished() {
            let _ = (&mut self.driver).await;
        }
        self.closed.cancel();
        match (&mut self.rules).await {
            Ok(undone) => undone,
            Err(error) => Err(NodeError::Setting(format!(
                "the exit rules' task ended: {error}"
            ))),
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
        self.driver.abort();
        self.closed.cancel();
    }
}

/// Keeps the exit rules true while this computer's addresses and networks change, and takes them back at the end.
async fn keep_rules(mut rules: ExitRules, closed: CancellationToken) -> Result<(), NodeError> {
    loop {
        tokio::select! {
            () = closed.cancelled() => return Ok(rules.undo().await?),
            () = tokio::time::sleep(REFRESH_RULES) => {}
        }
        if let Err(error) = rules.refresh().await {
            tracing::error!(%error, "the exit rules could not be renewed; the old ones stay in force");
        }
    }
}
