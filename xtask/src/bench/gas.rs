//! `bench gas`: what the contracts cost, from the tests that measure it: the vault's on a bare EVM with a token as dear as on
//! Polygon, and a batch on the double of the deployed Mysterium contracts. It refuses to measure by itself, so that no figure
//! has two definitions; what each means is told in `crates/chain/src/devchain/gas.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::cli::{Given, Outcome};
use crate::process::{capture, cargo, told};
use crate::progress;
use crate::report::{Bar, Report};

/// A build from nothing, then seconds.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// What begins a line of figures. What the test harness said before it may stand on the same line.
const MARK: &str = "gas {";

/// What must be there, the most it may be, and what a reader should know.
const BARS: [(&str, f64, &str); 6] = [
    (
        "settle_single",
        56_000.0,
        "a payee's own settlement into its credit in the vault; with tokens to its address: settle_single_paid_out",
    ),
    ("settle_batch100_n_signatures", 23_000.0, "each"),
    ("settle_batch100_one_signature", 16_000.0, "each"),
    (
        "settle_credit",
        6_000.0,
        "each of a hundred, by the operator's own transaction",
    ),
    ("deposit", 57_000.0, "not the first of this consumer"),
    (
        "mysterium_batch100",
        38_500.0,
        "each, on the double of the deployed contracts",
    ),
];

/// Runs it.
///
/// # Errors
/// When the tests cannot be built, or say no figures.
pub(super) fn run(given: &Given) -> anyhow::Result<Outcome> {
    let mut report = Report::begin("bench gas");
    progress::step("measuring gas");
    let mut command = cargo([
        "test",
        "--package",
        "wayfare-chain",
        "--features",
        "devchain",
        "--test",
        "contracts",
        "--test",
        "mysterium",
        "--no-fail-fast",
        "--",
        "--exact",
        "gas::gas_stays_within_the_table",
        "gas::gas_of_a_batch_of_a_hundred_stays_below_its_bar",
        "--nocapture",
    ]);
    let said = capture(&mut command, LIMIT)?;
    let figures = figures(&said.stdout)?;
    // A test that holds a figure to its table may fail: that figure is told here, and judged by its bar.
    ensure!(
        !figures.is_empty(),
        "the tests that measure gas said nothing ({}): {}",
        told(said.status),
        said.stderr
    );
    for (name, most, note) in BARS {
        let gas = figures.get(name).copied();
        report.number(name, gas, "gas", &Bar::AtMost(most), note);
    }
    for (name, gas) in &figures {
        if BARS.iter().all(|(barred, ..)| barred != name) {
            report.number(name, Some(*gas), "gas", &Bar::Measured, "");
        }
    }
    progress::out(&report.table());
    report.finish(given.value("--json"))
}

fn figures(text: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let Some(found) = line.find(MARK) else {
            continue;
        };
        let table: BTreeMap<String, f64> = serde_json::from_str(&line[found + MARK.len() - 1..])
            .with_context(|| format!("not a table of figures: {line}"))?;
        all.extend(table);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_behind_what_the_harness_says() {
        let text = "running 1 test\ntest gas::x ... gas {\"deposit\":57}\nok\ngas {\"sweep\":3}\n";
        let found = figures(text).unwrap();
        let expect = [("deposit", 57.0), ("sweep", 3.0)];
        assert_eq!(found, expect.map(|(n, g)| (n.to_owned(), g)).into());
        assert!(figures("gas {\"deposit\":").is_err());
        assert!(figures("no figures").unwrap().is_empty());
    }
}
