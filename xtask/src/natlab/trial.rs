//! A cell at work: both homes built and proved, a provider that sells, and a consumer that connects
//! again and again. It refuses to count what a retry achieved: each run is one attempt.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::demo::party::Party;
use crate::demo::stage::{DOWN, SOON};
use crate::demo::{find_offer, json};
use crate::interrupt::{self, Interrupted};
use crate::lab::{Lab, pause};
use crate::process::SHORT;
use crate::progress::step;

use super::cell::{Cell, Class};
use super::delay::{Line, Way};
use super::fetch::Stream;
use super::form::Form;
use super::kind::Kind;
use super::programs::{CONNECT, Route, STATUS};
use super::services::Services;
use super::turn::Turn;
use super::world::{Home, PAGE_PORT, PAGES, World};
use super::{programs, prove};

/// How long a run looks for a direct path, from the connect.
const WINDOW: Duration = Duration::from_secs(10);

/// The same where only a relay is left: long enough to have data flow, and to see a surprise.
const RELAYED_WINDOW: Duration = Duration::from_secs(2);

/// Between two looks at the path.
const LOOK: Duration = Duration::from_millis(30);

/// For a page through the tunnel.
const PAGE: Duration = Duration::from_secs(10);

/// The page's.
const NAME: &str = "page.lab";

/// How long a stream runs: credit must have grown to the path's size before its last quarter.
const STREAM: Duration = Duration::from_secs(12);

/// From one run to the next where ports are guessed: a node guesses at an address twelve times a minute and no more, and all
/// consumers of a cell are of one household.
const HOUSEHOLD: Duration = Duration::from_millis(5_200);

/// A program that tells no path within this time tells none at all.
const UNTOLD: Duration = Duration::from_secs(1);

/// What came of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Why there was no connection.
    pub failed: Option<String>,
    /// From connect to the first byte through the tunnel, in milliseconds.
    pub first_byte_ms: Option<f64>,
    /// From connect to the first look that told of a direct path, in milliseconds.
    pub direct_ms: Option<f64>,
    /// The last path that was told; none where the program tells none.
    pub route: Option<Route>,
    /// Megabits a second, at the end.
    pub mbps: Option<f64>,
}

impl Run {
    /// Whether bytes came through.
    pub fn is_connected(&self) -> bool {
        self.failed.is_none() && self.first_byte_ms.is_some()
    }
}

/// The way between homes, kept in force from one cell to the next.
#[derive(Debug, Default)]
pub struct Road {
    laid: Option<(Way, Line)>,
}

impl Road {
    pub(super) fn lay(&mut self, world: &World, way: &Way) -> anyhow::Result<()> {
        if self.laid.as_ref().is_some_and(|(laid, _)| laid == way) {
            return Ok(());
        }
        // The queues belong to one program at a time.
        self.laid = None;
        self.laid = Some((way.clone(), Line::lay(world, way)?));
        Ok(())
    }

    fn must_live(&mut self) -> anyhow::Result<()> {
        self.laid
            .as_mut()
            .map_or(Ok(()), |(_, line)| line.must_live())
    }
}

/// Everything that stands while cells come and go.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The lab.
    pub lab: &'a Lab,
    /// Its geography.
    pub world: World,
    /// What runs in the middle.
    pub services: Services,
    /// The way.
    pub road: Road,
}

