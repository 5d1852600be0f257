//! The relay's role: a public node that carries sealed datagrams between peers that cannot reach each other. It refuses to read
//! them; what it needs is a port that everybody can reach.

use std::net::SocketAddr;
use std::sync::Arc;

use wayfare_identity::{NodeAddress, NodeKey};
use wayfare_nat::{ChannelUse, RelayBoard, RelayLimits};
use wayfare_transport::{
    PipeDoor, QuicEndpoint, QuicIdentity, SharedSocket, SocketOptions, TunnelReceiver,
    quic_endpoint,
};

use crate::NodeError;
use crate::discover::table;
use crate::provider::node_key;
use crate::reach::{Reach, ReachConfig};

/// What a relay needs.
#[derive(Debug)]
pub struct RelayBuilder {
    /// Secret bytes of this node: its node key is derived from them, as a provider's.
    pub secret: [u8; 32],
    /// Local address of the one UDP socket.
    pub listen: SocketAddr,
    /// Where others reach it.
    pub advertise: SocketAddr,
    /// What it gives away.
    pub limits: RelayLimits,
    /// Other relays, through which it joins the distributed table of proposals; others may join through it.
    pub bootstrap: Vec<NodeAddress>,
}

/// A running relay; it ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: NodeAddress,
    endpoint: QuicEndpoint,
    board: Option<Arc<RelayBoard>>,
    _reach: Reach,
    _pipes: PipeDoor,
    _socket: SharedSocket,
    // A relay has no tunnel: messages for one are counted and dropped.
    _receiver: TunnelReceiver,
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
            serves: Some(self.limits),
            manual: vec![self.advertise],
            // It can be reached already.
            mapping: None,
        };
        let pipes = PipeDoor::open(&socket, &endpoint, &identity)
            .map_err(wayfare_transport::QuicError::from)?;
        let dht = Some(table(self.bootstrap, true));
        let (reach, _) = Reach::start_in(socket.clone(), &endpoint, &identity, config, dht)?;
        Ok(Relay {
            address,
            endpoint,
            board: reach.board().cloned(),
            _reach: reach,
            _pipes: pipes,
            _socket: socket,
            _receiver: receiver,
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

    /// Tells the peers and ends.
    pub async fn stop(self) {
        self.endpoint.close().await;
    }
}
