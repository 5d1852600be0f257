//! The acceptance matrix: who gets through to whom, how often and how fast, over 40 seeds a cell.

use std::time::Duration;

use wayfare_path::{Obstacle, Outcome, Tier};

use super::nat::{ADM, AR, BLOCKED, FC, FCR, FW, Kind, MASQACC, PR, PRR, SYM, SYMSEQ};
use super::scene::{Place, Scene, Shared, behind, scene};

const SEEDS: u64 = 40;
/// Where chance decides the time, a 95th percentile of 40 says little.
const BIRTHDAYS: u64 = 80;
/// From the caller's choice to the first data at the callee.
const ONE_WAY: Duration = Duration::from_millis(50);

struct Cell {
    name: String,
    seeds: usize,
    direct: usize,
    times: Vec<Duration>,
}

impl Cell {
    fn percentile(&self, of_100: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times[(times.len() - 1) * of_100 / 100]
    }

    #[track_caller]
    fn expect(&self, direct_percent: usize, p50: u64, p95: u64) {
        let share = self.direct * 100 / self.seeds;
        assert!(share >= direct_percent, "{}: {share} % direct", self.name);
        let (half, most) = (self.percentile(50), self.percentile(95));
        println!("{}: {share} % direct, {half:?} / {most:?}", self.name);
        assert!(
            half <= Duration::from_millis(p50),
            "{}: p50 {half:?}",
            self.name
        );
        assert!(
            most <= Duration::from_millis(p95),
            "{}: p95 {most:?}",
            self.name
        );
    }
}

fn cell(name: &str, of_seed: impl Fn(u64) -> Scene) -> Cell {
    cell_of(SEEDS, name, of_seed)
}

fn cell_of(seeds: u64, name: &str, of_seed: impl Fn(u64) -> Scene) -> Cell {
    let mut cell = Cell {
        name: name.to_owned(),
        seeds: usize::try_from(seeds).unwrap(),
        direct: 0,
        times: Vec::new(),
    };
    for seed in 0..seeds {
        let mut world = of_seed(seed).build();
        world.run_until_direct(Duration::from_secs(14));
        let both = world
            .sides
            .iter()
            .all(|side| side.tier().is_some_and(Tier::is_direct));
        match world.sides[0].direct_after(Duration::ZERO).filter(|_| both) {
            Some(at) => {
                cell.direct += 1;
                cell.times.push(at + ONE_WAY);
            }
            None => println!("{name}, seed {seed}: {:?}", world.sides[0].outcome()),
        }
        // What is promised of every cell: connected, if only by the relay.
        assert!(
            world.sides.iter().all(|side| side.tier().is_some()),
            "{name}, seed {seed}"
        );
    }
    cell
}

fn chains() -> Vec<(&'static str, Vec<Kind>)> {
    vec![
        ("pub", vec![]),
        ("fw", vec![FW]),
        ("fc", vec![FC]),
        ("fcr", vec![FCR]),
        ("ar", vec![AR]),
        ("pr", vec![PR]),
        ("prr", vec![PRR]),
        ("masqacc", vec![MASQACC]),
        ("pr+cgn", vec![PR, PRR]),
        ("7×pr", vec![PR; 7]),
        ("7×prr", vec![PRR; 7]),
    ]
}

#[test]
fn stable_ports_are_always_direct() {
    for (a, chain_a) in chains() {
        for (b, chain_b) in chains() {
            let name = format!("{a} × {b}");
            cell(&name, |seed| {
                scene(behind(&chain_a), behind(&chain_b), seed)
            })
            .expect(100, 600, 1200);
        }
    }
}

#[test]
fn stable_ports_at_five_percent_loss() {
    for (a, b) in [(PR, PR), (PRR, PRR), (FC, PRR), (MASQACC, PR)] {
        let name = format!("{} × {} with loss", a.name, b.name);
        cell(&name, |seed| Scene {
            loss: 50,
            ..scene(behind(&[a]), behind(&[b]), seed)
        })
        .expect(99, 1500, 2600);
    }
}

