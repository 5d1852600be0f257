//! The paying side of an agreement, whatever is bought: hands invoices to the payer, passes on what it signed, reports what was
//! counted, and notices when the other side is silent or has ended it. It refuses to count.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use wayfare_payment::{Amount, Exchange, Usage};

use crate::toll::{TollEvent, TollOutput};
use crate::{CloseReason, ConsumerFrame, Deadline, ProviderFrame, RefusalCode, Why};

/// The other side hears from us at least this often: a third of the 15 s after which it calls the stream dead.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Silence of the other side after which the agreement is over: three of its reports.
const SILENCE: Duration = Duration::from_secs(15);

/// What both kinds of consumer have in common; `O` is what their driver must do next.
#[derive(Debug)]
pub(crate) struct Paying<O> {
    outputs: VecDeque<O>,
    /// Outputs that may wait. The driver drains after every call; more than this means that it does not.
    most: usize,
    next_report: Instant,
    heard_at: Instant,
    paid: Amount,
    signed: Amount,
    closing: bool,
    closed: bool,
    /// Outputs that found no room.
    pub(crate) dropped_outputs: u64,
}

impl<O: From<TollOutput>> Paying<O> {
    pub(crate) fn new(most: usize, now: Instant) -> Self {
        Self {
            outputs: VecDeque::new(),
            most,
            next_report: now + REPORT_EVERY,
            heard_at: now,
            paid: Amount::ZERO,
            signed: Amount::ZERO,
            closing: false,
            closed: false,
            dropped_outputs: 0,
        }
    }

    /// What the other side confirmed as paid.
    pub(crate) fn paid(&self) -> Amount {
        self.paid
    }

    /// What was promised under this agreement.
    pub(crate) fn signed(&self) -> Amount {
        self.signed
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// A sign of life.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// What the other side says. `usage`: what we counted until now.
    pub(crate) fn handle_frame(&mut self, frame: ProviderFrame, usage: Usage, now: Instant) {
        self.heard(now);
        match frame {
            ProviderFrame::Invoice(invoice) => self.say(TollOutput::Bill { invoice, usage }),
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
    pub(crate) fn handle_payment(&mut self, exchange: Exchange) {
        self.signed = self.signed.max(exchange.agreement_total);
        self.say(TollOutput::Frame(ConsumerFrame::Payment(exchange)));
    }

    /// Asks the other side for the last invoice.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        self.say(TollOutput::Frame(ConsumerFrame::Close));
    }

    /// Ends it on this side at once.
    pub(crate) fn finish(&mut self, reason: CloseReason) {
        if !self.closed {
            self.closed = true;
            self.event(TollEvent::Closed(reason));
        }
    }

    /// Does what is due; `report` is made when it is.
    pub(crate) fn handle_timeout(&mut self, now: Instant, report: impl FnOnce() -> ConsumerFrame) {
        if self.closed {
            return;
        }
        if now >= self.next_report {
            self.next_report = now + REPORT_EVERY;
            self.say(TollOutput::Frame(report()));
        }
        if now >= self.heard_at + SILENCE {
            self.finish(CloseReason::Silence);
        }
    }

    /// When [`Paying::handle_timeout`] wants to be called, and why.
    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
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
    pub(crate) fn poll_output(&mut self) -> Option<O> {
        self.outputs.pop_front()
    }

    pub(crate) fn push(&mut self, output: O) {
        if self.outputs.len() < self.most {
            self.outputs.push_back(output);
        } else {
            self.dropped_outputs += 1;
        }
    }

    fn event(&mut self, event: TollEvent) {
        self.say(TollOutput::Event(event));
    }

    fn say(&mut self, output: TollOutput) {
        self.push(output.into());
    }
}
