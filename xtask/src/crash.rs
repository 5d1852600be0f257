//! `crash`: the demo's network under a steady stream of traffic, and one of its three programs
//! killed at a random moment, again and again. After every kill the traffic must go on and the
//! books must balance. It refuses to be lucky: the seed is printed, and repeats the kills.

mod books;
mod chance;
mod traffic;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::cli::{Given, Outcome};
use crate::demo::balances::{Balances, judge};
use crate::demo::coins::{ONE, shown};
use crate::demo::party::Daemon;
use crate::demo::programs::Programs;
use crate::demo::stage::{Consumer, DOWN, PER_GIB, PER_HOUR, SOON, Stage, UP};
use crate::demo::{close_report, in_lab, json};
use crate::lab::{Lab, Leftovers, pause, wait_for};
use crate::need;
use crate::progress::{out, step};
use crate::report::{Bar, Report};

use books::Books;
use chance::Chance;
use traffic::Traffic;

/// A lost provider is noticed after 15 s of silence; then the pauses between attempts, and the
/// start of a program, on a busy machine.
const RECOVERY: Duration = Duration::from_secs(90);

/// Not reached: nobody leaves in this story.
const EXIT_DELAY: Duration = Duration::from_secs(3_600);

/// Enough for hours of the stream.
const DEPOSIT: i128 = 50 * ONE;

/// One chunk: what a mebibyte costs, which is more than a second does.
const CHUNK: i128 = PER_GIB / 1_024;

/// A full packet of the tunnel, and its IPv4 and TCP headers (20 + 20 + 12 of timestamps), in bytes.
const FULL: i128 = 1_420;
const HEADERS: i128 = 52;

const CHECKS: &[&str] = &[
    "rounds",
    "sessions_resumed",
    "value_created_wei",
    "value_lost_wei",
    "conservation_wei",
    "recovery_ms_median",
    "recovery_ms_max",
    "left_behind",
    "wall_s",
];

/// Whom a round kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Consumer,
    Provider,
    Hermes,
}

impl Victim {
    const ALL: [Self; 3] = [Self::Consumer, Self::Provider, Self::Hermes];

    fn name(self) -> &'static str {
        match self {
            Self::Consumer => "wayfare",
            Self::Provider => "wayfare-provider",
            Self::Hermes => "wayfare-hermes",
        }
    }
}

/// Everything that the rounds work on.
struct Arena {
    stage: Stage,
    consumer: Consumer,
    up: Daemon,
    traffic: Traffic,
    connected: Instant,
}

/// What the rounds have shown.
#[derive(Debug, Default)]
struct Shown {
    rounds: u64,
    resumed: u64,
    recoveries: Vec<(Victim, Duration)>,
    created: i128,
}

/// Runs the subcommand.
///
/// # Errors
/// When a part does not work at all, or on a signal.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    let rounds = given.number("--rounds", 50)?;
    ensure!(
        (1..=10_000).contains(&rounds),
        "--rounds takes 1 to 10000, not {rounds}"
    );
    let seed = given.number("--seed", chance::seed()?)?;
    need::need(&["ip", "nft", "curl"])?;
    let programs = Programs::at_hand(given.value("--programs"))?;
    out(&format!(
        "seed {seed}: `cargo xtask crash --rounds {rounds} --seed {seed}` repeats these kills"
    ));
    let begun = Instant::now();
    let mut report = Report::begin("crash");
    let told = in_lab(given, &mut report, |lab, report| {
        tell(lab, &programs, rounds, seed, report)
    });
    close_report(given, report, CHECKS, told, begun)
}

fn tell(
    lab: &Lab,
    programs: &Programs,
    rounds: u64,
    seed: u64,
    report: &mut Report,
) -> anyhow::Result<Vec<Leftovers>> {
    let mut arena = Arena::open(lab, programs)?;
    let mut chance = Chance::new(seed);
    let mut figures = Shown::default();
    for round in 1..=rounds {
        let ending = arena.round(round, &mut chance, &mut figures);
        ending.with_context(|| format!("round {round} of {rounds}, seed {seed}"))?;
    }
    let note = format!("kills of a random program, seed {seed}");
    let all = rounds as f64;
    report.number(
        "rounds",
        Some(figures.rounds as f64),
        "kills",
        &Bar::Exactly(all),
        &note,
    );
    let note = "traffic and payments went on after the kill, in the session or its successor";
    let bar = Bar::Exactly(all);
    report.number(
        "sessions_resumed",
        Some(figures.resumed as f64),
        "rounds",
        &bar,
        note,
    );
    figures.tell_recoveries(report);
    arena.close(figures, report)
}

