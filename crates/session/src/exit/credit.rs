//! What passes and what is counted: the credit gate before each packet, the meter behind it, and the news of both for the payments.
//! It refuses to decide what credit is: that is the collector's, and signed in the agreement.

use std::time::Instant;

use wayfare_payment::Gate;
use wayfare_tunnel::PeerId;

use super::{Exit, ExitOutput};
use crate::provider::ProviderSession;
use crate::{GateState, ProviderFrame};

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

impl Exit {
    /// The credit gate, asked before each packet: one that finds too much unpaid is held, so the bound is one chunk plus the packet
    /// that went before. Asked after a packet it would miss the time that passes until the next.
    pub(super) fn may_pass(&mut self, peer: PeerId, now: Instant) -> bool {
        let Some(session) = self.sessions.get_mut(&peer) else {
            return false;
        };
        if session.is_open() {
            let usage = session.meter.usage(now);
            let Gate::Closed(why) = self.collector.gate(session.agreement.id, &usage) else {
                return true;
            };
            let (token, gate) = (session.token, GateState::Closed(why.to_string()));
            session.set_gate(gate.clone(), now);
            // Nothing passes, but what is owed is asked for with the end of this batch.
            session.dirty = true;
            self.dirty.insert(peer);
            let frame = ProviderFrame::Gate(gate);
            self.push(ExitOutput::Frame { token, frame });
        }
        if let Some(session) = self.sessions.get_mut(&peer) {
            session.held += 1;
        }
        false
    }

    /// Counts a packet that passes.
    pub(super) fn count(&mut self, peer: PeerId, bytes: usize, direction: Direction) {
        let Some(session) = self.sessions.get_mut(&peer) else {
            return;
        };
        match direction {
            Direction::Up => session.meter.count_up(bytes),
            Direction::Down => session.meter.count_down(bytes),
        }
        if !session.dirty {
            session.dirty = true;
            self.dirty.insert(peer);
        }
    }

    pub(super) fn update_payments(&mut self, peer: PeerId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&peer) else {
            return;
        };
        session.dirty = false;
        session.tell_at = session.next_telling(now);
        let usage = session.meter.usage(now);
        self.collector
            .handle_usage(session.agreement.id, &usage, now);
    }

    /// Time costs something too, with or without packets: it is asked for before it has used up the credit.
    pub(super) fn tell_time(&mut self, now: Instant) {
        let due = |session: &ProviderSession| session.tell_at.is_some_and(|at| now >= at);
        let peers: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| due(session))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in peers {
            self.update_payments(peer, now);
            self.update_gate(peer, now);
        }
    }

    /// What a closing session still owes is asked for as soon as there is room for it, however little it is.
    pub(super) fn ask_for_the_rest(&mut self, peer: PeerId, now: Instant) {
        let Some(session) = self.sessions.get(&peer) else {
            return;
        };
        if session.closing.is_some() {
            let usage = session.meter.usage(now);
            self.collector
                .invoice_now(session.agreement.id, &usage, now);
        }
    }

    pub(super) fn update_gate(&mut self, peer: PeerId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&peer) else {
            return;
        };
        let usage = session.meter.usage(now);
        let gate = match self.collector.gate(session.agreement.id, &usage) {
            Gate::Open => GateState::Open,
            Gate::Closed(why) => GateState::Closed(why.to_string()),
        };
        let token = session.token;
        if session.set_gate(gate.clone(), now) {
            self.push(ExitOutput::Frame {
                token,
                frame: ProviderFrame::Gate(gate),
            });
        }
    }
}
