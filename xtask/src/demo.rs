//! `demo`: the whole network at work on real parts, in namespaces of its own, with every figure
//! that somebody may doubt checked by something that is not the product: `curl`, `tcpdump`,
//! `sha256sum`, an ordinary wallet. It refuses to leave anything behind, however it ends.

pub mod balances;
pub mod capture;
pub mod coins;
pub mod json;
pub mod network;
pub mod party;
pub mod programs;
mod relay;
pub mod stage;
mod surf;
pub mod web;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::cli::{Given, Outcome};
use crate::interrupt::{self, Interrupted};
use crate::lab::{Lab, Leftovers, pause, wait_for};
use crate::need;
use crate::process::{LOOK, last_lines};
use crate::progress::{out, step};
use crate::report::{Bar, Report};

use balances::Balances;
use coins::{Movement, shown};
use party::Party;
use programs::Programs;
use stage::{Consumer, SOON, Stage, TOPUP};

/// From a consumer's wish to leave until it is paid: long enough to be seen, short enough to wait for.
const EXIT_DELAY: Duration = Duration::from_secs(5);

/// What the ordinary wallet has to begin with: two top-ups and change.
const PURSE: i128 = 2 * TOPUP + 2 * coins::ONE;

/// Everything that the report tells, in its order. What was not reached is told as not measured.
const CHECKS: &[&str] = &[
    "exit_ip",
    "sha256",
    "off_tunnel_packets",
    "lan_packets",
    "meters_agree",
    "billed_vs_metered",
    "promises",
    "connect_ms",
    "settlements",
    "settlement_gas",
    "conservation_wei",
    "left_behind",
    "wall_s",
];

/// Runs the subcommand.
///
/// # Errors
/// When a part does not work at all, or [`Interrupted`].
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    match given.value("--scenario") {
        None | Some("whole") => {}
        Some("relay") => return relay::run(given),
        Some(other) => bail!("--scenario takes whole or relay, not {other}"),
    }
    let mib = given.number("--mib", 256)?;
    ensure!(
        (1..=4_096).contains(&mib),
        "--mib takes 1 to 4096, not {mib}"
    );
    need::need(&["ip", "nft", "curl", "tcpdump"])?;
    let programs = Programs::at_hand(given.value("--programs"))?;
    let begun = Instant::now();
    let mut report = Report::begin("demo");
    let told = in_lab(given, &mut report, |lab, report| {
        tell(lab, &programs, mib, report)
    });
    close_report(given, report, CHECKS, told, begun)
}

/// Opens a lab for `story`, closes it whatever happens, and adds `left_behind`.
pub(crate) fn in_lab(
    given: &Given,
    report: &mut Report,
    story: impl FnOnce(&Lab, &mut Report) -> anyhow::Result<Vec<Leftovers>>,
) -> anyhow::Result<()> {
    in_labs(given, report, 1, |labs, report| story(&labs[0], report))
}

/// As [`in_lab`], with so many labs side by side.
pub(crate) fn in_labs(
    given: &Given,
    report: &mut Report,
    count: usize,
    story: impl FnOnce(&[Lab], &mut Report) -> anyhow::Result<Vec<Leftovers>>,
) -> anyhow::Result<()> {
    let mut labs = Vec::new();
    for _ in 0..count {
        labs.push(Lab::open()?);
    }
    let told = story(&labs, report);
    let failed = told.as_ref().is_err_and(|error| !error.is::<Interrupted>());
    if failed || given.has("--keep") {
        labs.iter_mut().for_each(Lab::keep_logs);
    }
    step("ending everything");
    let outside = Lab::close_all(labs)?;
    let (inside, told) = match told {
        Ok(inside) => (inside, Ok(())),
        Err(error) => (Vec::new(), Err(error)),
    };
    let all: Vec<Leftovers> = inside.into_iter().chain(outside).collect();
    let count: usize = all.iter().map(Leftovers::count).sum();
    let words: Vec<String> = all
        .iter()
        .filter(|left| left.count() > 0)
        .map(Leftovers::to_string)
        .collect();
    let note = "namespaces, processes, rules, routes; in every namespace and outside";
    let note = if words.is_empty() {
        note.to_owned()
    } else {
        words.join("; ")
    };
    let bar = Bar::Exactly(0.0);
    report.number("left_behind", Some(count as f64), "things", &bar, &note);
    told
}

/// Adds what is missing, prints the table, writes the file, judges.
pub(crate) fn close_report(
    given: &Given,
    mut report: Report,
    checks: &[&str],
    told: anyhow::Result<()>,
    begun: Instant,
) -> anyhow::Result<Outcome> {
    let seconds = begun.elapsed().as_secs_f64().round();
    report.number(
        "wall_s",
        Some(seconds),
        "s",
        &Bar::Measured,
        "without the build",
    );
    if let Err(error) = told {
        let why = last_lines(&format!("not reached: {error:#}"), 4);
        for name in checks {
            if !report.checks.iter().any(|check| check.name == *name) {
                report.number(name, None, "", &Bar::Measured, &why);
            }
        }
        if let Some(file) = given.value("--json") {
            report.write(Path::new(file))?;
        }
        return Err(error);
    }
    out(&report.table());
    report.finish(given.value("--json"))
}

