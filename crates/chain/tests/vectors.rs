//! Every recorded payment operation, answered again, field by field; and requests that nobody should send.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use wayfare_chain::mysterium::vectors::answer;

fn recorded() -> Vec<Value> {
    serde_json::from_str(include_str!("data/payment-vectors.json")).unwrap()
}

/// Hex is compared without regard to case: addresses are written with and without checksum.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_str(), other.as_str()) {
        (Some(one), Some(other)) if other.starts_with("0x") => one.eq_ignore_ascii_case(other),
        _ => one == other,
    }
}

#[test]
fn all_recorded_operations_are_answered_as_recorded() {
    let vectors = recorded();
    assert_eq!(vectors.len(), 30);
    let mut compared = 0;
    for (index, vector) in vectors.iter().enumerate() {
        let answers = [answer(&vector["request"]), answer(vector)];
        assert_eq!(answers[0], answers[1], "wrapped or bare");
        for expected in [&vector["expect"], &vector["answer"]] {
            for (field, value) in expected.as_object().into_iter().flatten() {
                let ours = &answers[0][field];
                assert!(
                    same(ours, value),
                    "{index} {}: {field} is {ours}, expected {value}",
                    vector["source"]
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "only {compared} fields compared");
}

#[test]
fn requests_that_miss_or_bend_a_field_answer_an_error() {
    for vector in recorded() {
        let request = vector["request"].as_object().unwrap();
        for field in request.keys() {
            // These have a meaning when they are absent.
            let optional = field == "kind" || field == "hermes_id";
            let mut without = request.clone();
            without.remove(field);
            let told = answer(&Value::Object(without));
            assert!(
                optional || told["error"].is_string(),
                "without {field}: {told}"
            );
            for bad in [
                json!([]),
                json!({"a": 1}),
                json!(true),
                json!(-1),
                json!(1.5),
                json!("0xz"),
                json!("zz"),
            ] {
                let mut bent = request.clone();
                bent.insert(field.clone(), bad.clone());
                let told = answer(&Value::Object(bent));
                let text = matches!(field.as_str(), "url" | "body") && bad.is_string();
                assert!(text || told["error"].is_string(), "{field} = {bad}: {told}");
            }
        }
    }
}

#[test]
fn signatures_that_could_be_another_are_not_recovered() {
    let hash = "0xe6b89a054f9f1e820fbc06d727209682adca2d6d24b771c9a82edd1809657e39";
    let recover =
        |signature: String| answer(&json!({"op": "recover", "hash": hash, "signature": signature}));
    let good = "3310f94760eeb288598d69aaf6214e123766d3cc988f5d3c6a77d5d5b70dc4b6617eeeb0f49df467527ed4a9cdf6f5c7ae3a1477a84f853b9ef8587607d0be43";
    assert!(recover(format!("0x{good}1b"))["address"].is_string());
    for bad in [
        format!("0x{good}"),
        format!("0x{good}00"),
        format!("0x{good}1d"),
        format!("0x{good}1b00"),
        "0x".into(),
    ] {
        assert!(recover(bad.clone())["error"].is_string(), "{bad}");
    }
    let high = format!("0x{}{}1b", &good[..64], "f".repeat(64));
    assert!(recover(high)["error"].is_string());
}

#[test]
fn anything_at_all_gets_an_answer() {
    for hostile in [
        json!(null),
        json!(1),
        json!("op"),
        json!([]),
        json!({}),
        json!({"op": 1}),
        json!({"op": "steal"}),
        json!({"request": null}),
        json!({"request": []}),
        json!({"op": "calldata", "contract": "Registry", "method": "", "args": []}),
        json!({"op": "r_recovery_decrypt", "key": format!("0x{:064x}", 1), "data": "00"}),
        json!({"op": "address", "key": format!("0x{:064x}", 0)}),
        json!({"op": "address", "key": format!("0x{}", "f".repeat(64))}),
    ] {
        assert!(answer(&hostile)["error"].is_string(), "{hostile}");
    }
}
