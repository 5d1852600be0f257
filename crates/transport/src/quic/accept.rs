//! The door for those who dial us: handshakes, each in a task of its own, then by protocol to who
//! serves it.
//!
//! It refuses more handshakes than it has room for, strangers who do not show that their address is
//! theirs while it is busy, and to keep a connection that nobody takes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quinn::{Connection, Endpoint, Incoming, VarInt};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::{Protocol, SWARM_BIDI_STREAMS, WAITING_HANDSHAKES, alpn};

/// A handshake takes two round trips, packets may be lost; who takes longer dials again.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of one protocol that wait to be taken.
const WAITING_CONNECTIONS: usize = 32;
/// How long a connection waits for somebody to serve its protocol, or for room: a node that starts
/// opens its socket first and serves a moment later.
const TAKING_TIMEOUT: Duration = Duration::from_secs(1);
/// Handshakes from which on an address must be proved first, which costs the dialer a round trip
/// and us nothing.
const BUSY: usize = WAITING_HANDSHAKES / 4;
/// What a connection that nobody takes is closed with.
const NOT_SERVED: VarInt = VarInt::from_u32(1);

/// Takes handshakes until the endpoint closes, or this value goes.
#[derive(Debug)]
pub(super) struct Door {
    session: (
        watch::Sender<bool>,
        tokio::sync::Mutex<mpsc::Receiver<Connection>>,
    ),
    swarm: Once,
    pipes: Once,
    task: AbortHandle,
}

/// Connections that one owner takes for good.
type Once = (
    watch::Sender<bool>,
    Mutex<Option<mpsc::Receiver<Connection>>>,
);

impl Door {
    /// On the current runtime.
    pub(super) fn open(endpoint: Endpoint) -> Self {
        let (session_served, session, sessions) = Hall::open();
        let (swarm_served, swarm, swarms) = Hall::open();
        let (pipe_served, pipe, pipes) = Hall::open();
        let halls = Halls {
            session,
            swarm,
            pipe,
        };
        let task = tokio::spawn(take(endpoint, halls));
        Self {
            session: (session_served, tokio::sync::Mutex::new(sessions)),
            swarm: (swarm_served, Mutex::new(Some(swarms))),
            pipes: (pipe_served, Mutex::new(Some(pipes))),
            task: task.abort_handle(),
        }
    }

    pub(super) async fn session(&self) -> Option<Connection> {
        let (served, waiting) = &self.session;
        served.send_replace(true);
        waiting.lock().await.recv().await
    }

    pub(super) fn swarm(&self) -> Option<mpsc::Receiver<Connection>> {
        claim(&self.swarm)
    }

    pub(super) fn pipes(&self) -> Option<mpsc::Receiver<Connection>> {
        claim(&self.pipes)
    }
}

fn claim((served, waiting): &Once) -> Option<mpsc::Receiver<Connection>> {
    let taken = waiting
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    served.send_replace(true);
    taken
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where connections of one protocol wait.
#[derive(Debug, Clone)]
struct Hall {
    served: watch::Receiver<bool>,
    line: mpsc::Sender<Connection>,
}

impl Hall {
    fn open() -> (watch::Sender<bool>, Self, mpsc::Receiver<Connection>) {
        let (serve, served) = watch::channel(false);
        let (line, waiting) = mpsc::channel(WAITING_CONNECTIONS);
        (serve, Self { served, line }, waiting)
    }
}

#[derive(Debug, Clone)]
struct Halls {
    session: Hall,
    swarm: Hall,
    pipe: Hall,
}

async fn take(endpoint: Endpoint, halls: Halls) {
    let mut handshakes = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            Some(_) = handshakes.join_next() => continue,
        };
        let Some(incoming) = incoming else { return };
        if handshakes.len() >= WAITING_HANDSHAKES {
            incoming.refuse();
        } else if handshakes.len() >= BUSY && incoming.may_retry() {
            // Fails only where it is not allowed.
            let _ = incoming.retry();
        } else {
            handshakes.spawn(shake_hands(incoming, halls.clone()));
        }
    }
}

async fn shake_hands(incoming: Incoming, halls: Halls) {
    let shaken = match timeout(HANDSHAKE_TIMEOUT, incoming.into_future()).await {
        Ok(shaken) => shaken,
        Err(_) => return,
    };
    let connection = match shaken {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%error, "a handshake failed");
            return;
        }
    };
    let hall = match alpn(&connection) {
        Protocol::Session => halls.session,
        Protocol::Swarm => {
            // The server's parameters are sent before it knows what is spoken.
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(SWARM_BIDI_STREAMS));
            halls.swarm
        }
        Protocol::Pipe => halls.pipe,
    };
    let Hall { mut served, line } = hall;
    let handed_over = async {
        // Ends with an error only with the door itself.
        served.wait_for(|served| *served).await.ok()?;
        line.send(connection.clone()).await.ok()
    };
    if timeout(TAKING_TIMEOUT, handed_over)
        .await
        .ok()
        .flatten()
        .is_none()
    {
        connection.close(NOT_SERVED, b"nobody serves this here");
    }
}