impl Ground<'_> {
    /// Runs a cell.
    ///
    /// # Errors
    /// When a box is not what it is called, or the provider does not come up: no result at all.
    pub fn run(
        &mut self,
        cell: &Cell,
        form: Form,
        turn: &mut Turn<'_>,
    ) -> anyhow::Result<Vec<Run>> {
        let needs_relay = !cell.b.layers.is_empty() || cell.shared.is_some();
        if needs_relay && self.services.relays.is_none() {
            bail!("these programs know no relays, and nobody reaches this provider without");
        }
        self.road.lay(&self.world, &Way::usual())?;
        let [mut a, mut b] = self.homes(cell)?;
        self.prove(cell, [&a, &b])?;
        self.road.lay(&self.world, &way(cell))?;
        let mut selling = self.services.sell(&b, &cell.b)?;
        let consumer = self.services.consumer(&a, &cell.a)?;
        find_offer(&consumer)?;
        let mut all = Vec::new();
        let runs = form.runs_of(cell);
        for number in 0..runs {
            interrupt::check()?;
            turn.pass();
            a.forget()?;
            let begun = Instant::now();
            let run = attempt(
                &consumer,
                self.world.workshop(),
                window(cell),
                (number < form.streams_of(cell)).then_some(&mut *turn),
            )?;
            step(&format!("{cell} {}/{runs}: {}", number + 1, told(&run)));
            all.push(run);
            self.services.must_live()?;
            self.road.must_live()?;
            selling.must_live()?;
            a.must_live()?;
            b.must_live()?;
            if cell.class() == Class::Birthday && number + 1 < runs {
                pause(HOUSEHOLD.saturating_sub(begun.elapsed()))?;
            }
        }
        selling.stop()?;
        Ok(all)
    }

    fn homes(&self, cell: &Cell) -> anyhow::Result<[Home; 2]> {
        match &cell.shared {
            Some(shared) => self
                .world
                .homes_behind(self.lab, shared, [&cell.a, &cell.b]),
            None => Ok([
                self.world.home(self.lab, 1, &cell.a)?,
                self.world.home(self.lab, 2, &cell.b)?,
            ]),
        }
    }

    /// Both homes at the same time.
    fn prove(&self, cell: &Cell, homes: [&Home; 2]) -> anyhow::Result<()> {
        let seen_as = |kind: &Kind| match &cell.shared {
            Some(shared) => kind.behind(shared),
            None => kind.clone(),
        };
        let kinds = [seen_as(&cell.a), seen_as(&cell.b)];
        let world = &self.world;
        let ends: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
            let prove =
                |(home, kind)| scope.spawn(move || prove::home(world, home, kind).map(drop));
            let threads: Vec<_> = homes.into_iter().zip(&kinds).map(prove).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<()>>| {
                thread.join().unwrap_or_else(|_| bail!("a prover panicked"))
            };
            threads.into_iter().map(join).collect()
        });
        ends.into_iter().collect()
    }
}

fn way(cell: &Cell) -> Way {
    let mut way = cell.delay.map_or_else(Way::usual, Way::long);
    way.loss = cell.loss;
    way
}

fn window(cell: &Cell) -> Duration {
    match cell.class() {
        Class::Relayed => RELAYED_WINDOW,
        Class::Stable | Class::Predicted | Class::Birthday => WINDOW,
        Class::Mapped | Class::V6 | Class::Lan => WINDOW,
    }
}

/// One consumer's life, from `up` to its end.
fn attempt(
    consumer: &Party,
    workshop: &Path,
    window: Duration,
    stream: Option<&mut Turn<'_>>,
) -> anyhow::Result<Run> {
    let mut daemon = consumer.start(CONNECT)?;
    let mut run = Run::default();
    match daemon.wait_for("active", SOON) {
        Ok(active) => {
            let connect_ms = json::number(&active, "connect_ms")?;
            // The event was told a look of ours ago at most.
            let active_at = Instant::now();
            let since = |at: Instant| connect_ms + (at - active_at).as_secs_f64() * 1_000.0;
            let end = active_at + window.saturating_sub(Duration::from_secs_f64(connect_ms / 1e3));
            let mut visited = None;
            std::thread::scope(|scope| -> anyhow::Result<()> {
                let page = scope.spawn(|| page(consumer));
                let watched = watch(consumer, end);
                let page = page
                    .join()
                    .unwrap_or_else(|_| bail!("the visitor panicked"));
                let (route, direct) = watched?;
                run.route = route;
                run.direct_ms = direct.map(since);
                visited = page?;
                Ok(())
            })?;
            match (visited, stream) {
                (None, _) => run.failed = Some("connected, but no page came".to_owned()),
                (Some(visit), stream) => {
                    run.first_byte_ms = Some(connect_ms + visit.first_byte_ms);
                    if let Some(turn) = stream {
                        run.mbps = turn.alone(|| throughput(consumer, workshop, visit.from))?;
                    }
                }
            }
        }
        Err(error) if error.is::<Interrupted>() => return Err(error),
        Err(error) => run.failed = Some(reason(&format!("{error:#}"))),
    }
    if daemon.must_live().is_ok() {
        let ended = daemon.interrupt(DOWN);
        if run.failed.is_none() {
            ended?;
        }
    }
    Ok(run)
}

