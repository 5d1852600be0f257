//! Why there is no pipe, in words that name the guilty.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::quic::DialError;

/// A pipe could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipeError {
    /// The relay's UDP port does not answer QUIC, or is another node.
    #[error("no QUIC pipe: {0}")]
    Dial(#[from] DialError),
    /// The path carries QUIC's smallest packets, but nothing inside them.
    #[error("the path to {relay} carries {room} bytes in QUIC datagrams, too few to carry QUIC")]
    Narrow {
        /// The relay.
        relay: SocketAddr,
        /// What fits, bytes.
        room: usize,
    },
    /// The relay's TCP port does not answer.
    #[error("no TCP connection to {relay}: {source}")]
    Tcp {
        /// The relay.
        relay: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Who answers does not speak TLS as nodes do.
    #[error("the server at {relay} does not speak TLS as nodes do: {source}")]
    Tls {
        /// The relay.
        relay: SocketAddr,
        /// What the TLS library says.
        #[source]
        source: io::Error,
    },
    /// Somebody else answers.
    #[error("the server at {relay} is not the relay that was called, but another node")]
    WrongNode {
        /// The relay.
        relay: SocketAddr,
    },
    /// The relay speaks TLS but opens no WebSocket.
    #[error("the relay at {relay} opens no WebSocket: {cause}")]
    Upgrade {
        /// The relay.
        relay: SocketAddr,
        /// What it says.
        cause: String,
    },
    /// Nobody answered in time.
    #[error("no pipe to {relay} within {after:?}")]
    TimedOut {
        /// The relay.
        relay: SocketAddr,
        /// How long was waited.
        after: Duration,
    },
    /// TLS refused our own configuration.
    #[error("TLS could not be set up: {0}")]
    Setup(#[from] rustls::Error),
    /// Our own socket has no room for another path.
    #[error("the shared socket opens no more paths: {0}")]
    Socket(#[source] io::Error),
}
