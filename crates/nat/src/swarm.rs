//! The swarm's handle: what the rest of the process asks of it and hears from it. It refuses to block on a peer: whoever is
//! asked too much loses the question.

mod behaviour;
mod service;
mod task;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use wayfare_identity::{NodeAddress, NodeId, NodeKey};

use crate::calls::{Elsewhere, Sight, is_flight};
use crate::dht::{DhtCommand, DhtConfig, DhtError, Topic};
use crate::relay::{RelayBoard, RelayLimits};
use crate::{Ground, MAX_WORD};

/// Questions waiting for the swarm, and events waiting for its owner.
const QUEUE: usize = 256;

/// What a swarm is made of.
#[derive(Debug)]
pub struct SwarmConfig {
    /// Who we are.
    pub key: NodeKey,
    /// Whether this node carries for others, and how much.
    pub relay: Option<RelayLimits>,
    /// Whether and how it takes part in the distributed table.
    pub dht: Option<DhtConfig>,
}

/// A running swarm. Cheap to clone; it ends with the last clone.
#[derive(Debug, Clone)]
pub struct Swarm {
    commands: mpsc::Sender<Command>,
    board: Option<Arc<RelayBoard>>,
    _task: Arc<Task>,
}

#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why there is no swarm.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// The node key is none.
    #[error("the node key is unusable: {0}")]
    Key(#[from] libp2p_identity::DecodingError),
    /// A part of the swarm refused its configuration.
    #[error("the swarm cannot be put together: {0}")]
    Setup(String),
}

/// What happens around a node.
#[derive(Debug)]
pub enum SwarmEvent {
    /// A relay that was asked for is connected, and rings us from now on.
    Attached(NodeAddress),
    /// It is not any more; it is dialed again.
    Detached(NodeAddress),
    /// Another node tells from where our datagrams come.
    Seen {
        /// Where it is.
        by: SocketAddr,
        /// Where we seem to be.
        us: SocketAddr,
    },
    /// Somebody wants a channel to us.
    Rung(Ring),
    /// The other end of a channel says something.
    Word {
        /// Through which relay.
        relay: NodeId,
        /// The channel.
        channel: u32,
        /// Where the relay sees the other end.
        seen: Option<Sight>,
        /// What it says.
        word: Vec<u8>,
    },
    /// The other end, or the relay, closed a channel.
    HungUp {
        /// Through which relay.
        relay: NodeId,
        /// The channel.
        channel: u32,
    },
    /// The swarm's own hole punching made a direct connection to a node.
    Punched {
        /// To whom.
        node: NodeId,
        /// Where it is.
        at: SocketAddr,
    },
}

/// Somebody's wish for a channel. Dropped unanswered, it is refused.
#[derive(Debug)]
pub struct Ring {
    /// The relay that rings.
    pub relay: NodeAddress,
    /// The channel that waits.
    pub channel: u32,
    /// Who calls, as the relay's connection to it proved.
    pub from: NodeId,
    /// Where the relay sees the caller.
    pub seen: Sight,
    /// The caller's offer.
    pub offer: Vec<u8>,
    /// Datagrams that the caller sent along, as from the channel: of no concern if the call is not taken.
    pub first: Vec<Vec<u8>>,
    answer: oneshot::Sender<Vec<u8>>,
}

impl Ring {
    /// Takes the call.
    pub fn accept(self, answer: Vec<u8>) {
        // The relay may have given up; it will tell by closing the channel.
        let _ = self.answer.send(answer);
    }
}

/// What is asked of a relay for a channel to a node.
#[derive(Debug)]
pub struct Call {
    /// To whom.
    pub to: NodeId,
    /// The channel's number, which chance chose: its frames are heard before the relay has replied.
    pub channel: u32,
    /// Shows the relay that we receive elsewhere, too; it tells the other end so.
    pub also: Option<Elsewhere>,
    /// At most [`MAX_WORD`] bytes.
    pub offer: Vec<u8>,
    /// Datagrams that the other end receives with the call, as if from the channel: three at most, of [`MAX_FIRST`](crate::MAX_FIRST)
    /// bytes altogether. Frames pass once it has taken the call.
    pub first: Vec<Vec<u8>>,
    /// Hears where the relay is, at the latest when the connection to it is made: frames will come from there.
    pub begun: Option<oneshot::Sender<SocketAddr>>,
}

