//! QUIC on the shared socket: TLS 1.3 between ed25519 node keys, and streams that gRPC can run on.
//!
//! A peer is its node key: the dialer names the key it wants and refuses every other; there are
//! no certificate authorities, no names, no session resumption and no 0-RTT. Who a node key
//! belongs to is for others to find out.
//!
//! Three protocols share the endpoint, told apart by ALPN: sessions, the swarm that nodes find each
//! other by, and pipes that carry the other two where nothing but QUIC passes.

mod accept;
mod error;
mod identity;
mod path;
mod stream;
mod stream_tls;
mod verify;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig, VarInt};
use rustls::{client::Resumption, version::TLS13};

use tokio::sync::mpsc;

use accept::Door;
pub use error::{DialError, QuicError};
pub use identity::{QuicIdentity, gather_randomness};
pub use path::{FULL_PAYLOAD, LEAST_PAYLOAD, PathPace, discovered, path_payload, watch_path};
pub use stream::BiStream;
pub use stream_tls::node_key_in;

use crate::socket::{QuicSide, SharedSocket, canonical};
use verify::{AnyNode, ExactNode};

/// The application protocol of sessions, negotiated by ALPN. The number changes when peers could
/// not talk.
pub const ALPN: &[u8] = b"wayfare/1";
/// As [`ALPN`], of the swarm.
pub const SWARM_ALPN: &[u8] = b"wayfare-swarm/1";
/// As [`ALPN`], of pipes: what a browser asks for, since an observer can read it.
pub const PIPE_ALPN: &[u8] = b"h3";

/// Keeps NAT mappings alive: the shortest UDP timeouts seen in home routers are about 30 s, and
/// this allows for two lost packets before that.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Three keep-alives: the peer is gone.
const IDLE_MS: u32 = 30_000;
/// What a path's round trip is taken for until it is measured. A first packet is repeated after
/// three of them, so a hole that opens late is used 0.3 s after the first try and not 1 s.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Lets the first packet be lost five times (QUIC repeats it after 0.3, 0.9, 2.1, 4.5 and 9.3 s).
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long stopping may take; peers that miss the message notice by their idle timeout.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Streams one peer may have open; gRPC multiplexes its calls over a single one.
const BIDI_STREAMS: u32 = 32;
/// As before, in the swarm: libp2p opens one for every question of every protocol.
const SWARM_BIDI_STREAMS: u32 = 256;
const UNI_STREAMS: u32 = 4;
/// What one peer can make us hold in stream data, per stream and altogether.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;
/// What one peer can make us hold in unread QUIC datagrams, and we in unsent ones.
pub(crate) const DATAGRAM_BUFFER: usize = 1 << 20;
/// Handshakes under way, as many waiting to be begun, and what these may buffer altogether.
const WAITING_HANDSHAKES: usize = 256;
const HANDSHAKE_BUFFERS: u64 = 4 << 20;
/// The name TLS wants; never sent, since SNI is off, and never compared.
pub(crate) const NO_NAME: &str = "node";

/// A QUIC endpoint that both serves and dials. Cheap to clone.
#[derive(Debug, Clone)]
pub struct QuicEndpoint {
    endpoint: quinn::Endpoint,
    side: Arc<QuicSide>,
    identity: QuicIdentity,
    session: Arc<TransportConfig>,
    swarm: Arc<TransportConfig>,
    door: Arc<Door>,
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Consumers and providers, [`ALPN`].
    Session,
    /// Nodes that find and reach each other, [`SWARM_ALPN`].
    Swarm,
    /// Datagrams of the shared socket inside those of the connection, [`PIPE_ALPN`].
    Pipe,
}

impl Protocol {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Session => ALPN,
            Self::Swarm => SWARM_ALPN,
            Self::Pipe => PIPE_ALPN,
        }
    }
}

