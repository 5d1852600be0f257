//! Pipes to relays that plain UDP does not reach: who is waited for, when a pipe is opened, and which of two is used.
//!
//! A relay is first asked over plain UDP how it sees us, twice. When it does not say so, a pipe inside QUIC and one inside TLS
//! are opened beside, see [`opening`]; the one that stands is used for that relay, unless the plain answer came meanwhile. When
//! a pipe ends plain UDP is tried first again. It refuses to know swarm and finders: the driver is told addresses.

mod opening;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use tokio::sync::oneshot;
use wayfare_identity::{NodeAddress, NodeId};
use wayfare_transport::{Clock, Pipe, PipeKind, QuicEndpoint, QuicIdentity, SharedSocket};

use self::opening::{ASK_AGAIN, Ours, Schedule};
use crate::provider::sleep_until;

/// A relay of ours that cannot be reached at all, or refuses pipes, is tried again after this, doubled each time up to
/// [`MOST_PAUSE`].
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
    /// Pipes in a row that could not be opened, or were of no use.
    failures: u32,
    /// It let a pipe stand and sent nothing through it: no other is opened before.
    refuses_until: Option<Instant>,
}

#[derive(Debug)]
enum State {
    /// Not answered yet.
    Silent {
        ask_at: Option<Instant>,
        pipe: Opening,
    },
    /// It answers over plain UDP.
    Plain,
    Stands {
        pipe: Pipe,
        used_at: Instant,
    },
    /// No pipe could be opened; tried again then if it is one of ours.
    Unreachable {
        again_at: Option<Instant>,
    },
}

#[derive(Debug)]
enum Opening {
    Planned(Schedule),
    /// What was begun is given up when this goes.
    Begun {
        _give_up: oneshot::Sender<Infallible>,
    },
}

/// `None`: it was given up.
type Tried = Option<(NodeId, Option<Pipe>)>;
/// Whether anything ever came through it.
type Ended = (NodeId, SocketAddr, bool);

pub(super) struct Carriers {
    ours: Ours,
    watched: HashMap<NodeId, Watched>,
    tries: FuturesUnordered<BoxFuture<'static, Tried>>,
    ends: FuturesUnordered<BoxFuture<'static, Ended>>,
}

impl Carriers {
    pub(super) fn new(
        socket: SharedSocket,
        endpoint: QuicEndpoint,
        identity: QuicIdentity,
    ) -> Self {
        let ours = Ours {
            socket,
            endpoint,
            identity,
        };
        Self {
            ours,
            watched: HashMap::new(),
            tries: FuturesUnordered::new(),
            ends: FuturesUnordered::new(),
        }
    }

    /// A relay was just asked over plain UDP how it sees us. `ours`: it is to ring us.
    pub(super) fn watch(&mut self, relay: NodeAddress, ours: bool, now: Instant) {
        let silent = State::Silent {
            ask_at: Some(now + ASK_AGAIN),
            pipe: Opening::Planned(Schedule::beside_a_question(now)),
        };
        if let Some(watched) = self.watched.get_mut(&relay.node) {
            watched.relay = relay;
            watched.ours |= ours;
            match watched.state {
                State::Unreachable { .. } if watched.refuses(now) => {}
                State::Plain | State::Unreachable { .. } => watched.state = silent,
                State::Silent { .. } | State::Stands { .. } => {}
            }
        } else if self.watched.len() < MOST {
            let watched = Watched {
                relay,
                ours,
                state: silent,
                failures: 0,
                refuses_until: None,
            };
            self.watched.insert(relay.node, watched);
        }
    }

    /// A relay answered over plain UDP, at whichever of its addresses.
    pub(super) fn heard(&mut self, relay: NodeId) {
        // A pipe that stands is kept as long as it does: its paths are in use. One that does not yet is given up.
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
            State::Silent { .. } | State::Plain | State::Unreachable { .. } => None,
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
            State::Silent { .. } | State::Plain | State::Unreachable { .. } => None,
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
                State::Silent { .. } => true,
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
                Some(tried) = self.tries.next(), if !self.tries.is_empty() => {
                    if let Some(turn) = tried.and_then(|(node, pipe)| self.tried(node, pipe)) {
                        return turn;
                    }
                }
                Some(ended) = self.ends.next(), if !self.ends.is_empty() => {
                    if let Some(turn) = self.ended(ended) {
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
        let (ask_at, schedule) = match &mut watched.state {
            State::Silent { ask_at, pipe } => {
                if ask_at.take_if(|at| *at <= now).is_some() {
                    return Some(Turn::Ask(relay.at));
                }
                (*ask_at, pipe.schedule()?)
            }
            State::Unreachable { .. } => (None, Schedule::at(now)),
            State::Plain | State::Stands { .. } => return None,
        };
        let (give_up, given_up) = oneshot::channel();
        watched.state = State::Silent {
            ask_at,
            pipe: Opening::Begun { _give_up: give_up },
        };
        let opening = opening::open(self.ours.clone(), relay, schedule);
        let trying = async move {
            tokio::select! {
                biased;
                _ = given_up => None,
                pipe = opening => Some((relay.node, pipe)),
            }
        };
        self.tries.push(trying.boxed());
        None
    }

    fn tried(&mut self, node: NodeId, pipe: Option<Pipe>) -> Option<Turn> {
        let now = Clock::now();
        // Nobody gave it up: the relay is still silent.
        let watched = self.watched.get_mut(&node)?;
        let Some(pipe) = pipe else {
            watched.fail(now);
            return Some(Turn::Failed);
        };
        let at = pipe.address();
        tracing::info!(relay = %watched.relay, carrier = %Carrier::from(pipe.kind()), "this relay is reached through a pipe");
        let ended = pipe.ended();
        self.ends
            .push(ended.map(move |heard| (node, at, heard)).boxed());
        watched.state = State::Stands { pipe, used_at: now };
        Some(Turn::Stands(NodeAddress { node, at }))
    }

    fn ended(&mut self, (node, at, heard): Ended) -> Option<Turn> {
        // `None`: we closed it ourselves, or another one stands.
        self.address(node).filter(|standing| *standing == at)?;
        let watched = self.watched.get_mut(&node)?;
        let relay = watched.relay;
        if heard {
            tracing::info!(%relay, "the pipe to a relay has ended");
            watched.failures = 0;
            watched.state = State::Plain;
            if !watched.ours {
                self.watched.remove(&node);
            }
        } else {
            tracing::info!(%relay, "a relay refuses the pipe that led to it");
            let now = Clock::now();
            watched.refuses_until = Some(now + watched.fail(now));
        }
        Some(Turn::Ended { relay, at })
    }
}

impl Opening {
    fn schedule(&self) -> Option<Schedule> {
        match self {
            Self::Planned(schedule) => Some(*schedule),
            Self::Begun { .. } => None,
        }
    }
}

impl Watched {
    /// When something must be done.
    fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Silent { ask_at, pipe } => {
                let open_at = pipe.schedule().map(|schedule| schedule.connect_at);
                ask_at.iter().copied().chain(open_at).min()
            }
            State::Unreachable { again_at } => *again_at,
            State::Plain | State::Stands { .. } => None,
        }
    }

    fn refuses(&self, now: Instant) -> bool {
        self.refuses_until.is_some_and(|until| now < until)
    }

    /// No pipe leads there for as long as this tells.
    fn fail(&mut self, now: Instant) -> Duration {
        let pause = (PAUSE * (1 << self.failures.min(4))).min(MOST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        let again_at = self.ours.then(|| now + pause);
        self.state = State::Unreachable { again_at };
        pause
    }
}

#[cfg(test)]
mod tests;
