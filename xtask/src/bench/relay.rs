//! `bench relay`: what a relay keeps in memory for peers that are attached to it and do nothing. The
//! real relay, and thousands of real nodes on loopback addresses of their own, in one namespace.
//!
//! It refuses to count a peer that is not there any more, and to leave out what peers did before
//! they were idle: handshakes, identification and tests of addresses are in the figure.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::tunnel::cpu::Used;
use super::tunnel::memory::resident;
use crate::cli::{Given, Outcome};
use crate::demo::party::Party;
use crate::demo::programs::Programs;
use crate::demo::{close_report, in_lab, json};
use crate::lab::{Background, Lab, Leftovers, Namespace, pause, wait_for};
use crate::need;
use crate::progress::step;
use crate::report::{Bar, Report};

/// Idle peers, where nobody says how many.
const PEERS: u64 = 10_000;

/// Processes that they are in, one thread each.
const PROCESSES: u64 = 4;

/// Where the relay is.
const RELAY: &str = "127.0.0.1:443";

/// For the relay to come up.
const UP: Duration = Duration::from_secs(20);

/// For one peer to be attached, on the slowest machine: two handshakes' work on each side.
const EACH: Duration = Duration::from_millis(100);

/// Until what follows an attachment is over: identification, reservations, tests of addresses, and
/// three keep-alives.
const REST: Duration = Duration::from_secs(30);

/// How long the relay's processor time is counted: two keep-alives of everybody.
const COUNTED: Duration = Duration::from_secs(20);

/// Connections that a relay keeps at most, by default (`RelayLimits::peers` of `nat`).
const MOST: f64 = 12_288.0;

/// Most bytes for an idle peer.
const BYTES_PER_PEER: f64 = 192.0 * 1_024.0;

/// Most of the relay's memory with all its places taken, in MiB.
const FULL_MIB: f64 = 2_048.0;

const MIB: f64 = 1_048_576.0;

/// What the report tells.
const CHECKS: &[&str] = &[
    "attached",
    "relay_empty_mib",
    "relay_idle_mib",
    "relay_bytes_per_peer",
    "relay_full_mib",
    "relay_idle_cpu",
    "still_attached",
    "left_behind",
];

/// Runs it.
///
/// # Errors
/// When the relay or a peer does not come up, or [`crate::interrupt::Interrupted`].
pub(super) fn run(given: &Given) -> anyhow::Result<Outcome> {
    let peers = given.number("--idle", PEERS)?;
    ensure!(
        (PROCESSES..=16_000).contains(&peers),
        "--idle takes {PROCESSES} to 16000"
    );
    need::need(&["ip"])?;
    let programs = Programs::at_hand(given.value("--programs"))?;
    let idlers = programs.idlers();
    ensure!(idlers.is_file(), "there is no program {}", idlers.display());
    let begun = Instant::now();
    let mut report = Report::begin("bench relay");
    let told = in_lab(given, &mut report, |lab, report| {
        measure(lab, &programs, peers, report).map(|()| Vec::<Leftovers>::new())
    });
    close_report(given, report, CHECKS, told, begun)
}

fn measure(lab: &Lab, programs: &Programs, peers: u64, report: &mut Report) -> anyhow::Result<()> {
    let at = lab.namespace("relay")?;
    let mut relay = Party::new("relay", &at, programs.provider(), lab.folder())?;
    relay.set(&[("listen", RELAY), ("advertise", RELAY)])?;
    let mut running = relay.start(&["relay"])?;
    let told = running.wait_for("relaying", UP)?;
    let entry = json::text(&told, "relay")?;
    let empty = resident(running.id())?;
    step(&format!("{peers} nodes in {PROCESSES} processes attach"));
    let mut crowds = Vec::new();
    for number in 0..PROCESSES {
        let share = peers / PROCESSES + u64::from(number < peers % PROCESSES);
        let first = number * (peers / PROCESSES + 1);
        crowds.push(Crowd::start(
            &at,
            &programs.idlers(),
            (first, share),
            &entry,
        )?);
    }
    let limit = EACH * u32::try_from(peers).context("peers are few")? + UP;
    wait_for("everybody to be attached", limit, || {
        running.must_live()?;
        let mut all = true;
        for crowd in &mut crowds {
            all &= crowd.is_attached()?;
        }
        Ok(all.then_some(()))
    })?;
    step("all are attached, and rest");
    pause(REST)?;
    let before = Used::now(&[running.id()])?;
    pause(COUNTED)?;
    let spent = Used::now(&[running.id()])?.since(before);
    let idle = resident(running.id())?;
    let mut here = 0;
    for crowd in &mut crowds {
        here += crowd.here()?;
    }
    judge(report, peers, here, (empty, idle));
    let cores = spent.processes / COUNTED.as_nanos() as f64;
    let note = "keep-alives of everybody, every 10 s";
    report.number(
        "relay_idle_cpu",
        Some((cores * 1e3).round() / 1e3),
        "cores",
        &Bar::Measured,
        note,
    );
    let bar = Bar::Exactly(peers as f64);
    let note = "after another 50 s";
    report.number("still_attached", Some(here as f64), "peers", &bar, note);
    Ok(())
}