fn tell(
    lab: &Lab,
    programs: &Programs,
    mib: u64,
    report: &mut Report,
) -> anyhow::Result<Vec<Leftovers>> {
    let mut stage = Stage::set(lab, programs, 2, mib << 20, EXIT_DELAY)?;
    stage.coins.make_tokens(&stage.coins.purse, PURSE)?;
    let before = Balances::read(&stage)?;
    for consumer in &stage.consumers {
        top_up(&stage, consumer)?;
    }
    let bill = surf::surf(lab, &mut stage, mib, report)?;
    settle(&stage, report)?;
    collected(&stage, bill.promised)?;
    leave(&stage, bill)?;
    let after = Balances::read(&stage)?;
    let movements = stage.coins.movements()?;
    count_settlements(report, &movements);
    balances::judge(
        report,
        "conservation_wei",
        &after,
        &movements,
        Some(bill.promised),
    );
    ensure!(
        after.provider() == bill.promised,
        "the provider was promised {} and has {}",
        bill.promised,
        after.provider()
    );
    out(&format!("\n{}\n", before.compared(&after)));
    step("stopping provider, Hermes and index");
    stage.strike()
}

/// A plain transfer to the address that `account` prints; the consumer then sees it.
fn top_up(stage: &Stage, consumer: &Consumer) -> anyhow::Result<()> {
    let name = &consumer.party.name;
    step(&format!(
        "topping up {name} with {} tokens from an ordinary wallet",
        shown(TOPUP)
    ));
    stage.coins.send_tokens(&consumer.deposit_address, TOPUP)?;
    let account = consumer.party.ask(&["account"])?;
    let spendable = json::amount(&account, "spendable")?;
    ensure!(
        spendable == TOPUP,
        "{name} was sent {TOPUP} and may spend {spendable}"
    );
    Ok(())
}

/// Finds out that the provider's offer is there.
pub(crate) fn find_offer(party: &Party) -> anyhow::Result<()> {
    let offer = wait_for("the provider's proposal", SOON, || {
        let told = party.ask(&["proposals", "--country", "NL"])?;
        Ok(told["proposals"]
            .as_array()
            .and_then(|all| all.first().cloned()))
    })?;
    let (gib, hour) = (
        json::amount(&offer, "per_gib")?,
        json::amount(&offer, "per_hour")?,
    );
    step(&format!(
        "{} found a proposal in NL: {} per GiB and {} per hour",
        party.name,
        shown(gib),
        shown(hour)
    ));
    Ok(())
}

/// One transaction for everything that all consumers paid.
fn settle(stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    let told = stage.provider.ask(&["settle"])?;
    let (total, gas) = (json::amount(&told, "total")?, json::number(&told, "gas")?);
    step(&format!(
        "the provider settled {} in one transaction",
        shown(total)
    ));
    // What the contract suite allows for a first settlement to an account that had no token.
    let bar = Bar::AtMost(100_000.0);
    let note = "the first one, to an account that had no token";
    report.number("settlement_gas", Some(gas), "gas", &bar, note);
    Ok(())
}

fn count_settlements(report: &mut Report, movements: &[Movement]) {
    let settled = movements
        .iter()
        .filter(|movement| movement.kind == "settled");
    let mut transactions: Vec<&str> = settled.map(|one| one.transaction.as_str()).collect();
    transactions.dedup();
    let count = Some(transactions.len() as f64);
    let note = "by the vault's own events; all consumers in it";
    report.number(
        "settlements",
        count,
        "transactions",
        &Bar::Exactly(1.0),
        note,
    );
}

/// The Hermes takes all that consumers have promised from their deposits.
fn collected(stage: &Stage, promised: i128) -> anyhow::Result<()> {
    let told = stage.hermes.ask(&["collect"])?;
    let rows = told["collected"]
        .as_array()
        .context("`collect` answers a list")?;
    let totals = rows.iter().map(|row| json::amount(row, "total"));
    let total = totals.sum::<anyhow::Result<i128>>()?;
    step(&format!(
        "the Hermes collected {} from {} consumers",
        shown(total),
        rows.len()
    ));
    ensure!(total == promised, "promised {promised}, collected {total}");
    Ok(())
}

/// The first consumer takes the rest of its deposit home, to the wallet that it came from.
fn leave(stage: &Stage, bill: surf::Bill) -> anyhow::Result<()> {
    let consumer = stage.consumers.first().context("there are consumers")?;
    consumer.party.ask(&["exit"])?;
    step(&format!(
        "{} asked for its deposit back, and waits",
        consumer.party.name
    ));
    pause(EXIT_DELAY)?;
    let to = stage.coins.purse.as_str();
    let mut refusal = None;
    let paid = wait_for("the exit", SOON, || {
        match consumer.party.ask(&["exit", "--finalize", "--to", to]) {
            Ok(told) => json::amount(&told, "paid").map(Some),
            Err(error) => {
                interrupt::check()?;
                refusal = Some(error);
                std::thread::sleep(LOOK * 20);
                Ok(None)
            }
        }
    });
    let paid = paid.with_context(|| {
        refusal.map_or(String::new(), |error| {
            format!("the last answer was: {error:#}")
        })
    })?;
    step(&format!(
        "{} was paid {} back",
        consumer.party.name,
        shown(paid)
    ));
    let expected = TOPUP - bill.first;
    ensure!(
        paid == expected,
        "{expected} were left of its deposit, {paid} came back"
    );
    Ok(())
}
