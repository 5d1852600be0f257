//! `bench tunnel`: the tunnel against its peers, both ends of each on this machine, in turn and
//! paired: the bare cable, ours, a peer, ours, the next peer, ours. A ratio is that of two turns
//! that followed each other; the report's figures are medians over rounds.
//!
//! How it is measured: `docs/bench.md`. It refuses to judge on a restless machine, and to invent
//! a figure for a peer that is not to be had.

mod cpu;
mod datagrams;
mod judge;
mod latency;
mod link;
mod openvpn;
mod pair;
mod plan;
mod program;
mod rounds;
mod spread;
mod streams;
mod turn;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use crate::cli::{Given, Outcome};
use crate::demo::{close_report, in_lab};
use crate::lab::Lab;
use crate::progress::{out, step};
use crate::report::{Bar, Report};
use crate::{interrupt, need};

use link::Link;
use pair::Sides;
use plan::{Measure, Plan};
use program::Program;
use rounds::{Round, Rounds};
use turn::{Bench, Turn};

/// What the report tells of a run that did not come to its end.
const CHECKS: &[&str] = &[
    "raw_link_moved",
    "tcp1_vs_gotatun",
    "tcp1_vs_boringtun",
    "tcp1_vs_wireguard_go",
    "tcp1_vs_raw_veth",
    "tcp1_reverse_vs_raw_veth",
    "retransmits",
    "cpu_vs_budget",
    "p99_added_latency_idle_ms",
    "left_behind",
];

/// Runs it.
///
/// # Errors
/// When the bench itself does not work, or [`interrupt::Interrupted`].
pub(super) fn run(given: &Given) -> anyhow::Result<Outcome> {
    let plan = Plan::read(given)?;
    need::need(&["ip", "wg", "iperf3"])?;
    let (files, absent) = gather(&plan, given.value("--programs"))?;
    let begun = Instant::now();
    let mut report = Report::begin("bench tunnel");
    for (program, file) in &files {
        let told = program.version(file);
        let name = format!("{}_version", program.name());
        report.text(
            &name,
            Some(told.as_deref().unwrap_or("untold")),
            &Bar::Measured,
            "",
        );
    }
    let told = in_lab(given, &mut report, |lab, report| {
        let rounds = measure(lab, &plan, files, report)?;
        out(&format!("\n{}\n", judge::matrix(&rounds, &plan)));
        judge::judge(report, &rounds, &plan, &absent);
        Ok(Vec::new())
    });
    close_report(given, report, CHECKS, told, begun)
}

type Absent = Vec<(Program, String)>;

/// The files of all programs of the plan, and why the others are missing.
fn gather(plan: &Plan, ours: Option<&str>) -> anyhow::Result<(BTreeMap<Program, PathBuf>, Absent)> {
    let (mut files, mut absent) = (BTreeMap::new(), Vec::new());
    for program in plan.programs() {
        match program.file(ours) {
            Ok(Some(file)) => drop(files.insert(program, file)),
            Ok(None) => {}
            Err(error) => {
                interrupt::check()?;
                step(&format!("{} is missing: {error:#}", program.name()));
                absent.push((program, format!("{error:#}")));
            }
        }
    }
    Ok((files, absent))
}

fn measure(
    lab: &Lab,
    plan: &Plan,
    files: BTreeMap<Program, PathBuf>,
    report: &mut Report,
) -> anyhow::Result<Rounds> {
    let link = Link::build(lab)?;
    let note = "of both ends' TCP";
    report.text(
        "congestion_control",
        Some(&link.congestion),
        &Bar::Measured,
        note,
    );
    let sides = Sides::new(lab, &link)?;
    let bench = Bench {
        lab,
        sides: &sides,
        plan,
        files,
    };
    let mut rounds = Rounds::default();
    for number in 1..=plan.rounds {
        step(&format!("round {number} of {}", plan.rounds));
        rounds.0.push(round(&bench)?);
    }
    Ok(rounds)
}

/// The cable, ours; then each peer, and ours again for its single stream.
fn round(bench: &Bench<'_>) -> anyhow::Result<Round> {
    let mut round = Round::default();
    let whole = bench.plan.measures.as_slice();
    let short: &[Measure] = if bench.plan.has(Measure::Tcp1) {
        &[Measure::Tcp1]
    } else {
        &[]
    };
    // The cable's stream tells how calm the machine is, asked for or not.
    let mut bare = vec![Measure::Tcp1];
    bare.extend(whole.iter().filter(|measure| **measure != Measure::Tcp1));
    let mut take = |program: Program, measures: &[Measure]| -> anyhow::Result<()> {
        let here = program == Program::Raw || bench.files.contains_key(&program);
        if here && !measures.is_empty() {
            let turn = bench.turn(program, measures)?;
            announce(program, &turn);
            round.turns.push((program, turn));
        }
        Ok(())
    };
    take(Program::Raw, &bare)?;
    take(Program::Wayfare, whole)?;
    for peer in &bench.plan.peers {
        take(*peer, whole)?;
        take(Program::Wayfare, short)?;
    }
    if let Some(ours) = bench.files.get(&Program::Wayfare) {
        match program::seal_and_open(ours) {
            Ok(cost) => round.seal_and_open = Some(cost),
            Err(error) => {
                interrupt::check()?;
                step(&format!("the cipher's cost is not known: {error:#}"));
            }
        }
    }
    Ok(round)
}

fn announce(program: Program, turn: &Turn) {
    let name = program.name();
    if let Some(stream) = turn.tcp1 {
        let (gbps, cost) = (stream.gbps, stream.spent.machine);
        let again = stream.retransmits;
        step(&format!(
            "{name}: {gbps:.2} Gb/s, {cost:.2} ns of processor a byte, {again} segments again"
        ));
    }
    for trouble in &turn.troubles {
        step(&format!("{name}: {trouble}"));
    }
}
