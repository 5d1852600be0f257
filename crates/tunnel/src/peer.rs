//! One peer: its configuration, keys, queue and counters.
//! It refuses to send: it holds state that the endpoint moves.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use snow::HandshakeState;
use zeroize::Zeroizing;

use crate::config::PeerConfig;
use crate::cookie::{CookieJar, MacKeys};
use crate::handshake::Psk;
use crate::key::PublicKey;
use crate::keypair::{Keypair, Role};
use crate::timers::{PeerTimers, REKEY_TIMEOUT, elapsed};
use crate::timestamp::Timestamp;

pub(crate) struct Peer {
    pub(crate) public_key: PublicKey,
    pub(crate) psk: Psk,
    pub(crate) allowed_ips: Vec<IpNet>,
    pub(crate) address: Option<SocketAddr>,
    /// Whoever drives the endpoint chose the address; packets from elsewhere do not move the peer.
    pub(crate) pinned: bool,
    pub(crate) persistent: Option<Duration>,
    pub(crate) macs: MacKeys,
    pub(crate) cookies: CookieJar,
    pub(crate) pairs: Keypairs,
    /// Our initiation that has no response yet.
    pub(crate) pending: Option<Box<Pending>>,
    pub(crate) last_sent: Option<Timestamp>,
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) last_initiation: Option<Instant>,
    pub(crate) jitter: Duration,
    pub(crate) queue: VecDeque<Vec<u8>>,
    pub(crate) timers: PeerTimers,
    pub(crate) stats: PeerStats,
}

/// An initiation in flight.
pub(crate) struct Pending {
    pub(crate) state: HandshakeState,
    pub(crate) index: u32,
    pub(crate) to: SocketAddr,
    pub(crate) sent: Instant,
    /// When the first of this row of attempts was made.
    pub(crate) since: Instant,
}

/// At most three: the one in use, the one before it (packets still under way), and the responder's unconfirmed one.
#[derive(Default)]
pub(crate) struct Keypairs {
    pub(crate) previous: Option<Box<Keypair>>,
    pub(crate) current: Option<Box<Keypair>>,
    pub(crate) next: Option<Box<Keypair>>,
}

/// What a peer exchanged with us, counted in inner packets: no padding, no keepalives, no handshakes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Packets opened and accepted.
    pub rx_packets: u64,
    /// Their bytes, IP headers included.
    pub rx_bytes: u64,
    /// Packets sealed.
    pub tx_packets: u64,
    /// Their bytes, IP headers included.
    pub tx_bytes: u64,
    /// When the last handshake was completed.
    pub last_handshake: Option<Instant>,
    /// Where the peer is now, as far as authenticated packets or the caller said.
    pub endpoint: Option<SocketAddr>,
}

impl Peer {
    pub(crate) fn new(config: PeerConfig) -> Self {
        Self {
            public_key: config.public_key,
            psk: Zeroizing::new(config.preshared_key.unwrap_or_default()),
            allowed_ips: config.allowed_ips,
            address: config.endpoint,
            pinned: false,
            persistent: config.keepalive.filter(|interval| !interval.is_zero()),
            macs: MacKeys::of(&config.public_key),
            cookies: CookieJar::default(),
            pairs: Keypairs::default(),
            pending: None,
            last_sent: None,
            last_seen: None,
            last_initiation: None,
            jitter: Duration::ZERO,
            queue: VecDeque::new(),
            timers: PeerTimers::default(),
            stats: PeerStats::default(),
        }
    }

    /// Every receiver index that leads to this peer.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> {
        let pairs = [&self.pairs.previous, &self.pairs.current, &self.pairs.next];
        pairs
            .into_iter()
            .filter_map(|pair| pair.as_ref().map(|pair| pair.local_index))
            .chain(self.pending.as_ref().map(|pending| pending.index))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Forgets the queue and says how many bytes it held.
    pub(crate) fn clear_queue(&mut self) -> usize {
        self.queue.drain(..).map(|packet| packet.len()).sum()
    }

    /// Whether the keys in use are younger than the initiation in flight, which is then of no use.
    pub(crate) fn pending_is_overtaken(&self, now: Instant) -> bool {
        match (&self.pairs.current, &self.pending) {
            (Some(current), Some(pending)) => current.born >= pending.sent && current.is_alive(now),
            (Some(_) | None, Some(_) | None) => false,
        }
    }
}

/// Which of the three a received index belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Previous,
    Current,
    Next,
}

impl Keypairs {
    pub(crate) fn find(&mut self, index: u32) -> Option<(Place, &mut Keypair)> {
        [
            (Place::Current, &mut self.current),
            (Place::Next, &mut self.next),
            (Place::Previous, &mut self.previous),
        ]
        .into_iter()
        .filter_map(|(place, pair)| pair.as_deref_mut().map(|pair| (place, pair)))
        .find(|(_, pair)| pair.local_index == index)
    }

    /// Whether the other end has sent anything under the keys in use.
    pub(crate) fn current_was_heard(&self) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|pair| pair.was_heard())
    }

    /// The initiator's new keys: in use at once. Returns the pair that fell out.
    pub(crate) fn install(&mut self, pair: Box<Keypair>) -> Option<Box<Keypair>> {
        let old = self.current.replace(pair);
        std::mem::replace(&mut self.previous, old)
    }

    /// The responder's new keys were confirmed by their first use. Returns the pair that fell out.
    ///
    /// When both ends started at the same time, both have one pair as initiator and one as responder. If each took
    /// the confirmed one, each would end as responder of the pair in use and nobody would renew it. So the end with
    /// the smaller key keeps the pair it initiated (`prefer_ours`), and only listens on the other.
    pub(crate) fn confirm(&mut self, prefer_ours: bool) -> Option<Box<Keypair>> {
        let next = self.next.take()?;
        let crossed = self.current.as_ref().is_some_and(|ours| {
            ours.role == Role::Initiator && apart(ours.born, next.born) < REKEY_TIMEOUT
        });
        if crossed && prefer_ours {
            return self.previous.replace(next);
        }
        let old = self.current.replace(next);
        std::mem::replace(&mut self.previous, old)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn apart(a: Instant, b: Instant) -> Duration {
    elapsed(a, b).max(elapsed(b, a))
}
