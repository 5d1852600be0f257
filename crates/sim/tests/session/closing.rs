//! The end of a session: what was used is paid, to the unit, and silence is an end too.

use wayfare_payment::{Amount, Price};
use wayfare_session::{CloseReason, ConsumerEvent, ConsumerFrame, RefusalCode};
use wayfare_sim::Weather;
use wayfare_sim::session_world::{Setting, World, cost};

use super::support::{SECOND, connect, connected, exchange, millis, seeds, units};

/// Time and traffic both cost something.
fn by_both() -> Setting {
    Setting {
        price: Price {
            per_hour: Amount::from_units(36_000_000),
            per_gib: Amount::from_units(1 << 30),
        },
        ..Setting::default()
    }
}

fn close(world: &mut World) -> CloseReason {
    world.close(0).unwrap();
    let over = world.run_until(20 * SECOND, |w| w.consumer(0).closed().is_some());
    assert!(over.unwrap());
    world.consumer(0).closed().unwrap().clone()
}

/// The last invoice is the price of the meter, it is paid, and the Hermes covers it.
fn is_settled(world: &World) {
    let (status, reason) = world.ended().last().unwrap();
    assert_ne!(reason.code, RefusalCode::Unpaid, "{reason}");
    let used = cost(&status.agreement.price, &status.usage);
    assert_eq!(status.paid, used.max(status.agreement.chunk));
    assert_eq!(world.consumer(0).signed(), status.paid);
    assert_eq!(world.consumer(0).paid(), status.paid);
    assert_eq!(world.exit().session_count(), 0);
}

#[test]
fn a_closed_session_has_paid_exactly_what_the_meter_says() {
    // On a long way an invoice is out at almost any moment.
    let far = Setting {
        stream_delay: millis(60),
        ..by_both()
    };
    for setting in [Setting::default(), by_both(), far] {
        seeds(30, |seed| {
            let mut world = connected(setting.clone(), seed);
            exchange(&mut world, 0, 100 + 3 * seed as usize, millis(5));
            world.run_for(millis(170 * seed)).unwrap();
            // An invoice is out, a payment is being covered, a report is due: sooner or later with each seed.
            exchange(&mut world, 0, 1 + seed as usize, millis(3));
            assert_eq!(close(&mut world), CloseReason::Ours);
            is_settled(&world);
            assert_eq!(world.audit().unwrap(), world.consumer(0).signed());
            assert_eq!(world.exit().collector().agreements().count(), 0);
        });
    }
}

#[test]
fn a_session_that_used_less_than_it_paid_ahead_ends_at_once() {
    let mut world = connected(Setting::default(), 1);
    exchange(&mut world, 0, 3, millis(5));
    let at = world.now();
    assert_eq!(close(&mut world), CloseReason::Ours);
    assert!(world.now() - at < SECOND);
    is_settled(&world);
    assert_eq!(world.consumer(0).signed(), units(100_000));
}

#[test]
fn a_session_that_never_paid_ends_without_a_debt() {
    let mut world = World::new(Setting::default(), 1);
    world.set_paying(0, false);
    world.connect(0).unwrap();
    world.run_for(SECOND).unwrap();
    close(&mut world);
    let (status, _) = world.ended().last().unwrap();
    assert!(cost(&status.agreement.price, &status.usage).is_zero());
    assert!(world.consumer(0).signed().is_zero());
    world.run_for(40 * SECOND).unwrap();
    assert_eq!(world.exit().collector().agreements().count(), 0);
}

#[test]
fn a_close_that_got_lost_is_asked_again() {
    seeds(5, |seed| {
        let mut world = connected(Setting::default(), seed);
        exchange(&mut world, 0, 200, millis(5));
        world.close(0).unwrap();
        world.cut(0);
        world.run_for(SECOND).unwrap();
        world.attach(0);
        assert_eq!(close(&mut world), CloseReason::Ours);
        is_settled(&world);
    });
}

