//! The payer: a consumer's machine, the single writer of its one cumulative channel at one Hermes, shared by all its sessions.
//!
//! Invoice in, checked against the consumer's own meter, budget and deposit; promise signed; **persisted, then sent**. The same
//! invoice again yields the same bytes again. It refuses to believe anybody's figures: an invoice only asks, and outside views of
//! the channel's total count only with the consumer's own signature on them, since a Hermes that could raise the total by word
//! alone would be paid the difference with the next promise.
//!
//! It has no deadlines: whoever wants money asks again.

mod refusal;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use wayfare_identity::{Address, Signer};

use crate::durability::Withheld;
use crate::record::{
    PayerAgreementRecord, PayerChannelRecord, RecordFault, agreement_key, channel_key, decode,
    encode, fault,
};
use crate::{
    AgreementId, Amount, Batch, ChannelId, Entry, Exchange, Expect, Hashlock, Invoice, Promise,
    RecordError, Row, SignedAgreement, SignedPromise, Table, Ticket, Usage,
};

pub use self::refusal::{OpenRefusal, PayRefusal, ViewRefusal};

/// Agreements that are open at once; each takes about 1 KiB.
pub const MAX_PAYER_AGREEMENTS: usize = 1024;
/// Locks of an agreement that are remembered in order to refuse their reuse. Reuse of an older one would cost its provider, not us:
/// the Hermes could then collect without owing that provider anything.
const REMEMBERED_LOCKS: usize = 16;
/// What the other side's meter may differ from ours: 1/100.
const METER_TOLERANCE: u128 = 100;

/// Whose channel this is. Fixed for the machine's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayerConfig {
    /// The Hermes.
    pub hermes: Address,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The vault on that chain.
    pub vault: Address,
    /// The consumer's channel at the Hermes, derived locally.
    pub channel: ChannelId,
}

/// What the payer wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayerOutput {
    /// Commit this, then call [`Payer::handle_durable`].
    Persist {
        /// To report back.
        ticket: Ticket,
        /// To commit.
        batch: Batch,
    },
    /// Send this to the provider of `exchange.agreement`.
    Pay(Exchange),
    /// An invoice was not paid.
    Refused {
        /// Of the invoice.
        agreement: AgreementId,
        /// Why.
        why: PayRefusal,
    },
}

#[derive(Debug)]
struct Paying {
    terms: SignedAgreement,
    budget: Option<Amount>,
    last: Option<Exchange>,
    recent: Vec<Hashlock>,
    closed: bool,
    /// Under which ticket `last` waits for its record.
    unsent: Option<Ticket>,
}

impl Paying {
    fn paid(&self) -> Amount {
        self.last
            .as_ref()
            .map_or(Amount::ZERO, |exchange| exchange.agreement_total)
    }

    fn record(&self) -> Vec<u8> {
        encode(&PayerAgreementRecord {
            terms: self.terms,
            budget: self.budget,
            last: self.last,
            recent: self.recent.clone(),
            closed: self.closed,
        })
    }
}

/// The consumer's machine. See the module.
#[derive(Debug)]
pub struct Payer {
    config: PayerConfig,
    signer: Arc<dyn Signer>,
    total: Amount,
    deposit: Amount,
    agreements: BTreeMap<AgreementId, Paying>,
    withheld: Withheld<Option<Exchange>>,
    outputs: VecDeque<PayerOutput>,
}

impl Payer {
    /// Where its records live; feed all rows of these to [`Payer::restore`].
    pub const TABLES: &[Table] = &[Table::PayerChannel, Table::PayerAgreement];

    /// A payer without a past.
    #[must_use]
    pub fn new(config: PayerConfig, signer: Arc<dyn Signer>) -> Self {
        Self {
            config,
            signer,
            total: Amount::ZERO,
            deposit: Amount::ZERO,
            agreements: BTreeMap::new(),
            withheld: Withheld::new(),
            outputs: VecDeque::new(),
        }
    }

