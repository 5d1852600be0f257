//! The demo of a relay that is paid: provider and consumers reach each other through it alone. The first consumer fetches a file and
//! pays both; the second pays no relay, and gets what is free. It refuses to take the product's word for what passed: nftables count
//! the relay's frames, the chain its tokens.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::cli::{Given, Outcome};
use crate::lab::{Lab, Leftovers, Namespace, pause, wait_for};
use crate::need;
use crate::progress::{out, step};
use crate::report::{Bar, Report};

use super::balances::{self, Balances};
use super::coins::{Movement, ONE, shown};
use super::network::{RELAY_PORT, SERVICES};
use super::party::{Daemon, Party};
use super::programs::Programs;
use super::stage::{Consumer, DOWN, SOON, Stage, sha256};
use super::{EXIT_DELAY, PURSE, close_report, collected, find_offer, in_lab, json, top_up};

/// What the relay asks for a gibibyte: a tenth of the exit's price.
const PER_GIB: i128 = ONE / 20;

/// What a relay passes for a node that has paid nothing, and how much more each second.
const FREE: u64 = 256 << 10;
const TRICKLE: u64 = 2 << 10;

/// One frame may begin within what is free and end beyond it.
const FRAME: u64 = 2 << 10;

/// How long the second consumer tries to fetch the file.
const IN_VAIN: Duration = Duration::from_secs(10);

/// A fetch at 1 MiB/s, well below what the slowest machine in sight does.
const LEAST_PACE: u64 = 1;

const CHECKS: &[&str] = &[
    "path",
    "sha256",
    "mib_s",
    "relay_meters_agree",
    "relay_billed_vs_metered",
    "relay_promises",
    "unpaid_bytes",
    "relay_settlements",
    "relay_earned_wei",
    "exit_earned_wei",
    "conservation_wei",
    "left_behind",
    "wall_s",
];

/// Runs the scenario.
pub(super) fn run(given: &Given) -> anyhow::Result<Outcome> {
    let mib = given.number("--mib", 64)?;
    ensure!(
        (16..=4_096).contains(&mib),
        "--mib takes 16 to 4096 with a relay, not {mib}"
    );
    need::need(&["ip", "nft", "curl"])?;
    let programs = Programs::at_hand(given.value("--programs"))?;
    let begun = Instant::now();
    let mut report = Report::begin("demo relay");
    let told = in_lab(given, &mut report, |lab, report| {
        tell(lab, &programs, mib, report)
    });
    close_report(given, report, CHECKS, told, begun)
}

fn tell(
    lab: &Lab,
    programs: &Programs,
    mib: u64,
    report: &mut Report,
) -> anyhow::Result<Vec<Leftovers>> {
    let mut stage = Stage::set_behind_relay(lab, programs, 2, mib << 20, EXIT_DELAY, PER_GIB)?;
    stage.coins.make_tokens(&stage.coins.purse, PURSE)?;
    let before = Balances::read(&stage)?;
    for consumer in &stage.consumers {
        top_up(&stage, consumer)?;
    }
    let home = stage.network.relay.clone().context("there is a relay")?;
    let frames = Frames::count(&home)?;
    let (first, second) = match stage.consumers.as_slice() {
        [first, second] => (first.clone(), second.clone()),
        _ => anyhow::bail!("this demo has two consumers"),
    };
    find_offer(&first.party)?;
    let paid = pay(lab, &mut stage, &first, mib, report)?;
    let unpaid = do_not_pay(&mut stage, second, &frames, report)?;
    frames.end()?;
    let relay = stage.relay.as_ref().context("there is a relay")?.0.clone();
    for party in [&stage.provider, &relay] {
        let told = party.ask(&["settle"])?;
        let total = json::amount(&told, "total")?;
        step(&format!("the {} settled {}", party.name, shown(total)));
    }
    let exit = paid.exit + unpaid;
    collected(&stage, exit + paid.relay)?;
    let after = Balances::read(&stage)?;
    let movements = stage.coins.movements()?;
    count_settlements(report, &movements, &relay);
    let note = "tokens of its identity on the chain; expected: promised to it";
    report.whole(
        "relay_earned_wei",
        Some(after.relay()),
        "wei",
        paid.relay,
        note,
    );
    let note = "tokens of the provider on the chain; expected: promised to it by both consumers";
    report.whole("exit_earned_wei", Some(after.provider()), "wei", exit, note);
    let promised = Some(exit + paid.relay);
    balances::judge(report, "conservation_wei", &after, &movements, promised);
    out(&format!("\n{}\n", before.compared(&after)));
    step("stopping provider, relay, Hermes and index");
    stage.strike()
}

