//! Runs held to their bars, cell by cell and all together. It refuses to average a failure away: a
//! run that did not connect counts in every share, and has no time.

use std::collections::BTreeMap;

use crate::report::{Bar, Report};

use super::cell::{self, Cell, Class};
use super::form::Form;
use super::kept::Book;
use super::trial::Run;

/// What all cells together must reach.
const WEIGHTED: f64 = 0.90;

/// From connect to the first byte anywhere, 95th percentile, in milliseconds.
const FIRST_BYTE: f64 = 3_000.0;

/// The figures of a cell beside its own name, in their order.
const FIGURES: [&str; 6] = [
    "connected",
    "carrier",
    "first_byte_p50_ms",
    "first_byte_p95_ms",
    "direct_p50_ms",
    "direct_p95_ms",
];

/// The share that is told where every cell of the mix was asked for.
const SHARE: &str = "weighted_direct_share";

/// Under what all of it was measured.
const CIRCUMSTANCES: [&str; 2] = ["side_by_side", "machine_busy_share"];

/// A cell and its runs, or why it has none.
pub type Outcome = (Cell, Result<Vec<Run>, String>);

/// The names of everything that a report of these cells tells.
pub fn names(cells: &[Cell], form: Form) -> Vec<String> {
    let mut names = Vec::new();
    for cell in cells {
        names.push(cell.to_string());
        names.extend(figures(cell, form).map(|figure| format!("{cell} {figure}")));
    }
    names.extend(CIRCUMSTANCES.map(str::to_owned));
    names.push("connected_share".to_owned());
    names.extend(holds_the_mix(cells.iter()).then(|| SHARE.to_owned()));
    names.push("first_byte_p95_ms".to_owned());
    names
}

fn figures(cell: &Cell, form: Form) -> impl Iterator<Item = &'static str> {
    let direct = cell.bars().direct_ms.is_some();
    let throughput = cell.bars().mbps.is_some() && !form.short;
    FIGURES
        .into_iter()
        .filter(move |name| direct || !name.starts_with("direct"))
        .chain(throughput.then_some("mbps"))
}

/// Adds one cell to the report.
pub fn cell(report: &mut Report, (cell, runs): &Outcome, form: Form) {
    let runs = match runs {
        Ok(runs) => runs,
        Err(why) => {
            report.number(&cell.to_string(), None, "", &Bar::Measured, why);
            for figure in figures(cell, form) {
                report.number(&format!("{cell} {figure}"), None, "", &Bar::Measured, why);
            }
            return;
        }
    };
    let connected = share(runs, Run::is_connected);
    let note = note(cell, runs);
    if cell.class() == Class::Relayed {
        let bar = Bar::Exactly(1.0);
        report.number(&cell.to_string(), connected, "connected", &bar, &note);
    } else {
        let bar = Bar::AtLeast(form.direct_bar(cell));
        report.number(&cell.to_string(), direct_share(runs), "direct", &bar, &note);
    }
    report.number(
        &format!("{cell} connected"),
        connected,
        "share",
        &Bar::Exactly(1.0),
        "",
    );
    let (expected, seen) = (expected_carrier(cell), carriers(runs));
    let bar = Bar::Text(expected.to_owned());
    report.text(&format!("{cell} carrier"), seen.as_deref(), &bar, "");
    times(report, cell, runs, form);
}

/// What the consumer's packets should be carried by: what its own way out lets through.
fn expected_carrier(cell: &Cell) -> &'static str {
    if cell.a.blocks_udp() { "tls" } else { "udp" }
}

/// What connected runs were carried by: one word where all were alike.
fn carriers(runs: &[Run]) -> Option<String> {
    let connected = runs.iter().filter(|run| run.is_connected());
    let told = connected.map(|run| run.route.as_ref().map(|route| route.carrier.as_str()));
    let told: Option<std::collections::BTreeSet<&str>> = told.collect();
    let words: Vec<&str> = told?.into_iter().collect();
    (!words.is_empty()).then(|| words.join(" and "))
}

