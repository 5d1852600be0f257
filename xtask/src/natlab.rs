//! `natlab`: the real programs behind every pair of boxes that homes have. Boxes are built of kernel
//! rules in namespaces and proved by a prober of our own before any result counts.
//!
//! It refuses to believe a box by its name, to call a cell good that was not run, and to leave
//! anything behind.

pub mod busy;
pub mod cell;
pub mod delay;
pub mod door;
pub mod fetch;
pub mod form;
pub mod judge;
pub mod kept;
pub mod kind;
mod mapper;
pub mod matrix;
pub mod probe;
pub mod programs;
pub mod prove;
mod rules;
pub mod services;
pub mod survival;
pub mod trial;
pub mod turn;
pub mod world;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::ensure;

use crate::cli::{Given, Outcome};
use crate::demo::programs::Programs;
use crate::demo::{close_report, in_lab, in_labs};
use crate::need;
use crate::progress::{out, step};
use crate::report::Report;

use cell::Cell;
use form::Form;
use matrix::Matrix;
use world::World;

/// Worlds side by side: each takes some 300 MiB, and two cores are busy with four.
const MOST_WORLDS: u64 = 16;

/// Side by side in the short form, where nobody says how many.
const SHORT_WORLDS: u64 = 2;

/// What the laboratory itself needs.
pub const NEEDED: &[&str] = &[
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
    let short = given.has("--short");
    let runs = given.value("--runs").map(|_| given.number("--runs", 0));
    let runs = runs.transpose()?;
    ensure!(
        runs.is_none_or(|runs| (1..=1_000).contains(&runs)),
        "--runs takes 1 to 1000"
    );
    let form = Form::new(short, runs);
    let worlds = given.number("--side-by-side", if short { SHORT_WORLDS } else { 1 })?;
    ensure!(
        (1..=MOST_WORLDS).contains(&worlds),
        "--side-by-side takes 1 to {MOST_WORLDS}, not {worlds}"
    );
    let worlds = usize::try_from(worlds)?.min(cells.len());
    let known = given.value("--continue").map(kept::read).transpose()?;
    let matrix = Matrix {
        cells,
        form,
        programs: Programs::at_hand(given.value("--programs"))?,
        known: known.unwrap_or_default(),
        file: given.value("--json").map(PathBuf::from),
    };
    let mut report = Report::begin("natlab");
    let begun = Instant::now();
    let told = in_labs(given, &mut report, worlds, |labs, report| {
        matrix.run(labs, report).map(|()| Vec::new())
    });
    let names = judge::names(&matrix.cells, form);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    close_report(given, report, &names, told, begun)
}

/// The part of the tests: one pair of each class, and a download whose relay dies.
///
/// # Errors
/// When something does not work at all, or a check misses its bar.
pub fn part() -> anyhow::Result<()> {
    let mut survive = Given::of(&[("--survive", "")]);
    survive.rest.push("relay-killed".to_owned());
    for given in [Given::of(&[("--short", "")]), survive] {
        let outcome = run(&given)?;
        ensure!(outcome == Outcome::Passed, "a check missed its bar");
    }
    Ok(())
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
