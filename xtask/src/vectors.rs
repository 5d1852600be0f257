//! `vectors`: the payment protocol as a filter, requests on stdin, answers on stdout. It refuses
//! to interpret either: the payment crates' own example answers, and only it writes to stdout.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::cli::{Given, Outcome};
use crate::process::{cargo, told};
use crate::progress;

/// The committed requests with their expected answers.
const FILE: &str = "crates/chain/tests/data/payment-vectors.json";

fn filter() -> Command {
    cargo([
        "run",
        "--quiet",
        "--package",
        "wayfare-chain",
        "--features",
        "wayfare-chain/devchain",
        "--example",
        "vectors",
    ])
}

/// Replaces this process by the example.
///
/// # Errors
/// When cargo cannot be started.
pub fn run(_: &Given) -> anyhow::Result<Outcome> {
    let error = filter().stdin(Stdio::inherit()).exec();
    Err(error).context("cannot start cargo")
}

/// Sends every committed request through the filter and compares each expected field.
///
/// # Errors
/// When an answer differs, naming the request and the field.
pub fn part() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(crate::tree::root().join(FILE))?;
    let vectors: Vec<Value> = serde_json::from_str(&text)?;
    let requests: Vec<&Value> = vectors.iter().map(|vector| &vector["request"]).collect();
    let mut child = filter()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let mut input = child.stdin.take().context("the filter has no input")?;
    let request = serde_json::to_vec(&requests)?;
    let writer = std::thread::spawn(move || input.write_all(&request));
    let done = child.wait_with_output()?;
    let written = writer.join();
    if !done.status.success() || !matches!(written, Ok(Ok(()))) {
        bail!("the filter {}", told(done.status));
    }
    let answers: Vec<Value> = serde_json::from_slice(&done.stdout)?;
    let compared = compare(&vectors, &answers)?;
    progress::say(&format!(
        "{} requests answered, {compared} fields compared",
        answers.len()
    ));
    Ok(())
}

/// Compares every field of `expect` and `answer`; returns how many there were.
fn compare(vectors: &[Value], answers: &[Value]) -> anyhow::Result<usize> {
    if vectors.is_empty() || vectors.len() != answers.len() {
        bail!("{} answers to {} requests", answers.len(), vectors.len());
    }
    let mut compared = 0;
    for (at, (vector, answer)) in vectors.iter().zip(answers).enumerate() {
        for part in ["expect", "answer"] {
            let Some(fields) = vector[part].as_object() else {
                continue;
            };
            for (name, wanted) in fields {
                // Addresses come in any case.
                let same = answer[name]
                    .to_string()
                    .eq_ignore_ascii_case(&wanted.to_string());
                if !same {
                    bail!("request {at}, {name}: {} instead of {wanted}", answer[name]);
                }
                compared += 1;
            }
        }
    }
    Ok(compared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_expected_field_is_compared() {
        let vectors = [json!({"expect": {"a": "0xAB"}, "answer": {"b": "1"}})];
        assert_eq!(
            compare(&vectors, &[json!({"a": "0xab", "b": "1"})]).ok(),
            Some(2)
        );
        assert!(compare(&vectors, &[json!({"a": "0xab", "b": "2"})]).is_err());
        assert!(compare(&vectors, &[json!({"a": "0xab"})]).is_err());
        assert!(compare(&vectors, &[]).is_err());
    }
}
