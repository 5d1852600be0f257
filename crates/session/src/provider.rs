//! The provider's side of one session: whose it is, what was counted, whether traffic may pass.

use std::time::{Duration, Instant};

use wayfare_payment::{Agreement, Amount, Usage};

use crate::meter::Meter;
use crate::pool::Lease;
use crate::{GateState, Refusal, RefusalCode, SessionToken};

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
    /// No allowance is larger, whatever the agreement says.
    credit_cap: Amount,
    pub(crate) token: SessionToken,
    pub(crate) lease: Lease,
    pub(crate) meter: Meter,
    pub(crate) gate: GateState,
    pub(crate) gate_closed_at: Option<Instant>,
    pub(crate) heard_at: Instant,
    pub(crate) closing: Option<Closing>,
    pub(crate) paid: Amount,
    pub(crate) claimed: Usage,
    /// The consumer's means are known.
    pub(crate) proven: bool,
    /// A stream of its consumer has been there.
    pub(crate) attached: bool,
    /// Why it is over, as long as its consumer could not be told.
    pub(crate) verdict: Option<Box<Refusal>>,
    /// Bytes since the payments were last told.
    pub(crate) dirty: bool,
    /// When the payments are told of the time that has passed; `None` while that can wait for the next report.
    pub(crate) tell_at: Option<Instant>,
    /// Its earlier packets wait with the driver.
    pub(crate) waiting: bool,
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
        credit_cap: Amount,
        token: SessionToken,
        lease: Lease,
        now: Instant,
    ) -> Self {
        Self {
            agreement,
            credit_cap,
            token,
            lease,
            meter: Meter::default(),
            gate: GateState::Closed("the first chunk is not paid yet".into()),
            gate_closed_at: Some(now),
            heard_at: now,
            closing: None,
            paid: Amount::ZERO,
            claimed: Usage::default(),
            proven: false,
            attached: false,
            verdict: None,
            dirty: false,
            tell_at: None,
            waiting: false,
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
            .allowance_within(self.paid, self.credit_cap)
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

    /// When something is to be done about it, if nothing happens until then.
    pub(crate) fn wants_a_look_at(&self) -> Instant {
        let gives_up_at = self.gives_up_at();
        self.tell_at.map_or(gives_up_at, |at| at.min(gives_up_at))
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

#[cfg(test)]
mod tests {
    use wayfare_identity::{Address, U256};
    use wayfare_payment::{AgreementId, ChannelId, Price};

    use super::*;

    /// Where virtual time starts.
    #[allow(
        clippy::disallowed_methods,
        reason = "an Instant cannot be made otherwise; only differences are used"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    /// A chunk of four seconds at one unit a millisecond, at most sixteen.
    fn session(per_hour: u128, now: Instant) -> ProviderSession {
        let agreement = Agreement {
            id: AgreementId(U256::ONE),
            consumer: Address::ZERO,
            provider: Address::ZERO,
            hermes: Address::ZERO,
            chain_id: 1,
            vault: Address::ZERO,
            consumer_channel: ChannelId::of_deposit(Address::ZERO),
            price: Price {
                per_hour: Amount::from_units(per_hour),
                per_gib: Amount::from_units(1),
            },
            chunk: Amount::from_units(4_000),
            chunk_limit: Amount::from_units(16_000),
        };
        let lease = Lease {
            slot: 0,
            v4: [10, 80, 0, 2].into(),
            v6: None,
        };
        ProviderSession::new(
            agreement,
            Amount::from_units(14_000),
            SessionToken([7; 32]),
            lease,
            now,
        )
    }

    fn shut(why: &str) -> GateState {
        GateState::Closed(why.to_owned())
    }

    #[test]
    fn only_a_change_between_open_and_closed_is_news() {
        let now = start();
        let mut session = session(0, now);
        assert!(!session.is_open());
        assert!(!session.set_gate(shut("for another reason"), now));
        assert_eq!(session.gate, shut("for another reason"));
        assert!(session.set_gate(GateState::Open, now));
        assert!(!session.set_gate(GateState::Open, now));
        assert!(session.set_gate(shut("unpaid"), now));
    }

    #[test]
    fn a_gate_that_stays_shut_is_counted_from_when_it_shut_first() {
        let now = start();
        let seconds = |n| now + Duration::from_secs(n);
        let mut session = session(0, now);
        session.heard_at = seconds(10_000);
        assert_eq!(session.gives_up_at(), seconds(120));
        // Another reason does not start the time again.
        session.set_gate(shut("for another reason"), seconds(50));
        assert_eq!(session.gives_up_at(), seconds(120));
        session.set_gate(GateState::Open, seconds(60));
        assert_eq!(session.gives_up_at(), seconds(10_060));
        session.set_gate(shut("unpaid"), seconds(70));
        assert_eq!(session.gives_up_at(), seconds(190));
    }

    #[test]
    fn the_soonest_of_silence_debt_and_closing_ends_a_session() {
        let now = start();
        let seconds = |n| now + Duration::from_secs(n);
        let mut session = session(0, now);
        assert_eq!(session.gives_up_at(), seconds(60), "silence before debt");
        session.set_gate(GateState::Open, now);
        assert_eq!(session.gives_up_at(), seconds(60));
        session.heard_at = seconds(30);
        assert_eq!(session.gives_up_at(), seconds(90));
        session.closing = Some(Closing {
            until: seconds(35),
            code: None,
        });
        assert_eq!(session.gives_up_at(), seconds(35));
    }

    #[test]
    fn time_is_looked_at_before_a_quarter_of_the_credit_is_used() {
        let now = start();
        let millis = |n| Some(now + Duration::from_millis(n));
        let check = |per_hour: u128, paid: u128, expect: Option<Instant>| {
            let mut session = session(per_hour, now);
            assert_eq!(session.next_telling(now), None, "nothing has begun");
            session.meter.start(now);
            session.paid = Amount::from_units(paid);
            assert_eq!(session.next_telling(now), expect, "{per_hour} {paid}");
            session.closing = Some(Closing {
                until: now,
                code: None,
            });
            assert_eq!(session.next_telling(now), None, "it is over");
        };
        check(0, 4_000, None);
        check(3_600_000, 4_000, millis(1_000));
        // An eighth of 96,000 may be outstanding, a quarter of which is 3 s.
        check(3_600_000, 96_000, millis(3_000));
        // However much was paid, the provider's own cap of 14,000 bounds it.
        check(3_600_000, 1_000_000, millis(3_500));
        // From 5 s on the reports are soon enough.
        check(720_000, 4_000, None);
        check(720_001, 4_000, millis(4_999));
        // However dear it is.
        check(u128::MAX, 4_000, millis(100));
    }

    #[test]
    fn a_token_is_not_shown() {
        let shown = format!("{:?}", session(0, start()));
        assert!(shown.contains("SessionToken(..)"), "{shown}");
        assert!(!shown.contains("[7, 7"), "{shown}");
    }
}
