//! Probes: the small authenticated datagrams that prove a path.
//! They refuse to be of any other length than theirs, and a reply is never longer than what asked for it.
//!
//! ```text
//! 05 00 00 00 | kind 1 | tag 8 | transaction 8 | body 18 | MAC 16          55 bytes
//! ping body: flags 1 (1 use this path, 2 punch again) | round 1 | zeros 16
//! pong body: the address the ping came from: IPv6 (or IPv4 in IPv6) 16 | port 2
//! ```
//! Numbers are big-endian. The MAC is keyed BLAKE2s over everything before it, with a key for each direction. A
//! transaction is a counter: what was counted before is a replay.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use subtle::ConstantTimeEq;

use crate::candidate::canonical;
use crate::hash;
use crate::secret::{ProbeSecret, Role, Tag};

/// Bytes of a ping and of a pong.
pub const PROBE_LEN: usize = 55;

/// The first four bytes of every probe on the shared socket.
pub const PROBE_HEAD: [u8; 4] = [5, 0, 0, 0];

const MAC: usize = 16;
const BODY_AT: usize = 21;
const SIGNED: usize = PROBE_LEN - MAC;
const WISH: u8 = 1;
const AGAIN: u8 = 2;

/// What a probe is, by its fifth byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    /// "Are you there, and is it you?"
    Ping,
    /// "Yes, and I see you at …"
    Pong,
    /// "How do you see me?", by anybody.
    Observe,
    /// "At …"
    Observed,
}

impl ProbeKind {
    /// Whether a datagram is a probe, and of which kind. `None` also for a wrong length.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&PROBE_HEAD)?;
        let kind = match rest.first()? {
            1 => Self::Ping,
            2 => Self::Pong,
            3 => Self::Observe,
            4 => Self::Observed,
            _ => return None,
        };
        (bytes.len() == kind.length()).then_some(kind)
    }

    /// The one length that this kind has, in bytes.
    #[must_use]
    pub fn length(self) -> usize {
        match self {
            Self::Ping | Self::Pong => PROBE_LEN,
            Self::Observe => crate::observe::OBSERVE_LEN,
            Self::Observed => crate::observe::OBSERVED_LEN,
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ping => 1,
            Self::Pong => 2,
            Self::Observe => 3,
            Self::Observed => 4,
        }
    }
}

/// The tag of a ping or a pong: to which attempt's finder it goes. Not authenticated yet.
#[must_use]
pub fn tag_of(bytes: &[u8]) -> Option<Tag> {
    match ProbeKind::of(bytes)? {
        ProbeKind::Ping | ProbeKind::Pong => {
            let mut tag = [0; 8];
            tag.copy_from_slice(bytes.get(5..13)?);
            Some(Tag(tag))
        }
        ProbeKind::Observe | ProbeKind::Observed => None,
    }
}

/// A ping or a pong whose MAC held, or that is to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Asks for a pong.
    Ping {
        /// Counts the sender's pings.
        transaction: u64,
        /// The sender (a caller) has chosen this path.
        wish: bool,
        /// The sender begins to punch again and asks the other to do so too.
        again: bool,
        /// Which of the sender's rounds this belongs to.
        round: u8,
    },
    /// Answers one ping.
    Pong {
        /// That of the ping.
        transaction: u64,
        /// Where the ping came from.
        seen: SocketAddr,
    },
}

/// Why bytes are not a probe of this attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOurs {
    /// Not a ping or a pong by form.
    Malformed,
    /// Of another attempt.
    ForeignTag,
    /// Not made by the peer.
    Forged,
}

impl Probe {
    /// The bytes of this probe as `sender` makes them.
    #[must_use]
    pub fn seal(&self, secret: &ProbeSecret, sender: Role) -> [u8; PROBE_LEN] {
        let mut bytes = [0; PROBE_LEN];
        bytes[..4].copy_from_slice(&PROBE_HEAD);
        bytes[5..13].copy_from_slice(&secret.tag().0);
        match *self {
            Self::Ping {
                transaction,
                wish,
                again,
                round,
            } => {
                bytes[4] = ProbeKind::Ping.code();
                bytes[13..BODY_AT].copy_from_slice(&transaction.to_be_bytes());
                bytes[BODY_AT] = if wish { WISH } else { 0 } | if again { AGAIN } else { 0 };
                bytes[BODY_AT + 1] = round;
            }
            Self::Pong { transaction, seen } => {
                bytes[4] = ProbeKind::Pong.code();
                bytes[13..BODY_AT].copy_from_slice(&transaction.to_be_bytes());
                bytes[BODY_AT..SIGNED].copy_from_slice(&address_to_bytes(seen));
            }
        }
        let mac = hash::keyed_16(secret.key_of(sender), &bytes[..SIGNED]);
        bytes[SIGNED..].copy_from_slice(&mac);
        bytes
    }

    /// Reads what `sender` sealed. Flags and zeros of later versions are ignored.
    ///
    /// # Errors
    /// [`NotOurs`] says why it is none.
    pub fn open(bytes: &[u8], secret: &ProbeSecret, sender: Role) -> Result<Self, NotOurs> {
        let kind = ProbeKind::of(bytes).ok_or(NotOurs::Malformed)?;
        let tag = tag_of(bytes).ok_or(NotOurs::Malformed)?;
        if tag != secret.tag() {
            return Err(NotOurs::ForeignTag);
        }
        let mac = hash::keyed_16(secret.key_of(sender), &bytes[..SIGNED]);
        if !bool::from(mac.ct_eq(&bytes[SIGNED..])) {
            return Err(NotOurs::Forged);
        }
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[13..BODY_AT]);
        let transaction = u64::from_be_bytes(word);
        match kind {
            ProbeKind::Ping => Ok(Self::Ping {
                transaction,
                wish: bytes[BODY_AT] & WISH != 0,
                again: bytes[BODY_AT] & AGAIN != 0,
                round: bytes[BODY_AT + 1],
            }),
            ProbeKind::Pong => {
                let seen = address_from_bytes(&bytes[BODY_AT..SIGNED]);
                let seen = seen.ok_or(NotOurs::Malformed)?;
                Ok(Self::Pong { transaction, seen })
            }
            ProbeKind::Observe | ProbeKind::Observed => Err(NotOurs::Malformed),
        }
    }
}

/// 16 bytes of IPv6, or IPv4 in IPv6, and two of the port.
pub(crate) fn address_to_bytes(addr: SocketAddr) -> [u8; 18] {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..].copy_from_slice(&addr.port().to_be_bytes());
    bytes
}

pub(crate) fn address_from_bytes(bytes: &[u8]) -> Option<SocketAddr> {
    let ip: [u8; 16] = bytes.get(..16)?.try_into().ok()?;
    let port: [u8; 2] = bytes.get(16..18)?.try_into().ok()?;
    let addr = SocketAddr::new(Ipv6Addr::from(ip).into(), u16::from_be_bytes(port));
    Some(canonical(addr))
}
