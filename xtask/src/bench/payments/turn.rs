//! One session and the download in it: opened as a person would, counted from outside, closed with
//! its last payment. It refuses to count what happens before and after the download.

use anyhow::Context as _;
use serde_json::Value;

use super::download::{self, Download};
use super::{Plan, rest};
use crate::bench::tunnel::cpu::Used;
use crate::demo::party::Daemon;
use crate::demo::stage::{DOWN, SOON, Stage};
use crate::progress::step;

/// The network, and what is asked of it.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub(super) stage: &'a mut Stage,
    pub(super) plan: Plan,
}

/// What came of one session's download.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) download: Download,
    /// Payments that the consumer heard of during it.
    pub(super) promises: f64,
    /// How often it was told that the provider holds traffic back.
    pub(super) gate_closed: f64,
    /// Processor time in nanoseconds per byte.
    pub(super) machine: f64,
    /// The consumer's, the provider's and the Hermes' alone.
    pub(super) processes: [f64; 3],
}

impl Table<'_> {
    /// Opens a session, downloads, closes it. Not `paid` means that the first payment covers all.
    ///
    /// # Errors
    /// When a part of it fails.
    pub(super) fn turn(&mut self, paid: bool) -> anyhow::Result<Turn> {
        let consumer = self
            .stage
            .consumers
            .first()
            .context("there is a consumer")?;
        let party = consumer.party.clone();
        let mut words = vec!["up", "--country", "NL", "--once"];
        let chunk = format!("chunk={}", self.plan.chunk());
        if !paid {
            words.extend(["--set", &chunk]);
        }
        let mut daemon = party.start(&words)?;
        daemon.wait_for("active", SOON)?;
        daemon.wait_for("paid", SOON)?;
        let ids = [
            daemon.id(),
            self.stage.provider_run.id(),
            self.stage.hermes_run.id(),
        ];
        let look = || ids.map(|id| Used::now(&[id]));
        let (before, events) = (look(), Events::of(&daemon));
        let download = download::run(&party.at, self.plan.seconds)?;
        let (after, later) = (look(), Events::of(&daemon));
        let mut turn = Turn {
            download,
            promises: later.paid - events.paid,
            gate_closed: later.gate_closed - events.gate_closed,
            machine: 0.0,
            processes: [0.0; 3],
        };
        for (at, (before, after)) in before.into_iter().zip(after).enumerate() {
            let spent = after?.since(before?);
            turn.machine = spent.machine / download.bytes;
            turn.processes[at] = spent.processes / download.bytes;
        }
        self.stage.must_live()?;
        // A session that was lost on the way has made the program fail: see `--once`.
        daemon.interrupt(DOWN)?;
        rest()?;
        tell(paid, &turn);
        Ok(turn)
    }
}

/// What a consumer's program has told so far, counted.
struct Events {
    paid: f64,
    gate_closed: f64,
}

impl Events {
    fn of(daemon: &Daemon) -> Self {
        let events = daemon.events();
        let count = |wanted: fn(&Value) -> bool| {
            let found = events.iter().filter(|event| wanted(event));
            found.count() as f64
        };
        Self {
            paid: count(|event| event["event"] == "paid"),
            gate_closed: count(|event| event["event"] == "gate" && event["open"] == false),
        }
    }
}

fn tell(paid: bool, turn: &Turn) {
    let Turn {
        download,
        promises,
        gate_closed,
        ..
    } = turn;
    let which = if paid { "paid" } else { "unpaid" };
    step(&format!(
        "{which}: {:.2} Gb/s ({:.2} in the first seconds), {promises} promises, the gate closed \
         {gate_closed} times, {} segments again",
        download.gbps, download.ramp, download.retransmits
    ));
}
