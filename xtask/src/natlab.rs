//! `natlab`: the real programs behind every pair of boxes that homes have. Boxes are built of kernel
//! rules in namespaces and proved by a prober of our own before any result counts.
//!
//! It refuses to believe a box by its name, to call a cell good that was not run, and to leave
//! anything behind.

pub mod cell;
pub mod delay;
pub mod door;
pub mod fetch;
pub mod judge;
pub mod kind;
mod mapper;
pub mod probe;
pub mod programs;
pub mod prove;
mod rules;
pub mod services;
pub mod survival;
pub mod trial;
pub mod world;

use std::time::Instant;

use anyhow::ensure;

use crate::cli::{Given, Outcome};
use crate::demo::programs::Programs;
use crate::demo::{close_report, in_lab};
use crate::interrupt::Interrupted;
use crate::lab::{Lab, Leftovers};
use crate::need;
use crate::process::last_lines;
use crate::progress::{out, step};
use crate::report::Report;

use cell::Cell;
use services::Services;
use trial::{Ground, Road};
use world::World;

/// What the laboratory itself needs.
const NEEDED: &[&str] = &[
    "ip",
    "nft",
    "conntrack",
    "iptables-nft",
    "miniupnpd",
    "iperf3",
    "ping",
    "curl",
];

/// Runs the subcommand.
///
/// # Errors
/// When a part does not work at all, or on a signal.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    if given.has("--survive") {
        need::need(NEEDED)?;
        return survival::run(given);
    }
    ensure!(given.rest.is_empty(), "only --survive takes names");
    let cells = chosen(given)?;
    if given.has("--list") {
        for cell in &cells {
            out(&format!("{:<10} {cell}", cell.class().name()));
        }
        return Ok(Outcome::Passed);
    }
    need::need(NEEDED)?;
    if given.has("--prove") {
        return prove_all(given, &cells);
    }
    let runs = given.number("--runs", 20)?;
    ensure!(
        (1..=1_000).contains(&runs),
        "--runs takes 1 to 1000, not {runs}"
    );
    let programs = Programs::at_hand(given.value("--programs"))?;
    let mut report = Report::begin("natlab");
    let begun = Instant::now();
    let told = in_lab(given, &mut report, |lab, report| {
        run_all(lab, &programs, &cells, runs, report)
    });
    let names = judge::names(&cells);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    close_report(given, report, &names, told, begun)
}

fn run_all(
    lab: &Lab,
    programs: &Programs,
    cells: &[Cell],
    runs: u64,
    report: &mut Report,
) -> anyhow::Result<Vec<Leftovers>> {
    let world = World::build(lab)?;
    let mut server = probe::serve(&world)?;
    let v6 = cells
        .iter()
        .any(|cell| cell.a.is_v6_only() || cell.b.is_v6_only());
    let services = Services::start(lab, &world, programs, v6)?;
    let mut ground = Ground {
        lab,
        world,
        services,
        road: Road::default(),
    };
    let mut outcomes = Vec::new();
    for cell in cells {
        step(&format!("{cell}, {}", cell.class().name()));
        let runs = match ground.run(cell, runs) {
            Ok(runs) => Ok(runs),
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                step(&format!("{cell} has no result: {error:#}"));
                // One sick cell is told and passed by; a sick ground would spoil all that follow.
                ground.services.must_live()?;
                server.must_live()?;
                Err(last_lines(&format!("{error:#}"), 4))
            }
        };
        let outcome = (cell.clone(), runs);
        judge::cell(report, &outcome);
        outcomes.push(outcome);
    }
    judge::summary(report, &outcomes);
    Ok(Vec::new())
}

/// The cells of the command line; every cell when none is named.
fn chosen(given: &Given) -> anyhow::Result<Vec<Cell>> {
    let named = given.values("--cell").iter().flat_map(|one| one.split(','));
    let short = cell::SHORT.iter().filter(|_| given.has("--short")).copied();
    let names: Vec<&str> = named.chain(short).collect();
    if names.is_empty() {
        return Ok(cell::all());
    }
    let mut cells: Vec<Cell> = Vec::new();
    for name in names {
        let cell: Cell = name.parse()?;
        if !cells.contains(&cell) {
            cells.push(cell);
        }
    }
    ensure!(!cells.is_empty(), "--cell names nothing");
    Ok(cells)
}

/// Every kind of the chosen cells, and the delay line.
fn prove_all(given: &Given, cells: &[Cell]) -> anyhow::Result<Outcome> {
    let kinds = if given.has("--cell") {
        cell::kinds_of(cells)
    } else {
        cell::kinds()
    };
    let mut report = Report::begin("natlab --prove");
    let begun = Instant::now();
    let told = in_lab(given, &mut report, |lab, report| {
        step(&format!("proving {} kinds", kinds.len()));
        let world = World::build(lab)?;
        let _server = probe::serve(&world)?;
        prove::all(lab, &world, &kinds, report)?;
        delay::measured(lab, &world, report)?;
        Ok(Vec::new())
    });
    close_report(given, report, &["left_behind"], told, begun)
}
