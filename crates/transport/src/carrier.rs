//! Pipes for datagrams: a way to a relay where plain UDP does not pass.
//!
//! A *pipe* stands between a node and a relay and carries what would otherwise be datagrams of the
//! shared socket: inside the datagrams of a QUIC connection that looks like HTTP/3 ([`Kind::Quic`],
//! for networks that let nothing but QUIC pass), or as binary WebSocket messages inside TLS over TCP
//! ([`Kind::Tls`], for networks that let no UDP pass). At each end it is a virtual address, so that
//! the swarm's connection, relay frames, probes and tunnel messages use it and know nothing of it.
//!
//! The node opens a pipe with [`open_pipe`], or in two steps with [`dial_pipe`], and checks the relay's
//! node key; the relay opens a [`PipeDoor`] and takes any node, but a bounded number. It refuses to
//! choose: who wants a pipe, and which kind, is for others to say. It promises no more than UDP does:
//! what finds no room is lost.

mod admission;
mod door;
mod error;
mod line;
mod quic;
mod tls;
mod upgrade;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
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
    heard: watch::Receiver<bool>,
    task: AbortHandle,
}

/// A pipe that is being opened: the relay's port has answered, after one round trip. Nothing has been said about pipes in
/// TLS, and in QUIC not whether the path is wide enough. The connection closes when this value goes.
#[derive(Debug)]
pub struct PipeDial {
    relay: SocketAddr,
    node_key: [u8; 32],
    socket: SharedSocket,
    answered: Answered,
}

#[derive(Debug)]
enum Answered {
    Quic(quinn::Connection),
    Tcp(TcpStream, QuicIdentity),
}

/// Begins to open a pipe to the relay at `relay`, which must hold the ed25519 key `node_key`.
///
/// # Errors
/// [`PipeError`]; gives up after 10 s.
pub async fn dial_pipe(
    kind: Kind,
    (socket, endpoint, identity): (&SharedSocket, &QuicEndpoint, &QuicIdentity),
    relay: SocketAddr,
    node_key: [u8; 32],
) -> Result<PipeDial, PipeError> {
    let relay = canonical(relay);
    let answered = match kind {
        Kind::Quic => Answered::Quic(endpoint.dial_pipe(relay, node_key).await?),
        Kind::Tls => Answered::Tcp(tls::connect(socket, relay).await?, identity.clone()),
    };
    Ok(PipeDial {
        relay,
        node_key,
        socket: socket.clone(),
        answered,
    })
}

/// Opens a pipe to the relay at `relay` and makes sure that it holds the ed25519 key `node_key`.
///
/// # Errors
/// As of [`dial_pipe`] and [`PipeDial::open`].
pub async fn open_pipe(
    kind: Kind,
    ours: (&SharedSocket, &QuicEndpoint, &QuicIdentity),
    relay: SocketAddr,
    node_key: [u8; 32],
) -> Result<Pipe, PipeError> {
    dial_pipe(kind, ours, relay, node_key).await?.open().await
}

impl PipeDial {
    /// Goes on. A pipe in TLS may be used as soon as the relay has shown its key; that it takes pipes turns out a round trip
    /// later, see [`Pipe::ended`].
    ///
    /// # Errors
    /// [`PipeError`]; gives up after 10 s.
    pub async fn open(self) -> Result<Pipe, PipeError> {
        match self.answered {
            Answered::Quic(connection) => {
                quic::widen(&connection).await?;
                let carried = quic::lay(&self.socket, &connection)?;
                Ok(Pipe::spawn(
                    Kind::Quic,
                    carried,
                    |carried, heard| async move {
                        quic::carry(&connection, &carried, heard).await;
                    },
                ))
            }
            Answered::Tcp(stream, identity) => {
                let channel = tls::call(stream, &identity, self.relay, self.node_key).await?;
                let (line, waiting) = line::line();
                let carried = self.socket.open_carried(line).map_err(PipeError::Socket)?;
                Ok(Pipe::spawn(
                    Kind::Tls,
                    carried,
                    |carried, heard| async move {
                        tls::carry(channel, &carried, waiting, heard).await;
                    },
                ))
            }
        }
    }
}

impl Pipe {
    fn spawn<W>(
        kind: Kind,
        carried: Carried,
        work: impl FnOnce(Carried, Box<dyn FnOnce() + Send>) -> W,
    ) -> Self
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let address = carried.address();
        let (says, heard) = watch::channel(false);
        let says = Arc::new(says);
        let alive = Arc::clone(&says);
        let heard_now = move || {
            says.send_replace(true);
        };
        let work = work(carried, Box::new(heard_now));
        let task = tokio::spawn(async move {
            let _alive = alive;
            work.await;
        });
        Self {
            kind,
            address,
            heard,
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

    /// Ends when the pipe does. `false`: nothing ever came through it, as from a relay that takes no pipe, or no other.
    pub fn ended(&self) -> impl Future<Output = bool> + Send + 'static {
        let mut heard = self.heard.clone();
        async move {
            while heard.changed().await.is_ok() {}
            *heard.borrow()
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.task.abort();
    }
}
