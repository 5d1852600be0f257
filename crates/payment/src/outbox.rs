//! The outbox: the transactions of one account, from the wish to the block that nobody takes back.
//!
//! The story of a job: it is *queued* and written down; when its turn comes it is estimated, given the next nonce, signed, and the
//! signed bytes are made durable **before** they leave. So after a crash the same bytes are sent again, and no nonce is given out
//! twice. It is sent again while servers forget it, replaced by one that pays an eighth more while it is stuck, and waits, with the
//! reason, where that would cost more than the cap. Found in a block it is *mined*, deep enough it is *confirmed*, with the depth at
//! which it was called so; and it is looked for until it is so deep that nobody takes it back. A reorganisation that does makes it
//! *sent* again. Another program that has used its nonce makes it *queued* again. A job that has become pointless is withdrawn, and
//! where it is in circulation its nonce is used up by a transaction that does nothing.
//!
//! All that is known of the chain comes in by [`Outbox::handle_look`], one consistent [`Look`] at a time; every look decides anew.
//! Whatever this machine has declared, the chain's word counts: a transaction that was given up and is found mined *is* mined.
//!
//! It refuses to know what an errand means, to believe a server's answer to a sending, and to call done what no block shows.

mod job;
mod judge;
mod prepare;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use wayfare_identity::{Address, B256, U256};

pub use job::{Block, Envelope, Errand, Failure, Fees, Job, JobId, JobState, Mined, Moot, Purpose};

use crate::deadline::backoff;
use crate::durability::Withheld;
use crate::record::{decode, encode};
use crate::{Batch, Deadline, Entry, Expect, RecordError, Row, Table, Ticket, Why};
use job::Live;

/// Jobs that are not finished. Each is at most an input, its copy in an envelope and 24 short envelopes: 256 × 260 KiB, 65 MiB at
/// worst, and about half a megabyte with settlements.
pub const MAX_OPEN_JOBS: usize = 256;
/// Jobs that are kept as history, some 300 bytes each. The oldest that nothing can change go first.
const MAX_KEPT_JOBS: usize = 4_096;
/// The largest input: what servers take as one transaction, 128 KiB, less its other fields.
const MAX_INPUT: usize = 127 * 1_024;
/// Between tries while no server answers: doubled up to this.
const RETRY_MOST: Duration = Duration::from_secs(30);

/// Whose outbox, and how patient it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxConfig {
    /// The account.
    pub account: Address,
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// Blocks that a transaction must have, its own included, before it counts.
    pub confirmations: u64,
    /// Blocks after which no reorganisation is feared any more.
    pub finality: u64,
    /// A transaction that is not mined within so many blocks is stuck…
    pub stuck_blocks: u64,
    /// …and so is one that is not mined for so long.
    pub stuck_after: Duration,
    /// The most to pay for a unit of gas, in wei.
    pub fee_cap: Option<u128>,
    /// Between looks while a job is unfinished.
    pub poll: Duration,
    /// Between looks at what is finished and might be taken back.
    pub recheck: Duration,
    /// How long servers may disagree with themselves: a nonce counted and its receipt missing.
    pub patience: Duration,
}

/// The chain at one moment, for one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The newest block.
    pub head: Block,
    /// Transactions of the account in the chain up to it: the next nonce.
    pub nonce: u64,
    /// The next nonce as the server's queue has it; a hint.
    pub pending: u64,
    /// The least that a unit of gas costs in the next block, in wei.
    pub base: u128,
    /// What to offer in order to be mined soon.
    pub fees: Fees,
    /// Which of the transactions asked for are in the chain.
    pub mined: Vec<Mined>,
}

/// A transaction to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    /// Its place among the account's transactions.
    pub nonce: u64,
    /// Its gas limit.
    pub gas: u64,
    /// What it offers.
    pub fees: Fees,
    /// What it does.
    pub errand: Errand,
}

/// Why a call could not be estimated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EstimateFault {
    /// The contract would refuse it, with this reason.
    Refused(String),
    /// The account cannot pay for it.
    NoGas,
    /// No server answered.
    Unreachable(String),
}

/// Why no server took a transaction. None of it says what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendFault {
    /// Its nonce is used.
    NonceTaken,
    /// It offers less than the server wants, or than what it replaces.
    Underpriced,
    /// The account cannot pay for it.
    NoGas,
    /// No server answered, or not to the point.
    Unreachable(String),
}

