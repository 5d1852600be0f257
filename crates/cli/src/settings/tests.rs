//! The layers of the settings, and what is refused in each.

#![allow(clippy::unwrap_used)]
use super::*;

const TABLE: &[Setting] = &[
    Setting {
        key: "listen",
        preset: Some("0.0.0.0:0"),
        help: "where to listen",
    },
    Setting {
        key: "vault",
        preset: None,
        help: "address of the vault",
    },
    Setting {
        key: "index",
        preset: None,
        help: "index servers",
    },
];

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn flag_beats_environment_beats_file_beats_preset() {
    let file = file("listen = \"file\"\nvault = \"file\"\nindex = [\"a\", \"b\"]");
    let environment = |name: &str| (name == "WAYFARE_VAULT").then(|| "environment".to_owned());
    let settings = Settings::load(
        TABLE,
        Some(file.path()),
        environment,
        &["vault=flag".into()],
    )
    .unwrap();
    assert_eq!(settings.find("vault"), Some("flag"));
    assert_eq!(settings.find("listen"), Some("file"));
    assert_eq!(settings.list::<String>("index").unwrap(), ["a", "b"]);
    let settings = Settings::load(TABLE, Some(file.path()), environment, &[]).unwrap();
    assert_eq!(settings.find("vault"), Some("environment"));
    assert_eq!(
        settings.rows()[1].origin.clone().unwrap(),
        Origin::Environment("WAYFARE_VAULT".into())
    );
    let settings = Settings::load(TABLE, None, |_| None, &[]).unwrap();
    assert_eq!(settings.find("listen"), Some("0.0.0.0:0"));
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let file = file("litsen = \"x\"");
    let failure = Settings::load(TABLE, Some(file.path()), |_| None, &[]).unwrap_err();
    assert_eq!(failure.kind, Kind::Usage);
    assert!(
        failure.to_string().contains("litsen") && failure.to_string().contains("\"listen\""),
        "{failure}"
    );
}

#[test]
fn a_variable_that_is_nearly_a_key_is_refused_and_a_foreign_one_is_not() {
    let check = |name: &str| Settings::refuse_misspelled(TABLE, [name.to_owned()]);
    let failure = check("WAYFARE_VALUT").unwrap_err();
    assert_eq!(failure.kind, Kind::Usage);
    assert!(failure.to_string().contains("WAYFARE_VAULT"), "{failure}");
    for innocent in ["WAYFARE_VAULT", "WAYFARE_LOG", "WAYFARE_LAB", "VALUT"] {
        check(innocent).unwrap();
    }
}

#[test]
fn a_missing_or_broken_value_says_how_to_give_it() {
    let settings = Settings::load(TABLE, None, |_| None, &["index=1,x".into()]).unwrap();
    let failure = settings.need::<u16>("vault").unwrap_err().to_string();
    assert!(
        failure.contains("WAYFARE_VAULT") && failure.contains("--set vault"),
        "{failure}"
    );
    assert!(
        settings
            .list::<u16>("index")
            .unwrap_err()
            .to_string()
            .contains("\"x\"")
    );
    assert!(Settings::load(TABLE, None, |_| None, &["vault".into()]).is_err());
}
