//! How sessions end: closed by the consumer, by a provider that shuts down, by silence or by debt; each with a last invoice.
//! It refuses to forget an agreement that was used.

use std::time::Instant;

use wayfare_payment::{AgreementId, Amount};

use super::{Exit, ExitOutput};
use crate::provider::{CLOSING, Closing, IDLE};
use crate::{GateState, ProviderFrame, Refusal, RefusalCode};

impl Exit {
    pub(super) fn start_closing(&mut self, slot: u32, code: Option<RefusalCode>, now: Instant) {
        let Some(session) = self.roster.session_mut(slot) else {
            return;
        };
        if session.closing.is_some() {
            return;
        }
        session.closing = Some(Closing {
            until: now + CLOSING,
            code,
        });
        session.set_gate(GateState::Closed("the session is closing".into()), now);
        session.meter.stop(now);
        let usage = session.meter.usage(now);
        self.collector.close(session.agreement.id, &usage, now);
        self.roster.hasten(slot);
    }

    /// The last payment is covered, or will not come.
    pub(super) fn handle_ended(&mut self, agreement: AgreementId, unpaid: Amount, now: Instant) {
        let Some(slot) = self.by_agreement.get(&agreement).copied() else {
            return;
        };
        let session = self.roster.session(slot);
        // Its consumer was not told yet.
        if session.is_some_and(|session| session.verdict.is_some()) {
            return;
        }
        let closing = session.and_then(|session| session.closing);
        let code = closing
            .and_then(|closing| closing.code)
            .unwrap_or(RefusalCode::Draining);
        let reason = if unpaid.is_zero() {
            Refusal::new(code, "closed after the last payment")
        } else {
            Refusal::new(RefusalCode::Unpaid, format!("closed with {unpaid} unpaid"))
        };
        self.end(slot, reason, now);
    }

    pub(super) fn give_up(&mut self, slot: u32, now: Instant) {
        let Some(session) = self.roster.session(slot) else {
            return;
        };
        let reason = if let Some(verdict) = &session.verdict {
            Refusal::clone(verdict)
        } else if let Some(closing) = session.closing {
            Refusal::new(
                closing.code.unwrap_or(RefusalCode::Unpaid),
                "closed before the last payment came",
            )
        } else if now >= session.heard_at + IDLE {
            Refusal::new(RefusalCode::Unknown, "nothing was heard for 60 s")
        } else {
            Refusal::new(
                RefusalCode::Unpaid,
                format!("nothing was paid for 120 s: {:?}", session.gate),
            )
        };
        self.end(slot, reason, now);
    }

    pub(super) fn end(&mut self, slot: u32, reason: Refusal, now: Instant) {
        let Some(seat) = self.roster.remove(slot) else {
            return;
        };
        let session = seat.session;
        self.endpoint.remove_peer(seat.peer);
        self.pool.release(&session.lease);
        self.by_agreement.remove(&session.agreement.id);
        self.by_token.remove(&session.token);
        self.spent.insert(session.agreement.id);
        if session.closing.is_none() {
            self.collector
                .close(session.agreement.id, &session.meter.usage(now), now);
        }
        let token = session.token;
        self.push(ExitOutput::Frame {
            token,
            frame: ProviderFrame::Closed(reason.clone()),
        });
        self.push(ExitOutput::Ended {
            token,
            status: Box::new(session.status(now)),
            reason,
        });
    }
}
