//! The committed artifacts belong to the committed sources: where no compiler is at hand, their hashes say so.
//! It refuses to compile; `node contracts/build.mjs --check` does that.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use alloy::primitives::hex;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

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
        5,
        "a source was added or removed: {:?}",
        sources.keys()
    );
    for name in ["Token", "Vault", "DepositBox"] {
        let recorded: BTreeMap<String, String> =
            serde_json::from_value(artifact(name)["sources"].clone()).unwrap();
        assert_eq!(
            recorded, sources,
            "artifacts/{name}.json is stale; run `node contracts/build.mjs`"
        );
    }
}

#[test]
fn artifacts_carry_no_metadata_and_the_pinned_compiler() {
    let package: Value =
        serde_json::from_slice(&fs::read(contracts().join("package.json")).unwrap()).unwrap();
    let pinned = package["devDependencies"]["solc"].as_str().unwrap();
    for name in ["Token", "Vault", "DepositBox"] {
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
