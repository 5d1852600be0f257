//! The way to the Hermes: one request under way on the channel, its answer checked and persisted, its preimage revealed, then the
//! next.
//!
//! A lost answer comes back when the same payment is sent again. After a restart it is not known which payment that was, so all
//! that wait are tried in turn: to the others the Hermes answers `RevealFirst`.

use std::ops::Bound;
use std::time::Instant;

use super::reply::Expected;
use super::{Collector, CollectorOutput, Consequence};
use crate::deadline::{backoff, earlier};
use crate::record::{CollectorChannelRecord, agreement_key, channel_key, encode};
use crate::{
    AgreementId, Amount, Batch, Deadline, Hashlock, IssueFailure, IssueRefusal, IssueReply,
    IssueRequest, ReplyFault, SettleMaterial, Table, Why,
};

#[derive(Debug)]
struct InFlight {
    agreement: AgreementId,
    hashlock: Hashlock,
    sent_at: Instant,
}

#[derive(Debug)]
struct Revealing {
    hashlock: Hashlock,
    sent_at: Instant,
    attempts: u32,
}

#[derive(Debug, Default)]
pub(super) struct Pipeline {
    /// The last promise of the Hermes; being written while `storing`.
    pub(super) last: Option<CollectorChannelRecord>,
    pub(super) storing: bool,
    pub(super) settled: Amount,
    /// In a row.
    pub(super) wrong_replies: u32,
    revealing: Option<Revealing>,
    in_flight: Option<InFlight>,
    cursor: Option<AgreementId>,
    failures: u32,
    retry_at: Option<Instant>,
}

impl Pipeline {
    pub(super) fn promised(&self) -> Amount {
        self.last
            .as_ref()
            .map_or(Amount::ZERO, |last| last.promise.promise.amount)
    }
}

impl Collector {
    /// The Hermes' answer. A wrong one reveals nothing, is counted and asked for again.
    pub fn handle_issued(&mut self, reply: IssueReply, now: Instant) {
        if self.withheld.failed() {
            return;
        }
        let hashlock = reply.promise.promise.hashlock;
        let repeated = self
            .pipeline
            .last
            .as_ref()
            .is_some_and(|l| (l.promise, l.receipt) == (reply.promise, reply.receipt));
        if repeated {
            return;
        }
        let found = self.earnings.waiting().iter().find_map(|id| {
            let e = &self.earnings[id];
            e.find(hashlock)
                .filter(|i| e.pending[*i].sent && e.pending[*i].durable)
                .map(|i| (*id, i))
        });
        let Some((id, index)) = found.filter(|_| !self.pipeline.storing) else {
            // An answer that adds nothing is an old one that comes late; any other pretends to answer the current request.
            let old = self.pipeline.storing || reply.promise.promise.amount <= self.promised();
            match self
                .pipeline
                .in_flight
                .as_ref()
                .map(|f| (f.agreement, f.hashlock))
                .filter(|_| !old)
            {
                Some((id, asked)) => self.wrong(ReplyFault::Hashlock, id, asked, now),
                None => self
                    .outputs
                    .push_back(CollectorOutput::WrongReply(ReplyFault::Unasked)),
            }
            self.issue_next(now);
            return;
        };
        match self.check_reply(&reply, id, index) {
            Ok(()) => self.store(reply, id, index),
            Err(fault) => self.wrong(fault, id, hashlock, now),
        }
        self.issue_next(now);
    }

    /// The request that carried `hashlock` brought no promise.
    pub fn handle_issue_failed(&mut self, hashlock: Hashlock, failure: IssueFailure, now: Instant) {
        let patience = self.config.patience;
        let Some(flight) = self
            .pipeline
            .in_flight
            .take_if(|flight| flight.hashlock == hashlock)
        else {
            return;
        };
        match failure {
            IssueFailure::Unreachable => {
                let pause = backoff(patience.retry, self.pipeline.failures, patience.retry_most);
                self.pipeline.failures += 1;
                self.pipeline.retry_at = Some(now + pause);
            }
            IssueFailure::Refused(why) => {
                self.pipeline.failures = 0;
                self.refused(flight.agreement, hashlock, why, now);
            }
        }
        self.issue_next(now);
    }

    /// The Hermes has taken a preimage.
    pub fn handle_revealed(&mut self, hashlock: Hashlock, now: Instant) {
        if self
            .pipeline
            .revealing
            .take_if(|revealing| revealing.hashlock == hashlock)
            .is_some()
        {
            self.issue_next(now);
        }
    }