    /// A payer as its ledger left it. Rows of other channels are skipped, so several payers may share a ledger.
    ///
    /// # Errors
    /// [`RecordError`] names the row that cannot be read.
    pub fn restore(
        config: PayerConfig,
        signer: Arc<dyn Signer>,
        rows: impl IntoIterator<Item = (Table, Row)>,
    ) -> Result<Self, RecordError> {
        let mut payer = Self::new(config, signer);
        for (table, row) in rows {
            match table {
                Table::PayerChannel => {
                    let record: PayerChannelRecord = decode(table, &row)?;
                    if record.channel == config.channel {
                        payer.total = payer.total.max(record.total);
                    }
                }
                Table::PayerAgreement => {
                    let PayerAgreementRecord {
                        terms,
                        budget,
                        last,
                        recent,
                        closed,
                    } = decode(table, &row)?;
                    if terms.agreement.consumer_channel == config.channel {
                        let paying = Paying {
                            terms,
                            budget,
                            last,
                            recent,
                            closed,
                            unsent: None,
                        };
                        payer.total =
                            last.map_or(payer.total, |l| payer.total.max(l.promise.promise.amount));
                        payer.agreements.insert(terms.agreement.id, paying);
                    }
                }
                _ => return Err(fault(table, &row.0, RecordFault::Foreign)),
            }
        }
        Ok(payer)
    }

    /// Everything promised on the channel, written or being written.
    #[must_use]
    pub fn total(&self) -> Amount {
        self.total
    }

    /// What the promises may reach.
    #[must_use]
    pub fn deposit(&self) -> Amount {
        self.deposit
    }

    /// Everything promised within an agreement; `None` if it is not known.
    #[must_use]
    pub fn paid(&self, agreement: AgreementId) -> Option<Amount> {
        self.agreements.get(&agreement).map(Paying::paid)
    }

    /// The agreements that are paid for.
    pub fn agreements(&self) -> impl Iterator<Item = &SignedAgreement> {
        self.agreements
            .values()
            .filter(|paying| !paying.closed)
            .map(|paying| &paying.terms)
    }

    /// Begins, or after a restart goes on, to pay for an agreement, up to a budget. Nothing is written before the first payment.
    ///
    /// # Errors
    /// [`OpenRefusal`]; nothing has changed then.
    pub fn open(
        &mut self,
        terms: SignedAgreement,
        budget: Option<Amount>,
    ) -> Result<(), OpenRefusal> {
        let agreement = &terms.agreement;
        let ours = [
            (agreement.consumer == self.signer.address(), "consumer"),
            (agreement.hermes == self.config.hermes, "Hermes"),
            (agreement.chain_id == self.config.chain_id, "chain"),
            (agreement.vault == self.config.vault, "vault"),
            (agreement.consumer_channel == self.config.channel, "channel"),
        ];
        if let Some((_, what)) = ours.iter().find(|(is, _)| !is) {
            return Err(OpenRefusal::NotOurs(what));
        }
        terms.verify()?;
        if let Some(known) = self.agreements.get_mut(&agreement.id) {
            if known.terms != terms {
                return Err(OpenRefusal::IdTaken);
            }
            if known.closed {
                return Err(OpenRefusal::Closed);
            }
            known.budget = budget;
            return Ok(());
        }
        if self.agreements.len() >= MAX_PAYER_AGREEMENTS {
            return Err(OpenRefusal::TooMany(self.agreements.len()));
        }
        let paying = Paying {
            terms,
            budget,
            last: None,
            recent: Vec::new(),
            closed: false,
            unsent: None,
        };
        self.agreements.insert(agreement.id, paying);
        Ok(())
    }

    /// What the promises may reach: balance and collected together, as the chain says.
    pub fn handle_deposit(&mut self, deposit: Amount) {
        self.deposit = deposit;
    }

