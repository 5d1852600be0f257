//! Which requests become agreements. Everything is checked before any state is kept.

use std::time::Instant;

use wayfare_identity::NodeId;
use wayfare_payment::{Agreement, Amount, SignedAgreement};

use super::super::{Odometer, TollReply, TollRequest};
use super::{REPORT_EVERY, Toll, TollKeeper};
use crate::offered::{Offered, Room, code_of};
use crate::{AdmissionFacts, GateState, Hello, Refusal, RefusalCode, SessionToken, negotiate};

impl TollKeeper {
    /// Makes an agreement with the consumer whose node is `node`, or says why not. It counts what passes for that node from now on,
    /// in the place of an earlier one, which is closed. `passed`: as in [`TollKeeper::handle_passed`].
    ///
    /// # Errors
    /// A [`Refusal`] with cause and next step; nothing is kept then.
    pub fn admit(
        &mut self,
        node: NodeId,
        passed: [u64; 2],
        request: &TollRequest,
        facts: &AdmissionFacts,
        now: Instant,
    ) -> Result<TollReply, Refusal> {
        let welcome = negotiate(&Hello::ours(), &request.hello)
            .map_err(|error| Refusal::new(RefusalCode::Incompatible, error.to_string()))?;
        self.check_room(&request.agreement)?;
        self.check_terms(&request.agreement, facts)?;
        request.verify()?;
        let agreement = request.agreement;
        let provider_signature = self
            .signer
            .sign_digest(agreement.digest())
            .map_err(|error| Refusal::new(RefusalCode::Internal, error.to_string()))?;
        let token = SessionToken(facts.token);
        if self.tolls.contains_key(&token) {
            return Err(Refusal::new(RefusalCode::Internal, "chance repeats itself"));
        }
        let signed = SignedAgreement {
            agreement,
            consumer_signature: request.consumer_signature,
            provider_signature,
        };
        self.by_agreement.insert(agreement.id, token);
        if let Err(error) = self.collector.open(signed, now) {
            self.by_agreement.remove(&agreement.id);
            return Err(Refusal::new(code_of(&error), error.to_string()));
        }
        if let Some(before) = self.by_node.get(&node).copied() {
            self.handle_passed(node, passed, now);
            self.start_closing(before, Some(RefusalCode::Replayed), now);
        }
        let toll = Toll {
            agreement,
            node,
            odometer: Odometer::starting_at(passed),
            gate: GateState::Closed("the first chunk is not paid yet".into()),
            gate_closed_at: Some(now),
            heard_at: now,
            report_at: now + REPORT_EVERY,
            paid: Amount::ZERO,
            claimed: wayfare_payment::Usage::default(),
            closing: None,
            until: None,
        };
        self.tolls.insert(token, toll);
        self.by_node.insert(node, token);
        self.drain_collector(now);
        self.update(token, now);
        Ok(TollReply {
            welcome,
            provider_signature,
            token,
        })
    }

    fn check_room(&self, agreement: &Agreement) -> Result<(), Refusal> {
        let unpaid = self
            .tolls
            .values()
            .filter(|toll| toll.agreement.consumer == agreement.consumer && toll.paid.is_zero());
        Room {
            draining: self.draining,
            taken: self.tolls.len(),
            most: self.config.tolls,
            unpaid: unpaid.count(),
            words: ["relay", "agreements"],
        }
        .check()
    }

    fn check_terms(&self, agreement: &Agreement, facts: &AdmissionFacts) -> Result<(), Refusal> {
        let config = &self.config;
        let offered = Offered {
            provider: self.signer.address(),
            hermes: config.hermes,
            chain_id: config.chain_id,
            vault: config.vault,
            price: self.tariff().price(),
            chunk: config.chunk,
        };
        offered.check(agreement, facts.channel)?;
        let is_known = |known: &SignedAgreement| known.agreement.id == agreement.id;
        let used = self.spent.contains(agreement.id) || self.collector.agreements().any(is_known);
        facts.check(agreement, used)
    }
}
