//! What the session tests share: seeds that are printed on failure, and worlds that have come a certain way.

use std::time::Duration;

use wayfare_payment::Amount;
use wayfare_sim::session_world::{Setting, World};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// Inner packets of the tests; a multiple of nothing in particular.
pub(crate) const PACKET: usize = 1_300;

/// Says which seed was running when a test fails.
struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again with WAYFARE_SEED={}", self.0);
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the seed of a failure comes from whoever repeats it"
)]
fn chosen_seed() -> Option<u64> {
    let seed = std::env::var("WAYFARE_SEED").ok()?;
    Some(seed.parse().expect("WAYFARE_SEED is a number"))
}

/// Whether only one seed runs: too little to count what happens.
pub(crate) fn is_one_seed() -> bool {
    chosen_seed().is_some()
}

/// Runs a story once for each seed below `count`, or for the one that was asked for.
pub(crate) fn seeds(count: u64, story: impl Fn(u64)) {
    let seeds = chosen_seed().map_or_else(|| (0..count).collect::<Vec<_>>(), |seed| vec![seed]);
    for seed in seeds {
        let _guard = Guard(seed);
        story(seed);
    }
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn units(units: u128) -> Amount {
    Amount::from_units(units)
}

/// Whether both sides say that traffic may pass.
pub(crate) fn is_ready(world: &World, consumer: usize) -> bool {
    world.consumer(consumer).is_active() && !world.consumer(consumer).paid().is_zero()
}

/// Connects a consumer and waits until its first chunk is paid and its tunnel is up.
pub(crate) fn connect(world: &mut World, consumer: usize) {
    world.connect(consumer).unwrap();
    assert!(
        world
            .run_until(20 * SECOND, |w| is_ready(w, consumer))
            .unwrap()
    );
    // The consumer's first message tells the exit where its tunnel ends.
    world.run_for(millis(70)).unwrap();
}

/// A world whose consumers are all connected.
pub(crate) fn connected(setting: Setting, seed: u64) -> World {
    let consumers = setting.consumers;
    let mut world = World::new(setting, seed);
    for consumer in 0..consumers {
        connect(&mut world, consumer);
    }
    world
}

/// Sends so many packets up and down, one of each every `gap`, and returns how many the exit took for the way down.
pub(crate) fn exchange(world: &mut World, consumer: usize, packets: usize, gap: Duration) -> usize {
    let mut taken = 0;
    for _ in 0..packets {
        world.send_up(consumer, PACKET).unwrap();
        taken += usize::from(world.send_down(consumer, PACKET).unwrap());
        world.run_for(gap).unwrap();
    }
    taken
}

/// Units of one direction's packets at one unit a byte.
pub(crate) fn bytes(packets: usize) -> u64 {
    (packets * PACKET) as u64
}
