//! Bad input that every binary meets alike: settings, keys, chain, control socket, arguments (for the ledger see `ledgers`).
//!
//! Including test files say who they are: `PROGRAM`, `home()`, the command that needs keys and chain (`OPENS`), and the one that
//! needs keys and ledger (`READS`).

use std::path::Path;

use wayfare_cli::Kind;

use crate::support::Home;
use crate::world::{World, nowhere};
use crate::{OPENS, READS, home};

/// A home with an identity.
pub(crate) fn inhabited() -> Home {
    let home = home();
    home.identity();
    home
}

// ------------------------------------------------------------------------------------------------------ settings

#[test]
fn an_unknown_setting_is_told_wherever_it_is() {
    let mut home = home();
    let meant = ["did you mean", "vault"];
    home.fails(
        &["--set", "valut=0x0", "config", "show"],
        Kind::Usage,
        &["unknown setting \"valut\"", "--set"],
        &meant,
    );
    home.variable("WAYFARE_VALUT", "0x0");
    let cause = ["unknown setting \"valut\"", "WAYFARE_VALUT"];
    let next = ["did you mean WAYFARE_VAULT", "unset"];
    home.fails(&["config", "show"], Kind::Usage, &cause, &next);

    let mut home = crate::home();
    home.variable("WAYFARE_OF_ANOTHER_PROGRAM", "x")
        .succeeds(&["config", "show"]);
    home.set("valut", "0x0");
    let cause = ["unknown setting \"valut\"", "config.toml"];
    home.fails(&["config", "show"], Kind::Usage, &cause, &meant);
}

#[test]
fn a_file_that_is_no_configuration_is_named() {
    let home = home();
    let fails = |text: Option<&str>, kind, cause: &str, next: &str| {
        if let Some(text) = text {
            home.write("other.toml", text);
        }
        let path = home.path("other.toml");
        let path = path.to_str().unwrap();
        home.fails(
            &["--config", path, "config", "show"],
            kind,
            &[path, cause],
            &[next],
        );
    };
    fails(None, Kind::Storage, "No such file", "--config");
    fails(Some("vault: x"), Kind::Usage, "is not TOML", "config show");
    fails(
        Some("vault = 'a'\nvault = 'b'"),
        Kind::Usage,
        "duplicate key",
        "config show",
    );
    fails(
        Some("chain_id = 1.5"),
        Kind::Usage,
        "chain_id",
        "config show",
    );
    fails(Some("[rpc]\nurl = 'x'"), Kind::Usage, "rpc", "config show");
    fails(
        Some("rpc = [['x', 2020-01-01]]"),
        Kind::Usage,
        "rpc",
        "config show",
    );
}

#[test]
fn a_value_that_does_not_parse_is_told_with_its_origin() {
    let mut home = inhabited();
    let fails = |home: &Home, key: &str, origin: &str| {
        home.fails(OPENS, Kind::Usage, &[key, origin], &["expected: "]);
    };
    home.set("vault", "0x12");
    fails(&home, "vault = \"0x12\"", "(from file ");
    home.set("vault", "0x1111111111111111111111111111111111111111");
    home.variable("WAYFARE_CHAIN_ID", "-1");
    fails(
        &home,
        "chain_id = \"-1\"",
        "(from environment WAYFARE_CHAIN_ID)",
    );
    let args = [&["--set", "hermes=nobody"], OPENS].concat();
    home.variable("WAYFARE_CHAIN_ID", "31337").fails(
        &args,
        Kind::Usage,
        &["hermes = \"nobody\"", "(from flag)"],
        &["expected: "],
    );
    home.fails(
        &["--set", "vault", "config", "show"],
        Kind::Usage,
        &["key=value"],
        &["--set"],
    );
    home.fails(
        &["--log", "wayfare=loud", "config", "show"],
        Kind::Usage,
        &["wayfare=loud"],
        &["debug"],
    );
}

#[test]
fn a_setting_that_is_missing_is_told_with_the_ways_to_give_it() {
    for key in ["vault", "hermes"] {
        let mut home = inhabited();
        home.unset(key);
        let (flag, variable) = (
            format!("--set {key}=…"),
            format!("WAYFARE_{}", key.to_uppercase()),
        );
        home.fails(
            OPENS,
            Kind::Usage,
            &[&format!("{key} is not set")],
            &[&flag, &variable],
        );
    }
}

