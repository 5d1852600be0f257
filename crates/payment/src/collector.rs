//! The collector: a provider's machine, the single writer of its one channel at one Hermes, fed by the meters of all its sessions.
//!
//! Usage in, invoices out; a consumer's payment is checked and **persisted**; the Hermes turns it into its own promise; that is
//! checked and **persisted**, and only then is the preimage revealed. One request is under way at the Hermes at a time; meanwhile
//! each agreement may have one payment waiting and one invoice out, so the credit gate stays open at full speed.
//!
//! It refuses to serve on a consumer's word: the gate counts only what the Hermes has promised and the ledger holds.
//!
//! How deep the pipeline is: an invoice goes out when a quarter of the allowance has been used since the last one, though no more
//! than four times a second, and at once when half of it has been used. The gate closes when a whole allowance is not covered. So it
//! stays open while a payment takes no longer, from invoice to durable promise, than the consumer needs to use half its allowance.

mod book;
mod config;
mod earning;
mod exchange;
mod gate;
mod issue;
mod output;
mod reply;

use std::collections::VecDeque;
use std::time::Instant;

use wayfare_identity::Domain;

use self::book::Book;
use self::earning::Earning;
use self::issue::Pipeline;
use crate::deadline::earlier;
use crate::durability::Withheld;
use crate::record::{
    CollectorAgreementRecord, CollectorChannelRecord, RecordFault, agreement_key, decode, fault,
};
use crate::{
    AgreementId, Amount, Batch, ChannelId, Deadline, Entry, Expect, Hashlock, HermesAccount,
    Invoice, Preimage, RecordError, Row, SettleMaterial, SignedAgreement, Table, Ticket, Usage,
};

pub use self::config::{CollectorConfig, Patience};
pub use self::exchange::ExchangeRefusal;
pub use self::gate::{Gate, GateReason};
pub use self::output::{AdmissionRefusal, CollectorOutput};
pub use self::reply::ReplyFault;

/// Agreements that are open at once; each takes about 2 KiB.
pub const MAX_COLLECTOR_AGREEMENTS: usize = 4096;

/// What becomes true when a batch is durable.
#[derive(Debug)]
enum Consequence {
    Accepted {
        agreement: AgreementId,
        hashlock: Hashlock,
    },
    Earned {
        agreement: AgreementId,
        total: Amount,
    },
    Nothing,
}

/// The provider's machine. See the module.
#[derive(Debug)]
pub struct Collector {
    config: CollectorConfig,
    channel: ChannelId,
    hermes: Option<HermesAccount>,
    earnings: Book,
    pipeline: Pipeline,
    withheld: Withheld<Consequence>,
    outputs: VecDeque<CollectorOutput>,
}

impl Collector {
    /// Where its records live; feed all rows of these to [`Collector::restore`].
    pub const TABLES: &[Table] = &[Table::CollectorChannel, Table::CollectorAgreement];

    /// A collector without a past.
    #[must_use]
    pub fn new(config: CollectorConfig) -> Self {
        let channel = ChannelId::of_provider(config.provider, config.hermes);
        Self {
            earnings: Book::new(config.patience),
            config,
            channel,
            hermes: None,
            pipeline: Pipeline::default(),
            withheld: Withheld::new(),
            outputs: VecDeque::new(),
        }
    }

    /// A collector as its ledger left it: payments that have no promise yet are sent to the Hermes again, the last preimage is
    /// revealed again. Rows of other channels are skipped, so the collectors of several Hermes may share a ledger.
    ///
    /// Sessions do not survive on their own: `open` those that go on, `close` the rest.
    ///
    /// # Errors
    /// [`RecordError`] names the row that cannot be read.
    pub fn restore(
        config: CollectorConfig,
        rows: impl IntoIterator<Item = (Table, Row)>,
        now: Instant,
    ) -> Result<Self, RecordError> {
        let credit_cap = config.credit_cap;
        let mut collector = Self::new(config);
        for (table, row) in rows {
            match table {
                Table::CollectorChannel => {
                    let record: CollectorChannelRecord = decode(table, &row)?;
                    if (record.provider, record.hermes)
                        == (collector.config.provider, collector.config.hermes)
                    {
                        collector.pipeline.last = Some(record);
                    }
                }
                Table::CollectorAgreement => {
                    let record: CollectorAgreementRecord = decode(table, &row)?;
                    let terms = &record.terms.agreement;
                    if (terms.provider, terms.hermes)
                        == (collector.config.provider, collector.config.hermes)
                    {
                        collector
                            .earnings
                            .insert(terms.id, Earning::restored(record, credit_cap, now));
                    }
                }
                _ => return Err(fault(table, &row.0, RecordFault::Foreign)),
            }
        }
        collector.resume(now);
        Ok(collector)
    }