/// Puts a QUIC endpoint on `socket`, serving and dialing as `identity`.
///
/// # Errors
/// Another endpoint is already on that socket, or TLS refused the configuration.
pub fn quic_endpoint(
    socket: &SharedSocket,
    identity: &QuicIdentity,
) -> Result<QuicEndpoint, QuicError> {
    let side = socket.quic_side().ok_or(QuicError::AlreadyOnThisSocket)?;
    let session = Arc::new(transport_config(BIDI_STREAMS));
    let mut config = EndpointConfig::default();
    // So that our peers search as far as we do.
    config
        .max_udp_payload_size(path::SEARCHED)
        .expect("more than QUIC's least and less than UDP's most");
    // The fixed bit is how QUIC is told from tunnel messages, see `socket::classify`.
    config.grease_quic_bit(false);
    let server = server_config(identity, &session)?;
    let endpoint = quinn::Endpoint::new_with_abstract_socket(
        config,
        Some(server),
        Arc::<QuicSide>::clone(&side),
        Arc::new(TokioRuntime),
    )
    .map_err(QuicError::Socket)?;
    Ok(QuicEndpoint {
        door: Arc::new(Door::open(endpoint.clone())),
        endpoint,
        side,
        identity: identity.clone(),
        session,
        swarm: Arc::new(transport_config(SWARM_BIDI_STREAMS)),
    })
}

impl QuicEndpoint {
    /// Connects to the node at `addr` and makes sure that it holds the ed25519 key `node_key`.
    ///
    /// # Errors
    /// [`DialError`] tells a wrong node from an unreachable one. Gives up after 10 s.
    pub async fn dial(
        &self,
        addr: SocketAddr,
        node_key: [u8; 32],
    ) -> Result<Connection, DialError> {
        self.dial_within(addr, node_key, DIAL_TIMEOUT).await
    }

    /// As [`dial`](Self::dial), with a time limit of the caller's choice.
    ///
    /// # Errors
    /// As [`dial`](Self::dial).
    pub async fn dial_within(
        &self,
        addr: SocketAddr,
        node_key: [u8; 32],
        limit: Duration,
    ) -> Result<Connection, DialError> {
        self.dial_as(Protocol::Session, addr, node_key, limit).await
    }

    /// As [`dial`](Self::dial), to talk as nodes of the swarm do.
    ///
    /// # Errors
    /// As [`dial`](Self::dial).
    pub async fn dial_swarm(
        &self,
        addr: SocketAddr,
        node_key: [u8; 32],
    ) -> Result<Connection, DialError> {
        self.dial_as(Protocol::Swarm, addr, node_key, DIAL_TIMEOUT)
            .await
    }

    /// As [`dial`](Self::dial), for a pipe.
    pub(crate) async fn dial_pipe(
        &self,
        addr: SocketAddr,
        node_key: [u8; 32],
    ) -> Result<Connection, DialError> {
        self.dial_as(Protocol::Pipe, addr, node_key, DIAL_TIMEOUT)
            .await
    }

