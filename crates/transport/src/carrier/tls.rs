//! A pipe inside TLS over TCP: the handshake of two node keys, a WebSocket (RFC 6455), and then one
//! binary message for each datagram.
//!
//! What an observer sees is a TLS 1.3 connection for `http/1.1` to the port of HTTPS. It refuses
//! peers without a node key, messages longer than a datagram, and anything that is not binary.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, Stream, StreamExt};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::PipeError;
use super::line::{MOST, Waiting};
use super::upgrade::{self, Asked, Upgraded};
use crate::quic::{NO_NAME, QuicIdentity, node_key_in};
use crate::socket::{Carried, SharedSocket};

/// For each part: TCP; TLS with the request for a WebSocket; the first message. One or two round trips, and packets may be lost.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// Three pings that were not answered: the other end is gone.
const IDLE: Duration = Duration::from_secs(60);
const PING: Duration = Duration::from_secs(20);
/// What was sent and is not acknowledged for so long ends the connection, so that a moved node notices
/// before the next pings.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);
/// What the kernel takes before it can send it: the rest waits in our line, which loses when it is full. More would
/// be delay.
const NOT_SENT: u32 = 128 << 10;
/// One record of TLS.
const BUFFER: usize = 16 << 10;
/// What a web server speaks.
const ALPN: &[u8] = b"http/1.1";

/// A relay's end.
pub(super) type Answered = WebSocketStream<server::TlsStream<TcpStream>>;
/// A node's end.
pub(super) type Called = WebSocketStream<Upgraded<client::TlsStream<TcpStream>>>;

/// The first of the node's half of the handshakes.
pub(super) async fn connect(
    socket: &SharedSocket,
    relay: SocketAddr,
) -> Result<TcpStream, PipeError> {
    let connected = timeout(HANDSHAKE, async {
        let stream = socket.tcp_companion(relay)?.connect(relay).await?;
        prepare(&stream)?;
        Ok(stream)
    });
    match connected.await {
        Ok(connected) => connected.map_err(|source| PipeError::Tcp { relay, source }),
        Err(_) => Err(too_late(relay)),
    }
}

/// The rest. The request for a WebSocket leaves with the end of the TLS handshake, and frames may follow at once.
pub(super) async fn call(
    stream: TcpStream,
    identity: &QuicIdentity,
    relay: SocketAddr,
    node_key: [u8; 32],
) -> Result<Called, PipeError> {
    let mut config = ClientConfig::clone(&*identity.calling()?);
    config.alpn_protocols = vec![ALPN.to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(NO_NAME).expect("the constant is a name");
    let refused = move |error: Error| PipeError::Upgrade {
        relay,
        cause: error.to_string(),
    };
    let asked = Asked::new(relay).map_err(refused)?;
    let mut written = Ok(());
    // TLS keeps it until its keys are there.
    let connecting = connector.connect_with(name, stream, |tls| {
        written = tls.writer().write_all(&asked.request);
    });
    let connected = timeout(HANDSHAKE, connecting).await;
    let stream = connected
        .map_err(|_| too_late(relay))?
        .and_then(|stream| written.map(|()| stream))
        .map_err(|source| PipeError::Tls { relay, source })?;
    let shown = stream.get_ref().1.peer_certificates();
    let shown = shown.and_then(<[_]>::first).and_then(node_key_in);
    if shown != Some(node_key) {
        return Err(PipeError::WrongNode { relay });
    }
    let stream = Upgraded::new(stream, asked, move |error| io::Error::other(refused(error)));
    Ok(WebSocketStream::from_raw_socket(stream, Role::Client, Some(limits())).await)
}

fn too_late(relay: SocketAddr) -> PipeError {
    PipeError::TimedOut {
        relay,
        after: HANDSHAKE,
    }
}

/// What a relay shows.
pub(super) fn acceptor(identity: &QuicIdentity) -> Result<TlsAcceptor, rustls::Error> {
    let mut config = ServerConfig::clone(&*identity.called()?);
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The relay's half of the handshakes. `None`: it was no node, or too slow.
pub(super) async fn answer(acceptor: TlsAcceptor, stream: TcpStream) -> Option<Answered> {
    let shaken = timeout(HANDSHAKE, async {
        prepare(&stream).map_err(|error| error.to_string())?;
        let stream = acceptor.accept(stream).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let upgraded = upgrade::accept(stream, limits()).await;
        upgraded.map_err(|error| error.to_string())
    });
    match shaken.await {
        Ok(Ok(channel)) => Some(channel),
        Ok(Err(why)) => {
            tracing::debug!(why, "a caller of the TLS port is turned away");
            None
        }
        Err(_) => None,
    }
}

/// Carries datagrams both ways until one end has enough. Says when the first message comes, which proves that the upgrade
/// was agreed upon.
pub(super) async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    channel: WebSocketStream<S>,
    carried: &Carried,
    mut waiting: Waiting,
    heard: impl FnOnce(),
) {
    let (mut sink, stream) = channel.split();
    let sending = async {
        let mut pings = interval(PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut datagrams = Vec::new();
        loop {
            tokio::select! {
                () = waiting.take(&mut datagrams) => {
                    if datagrams.is_empty() {
                        return Ok(());
                    }
                    for datagram in datagrams.drain(..) {
                        sink.feed(Message::Binary(datagram)).await?;
                    }
                    sink.flush().await?;
                }
                _ = pings.tick() => sink.send(Message::Ping(Default::default())).await?,
            }
        }
    };
    // Both at once, in one task: an end that waits for room still reads, so that two ends cannot wait for each other.
    let why: Result<(), Error> = tokio::select! {
        why = sending => why,
        why = receive(stream, carried, heard) => why,
    };
    match why {
        Ok(()) => tracing::debug!("a pipe inside TLS ends"),
        Err(why) => tracing::debug!(%why, "a pipe inside TLS breaks"),
    }
}

async fn receive(
    mut stream: impl Stream<Item = Result<Message, Error>> + Unpin,
    carried: &Carried,
    heard: impl FnOnce(),
) -> Result<(), Error> {
    // Both ends begin with a ping.
    let mut next = timeout(HANDSHAKE, stream.next()).await;
    if let Ok(Some(Ok(_))) = next {
        heard();
    }
    loop {
        let Ok(Some(message)) = next else {
            return Ok(());
        };
        match message? {
            Message::Binary(datagram) => carried.deliver(&datagram),
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Text(_) | Message::Close(_) | Message::Frame(_) => return Ok(()),
        }
        next = timeout(IDLE, stream.next()).await;
    }
}

/// Bounds of one connection's buffers: 64 KiB with what the library adds.
fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_write_buffer_size(2 * BUFFER)
        .max_message_size(Some(MOST))
        .max_frame_size(Some(MOST))
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(NOT_SENT)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}