    /// Begins to earn: the first invoice, over one chunk, goes out as soon as the Hermes is known to be good. The same agreement
    /// again goes on with it.
    ///
    /// # Errors
    /// [`AdmissionRefusal`]; nothing has changed then.
    pub fn open(&mut self, terms: SignedAgreement, now: Instant) -> Result<(), AdmissionRefusal> {
        if self.withheld.failed() {
            return Err(AdmissionRefusal::Stopped);
        }
        let agreement = &terms.agreement;
        let ours = [
            (agreement.provider == self.config.provider, "provider"),
            (agreement.hermes == self.config.hermes, "Hermes"),
            (agreement.chain_id == self.config.chain_id, "chain"),
            (agreement.vault == self.config.vault, "vault"),
        ];
        if let Some((_, what)) = ours.iter().find(|(is, _)| !is) {
            return Err(AdmissionRefusal::NotOurs(what));
        }
        if agreement.chunk.is_zero() {
            return Err(AdmissionRefusal::NoChunk);
        }
        terms.verify()?;
        let id = agreement.id;
        if let Some(known) = self.earnings.get(&id) {
            if known.terms != terms {
                return Err(AdmissionRefusal::IdTaken);
            }
            self.earnings.edit(id, |known| known.ended_at = None);
        } else {
            if self.earnings.len() >= MAX_COLLECTOR_AGREEMENTS {
                return Err(AdmissionRefusal::TooMany(self.earnings.len()));
            }
            self.earnings
                .insert(id, Earning::new(terms, self.config.credit_cap, now));
        }
        self.invoice_if_due(id, now);
        Ok(())
    }

    /// What was used so far, cumulative within the agreement. Figures below earlier ones change nothing.
    pub fn handle_usage(&mut self, agreement: AgreementId, usage: &Usage, now: Instant) {
        if self.earnings.count(agreement, usage).is_some() {
            self.invoice_if_due(agreement, now);
        }
    }

    /// Asks at once for whatever is owed: the open invoice again, or a new one.
    pub fn invoice_now(&mut self, agreement: AgreementId, usage: &Usage, now: Instant) {
        if self.earnings.count(agreement, usage).is_some() {
            self.invoice(agreement, now);
        }
    }

    /// Ends an agreement with a last invoice. It is forgotten once nothing is owed or the consumer's time is up; until then
    /// payments are still taken. [`CollectorOutput::Ended`] follows.
    pub fn close(&mut self, agreement: AgreementId, usage: &Usage, now: Instant) {
        let ended = self.earnings.edit(agreement, |earning| {
            earning.count(usage);
            earning.ended_at = Some(now);
        });
        if ended.is_none() {
            return;
        }
        self.invoice(agreement, now);
        self.forget_ended(now);
    }

    /// The Hermes as the chain shows it. Until this is called nothing is invoiced and the gate is closed; call it on each change.
    pub fn handle_hermes(&mut self, account: HermesAccount, now: Instant) {
        self.hermes = Some(account);
        self.urge();
        self.pump(now);
    }

    /// What the chain has settled on our channel.
    pub fn handle_settled(&mut self, total: Amount, now: Instant) {
        self.pipeline.settled = total;
        self.pump(now);
    }

    /// A batch is durable.
    pub fn handle_durable(&mut self, ticket: Ticket, now: Instant) {
        for consequence in self.withheld.durable(ticket) {
            match consequence {
                Consequence::Accepted {
                    agreement,
                    hashlock,
                } => self.accepted(agreement, hashlock),
                Consequence::Earned { agreement, total } => self.earned(agreement, total, now),
                Consequence::Nothing => {}
            }
        }
        self.pump(now);
    }

    /// A commit failed: nothing is said any more and the gate is closed.
    pub fn handle_failed(&mut self, _ticket: Ticket) {
        self.withheld.fail();
        self.outputs.clear();
    }

