//! A plain peer in several lanes, with the kernel's own device, sockets and steering, in a network namespace that belongs
//! to the test's thread and disappears with it. Needs root. At the other ends: the machine itself over plain sockets.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "a test reads the clock")]

#[path = "lanes/guest.rs"]
mod guest;
#[path = "lanes/provider.rs"]
mod provider;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use wayfare_tunnel::{Event, MessageKind, classify};
use wayfare_wireguard::LaneTotals;

use guest::Guest;
use provider::{Provider, in_new_namespace};

const GUESTS: u8 = 8;

/// A provider and its guests. Guest *n* has the addresses 10.77.0.*n*+2 and fd77::*n*+2.
struct World {
    provider: Provider,
    guests: Vec<Guest>,
}

impl World {
    fn new(lanes: usize, queues: usize) -> Self {
        let mut guests: Vec<_> = (0..GUESTS).map(Guest::new).collect();
        let provider = Provider::start(lanes, queues, &guests);
        guests.iter_mut().for_each(|guest| guest.meets(&provider));
        Self { provider, guests }
    }

    /// Each guest's question and answer, in both families.
    fn echo_all(&mut self) {
        let port = self.provider.echo;
        for guest in &mut self.guests {
            guest.echo(port, false);
            guest.echo(port, true);
        }
    }

    fn end(self) -> Vec<LaneTotals> {
        self.provider.end()
    }
}

fn carried_by_all(totals: &[LaneTotals], lanes: usize, at_least: u64) {
    assert_eq!(totals.len(), lanes);
    let peers: usize = totals.iter().map(|lane| lane.peers).sum();
    assert_eq!(peers, usize::from(GUESTS));
    for lane in totals {
        let enough = lane.peers as u64 * at_least;
        assert!(lane.peers > 0, "{totals:?}");
        assert!(lane.opened >= enough && lane.sealed >= enough, "{totals:?}");
    }
}

#[test]
fn every_lane_carries_its_peers_both_ways_and_renews_their_keys() {
    for lanes in [1, 2, 3, 4] {
        in_new_namespace(move || {
            const ROUNDS: u64 = 4;
            let mut world = World::new(lanes, lanes);
            assert_eq!(world.provider.single, None);
            world.guests.iter_mut().for_each(Guest::call);
            for _ in 0..ROUNDS {
                // Far enough for the next packet to ask for new keys.
                for guest in &mut world.guests {
                    guest.pass(Duration::from_secs(6));
                }
                world.echo_all();
                for guest in &mut world.guests {
                    guest.until(|event| matches!(event, Event::Rekeyed { .. }));
                }
            }
            carried_by_all(&world.end(), lanes, ROUNDS * 2);
        });
    }
}

#[test]
fn a_lane_calls_its_own_peers_and_hears_their_answers() {
    in_new_namespace(|| {
        let mut world = World::new(4, 4);
        let asking = UdpSocket::bind(("10.77.0.1", 0)).unwrap();
        for guest in &mut world.guests {
            asking.send_to(b"who calls", (guest.inner(), 9)).unwrap();
            let packet = guest.packet();
            assert!(packet.ends_with(b"who calls"));
            guest.until(|event| matches!(event, Event::Established { .. }));
        }
        carried_by_all(&world.end(), 4, 0);
    });
}

#[test]
fn a_flood_of_calls_at_the_first_lane_stops_nobody() {
    in_new_namespace(|| {
        let mut world = World::new(4, 4);
        world.guests.iter_mut().for_each(Guest::call);
        // An authentic call of somebody nobody knows, over and over: the most that junk can cost.
        let mut stranger = Guest::new(99);
        stranger.meets(&world.provider);
        let junk = stranger.initiation();
        let flooder = UdpSocket::bind("127.0.0.1:0").unwrap();
        flooder.set_nonblocking(true).unwrap();
        let (port, to) = (world.provider.echo, world.provider.at);
        let (mut sent, mut cookies) = (0, 0);
        let mut flood = |count: usize| {
            for _ in 0..count {
                sent += usize::from(flooder.send_to(&junk, to).is_ok());
            }
            let mut reply = [0; 256];
            while let Ok(length) = flooder.recv(&mut reply) {
                assert_eq!(classify(&reply[..length]), Some(MessageKind::Cookie));
                cookies += 1;
            }
        };
        flood(1_000);
        for round in 0..10 {
            for guest in &mut world.guests {
                flood(50);
                guest.echo(port, round % 2 == 0);
            }
        }
        // New keys need the first lane, which wants a cookie back now.
        for guest in &mut world.guests {
            flood(50);
            guest.call();
            guest.echo(port, false);
        }
        assert!(sent > 4_000, "{sent}");
        assert!(cookies > 0 && cookies < sent, "{cookies} of {sent}");
        carried_by_all(&world.end(), 4, 11);
    });
}

#[test]
fn what_the_kernel_keeps_with_a_call_is_not_lost() {
    in_new_namespace(|| {
        let mut world = World::new(4, 4);
        let port = world.provider.echo;
        for guest in &mut world.guests {
            guest.call();
            // The first keys have been used: a call that overtakes the first use would replace them.
            guest.echo(port, false);
            // The call and a packet under the keys of before, in one train: the kernel looks at its head alone.
            let mut train = guest.initiation();
            let segment = train.len();
            train.extend(guest.question(port));
            assert!(train.len() < 2 * segment);
            let length = i32::try_from(segment).unwrap();
            setsockopt(&guest.socket, sockopt::UdpGsoSegment, &length).unwrap();
            guest.socket.send_to(&train, guest.to()).unwrap();
            guest.answer();
            guest.until(|event| matches!(event, Event::Rekeyed { .. }));
        }
        carried_by_all(&world.end(), 4, 2);
    });
}

#[test]
fn what_cannot_be_split_goes_through_one_lane() {
    in_new_namespace(|| {
        // A device without further queues.
        let mut world = World::new(4, 1);
        let why = world.provider.single.clone().unwrap();
        assert!(why.contains("one queue"), "{why}");
        world.guests.iter_mut().for_each(Guest::call);
        world.echo_all();
        carried_by_all(&world.end(), 1, 2);
    });
}

#[test]
fn nothing_is_left_when_it_ends() {
    in_new_namespace(|| {
        let mut world = World::new(4, 4);
        world.guests.iter_mut().for_each(Guest::call);
        let at: SocketAddr = world.provider.at;
        world.end();
        // A child that another test is just starting holds all descriptors of this process until it is its own program.
        until("the port", || {
            UdpSocket::bind(("0.0.0.0", at.port())).is_ok()
        });
        until("the device", || {
            let devices = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            assert!(devices.contains("lo:"), "{devices}");
            !devices.contains(provider::DEVICE)
        });
    });
}

fn until(what: &str, gone: impl Fn() -> bool) {
    let since = Instant::now();
    while !gone() {
        assert!(since.elapsed() < guest::PATIENCE, "{what} is left");
        std::thread::yield_now();
    }
}
