//! `bench`: the benchmarks of `benches/`, and their medians as a report; `bench tunnel`, `bench
//! budget`, `bench payments`, `bench relay` and `bench gas` are measures of their own. It refuses
//! to judge a figure of a micro-benchmark: bars belong to what measures whole journeys.

mod gas;
mod payments;
mod relay;
pub(crate) mod tunnel;

use std::time::Duration;

use anyhow::Context as _;

use crate::cli::{Given, Outcome};
use crate::process::{capture, cargo, told};
use crate::progress;
use crate::report::{Bar, Report};

/// A release build from nothing, then every benchmark.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Runs the subcommand.
///
/// # Errors
/// When the benchmarks cannot be built or fail, or the report cannot be written.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    if given.rest == ["tunnel"] {
        return tunnel::run(given);
    }
    if given.rest == ["budget"] {
        return tunnel::budget::run(given);
    }
    if given.rest == ["gas"] {
        return gas::run(given);
    }
    if given.rest == ["payments"] {
        return payments::run(given);
    }
    if given.rest == ["relay"] {
        return relay::run(given);
    }
    let mut report = Report::begin("bench");
    progress::step("building and running the benchmarks");
    let mut command = cargo(["bench", "--package", "wayfare-benches", "--"]);
    command.args(&given.rest);
    let said = capture(&mut command, LIMIT)?;
    progress::out(&said.stdout);
    if !said.status.success() {
        anyhow::bail!("`cargo bench` {}: {}", told(said.status), said.stderr);
    }
    let figures = medians(&said.stdout).context("the benchmarks' table has changed")?;
    for (name, nanoseconds) in &figures {
        report.number(name, Some(*nanoseconds), "ns", &Bar::Measured, "median");
    }
    let count = figures.len() as f64;
    report.number("figures", Some(count), "benchmarks", &Bar::AtLeast(1.0), "");
    report.finish(given.value("--json"))
}

/// Reads the tree that divan prints: `├─ name  fastest │ slowest │ median │ mean │ samples │ iters`.
/// A benchmark's name is joined to those of the groups above it by dots.
fn medians(text: &str) -> Option<Vec<(String, f64)>> {
    let mut groups: Vec<String> = Vec::new();
    let mut figures = Vec::new();
    for line in text.lines() {
        let Some(branch) = line.find(['├', '╰']) else {
            continue;
        };
        let depth = line[..branch].chars().count() / 3;
        let rest = line[branch..].trim_start_matches(['├', '╰', '─', ' ']);
        let name = rest.split_whitespace().next()?;
        groups.truncate(depth);
        groups.push(name.to_owned());
        let columns: Vec<&str> = rest.split('│').collect();
        let Some(median) = columns.get(2).filter(|cell| !cell.trim().is_empty()) else {
            continue;
        };
        figures.push((groups.join("."), nanoseconds(median.trim())?));
    }
    Some(figures)
}

fn nanoseconds(cell: &str) -> Option<f64> {
    let (number, unit) = cell.split_once(' ')?;
    let scale = match unit {
        "ns" => 1.0,
        "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
Timer precision: 20 ns
tunnel          fastest       │ slowest       │ median        │ mean          │ samples │ iters
├─ open                       │               │               │               │         │
│  ├─ 1420      1.1 µs        │ 2 µs          │ 1.5 µs        │ 1.4 µs        │ 100     │ 100
│  ╰─ 64        90 ns         │ 99 ns         │ 95.5 ns       │ 95 ns         │ 100     │ 100
╰─ seal         1 ms          │ 3 ms          │ 2 ms          │ 2 ms          │ 100     │ 100
";

    #[test]
    fn medians_carry_their_groups_and_units() {
        let expected = [("open.1420", 1500.0), ("open.64", 95.5), ("seal", 2e6)];
        let expected = expected.map(|(name, ns)| (name.to_owned(), ns));
        assert_eq!(medians(TREE), Some(expected.to_vec()));
    }

    #[test]
    fn an_unknown_unit_is_not_guessed() {
        assert_eq!(medians(&TREE.replace("2 ms ", "2 ks ")), None);
        assert_eq!(medians("nothing here"), Some(vec![]));
    }
}
