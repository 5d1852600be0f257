//! One TCP connection each way between the ends of a road, paced well below what two cores carry.
//! It refuses to count what a sender pushed into a queue: only what arrived.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::bench::tunnel::link::congestion;
use crate::bench::tunnel::streams::{PORT, Server};
use crate::lab::{Background, Namespace};

/// Offered each way.
pub(super) const MBPS: u64 = 20;

/// No faster than twice the rate after a pause, and in small pieces: a burst of 128 KiB, which is
/// the tool's habit, would fill the socket of a peer that keeps the kernel's default of 208 KiB.
const PACE: &str = "40M";
const PIECE: &str = "8K";

/// For the tool to agree with its other end.
const CONNECT_MS: &str = "15000";

/// Two running streams.
#[derive(Debug)]
pub(super) struct Transfer {
    _server: Server,
    client: Background,
    seconds: u64,
    ended: bool,
}

/// What came of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Carried {
    /// Bytes that arrived at the right and at the left, as parts of what was offered.
    pub(super) parts: [f64; 2],
    /// Segments sent again, by the left and by the right.
    pub(super) again: [f64; 2],
}

impl Transfer {
    /// Begins both streams between `left` and `right`, which has the address `to`; `name` is of
    /// the logs.
    ///
    /// # Errors
    /// When either end does not start.
    pub(super) fn begin(
        name: &str,
        [left, right]: [&Namespace; 2],
        to: Ipv4Addr,
        time: Duration,
    ) -> anyhow::Result<Self> {
        let server = Server::start(right, &format!("{name}-server"))?;
        let (to, seconds) = (to.to_string(), time.as_secs().to_string());
        let (rate, congestion) = (format!("{MBPS}M"), congestion()?);
        let words = [
            ["-c", &to, "-p", PORT],
            ["-t", &seconds, "-b", &rate],
            ["-l", PIECE, "--fq-rate", PACE],
            ["-C", &congestion, "-i", "0"],
            ["--connect-timeout", CONNECT_MS, "--bidir", "-J"],
        ];
        let client = left.spawn(&format!("{name}-client"), "iperf3", words.as_flattened())?;
        Ok(Self {
            _server: server,
            client,
            seconds: time.as_secs(),
            ended: false,
        })
    }

    /// Whether they are under way.
    ///
    /// # Errors
    /// When they failed.
    pub(super) fn under_way(&mut self) -> anyhow::Result<bool> {
        let Some(status) = self.client.ended()? else {
            return Ok(true);
        };
        if !self.ended && !status.success() {
            self.client.must_live()?;
        }
        self.ended = true;
        Ok(false)
    }

    /// What came of them; they have ended.
    ///
    /// # Errors
    /// When the tool tells of a failure, or nothing at all.
    pub(super) fn carried(&self) -> anyhow::Result<Carried> {
        ensure!(self.ended, "the streams are under way");
        let offered = MBPS as f64 * 1e6 / 8.0 * self.seconds as f64;
        let said = self.client.said();
        read(&said, offered).with_context(|| format!("iperf3 said {said}"))
    }
}

/// The server's sums are those of the right end, the client's of the left.
fn read(told: &str, offered: f64) -> anyhow::Result<Carried> {
    let told: Value = serde_json::from_str(told).context("that is no JSON")?;
    if let Some(error) = told["error"].as_str() {
        bail!("it failed: {error}");
    }
    let number = |sum: &str, field: &str| {
        let number = told["end"][sum][field].as_f64();
        number.with_context(|| format!("it has no end.{sum}.{field}"))
    };
    Ok(Carried {
        parts: [
            number("sum_received", "bytes")? / offered,
            number("sum_received_bidir_reverse", "bytes")? / offered,
        ],
        again: [
            number("sum_sent", "retransmits")?,
            number("sum_sent_bidir_reverse", "retransmits")?,
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_are_read_by_what_arrived() {
        let told = r#"{"end": {
            "sum_sent": {"bytes": 99, "retransmits": 1}, "sum_received": {"bytes": 50},
            "sum_sent_bidir_reverse": {"bytes": 99, "retransmits": 2},
            "sum_received_bidir_reverse": {"bytes": 100}}}"#;
        let carried = read(told, 100.0).unwrap();
        assert_eq!((carried.parts, carried.again), ([0.5, 1.0], [1.0, 2.0]));
    }

    #[test]
    fn a_failure_is_no_figure() {
        for (told, why) in [
            (r#"{"end": {}, "error": "reset"}"#, "reset"),
            (r#"{"end": {}}"#, "end.sum_received.bytes"),
            ("", "no JSON"),
        ] {
            let error = format!("{:#}", read(told, 1.0).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }
}
