//! A consumer of the payment world: a real payer, on its ledger, perhaps with a dishonest owner.

use std::sync::Arc;

use wayfare_identity::Signer;
use wayfare_payment::{
    Amount, ChannelId, Exchange, Invoice, PayRefusal, Payer, PayerConfig, PayerOutput, Promise,
    Usage,
};

use super::invariants::Broken;
use super::{CHAIN_ID, ConsumerKind, Message, World, hermes_id, key, vault_address};
use crate::{CrashingLedger, Owner, SimVault};

/// Payments after which a consumer of that kind stops.
const LAST_PAYMENT: u64 = 3;

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) kind: ConsumerKind,
    pub(super) signer: Arc<dyn Signer>,
    pub(super) channel: ChannelId,
    pub(super) payer: Payer,
    pub(super) ledger: CrashingLedger,
    pub(super) paid: u64,
}

impl Consumer {
    pub(super) fn new(index: usize, kind: ConsumerKind) -> Self {
        let signer = key("consumer", index);
        let channel = SimVault::consumer_channel(signer.address(), hermes_id());
        let payer = Payer::new(Self::config(channel), Arc::clone(&signer));
        Self {
            kind,
            signer,
            channel,
            payer,
            ledger: CrashingLedger::default(),
            paid: 0,
        }
    }

    fn config(channel: ChannelId) -> PayerConfig {
        PayerConfig {
            hermes: hermes_id(),
            chain_id: CHAIN_ID,
            vault: vault_address(),
            channel,
        }
    }

    pub(super) fn read_chain(&mut self, deposit: Amount, collected: Amount) {
        // One that over-promises tells its own machine that it is rich.
        let rich = self.kind == ConsumerKind::OverPromises;
        self.payer
            .handle_deposit(if rich { Amount::MAX } else { deposit });
        self.payer.handle_collected(collected);
    }
}

impl World {
    pub(super) fn invoice_arrives(&mut self, index: usize, invoice: Invoice) -> Result<(), Broken> {
        let received = self
            .session_of(invoice.agreement)
            .map_or(Usage::default(), |session| session.received);
        self.consumers[index]
            .payer
            .handle_invoice(invoice, &received);
        self.drain_consumer(index)
    }

    pub(super) fn drain_consumer(&mut self, index: usize) -> Result<(), Broken> {
        while let Some(output) = self.consumers[index].payer.poll_output() {
            match output {
                PayerOutput::Persist { ticket, batch } => {
                    let consumer = &self.consumers[index];
                    self.witness
                        .consumer_signs(consumer.channel, consumer.payer.total())?;
                    let (now, delay) = (self.clock.now(), self.write_delay());
                    self.consumers[index]
                        .ledger
                        .commit(Owner::Payments, ticket, batch, now, delay);
                }
                PayerOutput::Pay(exchange) => self.pay(index, exchange)?,
                PayerOutput::Refused { agreement, why } => {
                    let honest_provider = self
                        .session_of(agreement)
                        .is_some_and(|s| self.is_honest_provider(s.provider));
                    self.witness.invoice_refused(&why, honest_provider)?;
                    if matches!(why, PayRefusal::Signer(_) | PayRefusal::Stopped) {
                        return Err(Broken::new(format!("consumer {index} refuses: {why}")));
                    }
                }
            }
        }
        Ok(())
    }

    fn pay(&mut self, index: usize, exchange: Exchange) -> Result<(), Broken> {
        let Some(session) = self.session_of(exchange.agreement).cloned() else {
            return Err(Broken::new("a payment for no session"));
        };
        let consumer = &mut self.consumers[index];
        consumer.paid += 1;
        self.witness.consumer_pays(&exchange, &session)?;
        let exchange = match consumer.kind {
            ConsumerKind::Honest | ConsumerKind::Leaves => exchange,
            ConsumerKind::StopsPaying if consumer.paid > LAST_PAYMENT => return Ok(()),
            ConsumerKind::StopsPaying => exchange,
            ConsumerKind::OverPromises => {
                // Any amount, as long as the provider takes it: it cannot know what the others were promised.
                let spread = if self.chance.happens(700) {
                    0
                } else {
                    self.chance.below(4_000_000)
                };
                let amount = exchange
                    .agreement_total
                    .saturating_add(Amount::from_units(spread.into()));
                let promise = Promise {
                    amount,
                    ..exchange.promise.promise
                };
                let signer = consumer.signer.as_ref();
                let promise = promise
                    .sign(signer)
                    .map_err(|e| Broken::new(e.to_string()))?;
                let Exchange {
                    agreement,
                    agreement_total,
                    provider,
                    hermes,
                    ..
                } = exchange;
                Exchange::sign(
                    signer,
                    promise,
                    agreement,
                    agreement_total,
                    provider,
                    hermes,
                )
                .map_err(|e| Broken::new(e.to_string()))?
            }
        };
        self.send(Message::Payment {
            provider: session.provider,
            exchange,
        });
        Ok(())
    }

    pub(super) fn commit_consumer(&mut self, index: usize) -> Result<(), Broken> {
        let now = self.clock.now();
        while let Some((_, ticket)) = self.consumers[index].ledger.durable(now)? {
            self.consumers[index].payer.handle_durable(ticket);
            self.drain_consumer(index)?;
        }
        Ok(())
    }

    pub(super) fn crash_consumer(&mut self, index: usize) -> Result<(), Broken> {
        let consumer = &mut self.consumers[index];
        consumer.ledger.crash(&mut self.chance)?;
        let rows = consumer.ledger.rows(Payer::TABLES);
        consumer.payer = Payer::restore(
            Consumer::config(consumer.channel),
            Arc::clone(&consumer.signer),
            rows,
        )?;
        self.witness
            .payer_restored(consumer.channel, consumer.payer.total())?;
        // A stale view from outside, now and then: it must not lower anything.
        if let Some(old) = self.witness.old_promise(consumer.channel) {
            consumer
                .payer
                .handle_hermes_view(&old)
                .map_err(|e| Broken::new(e.to_string()))?;
            self.witness
                .payer_restored(consumer.channel, consumer.payer.total())?;
        }
        let account = self.vault.consumer(consumer.signer.address(), hermes_id());
        consumer.read_chain(
            account.balance.saturating_add(account.collected),
            account.collected,
        );
        for session in self
            .sessions
            .iter()
            .filter(|session| session.consumer == index)
        {
            consumer
                .payer
                .open(session.terms, None)
                .map_err(|e| Broken::new(e.to_string()))?;
        }
        self.witness.crashes += 1;
        self.drain_consumer(index)
    }

    fn is_honest_provider(&self, index: usize) -> bool {
        self.providers[index].kind == super::ProviderKind::Honest
    }
}
