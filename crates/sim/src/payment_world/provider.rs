//! A provider of the payment world: a real collector and a real settler on one ledger, perhaps with a dishonest owner.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wayfare_identity::Signer;
use wayfare_payment::{
    AgreementId, Amount, ChainError, ChannelId, Collector, CollectorConfig, CollectorOutput,
    Exchange, Hashlock, Invoice, IssueFailure, Patience, Preimage, ReplyFault, SettleOrder,
    SettlePolicy, Settler, SettlerOutput,
};

use super::invariants::Broken;
use super::{
    Ask, CHAIN_ID, Message, ProviderKind, Tell, World, hermes_id, key, preimage_secret,
    vault_address,
};
use crate::{CrashingLedger, Owner};

/// After this a provider's call to the Hermes counts as failed.
const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// A machine that is due again this often at one moment is in a loop.
const MAX_TIMEOUTS: usize = 16;

#[derive(Debug, Clone, Copy)]
enum Call {
    Issue { hashlock: Hashlock, at: Instant },
    Reveal { hashlock: Hashlock },
}

#[derive(Debug)]
pub(super) struct Provider {
    index: usize,
    pub(super) kind: ProviderKind,
    pub(super) signer: Arc<dyn Signer>,
    pub(super) collector: Collector,
    pub(super) settler: Settler,
    pub(super) ledger: CrashingLedger,
    calls: BTreeMap<u64, Call>,
    orders: Vec<SettleOrder>,
}

impl Provider {
    pub(super) fn new(index: usize, kind: ProviderKind) -> Self {
        let signer = key("provider", index);
        let channel = ChannelId::of_provider(signer.address(), hermes_id());
        Self {
            index,
            kind,
            collector: Collector::new(config(index, signer.as_ref())),
            settler: Settler::new(policy(signer.as_ref()), channel),
            signer,
            ledger: CrashingLedger::default(),
            calls: BTreeMap::new(),
            orders: Vec::new(),
        }
    }

    pub(super) fn channel(&self) -> ChannelId {
        ChannelId::of_provider(self.signer.address(), hermes_id())
    }
}

fn config(index: usize, signer: &dyn Signer) -> CollectorConfig {
    CollectorConfig {
        provider: signer.address(),
        hermes: hermes_id(),
        chain_id: CHAIN_ID,
        vault: vault_address(),
        secret: preimage_secret(index),
        fee_cap_basis_points: 200,
        own_cap: Amount::ZERO,
        credit_cap: Amount::MAX,
        patience: Patience::default(),
    }
}

fn policy(signer: &dyn Signer) -> SettlePolicy {
    SettlePolicy {
        enabled: true,
        threshold: Amount::from_units(10_000_000),
        max_age: Duration::from_secs(30),
        beneficiary: signer.address(),
    }
}

impl World {
    pub(super) fn payment_arrives(
        &mut self,
        index: usize,
        exchange: Exchange,
    ) -> Result<(), Broken> {
        let now = self.clock.now();
        self.providers[index]
            .collector
            .handle_exchange(exchange, now);
        self.drain_provider(index)
    }

    pub(super) fn tell_arrives(
        &mut self,
        index: usize,
        call: u64,
        tell: Tell,
    ) -> Result<(), Broken> {
        let now = self.clock.now();
        let provider = &mut self.providers[index];
        // Answers are paired with their calls; a promise is handed over even when the call is long forgotten.
        match (tell, provider.calls.remove(&call)) {
            (Tell::Issued(reply), _) => provider.collector.handle_issued(reply, now),
            (Tell::Refused(why), Some(Call::Issue { hashlock, .. })) => {
                provider
                    .collector
                    .handle_issue_failed(hashlock, why.into(), now);
            }
            (Tell::Revealed, Some(Call::Reveal { hashlock })) => {
                provider.collector.handle_revealed(hashlock, now)
            }
            (Tell::Refused(_) | Tell::Revealed, _) => {}
        }
        self.drain_provider(index)
    }

    pub(super) fn drain_provider(&mut self, index: usize) -> Result<(), Broken> {
        while let Some(output) = self.providers[index].collector.poll_output() {
            self.collector_says(index, output)?;
        }
        while let Some(output) = self.providers[index].settler.poll_output() {
            self.settler_says(index, output)?;
        }
        Ok(())
    }

