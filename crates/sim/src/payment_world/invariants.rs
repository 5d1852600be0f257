//! The witness: hears everything that is said in the payment world and holds it against the invariants of payments.md.
//!
//! Checked here or by the world around it, by the numbers of that list:
//! 1 conservation; 2 both legs of the Hermes' ledger balance, at every commit and after every crash; 3 amounts strictly increase per
//! channel; 4 the same payment brings the same promise; 5 a crash loses and doubles nothing; 6 no preimage before its verified
//! promise is durable; 7 no fee, no foreign channel, nothing over the own meter; 8 exposure within the allowance, accepted payments
//! within the deposit; 9 settlements end at the promised total; 13 stale views lower nothing; 14 the provider's promise covers what
//! was served but for one chunk; 18 A1 to A4 and A7.
//! Not here: 10, 11, 12 and 17 (unit tests and the contracts' suites), 15 (needs gossip between providers), 16 (needs a chain
//! that reorganises).

use std::collections::BTreeMap;

use wayfare_identity::{Address, SignatureError};
use wayfare_payment::{
    AgreementId, Amount, ChannelId, Collector, Depth, Exchange, Gate, Hashlock, IssueRefusal,
    IssueReply, LedgerError, PayRefusal, Preimage, RecordError, Row, SignedPromise, Table, Usage,
};

use super::{ConsumerKind, Session, World, hermes_id};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(String);