    async fn dial_as(
        &self,
        protocol: Protocol,
        addr: SocketAddr,
        node_key: [u8; 32],
        limit: Duration,
    ) -> Result<Connection, DialError> {
        let addr = canonical(addr);
        let presented = Arc::new(OnceLock::new());
        let config = self
            .client_config(protocol, node_key, &presented)
            .map_err(DialError::Setup)?;
        let connecting = self
            .endpoint
            .connect_with(config, addr, NO_NAME)
            .map_err(|cause| DialError::connect(addr, cause))?;
        // Nothing would leave, and nobody would answer.
        if !self.side.reaches(addr) {
            return Err(DialError::NoRoute { addr });
        }
        match tokio::time::timeout(limit, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(cause)) => Err(DialError::handshake(addr, node_key, presented.get(), cause)),
            Err(_) => Err(DialError::TimedOut { addr, after: limit }),
        }
    }

    /// The next peer that wants a session, its handshake done, or `None` once the endpoint is
    /// closed. Any number of tasks may wait. Cancel safe.
    ///
    /// From the first call on; before it, and while nobody has called for a second, such peers are
    /// turned away.
    pub async fn accept(&self) -> Option<Connection> {
        self.door.session().await
    }

    /// The connections of peers in the swarm, as they come; `None` if somebody has them. While
    /// nobody takes them, they are turned away.
    #[must_use]
    pub fn swarm_connections(&self) -> Option<mpsc::Receiver<Connection>> {
        self.door.swarm()
    }

    /// As [`swarm_connections`](Self::swarm_connections), of peers that lay pipes.
    pub(crate) fn pipe_connections(&self) -> Option<mpsc::Receiver<Connection>> {
        self.door.pipes()
    }

    /// Our own node key.
    #[must_use]
    pub fn node_key(&self) -> [u8; 32] {
        self.identity.node_key()
    }

    /// The endpoint itself, for the door that punches holes with it.
    #[must_use]
    pub fn quinn(&self) -> &quinn::Endpoint {
        &self.endpoint
    }

    /// Closes all connections and waits, for at most a second, until the peers have been told.
    pub async fn close(&self) {
        self.endpoint.close(VarInt::from_u32(0), b"bye");
        // A closing connection lingers for three probe timeouts, to repeat itself if the message
        // was lost. That is below a second on most paths, and 3 s for an unanswered dial.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.endpoint.wait_idle()).await;
    }

    fn client_config(
        &self,
        protocol: Protocol,
        expected: [u8; 32],
        presented: &Arc<OnceLock<Option<[u8; 32]>>>,
    ) -> Result<quinn::ClientConfig, rustls::Error> {
        let provider = identity::provider();
        let verifier = ExactNode::new(expected, Arc::clone(presented), &provider);
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.identity.certificate());
        tls.alpn_protocols = vec![protocol.name().to_vec()];
        tls.enable_sni = false;
        // A resumed session would not show its certificate again.
        tls.resumption = Resumption::disabled();
        let tls = QuicClientConfig::try_from(tls).map_err(no_initial_suite)?;
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::clone(match protocol {
            Protocol::Session | Protocol::Pipe => &self.session,
            Protocol::Swarm => &self.swarm,
        }));
        Ok(config)
    }
}

/// The node key the peer of `connection` proved to hold, if it showed one.
///
/// A dialed peer always did. One that dialed us did if it runs this software; it chose the key
/// itself, so check it against what you know before you trust it with anything.
#[must_use]
pub fn peer_node_key(connection: &Connection) -> Option<[u8; 32]> {
    let identity = connection.peer_identity()?;
    let chain = identity
        .downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>()
        .ok()?;
    verify::node_key_of(chain.first()?)
}

/// What is spoken on `connection`, one of an endpoint of ours: there is none without a protocol
/// that both ends named (RFC 9001 section 8.1).
#[must_use]
pub fn alpn(connection: &Connection) -> Protocol {
    let shaken = connection.handshake_data().and_then(|shaken| {
        let shaken = shaken.downcast::<quinn::crypto::rustls::HandshakeData>();
        shaken.ok()?.protocol
    });
    match shaken.as_deref() {
        Some(SWARM_ALPN) => Protocol::Swarm,
        Some(PIPE_ALPN) => Protocol::Pipe,
        Some(_) | None => Protocol::Session,
    }
}

/// Where the peer of `connection` is now; an IPv4 peer of a dual-stack socket by its IPv4 address.
#[must_use]
pub fn remote_address(connection: &Connection) -> SocketAddr {
    canonical(connection.remote_address())
}

fn server_config(
    identity: &QuicIdentity,
    transport: &Arc<TransportConfig>,
) -> Result<quinn::ServerConfig, QuicError> {
    let provider = identity::provider();
    let verifier = AnyNode::new(&provider);
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(identity.certificate());
    tls.alpn_protocols = [ALPN, SWARM_ALPN, PIPE_ALPN].map(<[u8]>::to_vec).to_vec();
    tls.send_tls13_tickets = 0;
    let tls = QuicServerConfig::try_from(tls).map_err(no_initial_suite)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::clone(transport));
    config.max_incoming(WAITING_HANDSHAKES);
    config.incoming_buffer_size_total(HANDSHAKE_BUFFERS);
    Ok(config)
}

/// With `streams` that the peer may have open.
fn transport_config(streams: u32) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_RTT)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .mtu_discovery_config(Some(path::discovery()));
    config
}

/// QUIC encrypts its first packets with AES-128-GCM, which the provider must therefore offer.
fn no_initial_suite(cause: quinn::crypto::rustls::NoInitialCipherSuite) -> rustls::Error {
    rustls::Error::General(cause.to_string())
}

#[cfg(test)]
mod tests;
