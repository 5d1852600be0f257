//! The provider's side of one session: whose it is, what was counted, whether traffic may pass.

use std::time::{Duration, Instant};

use wayfare_payment::{Agreement, Amount, Usage};

use crate::meter::Meter;
use crate::pool::Lease;
use crate::{GateState, RefusalCode, SessionToken};

/// A consumer whose gate stays shut this long is gone: time for a Hermes or a chain to come back.
pub(crate) const UNPAID_GRACE: Duration = Duration::from_secs(120);
/// A session without a sign of life is removed: twelve reports of the consumer.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// How long a closing session waits for its last payment.
pub(crate) const CLOSING: Duration = Duration::from_secs(5);

/// Between two looks at the time that was used, at the least: ten a second for each session, whatever its chunk.
const TELL_LEAST: Duration = Duration::from_millis(100);
/// Between two looks, at the most: the reports come as often.
const TELL_MOST: Duration = Duration::from_secs(5);
/// The share of the credit that time may use before it is looked at: a quarter, which is when the collector asks for it.
const TELL_SHARE: u128 = 4;

/// One consumer of an exit. A few hundred bytes; the tunnel's state is apart.
#[derive(Debug)]
pub struct ProviderSession {
    pub(crate) agreement: Agreement,
    pub(crate) token: SessionToken,
    pub(crate) lease: Lease,
    pub(crate) meter: Meter,
    pub(crate) gate: GateState,
    pub(crate) gate_closed_at: Option<Instant>,
    pub(crate) heard_at: Instant,
    pub(crate) closing: Option<Closing>,
    pub(crate) paid: Amount,
    pub(crate) claimed: Usage,
    /// Bytes since the payments were last told.
    pub(crate) dirty: bool,
    /// When the payments are told of the time that has passed; `None` while that can wait for the next report.
    pub(crate) tell_at: Option<Instant>,
    /// Packets held back by the gate.
    pub(crate) held: u64,
}

/// Why and until when a session waits for its last payment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closing {
    pub(crate) until: Instant,
    pub(crate) code: Option<RefusalCode>,
}

/// A session in numbers, for status pages and reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// The terms.
    pub agreement: Agreement,
    /// What we counted.
    pub usage: Usage,
    /// What the consumer says that it counted.
    pub claimed: Usage,
    /// What is paid: covered by the Hermes and durable here.
    pub paid: Amount,
    /// Whether traffic passes.
    pub gate: GateState,
}

impl ProviderSession {
    pub(crate) fn new(
        agreement: Agreement,
        token: SessionToken,
        lease: Lease,
        now: Instant,
    ) -> Self {
        Self {
            agreement,
            token,
            lease,
            meter: Meter::default(),
            gate: GateState::Closed("the first chunk is not paid yet".into()),
            gate_closed_at: Some(now),
            heard_at: now,
            closing: None,
            paid: Amount::ZERO,
            claimed: Usage::default(),
            dirty: false,
            tell_at: None,
            held: 0,
        }
    }

    /// When time alone will have used the share of the credit that is worth an invoice.
    pub(crate) fn next_telling(&self, now: Instant) -> Option<Instant> {
        const HOUR_MILLIS: u128 = 3_600_000;
        if !self.meter.is_started() || self.closing.is_some() {
            return None;
        }
        let agreement = &self.agreement;
        let share = agreement
            .allowance(self.paid)
            .mul_div_down(HOUR_MILLIS, TELL_SHARE);
        let millis = share
            .units()
            .checked_div(agreement.price.per_hour.units())?;
        let pause =
            Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)).max(TELL_LEAST);
        (pause < TELL_MOST).then(|| now + pause)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.gate == GateState::Open
    }

    /// Takes over a gate decision; `true` when it is news for the consumer.
    pub(crate) fn set_gate(&mut self, gate: GateState, now: Instant) -> bool {
        if self.gate == gate {
            return false;
        }
        let was_open = self.is_open();
        self.gate = gate;
        if self.is_open() {
            self.gate_closed_at = None;
        } else if was_open {
            self.gate_closed_at = Some(now);
        }
        was_open != self.is_open()
    }

    /// The next moment at which silence or unpaid service ends the session.
    pub(crate) fn gives_up_at(&self) -> Instant {
        let silent = self.heard_at + IDLE;
        let unpaid = self.gate_closed_at.map_or(silent, |at| at + UNPAID_GRACE);
        let closing = self.closing.map_or(silent, |closing| closing.until);
        silent.min(unpaid).min(closing)
    }

    pub(crate) fn status(&self, now: Instant) -> SessionStatus {
        SessionStatus {
            agreement: self.agreement,
            usage: self.meter.usage(now),
            claimed: self.claimed,
            paid: self.paid,
            gate: self.gate.clone(),
        }
    }
}
