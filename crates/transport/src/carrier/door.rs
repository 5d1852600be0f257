//! The relay's end: pipes are taken at the TCP port of the shared socket's number, and from QUIC
//! connections that speak `h3`.
//!
//! It refuses more pipes than it has places for, and whoever takes longer than a handshake needs.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use quinn::{Connection, VarInt};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::admission::{Admission, Place};
use super::{line, quic, tls};
use crate::quic::{QuicEndpoint, QuicIdentity, remote_address};
use crate::socket::SharedSocket;

/// Connections the kernel keeps for us while we are busy.
const BACKLOG: i32 = 256;
/// After the kernel refused to accept: too many files are open.
const PAUSE: Duration = Duration::from_millis(200);
/// What a pipe that has no place is closed with.
const FULL: VarInt = VarInt::from_u32(2);

/// Takes pipes until it goes; those that stand end with it.
#[derive(Debug)]
pub struct PipeDoor {
    tcp: Option<SocketAddr>,
    task: AbortHandle,
}

impl PipeDoor {
    /// Opens at the address of `socket`, on the current runtime. A TCP port that cannot be had is a warning.
    ///
    /// # Errors
    /// TLS refused the configuration.
    pub fn open(
        socket: &SharedSocket,
        endpoint: &QuicEndpoint,
        identity: &QuicIdentity,
    ) -> Result<Self, rustls::Error> {
        let acceptor = tls::acceptor(identity)?;
        let at = socket.local_addr();
        let listener = match listen(at, socket.mark()) {
            Ok(listener) => Some(listener),
            Err(error) => {
                tracing::warn!(%error, %at, "no TCP port: nodes whose networks block UDP cannot reach this relay");
                None
            }
        };
        let connections = endpoint.pipe_connections();
        if connections.is_none() {
            tracing::warn!("pipes inside QUIC are taken by somebody else");
        }
        let tcp = listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok());
        let serving = Serving {
            socket: socket.clone(),
            admission: Admission::default(),
            acceptor,
            pipes: JoinSet::new(),
        };
        let task = tokio::spawn(serving.run(listener, connections));
        Ok(Self {
            tcp,
            task: task.abort_handle(),
        })
    }

    /// Where TLS is spoken; `None` if the TCP port could not be had.
    #[must_use]
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp
    }
}

impl Drop for PipeDoor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Serving {
    socket: SharedSocket,
    admission: Admission,
    acceptor: TlsAcceptor,
    /// Bounded by the admission's places.
    pipes: JoinSet<()>,
}

impl Serving {
    async fn run(
        mut self,
        listener: Option<TcpListener>,
        mut connections: Option<mpsc::Receiver<Connection>>,
    ) {
        loop {
            tokio::select! {
                accepted = accept(listener.as_ref()) => match accepted {
                    Ok((stream, from)) => self.take_stream(stream, from),
                    Err(error) => {
                        tracing::debug!(%error, "a TCP connection was not accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                connection = next(&mut connections) => match connection {
                    Some(connection) => self.take_connection(connection),
                    // The endpoint has closed.
                    None => connections = None,
                },
                Some(_) = self.pipes.join_next() => {}
            }
        }
    }

    fn take_stream(&mut self, stream: TcpStream, from: SocketAddr) {
        let Some(place) = self.admission.admit(from.ip()) else {
            tracing::debug!("too many pipes: a TCP connection is closed");
            return;
        };
        let (socket, acceptor) = (self.socket.clone(), self.acceptor.clone());
        self.pipes.spawn(async move {
            if let Some(channel) = tls::answer(acceptor, stream).await {
                carry_stream(&socket, channel, place).await;
            }
        });
    }

    fn take_connection(&mut self, connection: Connection) {
        let Some(place) = self.admission.admit(remote_address(&connection).ip()) else {
            connection.close(FULL, b"too many pipes");
            return;
        };
        match quic::lay(&self.socket, &connection) {
            Ok(carried) => {
                self.pipes.spawn(async move {
                    quic::carry(&connection, &carried, || {}).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a pipe is refused");
                connection.close(FULL, b"too many paths");
            }
        }
    }
}

async fn carry_stream(socket: &SharedSocket, channel: tls::Answered, place: Place) {
    let (line, waiting) = line::line();
    match socket.open_carried(line) {
        Ok(carried) => tls::carry(channel, &carried, waiting, || {}).await,
        Err(error) => tracing::warn!(%error, "a pipe is refused"),
    }
    drop(place);
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn next(connections: &mut Option<mpsc::Receiver<Connection>>) -> Option<Connection> {
    match connections {
        Some(connections) => connections.recv().await,
        None => std::future::pending().await,
    }
}

fn listen(at: SocketAddr, mark: Option<u32>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    if at.is_ipv6() {
        // As the UDP socket: dual stack only when every address was asked for.
        socket.set_only_v6(!at.ip().is_unspecified())?;
    }
    // A relay that is started again must not wait for the connections of the one before.
    socket.set_reuse_address(true)?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(StdListener::from(socket))
}
