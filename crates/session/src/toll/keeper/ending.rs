//! How agreements end: closed by the consumer, by a relay that shuts down, by another agreement of the same node, by silence or by
//! debt; each with a last invoice. It refuses to forget an agreement that was used.

use std::time::Instant;

use wayfare_payment::{AgreementId, Amount};

use super::{TollKeeper, TollKeeperOutput};
use crate::provider::{CLOSING, IDLE};
use crate::{GateState, ProviderFrame, Refusal, RefusalCode, SessionToken};

impl TollKeeper {
    /// Asks everybody for the last payment; new agreements are refused from now on.
    pub fn drain(&mut self, now: Instant) {
        self.draining = true;
        let seconds = u32::try_from(CLOSING.as_secs()).unwrap_or(u32::MAX);
        let tokens: Vec<_> = self.tolls.keys().copied().collect();
        for token in tokens {
            let frame = ProviderFrame::Draining { seconds };
            self.push(TollKeeperOutput::Frame { token, frame });
            self.start_closing(token, Some(RefusalCode::Draining), now);
        }
        self.drain_collector(now);
    }

    pub(super) fn start_closing(
        &mut self,
        token: SessionToken,
        code: Option<RefusalCode>,
        now: Instant,
    ) {
        let Some(toll) = self.tolls.get_mut(&token) else {
            return;
        };
        if toll.closing.is_some() {
            return;
        }
        toll.closing = Some((now + CLOSING, code));
        toll.set_gate(GateState::Closed("the agreement is closing".into()), now);
        let (node, id, usage) = (toll.node, toll.agreement.id, toll.odometer.usage());
        self.release(node, token);
        self.collector.close(id, &usage, now);
    }

    /// What passes for a node is counted by no agreement any more, and so is nothing but free.
    fn release(&mut self, node: wayfare_identity::NodeId, token: SessionToken) {
        if self.by_node.get(&node) == Some(&token) {
            self.by_node.remove(&node);
            self.push(TollKeeperOutput::Allow { node, until: 0 });
        }
    }

    /// What an agreement that closes still owes is asked for as soon as there is room for it, however little it is.
    pub(super) fn ask_for_the_rest(&mut self, token: SessionToken, now: Instant) {
        if let Some(toll) = self.tolls.get(&token)
            && toll.closing.is_some()
        {
            let usage = toll.odometer.usage();
            self.collector.invoice_now(toll.agreement.id, &usage, now);
        }
    }

    /// The last payment is covered, or will not come.
    pub(super) fn handle_ended(&mut self, agreement: AgreementId, unpaid: Amount, now: Instant) {
        let Some(token) = self.by_agreement.get(&agreement).copied() else {
            return;
        };
        let closing = self.tolls.get(&token).and_then(|toll| toll.closing);
        let code = closing.and_then(|(_, code)| code);
        let reason = if unpaid.is_zero() {
            let code = code.unwrap_or(RefusalCode::Draining);
            Refusal::new(code, "closed after the last payment")
        } else {
            Refusal::new(RefusalCode::Unpaid, format!("closed with {unpaid} unpaid"))
        };
        self.end(token, reason, now);
    }

    pub(super) fn give_up(&mut self, token: SessionToken, now: Instant) {
        let Some(toll) = self.tolls.get(&token) else {
            return;
        };
        let reason = if let Some((_, code)) = toll.closing {
            let code = code.unwrap_or(RefusalCode::Unpaid);
            Refusal::new(code, "closed before the last payment came")
        } else if now >= toll.heard_at + IDLE {
            Refusal::new(RefusalCode::Unknown, "nothing was heard for 60 s")
        } else {
            let message = format!("nothing was paid for 120 s: {:?}", toll.gate);
            Refusal::new(RefusalCode::Unpaid, message)
        };
        self.end(token, reason, now);
    }

    fn end(&mut self, token: SessionToken, reason: Refusal, now: Instant) {
        let Some(toll) = self.tolls.remove(&token) else {
            return;
        };
        let (node, id) = (toll.node, toll.agreement.id);
        self.release(node, token);
        self.by_agreement.remove(&id);
        self.spent.insert(id);
        if toll.closing.is_none() {
            self.collector.close(id, &toll.odometer.usage(), now);
        }
        let status = Box::new(toll.status());
        let frame = ProviderFrame::Closed(reason.clone());
        self.push(TollKeeperOutput::Frame { token, frame });
        self.push(TollKeeperOutput::Ended {
            token,
            node,
            status,
            reason,
        });
    }
}