#[test]
fn a_consumer_that_does_not_pay_its_last_invoice_is_named() {
    let mut world = connected(Setting::default(), 1);
    exchange(&mut world, 0, 100, millis(5));
    world.set_paying(0, false);
    exchange(&mut world, 0, 10, millis(5));
    let CloseReason::Provider(refusal) = close(&mut world) else {
        panic!("{:?}", world.consumer(0).closed());
    };
    assert_eq!(refusal.code, RefusalCode::Unpaid);
    let (status, _) = world.ended().last().unwrap();
    let unpaid = cost(&status.agreement.price, &status.usage).saturating_sub(status.paid);
    assert!(!unpaid.is_zero() && unpaid <= status.agreement.allowance(status.paid));
}

#[test]
fn an_exit_that_drains_takes_the_last_payments_and_nobody_new() {
    seeds(10, |seed| {
        let setting = Setting {
            consumers: 2,
            ..by_both()
        };
        let mut world = World::new(setting, seed);
        connect(&mut world, 0);
        exchange(&mut world, 0, 130 + 7 * seed as usize, millis(5));
        world.drain().unwrap();
        let over = world.run_until(6 * SECOND, |w| w.consumer(0).closed().is_some());
        assert!(over.unwrap());
        is_settled(&world);
        let consumer = world.consumer(0);
        assert!(
            matches!(consumer.closed(), Some(CloseReason::Provider(refusal)) if refusal.code == RefusalCode::Draining)
        );
        assert!(consumer.events().contains(&ConsumerEvent::Draining(5)));

        let terms = world.terms(1);
        let applicant = world.apply(1, terms).unwrap();
        let facts = world.facts(1);
        let refusal = world
            .admit(&applicant.request, &facts)
            .unwrap()
            .unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Draining);
    });
}

#[test]
fn silence_ends_a_session_on_both_sides() {
    let mut world = connected(Setting::default(), 1);
    exchange(&mut world, 0, 10, millis(10));
    let everything = Weather {
        loss: 1_000,
        ..Weather::FAIR
    };
    world.turn(everything);
    world.cut(0);
    world.run_for(14 * SECOND).unwrap();
    assert_eq!(world.consumer(0).closed(), None);
    world.run_for(2 * SECOND).unwrap();
    assert_eq!(world.consumer(0).closed(), Some(&CloseReason::Silence));
    assert_eq!(world.exit().session_count(), 1);
    world.run_for(43 * SECOND).unwrap();
    assert_eq!(world.exit().session_count(), 1);
    world.run_for(2 * SECOND).unwrap();
    assert_eq!(world.exit().session_count(), 0);
    let (_, reason) = world.ended().last().unwrap();
    assert_eq!(reason.code, RefusalCode::Unknown);
}

#[test]
fn either_of_tunnel_and_stream_keeps_a_session_alive() {
    let mut world = connected(Setting::default(), 1);
    let everything = Weather {
        loss: 1_000,
        ..Weather::FAIR
    };
    // Only the stream: the provider's reports.
    world.turn(everything);
    world.run_for(60 * SECOND).unwrap();
    assert_eq!(world.consumer(0).closed(), None);
    // Only the tunnel: answers.
    world.turn(Setting::default().weather);
    world.run_for(20 * SECOND).unwrap();
    world.cut(0);
    for _ in 0..30 {
        exchange(&mut world, 0, 1, SECOND);
    }
    assert_eq!(world.consumer(0).closed(), None);
    assert_eq!(world.exit().session_count(), 1);
}

#[test]
fn a_tunnel_that_never_comes_up_is_given_up_after_ninety_seconds() {
    let mut world = World::new(Setting::default(), 1);
    let everything = Weather {
        loss: 1_000,
        ..Weather::FAIR
    };
    world.turn(everything);
    world.connect(0).unwrap();
    world.run_for(85 * SECOND).unwrap();
    assert_eq!(world.consumer(0).closed(), None);
    world.run_for(15 * SECOND).unwrap();
    assert_eq!(world.consumer(0).closed(), Some(&CloseReason::NoTunnel));
}

#[test]
fn frames_of_a_session_that_is_over_are_refused() {
    let mut world = connected(Setting::default(), 1);
    let token = world.consumer(0).token().unwrap();
    assert_eq!(
        world.frame(token, ConsumerFrame::KeepAlive).unwrap(),
        Ok(())
    );
    close(&mut world);
    for frame in [
        ConsumerFrame::Attach(token),
        ConsumerFrame::KeepAlive,
        ConsumerFrame::Close,
    ] {
        let refusal = world.frame(token, frame).unwrap().unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Unknown);
    }
}
