//! One agreement of a collector: what was used, asked for, paid by the consumer and covered by the Hermes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Patience;
use crate::deadline::earlier;
use crate::record::{CollectorAgreementRecord, encode};
use crate::{
    Amount, Deadline, Exchange, Hashlock, Invoice, IssueRefusal, SignedAgreement, Usage, Why,
};

/// Payments of one agreement on their way to the Hermes: one sent, one waiting. A later one replaces the one that waits.
const MAX_PENDING: usize = 2;
/// An ended agreement's payment that the Hermes refused this often is given up: without an end, consumers without a deposit could
/// fill the table.
const MAX_REFUSALS: u32 = 8;
/// The share of the allowance that is worth an invoice: one quarter (see the arithmetic at the top of `collector`).
const INVOICE_SHARE: u128 = 4;
/// The share that is invoiced at once, however soon after the last invoice: one half.
const HASTY_SHARE: u128 = 2;

#[derive(Debug)]
pub(super) struct OpenInvoice {
    pub(super) invoice: Invoice,
    pub(super) sent_at: Instant,
}

/// A payment that was accepted and has no promise of the Hermes yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) exchange: Exchange,
    /// Its record is durable: it may be sent to the Hermes.
    pub(super) durable: bool,
    /// The Hermes may have seen it: it must not be dropped, since only its exact repetition brings back a lost answer.
    pub(super) sent: bool,
    /// Sent, and not answered since.
    pub(super) uncertain: bool,
    /// Tries, and how many of them the Hermes refused for a reason that lies with the consumer.
    pub(super) attempts: u32,
    pub(super) refusals: u32,
    pub(super) not_before: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Earning {
    pub(super) terms: SignedAgreement,
    /// No allowance is larger, whatever the terms say.
    credit_cap: Amount,
    pub(super) usage: Usage,
    cost: Amount,
    pub(super) open: Option<OpenInvoice>,
    last_invoice_at: Instant,
    pub(super) pending: VecDeque<Pending>,
    /// Covered by durable promises of the Hermes.
    pub(super) covered: Amount,
    /// The same with the promise that is being written.
    pub(super) covered_next: Amount,
    /// The largest promise of the consumer that pays for this agreement.
    pub(super) seen: Amount,
    pub(super) ended_at: Option<Instant>,
    pub(super) refused: Option<IssueRefusal>,
    /// What may be used before the first payment is covered.
    pub(super) welcome: Amount,
}

impl Earning {
    pub(super) fn new(terms: SignedAgreement, credit_cap: Amount, now: Instant) -> Self {
        Self {
            terms,
            credit_cap,
            usage: Usage::default(),
            cost: Amount::ZERO,
            open: None,
            last_invoice_at: now,
            pending: VecDeque::new(),
            covered: Amount::ZERO,
            covered_next: Amount::ZERO,
            seen: Amount::ZERO,
            ended_at: None,
            refused: None,
            welcome: Amount::ZERO,
        }
    }

    pub(super) fn restored(
        record: CollectorAgreementRecord,
        credit_cap: Amount,
        now: Instant,
    ) -> Self {
        let pending = |exchange| Pending {
            exchange,
            durable: true,
            sent: true,
            attempts: 0,
            refusals: 0,
            uncertain: true,
            not_before: None,
        };
        let mut earning = Self::new(record.terms, credit_cap, now);
        earning.seen = record.seen;
        earning.count(&record.usage);
        earning.covered = record.covered;
        earning.covered_next = record.covered;
        earning.pending = record.pending.into_iter().map(pending).collect();
        earning
    }

    pub(super) fn record(&self) -> Vec<u8> {
        encode(&CollectorAgreementRecord {
            terms: self.terms,
            usage: self.usage,
            covered: self.covered_next,
            seen: self.seen,
            pending: self
                .pending
                .iter()
                .map(|pending| pending.exchange)
                .collect(),
        })
    }

    /// Takes note of usage; each counter only ever grows.
    pub(super) fn count(&mut self, usage: &Usage) {
        self.usage.up = self.usage.up.max(usage.up);
        self.usage.down = self.usage.down.max(usage.down);
        self.usage.time = self.usage.time.max(usage.time);
        self.cost = self.terms.agreement.price.cost_rounded_down(&self.usage);
    }

    /// The price of what was used.
    pub(super) fn cost(&self) -> Amount {
        self.cost
    }

    /// What the consumer has paid, covered or not.
    pub(super) fn accepted(&self) -> Amount {
        self.pending
            .back()
            .map_or(self.covered_next, |last| last.exchange.agreement_total)
    }

    /// What may be outstanding.
    pub(super) fn allowance(&self) -> Amount {
        let terms = &self.terms.agreement;
        terms.allowance_within(self.covered, self.credit_cap)
    }

    /// What may be used and not covered: the welcome, until something is.
    pub(super) fn trusted(&self) -> Amount {
        if self.covered.is_zero() {
            self.welcome
        } else {
            self.allowance()
        }
    }

