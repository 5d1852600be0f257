//! The check of a consumer's payment (step 5): signers, channel, chain, Hermes, fee, agreement, lock and amounts.

use std::time::Instant;

use wayfare_identity::SignatureError;

use super::{Collector, CollectorOutput, Consequence};
use crate::record::agreement_key;
use crate::{Amount, Batch, Exchange, Table};

/// Why a payment is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeRefusal {
    /// No such agreement.
    #[error("the payment names an agreement that is not open")]
    UnknownAgreement,
    /// It pays somebody else.
    #[error("the payment names another provider")]
    WrongProvider,
    /// Through somebody else.
    #[error("the payment names another Hermes")]
    WrongHermes,
    /// On another chain.
    #[error("the promise is for another chain")]
    WrongChain,
    /// On another channel.
    #[error("the promise is not on the agreement's channel")]
    WrongChannel,
    /// It carries a fee.
    #[error("the promise carries a fee")]
    Fee,
    /// Another total than invoiced, or another lock: the two belong together.
    #[error("total and hashlock are not those of an invoice of ours")]
    NotInvoiced,
    /// Below what was paid.
    #[error("the payment is older than one already accepted")]
    Stale,
    /// The channel's promise grew by less than the agreement's total.
    #[error("the promise reaches {amount}, at least {least} is needed to pay for the invoice")]
    Underpaid {
        /// As promised on the channel.
        amount: Amount,
        /// What the channel's promise has to reach.
        least: Amount,
    },
    /// Promise or payment is not signed by the consumer.
    #[error("the payment is not signed by the consumer: {0}")]
    Signature(#[from] SignatureError),
    /// Two payments are on their way to the Hermes; the invoice will come again.
    #[error("earlier payments of this agreement are still on their way")]
    Busy,
    /// An earlier write failed.
    #[error("the ledger failed: nothing is accepted until this node is restarted")]
    Stopped,
}

enum Verdict {
    New,
    Repeated,
}

impl Collector {
    /// A payment. Accepted, it is written and then sent to the Hermes; repeated, it is dropped; otherwise
    /// [`CollectorOutput::Refused`] says why.
    ///
    /// The agreement's total has to be exactly that of an invoice of ours: its lock is derived from the total, so the lock proves
    /// it, also after a restart that forgot the open invoice. The channel's promise has to grow by *at least* as much: between two
    /// payments to us the consumer may have paid others on the same channel, and payments of several sessions may overtake each
    /// other on their way here. Whether all of them add up only the Hermes can know, and it does check.
    pub fn handle_exchange(&mut self, exchange: Exchange, now: Instant) {
        match self.check(&exchange) {
            Ok(Verdict::New) => self.accept(exchange),
            Ok(Verdict::Repeated) => {}
            Err(why) => {
                self.outputs.push_back(CollectorOutput::Refused {
                    agreement: exchange.agreement,
                    why,
                });
                return;
            }
        }
        self.invoice_if_due(exchange.agreement, now);
    }

    fn check(&self, exchange: &Exchange) -> Result<Verdict, ExchangeRefusal> {
        use ExchangeRefusal as No;
        if self.withheld.failed() {
            return Err(No::Stopped);
        }
        let earning = self
            .earnings
            .get(&exchange.agreement)
            .ok_or(No::UnknownAgreement)?;
        let terms = &earning.terms.agreement;
        let promise = &exchange.promise.promise;
        if exchange.provider != self.config.provider {
            return Err(No::WrongProvider);
        }
        if exchange.hermes != self.config.hermes {
            return Err(No::WrongHermes);
        }
        if promise.chain_id != terms.chain_id {
            return Err(No::WrongChain);
        }
        if promise.channel != terms.consumer_channel {
            return Err(No::WrongChannel);
        }
        if !promise.fee.is_zero() {
            return Err(No::Fee);
        }
        let total = exchange.agreement_total;
        if promise.hashlock != self.preimage(exchange.agreement, total).hashlock() {
            return Err(No::NotInvoiced);
        }
        let accepted = earning.accepted();
        if total == accepted {
            return Ok(Verdict::Repeated);
        }
        if total < accepted {
            return Err(No::Stale);
        }
        if !earning.has_room() {
            return Err(No::Busy);
        }
        let least = earning.seen.saturating_add(total.saturating_sub(accepted));
        if promise.amount < least {
            return Err(No::Underpaid {
                amount: promise.amount,
                least,
            });
        }
        exchange.verify(terms.consumer)?;
        Ok(Verdict::New)
    }

    fn accept(&mut self, exchange: Exchange) {
        let id = exchange.agreement;
        let queued = self.earnings.edit(id, |earning| {
            earning.queue(exchange);
            earning.record()
        });
        let Some(record) = queued else {
            return;
        };
        let mut batch = Batch::default();
        batch.put(Table::CollectorAgreement, agreement_key(id), record);
        self.persist(
            batch,
            Consequence::Accepted {
                agreement: id,
                hashlock: exchange.promise.promise.hashlock,
            },
        );
    }
}
