//! Many consumers on one provider: N of them in one process, each with a key, a port and addresses
//! of its own, and one TCP stream down to each. It refuses to start the clock before all of them
//! have keys and streams.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::cpu::{Spent, Used};
use super::link::{RIGHT, congestion};
use super::memory;
use super::pair::{MTU, PORT, Side, Sides};
use crate::lab::{Background, Lab, wait_for};
use crate::process::{GRACE, SHORT, command, output};

/// How many consumers, from run to run.
pub(super) const COUNTS: [u16; 4] = [1, 10, 100, 1_000];

/// The most of [`COUNTS`].
pub(super) const MOST: u16 = COUNTS[COUNTS.len() - 1];

/// The provider's address inside; the swarm's own are in 10.92.0.0/17 inside, 10.93.0.0/17 outside.
const PROVIDER_INNER: Ipv4Addr = Ipv4Addr::new(10, 92, 255, 1);

/// Where the streams come from.
const SOURCE: u16 = 5_001;

/// For [`MOST`] handshakes, begun at 160 a second, with room for lost ones.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the sink takes beside the seconds that count: connecting and finding the rate.
const AROUND: Duration = Duration::from_secs(75);

/// What came of one run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Served {
    /// Memory of the provider when all had keys and nothing moved, in bytes.
    pub(super) idle: u64,
    /// The streams; none when none were asked for.
    pub(super) streams: Option<Streams>,
}

/// What streams to all consumers came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Streams {
    /// What arrived at all consumers together, in Gb/s.
    pub(super) gbps: f64,
    /// Jain's index of what each got: 1 when all got the same, 1/N when one got all.
    pub(super) fairness: f64,
    /// Processor time of the machine and of the provider, in nanoseconds a byte.
    pub(super) provider: Spent,
    /// That of the swarm alone: when it is busy all the time, the load is what is measured.
    pub(super) swarm: f64,
    /// Segments sent again, as a part of all.
    pub(super) again: f64,
}

/// The provider's namespace, the consumers' and the programs.
#[derive(Debug)]
pub(super) struct Crowd<'a> {
    pub(super) lab: &'a Lab,
    pub(super) sides: &'a Sides,
    /// Our plain peer, as the provider.
    pub(super) peer: &'a Path,
    /// The consumers, the source and the sink.
    pub(super) swarm: &'a Path,
}

impl Crowd<'_> {
    /// Serves `count` consumers, with streams for `seconds` or none.
    ///
    /// # Errors
    /// When anything does not come up or ends.
    pub(super) fn serve(&self, count: u16, seconds: Option<u64>) -> anyhow::Result<Served> {
        let _roads = self.roads()?;
        let mut provider = self.provider(count)?;
        let mut served = Served {
            idle: memory::resident(provider.id())?,
            streams: None,
        };
        if count > 0 {
            let mut swarm = self.consumers(count)?;
            served.idle = memory::resident(provider.id())?;
            if let Some(seconds) = seconds {
                let streams = self.streams(count, seconds, [provider.id(), swarm.id()]);
                provider.must_live()?;
                swarm.must_live()?;
                served.streams = Some(streams?);
            }
            swarm.stop(GRACE)?;
        }
        provider.stop(GRACE)?;
        Ok(served)
    }

    /// One stream to each; the two processes are watched.
    fn streams(
        &self,
        count: u16,
        seconds: u64,
        [provider, swarm]: [u32; 2],
    ) -> anyhow::Result<Streams> {
        let (left, right) = (&self.sides.left, &self.sides.right);
        let source = format!("{PROVIDER_INNER}:{SOURCE}");
        let words = ["source", &source, &congestion()?];
        let mut pouring = spawn(right, "source", self.swarm, &words)?;
        heard(&mut pouring, "listening")?;
        let look = || -> anyhow::Result<(Used, Used, [f64; 2])> {
            let segments = right.at.output("cat", &["/proc/net/snmp"])?;
            let segments = sent(&segments).context("/proc/net/snmp has another form")?;
            Ok((Used::now(&[provider])?, Used::now(&[swarm])?, segments))
        };
        let before = look()?;
        let words = ["sink", &count.to_string(), &source, &seconds.to_string()];
        let limit = Duration::from_secs(seconds) + AROUND;
        let program = self.swarm.to_string_lossy();
        let told = left.at.capture(&program, &words, limit)?;
        let after = look()?;
        let told = told.stdout_if_ok("swarm sink")?;
        pouring.must_live()?;
        pouring.stop(GRACE)?;
        let shares = shares(&told).with_context(|| format!("it told {told}"))?;
        let a_byte = |spent: Spent| Spent {
            machine: spent.machine / shares.all,
            processes: spent.processes / shares.all,
        };
        let segments = [0, 1].map(|at: usize| after.2[at] - before.2[at]);
        Ok(Streams {
            gbps: shares.gbps,
            fairness: shares.fairness,
            provider: a_byte(after.0.since(before.0)),
            swarm: a_byte(after.1.since(before.1)).processes,
            again: segments[1] / segments[0],
        })
    }

    /// One provider with `count` peers in its configuration.
    fn provider(&self, count: u16) -> anyhow::Result<Background> {
        let side = &self.sides.right;
        let file = self.lab.folder().join("provider.conf");
        let mut conf = side.interface_section()?;
        if count > 0 {
            let words = ["peers".to_owned(), count.to_string()];
            conf += &output(&mut command(&self.swarm.to_string_lossy(), words), SHORT)?;
        }
        std::fs::write(&file, conf).context("cannot write the provider's configuration")?;
        let file = file.to_string_lossy();
        let words = [
            "--config",
            &file,
            "--interface",
            &side.interface,
            "--mtu",
            MTU,
        ];
        let mut provider = spawn(side, "provider", self.peer, &words)?;
        heard(&mut provider, "ready")?;
        let device = &side.interface;
        let words = [
            format!("address add {PROVIDER_INNER}/16 dev {device}"),
            format!("link set {device} mtu {MTU} up"),
        ];
        side.set_up(&mut provider, &words)?;
        Ok(provider)
    }

    /// `count` consumers, all of them with keys.
    fn consumers(&self, count: u16) -> anyhow::Result<Background> {
        let side = &self.sides.left;
        let (key, to) = (&self.sides.right.public, format!("{RIGHT}:{PORT}"));
        let words = ["consumers", &count.to_string(), key, &to, &side.interface];
        let mut swarm = spawn(side, "swarm", self.swarm, &words)?;
        heard(&mut swarm, "ready")?;
        let device = &side.interface;
        let words = [
            format!("link set {device} mtu {MTU} up"),
            format!("route add {PROVIDER_INNER}/32 dev {device}"),
        ];
        side.set_up(&mut swarm, &words)?;
        heard(&mut swarm, "established")?;
        Ok(swarm)
    }

    /// Makes the swarm's addresses those of the left, and known on the right.
    fn roads(&self) -> anyhow::Result<Roads<'_>> {
        let (left, right) = (&self.sides.left, &self.sides.right);
        for network in ["10.92.0.0/17", "10.93.0.0/17"] {
            left.at
                .ip(&format!("route replace local {network} dev lo"))?;
        }
        right
            .at
            .ip(&format!("route replace 10.93.0.0/17 via {}", left.outer))?;
        Ok(Roads { sides: self.sides })
    }
}