    fn collector_says(&mut self, index: usize, output: CollectorOutput) -> Result<(), Broken> {
        let now = self.clock.now();
        match output {
            CollectorOutput::Persist { ticket, batch } => {
                let delay = self.write_delay();
                self.providers[index]
                    .ledger
                    .commit(Owner::Payments, ticket, batch, now, delay);
            }
            CollectorOutput::Invoice(invoice) => {
                let Some(session) = self.session_of(invoice.agreement) else {
                    return Err(Broken::new("an invoice for no session"));
                };
                let consumer = session.consumer;
                let invoice = self.perhaps_inflated(index, invoice);
                self.send(Message::Invoice { consumer, invoice });
            }
            CollectorOutput::Issue(request) => {
                let hashlock = request.exchange.promise.promise.hashlock;
                self.call(
                    index,
                    Call::Issue { hashlock, at: now },
                    Ask::Issue(request),
                );
            }
            CollectorOutput::Reveal {
                channel,
                hashlock,
                preimage,
            } => {
                let rows = self.providers[index].ledger.rows(Collector::TABLES);
                self.witness
                    .provider_reveals(channel, hashlock, preimage, &rows)?;
                self.call(
                    index,
                    Call::Reveal { hashlock },
                    Ask::Reveal { channel, preimage },
                );
            }
            CollectorOutput::Settleable(material) => {
                self.providers[index].settler.handle_material(material, now);
            }
            // A very late answer accuses nobody.
            CollectorOutput::WrongReply(ReplyFault::Unasked) => {}
            CollectorOutput::WrongReply(_) => self.witness.wrong_replies += 1,
            CollectorOutput::Refused { .. } => self.witness.payments_refused += 1,
            CollectorOutput::HermesRefused { agreement, why } => {
                let honest = self.session_of(agreement).is_some_and(|s| {
                    self.consumers[s.consumer].kind != super::ConsumerKind::OverPromises
                });
                if honest {
                    return Err(Broken::new(format!(
                        "the Hermes refuses an honest consumer for good: {why}"
                    )));
                }
            }
            CollectorOutput::Paid { .. } => self.witness.paid += 1,
            CollectorOutput::Ended {
                agreement, covered, ..
            } => {
                self.witness.ended.insert(agreement, covered);
            }
        }
        Ok(())
    }

    fn settler_says(&mut self, index: usize, output: SettlerOutput) -> Result<(), Broken> {
        let now = self.clock.now();
        match output {
            SettlerOutput::Persist { ticket, batch } => {
                let delay = self.write_delay();
                self.providers[index]
                    .ledger
                    .commit(Owner::Settler, ticket, batch, now, delay);
            }
            SettlerOutput::Submit(order) => self.providers[index].orders.push(order),
            SettlerOutput::ReadChain => {
                let settled = self
                    .vault
                    .provider(self.providers[index].signer.address(), hermes_id())
                    .settled;
                self.providers[index].settler.handle_chain(settled, now);
            }
            SettlerOutput::Done { total, .. } => {
                let chain = self
                    .vault
                    .provider(self.providers[index].signer.address(), hermes_id())
                    .settled;
                if total > chain {
                    return Err(Broken::new(format!(
                        "{total} is reported as settled, the chain says {chain}"
                    )));
                }
                self.witness.settlements += 1;
            }
            SettlerOutput::Delayed { .. } => {}
        }
        Ok(())
    }

    fn perhaps_inflated(&mut self, index: usize, invoice: Invoice) -> Invoice {
        if self.providers[index].kind == ProviderKind::Honest
            || self.calm
            || self.chance.happens(500)
        {
            return invoice;
        }
        let more = Amount::from_units(self.chance.below(3_000_000).into());
        let total = invoice.total.saturating_add(more);
        let AgreementId(id) = invoice.agreement;
        let hashlock = Preimage::derive(&preimage_secret(index), id, total).hashlock();
        Invoice {
            total,
            hashlock,
            ..invoice
        }
    }

    fn call(&mut self, index: usize, call: Call, ask: Ask) {
        self.calls += 1;
        self.providers[index].calls.insert(self.calls, call);
        self.send(Message::Ask {
            provider: index,
            call: self.calls,
            ask,
        });
    }

