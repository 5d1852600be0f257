//! What `wayfare-hermes` says when something is wrong, and that no money moves and no promise is lost then. Needs no privilege.

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

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;

use wayfare_api::discovery::IndexClient;
use wayfare_cli::Kind;
use wayfare_hermes::{HermesClient, RocksLedger};
use wayfare_identity::Address;
use wayfare_payment::Amount;

use crate::support::{Daemon, Home};
use crate::world::{ONE, World};

const PROGRAM: &str = env!("CARGO_BIN_EXE_wayfare-hermes");
const OPENS: &[&str] = &["--set", "listen=127.0.0.1:0", "run"];
const READS: &[&str] = &["check"];

fn home() -> Home {
    Home::new(PROGRAM)
}

fn open_ledger(folder: &Path) -> impl Sized + use<> {
    RocksLedger::open(folder, Default::default()).unwrap()
}

/// An operator with gas on a live chain, not registered yet.
fn operator(world: &World) -> (Home, Address) {
    let mut home = home();
    home.set("rpc", &world.rpc)
        .set("vault", world.vault)
        .set("listen", "127.0.0.1:0")
        .set("index_listen", "127.0.0.1:0");
    let identity = home.identity();
    world.give_coin(identity);
    (home, identity)
}

/// A registered Hermes.
fn registered(world: &World) -> Home {
    let (mut home, _) = operator(world);
    let made = home.json(&["init"]);
    home.set("hermes", made["hermes"].as_str().unwrap());
    home
}

fn address_of(daemon: &mut Daemon) -> String {
    let running: serde_json::Value =
        serde_json::from_str(&daemon.says(&["\"event\":\"running\""])).unwrap();
    running["listen"].as_str().unwrap().to_owned()
}

#[test]
fn a_registration_without_gas_tokens_or_sense_is_refused_and_moves_nothing() {
    let world = World::new();
    let mut poor = home();
    poor.set("rpc", &world.rpc).set("vault", world.vault);
    let identity = poor.identity();
    poor.fails(
        &["init"],
        Kind::Money,
        &["native coin", &identity.to_string()],
        &["send native coin to", &identity.to_string()],
    );

    let (home, identity) = operator(&world);
    home.fails(
        &["--set", "fee_basis_points=9999", "init"],
        Kind::Refused,
        &["9999/10000", "the most"],
        &["nothing was moved"],
    );
    home.fails(
        &["--set", "fee_basis_points=70000", "init"],
        Kind::Usage,
        &["fee_basis_points = \"70000\""],
        &["expected: "],
    );
    world.give_tokens(identity, ONE);
    let wanted = (2 * ONE).to_string();
    home.fails(
        &["init", "--collateral", &wanted],
        Kind::Refused,
        &["tokens and needs", &wanted],
        &["nothing was moved"],
    );
    assert_eq!(world.tokens_of(identity), Amount::from_units(ONE));
    assert_eq!(world.tokens_of(world.vault), Amount::ZERO);
    // With the tokens it works, and is the same Hermes.
    let made = home.json(&["init", "--collateral", &ONE.to_string()]);
    let operator: Address = made["operator"].as_str().unwrap().parse().unwrap();
    assert_eq!(operator, identity);
    assert_eq!(world.tokens_of(world.vault), Amount::from_units(ONE));
}

#[test]
fn the_key_must_be_the_registered_operators() {
    let world = World::new();
    let (mut home, _) = operator(&world);
    home.set("hermes", world.hermes());
    home.fails(
        &["run"],
        Kind::Usage,
        &["as operator of Hermes", "the key at hand is"],
        &["`identity`"],
    );
}

#[test]
fn a_port_in_use_is_told() {
    let home = home();
    home.identity();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    for (command, key) in [("run", "listen"), ("index", "index_listen")] {
        let fails = |address: &str, kind, cause: &str| {
            let set = format!("{key}={address}");
            let flag = format!("--set {key}=");
            home.fails(&["--set", &set, command], kind, &[cause, address], &[&flag]);
        };
        fails(&address, Kind::Busy, "cannot listen on");
        fails("192.0.2.1:7400", Kind::Usage, "cannot listen on");
    }
}

#[test]
fn a_hermes_that_is_not_running_cannot_be_asked() {
    let home = home();
    for command in ["collect", "drain"] {
        home.fails(
            &[command],
            Kind::Unreachable,
            &["no Hermes is running here"],
            &["wayfare-hermes run"],
        );
    }
}

