//! What an outbox holds: errands, the envelopes that carry them, and how far each has come, as records and as people are told.
//! It refuses to decide anything.

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use wayfare_identity::{Address, B256, U256};

use crate::{Amount, ChannelId};

/// Names a job of one account. Numbers count upwards and are never used twice.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct JobId(pub u64);

/// What an account wants done on the chain.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// The contract or account; `None` deploys `input`.
    pub to: Option<Address>,
    /// Native coin that goes along, in wei.
    pub value: U256,
    /// The call.
    pub input: Vec<u8>,
    /// The gas limit, where an estimate would be too low; `None` has it estimated.
    pub gas: Option<u64>,
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errand")
            .field("to", &self.to)
            .field("value", &self.value)
            .field("input", &self.input.len())
            .field("gas", &self.gas)
            .finish()
    }
}

/// What a job is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Cashes the account's own promise.
    Settle {
        /// The provider's channel.
        channel: ChannelId,
        /// The promise's cumulative amount.
        amount: Amount,
        /// What the chain had settled of it when this was asked for. A Hermes that was short pays the rest in another transaction.
        before: Amount,
    },
    /// Collects a consumer's promise.
    Collect {
        /// The consumer's channel.
        channel: ChannelId,
        /// The promise's cumulative amount.
        amount: Amount,
        /// What the chain had settled of it when this was asked for. A Hermes that was short pays the rest in another transaction.
        before: Amount,
    },
    /// Cashes somebody else's promise, for a fee.
    Relay {
        /// The payee's channel.
        channel: ChannelId,
        /// The promise's cumulative amount.
        amount: Amount,
        /// What the chain had settled of it when this was asked for. A Hermes that was short pays the rest in another transaction.
        before: Amount,
    },
    /// Puts money on a consumer's account.
    TopUp {
        /// How much.
        amount: Amount,
    },
    /// A step of a consumer's exit.
    Exit,
    /// Sends native coin.
    Transfer,
    /// Deploys a contract.
    Deploy,
    /// Uses a nonce up that nothing else uses, so that what waits behind it can be mined.
    Filler,
    /// Anything else.
    Call,
}

impl Purpose {
    /// Whether two jobs of this purpose are one: doing it twice from the same state would do nothing more.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.cumulative().is_some()
    }

    /// Whether a job of this purpose makes one of `other` pointless: the same channel, no smaller cumulative amount.
    pub(crate) fn overtakes(&self, other: &Self) -> bool {
        match (self.cumulative(), other.cumulative()) {
            (Some((kind, channel, amount)), Some((of, its, less))) => {
                (kind, channel) == (of, its) && amount >= less
            }
            (Some(_) | None, _) => false,
        }
    }

    /// What kind of promise it cashes, on which channel, up to what total.
    fn cumulative(&self) -> Option<(u8, ChannelId, Amount)> {
        match self {
            Self::Settle {
                channel, amount, ..
            } => Some((0, *channel, *amount)),
            Self::Collect {
                channel, amount, ..
            } => Some((1, *channel, *amount)),
            Self::Relay {
                channel, amount, ..
            } => Some((2, *channel, *amount)),
            Self::TopUp { .. }
            | Self::Exit
            | Self::Transfer
            | Self::Deploy
            | Self::Filler
            | Self::Call => None,
        }
    }
}

/// What a unit of gas may cost, in wei (EIP-1559).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fees {
    /// In all.
    pub most: u128,
    /// Of it for whoever mines.
    pub tip: u128,
}

impl Fees {
    /// What servers accept as a replacement: one eighth more of both, rounded up. (Ten percent is what most demand.)
    #[must_use]
    pub fn raised(self) -> Self {
        let eighth = |fee: u128| fee.saturating_add((fee / 8).saturating_add(1));
        Self {
            most: eighth(self.most),
            tip: eighth(self.tip),
        }
    }

    pub(crate) fn at_least(self, other: Self) -> Self {
        Self {
            most: self.most.max(other.most),
            tip: self.tip.max(other.tip),
        }
    }
}

/// A block, by number and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Its height.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
}

/// What a block says became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mined {
    /// The transaction.
    pub hash: B256,
    /// Where.
    pub block: Block,
    /// Whether it did what it was to do; otherwise it only cost gas.
    pub succeeded: bool,
    /// Gas that it used.
    pub gas: u64,
    /// Paid for each unit of gas, in wei.
    pub price: u128,
}

impl Mined {
    /// What it cost, in wei.
    #[must_use]
    pub fn paid(&self) -> U256 {
        U256::from(self.gas) * U256::from(self.price)
    }
}

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Nothing has been signed for it, or what was can no longer be mined.
    Queued,
    /// Signed, durable and, as far as a server was reached, in circulation.
    Sent,
    /// In a block, not deep enough yet to count.
    Mined(Mined),
    /// In a block that was this deep, its own included, when it began to count.
    Confirmed {
        /// Where.
        mined: Mined,
        /// Blocks on it then.
        depth: u64,
    },
    /// The chain shows it done, by somebody else's transaction.
    SettledByAnother,
    /// It will not be done.
    Failed(Failure),
}

