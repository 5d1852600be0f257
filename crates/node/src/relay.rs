//! The relay's role: a public node that carries sealed datagrams between peers that cannot reach each other. It refuses to read
//! them; what it needs is a port that everybody can reach. With a price it is paid by who calls, as an exit is paid.

mod desk;
mod till;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wayfare_identity::{NodeAddress, NodeKey, Signer};
use wayfare_nat::{AccountUse, ChannelUse, FreeLimits, RelayBoard, RelayLimits};
use wayfare_payment::{Amount, Ledger, SettlePolicy};
use wayfare_session::{TollConfig, TollKeeper};
use wayfare_transport::{
    Clock, PipeDoor, QuicEndpoint, QuicIdentity, SharedSocket, SocketOptions, TunnelReceiver,
    quic_endpoint,
};

use self::desk::TollDesk;
use self::till::Till;
use crate::discover::table;
use crate::persistence::Persistence;
use crate::provider::{
    Ask, Books, DRAIN_LIMIT, Doors, HermesLink, ProviderRemote, Reception, Streams, derive,
    node_key, watch_chain,
};
use crate::reach::{Reach, ReachConfig};
use crate::{Network, NodeError};

/// Requests that may wait for the till.
const COMMANDS: usize = 1_024;
/// Agreements at a time; each takes about 3 KiB.
const TOLLS: usize = 4_096;
/// How long a task may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// Of the price of a GiB, what a caller may at first have unpaid: 16 MiB. At 25 MB/s an invoice over half of it goes out each 335 ms,
/// and a payment takes 200 ms.
const CHUNK_SHARE: u128 = 64;
/// The same for what a caller may ever have unpaid: 256 MiB.
const CREDIT_SHARE: u128 = 4;

/// What a relay with a price needs besides.
pub struct RelayToll {
    /// Chain and Hermes. Indexes are not asked.
    pub network: Network,
    /// Who is paid, and sends settlements.
    pub signer: Arc<dyn Signer>,
    /// Where payments are remembered.
    pub ledger: Arc<dyn Ledger>,
    /// The price of a GiB of frames as they reach the relay, both directions together, in smallest units.
    pub per_gib: Amount,
    /// When to cash.
    pub settle: SettlePolicy,
}

impl std::fmt::Debug for RelayToll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayToll")
            .field("identity", &self.signer.address())
            .field("network", &self.network)
            .field("per_gib", &self.per_gib)
            .finish_non_exhaustive()
    }
}

/// What a relay needs.
pub struct RelayBuilder {
    /// Secret bytes of this node: its node key is derived from them, as a provider's.
    pub secret: [u8; 32],
    /// Local address of the one UDP socket.
    pub listen: SocketAddr,
    /// Where others reach it.
    pub advertise: SocketAddr,
    /// What it carries. With a price, what is free is by preset [`FreeLimits::default`].
    pub limits: RelayLimits,
    /// Other relays, through which it joins the distributed table of proposals; others may join through it.
    pub bootstrap: Vec<NodeAddress>,
    /// How it is paid; `None`, or with a price of nothing, it carries for nothing.
    pub toll: Option<RelayToll>,
}

impl std::fmt::Debug for RelayBuilder {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayBuilder")
            .field("listen", &self.listen)
            .field("advertise", &self.advertise)
            .field("limits", &self.limits)
            .field("bootstrap", &self.bootstrap)
            .field("toll", &self.toll)
            .finish_non_exhaustive()
    }
}

/// A running relay; it ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: NodeAddress,
    endpoint: QuicEndpoint,
    board: Option<Arc<RelayBoard>>,
    income: Option<Income>,
    _reach: Reach,
    _pipes: PipeDoor,
    _socket: SharedSocket,
    // A relay has no tunnel: messages for one are counted and dropped.
    _receiver: TunnelReceiver,
}

/// What runs beside a relay with a price.
#[derive(Debug)]
struct Income {
    asks: mpsc::Sender<Ask>,
    till: JoinHandle<Result<(), NodeError>>,
    tasks: Vec<JoinHandle<()>>,
    tolls: watch::Receiver<usize>,
    stop: CancellationToken,
}

impl Income {
    /// Takes the last payments.
    async fn drain(&mut self) {
        if self.asks.send(Ask::Drain).await.is_err() {
            return;
        }
        let drained = self.tolls.wait_for(|count| *count == 0);
        if tokio::time::timeout(DRAIN_LIMIT, drained).await.is_err() {
            tracing::warn!("stopping with callers that did not pay their last chunk in time");
        }
    }

    /// Ends the tasks, and gives the ledger back.
    async fn end(&mut self) {
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            let abort = task.abort_handle();
            if tokio::time::timeout(STOP_LIMIT, task).await.is_err() {
                abort.abort();
            }
        }
        // One that has finished may have been awaited before; how it ended was told then.
        if !self.till.is_finished() {
            let _ = (&mut self.till).await;
        }
    }
}

