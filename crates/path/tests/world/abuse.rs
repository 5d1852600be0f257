//! What a lying peer, a replaying network and a stranger can make us do: nothing.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wayfare_path::{DropReason, Handled, Socket, Tier};

use super::nat::{PR, PRR, SYM};
use super::scene::{Place, behind, scene};

fn victims() -> Vec<SocketAddr> {
    [
        "11.66.6.6:53",
        "11.66.6.6:443",
        "10.77.0.1:80",
        "[2001:db8:66::6]:53",
        "127.0.0.1:22",
        "240.0.0.9:1",
    ]
    .map(|addr| addr.parse().unwrap())
    .to_vec()
}

#[test]
fn a_listed_victim_is_sent_nothing() {
    for seed in 0..40 {
        for (a, b) in [(PR, PRR), (SYM, PR), (PR, SYM), (SYM, SYM)] {
            let liar = Place {
                lies: victims(),
                ..behind(&[a])
            };
            let mut world = scene(liar, behind(&[b]), seed).build();
            world.run(Duration::from_secs(14), |_| false);
            let victims: Vec<IpAddr> = victims().iter().map(SocketAddr::ip).collect();
            let sent = world.sides[1].sent.keys();
            assert!(sent.clone().count() > 0);
            assert!(
                sent.clone().all(|to| !victims.contains(&to.ip())),
                "seed {seed}"
            );
            let in_core = &world.network.in_core;
            assert!(
                in_core.iter().all(|to| !victims.contains(&to.ip())),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn guesses_go_to_the_attested_ip_only_and_keep_their_budget() {
    for seed in 0..40 {
        // The hard side's router drops everything: nothing is ever found, so the whole budget is spent.
        let mut world = scene(behind(&[PR]), behind(&[SYM]), seed).build();
        world.network.nats[1].kind.blocks_udp = true;
        world.run(Duration::from_secs(300), |_| false);
        let attested: IpAddr = "11.0.2.2".parse().unwrap();
        let public = world.sides[0]
            .sent
            .iter()
            .filter(|(to, _)| to.ip() == attested);
        let guessed: u32 = public.clone().map(|(_, count)| count).sum();
        let ports = public.count();
        assert!(
            (2048..=2048 + 8).contains(&ports),
            "{ports} ports, seed {seed}"
        );
        // Besides the guesses: rounds of at most 30 pings to at most 4 observed addresses, after 5, 10, 20
        // and 40 seconds and then one a minute: nine in all.
        assert!(guessed <= 2048 + 9 * 30 * 4, "{guessed}, seed {seed}");
        assert_eq!(world.sides[1].asked_for_sockets, 256);
        assert_eq!(world.sides[0].tier(), Some(Tier::Relayed));
    }
}

#[test]
fn a_birthday_that_is_not_allowed_does_not_happen() {
    for (a, b) in [(PR, SYM), (SYM, PR)] {
        let mut not_allowed = scene(behind(&[a]), behind(&[b]), 5);
        not_allowed.birthday = false;
        let mut world = not_allowed.build();
        world.run(Duration::from_secs(20), |_| false);
        for side in &world.sides {
            assert_eq!(side.asked_for_sockets, 0);
            assert!(side.sent.len() < 10);
            let sentence = side.outcome().unwrap().to_string();
            assert!(
                sentence.ends_with("guessing is not allowed now"),
                "{sentence}"
            );
        }
    }
}

#[test]
fn a_caught_ping_in_anothers_name_earns_a_few_datagrams_and_is_not_followed() {
    let mut world = scene(behind(&[PR]), behind(&[PR]), 4).build();
    world.run(Duration::from_secs(6), |_| false);
    let now = world.now;
    let before = world.sides[1].finder().selected();
    let victim: SocketAddr = "11.66.6.6:53".parse().unwrap();
    let mut caught = Vec::new();
    let mut replies = 0;
    for _ in 0..200 {
        let caller = world.sides[0].finder();
        caller.suspect(now);
        caller.handle_timeout(now);
        caught.extend(std::iter::from_fn(|| caller.poll_transmit()));
        let Some(ping) = caught.pop() else { continue };
        let callee = world.sides[1].finder();
        // The attacker is quicker than the ping itself, and claims to be the victim.
        let handled = callee.handle_probe(victim, Socket::Main, &ping.bytes, now);
        assert_eq!(handled, Handled::Ping);
        let again = callee.handle_probe(victim, Socket::Main, &ping.bytes, now);
        assert_eq!(again, Handled::Dropped(DropReason::Replayed));
        callee.handle_timeout(now);
        let sent = std::iter::from_fn(|| callee.poll_transmit());
        replies += sent.filter(|transmit| transmit.to == victim).count();
        // The heartbeat counts as answered, so that the next one is sent.
        world.sides[0].finder().network_changed(now);
    }
    assert!((1..=16).contains(&replies), "{replies}");
    assert_eq!(world.sides[1].finder().selected(), before);
}
