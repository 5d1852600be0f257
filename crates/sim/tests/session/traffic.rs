//! Packets pass both ways once the first chunk is paid, are counted alike on both sides, and keep passing while keys are renewed.

use std::time::Duration;

use wayfare_payment::Usage;
use wayfare_session::ConsumerEvent;
use wayfare_sim::Weather;
use wayfare_sim::session_world::Setting;

use super::support::{
    PACKET, SECOND, bytes, connect, connected, exchange, is_ready, millis, seeds,
};

/// Shorter than any packet of another test, longer than the header of either family.
const SHORT: usize = 100;

#[test]
fn nothing_passes_before_the_first_chunk_is_paid_and_everything_after() {
    seeds(10, |seed| {
        let mut world = wayfare_sim::session_world::World::new(Setting::default(), seed);
        world.set_paying(0, false);
        world.connect(0).unwrap();
        assert!(
            world
                .run_until(SECOND, |w| w.consumer(0).is_active())
                .unwrap()
        );
        assert_eq!(exchange(&mut world, 0, 20, millis(50)), 0);
        assert!(world.internet(0).is_empty());
        assert!(world.consumer(0).received().is_empty());
        let served = world.served(0).unwrap();
        assert_eq!((served.usage.up, served.usage.down), (0, 0));
        assert!(served.paid.is_zero());

        world.set_paying(0, true);
        assert!(world.run_until(5 * SECOND, |w| is_ready(w, 0)).unwrap());
        assert_eq!(exchange(&mut world, 0, 20, millis(5)), 20);
        assert_eq!(world.internet(0).len(), 20);
        assert_eq!(world.consumer(0).received().len(), 20);
    });
}

#[test]
fn what_has_no_tunnel_to_go_through_is_not_counted() {
    let mut world = wayfare_sim::session_world::World::new(Setting::default(), 1);
    let nothing = Weather {
        loss: 1_000,
        ..Weather::FAIR
    };
    world.turn(nothing);
    world.connect(0).unwrap();
    assert!(
        world
            .run_until(5 * SECOND, |w| !w.consumer(0).paid().is_zero())
            .unwrap()
    );
    // Paid, so the gate is open; but no handshake has told the exit where its consumer is. The world compares what is counted
    // with what the exit took.
    for _ in 0..10 {
        assert!(!world.send_down(0, PACKET).unwrap());
    }
    assert_eq!(world.served(0).unwrap().usage, Usage::default());
}

#[test]
fn both_meters_agree_when_nothing_is_lost() {
    seeds(5, |seed| {
        let mut world = connected(Setting::default(), seed);
        assert_eq!(exchange(&mut world, 0, 400, millis(5)), 400);
        let network = world.consumer(0).network().unwrap();
        let v6 = network.consumer_v6.unwrap().into();
        for _ in 0..50 {
            world.send_up_from(0, v6, SHORT).unwrap().unwrap();
            assert!(world.send_down_to(0, v6, SHORT).unwrap());
            world.run_for(millis(5)).unwrap();
        }
        let (ours, theirs) = (world.consumer(0).usage(), world.served(0).unwrap().usage);
        let expected = bytes(400) + 50 * SHORT as u64;
        assert_eq!((ours.up, ours.down), (expected, expected));
        assert_eq!((theirs.up, theirs.down), (expected, expected));
        assert!(ours.time.abs_diff(theirs.time) < millis(20));
        assert!(theirs.time > 2 * SECOND);
        assert!(world.internet(0).values().all(|times| *times == 1));
        assert_eq!(world.consumer(0).received().len(), 450);
    });
}

#[test]
fn meters_differ_by_what_was_lost_and_by_nothing_else() {
    seeds(20, |seed| {
        let mut world = connected(Setting::default(), seed);
        world.turn(Weather {
            loss: 100,
            doubling: 100,
            delay: millis(40),
        });
        let taken = exchange(&mut world, 0, 300, millis(10));
        world.turn(Setting::default().weather);
        world.run_for(SECOND).unwrap();

        let (ours, theirs) = (world.consumer(0).usage(), world.served(0).unwrap().usage);
        let (up, down) = (world.internet(0), world.consumer(0).received());
        assert!(up.values().chain(down.values()).all(|times| *times == 1));
        assert_eq!(ours.up, bytes(300));
        assert_eq!(theirs.up, bytes(up.len()));
        assert_eq!(theirs.down, bytes(taken));
        assert_eq!(ours.down, bytes(down.len()));
        let lost = 300 - up.len() + taken - down.len();
        assert!((20..150).contains(&lost), "{lost} of {}", 300 + taken);
    });
}

#[test]
fn keys_are_renewed_under_traffic_without_a_gap() {
    seeds(5, |seed| {
        let setting = Setting {
            rekey_after: 5 * SECOND,
            ..Setting::default()
        };
        let mut world = connected(setting, seed);
        assert_eq!(exchange(&mut world, 0, 1_200, millis(50)), 1_200);
        assert_eq!(world.internet(0).len(), 1_200);
        assert_eq!(world.consumer(0).received().len(), 1_200);
        let rekeyed = |event: &&ConsumerEvent| **event == ConsumerEvent::Rekeyed;
        let renewals = world.consumer(0).events().iter().filter(rekeyed).count();
        assert!((10..=13).contains(&renewals), "{renewals} in 60 s");
        let up_once = |event: &&ConsumerEvent| **event == ConsumerEvent::Active;
        assert_eq!(world.consumer(0).events().iter().filter(up_once).count(), 1);
    });
}

#[test]
fn keys_of_the_full_lifetime_outlive_an_idle_hour() {
    let mut world = connected(Setting::default(), 1);
    world.run_for(3_600 * SECOND).unwrap();
    assert_eq!(world.consumer(0).closed(), None);
    assert_eq!(exchange(&mut world, 0, 20, millis(10)), 20);
    assert_eq!(world.internet(0).len(), 20);
    assert_eq!(world.consumer(0).received().len(), 20);
}

#[test]
fn a_consumer_that_moves_is_followed() {
    seeds(5, |seed| {
        let mut world = connected(Setting::default(), seed);
        exchange(&mut world, 0, 10, millis(10));
        world.roam(0);
        // The first packet from the new place tells the exit where answers go.
        world.send_up(0, PACKET).unwrap();
        world.run_for(millis(10)).unwrap();
        exchange(&mut world, 0, 10, millis(10));
        assert_eq!(world.internet(0).len(), 21);
        assert_eq!(world.consumer(0).received().len(), 20);
    });
}

#[test]
fn a_second_session_of_the_same_consumer_starts_from_nothing() {
    let mut world = connected(Setting::default(), 1);
    exchange(&mut world, 0, 100, millis(10));
    let first = world.consumer(0).total();
    world.close(0).unwrap();
    assert!(
        world
            .run_until(10 * SECOND, |w| w.consumer(0).closed().is_some())
            .unwrap()
    );
    connect(&mut world, 0);
    assert!(world.consumer(0).total() > first);
    let served = world.served(0).unwrap();
    assert_eq!((served.usage.up, served.usage.down), (0, 0));
    assert!(served.usage.time < Duration::from_secs(1));
}