impl Shown {
    fn tell_recoveries(&self, report: &mut Report) {
        let sorted = |victim: Option<Victim>| {
            let ours = self.recoveries.iter();
            let ours = ours.filter(|(who, _)| victim.is_none_or(|victim| *who == victim));
            let mut times: Vec<u128> = ours.map(|(_, time)| time.as_millis()).collect();
            times.sort_unstable();
            times
        };
        let each = Victim::ALL.map(|victim| {
            let times = sorted(Some(victim));
            let (median, most) = (times.get(times.len() / 2), times.last());
            match median.zip(most) {
                Some((median, most)) => {
                    let count = times.len();
                    format!(
                        "{}: {count} kills, median {median}, most {most}",
                        victim.name()
                    )
                }
                None => format!("{}: no kill", victim.name()),
            }
        });
        let all = sorted(None);
        let median = all.get(all.len() / 2).map(|ms| *ms as f64);
        let note = "from the kill until a page comes and two promises are paid";
        report.number("recovery_ms_median", median, "ms", &Bar::Measured, note);
        let most = all.last().map(|ms| *ms as f64);
        let bar = Bar::AtMost(RECOVERY.as_millis() as f64);
        report.number("recovery_ms_max", most, "ms", &bar, &each.join("; "));
    }
}

impl Arena {
    /// One consumer, connected, with traffic.
    fn open(lab: &Lab, programs: &Programs) -> anyhow::Result<Self> {
        let stage = Stage::set(lab, programs, 1, 1 << 20, EXIT_DELAY)?;
        stage.coins.make_tokens(&stage.coins.purse, DEPOSIT)?;
        let mut consumer = stage
            .consumers
            .first()
            .context("there is one consumer")?
            .clone();
        // By default it grows with the round trip, and so would what a kill may cost.
        consumer.party.set(&[("chunk", &CHUNK.to_string())])?;
        stage
            .coins
            .send_tokens(&consumer.deposit_address, DEPOSIT)?;
        wait_for("the provider's proposal", SOON, || {
            let told = consumer.party.ask(&["proposals"])?;
            Ok(told["proposals"]
                .as_array()
                .is_some_and(|all| !all.is_empty())
                .then_some(()))
        })?;
        let mut up = consumer.party.start(&["up"])?;
        up.wait_for("active", SOON)?;
        let connected = Instant::now();
        let traffic = Traffic::start(&consumer.party.at)?;
        let mut arena = Self {
            connected,
            stage,
            consumer,
            up,
            traffic,
        };
        arena.resumed()?;
        step("the consumer is connected and streams");
        Ok(arena)
    }

    fn round(
        &mut self,
        round: u64,
        chance: &mut Chance,
        figures: &mut Shown,
    ) -> anyhow::Result<()> {
        let victim = Victim::ALL[chance.below(Victim::ALL.len() as u64) as usize];
        let moment = Duration::from_millis(200 + chance.below(2_000));
        pause(moment)?;
        let begun = Instant::now();
        self.kill(victim)?;
        self.resumed()
            .with_context(|| format!("after the kill of {}", victim.name()))?;
        let recovery = begun.elapsed();
        figures.rounds += 1;
        figures.resumed += 1;
        figures.recoveries.push((victim, recovery));
        let books = Books::read(&self.stage)?;
        let created = books.created() + self.created_on_chain()?;
        figures.created = figures.created.max(created);
        step(&format!(
            "round {round}: killed {}, resumed after {:.1} s; {} promised, {} of it held",
            victim.name(),
            recovery.as_secs_f64(),
            shown(books.promised),
            shown(books.covered)
        ));
        ensure!(created == 0, "{created} wei out of nothing: {books:?}");
        Ok(())
    }

