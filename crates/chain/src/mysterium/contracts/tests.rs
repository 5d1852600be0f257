//! Selectors and arguments against what is known of the deployed contracts. It refuses to trust the declarations.
#![allow(clippy::unwrap_used)]
use alloy::primitives::hex;
use serde_json::json;

use super::*;

/// Selectors as seen on the deployed contracts.
const SELECTORS: &[(&str, &str, &str)] = &[
    ("Registry", "registerIdentity", "cf10c969"),
    (
        "Registry",
        "openConsumerChannel(address,uint256,bytes)",
        "04614e0b",
    ),
    (
        "Registry",
        "openConsumerChannel(address,address)",
        "4787d09c",
    ),
    ("Registry", "setBeneficiary", "d0171d79"),
    ("Registry", "registerHermes", "d5929fe3"),
    ("Registry", "updateHermesURL", "add10dda"),
    ("Registry", "getChannelAddress", "e617aaac"),
    ("Registry", "getHermesAddress(address)", "acc831d0"),
    ("Registry", "getHermesAddress(address,uint256)", "4b6bd6be"),
    ("Registry", "getHermes", "e0b6c323"),
    ("Registry", "getHermesURL", "bf1eb88a"),
    ("Registry", "isHermes", "cdd596e0"),
    ("Registry", "isRegistered", "c3c5a547"),
    ("Registry", "isChannelOpened", "1de9db40"),
    ("Registry", "getBeneficiary", "505a1b31"),
    ("Registry", "lastNonce", "52631ab4"),
    ("Registry", "getLastImplVer", "6332b080"),
    ("Registry", "getChannelImplementation", "41ca71ab"),
    ("Registry", "getHermesImplementation", "8cfef547"),
    ("Registry", "getProxyCode", "ab867213"),
    ("Registry", "initialize", "ff9935cb"),
    ("Registry", "setImplementations", "85bff341"),
    ("HermesImplementation", "settlePromise", "48d9f01e"),
    ("HermesImplementation", "settleWithBeneficiary", "53d2a0ff"),
    ("HermesImplementation", "settleWithDEX", "02062d12"),
    ("HermesImplementation", "settleIntoStake", "71d2ff1b"),
    ("HermesImplementation", "payAndSettle", "52a8e78d"),
    ("HermesImplementation", "openChannel", "24f453d1"),
    ("HermesImplementation", "increaseStake", "39f97626"),
    ("HermesImplementation", "decreaseStake", "7295973a"),
    ("HermesImplementation", "resolveEmergency", "15c73afd"),
    ("HermesImplementation", "withdraw", "f3fef3a3"),
    ("HermesImplementation", "setHermesFee", "38df1024"),
    ("HermesImplementation", "increaseHermesStake", "ae10ed84"),
    ("HermesImplementation", "closeHermes", "e58473f2"),
    ("HermesImplementation", "getStakeBack", "6138dda7"),
    ("HermesImplementation", "channels", "7a7ebd7b"),
    ("HermesImplementation", "validatePromise", "70603a7f"),
    ("HermesImplementation", "availableBalance", "ab2f0e51"),
    ("HermesImplementation", "minimalExpectedBalance", "94c7915d"),
    ("HermesImplementation", "getActiveFee", "8d886fac"),
    ("HermesImplementation", "calculateHermesFee", "1f4f12c6"),
    ("HermesImplementation", "getStatus", "4e69d560"),
    ("HermesImplementation", "isHermesActive", "bc96a1e9"),
    ("HermesImplementation", "getOperator", "e7f43c68"),
    ("HermesImplementation", "getStakeThresholds", "9ed9903e"),
    ("HermesImplementation", "getChannelId(address)", "eb295b27"),
    (
        "HermesImplementation",
        "getChannelId(address,string)",
        "e1791b2d",
    ),
    ("ChannelImplementation", "settlePromise", "6f174630"),
    ("ChannelImplementation", "fastExit", "e9e8ad8b"),
    ("ChannelImplementation", "hermes", "d8092c92"),
];

#[test]
fn selectors_are_those_of_the_deployed_contracts() {
    for (contract, method, selector) in SELECTORS {
        let abi = match *contract {
            "Registry" => Registry::abi::contract(),
            "HermesImplementation" => HermesImplementation::abi::contract(),
            _ => ChannelImplementation::abi::contract(),
        };
        let found = find(&abi, contract, method).unwrap();
        assert_eq!(
            hex::encode(found.selector()),
            *selector,
            "{contract}.{}",
            found.signature()
        );
    }
}

#[test]
fn arguments_are_encoded_or_refused() {
    let someone = "0x354Bd098B4eF8c9E70B7F21BE2d455DF559705d7";
    let good = calldata(
        "HermesImplementation",
        "getChannelId(address, string)",
        &[json!(someone), json!("withdrawal")],
    );
    assert_eq!(good.unwrap().len(), 4 + 4 * 32);
    let check = |contract, method, arguments: Value, expect: &str| {
        let told = calldata(contract, method, arguments.as_array().unwrap())
            .unwrap_err()
            .to_string();
        assert!(told.contains(expect), "{told}");
    };
    check("Vault", "settle", json!([]), "unknown contract");
    check("Registry", "steal", json!([]), "no function \"steal\"");
    check(
        "Registry",
        "getHermesAddress(uint256)",
        json!(["1"]),
        "no function",
    );
    check(
        "Registry",
        "getHermesAddress",
        json!([someone]),
        "overloaded",
    );
    check(
        "Registry",
        "isHermes",
        json!([]),
        "takes 1 arguments, 0 were given",
    );
    check(
        "Registry",
        "isHermes",
        json!(["0x12"]),
        "argument 0 is not of type address",
    );
    check(
        "HermesImplementation",
        "setHermesFee",
        json!(["65536"]),
        "uint16",
    );
    check(
        "HermesImplementation",
        "setHermesFee",
        json!(["-1"]),
        "uint16",
    );
    check(
        "HermesImplementation",
        "setHermesFee",
        json!(["0x10"]),
        "uint16",
    );
    check(
        "HermesImplementation",
        "setMinStake",
        json!(["9".repeat(79)]),
        "uint256",
    );
    check(
        "HermesImplementation",
        "channels",
        json!(["0x00"]),
        "bytes32",
    );
    check("Registry", "getProxyCode", json!([{"a": 1}]), "address");
}