/// Why an errand is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueRefusal {
    /// Too much is unfinished.
    #[error("{MAX_OPEN_JOBS} transactions of this account are unfinished: wait for some")]
    Full,
    /// No server would take it.
    #[error("a call of {0} bytes is over what a transaction takes, {MAX_INPUT}")]
    TooLarge(usize),
    /// A write failed: what the ledger holds is not known.
    #[error("the ledger failed: nothing is sent before a restart")]
    Stopped,
}

/// What the outbox wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxOutput {
    /// Commit this, then call [`Outbox::handle_durable`].
    Persist {
        /// To report back.
        ticket: Ticket,
        /// To commit.
        batch: Batch,
    },
    /// Look at the chain, and for these transactions; report [`Outbox::handle_look`].
    Look {
        /// The hashes to look for.
        hashes: Vec<B256>,
    },
    /// Estimate the gas limit; report [`Outbox::handle_estimate`].
    Estimate {
        /// For which job.
        job: JobId,
        /// The call.
        errand: Errand,
    },
    /// Sign; report [`Outbox::handle_signed`].
    Sign {
        /// For which job.
        job: JobId,
        /// What to sign.
        unsigned: Unsigned,
    },
    /// Send to every server; report [`Outbox::handle_broadcast`].
    Broadcast {
        /// For which job.
        job: JobId,
        /// The transaction.
        hash: B256,
        /// Its bytes.
        raw: Vec<u8>,
    },
    /// Find out why it reverted; report [`Outbox::handle_explained`].
    Explain {
        /// Which job.
        job: JobId,
        /// The call.
        errand: Errand,
    },
    /// The job's record has changed, durably: tell who waits for it.
    Changed(JobId),
}

/// The machine of one account. See the module.
#[derive(Debug)]
pub struct Outbox {
    config: OutboxConfig,
    /// A moment and what the wall clock said then, in Unix seconds.
    origin: (Instant, u64),
    jobs: BTreeMap<JobId, Job>,
    next: u64,
    seen: Option<(Instant, Look)>,
    /// The job that is being estimated, signed, written or first sent. One at a time, so that a refusal frees its nonce.
    busy: Option<JobId>,
    /// Its transaction, once it is signed.
    sending: Option<B256>,
    /// No job is begun before: a server could not estimate one.
    pause: Option<Instant>,
    stumbles: u32,
    /// Whose transactions the look under way looks for.
    asked: Option<BTreeSet<JobId>>,
    /// What that look says is out of date already.
    outdated: bool,
    look_at: Option<Instant>,
    rechecked: Option<Instant>,
    failures: u32,
    withheld: Withheld<Vec<OutboxOutput>>,
    outputs: VecDeque<OutboxOutput>,
}

impl Outbox {
    /// Where its records live; feed all rows of these to [`Outbox::restore`].
    pub const TABLES: &[Table] = &[Table::Transactions];

    /// An outbox without a past. `wall` is `now` in Unix seconds, for the history's times.
    #[must_use]
    pub fn new(config: OutboxConfig, now: Instant, wall: u64) -> Self {
        Self {
            config,
            origin: (now, wall),
            jobs: BTreeMap::new(),
            next: 0,
            seen: None,
            busy: None,
            sending: None,
            pause: None,
            stumbles: 0,
            asked: None,
            outdated: false,
            look_at: None,
            rechecked: None,
            failures: 0,
            withheld: Withheld::new(),
            outputs: VecDeque::new(),
        }
    }

    /// An outbox as its ledger left it: what was signed is looked for and sent again. Rows of other accounts and chains are skipped.
    ///
    /// # Errors
    /// [`RecordError`] names the row that cannot be read.
    pub fn restore(
        config: OutboxConfig,
        rows: impl IntoIterator<Item = (Table, Row)>,
        now: Instant,
        wall: u64,
    ) -> Result<Self, RecordError> {
        let mut outbox = Self::new(config, now, wall);
        let own = outbox.prefix();
        for (table, row) in rows {
            if !row.0.starts_with(&own) {
                continue;
            }
            let job: Job = decode(table, &row)?;
            outbox.next = outbox.next.max(job.id.0 + 1);
            outbox.jobs.insert(job.id, job);
        }
        if outbox.jobs.values().any(|job| !job.last) {
            outbox.look_at = Some(now);
        }
        Ok(outbox)
    }