impl Call {
    /// Nothing goes along but an offer.
    #[must_use]
    pub fn new(to: NodeId, channel: u32, offer: Vec<u8>) -> Self {
        Self {
            to,
            channel,
            also: None,
            offer,
            first: Vec::new(),
            begun: None,
        }
    }
}

/// A channel through a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its number; frames carry it.
    pub channel: u32,
    /// Where the relay itself is: frames go there.
    pub relay: SocketAddr,
    /// Where the relay sees the other end.
    pub seen: Sight,
    /// The other end's answer.
    pub answer: Vec<u8>,
}

/// Why there is no channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The relay cannot be reached, or went away.
    #[error("the relay {relay} does not answer: {cause}")]
    Relay {
        /// Which.
        relay: NodeAddress,
        /// Why.
        cause: String,
    },
    /// It refuses.
    #[error("the relay {relay} opens no channel: {why}")]
    Refused {
        /// Which.
        relay: NodeAddress,
        /// In its words.
        why: String,
    },
    /// The channel's number is somebody's: another one is to be chosen.
    #[error("the relay {relay} has a channel of this number")]
    Taken {
        /// Which.
        relay: NodeAddress,
    },
    /// The offer is longer than a relay passes on.
    #[error("an offer has at most {MAX_WORD} bytes, this one {0}")]
    TooLong(usize),
    /// What goes along is more than a relay passes on.
    #[error("the datagrams that go along with the call are too many or too long, or one is empty")]
    TooMuch,
    /// The swarm has stopped.
    #[error("the swarm has stopped")]
    Stopped,
}

#[derive(Debug)]
enum Command {
    Attach(NodeAddress),
    Detach(NodeId),
    Also {
        relay: NodeId,
        also: Elsewhere,
    },
    Dial(NodeAddress),
    Call {
        relay: NodeAddress,
        call: Call,
        opened: oneshot::Sender<Result<Opened, CallError>>,
    },
    Say {
        relay: NodeId,
        channel: u32,
        word: Vec<u8>,
    },
    HangUp {
        relay: NodeId,
        channel: u32,
        done: Option<oneshot::Sender<()>>,
    },
    Circuit {
        relay: NodeAddress,
        to: NodeId,
    },
    Dht(DhtCommand),
}

impl Swarm {
    /// Starts a swarm on `ground`; `incoming` are the connections that others made to it. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`SwarmError`].
    pub fn start(
        config: SwarmConfig,
        ground: Arc<dyn Ground>,
        incoming: mpsc::Receiver<Connection>,
    ) -> Result<(Self, mpsc::Receiver<SwarmEvent>), SwarmError> {
        let board = config.relay.map(|limits| Arc::new(RelayBoard::new(limits)));
        let (commands, inbox) = mpsc::channel(QUEUE);
        let (tell, events) = mpsc::channel(QUEUE);
        let task = task::Driver::new(config, board.clone(), ground, incoming, inbox, tell)?;
        let task = tokio::spawn(task.run());
        let swarm = Self {
            commands,
            board,
            _task: Arc::new(Task(task.abort_handle())),
        };
        Ok((swarm, events))
    }

    /// The channels of this relay; `None` if it is none.
    #[must_use]
    pub fn board(&self) -> Option<&Arc<RelayBoard>> {
        self.board.as_ref()
    }

    /// Keeps a connection to a relay, so that it can ring us.
    pub async fn attach(&self, relay: NodeAddress) {
        let _ = self.commands.send(Command::Attach(relay)).await;
    }

    /// Shows a relay that we receive elsewhere, too: whoever calls us is told. To be repeated within ten minutes.
    pub async fn also(&self, relay: NodeId, also: Elsewhere) {
        let _ = self.commands.send(Command::Also { relay, also }).await;
    }

