//! One QUIC bidirectional stream as a single byte stream, for protocols that expect a TCP socket.
//!
//! It refuses framing of its own: what one side writes the other reads. Dropping it finishes our
//! direction and stops the peer's; the stream keeps its connection alive.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A bidirectional byte stream to a peer.
#[derive(Debug)]
pub struct BiStream {
    send: SendStream,
    receive: RecvStream,
    remote: SocketAddr,
    peer: Option<[u8; 32]>,
}

impl BiStream {
    /// Opens a stream, waiting while the peer allows no more. The peer learns of it with the
    /// first byte written, so the opener must speak first.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn open(connection: &Connection) -> Result<Self, ConnectionError> {
        Ok(Self::new(connection, connection.open_bi().await?))
    }

    /// Waits for the next stream the peer opens.
    ///
    /// # Errors
    /// The connection is lost or closed: there will be no more streams.
    pub async fn accept(connection: &Connection) -> Result<Self, ConnectionError> {
        Ok(Self::new(connection, connection.accept_bi().await?))
    }

    fn new(connection: &Connection, (send, receive): (SendStream, RecvStream)) -> Self {
        let remote = super::remote_address(connection);
        Self {
            send,
            receive,
            remote,
            peer: super::peer_node_key(connection),
        }
    }

    /// The peer's address when the stream was made.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// The node key the peer proved to hold, see [`peer_node_key`](super::peer_node_key).
    #[must_use]
    pub fn peer_node_key(&self) -> Option<[u8; 32]> {
        self.peer
    }
}

impl AsyncRead for BiStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.receive).poll_read(cx, buffer)
    }
}

impl AsyncWrite for BiStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_shutdown(cx)
    }
}
