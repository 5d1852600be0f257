//! What `wayfare-provider` says when something is wrong. `run` needs root.

#![allow(clippy::unwrap_used)]

#[path = "../../../crates/cli/tests/binary/everywhere.rs"]
mod everywhere;
#[path = "../../../crates/cli/tests/binary/ledgers.rs"]
mod ledgers;
#[path = "../../../crates/cli/tests/binary/support.rs"]
mod support;
#[path = "../../../crates/cli/tests/binary/world.rs"]
mod world;

use std::path::Path;

use wayfare_cli::Kind;

use crate::support::Home;

const PROGRAM: &str = env!("CARGO_BIN_EXE_wayfare-provider");
const OPENS: &[&str] = &["run"];
const READS: &[&str] = &["run"];

fn home() -> Home {
    let mut home = Home::new(PROGRAM);
    home.set("advertise", "192.0.2.7:51820")
        .set("country", "NL")
        .set("device", "wf-never");
    home
}

fn open_ledger(folder: &Path) -> impl Sized + use<> {
    wayfare_node::open_ledger(folder).unwrap()
}

#[test]
fn an_offer_that_cannot_work_is_told() {
    let mut home = home();
    home.identity();
    home.unset("advertise").fails(
        &["run"],
        Kind::Usage,
        &["neither advertise nor relays is set"],
        &["--set advertise="],
    );
    home.set("advertise", "192.0.2.7, 192.0.2.8:1").fails(
        &["run"],
        Kind::Usage,
        &["advertise = \"192.0.2.7\""],
        &["addresses with port"],
    );
    home.set("advertise", "192.0.2.7:51820");
    for (key, value) in [
        ("price_per_gib", "cheap"),
        ("price_per_hour", "-1"),
        ("pool_v4", "10.0.0.0/33"),
        ("pool_v6", "10.0.0.0/8"),
        ("allow", "10.0.0.0/8,here"),
        ("max_sessions", "many"),
        ("session_mbps", "fast"),
        ("total_mbps", "-1"),
        ("settle_threshold", "1.5"),
        ("settle_automatically", "maybe"),
        ("settle_hours", "x"),
        ("beneficiary", "me"),
        ("listen", "51820"),
    ] {
        let set = format!("{key}={value}");
        home.fails(
            &["--set", &set, "run"],
            Kind::Usage,
            &[key, "(from flag)"],
            &["expected: "],
        );
    }
}

#[test]
fn a_relay_that_could_not_be_paid_does_not_begin() {
    let mut home = home();
    home.identity();
    home.set("listen", "127.0.0.1:0");
    let fails = |home: &Home, kind, cause: &[&str], next: &[&str]| {
        home.fails(&["relay"], kind, cause, next);
    };
    home.set("relay_price_per_gib", "dear");
    let cause = ["relay_price_per_gib = \"dear\""];
    fails(&home, Kind::Usage, &cause, &["0: it carries for nothing"]);
    home.set("relay_price_per_gib", "5").unset("vault");
    fails(&home, Kind::Usage, &["vault is not set"], &["--set vault="]);
    let somebody = "0x00000000000000000000000000000000000000aa";
    home.set("vault", somebody).set("hermes", somebody);
    home.set("rpc", world::nowhere());
    fails(&home, Kind::Unreachable, &["chain"], &["set `rpc`"]);
    // Its ledger is the one of a provider that runs here.
    let _held = open_ledger(&home.path("state/ledger"));
    let cause = ["in use by another process", "state/ledger"];
    fails(&home, Kind::Busy, &cause, &["state_dir"]);
}

#[test]
fn a_provider_that_is_not_running_cannot_be_asked() {
    let home = home();
    for command in ["sessions", "earnings", "settle", "drain"] {
        home.fails(
            &[command],
            Kind::Unreachable,
            &["no provider is running here"],
            &["wayfare-provider run"],
        );
    }
}

#[test]
fn a_doctor_names_what_is_dead() {
    let mut home = home();
    home.identity();
    home.set("hermes_url", world::nowhere())
        .set("index_url", world::nowhere());
    home.fails(&["doctor"], Kind::Other, &["checks failed"], &["FAIL"]);
    let ran = home.run(&["doctor"]);
    for what in ["chain", "Hermes", "index"] {
        let found = ran.out.lines().find(|line| {
            line.strip_prefix("FAIL ")
                .is_some_and(|rest| rest.starts_with(what))
        });
        let line = found.unwrap_or_else(|| panic!("no {what}: {}", ran.out));
        assert!(line.contains("check "), "{line}");
    }
}
