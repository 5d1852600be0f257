//! What the swarm stands on: connections that somebody else's endpoint makes and authenticates. It refuses to know sockets;
//! whoever owns them implements this.

#[cfg(test)]
pub(crate) mod plain;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use rustls::pki_types::CertificateDer;
use wayfare_identity::NodeId;

/// From which port of ours a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The one that everything shares, so that what the connection opens on the way is open for everything.
    Shared,
    /// One that nobody knows yet: for a connection that tests whether a stranger could reach somebody.
    Fresh,
}

/// The endpoint below the swarm.
pub trait Ground: fmt::Debug + Send + Sync + 'static {
    /// The process's one clock.
    fn now(&self) -> Instant;

    /// Connects, and makes sure that the other end holds the key of `node`.
    fn dial(
        &self,
        to: SocketAddr,
        node: NodeId,
        port: Port,
    ) -> BoxFuture<'static, io::Result<quinn::Connection>>;

    /// Whose connection this is, as its handshake proved. `None`: it showed no key, and is not wanted.
    fn node_of(&self, connection: &quinn::Connection) -> Option<NodeId>;

    /// Sends one datagram that means nothing, from the shared port: it opens the way for what comes back.
    fn knock(&self, to: SocketAddr);

    /// Whether we gave this cookie, lately, to somebody who receives at that address.
    fn vouches(&self, cookie: [u8; 8], of: SocketAddr) -> bool;

    /// The addresses of this computer's interfaces, each with the shared port.
    fn addresses(&self) -> Vec<SocketAddr>;

    /// TLS for a stream that another node carries between us and a peer: what we show and demand when we are called. Both ends
    /// show certificates of their node keys.
    fn called(&self) -> Arc<rustls::ServerConfig>;

    /// As [`called`](Self::called), for the end that calls.
    fn calling(&self) -> Arc<rustls::ClientConfig>;

    /// The node key in a certificate that such a handshake has verified.
    fn certified(&self, certificate: &CertificateDer<'_>) -> Option<NodeId>;
}
