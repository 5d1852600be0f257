//! The swarm's transport: QUIC connections of the one shared endpoint.
//!
//! Connections come here authenticated, by dialing through [`Ground`] or from the endpoint's accept loop. What is its own is the
//! hole punch: asked to be the *listening* half, it sends datagrams that open the way for the other half's handshake, and takes
//! whatever connection that **peer** then makes, from whatever address it arrives. It refuses peers without a name, and newcomers
//! when as many are connected as there are places.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Ready, ready};
use libp2p_core::transport::{
    DialOpts, ListenerId, PortUse, Transport, TransportError, TransportEvent,
};
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use quinn::{Connection, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::address::{multiaddr, node_id, peer_id, socket_addr};
use crate::connections::{Begun, Connections};
use crate::muxer::Muxer;
use crate::{Ground, Port};

/// Between two datagrams of the listening half: several fall into every round trip, so one arrives soon after the other half's
/// way has opened.
const KNOCK_EVERY: Duration = Duration::from_millis(25);
/// How long the listening half tries. The other half's first handshake begins within a round trip; four repetitions fit.
const PUNCH_LIMIT: Duration = Duration::from_secs(5);
/// How often this computer's addresses are read again.
const ADDRESSES_EVERY: Duration = Duration::from_secs(5);

/// What a newcomer is told when there is no place.
const FULL: (VarInt, &[u8]) = (
    VarInt::from_u32(2),
    b"as many peers are connected as there may be: try another relay",
);

type Waiting = Arc<Mutex<HashMap<PeerId, Vec<oneshot::Sender<Connection>>>>>;
pub(crate) type Upgrade = Ready<io::Result<(PeerId, Muxer)>>;

pub(crate) struct Shared {
    ground: Arc<dyn Ground>,
    incoming: mpsc::Receiver<Connection>,
    connections: Connections,
    /// For connections that others begin.
    places: Arc<Semaphore>,
    punches: Waiting,
    listener: Option<Listener>,
    events: VecDeque<TransportEvent<Upgrade, io::Error>>,
    reread: Interval,
}

struct Listener {
    id: ListenerId,
    told: Vec<SocketAddr>,
}

impl Shared {
    /// `incoming`: connections that others made, their handshakes done; at most `places` of them are kept. Needs a tokio
    /// runtime.
    pub(crate) fn new(
        ground: Arc<dyn Ground>,
        incoming: mpsc::Receiver<Connection>,
        connections: Connections,
        places: usize,
    ) -> Self {
        let mut reread = interval(ADDRESSES_EVERY);
        reread.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            ground,
            incoming,
            connections,
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            punches: Waiting::default(),
            listener: None,
            events: VecDeque::new(),
            reread,
        }
    }

    /// Tells what came and went among this computer's addresses.
    fn reread_addresses(&mut self) {
        let Some(listener) = &mut self.listener else {
            return;
        };
        let now = self.ground.addresses();
        for gone in listener.told.iter().filter(|at| !now.contains(at)) {
            self.events.push_back(TransportEvent::AddressExpired {
                listener_id: listener.id,
                listen_addr: multiaddr(*gone),
            });
        }
        for new in now.iter().filter(|at| !listener.told.contains(at)) {
            self.events.push_back(TransportEvent::NewAddress {
                listener_id: listener.id,
                listen_addr: multiaddr(*new),
            });
        }
        listener.told = now;
    }

    /// Gives a connection to the punch that waits for its peer, or to the swarm as a new one.
    fn admit(&mut self, connection: Connection) {
        let Some(peer) = self.ground.node_of(&connection).and_then(peer_id) else {
            connection.close(VarInt::from_u32(1), b"who are you?");
            return;
        };
        let mut waiting = self.punches.lock().unwrap_or_else(PoisonError::into_inner);
        let punches = waiting.remove(&peer).unwrap_or_default();
        drop(waiting);
        let mut connection = Some(connection);
        for punch in punches {
            let Some(this) = connection.take() else { break };
            connection = punch.send(this).err();
        }
        let (Some(connection), Some(listener)) = (connection, &self.listener) else {
            return;
        };
        let place = self.place();
        // A peer that comes again has a place: its earlier connection is let go.
        if place.is_none() && !self.connections.has_come(&peer) {
            tracing::debug!("no place is left for a newcomer");
            let (code, why) = FULL;
            connection.close(code, why);
            return;
        }
        self.connections.add(peer, connection.clone(), Begun::There);
        let from = connection.remote_address();
        let local = listener.told.first().copied();
        self.events.push_back(TransportEvent::Incoming {
            listener_id: listener.id,
            local_addr: multiaddr(local.unwrap_or_else(|| SocketAddr::from(([0; 4], 0)))),
            send_back_addr: multiaddr(from),
            upgrade: ready(Ok((peer, Muxer::new(connection, place)))),
        });
    }

    fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// The listening half of a hole punch.
    fn punch(
        &self,
        to: SocketAddr,
        peer: PeerId,
    ) -> BoxFuture<'static, io::Result<(PeerId, Muxer)>> {
        let (found, connection) = oneshot::channel();
        let mut waiting = self.punches.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, of_peer| {
            of_peer.retain(|punch| !punch.is_closed());
            !of_peer.is_empty()
        });
        waiting.entry(peer).or_default().push(found);
        drop(waiting);
        let (ground, connections) = (Arc::clone(&self.ground), self.connections.clone());
        async move {
            let knocking = async {
                let mut pace = interval(KNOCK_EVERY);
                loop {
                    pace.tick().await;
                    ground.knock(to);
                }
            };
            tokio::select! {
                connection = connection => {
                    let connection = connection.map_err(io::Error::other)?;
                    connections.add(peer, connection.clone(), Begun::Here);
                    Ok((peer, Muxer::new(connection, None)))
                }
                never = knocking => never,
                () = tokio::time::sleep(PUNCH_LIMIT) => Err(io::ErrorKind::TimedOut.into()),
            }
        }
        .boxed()
    }
}

