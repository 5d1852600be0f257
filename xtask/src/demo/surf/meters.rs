//! What both sides counted, and what it should have cost. It refuses to compare meters that are
//! still moving.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::demo::json;
use crate::demo::party::Party;
use crate::demo::stage::Stage;
use crate::lab::pause;
use crate::report::{Bar, Report};

use super::Connected;

/// Reads both sides' meters once nothing moves any more.
pub(super) fn compare(
    stage: &Stage,
    connected: [&Connected; 2],
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut last = Vec::new();
    // Retransmissions end within a few seconds; meters are polled apart, so they must stand still.
    for _ in 0..30 {
        let mut now = sides(&stage.provider)?;
        for one in connected.iter() {
            now.extend(sides(&one.consumer.party)?);
        }
        if now == last {
            break;
        }
        last = now;
        pause(Duration::from_millis(300))?;
    }
    let (theirs, ours) = last.split_at(connected.len().min(last.len()));
    let mut worst: Option<f64> = None;
    let mut notes = Vec::new();
    for (agreement, bytes) in ours {
        let side = theirs.iter().find(|(id, _)| id == agreement);
        let (_, provider) = side.context("the provider does not know a consumer's session")?;
        let ratio = *provider as f64 / *bytes as f64;
        notes.push(format!("{provider} / {bytes}"));
        if worst.is_none_or(|worst| (ratio - 1.0).abs() > (worst - 1.0).abs()) {
            worst = Some(ratio);
        }
    }
    let note = format!(
        "provider's bytes / consumer's: {}; the worse of them",
        notes.join(", ")
    );
    report.number(
        "meters_agree",
        worst,
        "ratio",
        &Bar::Within(0.99, 1.01),
        &note,
    );
    Ok(())
}

/// Sessions as one side sees them: agreement and bytes of both directions.
fn sides(party: &Party) -> anyhow::Result<Vec<(String, u64)>> {
    let told = party.ask(&["sessions"])?;
    let rows = told.as_array().context("`sessions` answers a list")?;
    let mut sides = Vec::new();
    for row in rows {
        let bytes = |name: &str| {
            row[name]
                .as_u64()
                .with_context(|| format!("no `{name}` in {row}"))
        };
        sides.push((json::text(row, "agreement")?, bytes("up")? + bytes("down")?));
    }
    sides.sort();
    Ok(sides)
}

/// What a session cost by its consumer's own meter and the price agreed upon.
pub(super) fn cost(report: &Value) -> anyhow::Result<f64> {
    let (usage, price) = (&report["usage"], &report["agreement"]["price"]);
    let bytes = json::number(usage, "up")? + json::number(usage, "down")?;
    let time = &usage["time"];
    let seconds = json::number(time, "secs")? + json::number(time, "nanos")? / 1e9;
    let gib = json::amount(price, "per_gib")? as f64 / f64::from(1 << 30) * bytes;
    Ok(gib + json::amount(price, "per_hour")? as f64 / 3_600.0 * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_and_time_are_both_counted() {
        let told = serde_json::json!({
            "usage": {"up": 1_u64 << 29, "down": 1_u64 << 29, "time": {"secs": 1_800, "nanos": 0}},
            "agreement": {"price": {"per_gib": "100", "per_hour": "10"}},
        });
        assert!((cost(&told).unwrap() - 105.0).abs() < 1e-9);
    }
}
