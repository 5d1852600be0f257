//! The middle of the demo: two consumers use the internet through the provider and pay for it. It
//! refuses to take the product's word for what went where: it looks with `curl`, `sha256sum` and
//! `tcpdump`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::lab::{Background, Lab, pause, wait_for};
use crate::progress::{say, step};
use crate::report::{Bar, Report};

use super::capture::Capture;
use super::coins::shown;
use super::network::{LAN, LAN_HOST, Network, PORT, PROVIDER, SERVICES, UPLINK};
use super::party::{Daemon, Party};
use super::stage::{Consumer, DOWN, SOON, Stage, sha256};
use super::{find_offer, json, web};

/// 256 MiB at 2 MiB/s, well below what the slowest machine in sight does.
const TRANSFER: Duration = Duration::from_secs(128);

/// A page, or a failure to get one.
const PAGE: Duration = Duration::from_secs(20);

/// A probe that must not be answered.
const PROBE: Duration = Duration::from_secs(2);

/// Between two lines of progress.
const TELL: Duration = Duration::from_secs(2);

/// What was promised, in smallest units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bill {
    /// By all consumers.
    pub(super) promised: i128,
    /// By the first alone.
    pub(super) first: i128,
}

/// A consumer that is connected.
struct Connected {
    consumer: Consumer,
    daemon: Daemon,
    active: Value,
}

pub(super) fn surf(
    lab: &Lab,
    stage: &mut Stage,
    mib: u64,
    report: &mut Report,
) -> anyhow::Result<Bill> {
    let [first, second] = stage.consumers.as_slice() else {
        bail!("the demo has two consumers");
    };
    let (first, second) = (first.clone(), second.clone());
    let mut lan = Capture::start(&stage.network.lan, LAN, "ip or ip6")?;
    // Everything but the tunnel's own datagrams; ARP is no IP.
    let beside = format!("(ip or ip6) and not (udp and host {PROVIDER} and port {PORT})");
    let mut uplink = Capture::start(&first.party.at, UPLINK, &beside)?;
    let without = seen_at(&first)?;
    ensure!(
        without == Network::consumer_address(0),
        "without a tunnel it is {without}"
    );
    step(&format!(
        "without a tunnel, the web server sees {} at {without}",
        first.party.name
    ));
    find_offer(&first.party)?;

    let first = connect(first)?;
    let connect_ms = json::number(&first.active, "connect_ms")?;
    let note = "from the look for proposals until the tunnel is up";
    report.number(
        "connect_ms",
        Some(connect_ms),
        "ms",
        &Bar::AtMost(3_000.0),
        note,
    );
    let control = uplink.packets()?.len();
    ensure!(
        control > 0,
        "the capture has not seen the packets before the tunnel"
    );
    let through = seen_at(&first.consumer)?;
    report.text(
        "exit_ip",
        Some(&through),
        &Bar::Text(PROVIDER.to_owned()),
        "as the web server sees it",
    );
    step(&format!("through the tunnel, it sees {through}"));
    let second = connect(second)?;

    let page = first.consumer.get("/page", PAGE)?;
    ensure!(
        page.as_deref() == Some(web::PAGE),
        "the page came as {page:?}"
    );
    let mut parties = [first, second];
    let sum = transfer(lab, stage, &mut parties, mib)?;
    let [mut first, mut second] = parties;
    report.text(
        "sha256",
        Some(&sum),
        &Bar::Text(stage.sha256.clone()),
        "of the file that came through",
    );
    probe_lan(stage, &first, &mut lan, report)?;
    let after = uplink.packets()?;
    let beside = after.get(control..).unwrap_or_default();
    let seen: Vec<&str> = beside.iter().take(3).map(String::as_str).collect();
    let note = if seen.is_empty() {
        format!("the same capture saw {control} before the tunnel was up")
    } else {
        seen.join("; ")
    };
    let count = Some(beside.len() as f64);
    report.number(
        "off_tunnel_packets",
        count,
        "packets",
        &Bar::Exactly(0.0),
        &note,
    );
    compare_meters(stage, &mut [&mut first, &mut second], report)?;
    close(first, second, mib, report)
}

/// The address at which the web server sees a consumer.
fn seen_at(consumer: &Consumer) -> anyhow::Result<String> {
    let seen = consumer.get("/ip", PAGE)?;
    let seen = seen.with_context(|| format!("{} gets no answer", consumer.party.name))?;
    Ok(seen.trim().to_owned())
}

fn connect(consumer: Consumer) -> anyhow::Result<Connected> {
    let mut daemon = consumer.party.start(&["up", "--country", "NL"])?;
    let active = daemon.wait_for("active", SOON)?;
    step(&format!(
        "{} is connected in {} ms",
        consumer.party.name, active["connect_ms"]
    ));
    Ok(Connected {
        consumer,
        daemon,
        active,
    })
}

