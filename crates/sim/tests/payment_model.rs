//! Many small worlds, each from its own seed. `WAYFARE_SEED` runs one.
#![allow(clippy::unwrap_used)]

use wayfare_payment::IssueRefusal;
use wayfare_sim::payment_world::{Fate, Outcome, run};

/// Worlds for each fate.
const WORLDS: u64 = 200;

#[allow(
    clippy::disallowed_methods,
    reason = "the seed of a failure comes from whoever repeats it"
)]
fn chosen_seed() -> Option<u64> {
    std::env::var("WAYFARE_SEED")
        .ok()
        .map(|seed| seed.parse().expect("WAYFARE_SEED is a number"))
}

fn worlds(fate: Fate) -> Outcome {
    let seeds = chosen_seed().map_or_else(|| (0..WORLDS).collect::<Vec<_>>(), |seed| vec![seed]);
    let mut sum = Outcome::default();
    for seed in seeds {
        match run(fate, seed) {
            Ok(outcome) => sum.add(&outcome),
            Err(broken) => panic!("{fate:?}: {broken}; again with WAYFARE_SEED={seed}"),
        }
    }
    println!("{fate:?}: {sum:?}");
    sum
}

/// A run that exercises nothing proves nothing.
fn busy(outcome: &Outcome) {
    if chosen_seed().is_none() {
        assert!(outcome.paid > 5 * WORLDS, "{outcome:?}");
        assert!(outcome.crashes > WORLDS, "{outcome:?}");
        assert!(outcome.settlements >= WORLDS / 2, "{outcome:?}");
    }
}

#[test]
fn honest_parties_in_bad_weather_lose_nothing() {
    let outcome = worlds(Fate::Weather);
    busy(&outcome);
    assert_eq!(outcome.wrong_replies, 0);
}

#[test]
fn a_lying_hermes_learns_no_preimage() {
    let outcome = worlds(Fate::LyingHermes);
    busy(&outcome);
    assert!(chosen_seed().is_some() || outcome.wrong_replies > WORLDS);
}

#[test]
fn an_inflating_provider_is_paid_by_the_consumers_meter() {
    let outcome = worlds(Fate::InflatingProvider);
    busy(&outcome);
    assert!(chosen_seed().is_some() || outcome.inflated > WORLDS);
}

#[test]
fn a_consumer_that_stops_paying_gets_one_allowance() {
    busy(&worlds(Fate::StoppingConsumer));
}

#[test]
fn a_consumer_that_over_promises_is_held_to_its_deposit() {
    let outcome = worlds(Fate::OverPromisingConsumer);
    busy(&outcome);
    let times = |refusal| outcome.refusals.get(&refusal).copied().unwrap_or_default();
    let caught = times(IssueRefusal::NotCovered) + times(IssueRefusal::OverDeposit);
    assert!(
        chosen_seed().is_some() || caught > WORLDS / 2,
        "{outcome:?}"
    );
}

#[test]
fn a_consumer_that_leaves_takes_no_more_than_the_cap() {
    busy(&worlds(Fate::LeavingConsumer));
}
