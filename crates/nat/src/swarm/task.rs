//! The task that owns the swarm: commands in, events out. It refuses to decide what an offer is worth.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p_core::ConnectedPoint;
use libp2p_core::multiaddr::Protocol;
use libp2p_core::transport::{ListenerId, PortUse};
use libp2p_identity::{Keypair, PeerId};
use libp2p_request_response::{self as request_response, OutboundFailure, OutboundRequestId};
use libp2p_swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p_swarm::{ConnectionId, SwarmEvent as Libp2pEvent};
use quinn::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use wayfare_identity::{NodeAddress, NodeId};

use super::behaviour::{Behaviour, BehaviourEvent, assemble};
use super::service::Service;
use super::{Call, CallError, Command, Opened, SwarmConfig, SwarmError, SwarmEvent};
use crate::Ground;
use crate::address::{is_carried, multiaddr, node_id, peer_id, socket_addr};
use crate::calls::{Reply, Request};
use crate::connections::Connections;
use crate::dht::{self, Dht, Net};
use crate::relay::RelayBoard;

/// How often relays are looked after.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// How exactly the distributed table's searches keep their time.
const SEARCH_STEP: Duration = Duration::from_millis(100);
/// A lost relay is dialed again after 1, 2, 4 … and at most so many seconds.
const MOST_BACK_OFF: Duration = Duration::from_secs(30);
/// Relays that we stay connected to.
const MOST_RELAYS: usize = 8;
/// Addresses of one relay.
const MOST_ADDRESSES: usize = 4;
/// Calls of ours that wait for an answer.
const MOST_CALLS: usize = 64;

/// Connections that others may make to a node that is no relay: those of the table's nodes, and tests of our addresses.
const PLACES: usize = 1_024;
/// A connection of ours from a port of the moment tests whether a peer can be reached: a round trip or two. Nobody else closes it,
/// and it has a socket of its own.
const TEST_LIMIT: Duration = Duration::from_secs(5);
/// A connection that lasted so long was no refusal.
const LASTING: Duration = Duration::from_secs(10);

/// A relay that is to ring us.
#[derive(Debug)]
struct Relay {
    address: NodeAddress,
    /// Where it may be reached besides, in another address family perhaps.
    others: Vec<SocketAddr>,
    connected: bool,
    since: Instant,
    /// The circuit reservation, for the swarm's own hole punching.
    reservation: Option<ListenerId>,
    failures: u32,
    dial_at: Instant,
}

/// A call of ours.
#[derive(Debug)]
struct Pending {
    relay: NodeAddress,
    channel: u32,
    /// Who waits for a connection to the relay.
    begun: Option<oneshot::Sender<SocketAddr>>,
    opened: oneshot::Sender<Result<Opened, CallError>>,
}

pub(super) struct Driver {
    swarm: libp2p_swarm::Swarm<Behaviour>,
    ground: Arc<dyn Ground>,
    service: Service,
    connections: Connections,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<SwarmEvent>,
    relays: BTreeMap<PeerId, Relay>,
    calls: HashMap<OutboundRequestId, Pending>,
    /// Channels that are being closed, and who waits for that.
    closing: HashMap<OutboundRequestId, oneshot::Sender<()>>,
    /// Connections that a relay's circuit carries.
    carried: HashSet<ConnectionId>,
    /// Connections that test others, the oldest first.
    tests: VecDeque<(ConnectionId, Instant)>,
    /// The one direct connection that each peer keeps to us.
    inbound: HashMap<PeerId, ConnectionId>,
    dht: Option<Dht>,
}

