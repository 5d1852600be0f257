//! The order of things in a round: the cable, ours, then each peer and ours again; then our
//! provider with a crowd, with idle sessions and beside junk. It refuses to stop at a program that
//! fails: that is told, and the next one has its turn.

use std::path::Path;

use super::cpu;
use super::crowd::{COUNTS, Crowd, MOST};
use super::junk::Place;
use super::plan::Measure;
use super::program::{self, Program};
use super::rounds::Round;
use super::turn::{Bench, Turn};
use crate::interrupt;
use crate::progress::step;

/// Everything that rounds are run with.
#[derive(Debug)]
pub(super) struct Course<'a> {
    pub(super) bench: Bench<'a>,
    /// The swarm's file, or why there is none.
    pub(super) swarm: Result<&'a Path, String>,
    /// Where junk is sent; built when it is asked for.
    pub(super) place: Option<Place>,
}

impl Course<'_> {
    /// Runs one round.
    ///
    /// # Errors
    /// When a signal comes, or the bench itself cannot work.
    pub(super) fn round(&self) -> anyhow::Result<Round> {
        let mut round = Round {
            others: cpu::others()?,
            ..Round::default()
        };
        self.turns(&mut round)?;
        let Some(ours) = self.bench.files.get(&Program::Wayfare) else {
            return Ok(round);
        };
        let swarm = match &self.swarm {
            Ok(swarm) => *swarm,
            Err(why) => {
                round.troubles.push(why.clone());
                return Ok(round);
            }
        };
        if self.bench.plan.has(Measure::Tcp1) {
            let cost = program::seal_and_open(swarm);
            round.seal_and_open = noted(cost, "the cipher's cost", &mut round.troubles)?;
        }
        self.crowd(ours, swarm, &mut round)?;
        if let Some(place) = &self.place {
            let junked = place.round(self.bench.lab, ours, self.bench.plan.seconds);
            round.junk = noted(junked, "junk", &mut round.troubles)?;
            if let Some(junk) = round.junk {
                let (part, rate) = (junk.goodput * 100.0, junk.rate / 1e3);
                step(&format!(
                    "beside {rate:.0} kpps of junk: {part:.0} % of {:.2} Gb/s",
                    junk.peace
                ));
            }
        }
        Ok(round)
    }

    fn turns(&self, round: &mut Round) -> anyhow::Result<()> {
        let bench = &self.bench;
        let of_a_turn = bench.plan.measures.iter().copied();
        let whole: Vec<Measure> = of_a_turn.filter(|one| one.is_of_a_turn()).collect();
        let single = |one: &Measure| *one == Measure::Tcp1;
        let short: Vec<Measure> = whole.iter().copied().filter(single).collect();
        // The cable's stream tells how calm the machine is, asked for or not.
        let mut bare = vec![Measure::Tcp1];
        bare.extend(whole.iter().filter(|one| !single(one)));
        let mut order = vec![(Program::Raw, &bare), (Program::Wayfare, &whole)];
        for peer in &bench.plan.peers {
            order.extend([(*peer, &whole), (Program::Wayfare, &short)]);
        }
        for (program, measures) in order {
            let here = program == Program::Raw || bench.files.contains_key(&program);
            if here && !measures.is_empty() {
                let turn = bench.turn(program, measures)?;
                announce(program, &turn);
                round.turns.push((program, turn));
            }
        }
        Ok(())
    }

    fn crowd(&self, ours: &Path, swarm: &Path, round: &mut Round) -> anyhow::Result<()> {
        let plan = self.bench.plan;
        let (streams, idle) = (plan.has(Measure::Consumers), plan.has(Measure::Sessions));
        if !streams && !idle {
            return Ok(());
        }
        let crowd = Crowd {
            lab: self.bench.lab,
            sides: self.bench.sides,
            peer: ours,
            swarm,
        };
        let counts: Vec<u16> = match (idle, streams) {
            (true, true) => [0].into_iter().chain(COUNTS).collect(),
            (true, false) => vec![0, MOST],
            (false, _) => COUNTS.to_vec(),
        };
        for count in counts {
            let seconds = streams.then_some(plan.seconds);
            let served = crowd.serve(count, seconds);
            let what = format!("{count} consumers");
            if let Some(served) = noted(served, &what, &mut round.troubles)? {
                if let Some(streams) = served.streams {
                    let (gbps, fairness) = (streams.gbps, streams.fairness);
                    step(&format!(
                        "{what}: {gbps:.2} Gb/s together, fairness {fairness:.3}"
                    ));
                }
                round.crowd.insert(count, served);
            }
        }
        Ok(())
    }
}

/// What was measured; a failure becomes a trouble of the round, a signal ends it.
fn noted<T>(
    outcome: anyhow::Result<T>,
    what: &str,
    troubles: &mut Vec<String>,
) -> anyhow::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            interrupt::check()?;
            let trouble = format!("{what}: {error:#}");
            step(&trouble);
            troubles.push(trouble);
            Ok(None)
        }
    }
}

fn announce(program: Program, turn: &Turn) {
    let name = program.name();
    if let Some(stream) = turn.tcp1 {
        let (gbps, cost) = (stream.gbps, stream.spent.machine);
        let again = stream.retransmits;
        step(&format!(
            "{name}: {gbps:.2} Gb/s, {cost:.2} ns of processor a byte, {again} segments again"
        ));
    }
    for trouble in &turn.troubles {
        step(&format!("{name}: {trouble}"));
    }
}
