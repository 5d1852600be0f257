//! One download by `iperf3`, second by second as the receiver counts. It refuses to mix the time
//! in which credit and window grow with the time after it.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::RAMP;
use crate::bench::tunnel::link::congestion;
use crate::bench::tunnel::streams::PORT;
use crate::demo::network::SERVICES;
use crate::lab::Namespace;

/// For the tool to agree with its other end before and after a download.
const PATIENCE: Duration = Duration::from_secs(15);

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Download {
    /// Gb/s in the first [`RAMP`] seconds.
    pub(super) ramp: f64,
    /// Gb/s after them.
    pub(super) gbps: f64,
    /// All bytes.
    pub(super) bytes: f64,
    /// All of its time.
    pub(super) seconds: f64,
    /// Segments sent again, by the sender's count.
    pub(super) retransmits: f64,
}

/// Downloads for `seconds` from the server in the internet.
///
/// # Errors
/// When the tool fails.
pub(super) fn run(at: &Namespace, seconds: u64) -> anyhow::Result<Download> {
    let (congestion, time) = (congestion()?, seconds.to_string());
    let timeout = PATIENCE.as_millis().to_string();
    let words = ["-c", SERVICES, "-p", PORT, "-t", &time, "-i", "1", "-R"];
    let more = ["-J", "--connect-timeout", &timeout, "-C", &congestion];
    let words: Vec<&str> = words.into_iter().chain(more).collect();
    let said = at.capture("iperf3", &words, Duration::from_secs(seconds) + PATIENCE)?;
    read(&said.stdout, seconds)
        .with_context(|| format!("iperf3 said {} {}", said.stdout, said.stderr))
}

fn read(told: &str, seconds: u64) -> anyhow::Result<Download> {
    let told: Value = serde_json::from_str(told).context("that is no JSON")?;
    if let Some(error) = told["error"].as_str() {
        bail!("it failed: {error}");
    }
    let intervals = told["intervals"]
        .as_array()
        .context("it has no intervals")?;
    let number = |value: &Value, name: &str| {
        let number = value[name].as_f64();
        number.with_context(|| format!("it has no {name}"))
    };
    let (mut ramp, mut rest) = (Piece::default(), Piece::default());
    for interval in intervals {
        let sum = &interval["sum"];
        ensure!(sum["sender"] == false, "that is the sender's count");
        // A moment's rest after the last whole second is in its own interval.
        let piece = if number(sum, "end")? < RAMP as f64 + 0.5 {
            &mut ramp
        } else {
            &mut rest
        };
        piece.bytes += number(sum, "bytes")?;
        piece.seconds += number(sum, "seconds")?;
    }
    let least = seconds.saturating_sub(RAMP) as f64 - 0.5;
    ensure!(rest.seconds >= least, "it ended early");
    ensure!(rest.bytes > 0.0, "nothing arrived");
    Ok(Download {
        ramp: ramp.gbps(),
        gbps: rest.gbps(),
        bytes: ramp.bytes + rest.bytes,
        seconds: ramp.seconds + rest.seconds,
        retransmits: number(&told["end"]["sum_sent"], "retransmits")?,
    })
}

#[derive(Debug, Default)]
struct Piece {
    bytes: f64,
    seconds: f64,
}

impl Piece {
    fn gbps(&self) -> f64 {
        self.bytes * 8.0 / self.seconds / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(rates: &[f64], sender: bool) -> String {
        let interval = |(at, bytes): (usize, &f64)| {
            serde_json::json!({"sum":
                {"end": at as f64 + 1.0003, "seconds": 1.0, "bytes": bytes, "sender": sender}})
        };
        let intervals: Vec<Value> = rates.iter().enumerate().map(interval).collect();
        serde_json::json!({"intervals": intervals, "end": {"sum_sent": {"retransmits": 7}}})
            .to_string()
    }

    #[test]
    fn the_ramp_is_told_apart() {
        let download = read(&told(&[0.5e9, 1e9, 2e9, 3e9], false), 4).unwrap();
        assert!((download.ramp - 6.0).abs() < 1e-9, "{download:?}");
        assert!((download.gbps - 20.0).abs() < 1e-9, "{download:?}");
        assert_eq!((download.bytes, download.seconds), (6.5e9, 4.0));
        assert_eq!(download.retransmits, 7.0);
    }

    #[test]
    fn half_a_download_is_no_figure() {
        for (told, why) in [
            (told(&[1e9, 1e9, 1e9], false), "ended early"),
            (told(&[1e9, 1e9, 0.0, 0.0], false), "nothing arrived"),
            (told(&[1e9; 4], true), "the sender's"),
            (r#"{"error": "no route"}"#.to_owned(), "no route"),
            (String::new(), "no JSON"),
        ] {
            let error = read(&told, 4).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
    }
}
