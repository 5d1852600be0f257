//! What goes in and out of a finder: what it begins with, what it wants sent, what it tells.
//! It refuses to do anything.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::candidate::Tier;
use crate::description::Description;
use crate::outcome::Outcome;
use crate::probe::PROBE_LEN;
use crate::secret::{ProbeSecret, Role};

/// Which of our sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Socket {
    /// The one shared socket.
    Main,
    /// One of those opened for a birthday punch, counted from 0.
    Extra(u16),
}

/// What a finder begins with.
#[derive(Debug)]
pub struct Setup {
    /// Whether we made the offer. A callee's finder begins before its answer leaves.
    pub role: Role,
    /// The keys of this attempt's probes.
    pub secret: ProbeSecret,
    /// What we told the peer.
    pub ours: Description,
    /// What the peer told us, verified.
    pub theirs: Description,
    /// IPs at which a relay or an authenticated connection saw the peer.
    pub attested: Vec<IpAddr>,
    /// A path through a relay over UDP that works already; its address may be virtual.
    pub fallback: Option<SocketAddr>,
    /// Whether the budget of the node and of this peer allow a birthday punch now.
    pub birthday_allowed: bool,
    /// Sockets for it if we are the hard side: 256, or 128 behind a weak router. At most 512 are used.
    pub birthday_sockets: u16,
}

/// A datagram to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// From this socket.
    pub on: Socket,
    /// To this address, which is virtual for a path through a relay.
    pub to: SocketAddr,
    /// The payload.
    pub bytes: [u8; PROBE_LEN],
    /// With this TTL instead of the socket's own.
    pub ttl: Option<u8>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Use this path from now on.
    Selected {
        /// The peer's address, virtual for a path through a relay.
        path: SocketAddr,
        /// The socket it works on.
        on: Socket,
        /// What kind of path it is.
        tier: Tier,
        /// The round trip, if it was measured.
        rtt: Option<Duration>,
    },
    /// The path in use is dead. If there is another, `Selected` follows.
    Lost {
        /// The peer's address.
        path: SocketAddr,
    },
    /// Open so many sockets on random ports, then call [`crate::Finder::sockets_opened`].
    OpenSockets {
        /// How many.
        count: u16,
    },
    /// Close the extra sockets, but not the one in use.
    CloseSockets {
        /// The index of the socket in use.
        keep: Option<u16>,
    },
    /// The peer sees our main socket there: an observation, by the peer's address.
    SeenAs {
        /// The peer's address.
        by: SocketAddr,
        /// Ours.
        seen: SocketAddr,
    },
    /// How it ended, for now; its `Display` is a sentence for people.
    Settled(Outcome),
}