#[test]
fn a_ledger_that_is_not_there_is_not_proved_and_backups_overwrite_nothing() {
    let world = World::new();
    let home = registered(&world);
    let backup = home.path("backup");
    let to = backup.to_str().unwrap();
    home.fails(
        &["check"],
        Kind::Storage,
        &["there is no ledger in"],
        &["state_dir"],
    );
    home.fails(
        &["backup", to],
        Kind::Storage,
        &["there is no ledger in"],
        &["state_dir"],
    );
    home.fails(
        &["restore", to],
        Kind::Storage,
        &["no backup is here"],
        &["restore"],
    );
    drop(open_ledger(&home.path("state/ledger")));
    home.fails(
        &["restore", to],
        Kind::Busy,
        &["a ledger is already in"],
        &["move it away"],
    );
    home.succeeds(&["backup", to]);
    home.fails(
        &["backup", to],
        Kind::Busy,
        &["is already there"],
        &["nothing was written"],
    );
    home.fails(
        &["backup", "/nowhere/at/all"],
        Kind::Storage,
        &["/nowhere/at/all"],
        &["parent directory"],
    );
    home.succeeds(&["check"]);
    std::fs::rename(home.path("state/ledger"), home.path("gone")).unwrap();
    home.succeeds(&["restore", to]);
    home.succeeds(&["check"]);
    let manifest = std::fs::read_dir(&backup).unwrap().flatten();
    let manifest = manifest.map(|entry| entry.path()).find(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST"))
    });
    std::fs::write(manifest.unwrap(), "scratched").unwrap();
    std::fs::rename(home.path("state/ledger"), home.path("gone too")).unwrap();
    home.fails(
        &["restore", to],
        Kind::Storage,
        &["the ledger is damaged"],
        &["backup"],
    );
    assert!(
        !home.path("state/ledger").exists(),
        "a damaged copy is not put in place"
    );
}

#[test]
fn a_running_hermes_holds_its_ledger_and_shrugs_off_junk() {
    let world = World::new();
    let home = registered(&world);
    // Left by a crash: replaced.
    std::fs::create_dir_all(home.path("state")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(home.path("state/control.sock")).unwrap());
    let mut daemon = home.start(&["run"]);
    let address = address_of(&mut daemon);
    home.fails(
        &["check"],
        Kind::Busy,
        &["the Hermes is running"],
        &["stop it"],
    );
    let backup = home.path("backup");
    home.fails(
        &["backup", backup.to_str().unwrap()],
        Kind::Busy,
        &["in use by another process"],
        &["stop the other"],
    );
    home.fails(
        &["run"],
        Kind::Busy,
        &["in use by another process"],
        &["state_dir"],
    );
    junk(&address);

    let described = world.runtime.block_on(async {
        let client = HermesClient::connect(&format!("http://{address}")).unwrap();
        client.describe().await.unwrap()
    });
    let status = home.json(&["status"]);
    let hermes: Address = status["hermes"].as_str().unwrap().parse().unwrap();
    assert_eq!(hermes, described.terms.hermes);
    assert_eq!(status["promised"], "0");
    assert!(
        home.succeeds(&["collect"])
            .contains("no consumer owes anything")
    );
    daemon.stops();
    home.succeeds(&["check"]);
}

#[test]
fn a_control_socket_that_cannot_be_made_is_told_at_once() {
    let world = World::new();
    let home = registered(&world);
    home.write("state/control.sock", "no socket");
    let mut daemon = home.start(&["run"]);
    daemon.says(&["do not work", "is no socket", "control.sock"]);
    daemon.stops();
}

#[test]
fn an_index_takes_no_malformed_foreign_or_stale_offer() {
    let world = World::new();
    let hermes = world.hermes();
    let mut home = home();
    home.set("index_listen", "127.0.0.1:0");
    let mut daemon = home.start(&["index"]);
    let address = address_of(&mut daemon);
    junk(&address);

    let good = services::proposal(&world, hermes, "127.0.0.1:9".parse().unwrap());
    let mut stolen = good.clone();
    stolen.offer.location.country = "DE".parse().unwrap();
    let stale = services::expired(&world, hermes, "127.0.0.1:9".parse().unwrap());
    world.runtime.block_on(async {
        let client = IndexClient::connect(&format!("http://{address}")).unwrap();
        for (bad, why) in [(stolen, "sign"), (stale, "expired")] {
            let refused = client.register(&bad).await.unwrap_err();
            assert!(refused.refusal().is_some(), "{refused}");
            assert!(refused.to_string().contains(why), "{refused}");
        }
        assert_eq!(client.describe().await.unwrap(), 0);
        client.register(&good).await.unwrap();
        assert_eq!(client.describe().await.unwrap(), 1);
    });
    daemon.stops();
}

/// Bytes that are no RPC: nothing, noise, another protocol, and half a conversation.
fn junk(address: &str) {
    let noise: Vec<u8> = (0..100_000_u32)
        .map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let frame = [&preface[..], &[0xff; 4_096]].concat();
    let plain: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    for bytes in [&[][..], &noise, plain, &frame, &preface[..7]] {
        let mut stream = TcpStream::connect(address).unwrap();
        // The other side may hang up in the middle, and then every call fails.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
}