#[test]
fn settings_are_shown_with_their_origins() {
    let mut home = home();
    home.variable("WAYFARE_CHAIN_ID", "5");
    let shown = home.succeeds(&["--set", "rpc=http://x", "config", "show", "--origin"]);
    let line = |key: &str| {
        let found = shown
            .lines()
            .find(|line| line.split(' ').next() == Some(key));
        found.unwrap_or_else(|| panic!("no {key}: {shown}"))
    };
    assert!(line("rpc").contains("\"http://x\"") && line("rpc").contains("# flag"));
    assert!(line("chain_id").contains("environment WAYFARE_CHAIN_ID"));
    assert!(line("vault").contains("# file ") && line("vault").contains("config.toml"));
    assert!(line("identity").contains("(not set)"));
    assert!(line("listen").contains("# preset"));

    let rows = home.json(&["config", "show", "--origin"]);
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), shown.lines().count());
    let row = rows.iter().find(|row| row["key"] == "chain_id").unwrap();
    assert_eq!(
        (&row["value"], &row["origin"]),
        (&"5".into(), &"environment WAYFARE_CHAIN_ID".into())
    );
}

// ---------------------------------------------------------------------------------------------------------- keys

#[test]
fn without_an_identity_or_a_passphrase_nothing_begins() {
    let mut home = home();
    home.fails(READS, Kind::Storage, &["no identity in"], &["identity new"]);
    home.set("passphrase_file", home.path("nothing").display());
    home.fails(
        &["identity", "new"],
        Kind::Storage,
        &["passphrase file", "nothing", "No such file"],
        &["passphrase_file"],
    );
    home.write("nothing", "\n");
    home.fails(
        &["identity", "new"],
        Kind::Storage,
        &["the passphrase is empty"],
        &["passphrase_file", "WAYFARE_PASSPHRASE"],
    );
    // Nobody types: standard input is empty.
    home.unset("passphrase_file").fails(
        &["identity", "new"],
        Kind::Storage,
        &["the passphrase is empty"],
        &["WAYFARE_PASSPHRASE"],
    );
    home.variable("WAYFARE_PASSPHRASE", "correct horse")
        .identity();
}

#[test]
fn a_wrong_passphrase_and_a_damaged_keystore_are_told_apart_from_no_identity() {
    let home = inhabited();
    let keystore = home.keystore_file();
    let name = keystore.file_name().unwrap().to_str().unwrap();
    home.write("passphrase", "wrong horse\n");
    home.fails(
        READS,
        Kind::Storage,
        &["wrong passphrase", name],
        &["passphrase_file"],
    );
    home.write("passphrase", "correct horse\n");

    let whole = std::fs::read_to_string(&keystore).unwrap();
    std::fs::write(&keystore, &whole[..whole.len() / 2]).unwrap();
    home.fails(
        READS,
        Kind::Storage,
        &["is damaged", name],
        &["identity import"],
    );
    let edited = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut value = serde_json::from_str(&whole).unwrap();
        edit(&mut value);
        std::fs::write(&keystore, value.to_string()).unwrap();
    };
    edited(&|file| file["version"] = 1.into());
    home.fails(
        READS,
        Kind::Storage,
        &["is damaged", "version"],
        &["identity import"],
    );
    // One flipped digit of the ciphertext: the checksum finds it, and cannot tell it from a wrong passphrase.
    edited(&|file| {
        let text = &mut file["crypto"]["ciphertext"];
        let other = match &text.as_str().unwrap()[..1] {
            "0" => "1",
            _ => "0",
        };
        *text = format!("{other}{}", &text.as_str().unwrap()[1..]).into();
    });
    home.fails(
        READS,
        Kind::Storage,
        &["damaged keystore file"],
        &["passphrase", "copy"],
    );
}

#[test]
fn identities_are_never_overwritten_and_never_guessed() {
    let mut home = inhabited();
    let first = home.keystore_file();
    let copy = home.path("copy.json");
    std::fs::copy(&first, &copy).unwrap();
    home.fails(
        &["identity", "import", copy.to_str().unwrap()],
        Kind::Busy,
        &["is already in"],
        &["nothing was written"],
    );
    home.fails(
        &["identity", "export", copy.to_str().unwrap()],
        Kind::Busy,
        &["is already there", "copy.json"],
        &["another name"],
    );
    home.fails(
        &["identity", "import", "/nowhere/key.json"],
        Kind::Storage,
        &["/nowhere/key.json", "No such file"],
        &["name"],
    );
    home.write("junk.json", "junk");
    let junk = home.path("junk.json");
    home.fails(
        &["identity", "import", junk.to_str().unwrap()],
        Kind::Storage,
        &["junk.json", "not a version 3 keystore"],
        &["Web3 keystore"],
    );
    home.identity();
    home.fails(
        READS,
        Kind::Usage,
        &["2 identities in"],
        &["--set identity="],
    );
    home.set("identity", wayfare_identity::Address::repeat_byte(9));
    home.fails(
        READS,
        Kind::Storage,
        &["no identity 0x0909"],
        &["identity list"],
    );
    assert_eq!(
        std::fs::read(&first).unwrap(),
        std::fs::read(&copy).unwrap(),
        "untouched"
    );
}