/// Takes the roads away again: the next turn's programs have the cable to themselves.
#[derive(Debug)]
struct Roads<'a> {
    sides: &'a Sides,
}

impl Drop for Roads<'_> {
    fn drop(&mut self) {
        for network in ["10.92.0.0/17", "10.93.0.0/17"] {
            let _ = self
                .sides
                .left
                .at
                .ip(&format!("route del local {network} dev lo"));
        }
        let _ = self.sides.right.at.ip("route del 10.93.0.0/17");
    }
}

fn spawn(side: &Side, log: &str, program: &Path, words: &[&str]) -> anyhow::Result<Background> {
    // What it said in an earlier run is no sign of life.
    let _ = std::fs::remove_file(side.at.log(log));
    side.at.spawn(log, PathBuf::from(program), words)
}

fn heard(program: &mut Background, word: &str) -> anyhow::Result<()> {
    wait_for(&format!("`{word}`"), PATIENCE, || {
        program.must_live()?;
        Ok(program
            .said()
            .lines()
            .any(|line| line == word)
            .then_some(()))
    })
}

/// What the sink told.
#[derive(Debug, PartialEq)]
struct Shares {
    /// Of all together.
    gbps: f64,
    /// Jain's index.
    fairness: f64,
    /// Bytes, those before the clock was started included.
    all: f64,
}

fn shares(told: &str) -> Option<Shares> {
    let told: Value = serde_json::from_str(told).ok()?;
    let seconds = told["seconds"].as_f64().filter(|seconds| *seconds > 0.0)?;
    let bytes = told["bytes"].as_array()?.iter().map(Value::as_f64);
    let bytes = bytes.collect::<Option<Vec<f64>>>()?;
    let sum: f64 = bytes.iter().sum();
    Some(Shares {
        gbps: sum * 8.0 / seconds / 1e9,
        fairness: jain(&bytes)?,
        all: told["all"].as_f64()?,
    })
}

/// `OutSegs` and `RetransSegs` of the two `Tcp:` lines, names above numbers.
fn sent(snmp: &str) -> Option<[f64; 2]> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let column = |name: &str| {
        let at = names.split_whitespace().position(|one| one == name)?;
        numbers.split_whitespace().nth(at)?.parse().ok()
    };
    Some([column("OutSegs")?, column("RetransSegs")?])
}

/// (Σx)² / (n Σx²): R. Jain, D. Chiu, W. Hawe, DEC-TR-301, 1984.
fn jain(shares: &[f64]) -> Option<f64> {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    (squares > 0.0).then(|| sum * sum / (shares.len() as f64 * squares))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shares_are_fair_and_one_for_all_is_not() {
        assert_eq!(jain(&[5.0; 7]), Some(1.0));
        assert_eq!(jain(&[1.0, 0.0, 0.0, 0.0]), Some(0.25));
        assert_eq!(jain(&[0.0, 0.0]), None);
    }

    #[test]
    fn the_sink_is_read() {
        let told = "{\"seconds\": 2, \"bytes\": [250000000, 250000000], \"all\": 7e8}\n";
        let expected = Shares {
            gbps: 2.0,
            fairness: 1.0,
            all: 7e8,
        };
        assert_eq!(shares(told), Some(expected));
        assert_eq!(shares("{\"seconds\": 0, \"bytes\": [1], \"all\": 1}"), None);
    }

    #[test]
    fn segments_are_found_by_their_names() {
        let snmp = "Tcp: A OutSegs RetransSegs B\nTcp: 1 20 3 4\nUdp: X\nUdp: 5\n";
        assert_eq!(sent(snmp), Some([20.0, 3.0]));
        assert_eq!(sent("Tcp: A\nTcp: 1\n"), None);
    }
}