    /// Begins to connect to a node, so that a call through it finds the connection made.
    pub async fn dial(&self, node: NodeAddress) {
        let _ = self.commands.send(Command::Dial(node)).await;
    }

    /// Needs a relay no longer.
    pub async fn detach(&self, relay: NodeId) {
        let _ = self.commands.send(Command::Detach(relay)).await;
    }

    /// Asks a relay for a channel to a node. Takes a round trip to the relay, one from there to the node, and the time the node
    /// takes to answer; the connection to the relay is made if there is none.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, relay: NodeAddress, call: Call) -> Result<Opened, CallError> {
        if call.offer.len() > MAX_WORD {
            return Err(CallError::TooLong(call.offer.len()));
        }
        if !is_flight(&call.first) {
            return Err(CallError::TooMuch);
        }
        let (opened, answer) = oneshot::channel();
        let command = Command::Call {
            relay,
            call,
            opened,
        };
        let sent = self.commands.send(command).await;
        sent.map_err(|_| CallError::Stopped)?;
        answer.await.map_err(|_| CallError::Stopped)?
    }

    /// Tells the other end of a channel something, through the relay; not confirmed.
    pub async fn say(&self, relay: NodeId, channel: u32, word: Vec<u8>) {
        let command = Command::Say {
            relay,
            channel,
            word,
        };
        let _ = self.commands.send(command).await;
    }

    /// Closes a channel. `done` hears when the relay knows, or is dropped when it cannot be told.
    pub async fn hang_up(&self, relay: NodeId, channel: u32, done: Option<oneshot::Sender<()>>) {
        let command = Command::HangUp {
            relay,
            channel,
            done,
        };
        let _ = self.commands.send(command).await;
    }

    /// Connects to a node through a relay's circuit; the swarm's own hole punching follows by itself and tells
    /// [`SwarmEvent::Punched`].
    pub async fn circuit(&self, relay: NodeAddress, to: NodeId) {
        let _ = self.commands.send(Command::Circuit { relay, to }).await;
    }

    /// Joins the distributed table through nodes that serve in it; returns how many of those around us answered. Those already
    /// named are not forgotten, and asked again from time to time where few others are known.
    ///
    /// # Errors
    /// [`DhtError`].
    pub async fn bootstrap(&self, nodes: Vec<NodeAddress>) -> Result<usize, DhtError> {
        let (done, joined) = oneshot::channel();
        let command = DhtCommand::Bootstrap { nodes, done };
        let sent = self.commands.send(Command::Dht(command)).await;
        sent.map_err(|_| DhtError::Stopped)?;
        joined.await.map_err(|_| DhtError::Off)?
    }

    /// Brings a record to the nodes closest to a topic; returns how many keep it. Takes 2 s where nodes have died, at most 7 s.
    ///
    /// # Errors
    /// [`DhtError`].
    pub async fn publish(&self, topic: Topic, value: Vec<u8>) -> Result<usize, DhtError> {
        let (done, kept) = oneshot::channel();
        let command = DhtCommand::Publish { topic, value, done };
        let sent = self.commands.send(Command::Dht(command)).await;
        sent.map_err(|_| DhtError::Stopped)?;
        kept.await.map_err(|_| DhtError::Off)?
    }

    /// The records under a topic, all of them admitted. Ends when everybody near it was asked; from `enough` on with what there
    /// is, at `limit` in any case.
    ///
    /// # Errors
    /// [`DhtError`].
    pub async fn find(
        &self,
        topic: Topic,
        enough: Duration,
        limit: Duration,
    ) -> Result<Vec<Vec<u8>>, DhtError> {
        let (done, found) = oneshot::channel();
        let command = DhtCommand::Find {
            topic,
            enough,
            limit,
            done,
        };
        let sent = self.commands.send(Command::Dht(command)).await;
        sent.map_err(|_| DhtError::Stopped)?;
        found.await.map_err(|_| DhtError::Off)?
    }
}
