//! All turns of a run, and how they are compared: ours with the one it followed. It refuses to
//! compare turns of different rounds: the machine may have changed between them.

use std::collections::BTreeMap;

use super::crowd::Served;
use super::junk::Junked;
use super::program::Program;
use super::turn::Turn;

/// The turns of one round, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    pub(super) turns: Vec<(Program, Turn)>,
    /// What the machine did before it, as a part of all its processors.
    pub(super) others: f64,
    /// What sealing and opening a byte cost in this round, in nanoseconds.
    pub(super) seal_and_open: Option<f64>,
    /// Our provider's runs, by the number of its consumers.
    pub(super) crowd: BTreeMap<u16, Served>,
    /// Our provider's run beside junk.
    pub(super) junk: Option<Junked>,
    /// What went wrong with these two.
    pub(super) troubles: Vec<String>,
}

impl Round {
    /// The figure of a program's turn, and of our first turn after it.
    fn pair(&self, program: Program, figure: impl Fn(&Turn) -> Option<f64>) -> Option<(f64, f64)> {
        let is = |wanted| move |turn: &(Program, Turn)| turn.0 == wanted;
        let at = self.turns.iter().position(is(program))?;
        let later = &self.turns[at + 1..];
        let ours = later.iter().find(|turn| is(Program::Wayfare)(turn))?;
        Some((figure(&self.turns[at].1)?, figure(&ours.1)?))
    }

    fn first(&self, program: Program, figure: impl Fn(&Turn) -> Option<f64>) -> Option<f64> {
        let mut turns = self.turns.iter().filter(|(whose, _)| *whose == program);
        turns.find_map(|(_, turn)| figure(turn))
    }
}

/// The rounds of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds(pub(super) Vec<Round>);

impl Rounds {
    /// A figure of every turn of a program that has it.
    pub(super) fn values(
        &self,
        program: Program,
        figure: impl Fn(&Turn) -> Option<f64>,
    ) -> Vec<f64> {
        let turns = self.0.iter().flat_map(|round| &round.turns);
        let its = turns.filter(|(whose, _)| *whose == program);
        its.filter_map(|(_, turn)| figure(turn)).collect()
    }

    /// Ours over that of `program`, round by round.
    pub(super) fn ratios(
        &self,
        program: Program,
        figure: impl Fn(&Turn) -> Option<f64>,
    ) -> Vec<f64> {
        let pairs = self
            .0
            .iter()
            .filter_map(|round| round.pair(program, &figure));
        let ratios = pairs.map(|(theirs, ours)| ours / theirs);
        ratios.filter(|ratio| ratio.is_finite()).collect()
    }

    /// That of `program` less that of the cable, round by round.
    pub(super) fn added(
        &self,
        program: Program,
        figure: impl Fn(&Turn) -> Option<f64>,
    ) -> Vec<f64> {
        let added = |round: &Round| {
            Some(round.first(program, &figure)? - round.first(Program::Raw, &figure)?)
        };
        self.0.iter().filter_map(added).collect()
    }

    /// Our processor time per byte over what it cannot be less than: sealing and opening the
    /// byte, and the same stream without any tunnel.
    pub(super) fn over_budget(&self) -> Vec<f64> {
        let cost = |turn: &Turn| Some(turn.tcp1?.spent.machine);
        let over = |round: &Round| {
            let (raw, ours) = round.pair(Program::Raw, cost)?;
            Some(ours / (round.seal_and_open? + raw))
        };
        self.0.iter().filter_map(over).collect()
    }

    /// A figure of our provider's runs, round by round.
    pub(super) fn crowd(&self, figure: impl Fn(&BTreeMap<u16, Served>) -> Option<f64>) -> Vec<f64> {
        let rounds = self.0.iter();
        rounds.filter_map(|round| figure(&round.crowd)).collect()
    }

    /// A figure of our provider's run beside junk, round by round.
    pub(super) fn junk(&self, figure: impl Fn(&Junked) -> f64) -> Vec<f64> {
        let rounds = self.0.iter();
        rounds
            .filter_map(|round| round.junk.as_ref().map(&figure))
            .collect()
    }

    /// What went wrong with a program, each trouble once.
    pub(super) fn troubles(&self, program: Program) -> Vec<String> {
        let turns = self.0.iter().flat_map(|round| &round.turns);
        let its = turns.filter(|(whose, _)| *whose == program);
        let mut troubles: Vec<String> = its.flat_map(|(_, turn)| turn.troubles.clone()).collect();
        if program == Program::Wayfare {
            troubles.extend(self.0.iter().flat_map(|round| round.troubles.clone()));
        }
        troubles.sort();
        troubles.dedup();
        troubles
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::cpu::Spent;
    use super::super::streams::Stream;
    use super::*;

    pub(crate) fn turn(gbps: f64) -> Turn {
        Turn {
            tcp1: Some(Stream {
                gbps,
                retransmits: 0.0,
                spent: Spent {
                    machine: 10.0 / gbps,
                    processes: 0.5,
                },
            }),
            ..Turn::default()
        }
    }

    pub(crate) fn round(raw: f64) -> Round {
        Round {
            turns: vec![
                (Program::Raw, turn(raw)),
                (Program::Wayfare, turn(5.0)),
                (Program::Gotatun, turn(0.5)),
                (Program::Wayfare, turn(4.0)),
            ],
            seal_and_open: Some(0.5),
            ..Round::default()
        }
    }

    fn gbps(turn: &Turn) -> Option<f64> {
        Some(turn.tcp1?.gbps)
    }

    #[test]
    fn ours_is_compared_with_the_one_it_followed() {
        let rounds = Rounds(vec![round(20.0)]);
        assert_eq!(rounds.ratios(Program::Gotatun, gbps), [8.0]);
        assert_eq!(rounds.ratios(Program::Raw, gbps), [0.25]);
        assert!(rounds.ratios(Program::Boringtun, gbps).is_empty());
        assert_eq!(rounds.values(Program::Wayfare, gbps), [5.0, 4.0]);
        assert_eq!(rounds.added(Program::Wayfare, gbps), [-15.0]);
    }

    #[test]
    fn a_turn_that_failed_is_no_zero() {
        let mut round = round(20.0);
        round.turns[2].1 = Turn {
            troubles: vec!["did not come up".to_owned()],
            ..Turn::default()
        };
        let rounds = Rounds(vec![round.clone(), round]);
        assert!(rounds.ratios(Program::Gotatun, gbps).is_empty());
        assert_eq!(rounds.troubles(Program::Gotatun), ["did not come up"]);
    }

    #[test]
    fn the_budget_is_the_cipher_and_the_bare_stream() {
        // 2 ns a byte of ours over 0.5 + 0.5.
        assert_eq!(Rounds(vec![round(20.0)]).over_budget(), [2.0]);
    }
}
