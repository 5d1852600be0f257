//! Pipes to relays that plain UDP does not reach: who is waited for, when a pipe is opened, and which of two is used.
//!
//! A relay is first asked over plain UDP how it sees us, twice. When it does not say so, a pipe inside QUIC and one inside TLS
//! are opened at the same time; what stands first is used for that relay, unless the plain answer came meanwhile. When a pipe
//! ends plain UDP is tried first again. It refuses to know swarm and finders: the driver is told addresses.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::{BoxFuture, Either, FutureExt, select};
use futures::stream::FuturesUnordered;
use wayfare_identity::{NodeAddress, NodeId};
use wayfare_transport::{
    Clock, Pipe, PipeError, PipeKind, QuicEndpoint, QuicIdentity, SharedSocket, open_pipe,
};

use crate::provider::sleep_until;

/// The question is asked again after this: one lost packet must not cost a pipe.
const ASK_AGAIN: Duration = Duration::from_millis(60);
/// Pipes begin to be opened after this without an answer: a round trip within a continent. To a relay farther away they are begun
/// in vain, and it is reached plainly all the same: a pipe takes a round trip or more, so even the second question is answered before.
const OPEN_AFTER: Duration = Duration::from_millis(100);
/// A relay of ours that cannot be reached at all is tried again after this, doubled each time up to [`MOST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(5);
const MOST_PAUSE: Duration = Duration::from_secs(60);
/// A pipe that no path uses is closed after this, unless its relay is to ring us.
const SPARE: Duration = Duration::from_secs(30);
/// Relays that are watched: 8 of ours and those of calls. A pipe holds at most 400 KiB.
const MOST: usize = 64;

/// What a path's datagrams travel in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Nothing but UDP.
    Udp,
    /// Datagrams of a QUIC connection to the relay.
    Quic,
    /// A TLS connection over TCP to the relay.
    Tls,
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Quic => "quic",
            Self::Tls => "tls",
        })
    }
}

impl From<PipeKind> for Carrier {
    fn from(kind: PipeKind) -> Self {
        match kind {
            PipeKind::Quic => Self::Quic,
            PipeKind::Tls => Self::Tls,
        }
    }
}

/// What the driver must do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Ask this relay again over plain UDP.
    Ask(SocketAddr),
    /// A pipe stands: the relay is reached at this address from now on.
    Stands(NodeAddress),
    /// It does not any more, and nothing is carried to `at` now.
    Ended {
        /// With its real address.
        relay: NodeAddress,
        /// Where the pipe led.
        at: SocketAddr,
    },
    /// This relay cannot be reached by a pipe.
    Failed,
}

#[derive(Debug)]
struct Watched {
    relay: NodeAddress,
    /// It is to ring us: watched for ever.
    ours: bool,
    state: State,
    failures: u32,
}

#[derive(Debug)]
enum State {
    /// Not answered yet.
    Silent {
        ask_at: Option<Instant>,
        open_at: Instant,
    },
    /// It answers over plain UDP.
    Plain,
    Opening,
    Stands {
        pipe: Pipe,
        used_at: Instant,
    },
    /// No pipe could be opened; tried again then if it is one of ours.
    Unreachable {
        again_at: Option<Instant>,
    },
}

type Raced = (NodeId, Option<Pipe>);

pub(super) struct Carriers {
    socket: SharedSocket,
    endpoint: QuicEndpoint,
    identity: QuicIdentity,
    watched: HashMap<NodeId, Watched>,
    races: FuturesUnordered<BoxFuture<'static, Raced>>,
    ends: FuturesUnordered<BoxFuture<'static, (NodeId, SocketAddr)>>,
}

impl Carriers {
    pub(super) fn new(
        socket: SharedSocket,
        endpoint: QuicEndpoint,
        identity: QuicIdentity,
    ) -> Self {
        Self {
            socket,
            endpoint,
            identity,
            watched: HashMap::new(),
            races: FuturesUnordered::new(),
            ends: FuturesUnordered::new(),
        }
    }

    /// A relay was just asked over plain UDP how it sees us. `ours`: it is to ring us.
    pub(super) fn watch(&mut self, relay: NodeAddress, ours: bool, now: Instant) {
        let silent = State::Silent {
            ask_at: Some(now + ASK_AGAIN),
            open_at: now + OPEN_AFTER,
        };
        if let Some(watched) = self.watched.get_mut(&relay.node) {
            watched.relay = relay;
            watched.ours |= ours;
            match watched.state {
                State::Plain | State::Unreachable { .. } => watched.state = silent,
                State::Silent { .. } | State::Opening | State::Stands { .. } => {}
            }
        } else if self.watched.len() < MOST {
            let watched = Watched {
                relay,
                ours,
                state: silent,
                failures: 0,
            };
            self.watched.insert(relay.node, watched);
        }
    }

    /// A relay answered over plain UDP, at whichever of its addresses.
    pub(super) fn heard(&mut self, relay: NodeId) {
        // A pipe that stands is kept as long as it does: its paths are in use.
        if let Some(watched) = self.watched.get_mut(&relay)
            && !matches!(watched.state, State::Stands { .. })
        {
            watched.state = State::Plain;
        }
    }

    /// Where the relay is reached if a pipe leads there.
    pub(super) fn address(&self, relay: NodeId) -> Option<SocketAddr> {
        match &self.watched.get(&relay)?.state {
            State::Stands { pipe, .. } => Some(pipe.address()),
            State::Silent { .. } | State::Plain | State::Opening | State::Unreachable { .. } => {
                None
            }
        }
    }

    /// Whether nothing more can be expected of a relay.
    pub(super) fn is_hopeless(&self, relay: NodeId) -> bool {
        self.watched
            .get(&relay)
            .is_none_or(|watched| matches!(watched.state, State::Unreachable { .. }))
    }

