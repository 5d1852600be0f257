//! `soak`: our plain peer against three programs of other people, all at the same time, each under
//! steady traffic both ways for many rekeys; not one datagram may be lost.
//!
//! Every pair has a cable of its own between two namespaces, and the traffic is modest: two cores
//! are not to be the limit, or what is lost would tell nothing of the tunnel. It refuses to begin
//! a stream anew: what a rekey breaks stays broken, and is counted.

mod datagrams;
mod handshakes;
mod judge;
mod losses;
mod road;
mod transfer;
mod urgent;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::bench::tunnel::plan::chosen;
use crate::bench::tunnel::program::Program;
use crate::cli::{Given, Outcome};
use crate::demo::{close_report, in_lab, programs};
use crate::lab::{Lab, wait_for};
use crate::need;
use crate::progress::step;
use crate::report::{Bar, Report};

use road::{Road, Travelled};
use urgent::Urgent;

/// Whom ours is put against.
const PEERS: [Program; 3] = [Program::WireguardGo, Program::Boringtun, Program::Gotatun];

/// Rekeys are due every two minutes, each some milliseconds later than the last one, and the one
/// due at the end is to be seen too: half a second late for each of thirty.
const SLACK: Duration = Duration::from_secs(15);

/// Between two lines on the terminal.
const TELL: Duration = Duration::from_secs(60);

/// For the streams to agree on their end and to close.
const ENDING: Duration = Duration::from_secs(30);

/// Who sends the first packet, and so begins the handshakes: who began the first one begins all
/// that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Ours,
    Theirs,
}

/// A run, as asked for.
#[derive(Clone, Debug)]
struct Plan {
    minutes: u64,
    peers: Vec<Program>,
    /// None for taking turns along the list of peers.
    first: Option<First>,
    /// Whether the peer is at both ends: what it loses without ours.
    alone: bool,
}

impl Plan {
    fn read(given: &Given) -> anyhow::Result<Self> {
        let minutes = given.number("--minutes", 30)?;
        ensure!(
            (1..=1_440).contains(&minutes),
            "--minutes takes 1 to 1440, not {minutes}"
        );
        let peers = chosen("--peers", given, &PEERS, typed)?;
        ensure!(!peers.is_empty(), "--peers names nobody");
        let first = match given.value("--first") {
            None => None,
            Some("ours") => Some(First::Ours),
            Some("theirs") => Some(First::Theirs),
            Some(other) => bail!("--first is ours or theirs, not `{other}`"),
        };
        Ok(Self {
            minutes,
            peers,
            first,
            alone: given.has("--without-ours"),
        })
    }

    /// How long there is traffic.
    fn traffic(&self) -> Duration {
        Duration::from_secs(self.minutes * 60) + SLACK
    }

    /// Who begins on the road at this place of the list.
    fn first(&self, at: usize) -> First {
        let turn = [First::Ours, First::Theirs][at % 2];
        self.first.unwrap_or(turn)
    }
}

/// As the peer is called on the command line: by the name of its program.
fn typed(peer: Program) -> &'static str {
    match peer {
        Program::WireguardGo => "wireguard-go",
        other => other.name(),
    }
}

/// Runs the subcommand.
///
/// # Errors
/// When a program is missing, fails or ends, or on a signal.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    let plan = Plan::read(given)?;
    need::need(&["ip", "nft", "wg", "iperf3"])?;
    let ours = programs::gather(given.value("--programs"))?.join(OURS);
    ensure!(ours.is_file(), "there is no program {}", ours.display());
    let mut report = Report::begin("soak");
    let mut files = Vec::new();
    for peer in &plan.peers {
        let file = peer.file(None)?;
        let file = file.with_context(|| format!("{} has no program", peer.name()))?;
        for (program, file) in [(Program::Wayfare, &ours), (*peer, &file)] {
            let name = format!("{}_version", program.name());
            if !report.checks.iter().any(|check| check.name == name) {
                let told = program.version(file);
                report.text(
                    &name,
                    told.as_deref().or(Some("untold")),
                    &Bar::Measured,
                    "",
                );
            }
        }
        files.push((*peer, file));
    }
    let _urgent = Urgent::begin();
    let begun = Instant::now();
    let told = in_lab(given, &mut report, |lab, report| {
        for travelled in soak(lab, &plan, &ours, &files)? {
            judge::judge(report, &plan, &travelled);
        }
        Ok(Vec::new())
    });
    let names = judge::names(&plan);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    close_report(given, report, &names, told, begun)
}

/// The program of this house that is a plain peer and nothing else.
const OURS: &str = "wayfare-wireguard";

/// Builds every road, lets all of them be travelled at the same time, and tells of each.
fn soak(
    lab: &Lab,
    plan: &Plan,
    ours: &PathBuf,
    files: &[(Program, PathBuf)],
) -> anyhow::Result<Vec<Travelled>> {
    let mut roads = Vec::new();
    for (at, (peer, file)) in files.iter().enumerate() {
        let here = match plan.alone {
            true => (*peer, file),
            false => (Program::Wayfare, ours),
        };
        let ends = [(here.0, here.1.as_path()), (*peer, file.as_path())];
        roads.push(Road::build(lab, at, ends, plan.first(at))?);
        step(&format!("{} answers {}", peer.name(), here.0.name()));
    }
    let traffic = plan.traffic();
    for road in &mut roads {
        road.depart(traffic)?;
    }
    step(&format!(
        "traffic on every road for {} s",
        traffic.as_secs()
    ));
    let mut tell = Instant::now() + TELL;
    wait_for("the streams to end", traffic + ENDING, || {
        let mut under_way = false;
        for road in &mut roads {
            under_way |= road.look()?;
        }
        if Instant::now() >= tell {
            tell += TELL;
            let lines: Vec<String> = roads.iter().map(Road::so_far).collect();
            step(&lines.join("; "));
        }
        Ok((!under_way).then_some(()))
    })?;
    step("the streams have ended; counting");
    roads.into_iter().map(Road::arrive).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_unless_told_otherwise() {
        let plan = Plan::read(&Given::default()).unwrap();
        assert_eq!((plan.minutes, plan.alone), (30, false));
        assert_eq!(plan.peers, PEERS);
        assert_eq!(plan.first(0), First::Ours);
        assert_eq!(plan.first(1), First::Theirs);
    }

    #[test]
    fn flags_are_read_and_mistakes_named() {
        let flags = [("--peers", "gotatun,wireguard-go"), ("--first", "theirs")];
        let plan = Plan::read(&Given::of(&flags)).unwrap();
        assert_eq!(plan.peers, [Program::WireguardGo, Program::Gotatun]);
        assert_eq!(plan.first(0), First::Theirs);
        for (flag, value) in [
            ("--minutes", "0"),
            ("--peers", "none"),
            ("--peers", "openvpn"),
            ("--first", "me"),
        ] {
            let error = Plan::read(&Given::of(&[(flag, value)])).unwrap_err();
            assert!(error.to_string().contains(flag), "{error}");
        }
    }

    #[test]
    fn the_last_rekey_is_within_the_traffic() {
        let plan = Plan::read(&Given::default()).unwrap();
        let due = Duration::from_secs(120) * u32::try_from(plan.minutes / 2).unwrap();
        assert!(plan.traffic() > due + Duration::from_secs(10));
    }
}