impl Driver {
    pub(super) fn new(
        config: SwarmConfig,
        board: Option<Arc<RelayBoard>>,
        ground: Arc<dyn Ground>,
        incoming: mpsc::Receiver<Connection>,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<SwarmEvent>,
    ) -> Result<Self, SwarmError> {
        let keypair = Keypair::ed25519_from_bytes(*config.key.seed())?;
        let connections = Connections::default();
        let serves = board.is_some();
        let table = config.dht.as_ref().map(|dht| dht.serves);
        let places = config.relay.map_or(PLACES, |limits| limits.peers);
        let mut swarm = assemble(
            &keypair,
            &ground,
            incoming,
            (connections.clone(), places),
            serves,
            table,
        );
        let us = *swarm.local_peer_id();
        let now = ground.now();
        let of_swarm = connections.clone();
        let dht = config.dht.map(|dht| Dht::new(dht, us, of_swarm, now));
        // The socket listens already; this tells the swarm where. Nothing is dialed before.
        let anywhere = multiaddr(SocketAddr::from(([0, 0, 0, 0], 1)));
        let listened = swarm.listen_on(anywhere);
        listened.map_err(|error| SwarmError::Setup(error.to_string()))?;
        if serves {
            for at in ground.addresses() {
                swarm.add_external_address(multiaddr(at));
            }
        }
        Ok(Self {
            swarm,
            service: Service::new(board, connections.clone(), Arc::clone(&ground)),
            ground,
            connections,
            commands,
            events,
            relays: BTreeMap::new(),
            calls: HashMap::new(),
            closing: HashMap::new(),
            carried: HashSet::new(),
            tests: VecDeque::new(),
            inbound: HashMap::new(),
            dht,
        })
    }

