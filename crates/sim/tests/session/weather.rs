//! Many small worlds in which everything goes wrong at once, each from its own seed.

use std::cell::RefCell;
use std::collections::BTreeMap;

use wayfare_payment::Price;
use wayfare_session::{CloseReason, ConsumerEvent, GateState};
use wayfare_sim::session_world::{Setting, World, cost};
use wayfare_sim::{Chance, Weather};

use super::support::{PACKET, SECOND, connected, is_one_seed, is_ready, millis, seeds, units};

const WORLDS: u64 = 40;

fn setting() -> Setting {
    Setting {
        consumers: 3,
        price: Price {
            per_hour: units(18_000_000),
            per_gib: units(1 << 30),
        },
        weather: Weather {
            loss: 40,
            doubling: 40,
            delay: millis(60),
        },
        stream_delay: millis(50),
        write_delay: millis(10),
        rekey_after: 4 * SECOND,
        ..Setting::default()
    }
}

/// Twenty seconds in which streams break, the Hermes falls over, consumers move and stop paying for a while.
fn turmoil(world: &mut World, chance: &mut Chance) {
    for _ in 0..400 {
        let consumer = chance.index(3);
        match chance.below(200) {
            0 => world.cut(consumer),
            1..=4 => world.attach(consumer),
            5 => world.kill_hermes().unwrap(),
            6..=10 => world.revive_hermes(),
            11 => world.set_paying(consumer, false),
            12..=15 => world.set_paying(consumer, true),
            16 => world.roam(consumer),
            _ => {}
        }
        for _ in 0..chance.below(4) {
            world.send_up(consumer, PACKET).unwrap();
            world.send_down(consumer, PACKET).unwrap();
        }
        world.run_for(millis(50)).unwrap();
    }
}

#[test]
fn whatever_goes_wrong_the_last_invoice_is_paid_to_the_unit() {
    let happened = RefCell::new(BTreeMap::new());
    seeds(WORLDS, |seed| {
        let mut world = connected(setting(), seed);
        turmoil(&mut world, &mut Chance::new(!seed));
        world.turn(Setting::default().weather);
        world.revive_hermes();
        for consumer in 0..3 {
            world.set_paying(consumer, true);
            world.cut(consumer);
            world.attach(consumer);
        }
        world.run_for(32 * SECOND).unwrap();

        let mut paid = units(0);
        for consumer in 0..3 {
            assert!(
                is_ready(&world, consumer),
                "{:?}",
                world.consumer(consumer).closed()
            );
            world.close(consumer).unwrap();
            world
                .run_until(10 * SECOND, |w| w.consumer(consumer).closed().is_some())
                .unwrap();
            assert_eq!(world.consumer(consumer).closed(), Some(&CloseReason::Ours));
            let (status, _) = world.ended().last().unwrap();
            assert_eq!(status.paid, cost(&status.agreement.price, &status.usage));
            assert_eq!(world.consumer(consumer).signed(), status.paid);
            let (own, up) = (world.consumer(consumer).usage(), world.internet(consumer));
            assert!(status.usage.up <= own.up && own.down <= status.usage.down);
            assert_eq!(status.usage.up, (up.len() * PACKET) as u64);
            assert!(up.values().all(|times| *times == 1));
            paid = paid.saturating_add(status.paid);
            for event in world.consumer(consumer).events() {
                let what = match event {
                    ConsumerEvent::Rekeyed => "rekeyed",
                    ConsumerEvent::Paid(_) => "paid",
                    ConsumerEvent::Gate(GateState::Closed(_)) => "held",
                    _ => continue,
                };
                *happened.borrow_mut().entry(what).or_insert(0) += 1;
            }
        }
        assert_eq!(world.audit().unwrap(), paid);
    });
    // Turmoil in which nothing happens proves nothing.
    println!("{happened:?}");
    let times = |what| happened.borrow().get(what).copied().unwrap_or(0);
    assert!(is_one_seed() || times("rekeyed") > 10 * WORLDS);
    assert!(is_one_seed() || times("paid") > 10 * WORLDS);
    assert!(is_one_seed() || times("held") > 2 * WORLDS);
}
