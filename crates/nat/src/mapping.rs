//! Port mapping: the home's router is asked to forward our socket's port, so that anybody can reach us.
//!
//! PCP (RFC 6887), NAT-PMP (RFC 6886) and UPnP-IGD are asked for at once, and the first that grants a public address wins. The
//! mapping is renewed at half of its life, asked for anew when the router has forgotten it or we have moved, and given back at
//! the end. It refuses mappings that nobody could use (a router behind another one), and whatever was not said by our gateway.

mod announcements;
mod answers;
mod ask;
mod epoch;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzzed;
mod gateway;
mod nat_pmp;
mod pcp;
mod speaker;
mod task;
mod undo;
mod upnp;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use self::answers::RouterAnswers;
use self::epoch::Epoch;
use self::task::Task;

/// What is asked for: long enough to survive a night of sleep with a renewal, short enough to go if we cannot give it back.
const LIFETIME: Duration = Duration::from_secs(2 * 3_600);
/// What [`Mapper::stop`] waits for at most: a router's 500 ms, and a moment.
const STOP: Duration = Duration::from_millis(700);

/// What is to be mapped, and how.
#[derive(Debug, Clone)]
pub struct MapperConfig {
    /// The local UDP port, which is also the one that is wished for outside.
    pub port: u16,
    /// Tells our mapping from others'. Who comes back with the same port and key should have the same: a router refuses
    /// anybody else while the mapping lives.
    pub nonce: [u8; 12],
    /// How long a mapping is asked for; it is renewed at half of what is granted. Two hours by default.
    pub lifetime: Duration,
    /// Firewall mark of our packets, where a kill switch stands.
    pub mark: Option<u32>,
    /// What the router is asked in: everything by default.
    pub protocols: Vec<Protocol>,
}

impl MapperConfig {
    /// As it should be for a port.
    #[must_use]
    pub fn new(port: u16, nonce: [u8; 12]) -> Self {
        Self {
            port,
            nonce,
            lifetime: LIFETIME,
            mark: None,
            protocols: Protocol::ALL.to_vec(),
        }
    }
}

/// The languages of routers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Port Control Protocol, RFC 6887.
    Pcp,
    /// NAT Port Mapping Protocol, RFC 6886.
    NatPmp,
    /// Universal Plug and Play, Internet Gateway Device.
    Upnp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pcp, Self::NatPmp, Self::Upnp];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        })
    }
}

/// Why a router does not forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody answers.
    #[error("no answer")]
    Silent,
    /// It speaks another protocol on this port.
    #[error("it speaks another version")]
    OtherVersion,
    /// It said no.
    #[error("refused: {0}")]
    Refused(String),
    /// Another NAT stands behind it, as with carrier-grade NAT: what it forwards cannot be reached from the internet.
    #[error("the router's own address {0} is not public: another NAT stands behind it")]
    NotPublic(Ipv4Addr),
}

/// Why a datagram is not an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Junk {
    Length,
    NotAReply,
    OtherVersion(u8),
}

/// A mapping as a router grants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Granted {
    external: SocketAddrV4,
    lifetime: Duration,
    epoch: Option<Epoch>,
}

/// What keeps a port mapped. Dropping it gives the mapping back too, on a thread, which blocks for half a second at most.
#[derive(Debug)]
pub struct Mapper {
    stop: Option<oneshot::Sender<()>>,
    moved: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Mapper {
    /// Begins to ask. `on_change` is told the public address that leads to the port, and `None` when there is no more.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    #[must_use]
    pub fn start(config: MapperConfig, on_change: watch::Sender<Option<SocketAddr>>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let moved = Arc::new(Notify::new());
        let task = Task::new(config, on_change, Arc::clone(&moved));
        Self {
            stop: Some(stop),
            moved,
            task: tokio::spawn(task.run(stopped)),
        }
    }

    /// Says that addresses have changed: looked at now rather than within seconds.
    pub fn network_changed(&self) {
        self.moved.notify_one();
    }

    /// Gives the mapping back and ends, within 700 ms.
    pub async fn stop(mut self) {
        // Dropping it is the signal.
        drop(self.stop.take());
        if timeout(STOP, &mut self.task).await.is_err() {
            tracing::debug!("the router was slow to take the mapping back");
        }
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        // What the task holds is given back as it is dropped.
        self.task.abort();
    }
}