    /// Takes an errand. One that settles what an unfinished job settles already, with the same call, is that job; and an earlier one
    /// for less on the same channel that is not signed yet is withdrawn.
    ///
    /// # Errors
    /// [`EnqueueRefusal`].
    pub fn enqueue(
        &mut self,
        purpose: Purpose,
        errand: Errand,
        now: Instant,
    ) -> Result<JobId, EnqueueRefusal> {
        if self.withheld.failed() {
            return Err(EnqueueRefusal::Stopped);
        }
        if errand.input.len() > MAX_INPUT {
            return Err(EnqueueRefusal::TooLarge(errand.input.len()));
        }
        if let Some(id) = self.same(&purpose, &errand) {
            self.look_again(id, now);
            return Ok(id);
        }
        if self.open() >= MAX_OPEN_JOBS {
            return Err(EnqueueRefusal::Full);
        }
        let overtaken: Vec<JobId> = self
            .jobs
            .values()
            .filter(|job| job.state == JobState::Queued && purpose.overtakes(&job.purpose))
            .map(|job| job.id)
            .collect();
        for id in overtaken {
            let why = Moot::Withdrawn("a larger settlement of the same channel follows".to_owned());
            self.handle_moot(id, why, now);
        }
        let id = self.insert(purpose, errand, now);
        self.persist(id, Vec::new());
        self.want_look(now);
        Ok(id)
    }

    /// A job is no longer wanted. One that is not signed ends at once; one in circulation has its nonce used up otherwise, and until
    /// then may still be mined; one that has failed is told as what it is.
    pub fn handle_moot(&mut self, id: JobId, moot: Moot, now: Instant) {
        let unix = self.unix(now);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let ends = match &job.state {
            JobState::Queued => true,
            // What failed because somebody else had done it did not fail.
            JobState::Failed(_) => moot == Moot::SettledByAnother,
            JobState::Sent | JobState::Mined(_) => false,
            JobState::Confirmed { .. } | JobState::SettledByAnother => return,
        };
        if ends {
            job.state = moot.state();
            job.changed = unix;
            job.waiting = None;
            job.nonce = None;
            job.last |= job.envelopes.is_empty();
            if self.busy == Some(id) {
                self.busy = None;
            }
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.moot = Some(moot);
        }
        self.persist(id, vec![OutboxOutput::Changed(id)]);
        self.advance(now);
    }

    /// A batch is durable.
    pub fn handle_durable(&mut self, ticket: Ticket, now: Instant) {
        for output in self.withheld.durable(ticket).into_iter().flatten() {
            if let OutboxOutput::Broadcast { job, .. } = &output
                && let Some(job) = self.jobs.get_mut(job)
            {
                job.live.repeated = Some(now);
            }
            self.outputs.push_back(output);
        }
    }

    /// A commit failed: nothing is sent any more, since nothing is known about what the ledger holds.
    pub fn handle_failed(&mut self, _ticket: Ticket) {
        self.withheld.fail();
        self.outputs.clear();
    }

