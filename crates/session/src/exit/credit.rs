//! What passes and what is counted: the credit gate before each packet, the meter behind it, and the news of both for the payments.
//! It refuses to decide what credit is: that is the collector's, and signed in the agreement.

use std::time::Instant;

use wayfare_payment::Gate;

use super::pass::Pass;
use super::{Exit, ExitOutput};
use crate::provider::ProviderSession;
use crate::{GateState, ProviderFrame};

/// Whether a pass is compared with the collector's gate after so many bytes, in builds with such checks: one packet of 64, whatever
/// their lengths, since the gate's price of each packet is what the pass spares.
fn is_sampled(bytes: u64) -> bool {
    // Fibonacci hashing: the upper bits of a product with 2^64 over the golden ratio.
    bytes.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58 == 0
}

/// A payment that is to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwaitedPayment {
    /// Since when packets are held back for it.
    pub since: Instant,
    /// Nothing was paid before: so far there is only a signed agreement.
    pub is_first: bool,
}

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

impl Exit {
    /// The credit gate, asked before each packet: one that finds too much unpaid is held, so the bound is one chunk plus the packet
    /// that went before. Asked after a packet it would miss the time that passes until the next.
    ///
    /// INVARIANT: a pass covers only what the collector's gate would let through. It was made with the credit of then, and credit
    /// only grows, save for what takes the pass away (the Hermes refuses this consumer) or makes all passes void (`tight`).
    pub(super) fn may_pass(&mut self, slot: u32, now: Instant) -> bool {
        let Some(seat) = self.roster.seat(slot) else {
            return false;
        };
        if !seat.session.is_open() {
            seat.session.held += 1;
            return false;
        }
        let bytes = seat.session.meter.bytes();
        let covered = seat.pass.is_some_and(|pass| pass.covers(bytes, now));
        if !covered || self.tight {
            return self.ask_gate(slot, now);
        }
        debug_assert!(
            !is_sampled(bytes)
                || self
                    .collector
                    .gate(seat.session.agreement.id, &seat.session.meter.usage(now))
                    == Gate::Open
        );
        true
    }

    /// Whether the next packet for this consumer may leave: what [`Exit::seal`] would ask, before it is taken from where it waits.
    pub fn may_leave(&mut self, slot: u32, now: Instant) -> bool {
        self.is_open(slot) && self.may_pass(slot, now)
    }

    /// Whether a packet of this consumer may leave now; then it is counted. For packets that have waited: [`Exit::open`] asks itself.
    pub fn pass_up(&mut self, slot: u32, bytes: usize, now: Instant) -> bool {
        let passes = self.may_pass(slot, now);
        if passes {
            self.count(slot, bytes, Direction::Up);
        }
        passes
    }

    /// Whether this session's gate is open as far as is known; the next packet may close it.
    #[must_use]
    pub fn is_open(&self, slot: u32) -> bool {
        self.roster
            .session(slot)
            .is_some_and(ProviderSession::is_open)
    }

    /// The payment that this session's packets wait for: it goes on, and its gate is closed.
    #[must_use]
    pub fn awaited_payment(&self, slot: u32) -> Option<AwaitedPayment> {
        let session = self.roster.session(slot)?;
        let since = session
            .gate_closed_at
            .filter(|_| session.closing.is_none())?;
        Some(AwaitedPayment {
            since,
            is_first: session.paid.is_zero(),
        })
    }

    /// Earlier packets of this consumer wait with the driver, or do so no more: [`Exit::open`] lets no later one overtake them.
    pub fn set_waiting(&mut self, slot: u32, waiting: bool) {
        if let Some(session) = self.roster.session_mut(slot) {
            session.waiting = waiting;
        }
    }

    pub(super) fn has_waiting(&self, slot: u32) -> bool {
        self.roster
            .session(slot)
            .is_some_and(|session| session.waiting)
    }

    /// Asks the collector, and shuts the gate or makes the next pass.
    fn ask_gate(&mut self, slot: u32, now: Instant) -> bool {
        let Some(seat) = self.roster.seat(slot) else {
            return false;
        };
        let session = &mut seat.session;
        let usage = session.meter.usage(now);
        let id = session.agreement.id;
        let why = match self.collector.gate(id, &usage) {
            Gate::Open => {
                let limit = self.collector.credit(id);
                seat.pass = Some(Pass::within(limit, &session.agreement.price, &usage, now));
                return true;
            }
            Gate::Closed(why) => why,
        };
        let (token, gate) = (session.token, GateState::Closed(why.to_string()));
        session.set_gate(gate.clone(), now);
        session.held += 1;
        // Nothing passes, but what is owed is asked for with the end of this batch.
        self.soil(slot);
        self.roster.hasten(slot);
        let frame = ProviderFrame::Gate(gate);
        self.push(ExitOutput::Frame { token, frame });
        false
    }

    /// Counts a packet that passes.
    pub(super) fn count(&mut self, slot: u32, bytes: usize, direction: Direction) {
        let Some(session) = self.roster.session_mut(slot) else {
            return;
        };
        match direction {
            Direction::Up => session.meter.count_up(bytes),
            Direction::Down => session.meter.count_down(bytes),
        }
        if !session.dirty {
            self.soil(slot);
        }
    }

    /// The payments are told of this session with the end of the batch.
    fn soil(&mut self, slot: u32) {
        if let Some(session) = self.roster.session_mut(slot)
            && !session.dirty
        {
            session.dirty = true;
            self.dirty.push(slot);
        }
    }

    pub(super) fn tell_dirty(&mut self, now: Instant) {
        for index in 0..self.dirty.len() {
            self.update_payments(self.dirty[index], now);
        }
        self.dirty.clear();
    }

    pub(super) fn update_payments(&mut self, slot: u32, now: Instant) {
        let Some(session) = self.roster.session_mut(slot) else {
            return;
        };
        session.dirty = false;
        session.tell_at = session.next_telling(now);
        let usage = session.meter.usage(now);
        self.collector
            .handle_usage(session.agreement.id, &usage, now);
        self.roster.hasten(slot);
    }

    /// What a closing session still owes is asked for as soon as there is room for it, however little it is.
    pub(super) fn ask_for_the_rest(&mut self, slot: u32, now: Instant) {
        let Some(session) = self.roster.session(slot) else {
            return;
        };
        if session.closing.is_some() {
            let usage = session.meter.usage(now);
            self.collector
                .invoice_now(session.agreement.id, &usage, now);
        }
    }

    pub(super) fn update_gate(&mut self, slot: u32, now: Instant) {
        let Some(session) = self.roster.session_mut(slot) else {
            return;
        };
        let usage = session.meter.usage(now);
        let gate = match self.collector.gate(session.agreement.id, &usage) {
            Gate::Open => GateState::Open,
            Gate::Closed(why) => GateState::Closed(why.to_string()),
        };
        let token = session.token;
        let is_news = session.set_gate(gate.clone(), now);
        self.roster.hasten(slot);
        if is_news {
            self.push(ExitOutput::Frame {
                token,
                frame: ProviderFrame::Gate(gate),
            });
        }
    }
}
