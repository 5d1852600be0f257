//! A relay's board: which channels are open between whom, and where a frame goes. Frames are passed on as they came; nobody
//! here can read them.
//!
//! Admission is bounded three ways: channels altogether, channels of one peer, and bytes a second of a channel. It refuses to
//! send to an address that is not the one from which the peer's own authenticated connection comes.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use wayfare_identity::NodeId;

/// What a relay gives away. The worst case in memory is about 300 bytes for each channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Channels open at a time, of all peers.
    pub channels: usize,
    /// Channels that one peer may have opened.
    pub channels_of_peer: usize,
    /// Bytes a second of one channel, both directions together; a second's worth may come at once.
    pub bytes_per_second: u64,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            channels: 10_000,
            channels_of_peer: 64,
            bytes_per_second: 125_000_000,
        }
    }
}

/// Why a relay opens no channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelayRefusal {
    /// All its channels are taken.
    #[error("the relay has no channel left: try another one")]
    Full,
    /// This peer has as many as it may.
    #[error("too many channels of one node are open at this relay")]
    TooMany,
    /// The other node is not connected to this relay.
    #[error("the node is not connected to this relay")]
    Absent,
    /// Both ends would be the same.
    #[error("a node needs no relay to itself")]
    Oneself,
}

/// The open channels of a relay.
#[derive(Debug)]
pub struct RelayBoard {
    limits: RelayLimits,
    channels: RwLock<Channels>,
}

#[derive(Debug, Default)]
struct Channels {
    open: HashMap<u32, Channel>,
    opened_by: BTreeMap<NodeId, usize>,
}

/// One way between two peers.
#[derive(Debug)]
struct Channel {
    ends: [End; 2],
    passing: Mutex<Passing>,
}

#[derive(Debug, Clone, Copy)]
struct End {
    node: NodeId,
    at: SocketAddr,
}

/// What passes: a bucket of a second's worth, and totals.
#[derive(Debug)]
struct Passing {
    room: u64,
    filled: Instant,
    used: Instant,
    bytes: [u64; 2],
    refused: u64,
}

/// A channel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelUse {
    /// Its number.
    pub channel: u32,
    /// Who opened it, and the other.
    pub nodes: [NodeId; 2],
    /// Bytes from each of them.
    pub bytes: [u64; 2],
    /// Bytes that exceeded the rate.
    pub refused: u64,
}

impl RelayBoard {
    /// A board without channels.
    #[must_use]
    pub fn new(limits: RelayLimits) -> Self {
        Self {
            limits,
            channels: RwLock::default(),
        }
    }

    /// Opens a channel between two nodes, each where its connection comes from. `chance` picks its number.
    ///
    /// # Errors
    /// [`RelayRefusal`].
    pub(crate) fn open(
        &self,
        from: (NodeId, SocketAddr),
        to: (NodeId, SocketAddr),
        chance: u32,
        now: Instant,
    ) -> Result<u32, RelayRefusal> {
        if from.0 == to.0 {
            return Err(RelayRefusal::Oneself);
        }
        let mut channels = self
            .channels
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if channels.open.len() >= self.limits.channels {
            return Err(RelayRefusal::Full);
        }
        let opened = channels.opened_by.get(&from.0).copied().unwrap_or(0);
        if opened >= self.limits.channels_of_peer {
            return Err(RelayRefusal::TooMany);
        }
        // There are fewer channels than numbers by far: a free one is near.
        let number = (0..=u32::MAX)
            .map(|step| chance.wrapping_add(step))
            .find(|number| !channels.open.contains_key(number))
            .ok_or(RelayRefusal::Full)?;
        let end = |(node, at)| End { node, at };
        channels.open.insert(
            number,
            Channel {
                ends: [end(from), end(to)],
                passing: Mutex::new(Passing {
                    room: self.limits.bytes_per_second,
                    filled: now,
                    used: now,
                    bytes: [0; 2],
                    refused: 0,
                }),
            },
        );
        *channels.opened_by.entry(from.0).or_default() += 1;
        Ok(number)
    }

