//! A relay and a consumer with a lossy line between them, a real Hermes, and ledgers that are plain maps: what passes, what is
//! paid, and what is left after losses, lies and crashes.
#![allow(clippy::unwrap_used)]

mod keeping;
mod paying;
mod world;

use wayfare_payment::Amount;

use super::Odometer;
use crate::RefusalCode;
use world::{CHUNK, KIB, World};

fn units(units: u128) -> Amount {
    Amount::from_units(units)
}

#[test]
fn a_count_that_begins_again_loses_nothing() {
    let mut odometer = Odometer::starting_at([100, 50]);
    odometer.advance([150, 50]);
    assert_eq!((odometer.passed, odometer.shown()), ([50, 0], 200));
    // The account was forgotten, and there is a new one.
    odometer.advance([10, 70]);
    assert_eq!((odometer.passed, odometer.shown()), ([60, 70], 80));
    odometer.advance([10, 70]);
    assert_eq!((odometer.usage().up, odometer.usage().down), (60, 70));
}

#[test]
fn what_passes_is_paid_for_to_the_last_byte() {
    let mut world = World::new(1);
    world.open();
    world.run(400, 100 * KIB);
    let passed = world.passed_since_open();
    assert!(passed > 30_000 * KIB, "{passed}");
    world.close();
    let cost = u128::from(passed / KIB);
    assert_eq!(world.promised(), units(cost));
    assert_eq!(world.signed(), units(cost));
    assert!(world.ended_with(RefusalCode::Draining), "{:?}", world.ended);
    assert_eq!(world.until, 0, "what was paid for is used up");
}

#[test]
fn little_costs_the_first_chunk_and_no_more() {
    let mut world = World::new(1);
    world.open();
    world.run(40, KIB);
    world.close();
    assert_eq!(world.promised(), units(CHUNK));
}

#[test]
fn before_the_first_payment_nothing_passes_but_what_is_free() {
    let mut world = World::new(1);
    world.free = 256 * KIB;
    world.budget = Some(Amount::ZERO);
    world.open();
    world.run(20 * 119, 10 * KIB);
    assert_eq!(world.passed_since_open(), 256 * KIB);
    assert!(world.ended.is_empty());
    world.run(20 * 3, 10 * KIB);
    assert!(world.ended_with(RefusalCode::Unpaid), "{:?}", world.ended);
    assert_eq!(
        (world.passed_since_open(), world.promised()),
        (256 * KIB, Amount::ZERO)
    );
}

#[test]
fn who_stops_paying_gets_one_allowance() {
    let mut world = World::new(1);
    world.budget = Some(units(40 * CHUNK));
    world.open();
    world.run(20 * 60, 100 * KIB);
    let (promised, passed) = (world.promised(), world.passed_since_open());
    assert!(
        promised <= units(40 * CHUNK) && promised > units(30 * CHUNK),
        "{promised}"
    );
    let credit = promised.saturating_add(world.allowance(promised));
    let cost = units(u128::from(passed / KIB));
    assert!(
        cost <= credit.saturating_add(units(2)),
        "{cost} of {credit}"
    );
}

#[test]
fn a_line_that_loses_a_third_delays_payments_and_costs_nobody_anything() {
    for seed in 1..=8 {
        let mut world = World::new(seed);
        world.loss = 333;
        world.open();
        world.run(20 * 40, 50 * KIB);
        world.loss = 0;
        world.run(100, 0);
        let passed = world.passed_since_open();
        assert!(passed > 3_000 * KIB, "seed {seed}: {passed}");
        world.close();
        let cost = units(u128::from(passed / KIB)).max(units(CHUNK));
        assert_eq!(
            (world.promised(), world.signed()),
            (cost, cost),
            "seed {seed}"
        );
    }
}

#[test]
fn a_relay_that_counts_double_is_paid_by_the_consumers_count() {
    let mut world = World::new(1);
    world.lie = 2;
    world.open();
    world.run(20 * 200, 20 * KIB);
    let own = units(u128::from(world.consumer_count() / KIB));
    let most = own
        .mul_div_up(101, 100)
        .saturating_add(world.allowance(world.signed()));
    assert!(world.signed() <= most, "{} for {own}", world.signed());
    assert!(world.refused > 0, "the difference was never seen");
    assert!(world.ended_with(RefusalCode::Unpaid), "{:?}", world.ended);
}

#[test]
fn a_relay_that_dies_at_any_write_keeps_what_was_covered_and_is_paid_again() {
    let mut whole = World::new(3);
    whole.open();
    whole.run(20 * 4, 100 * KIB);
    let writes = whole.writes;
    assert!(writes > 15, "{writes}");
    for write in 1..=writes {
        for committed in [false, true] {
            let mut world = World::new(3);
            world.crash_at = Some((write, committed));
            world.open();
            world.run(20 * 8, 100 * KIB);
            let context = format!("write {write}, committed: {committed}");
            assert_eq!(world.crashes, 1, "{context}");
            assert_eq!(world.opened, 2, "{context}");
            world.close();
            // All that the Hermes promised is in the relay's ledger, and everything said to be paid is promised.
            let promised = world.promised();
            assert_eq!(world.keeper.collector().promised(), promised, "{context}");
            assert!(promised >= world.told_paid(), "{context}");
            // The consumer signed at most the two payments that were under way beyond that, each within its allowance.
            let lost = world.signed_by_payer().saturating_sub(promised);
            let most = world.allowance(world.signed_by_payer()).max(units(CHUNK));
            assert!(lost <= most, "{context}: {lost} of {most}");
            assert_eq!(world.keeper.toll_count(), 0, "{context}");
        }
    }
}
