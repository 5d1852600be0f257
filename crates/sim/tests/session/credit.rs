//! The credit gate: it closes at one allowance, whoever is to blame that no payment comes, and opens again when one does. The bound
//! itself is checked by the world at every packet.

use std::time::Duration;

use wayfare_payment::{Amount, PayRefusal, Price};
use wayfare_session::{CloseReason, ConsumerEvent, GateState, RefusalCode};
use wayfare_sim::session_world::{Setting, World, cost};

use super::support::{PACKET, SECOND, bytes, connected, exchange, is_ready, millis, seeds, units};

/// One unit a millisecond, nothing for traffic.
fn by_time() -> Setting {
    Setting {
        price: Price {
            per_hour: Amount::from_units(3_600_000),
            per_gib: Amount::ZERO,
        },
        chunk: 1_000,
        chunk_limit: 16_000,
        ..Setting::default()
    }
}

/// Runs traffic until the gate closes, and returns what passed beyond what was paid.
fn run_dry(world: &mut World) -> u128 {
    for _ in 0..2_000 {
        if exchange(world, 0, 1, millis(10)) == 0 {
            let served = world.served(0).unwrap();
            assert!(matches!(served.gate, GateState::Closed(_)));
            let used = cost(&served.agreement.price, &served.usage);
            let beyond = used.saturating_sub(served.paid);
            let allowance = served.agreement.allowance(served.paid);
            // The exit is no miser either: a whole allowance was served.
            assert!(beyond >= allowance, "{beyond} of {allowance}");
            assert!(beyond <= allowance.saturating_add(units(PACKET as u128)));
            return beyond.units().to();
        }
    }
    panic!("the gate stays open");
}

/// Held packets are not counted, and what passes after the gate has opened again arrives.
fn opens_again(world: &mut World) {
    let before = world.served(0).unwrap().usage;
    exchange(world, 0, 50, millis(10));
    let still = world.served(0).unwrap().usage;
    assert_eq!((still.up, still.down), (before.up, before.down));
    assert!(is_ready(world, 0));
}

fn flows(world: &mut World) -> bool {
    let passed = world.internet(0).len();
    exchange(world, 0, 20, millis(5)) == 20 && world.internet(0).len() == passed + 20
}

#[test]
fn a_consumer_that_stops_paying_gets_one_allowance_and_more_when_it_pays_again() {
    seeds(10, |seed| {
        let mut world = connected(Setting::default(), seed);
        // Trust has grown to more than the first chunk by then.
        exchange(&mut world, 0, 800, millis(5));
        world.set_paying(0, false);
        let beyond = run_dry(&mut world);
        assert!(beyond > 200_000, "{beyond}");
        opens_again(&mut world);
        world.set_paying(0, true);
        world.run_for(3 * SECOND).unwrap();
        assert!(flows(&mut world));
    });
}

#[test]
fn a_dead_hermes_costs_one_allowance_and_service_goes_on_when_it_is_back() {
    seeds(10, |seed| {
        let mut world = connected(Setting::default(), seed);
        exchange(&mut world, 0, 50, millis(5));
        world.kill_hermes().unwrap();
        run_dry(&mut world);
        opens_again(&mut world);
        world.revive_hermes();
        // The longest pause between two tries is 30 s.
        world.run_for(31 * SECOND).unwrap();
        assert!(flows(&mut world));
        assert_eq!(world.consumer(0).closed(), None);
    });
}

#[test]
fn a_cut_stream_costs_one_allowance_and_the_session_survives_on_a_new_one() {
    seeds(10, |seed| {
        let mut world = connected(Setting::default(), seed);
        exchange(&mut world, 0, 50, millis(5));
        world.cut(0);
        run_dry(&mut world);
        opens_again(&mut world);
        let token = world.consumer(0).token();
        world.attach(0);
        world.run_for(SECOND).unwrap();
        assert!(flows(&mut world));
        assert_eq!(world.consumer(0).token(), token);
        assert_eq!(world.consumer(0).closed(), None);
    });
}

#[test]
fn a_stream_that_breaks_at_any_moment_loses_no_payment() {
    seeds(40, |seed| {
        let setting = Setting {
            stream_delay: millis(60),
            ..Setting::default()
        };
        let mut world = connected(setting, seed);
        // Frames of every kind are on their way when the stream breaks, a little later with each seed.
        world.run_for(millis(7 * seed)).unwrap();
        for _ in 0..8 {
            exchange(&mut world, 0, 12, millis(7));
            world.cut(0);
            exchange(&mut world, 0, 2, millis(7));
            world.attach(0);
        }
        exchange(&mut world, 0, 50, millis(20));
        world.run_for(15 * SECOND).unwrap();
        let served = world.served(0).unwrap();
        assert_eq!(served.paid, cost(&served.agreement.price, &served.usage));
        assert_eq!(world.consumer(0).signed(), served.paid);
        assert_eq!(world.audit().unwrap(), served.paid);
        assert_eq!(world.consumer(0).refused(), [], "an honest invoice");
    });
}

