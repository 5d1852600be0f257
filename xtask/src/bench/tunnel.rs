//! `bench tunnel`: the tunnel against its peers, both ends of each on this machine, in turn and
//! paired: the bare cable, ours, a peer, ours, the next peer, ours. A ratio is that of two turns
//! that followed each other; the report's figures are medians over rounds.
//!
//! How it is measured: `docs/bench.md`. It refuses to judge on a restless machine, and to invent
//! a figure for a peer that is not to be had.

pub(super) mod budget;
mod course;
pub(super) mod cpu;
mod crowd;
mod datagrams;
mod figures;
mod flood;
mod judge;
mod junk;
pub(crate) mod latency;
pub(crate) mod link;
pub(super) mod memory;
mod openvpn;
pub(crate) mod pair;
pub(crate) mod plan;
pub(crate) mod program;
mod rounds;
pub(super) mod spread;
pub(crate) mod streams;
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

use course::Course;
use junk::Place;
use link::Link;
use pair::Sides;
use plan::{Measure, Plan};
use program::Program;
use rounds::Rounds;
use turn::Bench;

/// What the report tells of a run that did not come to its end.
const CHECKS: &[&str] = &[
    "raw_link_moved",
    "others_busy",
    "tcp1_vs_gotatun",
    "tcp1_vs_boringtun",
    "tcp1_vs_wireguard_go",
    "tcp1_vs_raw_veth",
    "tcp1_reverse_vs_raw_veth",
    "retransmits",
    "cpu_vs_budget",
    "p99_added_latency_idle_ms",
    "consumers1000_vs_single",
    "jain_fairness",
    "idle_session_bytes",
    "junk_goodput",
    "junk_memory_mib",
    "junk_replies",
    "left_behind",
];

/// Runs it.
///
/// # Errors
/// When the bench itself does not work, or [`interrupt::Interrupted`].
pub(super) fn run(given: &Given) -> anyhow::Result<Outcome> {
    let plan = Plan::read(given)?;
    need::need(&["ip", "wg", "iperf3"])?;
    if plan.has(Measure::Junk) {
        need::need(&["nft"])?;
    }
    let (files, absent) = gather(&plan, given.value("--programs"))?;
    let swarm = swarm(given.value("--programs"))?;
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
        let rounds = measure(lab, &plan, files, &swarm, report)?;
        if plan.measures.iter().any(|one| one.is_of_a_turn()) {
            out(&format!("\n{}\n", figures::matrix(&rounds, &plan)));
        }
        judge::judge(report, &rounds, &plan, &absent);
        Ok(Vec::new())
    });
    close_report(given, report, CHECKS, told, begun)
}

/// The swarm's file, or why there is none.
fn swarm(folder: Option<&str>) -> anyhow::Result<Result<PathBuf, String>> {
    let file = program::swarm(folder);
    interrupt::check()?;
    Ok(file.map_err(|error| format!("the swarm is missing: {error:#}")))
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
    swarm: &Result<PathBuf, String>,
    report: &mut Report,
) -> anyhow::Result<Rounds> {
    let link = Link::build(lab)?;
    let note = "of every stream";
    report.text(
        "congestion_control",
        Some(&link::congestion()?),
        &Bar::Measured,
        note,
    );
    let sides = Sides::new(lab, &link, ["l", "r"])?;
    let place = plan.has(Measure::Junk).then(|| Place::build(lab));
    let course = Course {
        bench: Bench {
            lab,
            sides: &sides,
            plan,
            files,
        },
        swarm: swarm.as_deref().map_err(Clone::clone),
        place: place.transpose()?,
    };
    let mut rounds = Rounds::default();
    for number in 1..=plan.rounds {
        step(&format!("round {number} of {}", plan.rounds));
        rounds.0.push(course.round()?);
    }
    Ok(rounds)
}