#[test]
fn a_late_start_does_not_poison_a_nat_that_accepts_input() {
    for skew in [0, 40, 100, 300] {
        for (a, b) in [
            (MASQACC, PR),
            (MASQACC, MASQACC),
            (PRR, MASQACC),
            (MASQACC, FW),
        ] {
            let name = format!("{} × {}, {skew} ms late", a.name, b.name);
            cell(&name, |seed| Scene {
                skew: Duration::from_millis(skew),
                ..scene(behind(&[a]), behind(&[b]), seed)
            })
            .expect(100, 600 + skew, 1200 + skew);
        }
    }
}

/// The control of the test above: it is the TTL of the openers that saves us.
#[test]
fn openers_that_arrive_poison_a_nat_that_accepts_input() {
    for seed in 0..SEEDS {
        let mut world = Scene {
            openers_arrive: true,
            skew: Duration::from_millis(300),
            ..scene(behind(&[MASQACC]), behind(&[PR]), seed)
        }
        .build();
        world.run_until_direct(Duration::from_secs(14));
        assert_eq!(world.sides[0].tier(), Some(Tier::Relayed), "seed {seed}");
    }
}

#[test]
fn hard_against_open_is_direct() {
    for hard in [ADM, SYMSEQ, SYM] {
        for easy in [vec![], vec![FC], vec![AR]] {
            let name = format!("{} × {}", hard.name, easy.first().map_or("pub", |k| k.name));
            cell(&name, |seed| scene(behind(&[hard]), behind(&easy), seed)).expect(100, 600, 1200);
            cell(&name, |seed| scene(behind(&easy), behind(&[hard]), seed)).expect(100, 600, 1200);
        }
    }
}

#[test]
fn sequential_ports_are_predicted() {
    for easy in [
        vec![FW],
        vec![PR],
        vec![PRR],
        vec![MASQACC],
        vec![PR, PRR],
        vec![PR; 7],
    ] {
        let name = format!("symseq × {}×{}", easy.len(), easy[0].name);
        cell(&name, |seed| scene(behind(&[SYMSEQ]), behind(&easy), seed)).expect(98, 1200, 2500);
        cell(&name, |seed| scene(behind(&easy), behind(&[SYMSEQ]), seed)).expect(98, 1200, 2500);
    }
}

fn birthdays(hard: &[Kind], depth_known: bool) {
    for easy in [
        vec![FW],
        vec![PR],
        vec![MASQACC],
        vec![PR, PRR],
        vec![PRR; 7],
    ] {
        for hard_calls in [true, false] {
            let name = format!("{} × {}×{}", hard[0].name, easy.len(), easy[0].name);
            let of_seed = |seed| {
                let (a, b) = match hard_calls {
                    true => (behind(hard), behind(&easy)),
                    false => (behind(&easy), behind(hard)),
                };
                Scene {
                    depth_known,
                    ..scene(a, b, seed)
                }
            };
            // Signalling 0.14 s, patience 0.9 s, the median of 174 guesses 0.58 s, two round trips: 1.8 s.
            cell_of(BIRTHDAYS, &name, of_seed).expect(97, 2000, 5000);
        }
    }
}

#[test]
fn random_ports_are_guessed() {
    birthdays(&[SYM], true);
}

#[test]
fn random_ports_per_address_are_guessed() {
    birthdays(&[ADM], true);
}

#[test]
fn random_ports_behind_a_carrier_are_guessed() {
    birthdays(&[PR, SYM], true);
}

#[test]
fn without_a_measured_depth_the_ramp_does() {
    for chain in [vec![PR], vec![PR, PRR], vec![PR; 7], vec![MASQACC]] {
        let name = format!("ramp, {}×{}", chain.len(), chain[0].name);
        cell(&name, |seed| Scene {
            depth_known: false,
            ..scene(behind(&chain), behind(&[PR]), seed)
        })
        .expect(100, 600, 1200);
    }
}

#[test]
fn one_mapped_side_is_enough() {
    for (a, b) in [(SYM, SYM), (SYM, ADM), (PR, SYM), (SYMSEQ, SYM)] {
        let name = format!("{}:upnp × {}", a.name, b.name);
        let mapped = || Place {
            mapped: true,
            ..behind(&[a])
        };
        cell(&name, |seed| scene(mapped(), behind(&[b]), seed)).expect(100, 600, 1200);
        cell(&name, |seed| scene(behind(&[b]), mapped(), seed)).expect(100, 600, 1200);
    }
}

