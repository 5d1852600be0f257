//! One accepted connection: an ordinary byte stream that knows where it came from, must show an HTTP/2 preface in time, and can be
//! cut from outside.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use crate::limits::PREFACE;

/// Where a connection came from. Absent for a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin(pub(crate) Option<SocketAddr>);

/// Cuts connections when it fires or is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Cut(pub(crate) watch::Receiver<bool>);

impl Cut {
    async fn fired(mut self) {
        // An error means that the server itself is gone.
        let _ = self.0.wait_for(|cut| *cut).await;
    }
}

/// An accepted connection.
pub(crate) struct Wire<T> {
    io: T,
    origin: Origin,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    preface: Option<(usize, Pin<Box<Sleep>>)>,
    #[expect(dead_code, reason = "held, never read")]
    permit: Option<OwnedSemaphorePermit>,
}

impl<T> Wire<T> {
    pub(crate) fn new(io: T, origin: Origin, cut: Cut, preface_within: Duration) -> Self {
        let deadline = Box::pin(tokio::time::sleep(preface_within));
        Self {
            io,
            origin,
            cut: Box::pin(cut.fired()),
            preface: Some((0, deadline)),
            permit: None,
        }
    }

    /// Counts against a limit of connections for as long as it lives.
    pub(crate) fn with_permit(self, permit: OwnedSemaphorePermit) -> Self {
        Self {
            permit: Some(permit),
            ..self
        }
    }
}

impl<T> Connected for Wire<T> {
    type ConnectInfo = Origin;

    fn connect_info(&self) -> Origin {
        self.origin
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Wire<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            // The future is spent; a second poll must find the answer again.
            self.cut = Box::pin(std::future::ready(()));
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the server is shutting down",
            )));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Some((seen, deadline)) = &mut self.preface {
            *seen += buf.filled().len() - before;
            if *seen >= PREFACE {
                self.preface = None;
            } else if read.is_pending() && deadline.as_mut().poll(cx).is_ready() {
                self.cut = Box::pin(std::future::ready(()));
                self.preface = None;
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no HTTP/2 preface in time",
                )));
            }
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const SHORT: Duration = Duration::from_millis(30);

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_given_up() {
        let (_cutter, cut) = watch::channel(false);
        let (mut far, near) = tokio::io::duplex(64);
        far.write_all(b"PRI * HTTP/2").await.unwrap();
        let mut wire = Wire::new(near, Origin(None), Cut(cut), SHORT);
        let mut bytes = Vec::new();
        let error = wire.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(bytes, b"PRI * HTTP/2");
    }

    #[tokio::test]
    async fn a_connection_that_said_its_preface_may_be_silent_until_it_is_cut() {
        let (cutter, cut) = watch::channel(false);
        let (mut far, near) = tokio::io::duplex(64);
        far.write_all(&[7; PREFACE]).await.unwrap();
        let mut wire = Wire::new(near, Origin(None), Cut(cut), SHORT);
        wire.read_exact(&mut [0; PREFACE]).await.unwrap();
        let silent = tokio::time::timeout(SHORT * 3, wire.read_u8()).await;
        assert!(silent.is_err(), "{silent:?}");
        cutter.send(true).unwrap();
        assert_eq!(
            wire.read_u8().await.unwrap_err().kind(),
            io::ErrorKind::ConnectionAborted
        );
        assert_eq!(
            wire.read_u8().await.unwrap_err().kind(),
            io::ErrorKind::ConnectionAborted
        );
    }
}
