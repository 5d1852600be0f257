//! Runs held to their bars, cell by cell and all together. It refuses to average a failure away: a
//! run that did not connect counts in every share, and has no time.

use std::collections::BTreeMap;

use crate::report::{Bar, Report};

use super::cell::{self, Cell, Class};
use super::trial::Run;

/// What all cells together must reach.
const WEIGHTED: f64 = 0.90;

/// From connect to the first byte anywhere, 95th percentile, in milliseconds.
const FIRST_BYTE: f64 = 3_000.0;

/// The figures of a cell beside its own name, in their order.
const FIGURES: [&str; 5] = [
    "connected",
    "first_byte_p50_ms",
    "first_byte_p95_ms",
    "direct_p50_ms",
    "direct_p95_ms",
];

/// The summary.
const SUMMARY: [&str; 2] = ["connected_share", "first_byte_p95_ms"];

/// A cell and its runs, or why it has none.
pub type Outcome = (Cell, Result<Vec<Run>, String>);

/// The names of everything that a report of these cells tells.
pub fn names(cells: &[Cell]) -> Vec<String> {
    let mut names = Vec::new();
    for cell in cells {
        names.push(cell.to_string());
        names.extend(figures(cell).map(|figure| format!("{cell} {figure}")));
    }
    names.extend(SUMMARY.map(str::to_owned));
    names
}

fn figures(cell: &Cell) -> impl Iterator<Item = &'static str> {
    let direct = cell.bars().direct_ms.is_some();
    let throughput = cell.bars().mbps.is_some();
    FIGURES
        .into_iter()
        .filter(move |name| direct || !name.starts_with("direct"))
        .chain(throughput.then_some("mbps"))
}

/// Adds one cell to the report.
pub fn cell(report: &mut Report, (cell, runs): &Outcome) {
    let runs = match runs {
        Ok(runs) => runs,
        Err(why) => {
            report.number(&cell.to_string(), None, "", &Bar::Measured, why);
            for figure in figures(cell) {
                report.number(&format!("{cell} {figure}"), None, "", &Bar::Measured, why);
            }
            return;
        }
    };
    let bars = cell.bars();
    let connected = share(runs, Run::is_connected);
    let note = note(cell, runs);
    if cell.class() == Class::Relayed {
        let bar = Bar::Exactly(1.0);
        report.number(&cell.to_string(), connected, "connected", &bar, &note);
    } else {
        let bar = Bar::AtLeast(bars.direct);
        report.number(&cell.to_string(), direct_share(runs), "direct", &bar, &note);
    }
    let mut add = |figure: &str, value: Option<f64>, unit: &str, bar: Bar| {
        report.number(
            &format!("{cell} {figure}"),
            value.map(rounded),
            unit,
            &bar,
            "",
        );
    };
    add("connected", connected, "share", Bar::Exactly(1.0));
    let first: Vec<f64> = runs.iter().filter_map(|run| run.first_byte_ms).collect();
    let bar = Bar::AtMost(bars.first_byte_ms);
    add(
        "first_byte_p50_ms",
        percentile(&first, 50),
        "ms",
        Bar::Measured,
    );
    add("first_byte_p95_ms", percentile(&first, 95), "ms", bar);
    if let Some((p50, p95)) = bars.direct_ms {
        let direct: Vec<f64> = runs.iter().filter_map(|run| run.direct_ms).collect();
        add(
            "direct_p50_ms",
            percentile(&direct, 50),
            "ms",
            Bar::AtMost(p50),
        );
        add(
            "direct_p95_ms",
            percentile(&direct, 95),
            "ms",
            Bar::AtMost(p95),
        );
    }
    if let Some(least) = bars.mbps {
        let mbps: Vec<f64> = runs.iter().filter_map(|run| run.mbps).collect();
        add("mbps", percentile(&mbps, 50), "Mb/s", Bar::AtLeast(least));
    }
}

/// Adds what all cells come to.
pub fn summary(report: &mut Report, outcomes: &[Outcome]) {
    let failed = outcomes.iter().filter(|(_, runs)| runs.is_err()).count();
    let all: Vec<Run> = outcomes
        .iter()
        .flat_map(|(_, runs)| runs.iter().flatten())
        .cloned()
        .collect();
    let note = match failed {
        0 => format!("{} runs of {} cells", all.len(), outcomes.len()),
        failed => format!("{failed} of {} cells have no result", outcomes.len()),
    };
    let connected = share(&all, Run::is_connected).filter(|_| failed == 0);
    report.number(
        "connected_share",
        connected,
        "share",
        &Bar::Exactly(1.0),
        &note,
    );
    // A part of the mix would tell nothing of the whole.
    if let Some(weighted) = weighted(outcomes) {
        let note = "by the assumed mix of homes";
        let bar = Bar::AtLeast(WEIGHTED);
        report.number("weighted_direct_share", weighted, "share", &bar, note);
    }
    let first: Vec<f64> = all.iter().filter_map(|run| run.first_byte_ms).collect();
    let bar = Bar::AtMost(FIRST_BYTE);
    report.number(
        "first_byte_p95_ms",
        percentile(&first, 95).map(rounded),
        "ms",
        &bar,
        &note,
    );
}

