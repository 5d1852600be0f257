//! One scenario from the first cable to the last byte. It refuses to end early for the product's
//! sake, and to go on when nothing has come for so long that nobody would have waited.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::demo::find_offer;
use crate::demo::party::{Daemon, Party};
use crate::demo::stage::{DOWN, SOON, sha256};
use crate::interrupt;
use crate::lab::{Background, pause};
use crate::process::LOOK;
use crate::progress::step;

use super::super::kind::Kind;
use super::super::programs::CONNECT;
use super::super::prove;
use super::super::trial::Ground;
use super::events::{Stage, Tenant, carried};
use super::origin::Origin;
use super::scenario::{Event, FILE, Scenario};
use super::watch::{self, Growth, Look};

/// How long the path that a scenario begins with is waited for.
const SETTLE: Duration = Duration::from_secs(12);

/// A relayed path where a direct one is blocked: the first round is over, and it stays.
const RELAYED: Duration = Duration::from_secs(6);

/// Nobody waits longer for a byte; twice what is allowed, so that a figure shows how far off it is.
const GIVE_UP: Duration = Duration::from_secs(25);

/// Between two attempts of a downloader that resumes.
const AGAIN: Duration = Duration::from_millis(200);

/// What came of a scenario.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// Whether the file is the origin's.
    pub(super) whole: bool,
    /// Bytes that arrived.
    pub(super) bytes: u64,
    /// The longest time without a byte, in milliseconds, and when it began.
    pub(super) stall_ms: f64,
    /// Seconds into the download at which it began.
    pub(super) stall_at: f64,
    /// Pauses of more than a second that ended, for a person.
    pub(super) stalls: String,
    /// Sessions that there were, in their order.
    pub(super) sessions: Vec<String>,
    /// Whether the path was direct before the first event, and at the end.
    pub(super) direct: [Option<bool>; 2],
    /// The tiers that the program told, in their order.
    pub(super) tiers: Vec<String>,
    /// Paid before the last event, and at the end, in smallest units.
    pub(super) paid: [i128; 2],
    /// How long the download took, in seconds.
    pub(super) seconds: f64,
    /// How often the downloader went on with another connection.
    pub(super) resumed: u32,
}

/// Plays a scenario.
///
/// # Errors
/// When it cannot begin: a home is not what it is called, or nobody connects.
pub(super) fn play(
    ground: &mut Ground<'_>,
    origin: &Origin,
    scenario: &Scenario,
) -> anyhow::Result<Told> {
    let kinds = scenario.homes.map(|home| home.parse::<Kind>());
    let [a, b] = kinds;
    let (a, b) = (a?, b?);
    let consumer = tenant(ground, 1, a)?;
    let provider = tenant(ground, 2, b)?;
    let mut selling = ground.services.sell(&provider.home, &provider.kind)?;
    let party = ground.services.consumer(&consumer.home, &consumer.kind)?;
    find_offer(&party)?;
    let mut stage = Stage {
        world: &ground.world,
        services: &mut ground.services,
        consumer: &consumer,
        provider: &provider,
        carried: [0; 2],
        killed: None,
    };
    let played = (|| {
        for event in scenario.prelude {
            stage.happen(*event)?;
        }
        connected(&mut stage, &party, origin, scenario)
    })();
    let killed = stage.killed;
    // The next scenario finds everything as this one did.
    stage.happen(Event::Lift)?;
    if let Some(relays) = ground.services.relays.as_mut()
        && let Some(killed) = killed
    {
        relays.revive(killed)?;
    }
    let told = played?;
    selling.must_live().context("the provider")?;
    if let Err(error) = selling.stop() {
        step(&format!("{}: {error:#}", scenario.name));
    }
    Ok(told)
}

/// A home that is what it is called, and what its uplink has.
fn tenant(ground: &Ground<'_>, side: u8, kind: Kind) -> anyhow::Result<Tenant> {
    let home = ground.world.home(ground.lab, side, &kind)?;
    prove::home(&ground.world, &home, &kind)?;
    Tenant::settle(home, kind)
}

/// One consumer's life.
fn connected(
    stage: &mut Stage<'_>,
    party: &Party,
    origin: &Origin,
    scenario: &Scenario,
) -> anyhow::Result<Told> {
    let mut daemon = party.start(CONNECT)?;
    daemon.wait_for("active", SOON)?;
    let end = Instant::now() + Duration::from_secs(scenario.limit);
    let looks = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    let told = std::thread::scope(|scope| {
        scope.spawn(|| watch::keep_looking(party, &looks, &stop));
        let told = surfed(stage, party, origin, scenario, &looks, end);
        stop.store(true, Ordering::Relaxed);
        told
    });
    let told = told.map(|told| finish(told, &daemon, &looks));
    if daemon.must_live().is_ok()
        && let Err(error) = daemon.interrupt(DOWN)
    {
        step(&format!("{}: {error:#}", scenario.name));
    }
    told
}

/// What only the whole story tells.
fn finish(mut told: Told, daemon: &Daemon, looks: &Mutex<Vec<Look>>) -> Told {
    for look in looks.lock().expect("nobody panics holding it").iter() {
        if told.sessions.last() != Some(&look.session) {
            told.sessions.push(look.session.clone());
        }
    }
    for event in daemon.events() {
        let tier = event["tier"].as_str().filter(|_| event["event"] == "path");
        if let Some(tier) = tier
            && told.tiers.last().map(String::as_str) != Some(tier)
        {
            told.tiers.push(tier.to_owned());
        }
    }
    told
}

