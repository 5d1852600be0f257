//! TCP streams by `iperf3`, with the processor time that they cost. It refuses to read anything
//! but what the receiver got: what a sender pushed into a queue is no throughput.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::cpu::{Spent, Used};
use super::link::congestion;
use crate::lab::{Background, Namespace, wait_for};

/// The tool's own port.
pub(crate) const PORT: &str = "5201";

/// For the tool to open its port, and to agree with its other end before and after a run.
const PATIENCE: Duration = Duration::from_secs(15);

/// How a stream runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// How many side by side.
    pub(super) streams: u8,
    /// From the server to the client instead of from the client to the server.
    pub(super) reverse: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stream {
    /// Payload that arrived, in Gb/s.
    pub(super) gbps: f64,
    /// Segments sent again.
    pub(super) retransmits: f64,
    /// Processor time in nanoseconds per byte that arrived.
    pub(super) spent: Spent,
}

/// The far end of the streams. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    _running: Background,
}

impl Server {
    /// Starts it, on every address of `at`.
    ///
    /// # Errors
    /// When it does not come to listen.
    pub(crate) fn start(at: &Namespace, log: &str) -> anyhow::Result<Self> {
        // What it said in an earlier turn is no sign of life.
        let _ = std::fs::remove_file(at.log(log));
        let args = ["-s", "-p", PORT, "--forceflush"];
        let mut server = at.spawn(log, "iperf3", args)?;
        wait_for("iperf3 to listen", PATIENCE, || {
            server.must_live()?;
            Ok(server.said().contains("listening").then_some(()))
        })?;
        Ok(Self { _running: server })
    }
}

/// Runs streams from `at` to the server at `to` for `seconds`, watching `processes`.
///
/// # Errors
/// When the tool fails, or one of the processes ends.
pub(super) fn run(
    at: &Namespace,
    to: Ipv4Addr,
    shape: Shape,
    seconds: u64,
    processes: &[u32],
) -> anyhow::Result<Stream> {
    let mut words = words(to, seconds)?;
    words.extend(["-J".to_owned(), "-P".to_owned(), shape.streams.to_string()]);
    if shape.reverse {
        words.push("-R".to_owned());
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let before = Used::now(processes)?;
    let said = at.capture("iperf3", &words, Duration::from_secs(seconds) + PATIENCE)?;
    let spent = Used::now(processes)?.since(before);
    read(&said.stdout, spent)
        .with_context(|| format!("iperf3 said {} {}", said.stdout, said.stderr))
}

/// A stream that goes on until it is dropped, `seconds` at most.
///
/// # Errors
/// When the tool cannot be started.
pub(super) fn background(at: &Namespace, to: Ipv4Addr, seconds: u64) -> anyhow::Result<Background> {
    at.spawn("load", "iperf3", words(to, seconds)?)
}

fn words(to: Ipv4Addr, seconds: u64) -> anyhow::Result<Vec<String>> {
    let congestion = congestion()?;
    let (to, seconds) = (to.to_string(), seconds.to_string());
    let timeout = PATIENCE.as_millis().to_string();
    let words = ["-c", &to, "-p", PORT, "-t", &seconds, "-i", "0"];
    let more = ["--connect-timeout", &timeout, "-C", &congestion];
    Ok(words.into_iter().chain(more).map(str::to_owned).collect())
}

fn read(told: &str, spent: Spent) -> anyhow::Result<Stream> {
    let told: Value = serde_json::from_str(told).context("that is no JSON")?;
    if let Some(error) = told["error"].as_str() {
        bail!("it failed: {error}");
    }
    let end = &told["end"];
    let number = |side: &str, field: &str| {
        let number = end[side][field].as_f64();
        number.with_context(|| format!("it has no end.{side}.{field}"))
    };
    let bytes = number("sum_received", "bytes")?;
    if bytes <= 0.0 {
        bail!("nothing arrived");
    }
    Ok(Stream {
        gbps: number("sum_received", "bits_per_second")? / 1e9,
        retransmits: number("sum_sent", "retransmits")?,
        spent: Spent {
            machine: spent.machine / bytes,
            processes: spent.processes / bytes,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPENT: Spent = Spent {
        machine: 4e9,
        processes: 1e9,
    };

    #[test]
    fn the_receiver_is_believed() {
        let told = r#"{"end": {
            "sum_sent": {"bytes": 9e9, "bits_per_second": 9e9, "retransmits": 3},
            "sum_received": {"bytes": 2e9, "bits_per_second": 4e9}}}"#;
        let stream = read(told, SPENT).unwrap();
        assert_eq!((stream.gbps, stream.retransmits), (4.0, 3.0));
        assert_eq!((stream.spent.machine, stream.spent.processes), (2.0, 0.5));
    }

    #[test]
    fn a_failure_is_no_figure() {
        for (told, why) in [
            (
                r#"{"end": {}, "error": "unable to connect"}"#,
                "unable to connect",
            ),
            (r#"{"end": {}}"#, "end.sum_received.bytes"),
            (
                r#"{"end": {"sum_received": {"bytes": 0}}}"#,
                "nothing arrived",
            ),
            ("", "no JSON"),
        ] {
            let error = read(told, SPENT).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
    }
}
