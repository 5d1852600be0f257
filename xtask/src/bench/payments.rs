//! `bench payments`: what it costs a download that it is paid for. The demo's whole network, and
//! one consumer's downloads in pairs: paid as always, and in a session whose first payment is so
//! large that no other is asked for. A ratio is that of the two downloads of one pair.
//!
//! How it is measured: `docs/bench.md`. It refuses to judge on a restless machine, and to take a
//! session for one without payments unless it counted none.

mod download;
mod judge;
mod turn;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::tunnel::cpu;
use super::tunnel::streams::Server;
use crate::cli::{Given, Outcome};
use crate::demo::coins::shown;
use crate::demo::programs::Programs;
use crate::demo::stage::{COLLATERAL, DOWN, PER_GIB, Stage, UP};
use crate::demo::{close_report, in_lab, json};
use crate::lab::{Lab, Leftovers, pause};
use crate::need;
use crate::progress::step;
use crate::report::Report;

use turn::{Table, Turn};

/// Seconds of a download that are not counted: credit grows with what was paid, as a stream's
/// window does, and both have got where they get by then.
const RAMP: u64 = 2;

/// What a second of a download is taken for, in GiB: more than both cores can carry.
const GIB_PER_SECOND: u64 = 2;

/// Nobody leaves in this story.
const EXIT_DELAY: Duration = Duration::from_secs(60);

/// After a session's end: its last payment is settled between Hermes and provider.
const REST: Duration = Duration::from_millis(500);

/// What the report tells of a run that did not come to its end.
const CHECKS: &[&str] = &["others_busy", "payments_overhead", "left_behind"];

/// A run, as asked for.
#[derive(Clone, Copy, Debug)]
struct Plan {
    rounds: u64,
    seconds: u64,
}

impl Plan {
    fn read(given: &Given) -> anyhow::Result<Self> {
        let rounds = given.number("--rounds", 5)?;
        ensure!((1..=100).contains(&rounds), "--rounds takes 1 to 100");
        let seconds = given.number("--seconds", 8)?;
        let least = RAMP + 1;
        let allowed = least..=60;
        ensure!(allowed.contains(&seconds), "--seconds takes {least} to 60");
        let plan = Self { rounds, seconds };
        // Where the Hermes could owe more than it has, the provider looks at every packet.
        let most = plan.deposit() + plan.chunk();
        ensure!(
            most < COLLATERAL,
            "--rounds and --seconds take less: the Hermes has {} to pay with, {} may be owed",
            shown(COLLATERAL),
            shown(most)
        );
        Ok(plan)
    }

    /// The price of more than a download can be.
    fn chunk(self) -> i128 {
        PER_GIB * i128::from(GIB_PER_SECOND * self.seconds)
    }

    /// For a deposit that no round exhausts: each pays a first chunk and a download that costs less.
    fn deposit(self) -> i128 {
        self.chunk() * 2 * (i128::from(self.rounds) + 1)
    }
}

/// A round: both downloads, and what else the machine did before them.
#[derive(Clone, Copy, Debug)]
struct Pair {
    others: f64,
    paid: Turn,
    unpaid: Turn,
}

/// Runs it.
///
/// # Errors
/// When the network does not come up or a download fails, or [`crate::interrupt::Interrupted`].
pub(super) fn run(given: &Given) -> anyhow::Result<Outcome> {
    let plan = Plan::read(given)?;
    need::need(&["ip", "nft", "curl", "iperf3"])?;
    let programs = Programs::at_hand(given.value("--programs"))?;
    let begun = Instant::now();
    let mut report = Report::begin("bench payments");
    let told = in_lab(given, &mut report, |lab, report| {
        let (pairs, leftovers) = measure(lab, &programs, plan)?;
        judge::judge(report, &pairs);
        Ok(leftovers)
    });
    close_report(given, report, CHECKS, told, begun)
}