/// Bytes of the empty relay and of the one with idle peers, and how many of them there are.
fn judge(report: &mut Report, peers: u64, here: u64, (empty, idle): (u64, u64)) {
    let bar = Bar::Exactly(peers as f64);
    report.number("attached", Some(peers as f64), "peers", &bar, "");
    let mib = |bytes: f64| Some((bytes / MIB * 10.0).round() / 10.0);
    for (name, bytes) in [("relay_empty_mib", empty), ("relay_idle_mib", idle)] {
        report.number(name, mib(bytes as f64), "MiB", &Bar::Measured, "resident");
    }
    // Who left is not paid for by who stayed.
    let of_each = (here > 0).then(|| (idle.saturating_sub(empty)) as f64 / here as f64);
    report.number(
        "relay_bytes_per_peer",
        of_each.map(f64::round),
        "bytes",
        &Bar::AtMost(BYTES_PER_PEER),
        "growth of what is resident, over the peers that are there",
    );
    let full = of_each.and_then(|bytes| mib(empty as f64 + MOST * bytes));
    let note = "by the figure above, with the 12,288 peers that a relay takes";
    report.number("relay_full_mib", full, "MiB", &Bar::AtMost(FULL_MIB), note);
}

/// One process of idle peers.
#[derive(Debug)]
struct Crowd {
    running: Background,
    count: u64,
}

impl Crowd {
    fn start(
        at: &Namespace,
        program: &Path,
        (first, count): (u64, u64),
        relay: &str,
    ) -> anyhow::Result<Self> {
        let args = [first.to_string(), count.to_string(), relay.to_owned()];
        let running = at.spawn(&format!("idlers{first}"), program, args)?;
        Ok(Self { running, count })
    }

    fn is_attached(&mut self) -> anyhow::Result<bool> {
        self.running.must_live()?;
        Ok(self.running.said().contains("attached"))
    }

    /// How many are attached now.
    fn here(&mut self) -> anyhow::Result<u64> {
        self.running.must_live()?;
        Ok(here(&self.running.said()).unwrap_or(self.count))
    }
}

/// The last count that was told, if there was any change.
fn here(said: &str) -> Option<u64> {
    let told = said.lines().rev();
    let mut counts = told.filter_map(|line| line.strip_prefix("here ")?.trim().parse().ok());
    counts.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(here: u64, idle: u64) -> Vec<String> {
        let mut report = Report::begin("bench relay");
        judge(&mut report, 100, here, (1 << 20, idle));
        report.missed().map(|check| check.name.clone()).collect()
    }

    #[test]
    fn peers_that_left_are_not_counted() {
        let none: [&str; 0] = [];
        let growth = 100 * 100 * 1_024;
        assert_eq!(missed(100, (1 << 20) + growth), none);
        assert_eq!(
            missed(50, (1 << 20) + growth),
            ["relay_bytes_per_peer", "relay_full_mib"]
        );
        assert_eq!(
            missed(0, 1 << 20),
            ["relay_bytes_per_peer", "relay_full_mib"]
        );
    }

    #[test]
    fn counts_are_read() {
        assert_eq!(here("attached 5\n"), None);
        assert_eq!(here("attached 5\nhere 4\nhere 5\nhere 4\n"), Some(4));
    }
}