    /// Takes over a promise of our own that somebody else kept, for a ledger that was lost. Only ever raises the total.
    ///
    /// # Errors
    /// [`ViewRefusal`] if it is not ours; nothing has changed then.
    pub fn handle_hermes_view(&mut self, promise: &SignedPromise) -> Result<(), ViewRefusal> {
        if promise.promise.channel != self.config.channel
            || promise.promise.chain_id != self.config.chain_id
        {
            return Err(ViewRefusal::NotOurs);
        }
        promise.verify(self.signer.address())?;
        self.raise(promise.promise.amount);
        Ok(())
    }

    /// What the chain says was collected from the channel: at least this much has been promised. Only ever raises the total.
    pub fn handle_collected(&mut self, collected: Amount) {
        self.raise(collected);
    }

    /// An invoice, to be compared with what we counted ourselves. Ends in [`PayerOutput::Pay`] or [`PayerOutput::Refused`].
    pub fn handle_invoice(&mut self, invoice: Invoice, own_usage: &Usage) {
        if let Err(why) = self.pay(invoice, own_usage) {
            // The provider may have restarted and forgotten what we sent: the same bytes again put it right.
            if let (PayRefusal::Stale { .. }, Some(paying)) =
                (&why, self.agreements.get(&invoice.agreement))
                && let (Some(last), None) = (paying.last, paying.unsent)
            {
                self.outputs.push_back(PayerOutput::Pay(last));
            }
            self.outputs.push_back(PayerOutput::Refused {
                agreement: invoice.agreement,
                why,
            });
        }
    }

    /// Pays nothing more for an agreement. What was sent can still be sent again.
    pub fn close(&mut self, agreement: AgreementId) {
        let stopped = self.withheld.failed();
        let Some(paying) = self.agreements.get_mut(&agreement) else {
            return;
        };
        paying.closed = true;
        if paying.last.is_none() || stopped {
            self.agreements.remove(&agreement);
            return;
        }
        let mut batch = Batch::default();
        batch.put(
            Table::PayerAgreement,
            agreement_key(agreement),
            paying.record(),
        );
        self.persist(batch, None);
    }

    /// Drops the memory of a closed agreement, here and in the ledger.
    pub fn forget(&mut self, agreement: AgreementId) {
        if !self
            .agreements
            .get(&agreement)
            .is_some_and(|paying| paying.closed && paying.unsent.is_none())
        {
            return;
        }
        self.agreements.remove(&agreement);
        let key = agreement_key(agreement);
        let entry = Entry {
            table: Table::PayerAgreement,
            key,
            value: None,
            expect: Expect::Anything,
        };
        self.persist(Batch(vec![entry]), None);
    }

    /// A batch is durable.
    pub fn handle_durable(&mut self, ticket: Ticket) {
        for exchange in self.withheld.durable(ticket).into_iter().flatten() {
            if let Some(paying) = self.agreements.get_mut(&exchange.agreement)
                && paying.last == Some(exchange)
            {
                paying.unsent = None;
            }
            self.outputs.push_back(PayerOutput::Pay(exchange));
        }
    }