impl Transport for Shared {
    type Output = (PeerId, Muxer);
    type Error = io::Error;
    type ListenerUpgrade = Upgrade;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        if socket_addr(&address).is_none() {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        if self.listener.is_some() {
            let why = io::Error::other("the shared socket is one listener");
            return Err(TransportError::Other(why));
        }
        self.listener = Some(Listener {
            id,
            told: Vec::new(),
        });
        self.reread_addresses();
        self.reread.reset_immediately();
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let ours = self
            .listener
            .as_ref()
            .is_some_and(|listener| listener.id == id);
        if ours {
            self.listener = None;
            self.events.push_back(TransportEvent::ListenerClosed {
                listener_id: id,
                reason: Ok(()),
            });
        }
        ours
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let named = socket_addr(&address)
            .and_then(|(to, peer)| Some((to, peer?)))
            .and_then(|(to, peer)| Some((to, peer, node_id(&peer)?)));
        let Some((to, peer, node)) = named else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        if options.role == Endpoint::Listener {
            return Ok(self.punch(to, peer));
        }
        let port = match options.port_use {
            PortUse::Reuse => Port::Shared,
            PortUse::New => Port::Fresh,
        };
        let dialing = self.ground.dial(to, node, port);
        let connections = self.connections.clone();
        Ok(async move {
            let connection = dialing.await?;
            if port == Port::Shared {
                connections.add(peer, connection.clone(), Begun::Here);
            }
            Ok((peer, Muxer::new(connection, None)))
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Upgrade, io::Error>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            if self.listener.is_none() {
                // Nobody listens: what comes waits in its bounded line.
                return Poll::Pending;
            }
            if self.reread.poll_tick(cx).is_ready() {
                self.reread_addresses();
                continue;
            }
            match self.incoming.poll_recv(cx) {
                Poll::Ready(Some(connection)) => self.admit(connection),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}