fn measure(
    lab: &Lab,
    programs: &Programs,
    plan: Plan,
) -> anyhow::Result<(Vec<Pair>, Vec<Leftovers>)> {
    let mut stage = Stage::set(lab, programs, 1, 1 << 20, EXIT_DELAY)?;
    trust(&mut stage, plan)?;
    top_up(&stage, plan)?;
    let server = Server::start(&stage.network.internet, "iperf3")?;
    let mut table = Table {
        stage: &mut stage,
        plan,
    };
    let mut pairs = Vec::new();
    for number in 0..plan.rounds {
        step(&format!("round {} of {}", number + 1, plan.rounds));
        let others = cpu::others()?;
        // Whoever comes second finds fuller ledgers and warmer caches: that changes hands.
        let pair = if number % 2 == 0 {
            let paid = table.turn(true)?;
            let unpaid = table.turn(false)?;
            Pair {
                others,
                paid,
                unpaid,
            }
        } else {
            let unpaid = table.turn(false)?;
            let paid = table.turn(true)?;
            Pair {
                others,
                paid,
                unpaid,
            }
        };
        pairs.push(pair);
    }
    drop(server);
    step("stopping provider, Hermes and index");
    Ok((pairs, stage.strike()?))
}

/// Provider and Hermes start again with limits that let the large first payment through. The rules
/// stay; credit of sessions that do not ask for more stays as it was.
fn trust(stage: &mut Stage, plan: Plan) -> anyhow::Result<()> {
    step("provider and Hermes start again, to take a first payment for a whole download");
    let set = |key: &str, amount: i128| format!("{key}={amount}");
    stage.hermes_run.terminate(DOWN)?;
    // One payment may be waiting for its preimage while the next arrives.
    let cap = set("locked_cap", plan.chunk() * 2);
    stage.hermes_run = stage.hermes.start(&["run", "--set", &cap])?;
    stage.hermes_run.wait_for("running", UP)?;
    stage.provider_run.terminate(DOWN)?;
    let chunk = set("chunk", plan.chunk());
    // The consumer's credit ends at 256 MiB all the same.
    let limit = set("chunk_limit", plan.chunk());
    let words = ["run", "--set", &chunk, "--set", &limit];
    stage.provider_run = stage.provider.start(&words)?;
    stage.provider_run.wait_for("running", UP).map(drop)
}

fn top_up(stage: &Stage, plan: Plan) -> anyhow::Result<()> {
    let consumer = stage.consumers.first().context("there is a consumer")?;
    let deposit = plan.deposit();
    step(&format!("topping up the consumer with {}", shown(deposit)));
    stage.coins.make_tokens(&stage.coins.purse, deposit)?;
    let to = &consumer.deposit_address;
    stage.coins.send_tokens(to, deposit)?;
    let account = consumer.party.ask(&["account"])?;
    let spendable = json::amount(&account, "spendable")?;
    ensure!(spendable == deposit, "it may spend {spendable}");
    Ok(())
}

/// Lets what a closed session leaves behind come to its end before the next turn.
fn rest() -> anyhow::Result<()> {
    pause(REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_costs_less_than_its_first_payment() {
        let plan = Plan::read(&Given::default()).unwrap();
        assert_eq!((plan.rounds, plan.seconds), (5, 8));
        // 16 GiB in eight seconds: 17 Gb/s.
        assert_eq!(plan.chunk(), PER_GIB * 16);
        assert!(plan.deposit() >= plan.chunk() * 2 * i128::from(plan.rounds));
    }

    #[test]
    fn a_download_outlasts_its_ramp() {
        let bad = [
            ("--seconds", "2"),
            ("--rounds", "0"),
            ("--seconds", "61"),
            // 62 times 16 tokens, and credit for as much as 8: more than the Hermes has.
            ("--rounds", "61"),
        ];
        for (flag, value) in bad {
            let error = Plan::read(&Given::of(&[(flag, value)])).unwrap_err();
            assert!(error.to_string().contains(flag), "{error}");
        }
    }
}
