//! The Hermes: a real issuer on a ledger, which may be out of reach or lose power. It refuses to lie: lies are the payment world's.

use std::collections::BTreeMap;
use std::sync::Arc;

use wayfare_identity::Signer;
use wayfare_payment::{
    Amount, ChannelId, IssueRefusal, IssueReply, IssueRequest, Issuer, IssuerConfig, IssuerOutput,
    Preimage, RequestId,
};

use super::{CHAIN_ID, Violation, World, hermes_id, signer, vault_address};
use crate::{CrashingLedger, Owner, SimVault};

#[derive(Debug, Clone)]
pub(super) enum Ask {
    Issue(Box<IssueRequest>),
    Reveal {
        channel: ChannelId,
        preimage: Preimage,
    },
}

#[derive(Debug, Clone)]
pub(super) enum Answer {
    Issued(Box<IssueReply>),
    Refused(IssueRefusal),
    Revealed,
}

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) call: u64,
    pub(super) ask: Ask,
}

#[derive(Debug, Clone)]
pub(super) struct Reply {
    call: u64,
    answer: Answer,
}

#[derive(Debug)]
pub(super) struct Hermes {
    pub(super) operator: Arc<dyn Signer>,
    pub(super) issuer: Issuer,
    pub(super) ledger: CrashingLedger,
    asked: BTreeMap<RequestId, u64>,
    dead: bool,
}

impl Hermes {
    pub(super) fn new() -> Self {
        let operator = signer("operator", 0);
        Self {
            issuer: Issuer::new(Self::config(), Arc::clone(&operator)),
            operator,
            ledger: CrashingLedger::default(),
            asked: BTreeMap::new(),
            dead: false,
        }
    }

    pub(super) fn config() -> IssuerConfig {
        IssuerConfig {
            hermes: hermes_id(),
            chain_id: CHAIN_ID,
            vault: vault_address(),
            locked_cap: Amount::from_units(1 << 40),
        }
    }
}

impl World {
    /// The Hermes loses power and comes back from its ledger, or stays away until [`World::revive_hermes`].
    ///
    /// # Errors
    /// [`Violation`] when its ledger cannot be read.
    pub fn kill_hermes(&mut self) -> Result<(), Violation> {
        let hermes = &mut self.hermes;
        hermes.ledger.crash(&mut self.chance)?;
        let rows = hermes.ledger.rows(Issuer::TABLES);
        hermes.issuer = Issuer::restore(Hermes::config(), Arc::clone(&hermes.operator), rows)?;
        hermes.asked.clear();
        hermes.dead = true;
        Ok(())
    }

    /// The Hermes answers again.
    pub fn revive_hermes(&mut self) {
        self.hermes.dead = false;
    }

    pub(super) fn serve_hermes(&mut self) -> Result<bool, Violation> {
        let now = self.now();
        let mut busy = false;
        if let Some(request) = self.to_hermes.arrived(now) {
            busy = true;
            if !self.hermes.dead {
                self.asked(&request);
            }
        }
        if let Some((_, ticket)) = self.hermes.ledger.durable(now)? {
            busy = true;
            self.hermes.issuer.handle_durable(ticket);
        }
        self.drain_hermes();
        if let Some(reply) = self.from_hermes.arrived(now) {
            busy = true;
            self.hermes_answers(reply.call, reply.answer)?;
        }
        Ok(busy)
    }

    fn asked(&mut self, request: &Request) {
        let issuer = &mut self.hermes.issuer;
        let id = match &request.ask {
            Ask::Issue(asked) => {
                let channel = SimVault::consumer_channel(asked.consumer, hermes_id());
                let account = self.vault.consumer(asked.consumer, hermes_id());
                issuer.handle_request(asked, channel, &account)
            }
            Ask::Reveal { channel, preimage } => issuer.handle_reveal(*channel, *preimage),
        };
        self.hermes.asked.insert(id, request.call);
    }

    fn drain_hermes(&mut self) {
        let now = self.now();
        while let Some(output) = self.hermes.issuer.poll_output() {
            let (request, answer) = match output {
                IssuerOutput::Persist { ticket, batch } => {
                    let delay = self.write_delay();
                    self.hermes
                        .ledger
                        .commit(Owner::Payments, ticket, batch, now, delay);
                    continue;
                }
                IssuerOutput::Answer { request, reply } => {
                    (request, Answer::Issued(Box::new(reply)))
                }
                IssuerOutput::Acknowledged { request } => (request, Answer::Revealed),
                IssuerOutput::Refused { request, why } => (request, Answer::Refused(why)),
            };
            if let Some(call) = self.hermes.asked.remove(&request) {
                let reply = Reply { call, answer };
                self.from_hermes.send(reply, now, &mut self.chance);
            }
        }
    }
}