/// From the first path to the last byte.
fn surfed(
    stage: &mut Stage<'_>,
    party: &Party,
    origin: &Origin,
    scenario: &Scenario,
    looks: &Mutex<Vec<Look>>,
    end: Instant,
) -> anyhow::Result<Told> {
    settled(scenario, looks)?;
    if scenario.rest > 0 {
        step(&format!(
            "{}: nothing for {} s",
            scenario.name, scenario.rest
        ));
        pause(Duration::from_secs(scenario.rest))?;
    }
    let mut told = Told::default();
    told.direct[0] = last(looks)
        .and_then(|look| look.route)
        .map(|route| route.direct);
    told.paid[0] = last(looks).map_or(0, |look| look.paid);
    stage.carried = carried(stage.world)?;
    let visit = Visit {
        party,
        url: origin.url(scenario.rate),
        file: origin.folder.join(format!("download-{}", scenario.name)),
        resumes: scenario.resumes,
        end,
    };
    let growth = followed(stage, scenario, looks, &mut told, &visit)?;
    let (longest, since) = growth.longest();
    told.stall_ms = longest.as_secs_f64() * 1_000.0;
    told.stall_at = since.as_secs_f64();
    told.stalls = growth.told();
    told.bytes = growth.bytes();
    told.whole = told.bytes == FILE && sha256(&visit.file)? == origin.sha256;
    let now = last(looks);
    told.direct[1] = now
        .as_ref()
        .and_then(|look| look.route.as_ref())
        .map(|route| route.direct);
    // The last invoice is paid a little after what it is for.
    told.paid[1] = now.map_or(0, |look| look.paid);
    let _ = std::fs::remove_file(&visit.file);
    Ok(told)
}

/// Waits until the path is the one to begin with; what it is instead is told by the result.
fn settled(scenario: &Scenario, looks: &Mutex<Vec<Look>>) -> anyhow::Result<()> {
    let begun = Instant::now();
    let least = match scenario.before {
        true => Duration::ZERO,
        false => RELAYED,
    };
    while begun.elapsed() < SETTLE {
        let route = last(looks).and_then(|look| look.route);
        let is_as_wished = route.is_some_and(|route| route.direct == scenario.before);
        if is_as_wished && begun.elapsed() >= least {
            break;
        }
        pause(LOOK)?;
    }
    Ok(())
}

/// Lets everything happen in its time while the file grows.
fn followed(
    stage: &mut Stage<'_>,
    scenario: &Scenario,
    looks: &Mutex<Vec<Look>>,
    told: &mut Told,
    visit: &Visit<'_>,
) -> anyhow::Result<Growth> {
    let mut download = visit.begin()?;
    let begun = Instant::now();
    let mut growth = Growth::begin(begun);
    let mut coming = scenario.events.iter();
    let mut next = coming.next();
    let mut shown = None;
    loop {
        interrupt::check()?;
        let ended = download.ended()?;
        let now = Instant::now();
        growth.note(watch::size(&visit.file), now);
        let at = now.saturating_duration_since(begun);
        let over = now >= visit.end || growth.standing(now) > GIVE_UP;
        if visit.resumes && !over && ended.is_some_and(|status| !status.success()) {
            told.resumed += 1;
            pause(AGAIN)?;
            download = visit.begin()?;
        } else if ended.is_some() || over {
            told.seconds = at.as_secs_f64();
            return Ok(growth);
        }
        if let Some((seconds, event)) = next.filter(|(seconds, _)| at.as_secs() >= *seconds) {
            step(&format!("{} {seconds} s: {event:?}", scenario.name));
            told.paid[0] = last(looks).map_or(told.paid[0], |look| look.paid);
            stage.happen(*event)?;
            next = coming.next();
        }
        let route = last(looks).and_then(|look| look.route);
        if route != shown {
            let at = at.as_secs_f64();
            step(&format!("{} {at:.1} s: {route:?}", scenario.name));
            shown = route;
        }
        std::thread::sleep(LOOK);
    }
}

fn last(looks: &Mutex<Vec<Look>>) -> Option<Look> {
    looks
        .lock()
        .expect("nobody panics holding it")
        .last()
        .cloned()
}

/// What is downloaded, and how.
struct Visit<'a> {
    party: &'a Party,
    url: String,
    file: PathBuf,
    resumes: bool,
    end: Instant,
}

impl Visit<'_> {
    /// `curl`, writing every byte as it comes. It has no patience of its own but for the end, unless
    /// it may resume: then, as downloaders do, it gives up what stands still and goes on elsewhere.
    fn begin(&self) -> anyhow::Result<Background> {
        let left = self.end.saturating_duration_since(Instant::now());
        let (limit, file) = (
            left.as_secs().max(1).to_string(),
            self.file.to_string_lossy(),
        );
        let mut args = vec!["-sS", "--fail", "-N", "--max-time", &limit, "-o", &file];
        if self.resumes {
            args.extend(["-C", "-", "--speed-limit", "1", "--speed-time", "3"]);
            args.extend(["--connect-timeout", "3"]);
        }
        args.push(&self.url);
        self.party.at.spawn("curl", "curl", args)
    }
}