    /// Does what has become due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.pipeline_timeout(now);
        self.pump(now);
    }

    /// When to call [`Collector::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.withheld.failed() {
            return None;
        }
        earlier(self.earnings.deadline(), self.pipeline_deadline())
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<CollectorOutput> {
        self.outputs.pop_front()
    }

    /// Everything that the Hermes has promised on our channel.
    #[must_use]
    pub fn promised(&self) -> Amount {
        self.pipeline.promised()
    }

    /// The most credit that an agreement is given beyond its first chunk.
    #[must_use]
    pub fn credit_cap(&self) -> Amount {
        self.config.credit_cap
    }

    /// What the Hermes' durable promises cover of an agreement.
    #[must_use]
    pub fn covered(&self, agreement: AgreementId) -> Option<Amount> {
        self.earnings.get(&agreement).map(|earning| earning.covered)
    }

    /// The last usage of an agreement that is known here: after a restart, where its meter has to go on.
    #[must_use]
    pub fn usage(&self, agreement: AgreementId) -> Option<Usage> {
        self.earnings.get(&agreement).map(|earning| earning.usage)
    }

    /// The agreements that are known, ended ones included.
    pub fn agreements(&self) -> impl Iterator<Item = &SignedAgreement> {
        self.earnings.values().map(|earning| &earning.terms)
    }

    /// The best promise that can be settled now.
    #[must_use]
    pub fn settle_material(&self) -> Option<SettleMaterial> {
        if self.pipeline.storing {
            return None;
        }
        self.pipeline.last.as_ref().map(|last| self.material(last))
    }

    fn domain(&self) -> Domain {
        Domain {
            chain_id: self.config.chain_id,
            verifying_contract: self.config.vault,
        }
    }

    fn preimage(&self, agreement: AgreementId, total: Amount) -> Preimage {
        Preimage::derive(&self.config.secret, agreement.0, total)
    }

    fn pump(&mut self, now: Instant) {
        if self.withheld.failed() {
            return;
        }
        for id in self.earnings.attention(now) {
            self.resend_if_unanswered(id, now);
            self.invoice_if_due(id, now);
        }
        self.forget_ended(now);
        self.issue_next(now);
    }

    fn invoice_if_due(&mut self, id: AgreementId, now: Instant) {
        let due = self
            .earnings
            .get(&id)
            .is_some_and(|earning| earning.is_due(now, &self.config.patience));
        if due {
            self.invoice(id, now);
        }
    }

    fn resend_if_unanswered(&mut self, id: AgreementId, now: Instant) {
        let patience = self.config.patience.resend_invoice;
        let is_late = |earning: &Earning| {
            let open = earning.open.as_ref();
            open.is_some_and(|open| now >= open.sent_at + patience)
        };
        if !self.earnings.get(&id).is_some_and(is_late) {
            return;
        }
        let again = self.earnings.edit(id, |earning| {
            let open = earning.open.as_mut()?;
            open.sent_at = now;
            Some(open.invoice)
        });
        if let Some(invoice) = again.flatten() {
            self.outputs.push_back(CollectorOutput::Invoice(invoice));
        }
    }

    fn invoice(&mut self, id: AgreementId, now: Instant) {
        if self.withheld.failed() {
            return;
        }
        let Some(earning) = self.earnings.get(&id) else {
            return;
        };
        let invoice = match &earning.open {
            Some(open) => open.invoice,
            None => {
                let Some(total) = earning.next_total() else {
                    return;
                };
                // The first chunk is paid ahead; it is not even asked for while its cover is in doubt.
                let first = earning.accepted().is_zero();
                if first && self.hermes_doubt(total).is_some() {
                    return;
                }
                Invoice {
                    agreement: id,
                    total,
                    hashlock: self.preimage(id, total).hashlock(),
                }
            }
        };
        self.earnings.edit(id, |earning| earning.sent(invoice, now));
        self.outputs.push_back(CollectorOutput::Invoice(invoice));
    }

    fn forget_ended(&mut self, now: Instant) {
        let patience = self.config.patience.last_invoice;
        let over: Vec<AgreementId> = self
            .earnings
            .ended()
            .filter(|id| self.earnings[id].is_over(now, patience))
            .collect();
        for id in over {
            let Some(earning) = self.earnings.remove(&id) else {
                continue;
            };
            let unpaid = earning.cost().saturating_sub(earning.covered);
            self.outputs.push_back(CollectorOutput::Ended {
                agreement: id,
                covered: earning.covered,
                unpaid,
            });
            if !earning.accepted().is_zero() {
                let (table, key) = (Table::CollectorAgreement, agreement_key(id));
                let entry = Entry {
                    table,
                    key,
                    value: None,
                    expect: Expect::Anything,
                };
                self.persist(Batch(vec![entry]), Consequence::Nothing);
            }
        }
    }

    fn persist(&mut self, batch: Batch, then: Consequence) {
        let ticket = self.withheld.hold(then);
        self.outputs
            .push_back(CollectorOutput::Persist { ticket, batch });
    }
}

#[cfg(test)]
mod tests;
