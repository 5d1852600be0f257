//! What `wayfare` says when something is wrong, and that nobody's money moves then. Needs no privilege.

#![allow(clippy::unwrap_used)]

#[path = "../../../crates/cli/tests/binary/everywhere.rs"]
mod everywhere;
#[path = "../../../crates/cli/tests/binary/ledgers.rs"]
mod ledgers;
#[path = "../../../crates/cli/tests/binary/services.rs"]
mod services;
#[path = "../../../crates/cli/tests/binary/support.rs"]
mod support;
#[path = "../../../crates/cli/tests/binary/world.rs"]
mod world;

use std::path::Path;

use wayfare_cli::Kind;
use wayfare_identity::Address;
use wayfare_payment::Amount;

use crate::services::{LiveIndex, proposal, register};
use crate::support::Home;
use crate::world::{ONE, World, nowhere};

const PROGRAM: &str = env!("CARGO_BIN_EXE_wayfare");
const OPENS: &[&str] = &["account"];
const READS: &[&str] = &["account"];

fn home() -> Home {
    Home::new(PROGRAM)
}

fn open_ledger(folder: &Path) -> impl Sized + use<> {
    wayfare_node::open_ledger(folder).unwrap()
}

/// A consumer of a live chain and a registered Hermes.
fn consumer(world: &World) -> (Home, Address, Address) {
    let mut home = home();
    let hermes = world.hermes();
    home.set("rpc", &world.rpc)
        .set("vault", world.vault)
        .set("hermes", hermes)
        .set("hermes_url", nowhere())
        .set("index_url", nowhere());
    let identity = home.identity();
    (home, identity, hermes)
}

#[test]
fn a_country_that_is_none_is_told_before_anything_else() {
    // There is no identity and no chain: the command line is looked at first.
    for command in ["proposals", "up"] {
        home().fails(
            &[command, "--country", "nl"],
            Kind::Usage,
            &["--country \"nl\"", "ISO 3166"],
            &["--country NL"],
        );
    }
    for args in [
        &["proposals", "--provider", "me"][..],
        &["up", "--max-price", "cheap"],
    ] {
        let ran = home().run(args);
        assert_eq!(ran.code, Some(Kind::Usage as i32), "{}", ran.err);
        assert!(ran.err.contains(args[1]), "{}", ran.err);
    }
}

#[test]
fn an_index_that_is_dead_empty_or_nonsense_is_told() {
    let world = World::new();
    let (mut home, _, hermes) = consumer(&world);
    let dead = nowhere();
    home.set("index_url", &dead).fails(
        &["proposals"],
        Kind::Unreachable,
        &["the proposal index", &dead, "Connection refused"],
        &["`index_url`"],
    );
    home.set("index_url", world.nonsense()).fails(
        &["proposals"],
        Kind::Unreachable,
        &["the proposal index"],
        &["`index_url`"],
    );
    home.set("index_url", "index.example:7401").fails(
        &["proposals"],
        Kind::Usage,
        &["index.example:7401", "http://host:port"],
        &["`index_url`"],
    );
    let index = LiveIndex::new(&world);
    home.set("index_url", &index.url);
    assert!(home.succeeds(&["proposals"]).contains("no offer fits"));
    // Of another Hermes: nothing that this consumer could pay.
    let contact = "127.0.0.1:9".parse().unwrap();
    let foreign = proposal(&world, Address::repeat_byte(5), contact);
    register(&world, &index.url, &foreign);
    assert!(home.succeeds(&["proposals"]).contains("no offer fits"));
    register(&world, &index.url, &proposal(&world, hermes, contact));
    assert_eq!(
        home.json(&["proposals", "--country", "NL"])["proposals"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert!(
        home.succeeds(&["proposals", "--country", "DE"])
            .contains("no offer fits")
    );
}

#[test]
fn a_doctor_names_what_is_dead_and_what_to_do() {
    let world = World::new();
    let (home, identity, _) = consumer(&world);
    home.fails(&["doctor"], Kind::Other, &["checks failed"], &["FAIL"]);
    let ran = home.run(&["doctor"]);
    let line = |what: &str| {
        let found = ran.out.lines().find(|line| line[5..].starts_with(what));
        found
            .unwrap_or_else(|| panic!("no {what}: {}", ran.out))
            .to_owned()
    };
    assert!(line("keys, ledger and chain").starts_with("ok"));
    for (what, word) in [
        ("deposit", "wayfare topup"),
        ("Hermes", "Connection refused"),
        ("index", "Connection refused"),
    ] {
        let line = line(what);
        assert!(line.starts_with("FAIL") && line.contains(word), "{line}");
    }
    assert!(!ran.out.contains(&identity.to_string()));
}

#[test]
fn no_gas_is_money_and_leaves_the_deposit_alone() {
    let world = World::new();
    let (home, identity, hermes) = consumer(&world);
    let address = world.rich.deposit_address(identity, hermes);
    world.give_tokens(address, 7 * ONE);
    home.fails(
        &["exit"],
        Kind::Money,
        &["native coin", &identity.to_string()],
        &["send native coin"],
    );
    assert_eq!(world.deposit(identity, hermes), Amount::from_units(7 * ONE));
}

#[test]
fn an_exit_that_is_not_due_moves_nothing() {
    let world = World::new();
    let (home, identity, hermes) = consumer(&world);
    let address = world.rich.deposit_address(identity, hermes);
    world.give_tokens(address, 7 * ONE);
    world.give_coin(identity);
    let deposit = Amount::from_units(7 * ONE);
    let finalize = ["exit", "--finalize"];
    home.fails(
        &finalize,
        Kind::Refused,
        &["the vault refused", "nothing was requested"],
        &["nothing was moved"],
    );
    assert_eq!(world.deposit(identity, hermes), deposit);
    let due = home.json(&["exit"])["exit_at"].as_u64().unwrap();
    home.fails(
        &finalize,
        Kind::Refused,
        &["too early", &due.to_string()],
        &["nothing was moved"],
    );
    assert_eq!(world.deposit(identity, hermes), deposit);
    assert_eq!(world.tokens_of(identity), Amount::ZERO);
    let ran = home.run(&["exit", "--to", "0x01"]);
    assert_eq!(ran.code, Some(Kind::Usage as i32), "{}", ran.err);
    // Asked for twice: the first one stands.
    home.run(&["exit"]);
    let account = home.json(&["account"]);
    assert_eq!(account["exit_at"].as_u64(), Some(due));
}

#[test]
fn a_session_that_is_not_running_cannot_be_ended_or_shown() {
    let home = home();
    for command in ["down", "sessions"] {
        home.fails(
            &[command],
            Kind::Unreachable,
            &["no session is running here"],
            &["wayfare up"],
        );
    }
}

#[test]
fn a_topup_waits_for_nothing_when_nothing_is_asked_for() {
    let world = World::new();
    let (home, identity, hermes) = consumer(&world);
    let address = world.rich.deposit_address(identity, hermes);
    let told = home.succeeds(&["topup"]);
    assert!(
        told.contains(&address.to_string()) && told.contains("spendable now: 0"),
        "{told}"
    );
    let ran = home.run(&["topup", "--wait", "some"]);
    assert_eq!(ran.code, Some(Kind::Usage as i32), "{}", ran.err);
    assert!(ran.err.contains("some"), "{}", ran.err);
    let mut waiting = home.start(&["topup", "--wait", "1"]);
    waiting.says(&["waiting for 1 at", &address.to_string()]);
    world.give_tokens(address, ONE);
    waiting.says(&["spendable", &ONE.to_string()]);
}
