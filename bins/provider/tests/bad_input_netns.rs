//! What `wayfare-provider run` says when it cannot go on, what it lives with, and that it leaves the computer as it was. Needs root.

#![allow(clippy::unwrap_used)]

#[path = "../../../crates/cli/tests/binary/namespace.rs"]
mod namespace;
#[path = "../../../crates/cli/tests/binary/services.rs"]
mod services;
#[path = "../../../crates/cli/tests/binary/support.rs"]
mod support;
#[path = "../../../crates/cli/tests/binary/world.rs"]
mod world;

use std::net::UdpSocket;

use wayfare_cli::Kind;

use crate::namespace::{WITHOUT_NET_ADMIN, in_new_namespace, ip, untouched};
use crate::services::{LiveHermes, LiveIndex};
use crate::support::Home;
use crate::world::{World, nowhere};

/// A provider, a live Hermes and a live index.
struct Scene {
    home: Home,
    world: World,
    _live: (LiveHermes, LiveIndex),
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        let hermes = world.hermes();
        let live = (LiveHermes::new(&world, hermes), LiveIndex::new(&world));
        let mut home = Home::new(env!("CARGO_BIN_EXE_wayfare-provider"));
        home.set("rpc", &world.rpc)
            .set("vault", world.vault)
            .set("hermes", hermes)
            .set("hermes_url", &live.0.url)
            .set("index_url", &live.1.url)
            .set("advertise", "127.0.0.1:51820")
            .set("listen", "127.0.0.1:51820")
            .set("country", "NL");
        home.identity();
        Self {
            home,
            world,
            _live: live,
        }
    }
}

#[test]
fn without_the_privilege_nothing_is_opened() {
    in_new_namespace(|| {
        let mut scene = Scene::new();
        scene.home.run_by(WITHOUT_NET_ADMIN).fails(
            &["run"],
            Kind::Privilege,
            &["CAP_NET_ADMIN"],
            &["sudo wayfare-provider run"],
        );
        let ran = scene.home.run(&["doctor"]);
        assert!(ran.out.contains("FAIL privileges"), "{}", ran.out);
        untouched();
    });
}

#[test]
fn a_hermes_that_is_dead_or_something_else_is_told() {
    in_new_namespace(|| {
        let mut scene = Scene::new();
        let dead = nowhere();
        scene.home.set("hermes_url", &dead).fails(
            &["run"],
            Kind::Unreachable,
            &["the Hermes", &dead, "Connection refused"],
            &["`hermes_url`"],
        );
        let nonsense = scene.world.nonsense();
        scene.home.set("hermes_url", nonsense).fails(
            &["run"],
            Kind::Unreachable,
            &["the Hermes"],
            &["`hermes_url`"],
        );
        scene.home.set("hermes_url", "ftp://hermes").fails(
            &["run"],
            Kind::Usage,
            &["ftp://hermes", "http://host:port"],
            &["`hermes_url`"],
        );
        untouched();
    });
}

#[test]
fn what_others_hold_is_left_to_them() {
    in_new_namespace(|| {
        let mut scene = Scene::new();
        let held = UdpSocket::bind("127.0.0.1:51820").unwrap();
        scene.home.fails(
            &["run"],
            Kind::Busy,
            &["UDP port 51820 on 127.0.0.1 is already in use"],
            &["`listen`"],
        );
        drop(held);
        scene.home.fails(
            &["--set", "listen=192.0.2.1:51820", "run"],
            Kind::Usage,
            &["192.0.2.1 is not an address of this computer"],
            &["`listen`"],
        );
        ip("link add taken0 type veth peer name taken1");
        scene.home.set("device", "taken0").fails(
            &["run"],
            Kind::Busy,
            &["taken0", "taken by another program"],
            &["`device`"],
        );
        ip("link del taken0");
        scene.home.set("device", "wf-never").set("country", "Oz");
        scene.home.fails(
            &["run"],
            Kind::Usage,
            &["country", "Oz", "two capital letters"],
            &["config show --origin"],
        );
        untouched();
    });
}

#[test]
fn a_running_provider_shrugs_off_junk_and_a_dead_index_and_settles_nothing() {
    in_new_namespace(|| {
        let mut scene = Scene::new();
        scene.home.set("index_url", nowhere());
        // Left by a crash: replaced.
        std::fs::create_dir_all(scene.home.path("state")).unwrap();
        let socket = scene.home.path("state/control.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let mut daemon = scene.home.start(&["run"]);
        daemon.says(&["\"event\":\"running\""]);
        daemon.says(&["the proposal was not taken", "trying again"]);

        let junk = UdpSocket::bind("127.0.0.1:0").unwrap();
        for length in [0, 1, 32, 148, 1_200, 1_472] {
            for first in [0, 1, 2, 3, 4, 0x40, 0xc0, 0xff] {
                let mut datagram = vec![0; length];
                if let Some(byte) = datagram.first_mut() {
                    *byte = first;
                }
                junk.send_to(&datagram, "127.0.0.1:51820").unwrap();
            }
        }
        scene.home.fails(
            &["settle"],
            Kind::Refused,
            &["there is nothing to settle"],
            &["earnings"],
        );
        let status = scene.home.json(&["status"]);
        assert_eq!(
            (&status["role"], &status["sessions"]),
            (&"provider".into(), &0.into())
        );
        let earnings = scene.home.json(&["earnings"]);
        assert_eq!(earnings[0]["promised"], "0", "{earnings}");
        scene.home.fails(
            &["run"],
            Kind::Busy,
            &["in use by another process"],
            &["`state_dir`"],
        );
        daemon.stops();
        assert!(!socket.exists());
        untouched();
    });
}
