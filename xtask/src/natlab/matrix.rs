//! Every chosen cell in its turn, in as many worlds side by side as were asked for, each with boxes,
//! services and identities of its own: most of a run is waiting, which overlaps. It refuses to lose
//! what was run: the report's file holds every finished cell as soon as it is finished.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::bail;

use crate::demo::programs::Programs;
use crate::interrupt::Interrupted;
use crate::lab::Lab;
use crate::process::last_lines;
use crate::progress::{say, step};
use crate::report::{Bar, Report};

use super::busy::Busy;
use super::cell::Cell;
use super::form::Form;
use super::judge::{self, Outcome};
use super::kept::{self, Book, Kept};
use super::probe;
use super::services::Services;
use super::trial::{Ground, Road};
use super::turn::{Floor, Turn};
use super::world::World;

/// What is to be run.
#[derive(Debug)]
pub struct Matrix {
    /// The cells, in their order.
    pub cells: Vec<Cell>,
    /// How much of each.
    pub form: Form,
    /// The programs.
    pub programs: Programs,
    /// What an earlier run found.
    pub known: Book,
    /// Where the report goes.
    pub file: Option<PathBuf>,
}

/// What the worlds share.
struct Story<'a> {
    matrix: &'a Matrix,
    commit: String,
    worlds: usize,
    left: Vec<usize>,
    next: AtomicUsize,
    over: AtomicBool,
    floor: Floor,
    told: Mutex<Told>,
    begun: Busy,
    blank: Report,
}

/// What is known so far, by the cell's place.
#[derive(Default)]
struct Told {
    outcomes: BTreeMap<usize, Outcome>,
    book: Book,
}

impl Matrix {
    /// Runs what is not known yet, one world in each lab, and adds everything to the report.
    ///
    /// # Errors
    /// When the ground of a world gives way, or on a signal; what was finished is in the report.
    pub fn run(&self, labs: &[Lab], report: &mut Report) -> anyhow::Result<()> {
        let mut told = Told::default();
        let mut left = Vec::new();
        for (at, cell) in self.cells.iter().enumerate() {
            let known = self.known.get(&cell.to_string());
            match known.filter(|known| known.suffices(cell, self.form)) {
                Some(known) => told.keep(at, cell, known.clone()),
                None => left.push(at),
            }
        }
        if left.len() < self.cells.len() {
            step(&format!(
                "{} cells taken over, {} to run",
                self.cells.len() - left.len(),
                left.len()
            ));
        }
        let story = Story {
            matrix: self,
            commit: report.commit.clone(),
            worlds: labs.len(),
            left,
            next: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            floor: Floor::default(),
            told: Mutex::new(told),
            begun: Busy::now(),
            blank: report.clone(),
        };
        let ended = story.play(labs);
        let told = story.told.lock().unwrap_or_else(PoisonError::into_inner);
        story.tell(&told, report);
        if ended.is_ok() {
            judge::summary(report, &story.all(&told), self.form);
        }
        ended
    }
}

impl Story<'_> {
    fn play(&self, labs: &[Lab]) -> anyhow::Result<()> {
        if self.left.is_empty() {
            return Ok(());
        }
        let ends: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
            let threads: Vec<_> = labs
                .iter()
                .map(|lab| {
                    scope.spawn(move || {
                        let ended = self.world(lab);
                        if ended.is_err() {
                            self.over.store(true, Ordering::SeqCst);
                        }
                        ended
                    })
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<()>>| {
                thread.join().unwrap_or_else(|_| bail!("a world panicked"))
            };
            threads.into_iter().map(join).collect()
        });
        ends.into_iter().collect()
    }

    /// One world, and one cell after the other in it.
    fn world(&self, lab: &Lab) -> anyhow::Result<()> {
        let mut turn = Turn::begin(&self.floor);
        let world = World::build(lab)?;
        let mut server = probe::serve(&world)?;
        let services = Services::start(lab, &world, &self.matrix.programs)?;
        let mut ground = Ground {
            lab,
            world,
            services,
            road: Road::default(),
        };
        while let Some(at) = self.next() {
            let cell = &self.matrix.cells[at];
            step(&format!("{cell}, {}", cell.class().name()));
            let busy = Busy::now();
            match ground.run(cell, self.matrix.form, &mut turn) {
                Ok(runs) => self.ran(at, runs, busy.share()),
                Err(error) if error.is::<Interrupted>() => return Err(error),
                Err(error) => {
                    step(&format!("{cell} has no result: {error:#}"));
                    // One sick cell is told and passed by; a sick ground would spoil all that follow.
                    ground.services.must_live()?;
                    server.must_live()?;
                    self.failed(at, last_lines(&format!("{error:#}"), 4));
                }
            }
            turn.pass();
        }
        Ok(())
    }

    fn next(&self) -> Option<usize> {
        if self.over.load(Ordering::SeqCst) {
            return None;
        }
        let at = self.next.fetch_add(1, Ordering::SeqCst);
        self.left.get(at).copied()
    }

    fn ran(&self, at: usize, runs: Vec<super::trial::Run>, busy: Option<f64>) {
        let kept = Kept {
            commit: self.commit.clone(),
            side_by_side: self.worlds,
            busy,
            runs,
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.keep(at, &self.matrix.cells[at], kept);
        self.save(&told);
    }

    fn failed(&self, at: usize, why: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = (self.matrix.cells[at].clone(), Err(why));
        told.outcomes.insert(at, outcome);
        self.save(&told);
    }

    /// Everything so far, as a report of its own.
    fn save(&self, told: &Told) {
        let Some(file) = &self.matrix.file else {
            return;
        };
        let mut report = self.blank.clone();
        self.tell(told, &mut report);
        for name in judge::names(&self.matrix.cells, self.matrix.form) {
            if !report.checks.iter().any(|check| check.name == name) {
                report.number(&name, None, "", &Bar::Measured, "not reached yet");
            }
        }
        if let Err(error) = report.write(file) {
            say(&format!("{error:#}"));
        }
    }

    fn all(&self, told: &Told) -> Vec<Outcome> {
        told.outcomes.values().cloned().collect()
    }

    /// The cells, and under what they were run.
    fn tell(&self, told: &Told, report: &mut Report) {
        for outcome in told.outcomes.values() {
            judge::cell(report, outcome, self.matrix.form);
        }
        let here = self.begun.share().filter(|_| !self.left.is_empty());
        judge::circumstances(report, &told.book, self.worlds, here);
        report.detail = Some(kept::shown(&told.book));
    }
}

impl Told {
    fn keep(&mut self, at: usize, cell: &Cell, kept: Kept) {
        let outcome = (cell.clone(), Ok(kept.runs.clone()));
        self.outcomes.insert(at, outcome);
        self.book.insert(cell.to_string(), kept);
    }
}
