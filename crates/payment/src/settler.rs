//! The settler: decides when a provider's promise is cashed, and follows it until the chain shows it.
//!
//! A settlement is named by (channel, amount). It is written down before it is sent; whenever its fate is in doubt, after an error,
//! a time-out or a restart, the chain is read before anything else is decided, since somebody else's transaction may have done it.
//! It refuses to take a transaction's word, or its failure, for the state of the chain.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use wayfare_identity::Address;

use crate::deadline::backoff;
use crate::durability::Withheld;
use crate::record::{
    RecordFault, SettlementRecord, SettlementStage, decode, encode, fault, settlement_key,
};
use crate::{
    Amount, Batch, ChainError, ChannelId, Deadline, Preimage, RecordError, Row, SettleOrder,
    Settled, SignedPromise, Table, Ticket, Why,
};

/// Between the first two tries of what failed; doubled each time.
const RETRY: Duration = Duration::from_secs(2);
/// The longest pause between tries.
const RETRY_MOST: Duration = Duration::from_secs(600);
/// A submission or a reading of the chain that is not answered: the chain is read again.
const UNANSWERED: Duration = Duration::from_secs(180);

/// A promise of a Hermes and what unlocks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleMaterial {
    /// Who promised.
    pub hermes: Address,
    /// The promise on the provider's channel.
    pub promise: SignedPromise,
    /// What unlocks it.
    pub preimage: Preimage,
    /// The Hermes is leaving, or owes nearly all that it can be seen to have.
    pub urgent: bool,
}

/// When to settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettlePolicy {
    /// Off: only [`Settler::settle_now`] settles.
    pub enabled: bool,
    /// Settle from this much on.
    pub threshold: Amount,
    /// Settle what is older than this, however little.
    pub max_age: Duration,
    /// Where the tokens shall go.
    pub beneficiary: Address,
}

/// What the settler wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettlerOutput {
    /// Commit this, then call [`Settler::handle_durable`].
    Persist {
        /// To report back.
        ticket: Ticket,
        /// To commit.
        batch: Batch,
    },
    /// Send this transaction; report [`Settler::handle_outcome`].
    Submit(SettleOrder),
    /// Read what the chain has settled on the channel; report [`Settler::handle_chain`].
    ReadChain,
    /// The chain shows it.
    Done {
        /// The channel.
        channel: ChannelId,
        /// Settled on it so far.
        total: Amount,
        /// Ours, or `None` when somebody else's transaction had done it.
        settled: Option<Settled>,
    },
    /// The chain was read and does not show it: it will be tried again.
    Delayed {
        /// The total that should have been settled.
        wanted: Amount,
        /// What the chain shows.
        total: Amount,
        /// What went wrong.
        why: String,
    },
}

#[derive(Debug)]
enum Stage {
    /// Nothing under way.
    Idle,
    /// The record is being written.
    Writing,
    /// Sent.
    Submitted { order: SettleOrder, at: Instant },
    /// In doubt: the chain is being read.
    Reading {
        order: SettleOrder,
        at: Instant,
        why: String,
    },
}

/// The provider's machine for one channel. See the module.
#[derive(Debug)]
pub struct Settler {
    policy: SettlePolicy,
    channel: ChannelId,
    material: Option<SettleMaterial>,
    settled: Amount,
    /// The largest order that the chain has shown as settled, as long as it does.
    done: Option<SettleOrder>,
    /// What was settled is so no more: it is settled again whatever the threshold says.
    reopened: bool,
    unsettled_since: Option<Instant>,
    asked: bool,
    stage: Stage,
    failures: u32,
    not_before: Option<Instant>,
    withheld: Withheld<Option<SettleOrder>>,
    outputs: VecDeque<SettlerOutput>,
}

impl Settler {
    /// Where its records live; feed all rows of these to [`Settler::restore`].
    pub const TABLES: &[Table] = &[Table::Settlement];

    /// A settler without a past.
    #[must_use]
    pub fn new(policy: SettlePolicy, channel: ChannelId) -> Self {
        Self {
            policy,
            channel,
            material: None,
            settled: Amount::ZERO,
            done: None,
            reopened: false,
            unsettled_since: None,
            asked: false,
            stage: Stage::Idle,
            failures: 0,
            not_before: None,
            withheld: Withheld::new(),
            outputs: VecDeque::new(),
        }
    }

