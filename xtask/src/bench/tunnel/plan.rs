//! What is to be measured, as asked for on the command line. It refuses a word that it does not
//! know, naming those that it knows.

use anyhow::{bail, ensure};

use super::program::Program;
use crate::cli::Given;

/// One measure of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// One TCP stream from client to server.
    Tcp1,
    /// One from server to client.
    Reverse,
    /// Four side by side.
    Tcp4,
    /// Datagrams, as IP packets of 64 bytes.
    Udp64,
    /// And of 1,400.
    Udp1400,
    /// Latency with nothing else going on.
    Idle,
    /// Latency beside a TCP stream.
    Loaded,
    /// Not of a turn: 1, 10, 100 and 1,000 consumers on one provider of ours.
    Consumers,
    /// Not of a turn: what a session that does nothing takes.
    Sessions,
    /// Not of a turn: a download while somebody sends junk.
    Junk,
}

impl Measure {
    /// All of them, in the order of a turn.
    pub(super) const ALL: [Self; 10] = [
        Self::Tcp1,
        Self::Reverse,
        Self::Tcp4,
        Self::Udp64,
        Self::Udp1400,
        Self::Idle,
        Self::Loaded,
        Self::Consumers,
        Self::Sessions,
        Self::Junk,
    ];

    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp1 => "tcp1",
            Self::Reverse => "reverse",
            Self::Tcp4 => "tcp4",
            Self::Udp64 => "udp64",
            Self::Udp1400 => "udp1400",
            Self::Idle => "idle",
            Self::Loaded => "loaded",
            Self::Consumers => "consumers",
            Self::Sessions => "sessions",
            Self::Junk => "junk",
        }
    }

    /// Whether every program has it in its turn; the others are of ours alone.
    pub(super) fn is_of_a_turn(self) -> bool {
        !matches!(self, Self::Consumers | Self::Sessions | Self::Junk)
    }
}

/// A run, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// How often every program has its turn.
    pub(super) rounds: u64,
    /// How long each stream runs.
    pub(super) seconds: u64,
    /// What is measured.
    pub(super) measures: Vec<Measure>,
    /// Whom ours is compared with, besides the cable.
    pub(super) peers: Vec<Program>,
}

impl Plan {
    /// Reads the flags.
    ///
    /// # Errors
    /// On a number out of range or an unknown word.
    pub(super) fn read(given: &Given) -> anyhow::Result<Self> {
        let rounds = given.number("--rounds", 5)?;
        ensure!((1..=100).contains(&rounds), "--rounds takes 1 to 100");
        let seconds = given.number("--seconds", 5)?;
        ensure!((1..=600).contains(&seconds), "--seconds takes 1 to 600");
        Ok(Self {
            rounds,
            seconds,
            measures: chosen("--only", given, &Measure::ALL, Measure::name)?,
            peers: chosen("--peers", given, &Program::PEERS, Program::name)?,
        })
    }

    /// Whether `measure` was asked for.
    pub(super) fn has(&self, measure: Measure) -> bool {
        self.measures.contains(&measure)
    }

    /// Everything that has turns.
    pub(super) fn programs(&self) -> Vec<Program> {
        let always = [Program::Raw, Program::Wayfare];
        always.into_iter().chain(self.peers.clone()).collect()
    }
}

/// The named ones of `all`, in its order; all where the flag was not given.
///
/// # Errors
/// On an unknown word, with the known ones.
pub(crate) fn chosen<T: Copy>(
    flag: &str,
    given: &Given,
    all: &[T],
    name: fn(T) -> &'static str,
) -> anyhow::Result<Vec<T>> {
    let Some(list) = given.value(flag) else {
        return Ok(all.to_vec());
    };
    let asked: Vec<&str> = list
        .split(',')
        .map(str::trim)
        .filter(|word| !matches!(*word, "" | "none"))
        .collect();
    for word in &asked {
        if !all.iter().any(|one| name(*one) == *word) {
            let known: Vec<&str> = all.iter().map(|one| name(*one)).collect();
            bail!("{flag} knows no `{word}`; there are: {}", known.join(", "));
        }
    }
    let asked_for = |one: &&T| asked.contains(&name(**one));
    Ok(all.iter().filter(asked_for).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_unless_told_otherwise() {
        let plan = Plan::read(&Given::default()).unwrap();
        assert_eq!((plan.rounds, plan.seconds), (5, 5));
        assert_eq!(plan.measures, Measure::ALL);
        assert_eq!(plan.programs().len(), 6);
    }

    #[test]
    fn lists_are_read_in_the_order_of_a_turn() {
        let given = Given::of(&[("--only", "idle, tcp1"), ("--peers", "none")]);
        let plan = Plan::read(&given).unwrap();
        assert_eq!(plan.measures, [Measure::Tcp1, Measure::Idle]);
        assert_eq!(plan.programs(), [Program::Raw, Program::Wayfare]);
    }

    #[test]
    fn unknown_words_are_answered_with_the_known_ones() {
        let given = Given::of(&[("--peers", "gotatun,wiregard")]);
        let error = Plan::read(&given).unwrap_err().to_string();
        assert!(error.contains("wiregard") && error.contains("wireguard_go"));
        let given = Given::of(&[("--rounds", "0")]);
        assert!(Plan::read(&given).is_err());
    }
}
