//! A ledger that takes its time and may lose power: batches become durable one after the other, and a crash keeps some prefix of
//! those that were waiting, whether or not their owner was told.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use wayfare_payment::{Batch, Expect, LedgerError, Row, Table, Ticket};

use crate::Chance;

/// Which of a party's machines wrote a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Payer, collector or issuer.
    Payments,
    /// The settler.
    Settler,
}

#[derive(Debug)]
struct Waiting {
    owner: Owner,
    ticket: Ticket,
    batch: Batch,
    at: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub struct CrashingLedger {
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    waiting: VecDeque<Waiting>,
    commits: u64,
}

impl CrashingLedger {
    /// Takes a batch that becomes durable within `delay`, after all that were taken before.
    pub fn commit(
        &mut self,
        owner: Owner,
        ticket: Ticket,
        batch: Batch,
        now: Instant,
        delay: Duration,
    ) {
        let last = self.waiting.back().map_or(now, |waiting| waiting.at);
        self.waiting.push_back(Waiting {
            owner,
            ticket,
            batch,
            at: last.max(now + delay),
        });
    }

    /// The next batch that has become durable by `now`.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] where an [`Expect`] does not hold: a machine has broken its own rules.
    pub fn durable(&mut self, now: Instant) -> Result<Option<(Owner, Ticket)>, LedgerError> {
        match self.waiting.pop_front_if(|waiting| waiting.at <= now) {
            None => Ok(None),
            Some(waiting) => {
                self.apply(waiting.batch)?;
                Ok(Some((waiting.owner, waiting.ticket)))
            }
        }
    }

    /// When the next batch becomes durable.
    #[must_use]
    pub fn next_durable(&self) -> Option<Instant> {
        self.waiting.front().map(|waiting| waiting.at)
    }

    /// The power fails: a prefix of what waits survives.
    ///
    /// # Errors
    /// As [`CrashingLedger::durable`].
    pub fn crash(&mut self, chance: &mut Chance) -> Result<(), LedgerError> {
        let kept = chance.index(self.waiting.len() + 1);
        for waiting in std::mem::take(&mut self.waiting).into_iter().take(kept) {
            self.apply(waiting.batch)?;
        }
        Ok(())
    }

    /// The first batch that waits, for a write that fails.
    #[must_use]
    pub fn first_waiting(&self) -> Option<(Owner, Ticket)> {
        self.waiting
            .front()
            .map(|waiting| (waiting.owner, waiting.ticket))
    }

    /// How many batches have become durable.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// All durable rows of some tables.
    #[must_use]
    pub fn rows(&self, tables: &[Table]) -> Vec<(Table, Row)> {
        let wanted = self
            .rows
            .iter()
            .filter(|((table, _), _)| tables.contains(table));
        wanted
            .map(|((table, key), value)| (*table, (key.clone(), value.clone())))
            .collect()
    }

    fn apply(&mut self, batch: Batch) -> Result<(), LedgerError> {
        for entry in &batch.0 {
            let found = self.rows.get(&(entry.table, entry.key.clone()));
            let holds = match &entry.expect {
                Expect::Anything => true,
                Expect::Absent => found.is_none(),
                Expect::Exactly(bytes) => found == Some(bytes),
            };
            if !holds {
                let key = format!("{:02x?}", entry.key);
                return Err(LedgerError::Conflict {
                    table: entry.table,
                    key,
                });
            }
        }
        for entry in batch.0 {
            match entry.value {
                Some(value) => self.rows.insert((entry.table, entry.key), value),
                None => self.rows.remove(&(entry.table, entry.key)),
            };
        }
        self.commits += 1;
        Ok(())
    }
}