impl Drop for Income {
    fn drop(&mut self) {
        self.stop.cancel();
        self.till.abort();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl RelayBuilder {
    /// The node that a relay with this secret is.
    #[must_use]
    pub fn node_key(&self) -> NodeKey {
        node_key(&self.secret)
    }

    /// Opens the socket and begins to carry.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn start(self) -> Result<Relay, NodeError> {
        let key = self.node_key();
        let toll = self.toll.filter(|toll| !toll.per_gib.is_zero());
        let mut limits = self.limits;
        // Nobody is asked to pay a relay that does not keep accounts.
        limits.free = toll.as_ref().map(|_| limits.free.unwrap_or_default());
        let books = toll.as_ref().map(|toll| toll.books(&self.secret));
        // Before the socket is open: a relay that cannot be paid carries nothing.
        let doors = match &books {
            Some(books) => Some((books, books.doors().await?)),
            None => None,
        };
        let (socket, receiver) = SharedSocket::bind(self.listen, SocketOptions::default())?;
        let identity = QuicIdentity::from_ed25519_seed(*key.seed())?;
        let endpoint = quic_endpoint(&socket, &identity)?;
        let address = NodeAddress {
            node: key.id(),
            at: self.advertise,
        };
        let config = ReachConfig {
            key,
            relays: Vec::new(),
            serves: Some(limits),
            manual: vec![self.advertise],
            // It can be reached already.
            mapping: None,
        };
        let pipes = PipeDoor::open(&socket, &endpoint, &identity)
            .map_err(wayfare_transport::QuicError::from)?;
        let dht = Some(table(self.bootstrap, true));
        let (reach, _) = Reach::start_in(socket.clone(), &endpoint, &identity, config, dht)?;
        let board = reach.board().cloned();
        let income = match (&toll, doors, &board) {
            (Some(toll), Some((books, doors)), Some(board)) => {
                let free = limits.free.unwrap_or_default();
                Some(toll.open(books, doors, board, free, &endpoint).await?)
            }
            _ => None,
        };
        Ok(Relay {
            address,
            endpoint,
            board,
            income,
            _reach: reach,
            _pipes: pipes,
            _socket: socket,
            _receiver: receiver,
        })
    }
}

impl RelayToll {
    fn books(&self, secret: &[u8; 32]) -> Books<'_> {
        Books {
            network: &self.network,
            signer: &self.signer,
            ledger: &self.ledger,
            preimages: derive(secret, "preimages"),
            credit_cap: self.per_gib.mul_div_up(1, CREDIT_SHARE),
            settle: self.settle,
        }
    }

    /// Opens till and desk.
    async fn open(
        &self,
        books: &Books<'_>,
        doors: Doors,
        board: &Arc<RelayBoard>,
        free: FreeLimits,
        endpoint: &QuicEndpoint,
    ) -> Result<Income, NodeError> {
        let (network, identity) = (&self.network, self.signer.address());
        let collector = books.collector().await?;
        let chain = doors.chain;
        let settlement = books.settlement(&collector, Arc::clone(&chain)).await?;
        let config = TollConfig {
            hermes: network.hermes,
            chain_id: network.chain_id,
            vault: network.vault,
            per_gib: self.per_gib,
            chunk: self.per_gib.mul_div_up(1, CHUNK_SHARE),
            free_bytes: free.opener,
            tolls: TOLLS,
        };
        let now = Clock::now();
        let mut keeper = TollKeeper::new(config, Arc::clone(&self.signer), collector, now);
        keeper.handle_hermes(doors.account, now);
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (asks, asked) = mpsc::channel(COMMANDS);
        let (count, tolls) = watch::channel(0);
        let desk = Arc::new(TollDesk {
            tariff: keeper.tariff(),
            reception: Reception {
                commands,
                chain: Arc::clone(&chain),
                hermes_client: doors.hermes.clone(),
                hermes: network.hermes,
            },
        });
        let till = Till {
            keeper,
            board: Arc::clone(board),
            persistence: Persistence::new(Arc::clone(&self.ledger)),
            hermes: HermesLink::start(doors.hermes, Arc::clone(&self.signer), network.vault),
            settlement,
            commands: inbox,
            asks: asked,
            streams: Streams::default(),
            identity,
            seen: 0,
            tolls: count,
        };
        let stop = CancellationToken::new();
        let watch = watch_chain(chain, identity, network.hermes, asks.clone(), stop.clone());
        Ok(Income {
            asks,
            till: tokio::spawn(till.run(stop.clone())),
            tasks: vec![
                tokio::spawn(desk::listen(endpoint.clone(), desk, stop.clone())),
                tokio::spawn(watch),
            ],
            tolls,
            stop,
        })
    }
}

impl Relay {
    /// Who it is and where, as providers name it.
    #[must_use]
    pub fn address(&self) -> NodeAddress {
        self.address
    }

    /// The open channels and what passed.
    #[must_use]
    pub fn used(&self) -> Vec<ChannelUse> {
        self.board
            .as_ref()
            .map_or_else(Vec::new, |board| board.used())
    }

    /// What passed for those who open channels, if it has a price.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountUse> {
        self.board
            .as_ref()
            .map_or_else(Vec::new, |board| board.accounts())
    }

    /// A way to ask and command what earns, if it has a price: its sessions are the tolls.
    #[must_use]
    pub fn remote(&self) -> Option<ProviderRemote> {
        self.income.as_ref().map(|income| ProviderRemote {
            asks: income.asks.clone(),
            withdraw: CancellationToken::new(),
        })
    }

    /// Waits until it cannot be paid any more; never returns while it can, or needs not.
    ///
    /// # Errors
    /// The ledger failed.
    pub async fn failed(&mut self) -> Result<(), NodeError> {
        let Some(income) = &mut self.income else {
            return std::future::pending().await;
        };
        match (&mut income.till).await {
            Ok(result) => result,
            Err(error) => Err(NodeError::Setting(format!(
                "the till's task ended: {error}"
            ))),
        }
    }

    /// Takes the last payments, tells the peers and ends.
    pub async fn stop(mut self) {
        if let Some(mut income) = self.income.take() {
            income.drain().await;
            // Streams end with their last frames before their connections do.
            income.end().await;
        }
        self.endpoint.close().await;
    }
}

#[cfg(test)]
mod tests;
