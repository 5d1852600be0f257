//! A pass: how far a session may go before the collector is asked again, in bytes and in time, so that a packet costs two comparisons
//! and not a price. It refuses to give credit: whatever a pass covers, the collector's gate would let through too.

use std::time::{Duration, Instant};

use wayfare_payment::{Amount, GIB, Price, Usage};

/// The price of an hour is charged by the millisecond.
const HOUR_MILLIS: u128 = 3_600_000;
/// No pass lasts longer: a price that is next to nothing would overflow the calendar.
const LONGEST: Duration = Duration::from_secs(60);

/// Covers what a session has used in all while it is within both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    bytes: u64,
    until: Instant,
}

impl Pass {
    /// As far as `limit` reaches from `usage` on: half of what is left may go for bytes, half for time. Used up by either, the next
    /// pass halves what is left then, so a chunk of a thousand packets takes about ten.
    ///
    /// Each part of a price is rounded down, so one more unit than its half has room for may be charged: it is kept back.
    pub(super) fn within(limit: Amount, price: &Price, usage: &Usage, now: Instant) -> Self {
        let left = limit.saturating_sub(price.cost_rounded_down(usage));
        let half = left
            .mul_div_down(1, 2)
            .saturating_sub(Amount::from_units(1));
        let bytes = bought(half, u128::from(GIB), price.per_gib);
        let millis = bought(half, HOUR_MILLIS, price.per_hour);
        // The millisecond that has begun counts as one.
        let time = Duration::from_millis(millis.saturating_sub(1)).min(LONGEST);
        Self {
            bytes: usage.bytes().saturating_add(bytes),
            until: now + time,
        }
    }

    /// Whether another packet passes, after `bytes` so far.
    pub(super) fn covers(&self, bytes: u64, now: Instant) -> bool {
        bytes <= self.bytes && now <= self.until
    }
}

/// How much `money` buys at `price` for each `unit`, rounded down.
pub(crate) fn bought(money: Amount, unit: u128, price: Amount) -> u64 {
    let product = money.mul_div_down(unit, 1).units();
    let quantity = product.checked_div(price.units());
    quantity.map_or(u64::MAX, |quantity| {
        u64::try_from(quantity).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[allow(
        clippy::disallowed_methods,
        reason = "a test needs some moment to begin at; what follows is arithmetic"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    fn price(per_hour: u128, per_gib: u128) -> Price {
        Price {
            per_hour: Amount::from_units(per_hour),
            per_gib: Amount::from_units(per_gib),
        }
    }

    #[test]
    fn half_of_what_is_left_goes_for_each() {
        let now = start();
        let used = Usage {
            up: 100,
            ..Usage::default()
        };
        // A unit a byte and a unit a millisecond.
        let price = price(HOUR_MILLIS, GIB.into());
        let pass = Pass::within(Amount::from_units(2_100), &price, &used, now);
        assert_eq!(
            (pass.bytes, pass.until),
            (1_099, now + Duration::from_millis(998))
        );
        assert!(pass.covers(1_099, pass.until));
        assert!(!pass.covers(1_100, now));
        assert!(!pass.covers(0, pass.until + Duration::from_nanos(1)));
    }

    #[test]
    fn what_costs_nothing_is_not_counted() {
        let now = start();
        let pass = Pass::within(Amount::ZERO, &price(0, 0), &Usage::default(), now);
        assert!(pass.covers(u64::MAX, now + LONGEST));
    }

    #[test]
    fn nothing_left_covers_what_was_asked_for_and_no_more() {
        let now = start();
        let used = Usage {
            up: 5,
            down: 6,
            time: Duration::from_secs(7),
        };
        let pass = Pass::within(Amount::ZERO, &price(1, u128::MAX), &used, now);
        assert!(pass.covers(11, now) && !pass.covers(12, now));
    }

    proptest! {
        /// Where a pass covers, the limit is kept: with prices far beyond and far below a unit for each byte or millisecond.
        #[test]
        fn a_pass_never_beats_its_limit(
            per_hour in prop_oneof![0_u128..10, any::<u64>().prop_map(u128::from), any::<u128>()],
            per_gib in prop_oneof![0_u128..10, any::<u64>().prop_map(u128::from), any::<u128>()],
            up in 0_u64..1 << 40,
            nanos in 0_u64..1 << 52,
            spare in prop_oneof![0_u128..100, any::<u64>().prop_map(u128::from)],
            share in 0_u64..=1_000,
        ) {
            let (now, price) = (start(), price(per_hour, per_gib));
            let used = Usage { up, down: 0, time: Duration::from_nanos(nanos) };
            let limit = price.cost_rounded_down(&used).saturating_add(Amount::from_units(spare));
            let pass = Pass::within(limit, &price, &used, now);
            prop_assert!(pass.covers(up, now));
            for (bytes, time) in [(1_000, share), (share, 1_000), (1_000, 1_000)] {
                let more = (pass.bytes - up).min(1 << 50) as u128 * u128::from(bytes) / 1_000;
                let later = (pass.until - now).as_nanos() * u128::from(time) / 1_000;
                let then = Usage {
                    up: up + more as u64,
                    down: 0,
                    time: used.time + Duration::from_nanos(later as u64),
                };
                prop_assert!(price.cost_rounded_down(&then) <= limit, "{then:?}");
            }
        }
    }
}