// --------------------------------------------------------------------------------------------------------- chain

#[test]
fn a_chain_that_does_not_answer_is_told() {
    let mut home = inhabited();
    let next = ["`rpc`"];
    let dead = nowhere();
    home.set("rpc", &dead);
    home.fails(OPENS, Kind::Unreachable, &["does not answer", &dead], &next);
    home.set("rpc", "not an address");
    home.fails(OPENS, Kind::Unreachable, &["not an address"], &next);
    let world = World::new();
    home.set("rpc", world.nonsense());
    home.fails(OPENS, Kind::Unreachable, &["RPC server"], &next);
}

#[test]
fn another_chain_vault_or_hermes_is_told() {
    let world = World::new();
    let mut home = inhabited();
    home.set("rpc", &world.rpc);
    home.fails(
        OPENS,
        Kind::Usage,
        &["there is no vault at 0x1111"],
        &["`vault`"],
    );
    home.set("vault", world.token);
    home.fails(OPENS, Kind::Usage, &["there is no vault at"], &["`vault`"]);
    home.set("vault", world.vault);
    home.fails(
        OPENS,
        Kind::Usage,
        &["is not a registered Hermes", "0x2222"],
        &["wayfare-hermes init"],
    );
    home.set("chain_id", 1);
    home.fails(
        OPENS,
        Kind::Usage,
        &["chain 31337", "expected chain 1"],
        &["`chain_id`"],
    );
}

// ------------------------------------------------------------------------------------------------ control socket

#[test]
fn without_a_daemon_its_commands_say_so() {
    let home = home();
    let absent = || {
        home.fails(
            &["status"],
            Kind::Unreachable,
            &["running here", "control.sock"],
            &["start", "state_dir"],
        );
    };
    absent();
    // A socket that a crash left: nobody listens.
    std::fs::create_dir_all(home.path("state")).unwrap();
    let stale = std::os::unix::net::UnixListener::bind(home.path("state/control.sock")).unwrap();
    drop(stale);
    absent();
    std::fs::remove_file(home.path("state/control.sock")).unwrap();
    home.write("state/control.sock", "no socket");
    absent();
}

// ----------------------------------------------------------------------------------------------------- arguments

#[test]
fn arguments_that_are_not_understood_are_told_as_json_too() {
    let home = home();
    let check = |args: &[&str], cause: &str| {
        let ran = home.run(args);
        assert_eq!(ran.code, Some(Kind::Usage as i32), "{}", ran.err);
        assert!(
            ran.err.contains("error: ") && ran.err.contains(cause),
            "{}",
            ran.err
        );
        assert!(ran.err.contains("--help"), "{}", ran.err);
        let ran = home.run(&[args, &["--json"]].concat());
        assert_eq!(ran.code, Some(Kind::Usage as i32), "{}", ran.err);
        let object: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
        assert_eq!(object["kind"], "usage");
        assert!(
            object["error"].as_str().unwrap().contains(cause),
            "{object}"
        );
        assert!(
            object["next"].as_str().unwrap().contains("--help"),
            "{object}"
        );
    };
    check(&["fly"], "fly");
    check(&["status", "--fast"], "--fast");
    check(&["--set"], "--set");
}

#[test]
fn help_teaches_and_completions_and_the_manual_are_written() {
    let home = home();
    for help in [&["--help"][..], &["help"]] {
        let help = home.succeeds(help);
        for word in [
            "Examples:",
            "Usage:",
            "identity",
            "config show --origin",
            "--json",
        ] {
            assert!(help.contains(word), "no {word}: {help}");
        }
    }
    assert!(home.succeeds(&["--version"]).contains("0."));
    let name = Path::new(crate::PROGRAM).file_name().unwrap();
    let name = name.to_str().unwrap();
    for (what, word) in [
        ("bash", "complete"),
        ("zsh", "#compdef"),
        ("fish", "complete -c"),
        ("man", ".TH"),
    ] {
        let text = home.succeeds(&["generate", what]);
        assert!(
            text.len() > 500 && text.contains(word) && text.contains(name),
            "{what}: {text}"
        );
    }
}
