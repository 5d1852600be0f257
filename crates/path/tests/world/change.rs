//! Change: NATs that forget, paths that die, relays that go, and what both sides make of it.

use std::time::Duration;

use wayfare_path::{Event, Obstacle, Outcome, Tier};

use super::drive::{VIRTUAL, World};
use super::nat::{FC, Kind, PR, PRR, SYM};
use super::scene::{behind, scene};

const MINUTE: Duration = Duration::from_secs(60);

fn settled_world(a: Kind, b: Kind, seed: u64) -> World {
    let mut world = scene(behind(&[a]), behind(&[b]), seed).build();
    world.run(Duration::from_secs(10), |_| false);
    assert!(
        world
            .sides
            .iter()
            .all(|side| side.tier() == Some(Tier::Direct)),
        "seed {seed}"
    );
    world
}

fn agreed(world: &World) -> bool {
    world
        .sides
        .iter()
        .all(|side| side.tier().is_some_and(Tier::is_direct))
}

fn selections(world: &World, side: usize, since: Duration) -> Vec<Tier> {
    let events = world.sides[side].events.iter();
    events
        .filter_map(|(at, event)| match event {
            Event::Selected { tier, .. } if *at >= since => Some(*tier),
            _ => None,
        })
        .collect()
}

#[test]
fn a_path_in_use_stays_and_is_kept_alive_cheaply() {
    for seed in 0..40 {
        let short = Kind {
            forgets_after: Duration::from_secs(20),
            ..PRR
        };
        let mut world = settled_world(short, short, seed);
        let (since, before) = (world.time(), world.sides[0].sent.values().sum::<u32>());
        world.run(10 * MINUTE, |_| false);
        assert_eq!(selections(&world, 0, since), [], "seed {seed}");
        assert_eq!(selections(&world, 1, since), [], "seed {seed}");
        let sent = world.sides[0].sent.values().sum::<u32>() - before;
        // 120 heartbeats and as many pongs, 24 of the relay's likewise.
        assert!((200..=310).contains(&sent), "{sent}, seed {seed}");
    }
}

#[test]
fn five_percent_loss_does_not_make_a_path_flap() {
    let mut lost = 0;
    for seed in 0..40 {
        let mut world = settled_world(PR, PR, seed);
        world.loss = 50;
        world.run(10 * MINUTE, |_| false);
        let is_lost = |event: &&(Duration, Event)| matches!(event.1, Event::Lost { .. });
        lost += world
            .sides
            .iter()
            .map(|s| s.events.iter().filter(is_lost).count())
            .sum::<usize>();
    }
    // 40 × 2 × 118 heartbeats at one in 12,000.
    assert!(lost <= 4, "{lost}");
}

#[test]
fn after_a_reboot_of_its_nat_a_caller_is_found_again_by_its_own_pings() {
    for seed in 0..40 {
        let mut world = settled_world(PRR, FC, seed);
        let since = world.time();
        world.network.nats[0].reboot(&mut world.chance);
        world.run(since + Duration::from_secs(6), |_| false);
        // The caller noticed nothing; the callee followed to the new address with the next heartbeat.
        assert_eq!(selections(&world, 0, since), [], "seed {seed}");
        assert_eq!(selections(&world, 1, since), [Tier::Direct], "seed {seed}");
    }
}

#[test]
fn a_reboot_between_strict_nats_is_bridged_by_the_relay_and_punched_again() {
    for seed in 0..40 {
        let mut world = settled_world(PRR, PRR, seed);
        let since = world.time();
        world.network.nats[1].reboot(&mut world.chance);
        let now = world.now;
        world.sides[1].finder().network_changed(now);
        // Observers are asked again, and the peer is told over the relay.
        world.run(since + Duration::from_millis(400), |_| false);
        let seen = world.tell_anew(1);
        world.run(since + Duration::from_secs(3), |_| false);
        let selected = world.sides[0].finder().selected();
        assert_eq!(selected.map(|(path, _, _)| path), Some(seen), "seed {seed}");
        assert!(agreed(&world), "seed {seed}");
        for side in &world.sides {
            let events = side.events.iter().filter(|(at, _)| *at >= since);
            let changes = events
                .filter(|(_, event)| matches!(event, Event::Selected { .. } | Event::Lost { .. }));
            // To the relay and back at most: selected, or lost, selected, selected.
            assert!(changes.count() <= 3, "seed {seed}: {:?}", side.events);
        }
    }
}

