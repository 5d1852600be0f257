//! The relay's protocol: open a channel to a node, ring it, pass a word along. A request and its reply are each one message on
//! one stream. It refuses messages beyond its bounds, and knows nothing of what offers say.
//!
//! The caller chooses the channel's number, so that it can hear the callee on it before the relay's reply is there, and sends its
//! first datagrams for the callee along: they are rung with, as a part of the call, so nothing reaches a node that it has not taken.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use wayfare_identity::NodeId;

use crate::message::MessageCodec;

/// The longest offer, answer or word that a relay passes on, bytes.
pub const MAX_WORD: usize = 2_048;
/// The most that a call's first datagrams are, bytes: three of the least size that every path carries.
pub const MAX_FIRST: usize = 3 * 1_280;
/// Of a call's first datagrams.
const MOST_FIRST: usize = 3;
/// A word, first datagrams, and what is around them.
pub(crate) const MAX_REQUEST: usize = MAX_WORD + MAX_FIRST + 256;
/// A word and what is around it.
pub(crate) const MAX_REPLY: usize = MAX_WORD + 256;

pub(crate) const PROTOCOL: &str = "/wayfare/relay/1";

/// Where a relay sees a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// Where the node's connection comes from.
    pub at: SocketAddr,
    /// An address of the other family at which the node has shown to the relay that it receives.
    pub also: Option<SocketAddr>,
}

impl Sight {
    /// The addresses' IPs: what a peer may be told to send to.
    #[must_use]
    pub fn ips(&self) -> Vec<IpAddr> {
        [Some(self.at), self.also]
            .into_iter()
            .flatten()
            .map(|at| at.ip())
            .collect()
    }
}

/// Another address of ours, with what a relay sent there to be shown again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// Where the relay saw us.
    pub at: SocketAddr,
    /// What it gave us for that.
    pub cookie: [u8; 8],
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Of a relay: a channel of this number to this node.
    Open {
        to: NodeId,
        channel: u32,
        also: Option<Elsewhere>,
        offer: Vec<u8>,
        /// For the node, if it takes the call: what would else be the channel's first frames, without their heads.
        first: Vec<Vec<u8>>,
    },
    /// By a relay: this node wants a channel to you.
    Ring {
        from: NodeId,
        channel: u32,
        /// Where the relay sees it.
        seen: Sight,
        offer: Vec<u8>,
        first: Vec<Vec<u8>>,
    },
    /// Of a relay: tell this to the other end. By a relay: the other end tells you this.
    Pass {
        channel: u32,
        /// Where the relay sees the other end; of no meaning towards the relay.
        seen: Option<Sight>,
        word: Vec<u8>,
    },
    /// Of a relay: the channel is not needed any more. By a relay: it is closed.
    Close { channel: u32 },
    /// Of a relay: we are there, too.
    Also(Elsewhere),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The channel is open.
    Opened {
        /// Where the relay sees the other end.
        seen: Sight,
        answer: Vec<u8>,
    },
    /// To a ring.
    Answered { answer: Vec<u8> },
    /// Passed on, or closed.
    Done,
    /// No, and why, for people; at most 256 bytes are kept.
    Refused { why: String },
    /// The number is somebody's: another one is to be chosen.
    Taken,
}

/// Whether a call may bring these along.
pub(crate) fn is_flight(first: &[Vec<u8>]) -> bool {
    let bytes: usize = first.iter().map(Vec::len).sum();
    first.len() <= MOST_FIRST && bytes <= MAX_FIRST && !first.iter().any(Vec::is_empty)
}

/// How both are written and read.
pub(crate) type CallCodec = MessageCodec<Request, Reply>;

pub(crate) const fn codec() -> CallCodec {
    MessageCodec::new(MAX_REQUEST, MAX_REPLY)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::message::parse;

    #[test]
    fn messages_come_back_and_anything_else_is_refused() {
        let request = Request::Ring {
            from: NodeId([7; 32]),
            channel: 9,
            seen: Sight {
                at: "[2001:db8::1]:5".parse().unwrap(),
                also: Some("192.0.2.1:5".parse().unwrap()),
            },
            offer: vec![1; MAX_WORD],
            first: vec![vec![0xc0; MAX_FIRST / MOST_FIRST]; MOST_FIRST],
        };
        let bytes = postcard::to_stdvec(&request).unwrap();
        assert_eq!(parse::<Request>(&bytes, MAX_REQUEST).unwrap(), request);
        let longer = [&bytes[..], &[0]].concat();
        assert!(parse::<Request>(&longer, MAX_REQUEST).is_err());
        assert!(parse::<Request>(&bytes[..bytes.len() - 1], MAX_REQUEST).is_err());
        assert!(parse::<Request>(&vec![0; MAX_REQUEST + 1], MAX_REQUEST).is_err());
        for first in 0..=255u8 {
            for length in 0..64 {
                let _ = parse::<Request>(&vec![first; length], MAX_REQUEST);
                let _ = parse::<Reply>(&vec![first; length], MAX_REPLY);
            }
        }
    }

    #[test]
    fn a_call_brings_along_one_flight_and_no_more() {
        let check = |lengths: &[usize], expect| {
            let first: Vec<Vec<u8>> = lengths.iter().map(|length| vec![1; *length]).collect();
            assert_eq!(is_flight(&first), expect, "{lengths:?}");
        };
        check(&[], true);
        check(&[1_200, 1_200], true);
        check(&[MAX_FIRST], true);
        check(&[MAX_FIRST, 1], false);
        check(&[1_200, 0], false);
        check(&[1; MOST_FIRST], true);
        check(&[1; MOST_FIRST + 1], false);
    }
}