#[test]
fn a_payment_is_awaited_from_who_owes_now_and_told_from_a_first_one() {
    let awaited = |world: &World| {
        let slot = world.slot(0).unwrap();
        let awaited = world.exit().awaited_payment(slot);
        assert!(world.exit().is_open(slot) ^ awaited.is_some());
        assert!(awaited.is_none_or(|payment| !payment.is_first));
        !world.exit().is_open(slot)
    };
    let mut world = connected(Setting::default(), 1);
    assert!(!awaited(&world));
    world.set_paying(0, false);
    run_dry(&mut world);
    assert!(awaited(&world));
    world.set_paying(0, true);
    world.run_for(3 * SECOND).unwrap();
    assert!(!awaited(&world));
    world.close(0).unwrap();
    world.run_for(millis(100)).unwrap();
    if let Some(slot) = world.slot(0) {
        assert_eq!(world.exit().awaited_payment(slot), None);
    }

    let mut stranger = World::new(Setting::default(), 2);
    stranger.set_paying(0, false);
    stranger.connect(0).unwrap();
    stranger.run_for(SECOND).unwrap();
    let slot = stranger.slot(0).unwrap();
    assert!(!stranger.exit().is_open(slot));
    let awaited = stranger.exit().awaited_payment(slot);
    assert!(awaited.is_some_and(|payment| payment.is_first));
}

#[test]
fn no_packet_overtakes_those_that_wait_for_their_payment() {
    let mut world = connected(Setting::default(), 1);
    assert!(flows(&mut world));
    let before = (world.internet(0).len(), world.served(0).unwrap().usage.up);
    world.set_waiting(0, true);
    exchange(&mut world, 0, 5, millis(5));
    let after = (world.internet(0).len(), world.served(0).unwrap().usage.up);
    assert_eq!(after, before, "neither passed nor counted");
    world.set_waiting(0, false);
    assert!(flows(&mut world));
}

#[test]
fn a_consumer_that_never_pays_is_sent_away_after_two_minutes() {
    let mut world = World::new(Setting::default(), 1);
    world.set_paying(0, false);
    world.connect(0).unwrap();
    world.run_for(119 * SECOND).unwrap();
    assert_eq!(world.exit().session_count(), 1);
    world.run_for(2 * SECOND).unwrap();
    assert_eq!(world.exit().session_count(), 0);
    assert!(
        matches!(world.consumer(0).closed(), Some(CloseReason::Provider(refusal)) if refusal.code == RefusalCode::Unpaid)
    );
}

#[test]
fn the_consumer_hears_that_the_gate_closes_and_opens() {
    let mut world = connected(Setting::default(), 1);
    world.set_paying(0, false);
    run_dry(&mut world);
    world.set_paying(0, true);
    world.run_for(3 * SECOND).unwrap();
    let gates: Vec<_> = world
        .consumer(0)
        .events()
        .iter()
        .filter_map(|event| match event {
            ConsumerEvent::Gate(state) => Some(*state == GateState::Open),
            _ => None,
        })
        .collect();
    assert_eq!(
        gates,
        [false, true, false, true],
        "attached, paid, dry, paid"
    );
}

#[test]
fn time_is_charged_for_too_and_an_unpaid_second_closes_the_gate() {
    let mut world = connected(by_time(), 1);
    world.set_paying(0, false);
    // Nothing passes meanwhile, so nothing asks the gate; the first packet after the credit is used up is held nevertheless.
    world.run_for(4 * SECOND).unwrap();
    world.send_up(0, PACKET).unwrap();
    world.run_for(millis(10)).unwrap();
    assert!(!world.send_down(0, PACKET).unwrap());
    assert!(world.internet(0).is_empty());
}

#[test]
fn who_pays_for_time_is_served_all_the_time() {
    let mut world = connected(by_time(), 1);
    let taken = exchange(&mut world, 0, 600, millis(100));
    let passed = world.internet(0).len();
    assert!(
        taken >= 590 && passed >= 590,
        "{passed} up, {taken} down of 600"
    );
}

#[test]
fn who_pays_for_time_finds_the_gate_open_after_a_pause() {
    for pause in [1, 2, 3, 4] {
        let mut world = connected(by_time(), pause);
        for _ in 0..20 {
            world.run_for(pause as u32 * SECOND).unwrap();
            let passed = world.internet(0).len();
            let taken = exchange(&mut world, 0, 1, millis(10));
            let passed = world.internet(0).len() - passed;
            assert_eq!((taken, passed), (1, 1), "after {pause} s");
        }
    }
}

#[test]
fn an_inflating_provider_gets_its_allowance_and_no_more() {
    seeds(10, |seed| {
        let mut world = connected(Setting::default(), seed);
        exchange(&mut world, 0, 100, millis(5));
        world.inflate(90_000);
        exchange(&mut world, 0, 400, millis(5));
        world.run_for(20 * SECOND).unwrap();
        let consumer = world.consumer(0);
        let terms = world.served(0).map(|served| served.agreement).unwrap();
        let own = cost(&terms.price, &consumer.usage());
        assert!(consumer.signed() > own, "the lie has to be tried");
        let tolerated = own.saturating_add(own.mul_div_up(1, 100));
        assert!(consumer.signed() <= tolerated.saturating_add(terms.allowance(consumer.signed())));

        // More than an allowance at once is not paid at all.
        let signed = world.consumer(0).signed();
        world.inflate(2_000_000);
        exchange(&mut world, 0, 400, millis(5));
        world.run_for(20 * SECOND).unwrap();
        assert_eq!(world.consumer(0).signed(), signed);
        let inflated = |why: &PayRefusal| matches!(why, PayRefusal::Inflated { .. });
        assert!(world.consumer(0).refused().iter().any(inflated));
    });
}

#[test]
fn the_price_of_an_idle_hour_is_paid_in_time() {
    let mut world = connected(by_time(), 1);
    world.run_for(Duration::from_secs(3_600)).unwrap();
    let served = world.served(0).unwrap();
    let used = cost(&served.agreement.price, &served.usage);
    assert!(used >= units(3_599_000));
    assert!(used.saturating_sub(served.paid) <= units(16_000));
    assert_eq!(bytes(0), served.usage.up + served.usage.down);
}
