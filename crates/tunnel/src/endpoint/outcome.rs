//! What goes in and out of an endpoint, as values: handles, results, reasons, events.
//! It refuses behaviour: every refusal of the protocol has a name here and is decided elsewhere.

use std::fmt;
use std::net::SocketAddr;

#[cfg(doc)]
use super::Endpoint;

/// A peer of one endpoint: a dense number, never used again while the endpoint lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub(super) u32);

impl PeerId {
    /// The number, for tables of the caller.
    #[must_use]
    pub fn index(self) -> u32 {
        self.0
    }

    #[cfg(test)]
    pub(crate) fn from_index(index: u32) -> Self {
        Self(index)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {}", self.0)
    }
}

/// What a datagram turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// An inner IP packet: decrypted in place, trimmed of padding, its source checked against the peer's allowed IPs.
    Packet {
        /// Who sent it.
        peer: PeerId,
        /// The packet, inside the datagram's buffer.
        packet: &'a [u8],
    },
    /// An authenticated empty packet.
    Keepalive {
        /// Who sent it.
        peer: PeerId,
    },
    /// A valid handshake message; answers, if any, are in [`Endpoint::poll_transmit`].
    Handshake {
        /// Whom it concerns.
        peer: PeerId,
    },
    /// Nothing to act on. Never an error of ours, and never answered (save by a cookie, which says so).
    Dropped(DropReason),
}

impl<'a> Received<'a> {
    /// The inner packet, if that is what it was.
    #[must_use]
    pub fn packet(self) -> Option<&'a [u8]> {
        match self {
            Self::Packet { packet, .. } => Some(packet),
            Self::Keepalive { .. } | Self::Handshake { .. } | Self::Dropped(_) => None,
        }
    }
}

/// What became of a packet to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// Sealed: send the first `len` bytes of the buffer.
    Datagram {
        /// For whom.
        peer: PeerId,
        /// Where to.
        to: SocketAddr,
        /// Bytes written.
        len: usize,
    },
    /// No usable keys yet: a handshake runs and the packet waits; it will come out of [`Endpoint::poll_transmit`].
    Queued {
        /// For whom.
        peer: PeerId,
    },
    /// The packet cannot be sent.
    Dropped(DropReason),
}

impl Sealed {
    /// Where the sealed packet goes, if it may leave now.
    #[must_use]
    pub fn destination(self) -> Option<SocketAddr> {
        match self {
            Self::Datagram { to, .. } => Some(to),
            Self::Queued { .. } | Self::Dropped(_) => None,
        }
    }
}

/// Why a datagram or packet went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Not the shape of any message.
    NotAMessage,
    /// MAC1 is wrong: the sender does not know our key.
    BadMac1,
    /// We are under load and the sender had no cookie; it was sent one.
    CookieDemanded,
    /// We are under load and this source sends too many handshakes.
    RateLimited,
    /// The receiver index is none of ours.
    UnknownIndex,
    /// No such peer: an unknown static key, or a handle that was removed.
    UnknownPeer,
    /// The handshake message does not decrypt.
    BadHandshake,
    /// The initiation is not newer than the last one of this peer.
    ReplayedHandshake,
    /// The cookie reply does not answer our last handshake message.
    BadCookie,
    /// The counter was seen before or is too old.
    Replayed,
    /// The packet does not decrypt.
    Forged,
    /// The keys are older than 180 s or used up.
    KeyExpired,
    /// The inner packet is not IP.
    NotIp,
    /// The inner source address is not this peer's.
    SpoofedSource,
    /// No peer owns the destination.
    NoRoute,
    /// The peer's address is not known.
    NoEndpoint,
    /// The buffer cannot hold packet, padding and [`crate::OVERHEAD`].
    BufferTooSmall,
    /// A queue or table of ours is full.
    Full,
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// For whom; `None` for a cookie reply, whose sender is not known yet.
    pub peer: Option<PeerId>,
    /// Where to.
    pub to: SocketAddr,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// Something that happened to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// There are keys now where there were none.
    Established {
        /// Whose.
        peer: PeerId,
    },
    /// Keys were replaced by fresh ones.
    Rekeyed {
        /// Whose.
        peer: PeerId,
    },
    /// Authenticated data arrived from another address; answers go there now.
    Roamed {
        /// Who moved.
        peer: PeerId,
        /// From where.
        from: SocketAddr,
        /// To where.
        to: SocketAddr,
    },
    /// All keys were erased, 540 s after the last handshake.
    Expired {
        /// Whose.
        peer: PeerId,
    },
    /// No answer to any initiation for 90 s; packets that waited were dropped.
    HandshakeFailed {
        /// Whose.
        peer: PeerId,
    },
}