    /// A settler as its ledger left it. If a settlement was under way the chain is read first. Rows of other channels are skipped.
    ///
    /// # Errors
    /// [`RecordError`] names the row that cannot be read.
    pub fn restore(
        policy: SettlePolicy,
        channel: ChannelId,
        rows: impl IntoIterator<Item = (Table, Row)>,
        now: Instant,
    ) -> Result<Self, RecordError> {
        let mut settler = Self::new(policy, channel);
        let mut doubtful: Option<SettleOrder> = None;
        for (table, row) in rows {
            if table != Table::Settlement {
                return Err(fault(table, &row.0, RecordFault::Foreign));
            }
            let record: SettlementRecord = decode(table, &row)?;
            if record.promise.promise.channel != channel {
                continue;
            }
            let order = SettleOrder {
                hermes: record.hermes,
                beneficiary: record.beneficiary,
                promise: record.promise,
                preimage: record.preimage,
            };
            match record.stage {
                SettlementStage::Done(total) => {
                    settler.settled = settler.settled.max(total);
                    settler.remember(order);
                }
                SettlementStage::Submitted => {
                    let larger = doubtful
                        .is_none_or(|d| d.promise.promise.amount < order.promise.promise.amount);
                    doubtful = if larger { Some(order) } else { doubtful };
                }
            }
        }
        if let Some(order) = doubtful {
            settler.material = Some(material_of(&order));
            settler.unsettled_since = Some(now);
            settler.doubt(order, "this node was restarted".to_owned(), now);
        }
        Ok(settler)
    }

    /// A promise to settle with. Smaller ones than the one at hand are ignored.
    pub fn handle_material(&mut self, material: SettleMaterial, now: Instant) {
        let amount = material.promise.promise.amount;
        if material.promise.promise.channel != self.channel {
            return;
        }
        match &mut self.material {
            Some(held) if held.promise.promise.amount > amount => return,
            Some(held) if held.promise.promise.amount == amount => held.urgent |= material.urgent,
            Some(_) | None => self.material = Some(material),
        }
        self.settle_if_due(now);
    }