    /// What paths through the relay at this address travel in.
    pub(super) fn carrier(&self, relay: SocketAddr) -> Carrier {
        let pipes = self.watched.values().filter_map(|w| match &w.state {
            State::Stands { pipe, .. } => Some(pipe),
            State::Silent { .. } | State::Plain | State::Opening | State::Unreachable { .. } => {
                None
            }
        });
        let mut of_relay = pipes.filter(|pipe| pipe.address() == relay);
        of_relay
            .next()
            .map_or(Carrier::Udp, |pipe| pipe.kind().into())
    }

    /// Forgets relays of calls that are over, and closes their pipes. `in_use` tells of a relay whether a path leads through it.
    pub(super) fn let_go(&mut self, in_use: impl Fn(NodeId) -> bool, now: Instant) {
        self.watched
            .retain(|node, watched| match &mut watched.state {
                _ if watched.ours => true,
                State::Stands { used_at, .. } => {
                    if in_use(*node) {
                        *used_at = now;
                    }
                    now.saturating_duration_since(*used_at) < SPARE
                }
                State::Silent { .. } | State::Opening => true,
                State::Plain | State::Unreachable { .. } => in_use(*node),
            });
    }

    /// What comes next. Cancel safe.
    pub(super) async fn turn(&mut self) -> Turn {
        loop {
            let due = self.watched.values().filter_map(Watched::due).min();
            tokio::select! {
                () = sleep_until(due) => {
                    if let Some(turn) = self.act(Clock::now()) {
                        return turn;
                    }
                }
                Some((node, pipe)) = self.races.next(), if !self.races.is_empty() => {
                    if let Some(turn) = self.raced(node, pipe) {
                        return turn;
                    }
                }
                Some((node, at)) = self.ends.next(), if !self.ends.is_empty() => {
                    if let Some(turn) = self.ended(node, at) {
                        return turn;
                    }
                }
            }
        }
    }

    /// Does one thing that is due.
    fn act(&mut self, now: Instant) -> Option<Turn> {
        let is_due = |w: &&mut Watched| w.due().is_some_and(|at| at <= now);
        let watched = self.watched.values_mut().find(is_due)?;
        let relay = watched.relay;
        if let State::Silent { ask_at, .. } = &mut watched.state
            && ask_at.take_if(|at| *at <= now).is_some()
        {
            return Some(Turn::Ask(relay.at));
        }
        watched.state = State::Opening;
        tracing::debug!(%relay, "a relay does not answer: pipes are opened");
        let (socket, endpoint, identity) = (
            self.socket.clone(),
            self.endpoint.clone(),
            self.identity.clone(),
        );
        let race = async move {
            let pipe = race((&socket, &endpoint, &identity), relay).await;
            (relay.node, pipe)
        };
        self.races.push(race.boxed());
        None
    }

    fn raced(&mut self, node: NodeId, pipe: Option<Pipe>) -> Option<Turn> {
        let now = Clock::now();
        // Not waited for any more: the plain answer came.
        let watched = self.watched.get_mut(&node)?;
        if !matches!(watched.state, State::Opening) {
            return None;
        }
        let Some(pipe) = pipe else {
            let doubled = PAUSE * (1 << watched.failures.min(4));
            watched.failures += 1;
            watched.state = State::Unreachable {
                again_at: watched.ours.then(|| now + doubled.min(MOST_PAUSE)),
            };
            return Some(Turn::Failed);
        };
        watched.failures = 0;
        let at = pipe.address();
        tracing::info!(relay = %watched.relay, carrier = %Carrier::from(pipe.kind()), "this relay is reached through a pipe");
        let ended = pipe.ended();
        self.ends.push(ended.map(move |()| (node, at)).boxed());
        watched.state = State::Stands { pipe, used_at: now };
        Some(Turn::Stands(NodeAddress { node, at }))
    }

    fn ended(&mut self, node: NodeId, at: SocketAddr) -> Option<Turn> {
        // `None`: we closed it ourselves, or another one stands.
        self.address(node).filter(|standing| *standing == at)?;
        let watched = self.watched.get_mut(&node)?;
        let relay = watched.relay;
        tracing::info!(%relay, "the pipe to a relay has ended");
        watched.state = State::Plain;
        if !watched.ours {
            self.watched.remove(&node);
        }
        Some(Turn::Ended { relay, at })
    }
}

impl Watched {
    /// When something must be done.
    fn due(&self) -> Option<Instant> {
        match self.state {
            State::Silent { ask_at, open_at } => Some(ask_at.unwrap_or(open_at)),
            State::Unreachable { again_at } => again_at,
            State::Plain | State::Opening | State::Stands { .. } => None,
        }
    }
}

/// The pipe that stands first, if any does.
async fn race(
    ours: (&SharedSocket, &QuicEndpoint, &QuicIdentity),
    relay: NodeAddress,
) -> Option<Pipe> {
    let open = |kind| open_pipe(kind, ours, relay.at, relay.node.0);
    let (quic, tls) = (pin!(open(PipeKind::Quic)), pin!(open(PipeKind::Tls)));
    let last = match select(quic, tls).await {
        Either::Left((Ok(pipe), _)) | Either::Right((Ok(pipe), _)) => Ok(pipe),
        Either::Left((Err(error), tls)) => other(error, tls.await),
        Either::Right((Err(error), quic)) => other(error, quic.await),
    };
    last.inspect_err(|error| tracing::debug!(%error, "no pipe leads to a relay"))
        .ok()
}

fn other(first: PipeError, second: Result<Pipe, PipeError>) -> Result<Pipe, PipeError> {
    tracing::debug!(error = %first, "one of two pipes cannot be opened");
    second
}

#[cfg(test)]
mod tests;
