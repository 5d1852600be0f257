//! The committed artifacts belong to the committed sources: where no compiler is at hand, their hashes say so.
//! It refuses to compile; `node contracts/build.mjs --check` does that.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use alloy::primitives::hex;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

const PUBLISHED: [&str; 6] = [
    "Token",
    "BridgedToken",
    "TokenProxy",
    "Vault",
    "Direct",
    "DepositBox",
];

fn contracts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts")
}

fn hashes_of_sources() -> BTreeMap<String, String> {
    let sources = fs::read_dir(contracts().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    sources
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (
                name,
                hex::encode(digest(&SHA256, &fs::read(&path).unwrap())),
            )
        })
        .collect()
}

fn artifact(name: &str) -> Value {
    let path = contracts().join("artifacts").join(format!("{name}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn artifacts_were_built_from_these_sources() {
    let sources = hashes_of_sources();
    assert_eq!(
        sources.len(),
        12,
        "a source was added or removed: {:?}",
        sources.keys()
    );
    for name in PUBLISHED {
        let recorded: BTreeMap<String, String> =
            serde_json::from_value(artifact(name)["sources"].clone()).unwrap();
        assert_eq!(
            recorded, sources,
            "artifacts/{name}.json is stale; run `node contracts/build.mjs`"
        );
    }
}

/// The guards that the sources mark, and the weakened variants that belong to them: a guard without a variant has no positive
/// control, a variant without a guard is one that nobody removed.
#[test]
fn every_guard_has_its_weakened_variant() {
    let sources = hashes_of_sources();
    let mut marked = BTreeSet::new();
    for name in sources.keys() {
        let text = fs::read_to_string(contracts().join("src").join(name)).unwrap();
        for mark in ["//@guard ", "//@weak "] {
            marked.extend(text.split(mark).skip(1).map(|rest| {
                let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-');
                rest[..end.unwrap_or(rest.len())].to_owned()
            }));
        }
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/weakened");
    let mut built = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let variant: Value =
            serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        let guard = variant["guard"].as_str().unwrap().to_owned();
        let recorded: BTreeMap<String, String> =
            serde_json::from_value(variant["sources"].clone()).unwrap();
        assert_eq!(
            recorded, sources,
            "weakened/{guard}.json is stale; run `node contracts/build.mjs`"
        );
        let whole = artifact(variant["contractName"].as_str().unwrap());
        assert_ne!(
            variant["bytecode"], whole["bytecode"]["object"],
            "leaving out {guard} changes nothing"
        );
        built.insert(guard);
    }
    assert_eq!(built, marked);
}

#[test]
fn artifacts_carry_no_metadata_and_the_pinned_compiler() {
    let package: Value =
        serde_json::from_slice(&fs::read(contracts().join("package.json")).unwrap()).unwrap();
    let pinned = package["devDependencies"]["solc"].as_str().unwrap();
    for name in PUBLISHED {
        let artifact = artifact(name);
        assert!(
            artifact["compiler"]
                .as_str()
                .unwrap()
                .starts_with(&format!("{pinned}+commit."))
        );
        assert_eq!(artifact["settings"]["metadata"]["bytecodeHash"], "none");
        assert_eq!(artifact["settings"]["metadata"]["appendCBOR"], false);
    }
}
