//! Pipes for datagrams: a way to a relay where plain UDP does not pass.
//!
//! A *pipe* stands between a node and a relay and carries what would otherwise be datagrams of the
//! shared socket: inside the datagrams of a QUIC connection that looks like HTTP/3 ([`Kind::Quic`],
//! for networks that let nothing but QUIC pass), or as binary WebSocket messages inside TLS over TCP
//! ([`Kind::Tls`], for networks that let no UDP pass). At each end it is a virtual address, so that
//! the swarm's connection, relay frames, probes and tunnel messages use it and know nothing of it.
//!
//! The node opens a pipe with [`open_pipe`] and checks the relay's node key; the relay opens a
//! [`PipeDoor`] and takes any node, but a bounded number. It refuses to choose: who wants a pipe, and
//! which kind, is for others to say. It promises no more than UDP does: what finds no room is lost.

mod admission;
mod door;
mod error;
mod line;
mod quic;
mod tls;

use std::future::Future;
use std::net::SocketAddr;

use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use door::PipeDoor;
pub use error::PipeError;

use crate::quic::{QuicEndpoint, QuicIdentity};
use crate::socket::{Carried, SharedSocket, canonical};

/// What a pipe runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Datagrams of a QUIC connection, from the shared socket to the relay's UDP port.
    Quic,
    /// WebSocket messages inside TLS, to the TCP port of the same number.
    Tls,
}

/// A node's end of a pipe; it closes when this value goes.
#[derive(Debug)]
pub struct Pipe {
    kind: Kind,
    address: SocketAddr,
    over: watch::Receiver<()>,
    task: AbortHandle,
}

/// Opens a pipe to the relay at `relay` and makes sure that it holds the ed25519 key `node_key`.
///
/// # Errors
/// [`PipeError`]; gives up after 10 s.
pub async fn open_pipe(
    kind: Kind,
    (socket, endpoint, identity): (&SharedSocket, &QuicEndpoint, &QuicIdentity),
    relay: SocketAddr,
    node_key: [u8; 32],
) -> Result<Pipe, PipeError> {
    let relay = canonical(relay);
    match kind {
        Kind::Quic => {
            let connection = quic::dial(endpoint, relay, node_key).await?;
            let carried = quic::lay(socket, &connection)?;
            Ok(Pipe::spawn(kind, carried, move |carried| async move {
                quic::carry(&connection, &carried).await;
            }))
        }
        Kind::Tls => {
            let channel = tls::call(socket, identity, relay, node_key).await?;
            let (line, waiting) = line::line();
            let carried = socket.open_carried(line).map_err(PipeError::Socket)?;
            Ok(Pipe::spawn(kind, carried, move |carried| async move {
                tls::carry(channel, &carried, waiting).await;
            }))
        }
    }
}

impl Pipe {
    fn spawn<W>(kind: Kind, carried: Carried, work: impl FnOnce(Carried) -> W) -> Self
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let address = carried.address();
        let (alive, over) = watch::channel(());
        let work = work(carried);
        let task = tokio::spawn(async move {
            let _alive = alive;
            work.await;
        });
        Self {
            kind,
            address,
            over,
            task: task.abort_handle(),
        }
    }

    /// What it runs in.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The relay's address while the pipe stands. Virtual.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends when the pipe does.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut over = self.over.clone();
        async move {
            // Nothing is ever sent: it ends with its sender.
            while over.changed().await.is_ok() {}
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.task.abort();
    }
}