    fn check_reply(
        &self,
        reply: &IssueReply,
        id: AgreementId,
        index: usize,
    ) -> Result<(), ReplyFault> {
        let account = self.hermes.as_ref().ok_or(ReplyFault::OperatorUnknown)?;
        let earning = &self.earnings[&id];
        let exchange = &earning.pending[index].exchange;
        Expected {
            hermes: self.config.hermes,
            account,
            domain: &self.domain(),
            channel: self.channel,
            hashlock: exchange.promise.promise.hashlock,
            last: self
                .pipeline
                .last
                .as_ref()
                .map(|last| (&last.promise, &last.receipt)),
            increment: exchange
                .agreement_total
                .saturating_sub(earning.covered_next),
        }
        .check(reply)
    }

    /// INVARIANT: this is the only way to a reveal, and it begins with a checked reply and ends, in `earned`, with a durable one.
    fn store(&mut self, reply: IssueReply, id: AgreementId, index: usize) {
        let covered = self.earnings.edit(id, |earning| {
            let total = earning.pending[index].exchange.agreement_total;
            earning.pending.drain(..=index);
            earning.covered_next = total;
            (total, earning.record())
        });
        let Some((total, record)) = covered else {
            return;
        };
        let last = CollectorChannelRecord {
            provider: self.config.provider,
            hermes: self.config.hermes,
            agreement: id,
            agreement_total: total,
            promise: reply.promise,
            receipt: reply.receipt,
        };
        let mut batch = Batch::default();
        batch.put(
            Table::CollectorChannel,
            channel_key(self.channel),
            encode(&last),
        );
        batch.put(Table::CollectorAgreement, agreement_key(id), record);
        self.pipeline.last = Some(last);
        self.pipeline.storing = true;
        self.pipeline.in_flight = None;
        self.pipeline.wrong_replies = 0;
        self.pipeline.failures = 0;
        self.persist(
            batch,
            Consequence::Earned {
                agreement: id,
                total,
            },
        );
    }

    pub(super) fn accepted(&mut self, id: AgreementId, hashlock: Hashlock) {
        self.earnings.edit(id, |earning| {
            if let Some(index) = earning.find(hashlock) {
                earning.pending[index].durable = true;
            }
        });
    }

    pub(super) fn earned(&mut self, id: AgreementId, total: Amount, now: Instant) {
        self.pipeline.storing = false;
        self.earnings.edit(id, |earning| earning.covered = total);
        self.outputs.push_back(CollectorOutput::Paid {
            agreement: id,
            total,
        });
        if let Some(material) = self.settle_material() {
            self.outputs
                .push_back(CollectorOutput::Settleable(material));
        }
        self.reveal(now);
    }

    /// After a restart: the last preimage again, since nobody remembers whether it was acknowledged.
    pub(super) fn resume(&mut self, now: Instant) {
        if let Some(material) = self.settle_material() {
            self.outputs
                .push_back(CollectorOutput::Settleable(material));
            self.reveal(now);
        }
    }

    pub(super) fn material(&self, last: &CollectorChannelRecord) -> SettleMaterial {
        SettleMaterial {
            hermes: self.config.hermes,
            promise: last.promise,
            preimage: self.preimage(last.agreement, last.agreement_total),
            urgent: self.hermes.is_some() && self.is_urgent(),
        }
    }

    fn reveal(&mut self, now: Instant) {
        let Some(last) = &self.pipeline.last else {
            return;
        };
        let hashlock = last.promise.promise.hashlock;
        let preimage = self.preimage(last.agreement, last.agreement_total);
        let attempts = self
            .pipeline
            .revealing
            .as_ref()
            .map_or(0, |revealing| revealing.attempts + 1);
        self.pipeline.revealing = Some(Revealing {
            hashlock,
            sent_at: now,
            attempts,
        });
        self.outputs.push_back(CollectorOutput::Reveal {
            channel: self.channel,
            hashlock,
            preimage,
        });
    }

