//! What can go wrong with the endpoint and with a dial, in words that name the guilty.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::{ConnectError, ConnectionError};

/// A QUIC endpoint or identity could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuicError {
    /// Two endpoints would steal each other's packets.
    #[error("this socket already carries a QUIC endpoint; use that one")]
    AlreadyOnThisSocket,
    /// TLS refused key, certificate or configuration.
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The certificate could not be made from the node key.
    #[error("no certificate could be made from the node key: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The socket refused.
    #[error("the shared socket could not be used for QUIC: {0}")]
    Socket(#[source] io::Error),
}

/// A dial failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Somebody answered, but not the node that was asked for.
    #[error(
        "the node at {addr} is not the one that was dialed: expected key {}, it has {}; its address may have passed to another node, ask for a fresh proposal",
        Hex(.expected), Hex(.presented)
    )]
    WrongNode {
        /// The address dialed.
        addr: SocketAddr,
        /// The ed25519 key asked for.
        expected: [u8; 32],
        /// The ed25519 key shown.
        presented: [u8; 32],
    },
    /// Somebody answered without an ed25519 certificate.
    #[error("the server at {addr} is not a node: its certificate has no ed25519 key")]
    NotANode {
        /// The address dialed.
        addr: SocketAddr,
    },
    /// Nobody answered.
    #[error("no answer from {addr} within {after:?}; it is down, or a firewall or NAT is between")]
    TimedOut {
        /// The address dialed.
        addr: SocketAddr,
        /// How long was waited.
        after: Duration,
    },
    /// The peer answered and said no, or broke the protocol.
    #[error("the node at {addr} did not complete the handshake: {source}")]
    Handshake {
        /// The address dialed.
        addr: SocketAddr,
        /// What QUIC reports.
        #[source]
        source: ConnectionError,
    },
    /// The address can have no node: port 0, or a family the socket does not speak.
    #[error("{addr} cannot be dialed from this socket: port 0, or IPv6 from an IPv4 socket")]
    BadAddress {
        /// The address dialed.
        addr: SocketAddr,
    },
    /// This computer cannot send there.
    #[error("there is no route to {addr}: this computer has no {} connection", if addr.is_ipv4() { "IPv4" } else { "IPv6" })]
    NoRoute {
        /// The address dialed.
        addr: SocketAddr,
    },
    /// Our own endpoint is closed or exhausted.
    #[error("the local QUIC endpoint cannot dial: {0}")]
    Endpoint(#[source] ConnectError),
    /// TLS refused our own configuration.
    #[error("TLS could not be set up: {0}")]
    Setup(#[source] rustls::Error),
}

impl DialError {
    pub(super) fn connect(addr: SocketAddr, cause: ConnectError) -> Self {
        match cause {
            ConnectError::InvalidRemoteAddress(_) => Self::BadAddress { addr },
            other => Self::Endpoint(other),
        }
    }

    /// `presented` is what the certificate check saw: nothing, a certificate without ed25519 key,
    /// or a key.
    pub(super) fn handshake(
        addr: SocketAddr,
        expected: [u8; 32],
        presented: Option<&Option<[u8; 32]>>,
        source: ConnectionError,
    ) -> Self {
        match (presented, source) {
            (Some(Some(key)), _) if *key != expected => Self::WrongNode {
                addr,
                expected,
                presented: *key,
            },
            (Some(None), _) => Self::NotANode { addr },
            (_, ConnectionError::TimedOut) => Self::TimedOut {
                addr,
                after: Duration::from_millis(u64::from(super::IDLE_MS)),
            },
            (_, source) => Self::Handshake { addr, source },
        }
    }
}

struct Hex<'a>(&'a [u8; 32]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
