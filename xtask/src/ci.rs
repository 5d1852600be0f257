//! `ci`: what a build machine runs. It refuses to differ from what a person runs: it is the same
//! test command, after making sure that the machine has the tools of every part.

use crate::cli::{Given, Outcome};
use crate::machine::Machine;
use crate::{need, progress, test};

/// Runs the subcommand.
///
/// # Errors
/// When a tool is missing and cannot be installed, or as the test command.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    let machine = Machine::ask();
    progress::step(&format!(
        "commit {} on {} cores, {} MiB, load {}",
        crate::tree::commit(),
        machine.cores,
        machine.memory >> 20,
        machine.load
    ));
    let mut tools: Vec<&str> = test::PARTS
        .iter()
        .flat_map(|part| part.needs)
        .copied()
        .collect();
    tools.sort_unstable();
    tools.dedup();
    need(&tools)?;
    test::run(given)
}