    pub(super) async fn run(mut self) {
        let mut look_after = interval(LOOK_AFTER);
        look_after.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut search = interval(SEARCH_STEP);
        search.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.carry_out(command),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.handle(event),
                answered = self.service.answered() => {
                    let (channel, reply) = answered;
                    let _ = self.swarm.behaviour_mut().calls.send_response(channel, reply);
                }
                _ = look_after.tick() => {
                    self.service.refresh(self.ground.now());
                    self.dial_relays();
                    self.end_tests();
                    let unused = self.with_dht(Dht::look_after).unwrap_or_default();
                    for connection in unused {
                        self.swarm.close_connection(connection);
                    }
                }
                _ = search.tick(), if self.dht.as_ref().is_some_and(Dht::is_busy) => {
                    self.with_dht(Dht::step_all);
                }
            }
        }
    }

    /// Lets the distributed table do something; nothing where this node takes no part.
    fn with_dht<T>(&mut self, act: impl FnOnce(&mut Dht, &mut Net<'_>) -> T) -> Option<T> {
        let now = self.ground.now();
        let Behaviour { kad, words, .. } = self.swarm.behaviour_mut();
        let (Some(dht), Some(kad), Some(words)) = (&mut self.dht, kad.as_mut(), words.as_mut())
        else {
            return None;
        };
        Some(act(dht, &mut Net { kad, words, now }))
    }

    /// A connection to this peer is not only for questions of the table.
    fn want(&mut self, node: NodeId) {
        if let (Some(dht), Some(peer)) = (&mut self.dht, peer_id(node)) {
            dht.let_go(&peer);
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Dht(command) => {
                self.with_dht(|dht, net| dht.carry_out(command, net));
            }
            Command::Attach(address) => self.attach(address),
            Command::Detach(node) => self.detach(node),
            Command::Also { relay, also } => {
                // It is shown again in time.
                self.request(relay, Request::Also(also));
            }
            Command::Dial(node) => self.dial(node),
            Command::Call {
                relay,
                call,
                opened,
            } => self.call(relay, call, opened),
            Command::Say {
                relay,
                channel,
                word,
            } => {
                let word = Request::Pass {
                    channel,
                    seen: None,
                    word,
                };
                // Nothing hangs on the reply.
                self.request(relay, word);
            }
            Command::HangUp {
                relay,
                channel,
                done,
            } => {
                let asked = self.request(relay, Request::Close { channel });
                if let (Some(id), Some(done)) = (asked, done) {
                    self.closing.insert(id, done);
                }
            }
            Command::Circuit { relay, to } => self.dial_circuit(relay, to),
        }
    }

    fn call(
        &mut self,
        relay: NodeAddress,
        call: Call,
        opened: oneshot::Sender<Result<Opened, CallError>>,
    ) {
        self.want(relay.node);
        let Some(peer) = peer_id(relay.node).filter(|_| self.calls.len() < MOST_CALLS) else {
            let cause = "too many calls wait, or its key is none".to_owned();
            let _ = opened.send(Err(CallError::Relay { relay, cause }));
            return;
        };
        let Call {
            to,
            channel,
            also,
            offer,
            first,
            begun,
        } = call;
        let request = Request::Open {
            to,
            channel,
            also,
            offer,
            first,
        };
        let calls = &mut self.swarm.behaviour_mut().calls;
        let at = vec![multiaddr(relay.at)];
        let id = calls.send_request_with_addresses(&peer, request, at);
        let pending = Pending {
            relay,
            channel,
            begun,
            opened,
        };
        self.calls.insert(id, pending);
        self.tell_begun(peer);
    }

    /// Tells those who call through this relay where it is, if it is connected.
    fn tell_begun(&mut self, peer: PeerId) {
        let (Some(at), Some(node)) = (self.connections.address(&peer), node_id(&peer)) else {
            return;
        };
        let through = |pending: &&mut Pending| pending.relay.node == node;
        for begun in self.calls.values_mut().filter(through) {
            if let Some(begun) = begun.begun.take() {
                let _ = begun.send(at);
            }
        }
    }

    /// Asks a connected relay.
    fn request(&mut self, relay: NodeId, request: Request) -> Option<OutboundRequestId> {
        let peer = peer_id(relay)?;
        let calls = &mut self.swarm.behaviour_mut().calls;
        Some(calls.send_request(&peer, request))
    }

    fn attach(&mut self, address: NodeAddress) {
        self.want(address.node);
        let Some(peer) = peer_id(address.node) else {
            tracing::warn!(relay = %address, "this relay's node key is none");
            return;
        };
        if self.relays.len() >= MOST_RELAYS && !self.relays.contains_key(&peer) {
            tracing::warn!(relay = %address, most = MOST_RELAYS, "too many relays; this one is left out");
            return;
        }
        let connected = self.swarm.is_connected(&peer);
        if let Some(known) = self
            .relays
            .get_mut(&peer)
            .filter(|r| r.address.at != address.at)
        {
            if !is_carried(address.at) && !is_carried(known.address.at) {
                if known.others.len() < MOST_ADDRESSES && !known.others.contains(&address.at) {
                    known.others.push(address.at);
                }
                return;
            }
            // It is reached in another way from now on: what was made in the old one goes, and the new one is dialed then.
            known.address = address;
            known.dial_at = self.ground.now();
            known.failures = 0;
            let _ = self.swarm.disconnect_peer_id(peer);
            self.dial_relays();
            return;
        }
        let now = self.ground.now();
        let relay = Relay {
            address,
            others: Vec::new(),
            connected,
            since: now,
            reservation: None,
            failures: 0,
            dial_at: now,
        };
        self.relays.insert(peer, relay);
        if connected {
            self.tell(SwarmEvent::Attached(address));
            self.reserve(peer);
        }
        self.dial_relays();
    }

    fn detach(&mut self, node: NodeId) {
        let gone = peer_id(node).and_then(|peer| self.relays.remove(&peer));
        if let Some(reservation) = gone.and_then(|relay| relay.reservation) {
            self.swarm.remove_listener(reservation);
        }
    }

    fn dial_relays(&mut self) {
        let now = self.ground.now();
        for (peer, relay) in &mut self.relays {
            if relay.connected || now < relay.dial_at {
                continue;
            }
            let doubled = LOOK_AFTER * (1 << relay.failures.min(5));
            relay.dial_at = now + doubled.min(MOST_BACK_OFF);
            relay.failures += 1;
            let others = match is_carried(relay.address.at) {
                true => [].iter(),
                false => relay.others.iter(),
            };
            let at = std::iter::once(&relay.address.at).chain(others);
            dial(&mut self.swarm, *peer, at.copied());
        }
    }

    fn dial(&mut self, node: NodeAddress) {
        self.want(node.node);
        if let Some(peer) = peer_id(node.node) {
            dial(&mut self.swarm, peer, std::iter::once(node.at));
        }
    }

    /// Lets the relay carry circuits to us, on which the swarm's own hole punching begins.
    fn reserve(&mut self, peer: PeerId) {
        let Some(relay) = self.relays.get_mut(&peer) else {
            return;
        };
        let through = multiaddr(relay.address.at)
            .with(Protocol::P2p(peer))
            .with(Protocol::P2pCircuit);
        match self.swarm.listen_on(through) {
            Ok(reservation) => relay.reservation = Some(reservation),
            Err(error) => tracing::debug!(%error, "no circuit is reserved at a relay"),
        }
    }

    fn dial_circuit(&mut self, relay: NodeAddress, to: NodeId) {
        let (Some(carrier), Some(peer)) = (peer_id(relay.node), peer_id(to)) else {
            return;
        };
        self.want(relay.node);
        self.want(to);
        let through = multiaddr(relay.at)
            .with(Protocol::P2p(carrier))
            .with(Protocol::P2pCircuit)
            .with(Protocol::P2p(peer));
        if let Err(error) = self.swarm.dial(through) {
            tracing::debug!(%error, "no circuit is dialed");
        }
    }

    fn handle(&mut self, event: Libp2pEvent<BehaviourEvent>) {
        match event {
            Libp2pEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                num_established,
                ..
            } => {
                if endpoint.is_relayed() {
                    self.carried.insert(connection_id);
                    return;
                }
                if let ConnectedPoint::Dialer {
                    port_use: PortUse::New,
                    ..
                } = endpoint
                {
                    self.tests.push_back((connection_id, self.ground.now()));
                    return;
                }
                if endpoint.is_listener() {
                    self.replace_inbound(peer_id, connection_id);
                } else if num_established.get() == 1
                    && let Some(dht) = &mut self.dht
                {
                    dht.connected(peer_id, connection_id, self.ground.now());
                }
                self.tell_begun(peer_id);
                self.connected(peer_id);
            }
            Libp2pEvent::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                ..
            } => {
                self.carried.remove(&connection_id);
                if self.inbound.get(&peer_id) == Some(&connection_id) {
                    self.inbound.remove(&peer_id);
                }
                if num_established == 0 {
                    if let Some(dht) = &mut self.dht {
                        dht.let_go(&peer_id);
                    }
                    self.disconnected(peer_id);
                }
            }
            Libp2pEvent::ListenerClosed { listener_id, .. } => {
                let of = |relay: &&mut Relay| relay.reservation == Some(listener_id);
                if let Some(relay) = self.relays.values_mut().find(of) {
                    relay.reservation = None;
                }
            }
            Libp2pEvent::Behaviour(event) => self.handle_behaviour(event),
            Libp2pEvent::OutgoingConnectionError { peer_id, error, .. } => {
                tracing::debug!(?peer_id, %error, "a connection was not made");
            }
            other => tracing::trace!(?other, "swarm"),
        }
    }

    /// A peer that dials us again has given up what it had, perhaps without a word (a restart, a NAT that forgot): requests to it
    /// must not go there.
    fn replace_inbound(&mut self, peer: PeerId, newest: ConnectionId) {
        if let Some(older) = self.inbound.insert(peer, newest) {
            self.swarm.close_connection(older);
        }
    }

    fn end_tests(&mut self) {
        let now = self.ground.now();
        let over = |(_, since): &mut (_, Instant)| now >= *since + TEST_LIMIT;
        while let Some((connection, _)) = self.tests.pop_front_if(over) {
            self.swarm.close_connection(connection);
        }
    }

    fn connected(&mut self, peer: PeerId) {
        let now = self.ground.now();
        let Some(relay) = self.relays.get_mut(&peer) else {
            return;
        };
        if !relay.connected {
            relay.connected = true;
            relay.since = now;
            let address = relay.address;
            self.tell(SwarmEvent::Attached(address));
            self.reserve(peer);
        }
    }

    fn disconnected(&mut self, peer: PeerId) {
        let now = self.ground.now();
        if let Some(relay) = self.relays.get_mut(&peer) {
            relay.connected = false;
            if now.saturating_duration_since(relay.since) >= LASTING {
                relay.failures = 0;
                relay.dial_at = now;
            }
            // Else it took us and let us go at once: it is left in peace for as long as if it had not answered.
            let address = relay.address;
            if let Some(why) = self.connections.refusal(&peer) {
                tracing::info!(relay = %address, why, "a relay turns us away");
            }
            if let Some(reservation) = relay.reservation.take() {
                self.swarm.remove_listener(reservation);
            }
            self.tell(SwarmEvent::Detached(address));
            self.dial_relays();
        }
    }

    fn handle_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Calls(event) => self.handle_call(event),
            BehaviourEvent::Words(event) => {
                self.with_dht(|dht, net| dht.handle(event, net));
            }
            BehaviourEvent::Identify(libp2p_identify::Event::Received {
                connection_id,
                peer_id,
                info,
            }) => {
                // Over a circuit the other end sees the relay, not us.
                let direct = !self.carried.contains(&connection_id);
                if direct && dht::is_serving(&info.protocols) {
                    self.with_dht(|dht, net| dht.serves(peer_id, net));
                }
                // Nor over a pipe.
                let real = |(us, _): &(SocketAddr, _)| direct && !is_carried(*us);
                let seen = socket_addr(&info.observed_addr).filter(real);
                let by = self.connections.address(&peer_id);
                if let (Some((us, _)), Some(by)) = (seen, by) {
                    self.swarm.behaviour_mut().candidates.add(multiaddr(us));
                    self.tell(SwarmEvent::Seen { by, us });
                }
            }
            BehaviourEvent::Dcutr(libp2p_dcutr::Event {
                remote_peer_id,
                result: Ok(_),
            }) => {
                let at = self.connections.address(&remote_peer_id);
                if let (Some(node), Some(at)) = (node_id(&remote_peer_id), at) {
                    self.tell(SwarmEvent::Punched { node, at });
                }
            }
            other => tracing::trace!(?other, "swarm behaviour"),
        }
    }

    fn handle_call(&mut self, event: request_response::Event<Request, Reply>) {
        use request_response::{Event, Message};
        match event {
            Event::Message { peer, message, .. } => match message {
                Message::Request {
                    request, channel, ..
                } => self.asked(peer, request, channel),
                Message::Response {
                    request_id,
                    response,
                } => self.replied(request_id, Ok(response)),
            },
            Event::OutboundFailure {
                request_id, error, ..
            } => self.replied(request_id, Err(error)),
            Event::InboundFailure { error, .. } => {
                tracing::debug!(%error, "a caller did not wait for its reply");
            }
            Event::ResponseSent { .. } => {}
        }
    }

    fn asked(
        &mut self,
        peer: PeerId,
        request: Request,
        channel: request_response::ResponseChannel<Reply>,
    ) {
        // Where it is now: frames come from there.
        let of_relay = self.relays.get(&peer).map(|relay| NodeAddress {
            at: self.connections.address(&peer).unwrap_or(relay.address.at),
            ..relay.address
        });
        let calls = &mut self.swarm.behaviour_mut().calls;
        let now = self.ground.now();
        let done = self
            .service
            .asked(peer, of_relay, request, channel, calls, now);
        if let Some(event) = done {
            self.tell(event);
        }
    }

    fn replied(&mut self, id: OutboundRequestId, reply: Result<Reply, OutboundFailure>) {
        if let Some(done) = self.closing.remove(&id) {
            // Whoever hung up may have gone meanwhile.
            let _ = done.send(());
            return;
        }
        let Some(pending) = self.calls.remove(&id) else {
            let calls = &mut self.swarm.behaviour_mut().calls;
            self.service.replied(id, reply, calls);
            return;
        };
        let relay = pending.relay;
        let cause = |cause: &str| CallError::Relay {
            relay,
            cause: cause.to_owned(),
        };
        let outcome = match reply {
            Ok(Reply::Opened { seen, answer }) => {
                let at = peer_id(relay.node).and_then(|peer| self.connections.address(&peer));
                at.map(|at| Opened {
                    channel: pending.channel,
                    relay: at,
                    seen,
                    answer,
                })
                .ok_or_else(|| cause("it went away"))
            }
            Ok(Reply::Refused { why }) => Err(CallError::Refused { relay, why }),
            Ok(Reply::Taken) => Err(CallError::Taken { relay }),
            Ok(Reply::Answered { .. } | Reply::Done) => Err(cause("it answers something else")),
            Err(error) => {
                let turned_away = peer_id(relay.node).and_then(|it| self.connections.refusal(&it));
                Err(cause(&turned_away.unwrap_or_else(|| error.to_string())))
            }
        };
        let _ = pending.opened.send(outcome);
    }

    /// An owner that does not drain its events misses some; what it misses comes again or is given up by the other end.
    fn tell(&self, event: SwarmEvent) {
        if let Err(error) = self.events.try_send(event) {
            tracing::debug!(%error, "an event of the swarm is lost");
        }
    }
}

/// Dials a peer that is not connected and not being dialed; at an address that something else carries whatever was tried before,
/// for that address was opened because nothing else works.
fn dial(
    swarm: &mut libp2p_swarm::Swarm<Behaviour>,
    peer: PeerId,
    at: impl Iterator<Item = SocketAddr>,
) {
    let at: Vec<SocketAddr> = at.collect();
    let condition = match at.iter().copied().any(is_carried) {
        true => PeerCondition::Always,
        false => PeerCondition::DisconnectedAndNotDialing,
    };
    let options = DialOpts::peer_id(peer)
        .condition(condition)
        .addresses(at.into_iter().map(multiaddr).collect())
        .build();
    if let Err(error) = swarm.dial(options) {
        tracing::debug!(%error, "a node is not dialed now");
    }
}
