//! The double against what is known of the deployed contracts: selectors, topics, storage, and artifacts that belong to the
//! committed sources. It refuses to compile; `node contracts/mysterium/build.mjs --check` does that.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use alloy::json_abi::JsonAbi;
use alloy::primitives::hex;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

/// Selectors of the deployed contracts that the double must have, by contract.
const SELECTORS: &[(&str, &str)] = &[
    (
        "Registry",
        "cf10c969 04614e0b 4787d09c d0171d79 d5929fe3 add10dda e617aaac acc831d0 4b6bd6be e0b6c323 bf1eb88a cdd596e0 \
         c3c5a547 1de9db40 505a1b31 52631ab4 6332b080 41ca71ab 8cfef547 ab867213 ff9935cb 85bff341",
    ),
    (
        "HermesThird",
        "48d9f01e 53d2a0ff 02062d12 71d2ff1b 52a8e78d 24f453d1 39f97626 7295973a 15c73afd f3fef3a3 38df1024 ae10ed84 \
         e58473f2 6138dda7 7a7ebd7b 70603a7f ab2f0e51 94c7915d 8d886fac 1f4f12c6 4e69d560 bc96a1e9 e7f43c68 9ed9903e \
         eb295b27 e1791b2d",
    ),
    ("ChannelThird", "6f174630 e9e8ad8b d8092c92"),
];

/// The first four bytes of the topics of the deployed contracts' events.
const TOPICS: &[(&str, &str)] = &[
    ("Registry", "efaf7682 2ed7bcf2 76809973 f06d60cc d8c638c8"),
    (
        "HermesThird",
        "be62ac0e c5f0715c a2e147ce ea76eb91 fa9b0c27 23dc47ee",
    ),
    ("ChannelThird", "7f7697df 884edad9"),
];

fn crate_folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn artifact(folder: &str, name: &str) -> Value {
    let path = crate_folder(folder).join(name).with_extension("json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn abi(name: &str) -> JsonAbi {
    serde_json::from_value(artifact("tests/mysterium/artifacts", name)["abi"].clone()).unwrap()
}

#[test]
fn the_double_has_the_selectors_of_the_deployed_contracts() {
    // Versions differ in what they add or where they ask; the first has everything that the third has.
    for (name, expected) in SELECTORS {
        for name in [*name, &name.replace("Third", "First")] {
            let abi = abi(name);
            let found: Vec<String> = abi.functions().map(|f| hex::encode(f.selector())).collect();
            for selector in expected.split_whitespace() {
                assert!(
                    found.iter().any(|found| found == selector),
                    "{name}: {selector}"
                );
            }
        }
    }
    // Only a channel of the first version can be left alone.
    let has = |name: &str, function: &str| abi(name).functions.contains_key(function);
    assert!(has("ChannelFirst", "requestExit") && has("ChannelFirst", "finalizeExit"));
    assert!(!has("ChannelThird", "requestExit") && !has("ChannelThird", "finalizeExit"));
}

#[test]
fn every_function_and_event_that_the_client_knows_is_in_the_double() {
    use wayfare_chain::mysterium::{ChannelImplementation, HermesImplementation, Registry};
    let pairs = [
        (Registry::abi::contract(), "Registry"),
        (HermesImplementation::abi::contract(), "HermesThird"),
        (ChannelImplementation::abi::contract(), "ChannelFirst"),
    ];
    for (ours, name) in pairs {
        let theirs = abi(name);
        for function in ours.functions() {
            let selector = function.selector();
            assert!(
                theirs.functions().any(|f| f.selector() == selector),
                "{name}.{}",
                function.signature()
            );
        }
        for event in ours.events() {
            assert!(
                theirs.events().any(|e| e.selector() == event.selector()),
                "{name}.{}",
                event.signature()
            );
        }
    }
}

#[test]
fn the_double_has_the_topics_of_the_deployed_contracts() {
    for (name, expected) in TOPICS {
        let abi = abi(name);
        let found: Vec<String> = abi.events().map(|e| hex::encode(e.selector())).collect();
        for topic in expected.split_whitespace() {
            assert!(
                found.iter().any(|found| found.starts_with(topic)),
                "{name}: {topic}"
            );
        }
    }
}

#[test]
fn artifacts_were_built_from_these_sources() {
    let units = [
        ("contracts/mysterium/src", "contracts/mysterium/artifacts"),
        ("tests/mysterium/double", "tests/mysterium/artifacts"),
    ];
    for (sources, artifacts) in units {
        let mut expected = BTreeMap::new();
        for entry in fs::read_dir(crate_folder(sources)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let hash = digest(&SHA256, &fs::read(&path).unwrap());
            expected.insert(name, hex::encode(hash));
        }
        let built: Vec<PathBuf> = fs::read_dir(crate_folder(artifacts))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(!built.is_empty() && !expected.is_empty());
        for path in built {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let artifact = artifact(artifacts, name);
            let recorded: BTreeMap<String, String> =
                serde_json::from_value(artifact["sources"].clone()).unwrap();
            assert_eq!(
                recorded, expected,
                "{name}.json is stale; run `node contracts/mysterium/build.mjs`"
            );
            assert_eq!(artifact["settings"]["metadata"]["appendCBOR"], false);
        }
    }
}
