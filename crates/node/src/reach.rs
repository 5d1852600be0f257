//! How a node is reached that cannot simply be dialed: the swarm, the probes on the shared socket and the machines that find
//! paths, put together. Out come addresses for the tunnel and for QUIC, and their changes. It refuses to know sessions.

mod birthday;
mod carriers;
mod driver;
mod fresh;
mod ground;
mod guesses;
mod link;
mod place;
#[cfg(test)]
mod victims;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use wayfare_identity::{NodeAddress, NodeId, NodeKey};
use wayfare_nat::{
    DhtConfig, MapperConfig, RelayBoard, RelayLimits, Swarm, SwarmConfig, SwarmError, SwarmEvent,
};
use wayfare_path::{Cookies, Tier};
use wayfare_transport::{CarriedMeter, Clock, QuicEndpoint, QuicIdentity, SharedSocket, Switch};

pub use self::carriers::Carrier;
use self::carriers::Carriers;
use self::driver::{Command, Driver};
use self::ground::SharedGround;
pub(crate) use self::ground::local_addresses;
use crate::{NodeError, chance};

/// What may wait for the driver.
const COMMANDS: usize = 64;
/// More than a round trip to most relays.
const CLOSING: Duration = Duration::from_millis(300);

/// What a node brings along to be reached, or to reach.
pub(crate) struct ReachConfig {
    /// Who we are.
    pub(crate) key: NodeKey,
    /// Relays that are to ring us.
    pub(crate) relays: Vec<NodeAddress>,
    /// Whether we carry for others.
    pub(crate) serves: Option<RelayLimits>,
    /// Addresses that a person told us.
    pub(crate) manual: Vec<SocketAddr>,
    /// Whether and how the router is asked to forward the socket's port.
    pub(crate) mapping: Option<MapperConfig>,
}

/// A node's reach. Cheap to clone; it ends with the last clone.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    commands: mpsc::Sender<Command>,
    board: Option<Arc<RelayBoard>>,
    /// How many relays ring us.
    attached: watch::Receiver<usize>,
    _task: Arc<Task>,
}

#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The path to a peer, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathNow {
    /// Where its datagrams go: virtual if a relay carries them.
    pub at: SocketAddr,
    /// Of which kind it is.
    pub tier: Tier,
    /// What its datagrams travel in.
    pub carrier: Carrier,
    /// Its round trip, if it was measured.
    pub rtt: Option<Duration>,
    /// How the search for a better one stands, in a sentence; empty while it goes on.
    pub outcome: String,
}

/// The relay that carries a link's fallback.
#[derive(Debug, Clone)]
pub(crate) struct RelayInUse {
    pub(crate) node: NodeId,
    /// Where it is reached: a pipe's address where one leads to it.
    pub(crate) at: SocketAddr,
    /// What passes through the channel.
    pub(crate) meter: CarriedMeter,
}

/// A way to a peer that is being looked after until it is dropped.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) path: watch::Receiver<PathNow>,
    /// Through whom the peer is called, also while a direct path is used.
    pub(crate) relay: watch::Receiver<RelayInUse>,
    /// Says who wants to know that the relay knows; closes, too, when it is dropped.
    closer: oneshot::Sender<oneshot::Sender<()>>,
}

impl Link {
    /// Needs the way no longer. Waits until the relay knows, so that it tells the peer, but no longer than 300 ms.
    pub(crate) async fn close(self) {
        let (done, told) = oneshot::channel();
        if self.closer.send(done).is_ok() && tokio::time::timeout(CLOSING, told).await.is_err() {
            tracing::debug!("the relay does not say that the channel is closed");
        }
    }
}

/// A call to a peer that is under way.
#[derive(Debug)]
pub(crate) struct Call {
    /// Where the peer will be once it has taken the call. What is sent there first reaches it with the call.
    pub(crate) at: SocketAddr,
    link: oneshot::Receiver<Result<Link, NodeError>>,
}

impl Call {
    /// The way to the peer, when it has answered through the first of its relays that can bring it to do so.
    pub(crate) async fn answered(self) -> Result<Link, NodeError> {
        self.link.await.map_err(|_| stopped())?
    }
}

fn stopped() -> NodeError {
    NodeError::Setting("path finding has stopped; see the log".into())
}

/// A swarm on the shared socket.
pub(crate) fn swarm_on(
    socket: &SharedSocket,
    endpoint: &QuicEndpoint,
    identity: &QuicIdentity,
    config: SwarmConfig,
) -> Result<(Swarm, mpsc::Receiver<SwarmEvent>), NodeError> {
    let cookies = Cookies::new(chance::bytes()?, Clock::now());
    swarm_with(socket, endpoint, identity, config, Arc::new(cookies))
}