/// Why a program ended, in its own last word if it had one: the message of its error, else the last
/// line it wrote.
pub(super) fn reason(error: &str) -> String {
    let Some((ended, said)) = error.split_once("and said:\n") else {
        return error.to_owned();
    };
    let documents = json::documents(&format!("{said}\n"));
    let errors = documents.iter().rev().map(|told| &told["error"]);
    let message = errors
        .filter_map(|told| told.as_str().or(told["message"].as_str()))
        .next();
    let last = said.trim_end().lines().last();
    message.or(last).unwrap_or(ended).to_owned()
}

/// The last path told, and when a direct one was first seen; until one is, or `end`.
fn watch(consumer: &Party, end: Instant) -> anyhow::Result<(Option<Route>, Option<Instant>)> {
    let mut last = None;
    let mut untold: Option<Instant> = None;
    loop {
        let told = match consumer.ask(STATUS) {
            Ok(status) => {
                let told = programs::route(&status);
                let since = *untold.get_or_insert_with(Instant::now);
                if told.is_none() && last.is_none() && since.elapsed() > UNTOLD {
                    return Ok((None, None));
                }
                told
            }
            Err(error) => {
                interrupt::check()?;
                if Instant::now() >= end {
                    return Err(error);
                }
                None
            }
        };
        let now = Instant::now();
        if told.as_ref().is_some_and(|route| route.direct) {
            return Ok((told, Some(now)));
        }
        last = told.or(last);
        if now >= end {
            return Ok((last, None));
        }
        pause(LOOK)?;
    }
}

/// What came of a visit.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Visit {
    /// Milliseconds until the first byte of the page came, by `curl`'s own clock.
    first_byte_ms: f64,
    /// Where it came from.
    from: IpAddr,
}

/// Fetches a page by its name, as a browser would: whichever of its addresses answers first
/// (RFC 8305). A tunnel may lead to the internet of either family, or of both.
fn page(consumer: &Party) -> anyhow::Result<Option<Visit>> {
    let addresses = PAGES.map(|page| match page.ip() {
        IpAddr::V4(four) => four.to_string(),
        IpAddr::V6(six) => format!("[{six}]"),
    });
    let resolved = format!("{NAME}:{PAGE_PORT}:{}", addresses.join(","));
    let url = format!("http://{NAME}:{PAGE_PORT}/page");
    let told = "%{time_starttransfer} %{remote_ip}";
    let words = ["--resolve", &resolved, "-o", "/dev/null", "-w", told, &url];
    let (whole, said) = curl(consumer, PAGE, &words)?;
    Ok(visit(&said).filter(|_| whole))
}

fn visit(said: &str) -> Option<Visit> {
    let (seconds, from) = said.trim().split_once(' ')?;
    let seconds: f64 = seconds.parse().ok()?;
    Some(Visit {
        first_byte_ms: seconds * 1_000.0,
        from: from.parse().ok()?,
    })
}