/// Why a job is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Failure {
    /// The contract would refuse it; nothing was sent.
    #[error("{0}")]
    Refused(String),
    /// It was mined, and the contract refused it.
    #[error("{0}")]
    Reverted(String),
    /// The account could not pay for the gas; nothing is in circulation.
    #[error("the account has too little of the chain's native coin to pay for gas")]
    NoGas,
    /// It was withdrawn before it was mined.
    #[error("withdrawn: {0}")]
    Withdrawn(String),
}

/// Why a job is no longer wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moot {
    /// The chain shows it done, by somebody else's transaction.
    SettledByAnother,
    /// Its owner took it back, for this reason.
    Withdrawn(String),
}

impl Moot {
    pub(crate) fn state(&self) -> JobState {
        match self {
            Self::SettledByAnother => JobState::SettledByAnother,
            Self::Withdrawn(why) => JobState::Failed(Failure::Withdrawn(why.clone())),
        }
    }
}

/// A signed transaction for a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Its place among the account's transactions.
    pub nonce: u64,
    /// What it offers.
    pub fees: Fees,
    /// Its hash.
    pub hash: B256,
    /// Whether it only uses the nonce up, so that an earlier one cannot be mined.
    pub cancels: bool,
    /// The bytes to send, of the newest envelope only: the older ones are in circulation or replaced.
    pub raw: Vec<u8>,
}

/// A job: an errand and all that was done about it. Also its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// What it is for.
    pub purpose: Purpose,
    /// What is to be done. The input is dropped once nothing can change any more.
    pub errand: Errand,
    /// How far it has come.
    pub state: JobState,
    /// Why it does not move on, where there is a reason.
    pub waiting: Option<String>,
    /// Its nonce, once one is chosen.
    pub nonce: Option<u64>,
    /// Everything signed for it, oldest first.
    pub envelopes: Vec<Envelope>,
    /// Unix seconds when it was queued.
    pub queued: u64,
    /// Unix seconds when `state` last changed.
    pub changed: u64,
    /// How often a block that it was in has been taken back.
    pub reorganised: u32,
    /// Whether nothing can change any more: deep enough, or nothing of it can be mined.
    pub last: bool,
    /// The transaction that used the nonce up although the job is not done by it.
    pub(crate) spent: Option<Mined>,
    pub(crate) moot: Option<Moot>,
    pub(crate) gas: Option<u64>,
    /// What it must offer at least: more than what it replaces.
    pub(crate) floor: Fees,
    /// The head when another transaction was first seen to have its nonce.
    pub(crate) lost_at: Option<u64>,
    #[serde(skip)]
    pub(crate) live: Live,
}

/// What a job forgets in a restart: it is found out again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Live {
    /// When the newest envelope was first taken by a server, and at which height.
    pub(crate) sent: Option<(Instant, u64)>,
    /// When it was last sent.
    pub(crate) repeated: Option<Instant>,
    /// Its newest envelope was signed in this run and no server has taken it yet.
    pub(crate) fresh: bool,
    /// A server wants more for it.
    pub(crate) underpriced: bool,
    /// Since when it has not been found where it should be: another has its nonce, or its block is gone.
    pub(crate) missing: Option<Instant>,
    /// Its revert is being explained.
    pub(crate) explaining: bool,
}

impl Job {
    /// The transaction that counts: the mined one, otherwise the newest.
    #[must_use]
    pub fn hash(&self) -> Option<B256> {
        self.mined()
            .map(|mined| mined.hash)
            .or_else(|| self.envelopes.last().map(|envelope| envelope.hash))
    }

    /// Where it was mined, while it is.
    #[must_use]
    pub fn mined(&self) -> Option<Mined> {
        match &self.state {
            JobState::Mined(mined) | JobState::Confirmed { mined, .. } => Some(*mined),
            JobState::Queued
            | JobState::Sent
            | JobState::SettledByAnother
            | JobState::Failed(_) => self.spent,
        }
    }

    /// How often it was replaced by a dearer one.
    #[must_use]
    pub fn replaced(&self) -> usize {
        let nonce = self.envelopes.last().map(|envelope| envelope.nonce);
        let same = self
            .envelopes
            .iter()
            .filter(|envelope| Some(envelope.nonce) == nonce);
        same.count().saturating_sub(1)
    }

    /// What a history need not keep.
    pub(crate) fn forget_bytes(&mut self) {
        self.errand.input = Vec::new();
        for envelope in &mut self.envelopes {
            envelope.raw = Vec::new();
        }
    }

    /// Whether its owner can stop waiting. It may still be taken back until it is [`Job::last`].
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match self.state {
            JobState::Queued | JobState::Sent | JobState::Mined(_) => false,
            JobState::Confirmed { .. } | JobState::SettledByAnother | JobState::Failed(_) => true,
        }
    }
}
