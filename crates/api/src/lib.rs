//! *The only crate that knows protobuf*: tonic services and clients for the Hermes, the proposal index, the session control between
//! consumer and provider, the toll of relays, and the local control socket.
//!
//! Refuses to hold state: services are traits in domain nouns which the houses implement, and a conversion either yields a noun
//! or names the field that is wrong. Everything is bounded: messages ([`MAX_MESSAGE`]), answers ([`DEADLINE`]), connections,
//! streams and header lists.
//!
//! | module | service | spoken between |
//! |---|---|---|
//! | [`hermes`] | `wayfare.hermes.v1.Hermes` | provider (and consumer) and a Hermes, over TCP |
//! | [`discovery`] | `wayfare.discovery.v1.Index` | anybody and a proposal index, over TCP |
//! | [`peer`] | `wayfare.peer.v1.Peer` | consumer and provider, over one stream that somebody else opened |
//! | [`relay`] | `wayfare.relay.v1.Relay` | consumer and relay, over one stream that somebody else opened |
//! | [`control`] | `wayfare.control.v1.Node` | command line and daemon, over a Unix socket |

mod dial;
mod error;
mod field;
#[cfg(test)]
mod hostile;
mod limits;
mod link;
mod money;
mod proto;
mod refusal;
mod serve;
mod wire;

pub mod control;
pub mod discovery;
pub mod hermes;
pub mod peer;
pub mod relay;

pub use error::{ApiError, Malformed, ServeError};
pub use limits::{CONNECT_DEADLINE, DEADLINE, DRAIN_GRACE, MAX_CONNECTIONS, MAX_MESSAGE};
pub use refusal::{Refusal, RefusalCode};