impl Broken {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

impl From<RecordError> for Broken {
    fn from(error: RecordError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<LedgerError> for Broken {
    fn from(error: LedgerError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<SignatureError> for Broken {
    fn from(error: SignatureError) -> Self {
        Self::new(error.to_string())
    }
}

/// See the module. The counters say what a run has really exercised.
#[derive(Debug, Default)]
pub struct Witness {
    signed: BTreeMap<(ChannelId, Amount), SignedPromise>,
    latest: BTreeMap<ChannelId, Amount>,
    totals: BTreeMap<ChannelId, Amount>,
    answers: BTreeMap<Hashlock, IssueReply>,
    issued: BTreeMap<(ChannelId, Amount), SignedPromise>,
    pub(super) ended: BTreeMap<AgreementId, Amount>,
    pub(super) crashes: u64,
    pub(super) wrong_replies: u64,
    pub(super) payments_refused: u64,
    pub(super) paid: u64,
    pub(super) settlements: u64,
    pub(super) reveals: u64,
    pub(super) inflated: u64,
    pub(super) packets: u64,
    pub(super) refusals: BTreeMap<IssueRefusal, u64>,
}

fn holds(condition: bool, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if condition {
        Ok(())
    } else {
        Err(Broken::new(what()))
    }
}

impl Witness {
    /// 3, 7, A2: what a consumer's machine sends.
    pub(super) fn consumer_pays(
        &mut self,
        exchange: &Exchange,
        session: &Session,
    ) -> Result<(), Broken> {
        let terms = &session.terms.agreement;
        let promise = &exchange.promise.promise;
        exchange.verify(terms.consumer)?;
        holds(promise.fee.is_zero(), || {
            "a consumer signs a fee".to_owned()
        })?;
        holds(promise.channel == terms.consumer_channel, || {
            "a consumer signs for a foreign channel".to_owned()
        })?;
        let own = terms.price.cost_rounded_down(&session.received);
        // The allowance cannot exceed its limit; what was paid before it is paid for something.
        let paid_before = exchange.agreement_total.min(own);
        let slack = own
            .mul_div_up(1, 100)
            .saturating_add(terms.allowance(paid_before));
        holds(
            exchange.agreement_total <= own.saturating_add(slack),
            || format!("a consumer pays {} for {own}", exchange.agreement_total),
        )?;
        // What a crash kept from being sent may be sent after later ones, so it is the signing that has to grow, not the sending.
        let latest = self.latest.entry(promise.channel).or_default();
        *latest = promise.amount.max(*latest);
        let first = *self
            .signed
            .entry((promise.channel, promise.amount))
            .or_insert(exchange.promise);
        holds(first == exchange.promise, || {
            "two promises for one amount".to_owned()
        })
    }

    /// 3: a payer signs over more each time, until a crash takes back what it never sent.
    pub(super) fn consumer_signs(
        &mut self,
        channel: ChannelId,
        total: Amount,
    ) -> Result<(), Broken> {
        let before = self.totals.insert(channel, total).unwrap_or_default();
        holds(total >= before, || {
            format!("a payer goes from {before} back to {total}")
        })
    }

    /// A2: an honest provider's invoice is never found inflated.
    pub(super) fn invoice_refused(
        &mut self,
        why: &PayRefusal,
        honest_provider: bool,
    ) -> Result<(), Broken> {
        if matches!(why, PayRefusal::Inflated { .. }) {
            self.inflated += 1;
            return holds(!honest_provider, || {
                format!("an honest invoice is refused: {why}")
            });
        }
        Ok(())
    }

    /// 4, A7: what the Hermes' machine answers.
    pub(super) fn hermes_answers(&mut self, reply: &IssueReply) -> Result<(), Broken> {
        let promise = &reply.promise.promise;
        let first = *self.answers.entry(promise.hashlock).or_insert(*reply);
        holds(first == *reply, || {
            "the same payment brings another promise".to_owned()
        })?;
        let first = *self
            .issued
            .entry((promise.channel, promise.amount))
            .or_insert(reply.promise);
        holds(first == reply.promise, || {
            "two promises of the Hermes for one amount".to_owned()
        })
    }

    /// 6, A1: a preimage leaves only when the genuine promise is on disk.
    pub(super) fn provider_reveals(
        &mut self,
        channel: ChannelId,
        hashlock: Hashlock,
        preimage: Preimage,
        rows: &[(Table, Row)],
    ) -> Result<(), Broken> {
        self.reveals += 1;
        let Some(genuine) = self.answers.get(&hashlock) else {
            return Err(Broken::new(
                "a preimage is revealed that no promise was made for",
            ));
        };
        holds(preimage.hashlock() == hashlock, || {
            "a preimage that opens nothing".to_owned()
        })?;
        let signature = genuine.promise.signature.as_bytes().as_slice();
        let durable = rows.iter().any(|(table, (key, value))| {
            *table == Table::CollectorChannel
                && key.as_slice() == channel.0.as_slice()
                && value
                    .windows(signature.len())
                    .any(|window| window == signature)
        });
        holds(durable, || {
            "a preimage is revealed before its promise is durable".to_owned()
        })
    }

    /// 5, 13: after a restart a payer knows at least what it has ever sent.
    pub(super) fn payer_restored(
        &mut self,
        channel: ChannelId,
        total: Amount,
    ) -> Result<(), Broken> {
        self.totals.insert(channel, total);
        let sent = self.latest.get(&channel).copied().unwrap_or_default();
        holds(total >= sent, || {
            format!("a payer restarts at {total}, but has sent {sent}")
        })
    }

    /// 5: after a restart a collector knows every promise whose preimage it has revealed.
    pub(super) fn collector_restored(
        &self,
        channel: ChannelId,
        promised: Amount,
    ) -> Result<(), Broken> {
        let known = promised.is_zero() || self.issued.contains_key(&(channel, promised));
        holds(known, || {
            format!("a collector restarts at {promised}, which was never promised")
        })
    }

    /// An old promise of a consumer, as a stale Hermes would show it.
    pub(super) fn old_promise(&self, channel: ChannelId) -> Option<SignedPromise> {
        self.signed
            .range((channel, Amount::ZERO)..)
            .next()
            .filter(|((c, _), _)| *c == channel)
            .map(|(_, p)| *p)
    }

    /// 8: the packet path's shortcut and the gate are of one mind.
    pub(super) fn gate_agrees(
        &mut self,
        collector: &Collector,
        id: AgreementId,
        usage: &Usage,
        passed: u64,
    ) -> Result<(), Broken> {
        self.packets += passed;
        let open = collector.gate(id, usage) == Gate::Open;
        holds(passed == 0 || open, || {
            "packets passed a closed gate".to_owned()
        })
    }
}

impl World {
    /// Everything that has to hold after every step.
    pub(super) fn check(&self) -> Result<(), Broken> {
        let (sum, minted) = (self.vault.sum(), self.vault.minted());
        holds(sum == minted, || {
            format!("the vault holds {sum} of {minted}")
        })?;
        for session in &self.sessions {
            let collector = &self.providers[session.provider].collector;
            let id = session.terms.agreement.id;
            let Some(covered) = collector.covered(id) else {
                continue;
            };
            let exposure = collector.exposure(id, &session.served).unwrap_or_default();
            // A restart brings back less cover only if it was never durable, and then it was never used.
            let allowance = session.terms.agreement.allowance(covered);
            holds(exposure <= allowance, || {
                format!("{exposure} is exposed, {allowance} is allowed")
            })?;
        }
        for consumer in &self.consumers {
            let address = consumer.signer.address();
            let Some(view) = self.hermes.issuer.consumer(address) else {
                continue;
            };
            if consumer.kind == ConsumerKind::Leaves {
                continue;
            }
            let account = self.vault.consumer(address, hermes_id());
            let deposit = account.balance.saturating_add(account.collected);
            holds(view.accepted <= deposit, || {
                format!("{} is accepted of a deposit of {deposit}", view.accepted)
            })?;
        }
        for provider in &self.providers {
            let collector = provider.collector.promised();
            let address: Address = provider.signer.address();
            let settled = self.vault.provider(address, hermes_id()).settled;
            let issued = self
                .witness
                .issued
                .range((provider.channel(), Amount::ZERO)..);
            let most = issued
                .take_while(|((c, _), _)| *c == provider.channel())
                .last()
                .map(|((_, a), _)| *a);
            let most = most.unwrap_or_default();
            holds(collector <= most && settled <= collector.max(most), || {
                format!(
                    "a provider counts {collector} and has settled {settled} of {most} promised"
                )
            })?;
        }
        Ok(())
    }

    /// What has to hold when everything that was owed could be paid: 2, 5, 9, 14.
    pub(super) fn check_at_rest(&self) -> Result<(), Broken> {
        let promised = self.audit(Depth::Signatures)?;
        let mut sum = Amount::ZERO;
        for (index, provider) in self.providers.iter().enumerate() {
            let own = provider.collector.promised();
            sum = sum.saturating_add(own);
            let settled = self
                .vault
                .provider(provider.signer.address(), hermes_id())
                .settled;
            holds(settled == own, || {
                format!("provider {index} has settled {settled} of {own}")
            })?;
            let open = provider.collector.agreements().count();
            holds(open == 0, || {
                format!("provider {index} still has {open} agreements")
            })?;
        }
        holds(sum == promised, || {
            format!("providers know of {sum}, the Hermes promised {promised}")
        })?;
        for session in &self.sessions {
            self.check_session_at_rest(session)?;
        }
        self.check_hermes_at_rest()
    }

    fn check_session_at_rest(&self, session: &Session) -> Result<(), Broken> {
        let terms = &session.terms.agreement;
        // Without a first payment there is no record, and a restart forgets the session: then nothing may have been served.
        let covered = self
            .witness
            .ended
            .get(&terms.id)
            .copied()
            .unwrap_or_default();
        let cost = terms.price.cost_rounded_down(&session.served);
        let unpaid = cost.saturating_sub(covered);
        // An honest consumer with a deposit owes nothing; whatever anybody does, it is no more than the allowance.
        let allowance = terms.allowance(covered);
        holds(unpaid <= allowance, || {
            format!("{unpaid} stays unpaid, {allowance} was allowed")
        })?;
        let honest = self.consumers[session.consumer].kind == ConsumerKind::Honest;
        let rich = self.consumers[session.consumer].payer.total()
            < self.consumers[session.consumer].payer.deposit();
        let room = self.consumers[session.consumer]
            .payer
            .deposit()
            .saturating_sub(self.consumers[session.consumer].payer.total());
        holds(
            !honest || !rich || unpaid.is_zero() || unpaid > room,
            || format!("an honest consumer leaves {unpaid} unpaid"),
        )
    }

    /// Every preimage is known and everything collected: the Hermes has lost nothing but what leavers took (bounded by the cap).
    fn check_hermes_at_rest(&self) -> Result<(), Broken> {
        let Ok(hermes) = self.vault.hermes(hermes_id()) else {
            return Err(Broken::new("the Hermes is gone"));
        };
        let collateral = Amount::from_units(self.setting.collateral);
        let leavers = self
            .setting
            .consumers
            .iter()
            .filter(|kind| **kind == ConsumerKind::Leaves)
            .count();
        let cap = super::hermes::Hermes::config()
            .locked_cap
            .mul_div_down(leavers as u128, 1);
        let has = hermes.free.saturating_add(hermes.collateral);
        holds(has.saturating_add(cap) >= collateral, || {
            format!("the Hermes began with {collateral} and has {has}")
        })
    }
}