    /// Closes a channel if `node` is one of its ends; tells the other.
    pub(crate) fn close(&self, number: u32, node: NodeId) -> Option<NodeId> {
        let mut channels = self
            .channels
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let ends = channels.open.get(&number)?.ends;
        let other = other_end(&ends, node)?;
        channels.remove(number);
        Some(other)
    }

    /// The node at the other end of a channel.
    pub(crate) fn other(&self, number: u32, node: NodeId) -> Option<NodeId> {
        let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        other_end(&channels.open.get(&number)?.ends, node)
    }

    /// Where a frame that came from `from` goes, if its channel is open, `from` is one of its ends, and its rate allows it.
    pub fn forward(
        &self,
        from: SocketAddr,
        number: u32,
        bytes: usize,
        now: Instant,
    ) -> Option<SocketAddr> {
        let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        let channel = channels.open.get(&number)?;
        let side = channel.ends.iter().position(|end| end.at == from)?;
        let mut passing = channel
            .passing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        passing.used = now;
        if !passing.take(bytes as u64, self.limits.bytes_per_second, now) {
            passing.refused = passing.refused.saturating_add(bytes as u64);
            return None;
        }
        passing.bytes[side] = passing.bytes[side].saturating_add(bytes as u64);
        Some(channel.ends[1 - side].at)
    }

    /// Follows one peer at once: what it says is often said because it moved.
    pub(crate) fn follow(&self, node: NodeId, at: SocketAddr) {
        let mut channels = self
            .channels
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let ends = channels.open.values_mut().flat_map(|one| &mut one.ends);
        for end in ends.filter(|end| end.node == node) {
            end.at = at;
        }
    }

    /// Follows the peers to where they are now, and closes channels of those who left or said nothing for `patience`. `at`
    /// tells where a node is.
    pub(crate) fn refresh(
        &self,
        at: impl Fn(NodeId) -> Option<SocketAddr>,
        patience: Duration,
        now: Instant,
    ) {
        let mut channels = self
            .channels
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        for (number, channel) in &mut channels.open {
            let passing = channel
                .passing
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner);
            let mut over = now.saturating_duration_since(passing.used) > patience;
            for end in &mut channel.ends {
                match at(end.node) {
                    Some(at) => end.at = at,
                    None => over = true,
                }
            }
            if over {
                gone.push(*number);
            }
        }
        for number in gone {
            channels.remove(number);
        }
    }

    /// The open channels and what passed.
    #[must_use]
    pub fn used(&self) -> Vec<ChannelUse> {
        let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        let told = channels.open.iter().map(|(number, channel)| {
            let passing = channel
                .passing
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            ChannelUse {
                channel: *number,
                nodes: channel.ends.map(|end| end.node),
                bytes: passing.bytes,
                refused: passing.refused,
            }
        });
        told.collect()
    }
}

impl Channels {
    fn remove(&mut self, number: u32) {
        let Some(channel) = self.open.remove(&number) else {
            return;
        };
        let opener = channel.ends[0].node;
        if let Some(count) = self.opened_by.get_mut(&opener) {
            *count -= 1;
            if *count == 0 {
                self.opened_by.remove(&opener);
            }
        }
    }
}

impl Passing {
    fn take(&mut self, bytes: u64, rate: u64, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled);
        let grown = u128::from(rate) * since.as_nanos() / 1_000_000_000;
        if grown > 0 {
            self.room = rate.min(
                self.room
                    .saturating_add(grown.try_into().unwrap_or(u64::MAX)),
            );
            self.filled = now;
        }
        let fits = bytes <= self.room;
        if fits {
            self.room -= bytes;
        }
        fits
    }
}

