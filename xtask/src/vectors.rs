//! `vectors`: the payment protocol as a filter, requests on stdin, answers on stdout. It refuses
//! to interpret either: the payment crates' own example answers, and only it writes to stdout.

use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use anyhow::Context as _;

use crate::cli::{Given, Outcome};
use crate::process::cargo;

/// Replaces this process by the example.
///
/// # Errors
/// When cargo cannot be started.
pub fn run(_: &Given) -> anyhow::Result<Outcome> {
    let mut answer = cargo([
        "run",
        "--quiet",
        "--package",
        "wayfare-chain",
        "--example",
        "vectors",
    ]);
    let error = answer.stdin(Stdio::inherit()).exec();
    Err(error).context("cannot start cargo")
}