/// None where a cell of the mix was not asked for; `Some(None)` where one has no result.
fn weighted(outcomes: &[Outcome]) -> Option<Option<f64>> {
    let results: BTreeMap<String, Option<f64>> = outcomes
        .iter()
        .map(|(cell, runs)| {
            let share = runs.as_ref().ok().and_then(|runs| direct_share(runs));
            (cell.to_string(), share)
        })
        .collect();
    let mut sum = Some(0.0);
    for (name, weight) in cell::mix() {
        let share = results.get(&name)?;
        sum = sum.zip(*share).map(|(sum, share)| sum + weight * share);
    }
    Some(sum)
}

/// None where a connected run's path was never told.
fn direct_share(runs: &[Run]) -> Option<f64> {
    if runs
        .iter()
        .any(|run| run.is_connected() && run.route.is_none())
    {
        return None;
    }
    share(runs, |run| run.is_connected() && run.direct_ms.is_some())
}

fn share(runs: &[Run], held: impl Fn(&Run) -> bool) -> Option<f64> {
    let count = runs.iter().filter(|run| held(run)).count();
    (!runs.is_empty()).then(|| count as f64 / runs.len() as f64)
}

/// By nearest rank: the smallest value that at least so many of a hundred do not exceed.
fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// A tenth of a millisecond, or of a percent, is as much as is known.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// The class, and how often each way of arriving was seen.
fn note(cell: &Cell, runs: &[Run]) -> String {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for run in runs {
        let what = match (&run.failed, &run.route) {
            (Some(why), _) => why.lines().next().unwrap_or_default().to_owned(),
            (None, None) => "path untold".to_owned(),
            (None, Some(route)) if route.direct => format!("direct by {}", route.carrier),
            (None, Some(route)) => format!("relayed by {}", route.carrier),
        };
        *seen.entry(what).or_default() += 1;
    }
    let mbps: Vec<f64> = runs.iter().filter_map(|run| run.mbps).collect();
    let mut words: Vec<String> = seen
        .into_iter()
        .map(|(what, n)| format!("{n} {what}"))
        .collect();
    words.extend(percentile(&mbps, 50).map(|mbps| format!("{mbps:.0} Mb/s")));
    format!("{}: {}", cell.class().name(), words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::programs::Route;
    use super::*;

    fn run(direct: bool) -> Run {
        Run {
            first_byte_ms: Some(300.0),
            direct_ms: direct.then_some(800.0),
            route: Some(Route {
                direct,
                carrier: "udp".to_owned(),
            }),
            mbps: Some(250.0),
            ..Run::default()
        }
    }

    fn failed() -> Run {
        Run {
            failed: Some("no way".to_owned()),
            ..Run::default()
        }
    }

    fn judged(name: &str, runs: Vec<Run>) -> Report {
        let mut report = Report::begin("natlab");
        cell(&mut report, &(name.parse().unwrap(), Ok(runs)));
        report
    }

    fn is_ok(report: &Report, name: &str) -> bool {
        let check = report.checks.iter().find(|check| check.name == name);
        check.unwrap_or_else(|| panic!("{name}")).ok
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 50), Some(10.0));
        assert_eq!(percentile(&values, 95), Some(19.0));
        assert_eq!(percentile(&[7.0], 95), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn one_run_in_twenty_may_stay_relayed_where_chance_decides_and_nowhere_else() {
        let mut runs = vec![run(true); 39];
        runs.push(run(false));
        assert!(is_ok(&judged("pr:sym", runs.clone()), "pr:sym"));
        assert!(!is_ok(&judged("pr:pr", runs), "pr:pr"));
        assert!(is_ok(&judged("pr:pr", vec![run(true); 3]), "pr:pr"));
    }

    #[test]
    fn a_failed_run_is_missed_by_every_cell() {
        for name in ["pr:pr", "sym:sym"] {
            let report = judged(name, vec![run(true), failed()]);
            assert!(!is_ok(&report, name));
            assert!(!is_ok(&report, &format!("{name} connected")));
        }
    }

    #[test]
    fn a_path_that_is_not_told_is_not_taken_for_direct() {
        let untold = Run {
            first_byte_ms: Some(100.0),
            ..Run::default()
        };
        let report = judged("pr:pub", vec![untold]);
        assert!(!is_ok(&report, "pr:pub") && is_ok(&report, "pr:pub connected"));
    }

    #[test]
    fn every_name_is_told_whatever_happens() {
        let cells: Vec<Cell> = ["pr:pr", "sym:sym"]
            .map(|name| name.parse().unwrap())
            .into();
        for runs in [Ok(vec![run(true)]), Err("not proved".to_owned())] {
            let mut report = Report::begin("natlab");
            let outcomes: Vec<Outcome> = cells
                .iter()
                .map(|cell| (cell.clone(), runs.clone()))
                .collect();
            outcomes
                .iter()
                .for_each(|outcome| cell(&mut report, outcome));
            summary(&mut report, &outcomes);
            let told: Vec<&str> = report.checks.iter().map(|check| &*check.name).collect();
            assert_eq!(told, names(&cells));
            assert_eq!(is_ok(&report, "connected_share"), runs.is_ok());
        }
    }

    #[test]
    fn the_mix_is_weighed_as_a_whole_or_not_at_all() {
        let outcome = |cell: Cell| {
            let direct = cell.class() != Class::Relayed;
            (cell, Ok(vec![run(direct)]))
        };
        let mut all: Vec<Outcome> = cell::all().into_iter().map(outcome).collect();
        let share = weighted(&all).unwrap().unwrap();
        assert!((0.90..0.95).contains(&share), "{share}");
        all[0].1 = Err("not proved".to_owned());
        assert_eq!(weighted(&all), Some(None));
        assert_eq!(weighted(&all[1..]), None);
    }
}