#[test]
fn a_host_that_moves_to_another_network_is_found_there() {
    for seed in 0..40 {
        let mut world = settled_world(PRR, PR, seed);
        let since = world.time();
        // Another provider's address on the outside, and nothing remembered.
        world.network.nats[0].wan = "11.0.9.9".parse().unwrap();
        world.network.nats[0].reboot(&mut world.chance);
        let now = world.now;
        world.sides[0].finder().network_changed(now);
        world.run(since + Duration::from_millis(400), |_| false);
        let seen = world.tell_anew(0);
        world.run(since + Duration::from_secs(4), |_| false);
        let selected = world.sides[1].finder().selected();
        assert_eq!(selected.map(|(path, _, _)| path), Some(seen), "seed {seed}");
        assert!(agreed(&world), "seed {seed}");
    }
}

#[test]
fn a_dead_path_gives_way_to_the_relay_and_comes_back() {
    for seed in 0..40 {
        let mut world = settled_world(PR, PR, seed);
        let since = world.time();
        world.loss = 1000;
        let now = world.now;
        world.sides[0].finder().suspect(now);
        world.run(since + Duration::from_millis(1500), |_| false);
        assert_eq!(world.sides[0].tier(), Some(Tier::Relayed), "seed {seed}");
        world.run(since + Duration::from_secs(20), |_| false);
        let relayed = Some(Tier::Relayed);
        assert!(
            world.sides.iter().all(|side| side.tier() == relayed),
            "seed {seed}"
        );

        world.loss = 0;
        let since = world.time();
        world.run(since + Duration::from_secs(70), agreed);
        assert!(agreed(&world), "no upgrade, seed {seed}");
    }
}

#[test]
fn silence_alone_is_noticed_within_seven_seconds() {
    for seed in 0..40 {
        let mut world = settled_world(PR, PR, seed);
        let since = world.time();
        world.loss = 1000;
        world.run(since + Duration::from_secs(7), |_| false);
        let relayed = Some(Tier::Relayed);
        assert!(
            world.sides.iter().all(|side| side.tier() == relayed),
            "seed {seed}"
        );
        let lost = world.sides[0].events.iter().find_map(|(at, event)| {
            matches!(event, Event::Lost { .. }).then(|| at.saturating_sub(since))
        });
        // Never by less than two heartbeats that stayed unanswered.
        assert!(lost.unwrap() >= Duration::from_millis(500), "{lost:?}");
    }
}

#[test]
fn a_relay_that_dies_is_nobodys_trouble_while_the_path_is_direct() {
    for seed in 0..40 {
        let mut world = settled_world(PR, PRR, seed);
        let since = world.time();
        world.relay_works = false;
        world.run(since + 2 * MINUTE, |_| false);
        assert_eq!(selections(&world, 0, since), [], "seed {seed}");
        assert!(agreed(&world));
    }
}

#[test]
fn without_any_path_the_relay_is_taken_again_when_it_returns() {
    let mut world = settled_world(PR, PR, 3);
    world.loss = 1000;
    world.relay_works = false;
    let since = world.time();
    world.run(since + MINUTE, |_| false);
    assert!(world.sides.iter().all(|side| side.tier().is_none()));
    world.relay_works = true;
    let since = world.time();
    world.run(since + Duration::from_secs(6), |_| false);
    assert!(
        world
            .sides
            .iter()
            .all(|side| side.tier() == Some(Tier::Relayed))
    );
}

#[test]
fn a_fallback_comes_and_goes() {
    let mut world = scene(behind(&[SYM]), behind(&[SYM]), 3).build();
    world.run(Duration::from_secs(6), |_| false);
    let finder = world.sides[0].finder();
    finder.remove_fallback(VIRTUAL);
    assert_eq!(finder.selected(), None);
    assert_eq!(
        finder.outcome(),
        Some(Outcome::Unreachable(Obstacle::BothRandom))
    );
    finder.add_carried_fallback(VIRTUAL);
    assert_eq!(
        finder.selected().map(|(_, _, tier)| tier),
        Some(Tier::Carried)
    );
    assert_eq!(
        finder.outcome(),
        Some(Outcome::Relayed(Obstacle::BothRandom))
    );
    // A better relay is not taken before it has answered.
    let better = "240.0.0.2:1".parse().unwrap();
    finder.add_fallback(better);
    assert_eq!(finder.selected().map(|(path, _, _)| path), Some(VIRTUAL));
    let events: Vec<Event> = std::iter::from_fn(|| finder.poll_event()).collect();
    assert!(matches!(events[0], Event::Lost { .. }), "{events:?}");
}