fn other_end(ends: &[End; 2], node: NodeId) -> Option<NodeId> {
    match ends.map(|end| end.node) {
        [a, b] if a == node => Some(b),
        [a, b] if b == node => Some(a),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::*;

    const A: (NodeId, &str) = (NodeId([1; 32]), "1.0.0.1:1");
    const B: (NodeId, &str) = (NodeId([2; 32]), "1.0.0.2:2");

    fn end((node, at): (NodeId, &str)) -> (NodeId, SocketAddr) {
        (node, at.parse().unwrap())
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn frames_go_to_the_other_end_and_from_nobody_else() {
        let now = Instant::now();
        let board = RelayBoard::new(RelayLimits::default());
        let channel = board.open(end(A), end(B), 7, now).unwrap();
        assert_eq!(channel, 7);
        assert_eq!(board.forward(at(A.1), 7, 100, now), Some(at(B.1)));
        assert_eq!(board.forward(at(B.1), 7, 50, now), Some(at(A.1)));
        assert_eq!(board.forward(at("1.0.0.3:3"), 7, 50, now), None);
        assert_eq!(board.forward(at(A.1), 8, 50, now), None);
        assert_eq!(board.used()[0].bytes, [100, 50]);
        assert_eq!(board.other(7, B.0), Some(A.0));
        assert_eq!(board.close(7, NodeId([3; 32])), None);
        assert_eq!(board.close(7, B.0), Some(A.0));
        assert_eq!(board.forward(at(A.1), 7, 100, now), None);
    }

    #[test]
    fn what_a_peer_may_hold_is_bounded_and_given_back() {
        let now = Instant::now();
        let limits = RelayLimits {
            channels: 3,
            channels_of_peer: 2,
            ..RelayLimits::default()
        };
        let board = RelayBoard::new(limits);
        let open = |from, to| board.open(end(from), end(to), 7, now);
        assert_eq!(open(A, A), Err(RelayRefusal::Oneself));
        assert_eq!((open(A, B), open(A, B)), (Ok(7), Ok(8)));
        assert_eq!(open(A, B), Err(RelayRefusal::TooMany));
        assert_eq!(open(B, A), Ok(9));
        assert_eq!(open(B, A), Err(RelayRefusal::Full));
        assert_eq!(board.close(7, A.0), Some(B.0));
        assert_eq!(open(A, B), Ok(7));
    }

    #[test]
    fn a_channel_gets_its_rate_and_no_more() {
        let now = Instant::now();
        let limits = RelayLimits {
            bytes_per_second: 1_000,
            ..RelayLimits::default()
        };
        let board = RelayBoard::new(limits);
        board.open(end(A), end(B), 1, now).unwrap();
        let pass = |bytes, after| {
            board
                .forward(at(A.1), 1, bytes, now + Duration::from_millis(after))
                .is_some()
        };
        assert!(pass(1_000, 0) && !pass(1, 0));
        assert!(pass(500, 500) && !pass(1, 500));
        // It does not save up for more than a second.
        assert!(pass(1_000, 60_000) && !pass(1, 60_000));
        assert_eq!(board.used()[0].refused, 3);
    }

    #[test]
    fn channels_follow_their_peers_and_go_with_them() {
        let now = Instant::now();
        let board = RelayBoard::new(RelayLimits::default());
        board.open(end(A), end(B), 1, now).unwrap();
        let patience = Duration::from_secs(60);
        let moved = |node| Some(at(if node == A.0 { "9.9.9.9:9" } else { B.1 }));
        board.refresh(moved, patience, now);
        assert_eq!(board.forward(at("9.9.9.9:9"), 1, 1, now), Some(at(B.1)));
        assert_eq!(board.forward(at(A.1), 1, 1, now), None);
        board.refresh(moved, patience, now + patience);
        assert_eq!(board.used().len(), 1);
        board.refresh(|node| moved(node).filter(|_| node == A.0), patience, now);
        assert_eq!(board.used().len(), 0);
        board.open(end(A), end(B), 1, now).unwrap();
        board.refresh(moved, patience, now + patience + Duration::from_secs(1));
        assert_eq!(board.used().len(), 0);
    }
}
