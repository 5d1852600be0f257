//! One program's turn: everything that is measured of it, one after the other, with nothing else
//! running. It refuses to carry anything over to the next turn: programs and servers are started
//! anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::datagrams::{self, Sink};
use super::latency::{self, Echo, Latency};
use super::pair::{Pair, Sides};
use super::plan::{Measure, Plan};
use super::program::Program;
use super::streams::{self, Server, Shape, Stream};
use crate::interrupt;
use crate::lab::Lab;
use crate::process::GRACE;

/// Round trips of a latency measure.
const TRIPS: usize = 2_000;

/// For [`TRIPS`] on a path that answers within ten milliseconds; a slower one makes fewer.
const IDLE: Duration = Duration::from_secs(20);

/// Before latency under load: the stream has found its rate.
const RAMP: Duration = Duration::from_millis(500);

/// What was measured; none for what was not asked for or did not work.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Turn {
    pub(super) tcp1: Option<Stream>,
    pub(super) reverse: Option<Stream>,
    pub(super) tcp4: Option<Stream>,
    /// IP packets a second.
    pub(super) udp64: Option<f64>,
    /// IP packets a second.
    pub(super) udp1400: Option<f64>,
    pub(super) idle: Option<Latency>,
    pub(super) loaded: Option<Latency>,
    /// What did not work, and why.
    pub(super) troubles: Vec<String>,
}

/// What every turn needs.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    pub(super) lab: &'a Lab,
    pub(super) sides: &'a Sides,
    pub(super) plan: &'a Plan,
    /// The programs' files; the cable has none.
    pub(super) files: BTreeMap<Program, std::path::PathBuf>,
}

impl Bench<'_> {
    /// Takes `measures` of `program`. What fails is told in [`Turn::troubles`].
    ///
    /// # Errors
    /// When a signal comes, or the bench itself cannot work.
    pub(super) fn turn(&self, program: Program, measures: &[Measure]) -> anyhow::Result<Turn> {
        let mut turn = Turn::default();
        let right = &self.sides.right.at;
        let _echo = Echo::start(right)?;
        let sink = Sink::start(right)?;
        let file = self.files.get(&program).map(|file| file as &Path);
        let mut pair = match Pair::start(program, file, self.sides, self.lab) {
            Ok(pair) => pair,
            Err(error) => {
                interrupt::check()?;
                turn.troubles.push(format!("did not come up: {error:#}"));
                return Ok(turn);
            }
        };
        let _server = Server::start(right, &format!("iperf3-{}", program.name()))?;
        for measure in measures {
            if let Err(error) = self.measure(*measure, &pair, &sink, &mut turn) {
                interrupt::check()?;
                turn.troubles.push(format!("{}: {error:#}", measure.name()));
            }
            if let Err(error) = pair.must_live() {
                turn.troubles.push(format!("{}: {error:#}", measure.name()));
                break;
            }
        }
        pair.stop()?;
        Ok(turn)
    }

    fn measure(
        &self,
        measure: Measure,
        pair: &Pair,
        sink: &Sink,
        turn: &mut Turn,
    ) -> anyhow::Result<()> {
        let left = &self.sides.left.at;
        let stream = |streams, reverse| {
            let shape = Shape { streams, reverse };
            streams::run(left, pair.to, shape, self.plan.seconds, &pair.processes())
        };
        let rate = |size| {
            let found = datagrams::search(left, pair.to, size, sink)?;
            found.context("no rate of the search arrived whole")
        };
        match measure {
            Measure::Tcp1 => turn.tcp1 = Some(stream(1, false)?),
            Measure::Reverse => turn.reverse = Some(stream(1, true)?),
            Measure::Tcp4 => turn.tcp4 = Some(stream(4, false)?),
            Measure::Udp64 => turn.udp64 = Some(rate(64)?),
            Measure::Udp1400 => turn.udp1400 = Some(rate(1_400)?),
            Measure::Idle => turn.idle = Some(latency::ping(left, pair.to, TRIPS, IDLE)?),
            Measure::Loaded => turn.loaded = Some(self.loaded(pair)?),
            // Those have rounds of their own.
            Measure::Consumers | Measure::Sessions | Measure::Junk => {}
        }
        Ok(())
    }

    fn loaded(&self, pair: &Pair) -> anyhow::Result<Latency> {
        let left = &self.sides.left.at;
        let time = Duration::from_secs(self.plan.seconds);
        // It is ended below; the limit is for a bench that is not there any more.
        let mut load = streams::background(left, pair.to, self.plan.seconds + 60)?;
        crate::lab::pause(RAMP)?;
        let latency = latency::ping(left, pair.to, TRIPS, time);
        load.must_live()?;
        load.stop(GRACE)?;
        latency
    }
}