/// Megabits a second at the end of a stream from where the page was; none when it stood still.
fn throughput(consumer: &Party, workshop: &Path, from: IpAddr) -> anyhow::Result<Option<f64>> {
    let to = SocketAddr::new(from, PAGE_PORT).to_string();
    let seconds = STREAM.as_secs().to_string();
    let args = ["natlab-fetch", &to, "/endless", &seconds];
    let said = consumer
        .at
        .capture(&workshop.to_string_lossy(), &args, STREAM + SHORT)?;
    if !said.status.success() {
        return Ok(None);
    }
    let stream: Stream = serde_json::from_str(said.stdout.trim()).context("natlab-fetch")?;
    Ok(Some(stream.end_mbps))
}

/// Whether `curl` got everything, and what it said.
fn curl(consumer: &Party, limit: Duration, words: &[&str]) -> anyhow::Result<(bool, String)> {
    let seconds = limit.as_secs().to_string();
    let mut args = vec!["-sS", "--fail", "--max-time", &seconds];
    args.extend(words);
    let said = consumer
        .at
        .capture("curl", &args, limit + SHORT)
        .context("curl")?;
    Ok((said.status.success(), said.stdout))
}

fn told(run: &Run) -> String {
    if let Some(why) = &run.failed {
        let first = why.lines().next().unwrap_or_default();
        return format!("not connected: {first}");
    }
    let mut words = vec![match &run.route {
        None => "path untold".to_owned(),
        Some(route) if route.direct => format!("direct by {}", route.carrier),
        Some(route) => format!("relayed by {}", route.carrier),
    }];
    let figures = [
        ("first byte after", run.first_byte_ms, "ms"),
        ("direct after", run.direct_ms, "ms"),
        ("then", run.mbps, "Mb/s"),
    ];
    for (what, value, unit) in figures {
        if let Some(value) = value {
            words.push(format!("{what} {value:.0} {unit}"));
        }
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_make_a_connection() {
        let mut run = Run::default();
        assert!(!run.is_connected());
        run.first_byte_ms = Some(200.0);
        assert!(run.is_connected());
        run.failed = Some("x".to_owned());
        assert!(!run.is_connected());
    }

    #[test]
    fn a_visit_tells_which_family_answered() {
        let told = visit("0.25 2a11:9:50::1").unwrap();
        assert_eq!((told.first_byte_ms, told.from.is_ipv6()), (250.0, true));
        assert!(visit("0.5 11.0.0.1").unwrap().from.is_ipv4());
        assert_eq!(visit("0.0 "), None);
        assert_eq!(visit(""), None);
    }

    #[test]
    fn a_run_is_told_by_what_it_reached() {
        let run = Run {
            first_byte_ms: Some(412.4),
            direct_ms: Some(900.0),
            route: Some(Route {
                direct: true,
                carrier: "udp".to_owned(),
            }),
            ..Run::default()
        };
        let words = "direct by udp, first byte after 412 ms, direct after 900 ms";
        assert_eq!(told(&run), words);
        let failed = Run {
            failed: Some("no proposal\nlog".to_owned()),
            ..Run::default()
        };
        assert_eq!(told(&failed), "not connected: no proposal");
    }

    #[test]
    fn a_program_that_ended_is_told_by_its_own_last_word() {
        let ended = "wayfare ended with exit code 4; it was `x` and said:\n";
        let said = format!("{ended}INFO a log\n{{\"error\":{{\"message\":\"no way\"}}}}");
        assert_eq!(reason(&said), "no way");
        assert_eq!(
            reason(&format!("{ended}error: no channel\n")),
            "error: no channel"
        );
        assert_eq!(reason("waited 30.0 s in vain"), "waited 30.0 s in vain");
    }

    #[test]
    fn hopeless_cells_are_not_watched_for_long() {
        let window = |cell: &str| window(&cell.parse().unwrap());
        assert_eq!(window("sym:sym"), RELAYED_WINDOW);
        assert_eq!(window("pr:sym"), WINDOW);
    }
}
