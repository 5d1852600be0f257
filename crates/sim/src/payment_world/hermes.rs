//! The Hermes of the payment world: a real issuer on its ledger, perhaps with a dishonest owner.

use std::collections::BTreeMap;
use std::sync::Arc;

use wayfare_identity::Signer;
use wayfare_payment::{Amount, Depth, Issuer, IssuerConfig, IssuerOutput, RequestId, SettleOrder};

use super::invariants::Broken;
use super::{
    Ask, CHAIN_ID, HermesKind, Message, Tell, World, hermes_id, key, mutate_reply, vault_address,
};
use crate::{CrashingLedger, Owner, SimVault};

#[derive(Debug)]
pub(super) struct Hermes {
    pub(super) kind: HermesKind,
    pub(super) operator: Arc<dyn Signer>,
    pub(super) issuer: Issuer,
    pub(super) ledger: CrashingLedger,
    /// Who asked: provider and call.
    asked: BTreeMap<RequestId, (usize, u64)>,
}

impl Hermes {
    pub(super) fn new(kind: HermesKind) -> Self {
        let operator = key("operator", 0);
        let issuer = Issuer::new(Self::config(), Arc::clone(&operator));
        Self {
            kind,
            operator,
            issuer,
            ledger: CrashingLedger::default(),
            asked: BTreeMap::new(),
        }
    }

    pub(super) fn config() -> IssuerConfig {
        let locked_cap = Amount::from_units(40_000_000);
        IssuerConfig {
            hermes: hermes_id(),
            chain_id: CHAIN_ID,
            vault: vault_address(),
            locked_cap,
        }
    }
}

impl World {
    pub(super) fn ask_arrives(
        &mut self,
        provider: usize,
        call: u64,
        ask: &Ask,
    ) -> Result<(), Broken> {
        let request = match ask {
            Ask::Issue(request) => {
                let channel = SimVault::consumer_channel(request.consumer, hermes_id());
                let account = self.vault.consumer(request.consumer, hermes_id());
                self.hermes
                    .issuer
                    .handle_request(request, channel, &account)
            }
            Ask::Reveal { channel, preimage } => {
                self.hermes.issuer.handle_reveal(*channel, *preimage)
            }
        };
        self.hermes.asked.insert(request, (provider, call));
        self.drain_hermes()
    }

    fn drain_hermes(&mut self) -> Result<(), Broken> {
        while let Some(output) = self.hermes.issuer.poll_output() {
            let (request, tell) = match output {
                IssuerOutput::Persist { ticket, batch } => {
                    let (now, delay) = (self.clock.now(), self.write_delay());
                    self.hermes
                        .ledger
                        .commit(Owner::Payments, ticket, batch, now, delay);
                    continue;
                }
                IssuerOutput::Answer { request, reply } => {
                    self.witness.hermes_answers(&reply)?;
                    let lies = self.hermes.kind == HermesKind::Lies && self.chance.happens(500);
                    let reply = if lies {
                        mutate_reply(
                            reply,
                            self.hermes.operator.as_ref(),
                            &Hermes::config().domain(),
                            &mut self.chance,
                        )
                    } else {
                        reply
                    };
                    (request, Tell::Issued(reply))
                }
                IssuerOutput::Acknowledged { request } => (request, Tell::Revealed),
                IssuerOutput::Refused { request, why } => {
                    self.witness
                        .refusals
                        .entry(why)
                        .and_modify(|n| *n += 1)
                        .or_insert(1);
                    (request, Tell::Refused(why))
                }
            };
            if let Some((provider, call)) = self.hermes.asked.remove(&request) {
                self.send(Message::Tell {
                    provider,
                    call,
                    tell,
                });
            }
        }
        Ok(())
    }

    pub(super) fn commit_hermes(&mut self) -> Result<(), Broken> {
        let now = self.clock.now();
        while let Some((_, ticket)) = self.hermes.ledger.durable(now)? {
            self.audit(Depth::Sums)?;
            self.hermes.issuer.handle_durable(ticket);
            self.drain_hermes()?;
        }
        Ok(())
    }

    /// Invariant 2, on what the disk holds now.
    pub(super) fn audit(&self, depth: Depth) -> Result<Amount, Broken> {
        let rows = self.hermes.ledger.rows(Issuer::CHECKED_TABLES);
        let report = Issuer::check(
            &Hermes::config(),
            self.hermes.operator.address(),
            rows,
            depth,
        )?;
        match report.findings.first() {
            Some(finding) => Err(Broken::new(format!(
                "the Hermes' ledger does not balance: {finding}"
            ))),
            None => Ok(report.promised),
        }
    }

    pub(super) fn crash_hermes(&mut self) -> Result<(), Broken> {
        // Sometimes a write fails first: the machine has to stop on its own.
        if let Some((_, ticket)) = self.hermes.ledger.first_waiting()
            && self.chance.happens(300)
        {
            self.hermes.issuer.handle_failed(ticket);
            self.drain_hermes()?;
        }
        self.hermes.ledger.crash(&mut self.chance)?;
        let rows = self.hermes.ledger.rows(Issuer::TABLES);
        self.hermes.issuer =
            Issuer::restore(Hermes::config(), Arc::clone(&self.hermes.operator), rows)?;
        self.hermes.asked.clear();
        self.witness.crashes += 1;
        self.audit(Depth::Sums).map(drop)
    }

    /// The Hermes collects, at once from those who leave, now and then from the rest.
    pub(super) fn collect(&mut self) -> Result<(), Broken> {
        let held: Vec<_> = self.hermes.issuer.collectables().collect();
        for item in held {
            let account = self.vault.consumer(item.consumer, hermes_id());
            let due = item.promise.promise.amount > account.collected && !account.balance.is_zero();
            if !due || !(account.exit_at.is_some() || self.calm || self.chance.happens(200)) {
                continue;
            }
            let order = SettleOrder {
                hermes: hermes_id(),
                beneficiary: hermes_id(),
                promise: item.promise,
                preimage: item.preimage,
            };
            self.vault
                .collect(item.consumer, &order)
                .map_err(|e| Broken::new(format!("collect: {e}")))?;
        }
        Ok(())
    }
}