    pub(super) fn commit_provider(&mut self, index: usize) -> Result<(), Broken> {
        let now = self.clock.now();
        while let Some((owner, ticket)) = self.providers[index].ledger.durable(now)? {
            match owner {
                Owner::Payments => self.providers[index].collector.handle_durable(ticket, now),
                Owner::Settler => self.providers[index].settler.handle_durable(ticket, now),
            }
            self.drain_provider(index)?;
        }
        Ok(())
    }

    pub(super) fn provider_timers(&mut self, index: usize) -> Result<(), Broken> {
        let now = self.clock.now();
        let provider = &mut self.providers[index];
        let mut late = Vec::new();
        provider.calls.retain(|_, call| match call {
            Call::Issue { hashlock, at } if now >= *at + CALL_DEADLINE => {
                late.push(*hashlock);
                false
            }
            Call::Issue { .. } | Call::Reveal { .. } => true,
        });
        for hashlock in late {
            provider
                .collector
                .handle_issue_failed(hashlock, IssueFailure::Unreachable, now);
        }
        for round in 0.. {
            let provider = &mut self.providers[index];
            let collector = provider
                .collector
                .poll_timeout()
                .filter(|deadline| deadline.at <= now);
            let settler = provider
                .settler
                .poll_timeout()
                .filter(|deadline| deadline.at <= now);
            if collector.is_none() && settler.is_none() {
                break;
            }
            if round >= MAX_TIMEOUTS {
                return Err(Broken::new(format!(
                    "a deadline is always due: {collector:?} {settler:?}"
                )));
            }
            if collector.is_some() {
                provider.collector.handle_timeout(now);
            }
            if settler.is_some() {
                provider.settler.handle_timeout(now);
            }
            self.drain_provider(index)?;
        }
        Ok(())
    }

    /// What was submitted is mined, or lost, or mined without anybody hearing of it.
    pub(super) fn mine_settlement(&mut self, index: usize) -> Result<(), Broken> {
        let now = self.clock.now();
        for order in std::mem::take(&mut self.providers[index].orders) {
            let unheard = ChainError::Unreachable("lost".to_owned());
            let fate = if self.calm { 0 } else { self.chance.below(4) };
            let outcome = match fate {
                0 | 1 => self.settle_on_chain(index, &order),
                2 => {
                    let _ = self.settle_on_chain(index, &order);
                    Err(unheard)
                }
                _ => Err(unheard),
            };
            self.providers[index].settler.handle_outcome(outcome, now);
        }
        self.drain_provider(index)
    }

    fn settle_on_chain(
        &mut self,
        index: usize,
        order: &SettleOrder,
    ) -> Result<wayfare_payment::Settled, ChainError> {
        self.vault
            .settle(self.providers[index].signer.address(), order)
    }

    pub(super) fn crash_provider(&mut self, index: usize) -> Result<(), Broken> {
        let now = self.clock.now();
        let provider = &mut self.providers[index];
        provider.ledger.crash(&mut self.chance)?;
        let config = config(provider.index, provider.signer.as_ref());
        provider.collector =
            Collector::restore(config, provider.ledger.rows(Collector::TABLES), now)?;
        let rows = provider.ledger.rows(Settler::TABLES);
        provider.settler = Settler::restore(
            policy(provider.signer.as_ref()),
            provider.channel(),
            rows,
            now,
        )?;
        provider.calls.clear();
        provider.orders.clear();
        self.witness
            .collector_restored(provider.channel(), provider.collector.promised())?;
        for session in self
            .sessions
            .iter()
            .filter(|session| session.provider == index)
        {
            let id = session.terms.agreement.id;
            if session.live {
                provider
                    .collector
                    .open(session.terms, now)
                    .map_err(|e| Broken::new(e.to_string()))?;
                provider.collector.handle_usage(id, &session.served, now);
            } else {
                provider.collector.close(id, &session.served, now);
            }
        }
        self.witness.crashes += 1;
        self.read_chain();
        self.drain_provider(index)
    }

    /// Everything is settled, whatever the policy says.
    pub(super) fn settle_all(&mut self) -> Result<(), Broken> {
        let now = self.clock.now();
        for index in 0..self.providers.len() {
            self.providers[index].settler.settle_now(now);
            self.drain_provider(index)?;
        }
        Ok(())
    }
}
