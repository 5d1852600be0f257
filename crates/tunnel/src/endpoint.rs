//! The endpoint: one static key, many peers, every message of the protocol.
//! It refuses sockets, clocks and chance of its own: datagrams, `now` and a seed come in, datagrams and events go out.
//!
//! Driving it: feed every datagram to [`Endpoint::handle_datagram`] and every outgoing packet to [`Endpoint::seal`];
//! after either, and after [`Endpoint::handle_timeout`], drain [`Endpoint::poll_transmit`] **before** sealing more
//! (packets that waited for a handshake leave there, in order) and [`Endpoint::poll_event`]; then sleep until
//! [`Endpoint::poll_timeout`].

mod call;
mod outcome;
mod receive;
mod send;
mod timeout;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::{Instant, SystemTime};

use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::allowed_ips::AllowedIps;
use crate::chance::Chance;
use crate::config::{AddPeerError, EndpointConfig, PeerConfig};
use crate::cookie::CookieMint;
use crate::handshake::{self, Local};
use crate::key::{PublicKey, StaticSecret};
use crate::limiter::{Load, SourceLimiter};
use crate::peer::{Peer, PeerStats};
use crate::timers::{Agenda, Deadline};
use crate::timestamp::WallClock;

pub use call::Call;
pub use outcome::{DropReason, Event, PeerId, Received, Sealed, Transmit};

/// One local static key and its peers. A consumer has one peer, a provider thousands.
pub struct Endpoint {
    local: Local,
    config: EndpointConfig,
    chance: Chance,
    clock: WallClock,
    peers: HashMap<PeerId, Box<Peer>, BuildHasherDefault<Identity>>,
    by_key: BTreeMap<PublicKey, PeerId>,
    /// Receiver index → peer. Indices are ours and random, so they need no further hashing.
    indices: HashMap<u32, PeerId, BuildHasherDefault<Identity>>,
    next_peer: u32,
    routes: AllowedIps,
    agenda: Agenda,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    queued_bytes: usize,
    mint: CookieMint,
    load: Load,
    limiter: SourceLimiter,
}

impl Endpoint {
    /// An endpoint without peers. `wall` is the time of day at `now`; `seed` must be uniformly random, secret and never
    /// used twice: ephemeral keys follow from it.
    #[must_use]
    pub fn new(
        secret: StaticSecret,
        seed: [u8; 32],
        now: Instant,
        wall: SystemTime,
        config: EndpointConfig,
    ) -> Self {
        Self {
            local: Local::new(secret),
            chance: Chance::new(seed),
            clock: WallClock::new(wall, now),
            peers: HashMap::default(),
            by_key: BTreeMap::new(),
            indices: HashMap::default(),
            next_peer: 0,
            routes: AllowedIps::default(),
            agenda: Agenda::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            queued_bytes: 0,
            mint: CookieMint::default(),
            load: Load::new(config.handshakes_per_second),
            limiter: SourceLimiter::new(config.max_sources),
            config,
        }
    }

