//! Reads a JSON array of payment operations on standard input and writes the array of answers, in the same order, on standard
//! output. It refuses input that is no JSON array; an operation that cannot be done is answered with its error.

use std::io::{Read, Write};
use std::process::ExitCode;

use serde_json::Value;
use wayfare_chain::mysterium::vectors::answer;

/// The most input that is read, 64 MiB: a hundred thousand requests.
const MOST: u64 = 64 << 20;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("vectors: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut input = Vec::new();
    std::io::stdin()
        .take(MOST)
        .read_to_end(&mut input)
        .map_err(|why| format!("cannot read: {why}"))?;
    let requests: Value =
        serde_json::from_slice(&input).map_err(|why| format!("the input is not JSON: {why}"))?;
    let requests = requests
        .as_array()
        .ok_or("the input is not a JSON array of requests")?;
    let answers = Value::Array(requests.iter().map(answer).collect());
    writeln!(std::io::stdout(), "{answers:#}").map_err(|why| format!("cannot write: {why}"))
}