    /// `kill -9`, and a new start on the same state.
    fn kill(&mut self, victim: Victim) -> anyhow::Result<()> {
        match victim {
            Victim::Consumer => {
                self.up.crash()?;
                self.up = self.consumer.party.start(&["up"])?;
            }
            Victim::Provider => {
                self.stage.provider_run.crash()?;
                self.stage.provider_run = self.stage.provider.start(&["run"])?;
                self.stage.provider_run.wait_for("running", UP)?;
            }
            Victim::Hermes => {
                self.stage.hermes_run.crash()?;
                // What a crash leaves on the disk balances as it is, before anything mends it.
                let told = self.stage.hermes.ask(&["check"]);
                told.context("the ledger of the Hermes that was killed")?;
                self.stage.hermes_run = self.stage.hermes.start(&["run"])?;
                self.stage.hermes_run.wait_for("running", UP)?;
            }
        }
        Ok(())
    }

    /// Waits until a page comes through the provider, and two more payments after now: the first
    /// may have been on its way before the kill.
    fn resumed(&mut self) -> anyhow::Result<()> {
        let paid = self.up.count("paid");
        wait_for("a page through the tunnel", RECOVERY, || {
            self.must_live()?;
            let seen = self.consumer.get("/ip", Duration::from_secs(1))?;
            let through = seen.is_some_and(|seen| seen.trim() == crate::demo::network::PROVIDER);
            Ok(through.then_some(()))
        })?;
        wait_for("two more payments", RECOVERY, || {
            self.must_live()?;
            Ok((self.up.count("paid") >= paid + 2).then_some(()))
        })
    }

    fn must_live(&mut self) -> anyhow::Result<()> {
        self.stage.must_live()?;
        self.up.must_live()?;
        self.traffic.must_live()
    }

    /// Tokens that are somewhere and came from nowhere, or are nowhere any more.
    fn created_on_chain(&self) -> anyhow::Result<i128> {
        let coins = &self.stage.coins;
        let holders = [
            coins.purse.as_str(),
            &self.stage.provider.identity,
            &self.stage.hermes.identity,
            &coins.maker,
            &coins.vault,
            &self.consumer.party.identity,
            &self.consumer.deposit_address,
        ];
        let held: i128 = coins.tokens(&holders)?.iter().sum();
        Ok((coins.supply()? - held).abs())
    }

    /// Ends the session as a person would, cashes everything, and compares what each side says.
    fn close(mut self, figures: Shown, report: &mut Report) -> anyhow::Result<Vec<Leftovers>> {
        step("closing the session, settling, collecting");
        let used = self.traffic.end()?;
        self.up.interrupt(DOWN)?;
        let account = self.consumer.party.ask(&["account"])?;
        let promised = json::amount(&account, "promised")?;
        let books = Books::read(&self.stage)?;
        self.stage.provider.ask(&["settle"])?;
        self.stage.hermes.ask(&["collect"])?;
        let balances = Balances::read(&self.stage)?;
        let movements = self.stage.coins.movements()?;
        judge(report, "conservation_wei", &balances, &movements, None);

        let unbacked = (books.promised - promised).max(0);
        let overpaid = (balances.provider() - books.promised).max(0);
        let created = figures.created + books.created() + unbacked + overpaid;
        let note = "held by the provider beyond the Hermes' promises in any round; promised beyond the \
                    consumer's promises; cashed beyond what was held. The Hermes' own audit held at each of \
                    its kills";
        report.whole("value_created_wei", Some(created), "wei", 0, note);

        let cashed = balances.provider();
        // The kernel's meter sees packets that were put together: their headers once, where each packet had its own.
        let (least, most) = (i128::from(used), i128::from(used) * FULL / (FULL - HEADERS));
        let price = |bytes: i128| bytes * PER_GIB / (1 << 30);
        let time = i128::try_from(self.connected.elapsed().as_millis())? * PER_HOUR / 3_600_000;
        // The hours are only known from above: sessions are down while a program is.
        let unpaid = (price(least) - cashed).max(0);
        let overpaid = (cashed - price(most) - time).max(0);
        let stranded = (promised - cashed).max(0);
        let note = format!(
            "carried and never paid for: {unpaid}; paid beyond what was carried: {overpaid}; promised and \
             never cashed: {stranded}; {cashed} cashed; the bar is one chunk, {CHUNK}, for each kill"
        );
        let lost = (unpaid + overpaid + stranded) as f64;
        let bar = Bar::AtMost((i128::from(figures.rounds) * CHUNK) as f64);
        report.number("value_lost_wei", Some(lost), "wei", &bar, &note);
        step("stopping provider, Hermes and index");
        self.stage.strike()
    }
}
