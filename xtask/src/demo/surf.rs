//! The middle of the demo: two consumers use the internet through the provider and pay for it. It
//! refuses to take the product's word for what went where: it looks with `curl`, `sha256sum` and
//! `tcpdump`.

mod eyes;
mod meters;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::lab::{Background, Lab, wait_for};
use crate::progress::{say, step};
use crate::report::{Bar, Report};

use eyes::Eyes;

use super::coins::shown;
use super::network::{Network, PROVIDER, SERVICES};
use super::party::{Daemon, Party};
use super::stage::{Consumer, DOWN, PER_GIB, SOON, Stage, sha256};
use super::{find_offer, json, web};

/// 256 MiB at 2 MiB/s, well below what the slowest machine in sight does.
const TRANSFER: Duration = Duration::from_secs(128);

/// A page, or a failure to get one.
const PAGE: Duration = Duration::from_secs(20);

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
    let mut eyes = Eyes::open(stage, &first)?;
    let without = seen_at(&first)?;
    let expected = Network::consumer_address(0);
    ensure!(without == expected, "without a tunnel it is {without}");
    let name = first.party.name.clone();
    step(&format!(
        "without a tunnel, the web server sees {name} at {without}"
    ));
    find_offer(&first.party)?;

    let first = connect(first)?;
    eyes.tunnel_is_up()?;
    let connect_ms = json::number(&first.active, "connect_ms")?;
    let note = "from the look for proposals until the tunnel is up";
    let bar = Bar::AtMost(3_000.0);
    report.number("connect_ms", Some(connect_ms), "ms", &bar, note);
    let through = seen_at(&first.consumer)?;
    let bar = Bar::Text(PROVIDER.to_owned());
    report.text("exit_ip", Some(&through), &bar, "as the web server sees it");
    step(&format!("through the tunnel, it sees {through}"));

    let second = connect(second)?;
    let page = first.consumer.get("/page", PAGE)?;
    let whole = page.as_deref() == Some(web::PAGE);
    ensure!(whole, "the page came as {page:?}");
    let mut both = [first, second];
    let sum = transfer(lab, stage, &mut both, mib)?;
    let bar = Bar::Text(stage.sha256.clone());
    report.text("sha256", Some(&sum), &bar, "of the file that came through");
    let [first, second] = both;
    eyes.probe_lan(stage, &first, report)?;
    eyes.judge_uplink(report)?;
    meters::compare(stage, [&first, &second], report)?;
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

/// Ends both sessions as a person would, and judges what was paid by what was used.
fn close(
    first: Connected,
    second: Connected,
    mib: u64,
    report: &mut Report,
) -> anyhow::Result<Bill> {
    let (mut promised, mut used, mut promises) = (Vec::new(), 0.0, 0.0);
    let mut chunk = 0;
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
        used += meters::cost(told)?;
        promises += json::number(told, "promises")?;
        chunk = chunk.max(json::amount(&told["agreement"], "chunk")?);
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
    let chunk_kib = u64::try_from(chunk * (1 << 20) / PER_GIB)?;
    let least = fewest_promises(mib, chunk_kib) as f64;
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

/// Credit is an eighth of what was paid, between the first chunk, which grows with the round trip,
/// and 256 MiB: fewer promises than this would be too much trust. The last credit may stay unused
/// until the end.
fn fewest_promises(mib: u64, chunk_kib: u64) -> u64 {
    let most = 256 * 1_024;
    let chunk_kib = chunk_kib.clamp(1, most);
    let (mut paid_kib, mut promises) = (chunk_kib, 0);
    while paid_kib < mib.saturating_mul(1_024) {
        paid_kib += (paid_kib / 8).clamp(chunk_kib, most);
        promises += 1;
    }
    promises.max(2)
}
