//! The consumer's side of a toll: counts what it sends and receives through a relay, and answers the relay's invoices with what
//! the consumer's payer signed. It refuses to pay for bytes that it did not count itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use wayfare_payment::{Amount, Exchange, Invoice, SignedAgreement, Usage};

use super::Odometer;
use crate::{CloseReason, ConsumerFrame, Deadline, GateState, ProviderFrame, RefusalCode, Why};

/// The relay hears from us at least this often.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// A relay that says nothing for so long, over however many streams, is gone: three of its reports.
const SILENCE: Duration = Duration::from_secs(15);
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
    outputs: VecDeque<TollOutput>,
    next_report: Instant,
    heard_at: Instant,
    paid: Amount,
    signed: Amount,
    closing: bool,
    closed: bool,
    dropped_outputs: u64,
}

impl TollPayer {
    /// Begins to count. `passed`: what had gone through the relay, sent and received, before terms were asked for.
    #[must_use]
    pub fn new(agreement: SignedAgreement, passed: [u64; 2], now: Instant) -> Self {
        Self {
            agreement,
            odometer: Odometer::starting_at(passed),
            outputs: VecDeque::new(),
            next_report: now + REPORT_EVERY,
            heard_at: now,
            paid: Amount::ZERO,
            signed: Amount::ZERO,
            closing: false,
            closed: false,
            dropped_outputs: 0,
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
        self.paid
    }

    /// What we have promised within this agreement.
    #[must_use]
    pub fn signed(&self) -> Amount {
        self.signed
    }

    /// Whether nothing more is paid.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// What has gone through the relay so far, sent and received, as in [`TollPayer::new`]. Call it before each frame is handled.
    pub fn handle_passed(&mut self, passed: [u64; 2]) {
        self.odometer.advance(passed);
    }

    /// What the relay says.
    pub fn handle_frame(&mut self, frame: ProviderFrame, now: Instant) {
        if self.closed {
            return;
        }
        self.heard_at = now;
        match frame {
            ProviderFrame::Invoice(invoice) => {
                let usage = self.usage();
                self.push(TollOutput::Bill { invoice, usage });
            }
            ProviderFrame::Paid(total) => {
                self.paid = self.paid.max(total);
                self.event(TollEvent::Paid(total));
            }
            ProviderFrame::Gate(state) => self.event(TollEvent::Gate(state)),
            ProviderFrame::Draining { seconds } => self.event(TollEvent::Draining(seconds)),
            ProviderFrame::Closed(refusal)
                if self.closing && refusal.code != RefusalCode::Unpaid =>
            {
                self.finish(CloseReason::Ours);
            }
            ProviderFrame::Closed(refusal) => self.finish(CloseReason::Provider(refusal)),
            ProviderFrame::Usage(_) | ProviderFrame::KeepAlive => {}
        }
    }

    /// What the payer signed, durable already.
    pub fn handle_payment(&mut self, exchange: Exchange) {
        self.signed = self.signed.max(exchange.agreement_total);
        self.push(TollOutput::Frame(ConsumerFrame::Payment(exchange)));
    }

    /// Asks the relay for the last invoice.
    pub fn close(&mut self) {
        self.closing = true;
        self.push(TollOutput::Frame(ConsumerFrame::Close));
    }

    /// Ends it on this side at once.
    pub fn abort(&mut self) {
        self.finish(CloseReason::Ours);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        if now >= self.next_report {
            self.next_report = now + REPORT_EVERY;
            let usage = self.usage();
            self.push(TollOutput::Frame(ConsumerFrame::Usage(usage)));
        }
        if now >= self.heard_at + SILENCE {
            self.finish(CloseReason::Silence);
        }
    }

    /// When [`TollPayer::handle_timeout`] wants to be called, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.closed {
            return None;
        }
        let report = Deadline {
            at: self.next_report,
            why: Why::Report,
        };
        let silence = Deadline {
            at: self.heard_at + SILENCE,
            why: Why::Silence,
        };
        [report, silence]
            .into_iter()
            .min_by_key(|deadline| deadline.at)
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<TollOutput> {
        self.outputs.pop_front()
    }

    fn finish(&mut self, reason: CloseReason) {
        if !self.closed {
            self.closed = true;
            self.event(TollEvent::Closed(reason));
        }
    }

    fn event(&mut self, event: TollEvent) {
        self.push(TollOutput::Event(event));
    }

    fn push(&mut self, output: TollOutput) {
        if self.outputs.len() < MAX_OUTPUTS {
            self.outputs.push_back(output);
        } else {
            self.dropped_outputs += 1;
        }
    }
}