    /// Does what has become due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due.at <= now) {
            self.ask(now);
        }
    }

    /// When to call [`Outbox::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.withheld.failed() || self.asked.is_some() {
            return None;
        }
        let because = |at| Deadline {
            at,
            why: Why::TransactionDue,
        };
        if let Some(at) = self.look_at {
            return Some(because(at));
        }
        let (seen, _) = self.seen.as_ref()?;
        let unfinished = self.jobs.values().any(|job| !job.is_finished());
        let revocable = self.jobs.values().any(|job| !job.last);
        if unfinished {
            return Some(because(*seen + self.config.poll));
        }
        revocable.then(|| because(self.rechecked.unwrap_or(*seen) + self.config.recheck))
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<OutboxOutput> {
        self.outputs.pop_front()
    }

    /// A job.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// Every job that is remembered, newest first.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().rev()
    }

    // ------------------------------------------------------------------------------------------------- private

    /// An unfinished job, or one that might be taken back, that does exactly this.
    fn same(&self, purpose: &Purpose, errand: &Errand) -> Option<JobId> {
        if !purpose.is_repeatable() {
            return None;
        }
        let alive = |job: &&Job| match job.state {
            JobState::Queued | JobState::Sent | JobState::Mined(_) => job.moot.is_none(),
            JobState::Confirmed { .. } => !job.last,
            JobState::SettledByAnother | JobState::Failed(_) => false,
        };
        self.jobs
            .values()
            .rev()
            .filter(alive)
            .find(|job| job.purpose == *purpose && job.errand == *errand)
            .map(|job| job.id)
    }

    /// Whoever asks for what is done already has seen otherwise: it does not count before it is found again.
    fn look_again(&mut self, id: JobId, now: Instant) {
        if let Some(job) = self.jobs.get_mut(&id)
            && let JobState::Confirmed { mined, .. } = job.state
        {
            job.state = JobState::Mined(mined);
        }
        self.outdated = self.asked.is_some();
        self.want_look(now);
    }

    fn insert(&mut self, purpose: Purpose, errand: Errand, now: Instant) -> JobId {
        let id = JobId(self.next);
        self.next += 1;
        let unix = self.unix(now);
        let job = Job {
            id,
            purpose,
            errand,
            state: JobState::Queued,
            waiting: None,
            nonce: None,
            envelopes: Vec::new(),
            queued: unix,
            changed: unix,
            reorganised: 0,
            last: false,
            spent: None,
            moot: None,
            gas: None,
            floor: Fees::default(),
            lost_at: None,
            live: Live::default(),
        };
        self.jobs.insert(id, job);
        id
    }

    fn open(&self) -> usize {
        let unfinished = self.jobs.values().filter(|job| !job.is_finished());
        unfinished.count()
    }

    fn unix(&self, now: Instant) -> u64 {
        let (then, unix) = self.origin;
        unix + now.saturating_duration_since(then).as_secs()
    }

    fn want_look(&mut self, now: Instant) {
        if self.failures == 0 {
            self.look_at = Some(now);
        }
    }

    /// Asks for a look at all that is unfinished, and from time to time at all that might be taken back.
    fn ask(&mut self, now: Instant) {
        let due = self
            .rechecked
            .is_none_or(|at| now >= at + self.config.recheck);
        if due {
            self.rechecked = Some(now);
        }
        let wanted = |job: &&Job| !job.last && (due || !job.is_finished());
        let jobs: Vec<&Job> = self.jobs.values().filter(wanted).collect();
        let hashes = jobs
            .iter()
            .flat_map(|job| job.envelopes.iter().map(|envelope| envelope.hash))
            .collect();
        self.asked = Some(jobs.iter().map(|job| job.id).collect());
        self.outdated = false;
        self.look_at = None;
        self.outputs.push_back(OutboxOutput::Look { hashes });
    }

    /// Writes a job down, and forgets the oldest beyond what is kept.
    fn persist(&mut self, id: JobId, then: Vec<OutboxOutput>) {
        let mut batch = Batch::default();
        if let Some(job) = self.jobs.get(&id) {
            batch.put(Table::Transactions, self.key(id), encode(job));
        }
        while self.jobs.len() > MAX_KEPT_JOBS {
            let Some(oldest) = self.jobs.values().find(|job| job.last).map(|job| job.id) else {
                break;
            };
            self.jobs.remove(&oldest);
            batch.0.push(Entry {
                table: Table::Transactions,
                key: self.key(oldest),
                value: None,
                expect: Expect::Anything,
            });
        }
        let ticket = self.withheld.hold(then);
        self.outputs
            .push_back(OutboxOutput::Persist { ticket, batch });
    }

    fn prefix(&self) -> Vec<u8> {
        let chain = self.config.chain_id.to_be_bytes();
        [self.config.account.as_slice(), &chain].concat()
    }

    fn key(&self, id: JobId) -> Vec<u8> {
        [self.prefix(), id.0.to_be_bytes().to_vec()].concat()
    }

    /// A transaction that does nothing but use a nonce up.
    fn nothing(&self) -> Errand {
        Errand {
            to: Some(self.config.account),
            value: U256::ZERO,
            input: Vec::new(),
            gas: Some(prepare::TRANSFER_GAS),
        }
    }

    fn retry_in(&self) -> Duration {
        backoff(
            self.config.poll,
            self.failures,
            RETRY_MOST.max(self.config.poll),
        )
    }
}

#[cfg(test)]
mod tests;