/// Both fetch at once, the first the whole file, the second a part of it. The answer is the sum of
/// what the first has got.
fn transfer(
    lab: &Lab,
    stage: &mut Stage,
    connected: &mut [Connected; 2],
    mib: u64,
) -> anyhow::Result<String> {
    step(&format!(
        "{} fetches {mib} MiB, {} a part of it",
        connected[0].consumer.party.name, connected[1].consumer.party.name
    ));
    let limit = TRANSFER + Duration::from_secs(mib);
    let mut fetches = Vec::new();
    for (one, path) in connected.iter().zip(["/file", "/part"]) {
        let got = lab
            .folder()
            .join(format!("{}.got", one.consumer.party.name));
        fetches.push((fetch(&one.consumer.party, path, &got, limit)?, got));
    }
    let begun = Instant::now();
    let mut next = begun + TELL;
    for at in 0..fetches.len() {
        wait_for("the file", limit, || {
            stage.must_live()?;
            connected
                .iter_mut()
                .try_for_each(|one| one.daemon.must_live())?;
            if Instant::now() >= next {
                next += TELL;
                tell_progress(&fetches[0].1, connected);
            }
            let Some(status) = fetches[at].0.ended()? else {
                return Ok(None);
            };
            ensure!(status.success(), "curl failed: {}", fetches[at].0.said());
            Ok(Some(()))
        })?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    step(&format!(
        "fetched {mib} MiB in {seconds:.1} s, {:.1} MiB/s",
        mib as f64 / seconds
    ));
    sha256(&fetches[0].1)
}

fn fetch(party: &Party, path: &str, into: &Path, limit: Duration) -> anyhow::Result<Background> {
    let url = format!("http://{SERVICES}{path}");
    let (into, seconds) = (into.to_string_lossy(), limit.as_secs().to_string());
    let args = ["-sS", "--fail", "--max-time", &seconds, "-o", &into, &url];
    party
        .at
        .spawn(&format!("{}-curl", party.name), "curl", args)
}

fn tell_progress(got: &Path, connected: &[Connected; 2]) {
    let bytes = std::fs::metadata(got).map_or(0, |file| file.len());
    let each = connected.iter().map(|one| {
        let total = one
            .daemon
            .last("paid")
            .and_then(|event| json::amount(&event, "total").ok());
        let (count, total) = (one.daemon.count("paid"), shown(total.unwrap_or(0)));
        format!(
            "{}: {count} promises paid, {total} tokens",
            one.consumer.party.name
        )
    });
    let each: Vec<String> = each.collect();
    say(&format!(
        "            {:>4} MiB; {}",
        bytes >> 20,
        each.join("; ")
    ));
}

/// Tries to reach the provider's neighbour through the tunnel, by TCP and UDP; then shows that a
/// packet would have been seen.
fn probe_lan(
    stage: &Stage,
    connected: &Connected,
    lan: &mut Capture,
    report: &mut Report,
) -> anyhow::Result<()> {
    let seconds = PROBE.as_secs().to_string();
    let before = lan.packets()?.len();
    for scheme in ["http", "tftp"] {
        let url = format!("{scheme}://{LAN_HOST}/x");
        let args = ["-sS", "--max-time", &seconds, &url];
        let said = connected.consumer.party.at.capture("curl", &args, SOON)?;
        ensure!(
            !said.status.success(),
            "the provider's neighbour answers a consumer"
        );
    }
    let reached = lan.packets()?.len() - before;
    let url = format!("http://{LAN_HOST}/x");
    stage
        .network
        .provider
        .capture("curl", &["-sS", "--max-time", &seconds, &url], SOON)?;
    let control = wait_for("the capture to see the provider itself", SOON, || {
        let seen = lan.packets()?.len() - before - reached;
        Ok((seen > 0).then_some(seen))
    })?;
    let note = format!("TCP and UDP to {LAN_HOST}; the provider itself made {control} there");
    report.number(
        "lan_packets",
        Some(reached as f64),
        "packets",
        &Bar::Exactly(0.0),
        &note,
    );
    Ok(())
}

/// Reads both sides' meters once nothing moves any more.
fn compare_meters(
    stage: &Stage,
    connected: &mut [&mut Connected; 2],
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

/// Ends both sessions as a person would, and judges what was paid by what was used.
fn close(
    first: Connected,
    second: Connected,
    mib: u64,
    report: &mut Report,
) -> anyhow::Result<Bill> {
    let (mut promised, mut used, mut promises) = (Vec::new(), 0.0, 0.0);
    for mut one in [first, second] {
        one.daemon.interrupt(DOWN)?;
        let closed = one
            .daemon
            .last("closed")
            .context("it ended without a last word")?;
        let told = &closed["report"];
        step(&format!(
            "{}: {}; {} promised",
            one.consumer.party.name,
            closed["reason"].as_str().unwrap_or("?"),
            shown(json::amount(told, "promised")?)
        ));
        let account = one.consumer.party.ask(&["account"])?;
        promised.push(json::amount(&account, "promised")?);
        used += cost(told)?;
        promises += json::number(told, "promises")?;
    }
    let total: i128 = promised.iter().sum();
    let ratio = total as f64 / used;
    let note = "promised / (consumers' meters × price), both consumers";
    report.number(
        "billed_vs_metered",
        Some(ratio),
        "ratio",
        &Bar::Within(0.99, 1.01),
        note,
    );
    // Credit grows to sixteen chunks of a mebibyte at most: fewer promises would be too much trust.
    let least = (mib / 16).max(2) as f64;
    report.number(
        "promises",
        Some(promises),
        "promises",
        &Bar::AtLeast(least),
        "both consumers",
    );
    Ok(Bill {
        promised: total,
        first: promised[0],
    })
}

/// What a session cost by its consumer's own meter and the price agreed upon.
fn cost(report: &Value) -> anyhow::Result<f64> {
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