/// How long it took, and how fast it was.
fn times(report: &mut Report, cell: &Cell, runs: &[Run], form: Form) {
    let bars = cell.bars();
    let mut add = |figure: &str, value: Option<f64>, unit: &str, bar: Bar| {
        let name = format!("{cell} {figure}");
        report.number(&name, value.map(rounded), unit, &bar, "");
    };
    let judged = |bar: Bar| if form.short { Bar::Measured } else { bar };
    let first: Vec<f64> = runs.iter().filter_map(|run| run.first_byte_ms).collect();
    for (figure, percent, bar) in [
        ("first_byte_p50_ms", 50, Bar::Measured),
        ("first_byte_p95_ms", 95, Bar::AtMost(bars.first_byte_ms)),
    ] {
        add(figure, percentile(&first, percent), "ms", judged(bar));
    }
    if let Some((p50, p95)) = bars.direct_ms {
        let direct: Vec<f64> = runs.iter().filter_map(|run| run.direct_ms).collect();
        for (figure, percent, most) in [("direct_p50_ms", 50, p50), ("direct_p95_ms", 95, p95)] {
            let bar = judged(Bar::AtMost(most));
            add(figure, percentile(&direct, percent), "ms", bar);
        }
    }
    if let Some(least) = bars.mbps.filter(|_| !form.short) {
        let mbps: Vec<f64> = runs.iter().filter_map(|run| run.mbps).collect();
        add("mbps", percentile(&mbps, 50), "Mb/s", Bar::AtLeast(least));
    }
}

/// Adds under what it was measured: worlds side by side now, the machine's busy share since this
/// run's beginning where anything ran, and what the cells remember of both.
pub fn circumstances(report: &mut Report, book: &Book, worlds: usize, here: Option<f64>) {
    let mut by_worlds: BTreeMap<usize, usize> = BTreeMap::new();
    for kept in book.values() {
        *by_worlds.entry(kept.side_by_side).or_default() += 1;
    }
    let mut words: Vec<String> = by_worlds
        .iter()
        .map(|(worlds, cells)| format!("{cells} cells with {worlds}"))
        .collect();
    let mut others: Vec<&str> = book.values().map(|kept| kept.commit.as_str()).collect();
    others.retain(|commit| *commit != report.commit);
    others.sort_unstable();
    others.dedup();
    words.extend(
        others
            .iter()
            .map(|commit| format!("some taken over from {commit}")),
    );
    let [side_by_side, machine_busy] = CIRCUMSTANCES;
    let bar = Bar::Measured;
    let count = Some(worlds as f64);
    report.number(side_by_side, count, "worlds", &bar, &words.join(", "));
    let mut busy: Vec<(f64, &str)> = book
        .iter()
        .filter_map(|(cell, kept)| Some((kept.busy?, cell.as_str())))
        .collect();
    busy.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mean = busy.iter().map(|(share, _)| share).sum::<f64>() / busy.len().max(1) as f64;
    let mean = (!busy.is_empty()).then_some(mean);
    let mut words = vec!["of all processors' time, mean of the cells".to_owned()];
    words.extend(
        busy.last()
            .map(|(share, cell)| format!("most in {cell}: {share:.2}")),
    );
    words.extend(here.map(|share| format!("this run altogether: {share:.2}")));
    let mean = mean.or(here).map(rounded);
    report.number(machine_busy, mean, "share", &bar, &words.join("; "));
}

/// Adds what all cells come to.
pub fn summary(report: &mut Report, outcomes: &[Outcome], form: Form) {
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
        report.number(SHARE, weighted.map(rounded), "share", &bar, note);
    }
    let first: Vec<f64> = all.iter().filter_map(|run| run.first_byte_ms).collect();
    let bar = match form.short {
        true => Bar::Measured,
        false => Bar::AtMost(FIRST_BYTE),
    };
    report.number(
        "first_byte_p95_ms",
        percentile(&first, 95).map(rounded),
        "ms",
        &bar,
        &note,
    );
}

fn holds_the_mix<'a>(cells: impl Iterator<Item = &'a Cell>) -> bool {
    let names: std::collections::BTreeSet<String> = cells.map(Cell::to_string).collect();
    cell::mix().iter().all(|(name, _)| names.contains(name))
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
mod tests;
