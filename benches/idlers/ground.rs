//! A swarm's ground: one loopback address, one socket, one endpoint. It refuses ports of the moment: an idle node tests nobody.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use wayfare_identity::{NodeId, NodeKey};
use wayfare_nat::{Ground, Port};
use wayfare_transport::{
    Clock, QuicEndpoint, QuicIdentity, SharedSocket, SocketOptions, TunnelReceiver, node_key_in,
    peer_node_key, quic_endpoint,
};

#[derive(Debug)]
pub(crate) struct Nook {
    socket: SharedSocket,
    endpoint: QuicEndpoint,
    called: Arc<rustls::ServerConfig>,
    calling: Arc<rustls::ClientConfig>,
    // Tunnel messages for an idle node are counted and dropped.
    _receiver: TunnelReceiver,
}

impl Nook {
    /// The receiver gets what others dial.
    pub(crate) fn open(
        at: Ipv4Addr,
        key: &NodeKey,
    ) -> anyhow::Result<(Self, mpsc::Receiver<quinn::Connection>)> {
        let (socket, receiver) = SharedSocket::bind((at, 0).into(), SocketOptions::default())?;
        let identity = QuicIdentity::from_ed25519_seed(*key.seed())?;
        let endpoint = quic_endpoint(&socket, &identity)?;
        let incoming = endpoint.swarm_connections();
        let nook = Self {
            called: identity.called()?,
            calling: identity.calling()?,
            socket,
            endpoint,
            _receiver: receiver,
        };
        Ok((nook, incoming.ok_or_else(|| anyhow::anyhow!("taken"))?))
    }
}

impl Ground for Nook {
    fn now(&self) -> Instant {
        Clock::now()
    }

    fn dial(
        &self,
        to: SocketAddr,
        node: NodeId,
        _: Port,
    ) -> BoxFuture<'static, io::Result<quinn::Connection>> {
        let endpoint = self.endpoint.clone();
        async move {
            let dialed = endpoint.dial_swarm(to, node.0).await;
            dialed.map_err(io::Error::other)
        }
        .boxed()
    }

    fn node_of(&self, connection: &quinn::Connection) -> Option<NodeId> {
        peer_node_key(connection).map(NodeId)
    }

    fn knock(&self, to: SocketAddr) {
        let _ = self.socket.try_send(to, &[0; 8]);
    }

    fn vouches(&self, _: [u8; 8], _: SocketAddr) -> bool {
        // An idle peer is nobody's relay.
        false
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.socket.local_addr()]
    }

    fn called(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.called)
    }

    fn calling(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(&self.calling)
    }

    fn certified(&self, certificate: &rustls::pki_types::CertificateDer<'_>) -> Option<NodeId> {
        node_key_in(certificate).map(NodeId)
    }
}