/// As [`swarm_on`], where others answer probes and give cookies.
fn swarm_with(
    socket: &SharedSocket,
    endpoint: &QuicEndpoint,
    identity: &QuicIdentity,
    config: SwarmConfig,
    cookies: Arc<Cookies>,
) -> Result<(Swarm, mpsc::Receiver<SwarmEvent>), NodeError> {
    let ground = SharedGround::new(socket.clone(), endpoint.clone(), identity.clone(), cookies)
        .map_err(|error| NodeError::Swarm(SwarmError::Setup(error.to_string())))?;
    let incoming = endpoint
        .swarm_connections()
        .ok_or_else(|| taken("another swarm runs on it"))?;
    Ok(Swarm::start(config, Arc::new(ground), incoming)?)
}

fn taken(why: &str) -> NodeError {
    NodeError::Setting(format!("the socket is taken: {why}"))
}

impl Reach {
    /// Starts on the shared socket.
    pub(crate) fn start(
        socket: SharedSocket,
        endpoint: &QuicEndpoint,
        identity: &QuicIdentity,
        config: ReachConfig,
    ) -> Result<Self, NodeError> {
        Self::start_in(socket, endpoint, identity, config, None).map(|(reach, _)| reach)
    }

    /// As [`start`](Self::start), and takes part in the distributed table through the swarm, which is handed out too.
    pub(crate) fn start_in(
        socket: SharedSocket,
        endpoint: &QuicEndpoint,
        identity: &QuicIdentity,
        config: ReachConfig,
        dht: Option<DhtConfig>,
    ) -> Result<(Self, Swarm), NodeError> {
        let probes = socket
            .probes()
            .ok_or_else(|| taken("others read its probes"))?;
        let swarm_config = SwarmConfig {
            key: config.key.clone(),
            relay: config.serves,
            dht,
        };
        let cookies = Arc::new(Cookies::new(chance::bytes()?, Clock::now()));
        let shown = Arc::clone(&cookies);
        let (swarm, events) = swarm_with(&socket, endpoint, identity, swarm_config, shown)?;
        let board = swarm.board().cloned();
        if let Some(board) = &board {
            socket.set_switch(Some(Arc::new(BoardSwitch(Arc::clone(board)))));
        }
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (tell, attached) = watch::channel(0);
        let carriers = Carriers::new(socket.clone(), endpoint.clone(), identity.clone());
        let way = (socket, carriers);
        let driver = Driver::new(
            config,
            way,
            (swarm.clone(), events),
            probes,
            inbox,
            (tell, cookies),
        )?;
        let task = tokio::spawn(driver.run());
        let reach = Self {
            commands,
            board,
            attached,
            _task: Arc::new(Task(task.abort_handle())),
        };
        Ok((reach, swarm))
    }

    /// The channels that we carry for others, if we do.
    pub(crate) fn board(&self) -> Option<&Arc<RelayBoard>> {
        self.board.as_ref()
    }

    /// Waits until a relay rings us, but no longer than `patience`.
    pub(crate) async fn attached(&self, patience: Duration) {
        let mut attached = self.attached.clone();
        let ringing = attached.wait_for(|count| *count > 0);
        if tokio::time::timeout(patience, ringing).await.is_err() {
            tracing::warn!("no relay of this node answers yet: consumers may not reach it");
        }
    }

    /// Calls a node through the first of its relays that answers, and looks for a direct path from then on. Comes back when there
    /// is somebody to call through: what is then sent to [`Call::at`] at once goes along.
    pub(crate) async fn call(
        &self,
        node: NodeId,
        relays: &[NodeAddress],
    ) -> Result<Call, NodeError> {
        let (begun, at) = oneshot::channel();
        let (reply, link) = oneshot::channel();
        let command = Command::Call {
            node,
            relays: relays.to_vec(),
            begun,
            reply,
        };
        self.commands.send(command).await.map_err(|_| stopped())?;
        match at.await {
            Ok(at) => Ok(Call { at, link }),
            Err(_) => match link.await {
                Ok(Err(error)) => Err(error),
                Ok(Ok(_)) | Err(_) => Err(stopped()),
            },
        }
    }
}

/// The socket asks the board where a frame goes.
#[derive(Debug)]
struct BoardSwitch(Arc<RelayBoard>);

impl Switch for BoardSwitch {
    fn forward(
        &self,
        from: SocketAddr,
        channel: u32,
        _datagrams: usize,
        bytes: usize,
    ) -> Option<SocketAddr> {
        self.0.forward(from, channel, bytes, Clock::now())
    }
}
