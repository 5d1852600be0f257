//! What `wayfare up` says when it cannot go on, and that it leaves the computer as it was. Needs root.
//!
//! A namespace made by `unshare` belongs to its thread and disappears with it, whatever happens.

#![allow(clippy::unwrap_used)]

#[path = "../../../crates/cli/tests/binary/namespace.rs"]
mod namespace;
#[path = "../../../crates/cli/tests/binary/services.rs"]
mod services;
#[path = "../../../crates/cli/tests/binary/support.rs"]
mod support;
#[path = "../../../crates/cli/tests/binary/world.rs"]
mod world;

use wayfare_cli::Kind;
use wayfare_identity::Address;
use wayfare_payment::Amount;

use crate::namespace::{WITHOUT_NET_ADMIN, in_new_namespace, ip, untouched};
use crate::services::{LiveHermes, LiveIndex, proposal, register};
use crate::support::Home;
use crate::world::{ONE, World};

/// A consumer, its Hermes and index, and one offer whose provider listens nowhere.
struct Scene {
    world: World,
    home: Home,
    identity: Address,
    hermes: Address,
    _live: (LiveHermes, LiveIndex),
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        let hermes = world.hermes();
        let live = (LiveHermes::new(&world, hermes), LiveIndex::new(&world));
        let offer = proposal(&world, hermes, "127.0.0.1:9".parse().unwrap());
        register(&world, &live.1.url, &offer);
        let mut home = Home::new(env!("CARGO_BIN_EXE_wayfare"));
        home.set("rpc", &world.rpc)
            .set("vault", world.vault)
            .set("hermes", hermes)
            .set("hermes_url", &live.0.url)
            .set("index_url", &live.1.url);
        let identity = home.identity();
        Self {
            world,
            home,
            identity,
            hermes,
            _live: live,
        }
    }

    fn fund(&self, units: u128) {
        let address = self.world.rich.deposit_address(self.identity, self.hermes);
        self.world.give_tokens(address, units);
    }
}

#[test]
fn without_the_privilege_nothing_begins() {
    in_new_namespace(|| {
        let mut home = Home::new(env!("CARGO_BIN_EXE_wayfare"));
        home.run_by(WITHOUT_NET_ADMIN).fails(
            &["up"],
            Kind::Privilege,
            &["CAP_NET_ADMIN"],
            &["sudo wayfare up"],
        );
        assert!(!home.path("state").exists(), "told before anything is made");
        let ran = home.run(&["doctor"]);
        assert!(
            ran.out.contains("FAIL privileges") && ran.out.contains("as root"),
            "{}",
            ran.out
        );
        untouched();
    });
}

#[test]
fn without_a_deposit_there_is_no_session_and_a_way_to_top_up() {
    in_new_namespace(|| {
        let scene = Scene::new();
        scene.home.fails(
            &["up"],
            Kind::Money,
            &["leaves 0 to spend", "the first chunk costs"],
            &["wayfare topup", "nothing was spent"],
        );
        // One unit less than a mebibyte's price.
        let chunk = ONE / 1_024;
        scene.fund(chunk - 1);
        scene.home.fails(
            &["up", "--once"],
            Kind::Money,
            &[&(chunk - 1).to_string()],
            &["wayfare topup"],
        );
        assert_eq!(
            scene.world.deposit(scene.identity, scene.hermes),
            Amount::from_units(chunk - 1)
        );
        untouched();
    });
}

#[test]
fn when_no_offer_fits_it_says_so() {
    in_new_namespace(|| {
        let scene = Scene::new();
        let fails = |args: &[&str]| {
            scene.home.fails(
                args,
                Kind::Unreachable,
                &["no proposal fits"],
                &["proposals"],
            );
        };
        fails(&["up", "--country", "DE"]);
        fails(&["up", "--max-price", "1"]);
        let nobody = Address::repeat_byte(1).to_string();
        fails(&["up", "--provider", &nobody]);
        untouched();
    });
}

#[test]
fn what_others_hold_is_left_to_them() {
    in_new_namespace(|| {
        let scene = Scene::new();
        scene.fund(ONE);
        ip("link add taken0 type veth peer name taken1");
        scene.home.fails(
            &["--set", "device=taken0", "up"],
            Kind::Busy,
            &["taken0", "taken by another program"],
            &["`device`"],
        );
        ip("link del taken0");
        scene.home.fails(
            &["--set", "device=a/b", "up"],
            Kind::Usage,
            &["a/b"],
            &["`device`"],
        );
        let held = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let listen = format!("listen={}", held.local_addr().unwrap());
        scene.home.fails(
            &["--set", &listen, "up"],
            Kind::Busy,
            &["already in use"],
            &["`listen`"],
        );
        scene.home.fails(
            &["--set", "listen=192.0.2.1:0", "up"],
            Kind::Usage,
            &["192.0.2.1 is not an address of this computer"],
            &["`listen`"],
        );
        let account = scene.home.json(&["account"]);
        assert_eq!(account["promised"], "0", "{account}");
        untouched();
    });
}