    /// Our public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.local.public
    }

    /// Adds a peer. No handshake is started.
    ///
    /// # Errors
    /// [`AddPeerError`]; nothing is changed then.
    pub fn add_peer(&mut self, peer: PeerConfig) -> Result<PeerId, AddPeerError> {
        if peer.public_key == self.local.public {
            return Err(AddPeerError::OwnKey);
        }
        if let Some(present) = self.by_key.get(&peer.public_key) {
            return Err(AddPeerError::DuplicateKey(*present));
        }
        if self.peers.len() >= self.config.max_peers || self.next_peer == u32::MAX {
            return Err(AddPeerError::TooManyPeers(self.config.max_peers));
        }
        let id = PeerId(self.next_peer);
        self.claim(id, &peer.allowed_ips)?;
        self.next_peer += 1;
        self.by_key.insert(peer.public_key, id);
        self.peers.insert(id, Box::new(Peer::new(peer)));
        Ok(id)
    }

    /// Removes a peer with its keys, prefixes and queue. Returns whether it existed.
    pub fn remove_peer(&mut self, id: PeerId) -> bool {
        let Some(mut peer) = self.peers.remove(&id) else {
            return false;
        };
        self.agenda.remove(id, &mut peer.timers);
        self.by_key.remove(&peer.public_key);
        for index in peer.indices() {
            self.indices.remove(&index);
        }
        for prefix in &peer.allowed_ips {
            self.routes.remove(*prefix);
        }
        self.queued_bytes -= peer.clear_queue();
        self.transmits.retain(|transmit| transmit.peer != Some(id));
        true
    }

    /// Replaces a peer's prefixes.
    ///
    /// # Errors
    /// [`AddPeerError`] if another peer owns one of them; the old ones stay then.
    pub fn set_allowed_ips(
        &mut self,
        id: PeerId,
        allowed_ips: Vec<IpNet>,
    ) -> Result<(), AddPeerError> {
        let peer = self.peers.get_mut(&id).ok_or(AddPeerError::UnknownPeer)?;
        let old = std::mem::take(&mut peer.allowed_ips);
        for prefix in &old {
            self.routes.remove(*prefix);
        }
        let claimed = self.claim(id, &allowed_ips);
        let kept = if claimed.is_ok() { allowed_ips } else { old };
        if claimed.is_err() {
            self.claim(id, &kept).expect("they were ours a moment ago");
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.allowed_ips = kept;
        }
        claimed
    }

    /// Sets or removes the preshared key. Handshakes from now on use it, one in flight included; keys in use stay until
    /// the next handshake ([`Self::initiate`] forces one).
    pub fn set_preshared_key(&mut self, id: PeerId, preshared_key: Option<[u8; 32]>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.psk = Zeroizing::new(preshared_key.unwrap_or_default());
        if let Some(pending) = &mut peer.pending {
            handshake::change_psk(&mut pending.state, &peer.psk);
        }
    }

    /// Sets where a peer is: a path was found or changed.
    pub fn set_endpoint(&mut self, id: PeerId, to: SocketAddr) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.address = Some(to);
        }
    }

    /// Sends a peer an empty packet now, so that it knows where we are; begins a handshake if there are no keys for one.
    pub fn greet(&mut self, id: PeerId, now: Instant) {
        self.send_keepalive(id, now);
    }

    /// Sets where packets for a peer go from now on, and lets it know by an empty packet, so that it answers along the same
    /// path. The peer is opened from wherever it sends, but no longer followed: for the side that chooses among several paths,
    /// on which packets of the peer are under way while it changes them. A handshake in flight begins anew on the new path.
    pub fn pin_endpoint(&mut self, id: PeerId, to: SocketAddr, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let moved = peer.address != Some(to);
        peer.address = Some(to);
        peer.pinned = true;
        if !moved {
            return;
        }
        if peer.pairs.current.is_some() {
            self.send_keepalive(id, now);
        }
        if self
            .peers
            .get(&id)
            .is_some_and(|peer| peer.pending.is_some())
        {
            self.initiate(id, now);
        }
    }

    /// What a peer exchanged with us.
    #[must_use]
    pub fn peer_stats(&self, id: PeerId) -> Option<PeerStats> {
        self.peers.get(&id).map(|peer| PeerStats {
            endpoint: peer.address,
            ..peer.stats
        })
    }

    /// The peer with this static key.
    #[must_use]
    pub fn peer_with_key(&self, key: &PublicKey) -> Option<PeerId> {
        self.by_key.get(key).copied()
    }

    /// The peer that owns an inner address.
    #[must_use]
    pub fn peer_for(&self, address: IpAddr) -> Option<PeerId> {
        self.routes.owner_of(address)
    }

    /// How many peers there are.
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`]. Never too late; sometimes there is nothing to do yet.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.agenda.first()
    }

    /// Whether handshakes currently need a cookie.
    #[must_use]
    pub fn is_under_load(&self, now: Instant) -> bool {
        self.load.is_loaded(now)
    }

    /// `true` demands cookies whatever the measured load; `false` returns to measuring.
    pub fn set_under_load(&mut self, forced: bool) {
        self.load.forced = forced;
    }

    /// Gives prefixes to a peer, all or none.
    fn claim(&mut self, id: PeerId, prefixes: &[IpNet]) -> Result<(), AddPeerError> {
        if prefixes.len() > self.config.max_allowed_ips {
            return Err(AddPeerError::TooManyAllowedIps(self.config.max_allowed_ips));
        }
        for (done, prefix) in prefixes.iter().enumerate() {
            if let Err(owner) = self.routes.insert(*prefix, id) {
                for prefix in &prefixes[..done] {
                    self.routes.remove(*prefix);
                }
                return Err(AddPeerError::AllowedIpTaken {
                    prefix: *prefix,
                    owner,
                });
            }
        }
        Ok(())
    }

    /// A receiver index of our lane that nobody can guess and nobody has. Taken for `peer` at once.
    fn take_index(&mut self, peer: PeerId) -> Option<u32> {
        // At most 4 × 65,536 of 2^26 indices (of one lane in 64) are taken: 16 draws all taken has a chance of 2^-128.
        for _ in 0..16 {
            let index = self.config.lane.index(&self.chance.draw());
            if let std::collections::hash_map::Entry::Vacant(entry) = self.indices.entry(index) {
                entry.insert(peer);
                return Some(index);
            }
        }
        None
    }

    fn transmit(&mut self, transmit: Transmit) -> bool {
        let fits = self.transmits.len() < self.config.max_transmits;
        if fits {
            self.transmits.push_back(transmit);
        }
        fits
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() >= self.config.max_events {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("public_key", &self.local.public)
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}

/// Hashes one `u32` of ours to itself, spread over the upper bits that hash tables also look at.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte) ^ (self.0 as u32).rotate_left(8));
        }
    }

    fn write_u32(&mut self, value: u32) {
        // Odd multiplier 2^64 / golden ratio: a bijection that fills the top bits from any input bit.
        self.0 = u64::from(value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
impl Endpoint {
    /// Moves the counter of the keys in use, which a test cannot send 2^64 packets to do.
    pub(crate) fn force_next_counter(&mut self, id: PeerId, counter: u64) {
        let pair = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.pairs.current.as_mut());
        pair.expect("the test established keys").next_counter = counter;
    }

    /// How much is held in every table and queue that a stranger might try to fill.
    pub(crate) fn footprint(&self) -> Footprint {
        Footprint {
            peers: self.peers.len(),
            indices: self.indices.len(),
            sources: self.limiter.len(),
            deadlines: self.agenda.len(),
            transmits: self.transmits.len(),
            events: self.events.len(),
            queued_bytes: self.queued_bytes,
        }
    }
}

/// See [`Endpoint::footprint`].
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) peers: usize,
    pub(crate) indices: usize,
    pub(crate) sources: usize,
    pub(crate) deadlines: usize,
    pub(crate) transmits: usize,
    pub(crate) events: usize,
    pub(crate) queued_bytes: usize,
}