    /// What this agreement may yet add to the Hermes' debt: used, asked for or paid, and not covered.
    pub(super) fn claim(&self) -> Amount {
        let asked = self
            .open
            .as_ref()
            .map_or(Amount::ZERO, |open| open.invoice.total);
        self.cost
            .max(self.accepted())
            .max(asked)
            .saturating_sub(self.covered)
    }

    /// Whether another payment can be taken.
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() < MAX_PENDING || self.pending.back().is_some_and(|last| !last.sent)
    }

    pub(super) fn find(&self, hashlock: Hashlock) -> Option<usize> {
        self.pending
            .iter()
            .position(|pending| pending.exchange.promise.promise.hashlock == hashlock)
    }

    /// The first payment that may go to the Hermes now. While an earlier one has to wait, a later one is tried: it pays for both,
    /// and where a restart has forgotten which of them the Hermes holds, each has to be.
    pub(super) fn ready(&self, now: Instant) -> Option<usize> {
        self.pending
            .iter()
            .position(|p| p.durable && p.not_before.is_none_or(|at| now >= at))
    }

    /// Queues an accepted payment, in place of one that the Hermes cannot have seen.
    pub(super) fn queue(&mut self, exchange: Exchange) {
        if self.pending.back().is_some_and(|last| !last.sent) {
            self.pending.pop_back();
        }
        self.seen = self.seen.max(exchange.promise.promise.amount);
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.invoice.total <= exchange.agreement_total)
        {
            self.open = None;
        }
        self.pending.push_back(Pending {
            exchange,
            durable: false,
            sent: false,
            attempts: 0,
            refusals: 0,
            uncertain: false,
            not_before: None,
        });
    }

    /// What the next invoice would ask for; `None` while nothing is owed or an invoice has to wait.
    pub(super) fn next_total(&self) -> Option<Amount> {
        if self.open.is_some() || self.refused.is_some() || !self.has_room() {
            return None;
        }
        let accepted = self.accepted();
        if accepted.is_zero() {
            // An agreement that ends before its first payment asks for what was used, which the gate kept at nothing.
            let least = if self.ended_at.is_some() {
                Amount::ZERO
            } else {
                self.terms.agreement.chunk
            };
            return Some(self.cost.max(least)).filter(|total| !total.is_zero());
        }
        (self.cost > accepted).then_some(self.cost)
    }

    pub(super) fn is_due(&self, now: Instant, patience: &Patience) -> bool {
        let Some(total) = self.next_total() else {
            return false;
        };
        if self.accepted().is_zero() {
            return true;
        }
        let owed = total.saturating_sub(self.accepted());
        owed >= self.allowance().mul_div_up(1, HASTY_SHARE)
            || now >= self.last_invoice_at + self.pause(owed, patience)
    }

    /// How long after the last invoice one over `owed` may wait.
    fn pause(&self, owed: Amount, patience: &Patience) -> Duration {
        if owed >= self.allowance().mul_div_up(1, INVOICE_SHARE) {
            patience.invoice_pace
        } else {
            patience.invoice_every
        }
    }

    pub(super) fn sent(&mut self, invoice: Invoice, now: Instant) {
        self.last_invoice_at = now;
        self.open = Some(OpenInvoice {
            invoice,
            sent_at: now,
        });
    }

    /// Ended, nothing on its way that may still become money, and either nothing owed or the consumer's time is up.
    pub(super) fn is_over(&self, now: Instant, patience: Duration) -> bool {
        let Some(ended_at) = self.ended_at else {
            return false;
        };
        if self.covered != self.covered_next {
            return false;
        }
        let time_is_up = now >= ended_at + patience;
        if !self.pending.is_empty() {
            return time_is_up
                && self
                    .pending
                    .iter()
                    .all(|p| p.durable && !p.uncertain && p.refusals >= MAX_REFUSALS);
        }
        self.claim().is_zero() || self.refused.is_some() || time_is_up
    }

    pub(super) fn deadline(&self, patience: &Patience) -> Option<Deadline> {
        let unanswered = self.open.as_ref().map(|open| Deadline {
            at: open.sent_at + patience.resend_invoice,
            why: Why::InvoiceUnanswered,
        });
        let due = self
            .next_total()
            .filter(|_| self.ended_at.is_none() && !self.accepted().is_zero())
            .map(|total| {
                let owed = total.saturating_sub(self.accepted());
                Deadline {
                    at: self.last_invoice_at + self.pause(owed, patience),
                    why: Why::InvoiceDue,
                }
            });
        let over = self
            .ended_at
            .filter(|_| self.pending.is_empty() && self.covered == self.covered_next)
            .map(|ended_at| Deadline {
                at: ended_at + patience.last_invoice,
                why: Why::LastInvoiceUnpaid,
            });
        earlier(earlier(unanswered, due), over)
    }
}
