//! Pairs: an address of the peer and the socket of ours that it is tried from.
//! They refuse to be more than 64, and to forget the path in use to make room for another.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Socket;
use crate::candidate::{CandidateKind, Tier};

/// Pairs of one finder: 24 listed, 24 heard, 8 fallbacks, 8 to spare. About 500 bytes each, so 32 KiB.
pub(super) const MAX_PAIRS: usize = 64;
/// Pairs that were only heard.
const MAX_HEARD: usize = 24;
/// Pings whose pong is waited for: a second of pings at their usual distance.
const MAX_IN_FLIGHT: usize = 16;
/// Datagrams to an address that a peer's authenticated probe came from, before it proves that it receives them.
const REPLIES_TO_STRANGER: u8 = 16;
/// A direct path that was quiet for longer is not chosen without asking.
const FRESH: Duration = Duration::from_secs(15);

/// Why a pair exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Listed(CandidateKind),
    /// An authenticated probe came from there.
    Heard,
    /// Given by our own driver.
    Fallback,
}

#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) remote: SocketAddr,
    pub(super) on: Socket,
    pub(super) tier: Tier,
    pub(super) origin: Origin,
    /// When the last authenticated probe came.
    pub(super) heard_at: Option<Instant>,
    /// A ping came back: both directions work.
    pub(super) proven: bool,
    /// Smoothed, 7/8 old and 1/8 new.
    pub(super) rtt: Option<Duration>,
    /// Heartbeats in a row that nobody answered.
    pub(super) misses: u8,
    pub(super) beat_at: Option<Instant>,
    pub(super) overdue_at: Option<Instant>,
    /// What may still be sent there; `None` is no limit.
    pub(super) replies_left: Option<u8>,
    /// Where the peer sees us on this pair.
    pub(super) seen: Option<SocketAddr>,
    in_flight: VecDeque<(u64, Instant)>,
}

impl Pair {
    pub(super) fn new(remote: SocketAddr, on: Socket, tier: Tier, origin: Origin) -> Self {
        Self {
            remote,
            on,
            tier,
            origin,
            heard_at: None,
            // The driver vouches for a fallback until heartbeats say otherwise.
            proven: origin == Origin::Fallback,
            rtt: None,
            misses: 0,
            beat_at: None,
            overdue_at: None,
            replies_left: None,
            seen: None,
            in_flight: VecDeque::new(),
        }
    }

    /// A pair for an address that nobody vouches for.
    pub(super) fn stranger(remote: SocketAddr, on: Socket) -> Self {
        Self {
            replies_left: Some(REPLIES_TO_STRANGER),
            ..Self::new(remote, on, Tier::of_direct(remote), Origin::Heard)
        }
    }

    pub(super) fn is_at(&self, remote: SocketAddr, on: Socket) -> bool {
        self.remote == remote && self.on == on
    }

    pub(super) fn is_fallback(&self) -> bool {
        self.origin == Origin::Fallback
    }

    /// Whether openers belong before its pings: over the internet, IPv4.
    pub(super) fn is_punched(&self) -> bool {
        self.tier == Tier::Direct
    }

    /// Whether it may be chosen.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        let fresh = |heard| now.saturating_duration_since(heard) <= FRESH;
        self.proven && (self.is_fallback() || self.heard_at.is_some_and(fresh))
    }

    /// Takes one datagram from what may be sent there.
    pub(super) fn spend(&mut self) -> bool {
        match &mut self.replies_left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    pub(super) fn pinged(&mut self, transaction: u64, now: Instant) {
        if self.in_flight.len() == MAX_IN_FLIGHT {
            self.in_flight.pop_front();
        }
        self.in_flight.push_back((transaction, now));
    }

    /// Whether this pong answers a ping of this pair; then the pair is proven.
    pub(super) fn ponged(&mut self, transaction: u64, now: Instant) -> bool {
        let asked = self.in_flight.iter().position(|(t, _)| *t == transaction);
        let Some((_, sent_at)) = asked.and_then(|at| self.in_flight.remove(at)) else {
            return false;
        };
        let sample = now.saturating_duration_since(sent_at);
        self.rtt = Some(match self.rtt {
            Some(rtt) => (rtt * 7 + sample) / 8,
            None => sample,
        });
        self.proven = true;
        self.replies_left = None;
        self.misses = 0;
        self.overdue_at = None;
        self.heard_at = Some(now);
        true
    }

    /// The network under it changed: nothing is known any more.
    pub(super) fn doubt(&mut self) {
        self.proven = self.is_fallback();
        self.rtt = None;
        self.heard_at = None;
        self.in_flight.clear();
    }
}

/// All pairs of a finder, in the order in which they are tried.
#[derive(Debug, Clone, Default)]
pub(super) struct Pairs {
    pub(super) all: Vec<Pair>,
}

impl Pairs {
    pub(super) fn find(&self, remote: SocketAddr, on: Socket) -> Option<usize> {
        self.all.iter().position(|pair| pair.is_at(remote, on))
    }

    /// Adds a pair, or says that there is no room.
    pub(super) fn add(&mut self, pair: Pair, keep: Option<(SocketAddr, Socket)>) -> Option<usize> {
        let heard = |pair: &Pair| pair.origin == Origin::Heard;
        let is_crowded = self.all.len() >= MAX_PAIRS
            || heard(&pair) && self.all.iter().filter(|pair| heard(pair)).count() >= MAX_HEARD;
        if is_crowded {
            // The first of the heard is the one heard of for the longest time.
            let oldest = self
                .all
                .iter()
                .position(|old| heard(old) && !old.proven && keep != Some((old.remote, old.on)))?;
            self.all.remove(oldest);
        }
        self.all.push(pair);
        Some(self.all.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::disallowed_methods,
        reason = "an `Instant` can only begin with the clock"
    )]
    use super::*;

    #[test]
    fn strangers_make_room_for_each_other_and_never_more() {
        let mut pairs = Pairs::default();
        for port in 1..=500 {
            let addr = SocketAddr::from(([9, 9, 9, 9], port));
            assert!(
                pairs
                    .add(Pair::stranger(addr, Socket::Main), None)
                    .is_some()
            );
        }
        assert_eq!(pairs.all.len(), MAX_HEARD);
        assert_eq!(pairs.all[0].remote.port(), 477);
    }

    #[test]
    fn a_stranger_is_sent_little_until_it_answers() {
        let now = Instant::now();
        let mut pair = Pair::stranger(SocketAddr::from(([9, 9, 9, 9], 9)), Socket::Main);
        let spent = (0..100).filter(|_| pair.spend()).count();
        assert_eq!(spent, usize::from(REPLIES_TO_STRANGER));
        pair.pinged(1, now);
        assert!(!pair.ponged(2, now));
        assert!(pair.ponged(1, now + Duration::from_millis(30)));
        assert!(pair.spend() && pair.is_usable(now) && !pair.ponged(1, now));
        assert_eq!(pair.rtt, Some(Duration::from_millis(30)));
        assert!(!pair.is_usable(now + FRESH * 2));
    }
}
