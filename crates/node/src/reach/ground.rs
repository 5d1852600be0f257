//! The swarm's ground: our QUIC endpoint and our socket, as `nat` asks for them. It refuses to decide whom to dial.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use wayfare_host::interface_addresses;
use wayfare_identity::NodeId;
use wayfare_nat::{Ground, Port};
use wayfare_path::Cookies;
use wayfare_transport::{
    Clock, QuicEndpoint, QuicIdentity, SharedSocket, SocketOptions, canonical, node_key_in,
    peer_node_key, quic_endpoint,
};

/// Means nothing to anybody: it opens a way, and whoever gets it drops it as junk.
const KNOCK: [u8; 8] = [0; 8];

/// Sockets of the moment, one for each test of whether a peer can be reached: 64 of half a mebibyte. More are not made; whoever is
/// to be tested asks again.
const TESTS: usize = 64;

#[derive(Debug)]
pub(super) struct SharedGround {
    socket: SharedSocket,
    endpoint: QuicEndpoint,
    identity: QuicIdentity,
    called: Arc<rustls::ServerConfig>,
    calling: Arc<rustls::ClientConfig>,
    tests: Arc<Semaphore>,
    cookies: Arc<Cookies>,
}

impl SharedGround {
    pub(super) fn new(
        socket: SharedSocket,
        endpoint: QuicEndpoint,
        identity: QuicIdentity,
        cookies: Arc<Cookies>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            called: identity.called()?,
            calling: identity.calling()?,
            tests: Arc::new(Semaphore::new(TESTS)),
            cookies,
            socket,
            endpoint,
            identity,
        })
    }
}

impl Ground for SharedGround {
    fn now(&self) -> Instant {
        Clock::now()
    }

    fn dial(
        &self,
        to: SocketAddr,
        node: NodeId,
        port: Port,
    ) -> BoxFuture<'static, io::Result<quinn::Connection>> {
        let shared = self.endpoint.clone();
        let identity = self.identity.clone();
        let tests = Arc::clone(&self.tests);
        async move {
            if port == Port::Shared {
                let dialed = shared.dial_swarm(to, node.0).await;
                return dialed.map_err(io::Error::other);
            }
            let place = tests.try_acquire_owned().map_err(io::Error::other)?;
            let dialed = fresh(to, &identity)?.dial_swarm(to, node.0).await;
            let connection = dialed.map_err(io::Error::other)?;
            // The socket lives as long as the connection.
            let open = connection.clone();
            tokio::spawn(async move {
                open.closed().await;
                drop(place);
            });
            Ok(connection)
        }
        .boxed()
    }

    fn node_of(&self, connection: &quinn::Connection) -> Option<NodeId> {
        peer_node_key(connection).map(NodeId)
    }

    fn knock(&self, to: SocketAddr) {
        if let Err(error) = self.socket.try_send(to, &KNOCK) {
            tracing::trace!(%error, "a knock was not sent");
        }
    }

    fn vouches(&self, cookie: [u8; 8], of: SocketAddr) -> bool {
        self.cookies.know(cookie, of, Clock::now())
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        local_addresses(self.socket.local_addr())
    }

    fn called(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.called)
    }

    fn calling(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(&self.calling)
    }

    fn certified(&self, certificate: &CertificateDer<'_>) -> Option<NodeId> {
        node_key_in(certificate).map(NodeId)
    }
}

/// An endpoint on a port that nobody has seen; it lives as long as its connection.
fn fresh(to: SocketAddr, identity: &QuicIdentity) -> io::Result<QuicEndpoint> {
    let any: SocketAddr = match canonical(to) {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let bound = SharedSocket::bind(any, SocketOptions::default());
    let (socket, _) = bound.map_err(io::Error::other)?;
    quic_endpoint(&socket, identity).map_err(io::Error::other)
}

/// Where a socket bound to `local` can be reached on this computer's own networks.
pub(crate) fn local_addresses(local: SocketAddr) -> Vec<SocketAddr> {
    let local = canonical(local);
    if !local.ip().is_unspecified() {
        return vec![local];
    }
    let ips = match interface_addresses() {
        Ok(ips) => ips,
        Err(error) => {
            tracing::debug!(%error, "this computer's addresses cannot be read");
            Vec::new()
        }
    };
    // An unspecified IPv6 address is dual stack here.
    let reached = ips.into_iter().filter(|ip| ip.is_ipv4() || local.is_ipv6());
    reached
        .map(|ip| SocketAddr::new(ip, local.port()))
        .collect()
}
