//! One peer and ours, their cable and their traffic. It refuses to count anything before both ends
//! answer through the tunnel, and to go on when either program has ended.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::bench::tunnel::latency::Echo;
use crate::bench::tunnel::link::Link;
use crate::bench::tunnel::pair::{Pair, Sides};
use crate::bench::tunnel::program::Program;
use crate::lab::Lab;

use super::First;
use super::datagrams::{Datagrams, Tally};
use super::handshakes::{self, Watch};
use super::losses::Losses;
use super::transfer::{Carried, Transfer};

/// How often the peer is asked for its last handshake, and both programs whether they live.
const ASK: Duration = Duration::from_secs(2);

/// A road.
#[derive(Debug)]
pub(super) struct Road {
    ends: [Program; 2],
    first: First,
    sides: Sides,
    watch: Watch,
    asked: Instant,
    // In the order in which they are to be dropped: traffic, programs.
    streams: Option<[Datagrams; 2]>,
    transfer: Option<Transfer>,
    pair: Pair,
}

/// What came of a road.
#[derive(Debug)]
pub(super) struct Travelled {
    /// Whom this is about.
    pub(super) peer: Program,
    pub(super) first: First,
    /// From left to right, and from right to left.
    pub(super) datagrams: [Tally; 2],
    pub(super) carried: Carried,
    pub(super) rekeys: u64,
    /// Handshakes begun on the left and on the right.
    pub(super) begun: [u64; 2],
    /// What the kernel dropped on the left and on the right.
    pub(super) losses: [Losses; 2],
}

impl Road {
    /// Builds the road at this place of the list, with these programs on the left and on the
    /// right, and waits until each end answers the other.
    ///
    /// # Errors
    /// When an end does not come up.
    pub(super) fn build(
        lab: &Lab,
        at: usize,
        ends: [(Program, &Path); 2],
        first: First,
    ) -> anyhow::Result<Self> {
        let peer = ends[1].0.name();
        let names = ["ours", "theirs"].map(|side| format!("{side}{at}"));
        let names = names.each_ref().map(String::as_str);
        let link = Link::named(lab, names)?;
        let letters = ["l", "r"].map(|side| format!("{side}{at}"));
        let sides = Sides::new(lab, &link, letters.each_ref().map(String::as_str))?;
        handshakes::count(&sides.right)?;
        let mut pair = Pair::between(ends, &sides, lab)?;
        let (left, right) = (&sides.left, &sides.right);
        let _echoes = (Echo::start(&left.at)?, Echo::start(&right.at)?);
        let mut ways = [(left, right), (right, left)];
        if first == First::Theirs {
            ways.reverse();
        }
        for (from, to) in ways {
            pair.wait_for_answer(&from.at, to.inner)
                .with_context(|| format!("beside {peer}"))?;
        }
        Ok(Self {
            ends: ends.map(|(program, _)| program),
            first,
            sides,
            watch: Watch::default(),
            asked: Instant::now(),
            streams: None,
            transfer: None,
            pair,
        })
    }

    /// Begins the traffic, which ends by itself after `time`.
    ///
    /// # Errors
    /// When a stream cannot begin.
    pub(super) fn depart(&mut self, time: Duration) -> anyhow::Result<()> {
        let (left, right) = (&self.sides.left, &self.sides.right);
        self.watch.look(right)?;
        let name = self.ends[1].name();
        self.streams = Some([
            Datagrams::begin(&left.at, &right.at, right.inner)?,
            Datagrams::begin(&right.at, &left.at, left.inner)?,
        ]);
        let to: Ipv4Addr = right.inner;
        let transfer = Transfer::begin(name, [&left.at, &right.at], to, time)?;
        self.transfer = Some(transfer);
        Ok(())
    }

    /// Looks after everything; tells whether it is under way.
    ///
    /// # Errors
    /// When a program has ended or a stream failed.
    pub(super) fn look(&mut self) -> anyhow::Result<bool> {
        if self.asked.elapsed() >= ASK {
            self.asked = Instant::now();
            self.pair.must_live()?;
            self.watch.look(&self.sides.right)?;
        }
        let transfer = self.transfer.as_mut().context("not departed yet")?;
        let under_way = transfer.under_way();
        under_way.with_context(|| format!("TCP beside {}", self.ends[1].name()))
    }

    /// A few words for the terminal.
    pub(super) fn so_far(&self) -> String {
        let streams = self.streams.iter().flatten().map(Datagrams::so_far);
        let (sent, received) = streams.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        format!(
            "{}: {sent} sent, {} not here yet, {} rekeys",
            self.ends[1].name(),
            sent.saturating_sub(received),
            self.watch.rekeys
        )
    }

    /// Ends the datagrams, counts everything, ends the programs.
    ///
    /// # Errors
    /// When anything has failed.
    pub(super) fn arrive(mut self) -> anyhow::Result<Travelled> {
        let [there, back] = self.streams.take().context("not departed yet")?;
        let datagrams = [there.end()?, back.end()?];
        self.pair.must_live()?;
        let (left, right) = (&self.sides.left, &self.sides.right);
        self.watch.look(right)?;
        let transfer = self.transfer.take().context("not departed yet")?;
        let travelled = Travelled {
            peer: self.ends[1],
            first: self.first,
            datagrams,
            carried: transfer.carried()?,
            rekeys: self.watch.rekeys,
            begun: handshakes::counted(right)?,
            losses: [Losses::at(left)?, Losses::at(right)?],
        };
        self.pair.stop()?;
        Ok(travelled)
    }
}