/// What the first consumer promised, smallest units.
struct Paid {
    exit: i128,
    relay: i128,
}

/// The first consumer fetches the whole file and pays the exit and the relay.
fn pay(
    lab: &Lab,
    stage: &mut Stage,
    consumer: &Consumer,
    mib: u64,
    report: &mut Report,
) -> anyhow::Result<Paid> {
    let name = &consumer.party.name;
    let mut daemon = connect(&consumer.party)?;
    step(&format!("{name} fetches {mib} MiB through the relay"));
    let got = lab.folder().join(format!("{name}.got"));
    let limit = Duration::from_secs(60 + mib / LEAST_PACE);
    let begun = Instant::now();
    let (into, seconds) = (got.to_string_lossy(), limit.as_secs().to_string());
    let url = format!("http://{SERVICES}/file");
    let args = ["-sS", "--fail", "--max-time", &seconds, "-o", &into, &url];
    let mut fetch = consumer
        .party
        .at
        .spawn(&format!("{name}-curl"), "curl", args)?;
    wait_for("the file", limit, || {
        stage.must_live()?;
        daemon.must_live()?;
        let Some(status) = fetch.ended()? else {
            return Ok(None);
        };
        ensure!(status.success(), "curl failed: {}", fetch.said());
        Ok(Some(()))
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let sum = sha256(&got)?;
    let bar = Bar::Text(stage.sha256.clone());
    report.text("sha256", Some(&sum), &bar, "of the file that came through");
    let pace = Some(mib as f64 / seconds);
    report.number("mib_s", pace, "MiB/s", &Bar::Measured, "of that file");
    let path = wait_for("the search for a direct path to end", SOON, || {
        let settled = |path: &Value| path["outcome"].as_str().is_some_and(|it| !it.is_empty());
        Ok(daemon.last("path").filter(settled))
    })?;
    let kind = path["kind"].as_str();
    let bar = Bar::Text("relayed".to_owned());
    let note = path["outcome"].as_str().unwrap_or_default();
    report.text("path", kind, &bar, note);

    let relay = &stage.relay.as_ref().context("there is a relay")?.0;
    let metered = still(relay)?;
    daemon.interrupt(DOWN)?;
    let closed = daemon.last("closed");
    let told = &closed.context("it ended without a last word")?["report"];
    let toll = &told["relay"];
    let counted = json::number(&toll["usage"], "up")? + json::number(&toll["usage"], "down")?;
    let ratio = metered as f64 / counted;
    let note = format!("relay's bytes / consumer's: {metered} / {counted}");
    let bar = Bar::Within(0.99, 1.01);
    report.number("relay_meters_agree", Some(ratio), "ratio", &bar, &note);
    let paid = Paid {
        exit: json::amount(told, "promised")?,
        relay: json::amount(toll, "promised")?,
    };
    let cost = metered as f64 * PER_GIB as f64 / (1_u64 << 30) as f64;
    let ratio = paid.relay as f64 / cost;
    let note = "promised to the relay / (its bytes × its price), read a moment before the end";
    let bar = Bar::Within(0.999, 1.001);
    report.number("relay_billed_vs_metered", Some(ratio), "ratio", &bar, note);
    let promises = json::number(toll, "promises")?;
    let bar = Bar::AtLeast(2.0);
    let note = "the first chunk, and at least one more";
    report.number("relay_promises", Some(promises), "promises", &bar, note);
    let account = consumer.party.ask(&["account"])?;
    let promised = json::amount(&account, "promised")?;
    ensure!(
        promised == paid.exit + paid.relay,
        "{promised} were promised in all, {} to the exit and {} to the relay",
        paid.exit,
        paid.relay
    );
    step(&format!(
        "{name} promised {} to the exit and {} to the relay",
        shown(paid.exit),
        shown(paid.relay)
    ));
    Ok(paid)
}

/// The second consumer wants free relays only. The answer is what it promised to the exit.
fn do_not_pay(
    stage: &mut Stage,
    mut consumer: Consumer,
    frames: &Frames,
    report: &mut Report,
) -> anyhow::Result<i128> {
    consumer.party.set(&[("relay_price_most", "0")])?;
    let before = frames.passed()?;
    let begun = Instant::now();
    let mut daemon = connect(&consumer.party)?;
    let got = consumer.get("/file", IN_VAIN)?;
    ensure!(got.is_none(), "a whole file came through for nothing");
    let told = daemon.events();
    let dear = |event: &Value| event["event"] == "toll" && event["state"] == "too_dear";
    ensure!(
        told.iter().any(dear),
        "nothing was said of the relay's price"
    );
    stage.must_live()?;
    let passed = frames.passed()?.saturating_sub(before);
    let seconds = begun.elapsed().as_secs() + 1;
    let bar = Bar::AtMost((FREE + TRICKLE * seconds + FRAME) as f64);
    let note = format!(
        "in relay frames, both directions, counted by nftables in {seconds} s: {FREE} are free, {TRICKLE} more a second"
    );
    report.number("unpaid_bytes", Some(passed as f64), "bytes", &bar, &note);
    daemon.interrupt(DOWN)?;
    let account = consumer.party.ask(&["account"])?;
    json::amount(&account, "promised")
}

fn connect(party: &Party) -> anyhow::Result<Daemon> {
    let mut daemon = party.start(&["up", "--country", "NL"])?;
    let active = daemon.wait_for("active", SOON)?;
    step(&format!(
        "{} is connected in {} ms",
        party.name, active["connect_ms"]
    ));
    Ok(daemon)
}

/// What the relay has counted of its only agreement, once that stands still but for what keeps paths open.
fn still(relay: &Party) -> anyhow::Result<u64> {
    let mut last = 0;
    for _ in 0..30 {
        let told = relay.ask(&["sessions"])?;
        let rows = told.as_array().context("`sessions` answers a list")?;
        let mut bytes = 0;
        for row in rows {
            for side in ["up", "down"] {
                bytes += row[side]
                    .as_u64()
                    .with_context(|| format!("no `{side}` in {row}"))?;
            }
        }
        if bytes > 0 && bytes - last < FRAME {
            return Ok(bytes);
        }
        last = bytes;
        pause(Duration::from_millis(300))?;
    }
    anyhow::bail!("the relay's count does not stand still: {last}")
}

fn count_settlements(report: &mut Report, movements: &[Movement], relay: &Party) {
    let is_its =
        |one: &&Movement| one.kind == "settled" && one.who.eq_ignore_ascii_case(&relay.identity);
    let count = movements.iter().filter(is_its).count() as f64;
    let note = "of the relay, by the vault's own events";
    let bar = Bar::Exactly(1.0);
    report.number("relay_settlements", Some(count), "transactions", &bar, note);
}

/// The relay's frames on their way out of its computer, as nftables count them.
struct Frames {
    at: Namespace,
}

impl Frames {
    fn count(at: &Namespace) -> anyhow::Result<Self> {
        // The first four bytes of a frame; a train of them is one packet here, with one header.
        at.nft(&format!(
            "table inet seen {{\n  counter frames {{ }}\n  chain out {{\n    type filter hook output priority 0; policy accept;\n    \
             udp sport {RELAY_PORT} @th,64,32 0x06000000 counter name frames\n  }}\n}}\n"
        ))?;
        Ok(Self { at: at.clone() })
    }

    fn end(self) -> anyhow::Result<()> {
        self.at.nft("delete table inet seen\n")
    }

    /// Bytes of frames so far, without the headers of IPv4 and UDP.
    fn passed(&self) -> anyhow::Result<u64> {
        const HEADERS: u64 = 20 + 8;
        let told = self
            .at
            .output("nft", &["-j", "list", "counter", "inet", "seen", "frames"])?;
        let told: Value = serde_json::from_str(&told).context("nft's answer is no JSON")?;
        let rows = told["nftables"].as_array().context("nft answers a list")?;
        let counter = rows
            .iter()
            .map(|row| &row["counter"])
            .find(|it| it.is_object());
        let counter = counter.context("nft knows no such counter")?;
        let bytes = counter["bytes"].as_u64().context("a counter has bytes")?;
        let packets = counter["packets"]
            .as_u64()
            .context("a counter has packets")?;
        Ok(bytes.saturating_sub(packets * HEADERS))
    }
}
