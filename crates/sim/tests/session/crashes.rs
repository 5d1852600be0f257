//! Power failures: of the provider at each of its writes, of the Hermes, of a consumer.

use wayfare_session::CloseReason;
use wayfare_sim::session_world::{Setting, World, cost};

use super::support::{SECOND, connect, exchange, is_ready, millis, seeds, units};

/// A session with a bit of everything, as far as it comes.
fn story(world: &mut World) {
    world.connect(0).unwrap();
    world.run_for(SECOND).unwrap();
    exchange(world, 0, 240, millis(8));
    world.run_for(11 * SECOND).unwrap();
    exchange(world, 0, 10, millis(8));
    world.close(0).unwrap();
    world.run_for(3 * SECOND).unwrap();
}

fn writes_of_the_whole_story(seed: u64) -> u64 {
    let mut world = World::new(Setting::default(), seed);
    story(&mut world);
    assert_eq!(world.consumer(0).closed(), Some(&CloseReason::Ours));
    world.exit_persists()
}

#[test]
fn a_provider_that_crashes_at_any_write_loses_nothing_that_was_covered() {
    seeds(3, |seed| {
        let writes = writes_of_the_whole_story(seed);
        assert!(writes > 20, "{writes}");
        for n in 1..=writes {
            let mut world = World::new(Setting::default(), seed);
            world.crash_exit_at(n);
            story(&mut world);
            // The session did not come back, and its consumer noticed.
            assert_eq!(world.exit().session_count(), 0, "write {n}");
            world.run_for(20 * SECOND).unwrap();
            let closed = world.consumer(0).closed();
            let over = matches!(closed, Some(CloseReason::Silence | CloseReason::Ours));
            assert!(over, "write {n}: {closed:?}");

            // Everything that the disk kept is covered, and the former agreements are put away.
            world.run_for(40 * SECOND).unwrap();
            assert_eq!(
                world.exit().collector().agreements().count(),
                0,
                "write {n}"
            );
            let promised = world.exit().collector().promised();
            assert_eq!(world.audit().unwrap(), promised, "write {n}");
            assert!(promised <= world.consumer(0).signed(), "write {n}");
            assert!(world.consumer(0).paid() <= promised, "write {n}");

            // And the exit works.
            connect(&mut world, 0);
            assert_eq!(exchange(&mut world, 0, 20, millis(8)), 20, "write {n}");
        }
    });
}

#[test]
fn a_hermes_that_crashes_again_and_again_delays_payments_and_loses_none() {
    seeds(20, |seed| {
        let setting = Setting {
            write_delay: millis(20),
            ..Setting::default()
        };
        let mut world = World::new(setting, seed);
        connect(&mut world, 0);
        world.run_for(millis(seed)).unwrap();
        for round in 0..6 {
            exchange(&mut world, 0, 25 + round, millis(7));
            world.kill_hermes().unwrap();
            exchange(&mut world, 0, 3, millis(7));
            world.revive_hermes();
        }
        world.run_for(60 * SECOND).unwrap();
        let served = world.served(0).unwrap();
        assert_eq!(served.paid, cost(&served.agreement.price, &served.usage));
        assert_eq!(world.audit().unwrap(), served.paid);
        assert_eq!(world.exit().collector().promised(), served.paid);
    });
}

#[test]
fn a_consumer_that_crashes_never_promises_less_and_comes_back() {
    seeds(20, |seed| {
        let setting = Setting {
            write_delay: millis(20),
            ..Setting::default()
        };
        let mut world = World::new(setting, seed);
        connect(&mut world, 0);
        exchange(&mut world, 0, 100 + seed as usize, millis(7));
        let consumer = world.consumer(0);
        let (signed, before, paid) = (consumer.signed(), consumer.total(), consumer.paid());
        world.crash_consumer(0).unwrap();
        assert!(world.consumer(0).total() >= signed);
        assert!(world.consumer(0).total() <= before);
        // The first session is silent on the exit's side while the second is paid for on the same channel.
        connect(&mut world, 0);
        assert_eq!(exchange(&mut world, 0, 20, millis(8)), 20);
        world.run_for(100 * SECOND).unwrap();
        assert_eq!(world.exit().session_count(), 1);
        assert!(is_ready(&world, 0));
        assert_eq!(world.troubles(), [""; 0]);
        let promised = world.audit().unwrap();
        assert_eq!(world.exit().collector().promised(), promised);
        assert!(promised >= paid.saturating_add(units(100_000)));
        assert!(promised <= world.consumer(0).total());
    });
}
