//! The consumer's side of a toll: counts what it sends and receives through a relay, and answers the relay's invoices with what
//! the consumer's payer signed. It refuses to pay for bytes that it did not count itself.

use std::time::Instant;

use wayfare_payment::{Amount, Exchange, Invoice, SignedAgreement, Usage};

use super::Odometer;
use crate::paying::Paying;
use crate::{CloseReason, ConsumerFrame, Deadline, GateState, ProviderFrame};

/// Frames and events waiting for the driver. The driver drains after every call; more than this means that it does not.
const MAX_OUTPUTS: usize = 256;

/// What the driver must do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TollOutput {
    /// Send this frame to the relay.
    Frame(ConsumerFrame),
    /// Show this invoice and our own count to the payer.
    Bill {
        /// The demand.
        invoice: Invoice,
        /// What we counted.
        usage: Usage,
    },
    /// Something to tell people.
    Event(TollEvent),
}

/// What happens to a toll, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TollEvent {
    /// The relay confirmed that this total is paid.
    Paid(Amount),
    /// The relay lets everything pass, or only what is free.
    Gate(GateState),
    /// The relay will stop within so many seconds.
    Draining(u32),
    /// Nothing more is paid under this agreement.
    Closed(CloseReason),
}

/// One agreement with one relay, seen by the consumer.
#[derive(Debug)]
pub struct TollPayer {
    agreement: SignedAgreement,
    odometer: Odometer,
    paying: Paying<TollOutput>,
}

impl TollPayer {
    /// Begins to count. `passed`: what had gone through the relay, sent and received, before terms were asked for.
    #[must_use]
    pub fn new(agreement: SignedAgreement, passed: [u64; 2], now: Instant) -> Self {
        Self {
            agreement,
            odometer: Odometer::starting_at(passed),
            paying: Paying::new(MAX_OUTPUTS, now),
        }
    }

    /// The terms.
    #[must_use]
    pub fn agreement(&self) -> &SignedAgreement {
        &self.agreement
    }

    /// What we counted.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.odometer.usage()
    }

    /// What the relay confirmed as paid.
    #[must_use]
    pub fn paid(&self) -> Amount {
        self.paying.paid()
    }

    /// What we have promised within this agreement.
    #[must_use]
    pub fn signed(&self) -> Amount {
        self.paying.signed()
    }

    /// Whether nothing more is paid.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.paying.is_closed()
    }

    /// What has gone through the relay so far, sent and received, as in [`TollPayer::new`]. Call it before each frame is handled.
    pub fn handle_passed(&mut self, passed: [u64; 2]) {
        self.odometer.advance(passed);
    }

    /// What the relay says.
    pub fn handle_frame(&mut self, frame: ProviderFrame, now: Instant) {
        if !self.is_closed() {
            self.paying.handle_frame(frame, self.odometer.usage(), now);
        }
    }

    /// What the payer signed, durable already.
    pub fn handle_payment(&mut self, exchange: Exchange) {
        self.paying.handle_payment(exchange);
    }

    /// Asks the relay for the last invoice.
    pub fn close(&mut self) {
        self.paying.close();
    }

    /// Ends it on this side at once.
    pub fn abort(&mut self) {
        self.paying.finish(CloseReason::Ours);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let odometer = &self.odometer;
        self.paying
            .handle_timeout(now, || ConsumerFrame::Usage(odometer.usage()));
    }

    /// When [`TollPayer::handle_timeout`] wants to be called, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.paying.poll_timeout()
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<TollOutput> {
        self.paying.poll_output()
    }
}