    pub(super) fn issue_next(&mut self, now: Instant) {
        let pipeline = &self.pipeline;
        let busy = pipeline.storing || pipeline.revealing.is_some() || pipeline.in_flight.is_some();
        if busy
            || self.hermes.is_none()
            || self.withheld.failed()
            || pipeline.retry_at.is_some_and(|at| now < at)
        {
            return;
        }
        // In turn, so that one agreement's trouble does not hold up the others.
        let start = pipeline.cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let ready = |id: &AgreementId| self.earnings[id].ready(now).is_some();
        let waiting = self.earnings.waiting();
        let after = waiting.range((start, Bound::Unbounded));
        let Some(id) = after.chain(waiting).copied().find(|id| ready(id)) else {
            return;
        };
        let sent = self.earnings.edit(id, |earning| {
            let index = earning.ready(now)?;
            let pending = &mut earning.pending[index];
            pending.sent = true;
            pending.uncertain = true;
            Some((earning.terms.agreement.consumer, pending.exchange))
        });
        let Some((consumer, exchange)) = sent.flatten() else {
            return;
        };
        self.pipeline.cursor = Some(id);
        self.pipeline.retry_at = None;
        self.pipeline.in_flight = Some(InFlight {
            agreement: id,
            hashlock: exchange.promise.promise.hashlock,
            sent_at: now,
        });
        self.outputs
            .push_back(CollectorOutput::Issue(IssueRequest { consumer, exchange }));
    }

    fn refused(&mut self, id: AgreementId, hashlock: Hashlock, why: IssueRefusal, now: Instant) {
        let patience = self.config.patience;
        let found = self.earnings.get(&id).and_then(|e| e.find(hashlock));
        let Some(index) = found else {
            return;
        };
        if !why.is_final() {
            self.earnings.edit(id, |earning| {
                let pending = &mut earning.pending[index];
                let pause = backoff(patience.retry, pending.attempts, patience.retry_most);
                pending.not_before = Some(now + pause);
                pending.attempts = pending.attempts.saturating_add(1);
                if why != IssueRefusal::RevealFirst {
                    pending.uncertain = false;
                    pending.refusals = pending.refusals.saturating_add(1);
                }
            });
            return;
        }
        let removed = self.earnings.edit(id, |earning| {
            earning.pending.remove(index);
            // A later payment overtook this one: its answer, which covers both, is still to come.
            let overtaken =
                why == IssueRefusal::Stale && earning.pending.iter().skip(index).any(|p| p.sent);
            if !overtaken {
                earning.refused = Some(why);
                earning.open = None;
            }
            (overtaken, earning.record())
        });
        let Some((overtaken, record)) = removed else {
            return;
        };
        if !overtaken {
            self.outputs
                .push_back(CollectorOutput::HermesRefused { agreement: id, why });
        }
        let mut batch = Batch::default();
        batch.put(Table::CollectorAgreement, agreement_key(id), record);
        self.persist(batch, Consequence::Nothing);
    }

    fn wrong(&mut self, fault: ReplyFault, id: AgreementId, hashlock: Hashlock, now: Instant) {
        let patience = self.config.patience;
        self.outputs.push_back(CollectorOutput::WrongReply(fault));
        self.pipeline.wrong_replies = self.pipeline.wrong_replies.saturating_add(1);
        self.pipeline
            .in_flight
            .take_if(|flight| flight.hashlock == hashlock);
        self.earnings.edit(id, |earning| {
            if let Some(index) = earning.find(hashlock) {
                let pending = &mut earning.pending[index];
                let pause = backoff(patience.retry, pending.attempts, patience.retry_most);
                pending.not_before = Some(now + pause);
                pending.attempts = pending.attempts.saturating_add(1);
            }
        });
    }

    pub(super) fn pipeline_timeout(&mut self, now: Instant) {
        if self.withheld.failed() {
            return;
        }
        let patience = self.config.patience;
        self.pipeline
            .in_flight
            .take_if(|flight| now >= flight.sent_at + patience.issue);
        let unheard = self.pipeline.revealing.as_ref().is_some_and(|revealing| {
            now >= revealing.sent_at
                + backoff(patience.reveal, revealing.attempts, patience.retry_most)
        });
        if unheard {
            self.reveal(now);
        }
    }

    pub(super) fn pipeline_deadline(&self) -> Option<Deadline> {
        let patience = &self.config.patience;
        let reveal = self.pipeline.revealing.as_ref().map(|revealing| Deadline {
            at: revealing.sent_at
                + backoff(patience.reveal, revealing.attempts, patience.retry_most),
            why: Why::RevealUnacknowledged,
        });
        let answer = self.pipeline.in_flight.as_ref().map(|flight| Deadline {
            at: flight.sent_at + patience.issue,
            why: Why::IssueUnanswered,
        });
        let free =
            reveal.is_none() && answer.is_none() && !self.pipeline.storing && self.hermes.is_some();
        let retry = free.then(|| self.next_retry()).flatten();
        earlier(earlier(reveal, answer), retry)
    }

    fn next_retry(&self) -> Option<Deadline> {
        let at = self.earnings.next_try(self.pipeline.retry_at)?;
        Some(Deadline {
            at,
            why: Why::IssueRetry,
        })
    }
}
