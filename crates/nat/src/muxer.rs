//! One QUIC connection as the swarm sees it: streams in, streams out. It refuses to interpret them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use libp2p_core::muxing::{StreamMuxer, StreamMuxerEvent};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::sync::OwnedSemaphorePermit;

type Opening = BoxFuture<'static, Result<(SendStream, RecvStream), ConnectionError>>;

pub(crate) struct Muxer {
    connection: Connection,
    /// Given back when the swarm lets the connection go.
    _place: Option<OwnedSemaphorePermit>,
    inbound: Option<Opening>,
    outbound: Option<Opening>,
    closing: Option<BoxFuture<'static, ConnectionError>>,
}

impl Muxer {
    /// `place`: what the connection takes of those that others may make.
    pub(crate) fn new(connection: Connection, place: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            connection,
            _place: place,
            inbound: None,
            outbound: None,
            closing: None,
        }
    }
}

impl StreamMuxer for Muxer {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, io::Error>> {
        let connection = self.connection.clone();
        let begin = || async move { connection.accept_bi().await }.boxed();
        let opened = ready!(self.inbound.get_or_insert_with(begin).poll_unpin(cx));
        self.inbound = None;
        Poll::Ready(opened.map(Stream::new).map_err(io::Error::other))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, io::Error>> {
        let connection = self.connection.clone();
        let begin = || async move { connection.open_bi().await }.boxed();
        let opened = ready!(self.outbound.get_or_insert_with(begin).poll_unpin(cx));
        self.outbound = None;
        Poll::Ready(opened.map(Stream::new).map_err(io::Error::other))
    }

    fn poll(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, io::Error>> {
        // The address of a connection may change; who needs it asks the connection.
        Poll::Pending
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        let connection = self.connection.clone();
        let begin = || {
            connection.close(VarInt::from_u32(0), b"bye");
            async move { connection.closed().await }.boxed()
        };
        let _why = ready!(self.closing.get_or_insert_with(begin).poll_unpin(cx));
        Poll::Ready(Ok(()))
    }
}

/// Both directions of one stream.
pub(crate) struct Stream {
    send: SendStream,
    recv: RecvStream,
}

impl Stream {
    fn new((send, recv): (SendStream, RecvStream)) -> Self {
        Self { send, recv }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.recv.poll_read(cx, into).map_err(io::Error::other)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send)
            .poll_write(cx, from)
            .map_err(io::Error::other)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Finished twice, or stopped by the peer: closed either way.
        let _ = self.send.finish();
        Poll::Ready(Ok(()))
    }
}