    /// What the chain has settled on the channel. The truth, also when a reorganisation has made it smaller: then what was done is
    /// open again, and written down as such. More than was ever promised is not the truth, and not believed beyond the promise.
    pub fn handle_chain(&mut self, settled: Amount, now: Instant) {
        let promised = self
            .material
            .map(|material| material.promise.promise.amount);
        let settled = promised.map_or(settled, |promised| settled.min(promised));
        self.settled = settled;
        self.reopen(settled);
        let done = |order: &SettleOrder| settled >= order.promise.promise.amount;
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Reading { order, .. } if done(&order) => self.finish(order, None, now),
            Stage::Reading { order, why, .. } => {
                self.pause(now);
                let wanted = order.promise.promise.amount;
                self.outputs.push_back(SettlerOutput::Delayed {
                    wanted,
                    total: settled,
                    why,
                });
            }
            stage @ (Stage::Idle | Stage::Writing | Stage::Submitted { .. }) => self.stage = stage,
        }
        self.settle_if_due(now);
    }

    /// A reorganisation may have taken back what was done. A restart in between must know it, too.
    fn reopen(&mut self, settled: Amount) {
        let gone = |order: &mut SettleOrder| order.promise.promise.amount > settled;
        let Some(order) = self.done.take_if(gone) else {
            return;
        };
        let wanted = order.promise.promise.amount;
        if self
            .material
            .is_none_or(|held| held.promise.promise.amount < wanted)
        {
            self.material = Some(material_of(&order));
        }
        self.reopened = true;
        let batch = self.batch(&order, SettlementStage::Submitted);
        let ticket = self.withheld.hold(None);
        self.outputs
            .push_back(SettlerOutput::Persist { ticket, batch });
        self.outputs.push_back(SettlerOutput::Delayed {
            wanted,
            total: settled,
            why: "a reorganisation of the chain took the settlement back".to_owned(),
        });
    }

    fn remember(&mut self, order: SettleOrder) {
        let amount = order.promise.promise.amount;
        if self
            .done
            .is_none_or(|done| done.promise.promise.amount < amount)
        {
            self.done = Some(order);
        }
    }

    /// Settles whatever there is, policy or not.
    pub fn settle_now(&mut self, now: Instant) {
        self.asked = true;
        self.not_before = None;
        self.settle_if_due(now);
    }

    /// Another policy from now on.
    pub fn handle_policy(&mut self, policy: SettlePolicy, now: Instant) {
        self.policy = policy;
        self.settle_if_due(now);
    }

    /// What became of a submitted order. An error only begins a doubt, which the chain decides.
    pub fn handle_outcome(&mut self, outcome: Result<Settled, ChainError>, now: Instant) {
        let (Stage::Submitted { order, .. } | Stage::Reading { order, .. }) = &self.stage else {
            return;
        };
        let order = *order;
        match outcome {
            Ok(settled) => {
                self.settled = self.settled.max(settled.total);
                self.stage = Stage::Idle;
                self.finish(order, Some(settled), now);
                self.settle_if_due(now);
            }
            Err(error) => self.doubt(order, error.to_string(), now),
        }
    }

    /// A batch is durable.
    pub fn handle_durable(&mut self, ticket: Ticket, now: Instant) {
        for order in self.withheld.durable(ticket).into_iter().flatten() {
            self.stage = Stage::Submitted { order, at: now };
            self.outputs.push_back(SettlerOutput::Submit(order));
        }
    }

    /// A commit failed: nothing is submitted any more.
    pub fn handle_failed(&mut self, _ticket: Ticket) {
        self.withheld.fail();
        self.outputs.clear();
    }

    /// Does what has become due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &self.stage {
            Stage::Submitted { order, at } if now >= *at + UNANSWERED => {
                self.doubt(
                    *order,
                    "the transaction is not confirmed yet".to_owned(),
                    now,
                );
            }
            Stage::Reading { order, at, why } if now >= *at + UNANSWERED => {
                self.doubt(*order, why.clone(), now)
            }
            Stage::Idle | Stage::Writing | Stage::Submitted { .. } | Stage::Reading { .. } => {}
        }
        self.settle_if_due(now);
    }

    /// When to call [`Settler::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.withheld.failed() {
            return None;
        }
        match &self.stage {
            Stage::Submitted { at, .. } | Stage::Reading { at, .. } => Some(Deadline {
                at: *at + UNANSWERED,
                why: Why::SettleRetry,
            }),
            Stage::Writing => None,
            Stage::Idle => {
                if self.unsettled().is_zero() || !(self.policy.enabled || self.asked) {
                    return None;
                }
                if let Some(at) = self.not_before {
                    return Some(Deadline {
                        at,
                        why: Why::SettleRetry,
                    });
                }
                let since = self.unsettled_since.filter(|_| self.policy.enabled)?;
                Some(Deadline {
                    at: since.checked_add(self.policy.max_age)?,
                    why: Why::SettleByAge,
                })
            }
        }
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<SettlerOutput> {
        self.outputs.pop_front()
    }

    /// Promised and not settled.
    #[must_use]
    pub fn unsettled(&self) -> Amount {
        let promised = self
            .material
            .map_or(Amount::ZERO, |material| material.promise.promise.amount);
        promised.saturating_sub(self.settled)
    }

    /// Settled, as the chain said when it was last asked.
    #[must_use]
    pub fn settled(&self) -> Amount {
        self.settled
    }

    fn settle_if_due(&mut self, now: Instant) {
        let unsettled = self.unsettled();
        if unsettled.is_zero() {
            self.unsettled_since = None;
            self.asked = false;
            self.reopened = false;
            return;
        }
        let since = *self.unsettled_since.get_or_insert(now);
        let idle = matches!(self.stage, Stage::Idle) && !self.withheld.failed();
        if !idle || self.not_before.is_some_and(|at| now < at) {
            return;
        }
        self.not_before = None;
        let Some(material) = self.material else {
            return;
        };
        let old = now.saturating_duration_since(since) >= self.policy.max_age;
        let wanted = unsettled >= self.policy.threshold || old || material.urgent || self.reopened;
        let due = self.policy.enabled && wanted;
        if due || self.asked {
            self.write(material);
        }
    }

    fn write(&mut self, material: SettleMaterial) {
        let order = SettleOrder {
            hermes: material.hermes,
            beneficiary: self.policy.beneficiary,
            promise: material.promise,
            preimage: material.preimage,
        };
        let batch = self.batch(&order, SettlementStage::Submitted);
        let ticket = self.withheld.hold(Some(order));
        self.stage = Stage::Writing;
        self.outputs
            .push_back(SettlerOutput::Persist { ticket, batch });
    }

    fn finish(&mut self, order: SettleOrder, settled: Option<Settled>, now: Instant) {
        let whole = self.settled >= order.promise.promise.amount;
        if whole {
            self.failures = 0;
            self.not_before = None;
            self.asked = false;
            self.reopened = false;
            self.remember(order);
            self.unsettled_since = (!self.unsettled().is_zero()).then_some(now);
        } else {
            // The Hermes was short of funds: the same promise settles the rest later.
            self.pause(now);
        }
        let stage = if whole {
            SettlementStage::Done(self.settled)
        } else {
            SettlementStage::Submitted
        };
        let batch = self.batch(&order, stage);
        let ticket = self.withheld.hold(None);
        self.outputs
            .push_back(SettlerOutput::Persist { ticket, batch });
        self.outputs.push_back(SettlerOutput::Done {
            channel: self.channel,
            total: self.settled,
            settled,
        });
    }

    fn batch(&self, order: &SettleOrder, stage: SettlementStage) -> Batch {
        let record = SettlementRecord {
            hermes: order.hermes,
            beneficiary: order.beneficiary,
            promise: order.promise,
            preimage: order.preimage,
            stage,
        };
        let mut batch = Batch::default();
        batch.put(
            Table::Settlement,
            settlement_key(self.channel, order.promise.promise.amount),
            encode(&record),
        );
        batch
    }

    fn doubt(&mut self, order: SettleOrder, why: String, now: Instant) {
        self.stage = Stage::Reading {
            order,
            at: now,
            why,
        };
        self.outputs.push_back(SettlerOutput::ReadChain);
    }

    fn pause(&mut self, now: Instant) {
        self.not_before = Some(now + backoff(RETRY, self.failures, RETRY_MOST));
        self.failures = self.failures.saturating_add(1);
    }
}

fn material_of(order: &SettleOrder) -> SettleMaterial {
    SettleMaterial {
        hermes: order.hermes,
        promise: order.promise,
        preimage: order.preimage,
        urgent: false,
    }
}

#[cfg(test)]
mod tests;
