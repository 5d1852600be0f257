//! Small signed records under topics, kept by the nodes whose ids are closest: what is found when every index is down.
//!
//! The nodes that serve are in one another's Kademlia tables (`libp2p-kad`, protocol `/wayfare/kad/1`), which join, fill and
//! mend themselves. A *topic* is a key of 32 bytes; a record under it lives at the [`REPLICAS`] serving nodes closest to the
//! topic, by XOR. A topic holds **many** records, so whoever asks one node gets all it knows in one answer: there is no second
//! lookup for each provider, and no pointer whose target has to be believed. Records are what [`Records`] admits; it is asked
//! before a record is stored and again when one is found, so a node that lies can only leave out, not make up.
//!
//! Questions and answers are our own (`words`), and so is the lookup: the library's trusts every node that an answer names, and
//! one liar that names hundreds of absent nodes next to the topic starves it for ten seconds a node. Ours (`lookup`) lets whoever
//! names nodes that do not answer wait behind everybody else, and merges what several nodes say. So the library keeps the table
//! and knows who serves; joining and mending are lookups of ours, for oneself and for a topic of chance.
//!
//! Nobody passes records on: whoever made one brings it again while it wants to be found, so nothing outlives its maker.
//!
//! A flood (`store`) meets quotas by owner and by the network it comes from: a full topic makes room by evicting from the most
//! crowded network, and an answer takes one record of each network in turn. What is left: whoever answers truthfully from many
//! networks next to a topic can hide that topic. It refuses to know what records mean, and to keep any after its time.

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzzed;
mod limits;
mod lookup;
mod passing;
mod search;
mod store;
mod task;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use wayfare_identity::NodeAddress;

pub(crate) use self::task::{Dht, Net, Table, Words, assemble_kad, assemble_words, is_serving};
pub use self::words::MAX_VALUE;

/// Where records of one kind are: a hash of whatever they have in common.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Topic(pub [u8; 32]);

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Topic({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// How many nodes keep a record: with a third of them gone or lying, all 16 fail with a probability of 3⁻¹⁶.
pub const REPLICAS: usize = 16;

/// What a record is, to those who know what records mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Who made it: has a quota.
    pub owner: [u8; 32],
    /// What distinguishes it from its owner's other records; a later one in the same slot replaces it.
    pub slot: [u8; 32],
    /// Counts up with each record of the slot.
    pub sequence: u64,
    /// Unix seconds.
    pub expires_at: u64,
}

/// The port to what records mean.
pub trait Records: Send + Sync + fmt::Debug {
    /// The time by which records expire, Unix seconds.
    fn now(&self) -> u64;

    /// Whether these bytes are a record that belongs under the topic and is in force: well-formed, its signature verified.
    fn admit(&self, topic: &Topic, value: &[u8]) -> Option<Admitted>;
}

/// How a node takes part.
#[derive(Debug, Clone)]
pub struct DhtConfig {
    /// What records mean.
    pub records: Arc<dyn Records>,
    /// Whether it keeps records for others and stands in their tables: for nodes that anybody can dial.
    pub serves: bool,
    /// First contacts: nodes that serve, as far as we know. Whoever serves itself joins through them at once.
    pub seeds: Vec<NodeAddress>,
}

/// Why nothing was published or found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DhtError {
    /// The swarm runs without it.
    #[error("this node takes no part in the distributed table")]
    Off,
    /// Nobody to ask is known.
    #[error("no node of the distributed table is known: name one in `bootstrap`")]
    Alone,
    /// Nobody answered.
    #[error("none of {0} nodes of the distributed table answered")]
    Silent(usize),
    /// The record is longer than [`MAX_VALUE`], or not what it should be.
    #[error("the record is not one that would be kept")]
    Unfit,
    /// Others kept it not.
    #[error("{0} nodes answered, and none kept the record")]
    Unkept(usize),
    /// Too many questions at a time.
    #[error("too many questions wait")]
    Busy,
    /// The swarm has stopped.
    #[error("the swarm has stopped")]
    Stopped,
}

/// What is asked of the swarm's task.
#[derive(Debug)]
pub(crate) enum DhtCommand {
    Bootstrap {
        nodes: Vec<NodeAddress>,
        done: oneshot::Sender<Result<usize, DhtError>>,
    },
    Publish {
        topic: Topic,
        value: Vec<u8>,
        done: oneshot::Sender<Result<usize, DhtError>>,
    },
    Find {
        topic: Topic,
        enough: Duration,
        limit: Duration,
        done: oneshot::Sender<Result<Vec<Vec<u8>>, DhtError>>,
    },
}
