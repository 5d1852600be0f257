//! `nat`: reachability.
//!
//! The process's one libp2p swarm, on connections of the one shared endpoint: relays are asked for channels to nodes that
//! cannot be dialed, nodes are rung through them, holes are punched. What comes out are addresses at which the shared socket
//! reaches a peer. It refuses to know proposals, promises and tunnels, and to open sockets.

mod address;
mod calls;
mod candidates;
mod circuit;
mod connections;
mod dht;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzzed;
mod ground;
mod mapping;
mod message;
mod muxer;
mod relay;
mod swarm;
mod transport;

pub use calls::{Elsewhere, MAX_FIRST, MAX_WORD, Sight};
pub use dht::{Admitted, DhtConfig, DhtError, MAX_VALUE, REPLICAS, Records, Topic};
pub use ground::{Ground, Port};
pub use mapping::{Mapper, MapperConfig, Protocol, Refusal, RouterAnswers};
pub use relay::{AccountUse, ChannelUse, FreeLimits, RelayBoard, RelayLimits, RelayRefusal};
pub use swarm::{Call, CallError, Opened, Ring, Swarm, SwarmConfig, SwarmError, SwarmEvent};