#[test]
fn ipv6_on_both_sides_is_enough() {
    for kind in [SYM, BLOCKED, PR] {
        let side = || Place {
            ipv6: true,
            ..behind(&[kind])
        };
        cell(kind.name, |seed| scene(side(), side(), seed)).expect(100, 600, 1200);
        let mut world = scene(side(), side(), 1).build();
        world.run(Duration::from_secs(3), |_| false);
        assert_eq!(world.sides[0].tier(), Some(Tier::Ipv6));
    }
}

#[test]
fn one_network_is_direct_without_hairpin() {
    for kind in [PR, SYM, BLOCKED] {
        let lan = |seed| Scene {
            shared: Shared::Lan,
            ..scene(behind(&[kind]), behind(&[]), seed)
        };
        cell(&format!("LAN behind {}", kind.name), lan).expect(100, 300, 300);
        let mut world = lan(1).build();
        world.run(Duration::from_secs(3), |_| false);
        assert_eq!(world.sides[0].tier(), Some(Tier::Lan));
        let sentence = world.sides[0].outcome().unwrap().to_string();
        assert!(
            sentence.starts_with("direct on the local network"),
            "{sentence}"
        );
    }
}

#[test]
fn one_carrier_needs_hairpin() {
    for hairpin in [false, true] {
        let carrier = Kind { hairpin, ..PRR };
        for seed in 0..SEEDS {
            let mut world = Scene {
                shared: Shared::Carrier,
                ..scene(behind(&[PR, carrier]), behind(&[PR]), seed)
            }
            .build();
            world.run(Duration::from_secs(6), |_| false);
            for side in &world.sides {
                assert_eq!(
                    side.tier().map(Tier::is_direct),
                    Some(hairpin),
                    "seed {seed}"
                );
            }
        }
    }
}

#[test]
fn what_cannot_be_direct_is_relayed_at_once_and_without_a_storm() {
    for (a, b, why) in [
        (SYM, SYM, Obstacle::BothRandom),
        (ADM, ADM, Obstacle::BothRandom),
        (SYM, SYMSEQ, Obstacle::BothChanging),
        (BLOCKED, PR, Obstacle::OurUdpBlocked),
        (PR, BLOCKED, Obstacle::TheirUdpBlocked),
        (SYM, BLOCKED, Obstacle::TheirUdpBlocked),
    ] {
        for seed in 0..SEEDS {
            let mut world = scene(behind(&[a]), behind(&[b]), seed).build();
            world.run(Duration::from_secs(14), |_| false);
            for side in &world.sides {
                assert_eq!(
                    side.tier(),
                    Some(Tier::Relayed),
                    "{} × {}, {seed}",
                    a.name,
                    b.name
                );
                assert_eq!(side.asked_for_sockets, 0);
                let sent: u32 = side.sent.values().sum();
                // Two rounds: the second follows the first, in vain, after five seconds.
                assert!(sent < 1_000, "{sent} datagrams, seed {seed}");
            }
            assert_eq!(
                world.sides[0].outcome(),
                Some(Outcome::Relayed(why)),
                "seed {seed}"
            );
            let (first, _) = world.sides[0].events[0];
            assert!(first <= Duration::from_millis(300), "{first:?}");
        }
    }
}

/// The published mix: how common each kind is, in percent.
const MIX: [(u64, &[Kind]); 11] = [
    (10, &[]),
    (4, &[FW]),
    (8, &[FC]),
    (2, &[AR]),
    (34, &[PR]),
    (22, &[PR, PRR]),
    (3, &[MASQACC]),
    (1, &[ADM]),
    (4, &[SYMSEQ]),
    (9, &[SYM]),
    (3, &[BLOCKED]),
];

#[test]
fn nine_of_ten_pairs_of_the_published_mix_are_direct() {
    let mut direct = 0;
    for (share_a, a) in MIX {
        for (share_b, b) in MIX {
            let mut hits = 0;
            for seed in 0..4 {
                let mut world = scene(behind(a), behind(b), 1000 + seed).build();
                world.run_until_direct(Duration::from_secs(14));
                hits += u64::from(world.sides[0].tier().is_some_and(Tier::is_direct));
            }
            direct += share_a * share_b * hits;
        }
    }
    // Of 100 × 100 pairs, 4 seeds each.
    println!("weighted direct share {} of 40,000", direct);
    assert!(direct >= 36_000, "{direct} of 40,000");
}