    /// A commit failed: nothing is signed or sent any more.
    pub fn handle_failed(&mut self, _ticket: Ticket) {
        self.withheld.fail();
        self.outputs.clear();
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<PayerOutput> {
        self.outputs.pop_front()
    }

    fn raise(&mut self, total: Amount) {
        if total <= self.total || self.withheld.failed() {
            return;
        }
        self.total = total;
        let mut batch = Batch::default();
        batch.put(
            Table::PayerChannel,
            channel_key(self.config.channel),
            self.channel_record(),
        );
        self.persist(batch, None);
    }

    fn pay(&mut self, invoice: Invoice, own_usage: &Usage) -> Result<(), PayRefusal> {
        if self.withheld.failed() {
            return Err(PayRefusal::Stopped);
        }
        let paying = self
            .agreements
            .get_mut(&invoice.agreement)
            .ok_or(PayRefusal::UnknownAgreement)?;
        if let Some(last) = paying.last
            && last.agreement_total == invoice.total
            && last.promise.promise.hashlock == invoice.hashlock
        {
            if paying.unsent.is_none() {
                self.outputs.push_back(PayerOutput::Pay(last));
            }
            return Ok(());
        }
        let wanted = check(paying, &invoice, own_usage, self.total, self.deposit)?;

        let Self { config, signer, .. } = &*self;
        let terms = &self.agreements[&invoice.agreement].terms.agreement;
        let exchange = Promise {
            chain_id: config.chain_id,
            channel: config.channel,
            amount: wanted,
            fee: Amount::ZERO,
            hashlock: invoice.hashlock,
        }
        .sign(signer.as_ref())
        .and_then(|promise| {
            Exchange::sign(
                signer.as_ref(),
                promise,
                terms.id,
                invoice.total,
                terms.provider,
                config.hermes,
            )
        })
        .map_err(|error| PayRefusal::Signer(error.to_string()))?;
        self.promise(exchange);
        Ok(())
    }

    fn promise(&mut self, exchange: Exchange) {
        self.total = exchange.promise.promise.amount;
        let channel = self.channel_record();
        let ticket = self.withheld.hold(Some(exchange));
        let paying = self
            .agreements
            .get_mut(&exchange.agreement)
            .expect("the caller found the agreement and keeps it borrowed");
        if paying.recent.len() >= REMEMBERED_LOCKS {
            paying.recent.remove(0);
        }
        paying.recent.push(exchange.promise.promise.hashlock);
        paying.last = Some(exchange);
        paying.unsent = Some(ticket);
        let mut batch = Batch::default();
        batch.put(
            Table::PayerChannel,
            channel_key(self.config.channel),
            channel,
        );
        batch.put(
            Table::PayerAgreement,
            agreement_key(exchange.agreement),
            paying.record(),
        );
        self.outputs
            .push_back(PayerOutput::Persist { ticket, batch });
    }

    fn persist(&mut self, batch: Batch, then: Option<Exchange>) {
        let ticket = self.withheld.hold(then);
        self.outputs
            .push_back(PayerOutput::Persist { ticket, batch });
    }

    fn channel_record(&self) -> Vec<u8> {
        encode(&PayerChannelRecord {
            channel: self.config.channel,
            total: self.total,
        })
    }
}

/// All that speaks against an invoice; otherwise the channel's new total.
fn check(
    paying: &Paying,
    invoice: &Invoice,
    own_usage: &Usage,
    channel_total: Amount,
    deposit: Amount,
) -> Result<Amount, PayRefusal> {
    let total = invoice.total;
    let promised = paying.paid();
    if paying.closed {
        return Err(PayRefusal::Closed);
    }
    if total < promised {
        return Err(PayRefusal::Stale { total, promised });
    }
    if total == promised || paying.recent.contains(&invoice.hashlock) {
        return Err(PayRefusal::HashlockReused);
    }
    let terms = &paying.terms.agreement;
    let own_cost = terms.price.cost_rounded_down(own_usage);
    let allowance = terms.allowance(promised);
    let limit = own_cost
        .saturating_add(own_cost.mul_div_up(1, METER_TOLERANCE))
        .saturating_add(allowance);
    if total > limit {
        return Err(PayRefusal::Inflated {
            total,
            own_cost,
            allowance,
        });
    }
    if let Some(budget) = paying.budget.filter(|budget| total > *budget) {
        return Err(PayRefusal::OverBudget { total, budget });
    }
    // `total > promised` was established above; a sum above 2^256 is above every deposit.
    let wanted = channel_total.saturating_add(total.saturating_sub(promised));
    if wanted > deposit || wanted <= channel_total {
        return Err(PayRefusal::OverDeposit { wanted, deposit });
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests;
