//! The fuzz bodies: ordinary functions over bytes of strangers, each with its own idea of what must come out. libFuzzer calls
//! them with what it finds (see `fuzz/` beside `src/`), the test below with what it found. They refuse chance and state: the same
//! bytes do the same thing in every run.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::calls::{MAX_REPLY, MAX_REQUEST, Reply, Request};
use crate::dht::fuzzed::topic;
use crate::mapping::fuzzed::{nat_pmp, pcp, upnp};
use crate::message::parse;

/// Whether an input got anywhere: a corpus that never does has gone stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Something of it was accepted.
    Accepted,
    /// Nothing was.
    Refused,
}

impl Ending {
    pub(crate) fn accepted_if(yes: bool) -> Self {
        if yes { Self::Accepted } else { Self::Refused }
    }
}

/// What libFuzzer calls.
pub type Body = fn(&[u8]) -> Ending;

/// Every body by the name of its corpus.
pub const TARGETS: &[(&str, Body)] = &[
    ("call", call),
    ("pcp", pcp),
    ("nat_pmp", nat_pmp),
    ("upnp", upnp),
    ("topic", topic),
];

/// What is asked of a relay, or by one, and what is answered: what can be read can be said again.
fn call(bytes: &[u8]) -> Ending {
    let Some((choice, message)) = bytes.split_first() else {
        return Ending::Refused;
    };
    Ending::accepted_if(if choice & 1 == 0 {
        read::<Request>(message, MAX_REQUEST).is_some()
    } else {
        read::<Reply>(message, MAX_REPLY).is_some()
    })
}

/// Reads a message of one of our protocols, and makes sure that it can be said again.
pub(crate) fn read<M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    most: usize,
) -> Option<M> {
    let message = parse::<M>(bytes, most).ok()?;
    assert!(bytes.len() <= most);
    let again = postcard::to_stdvec(&message).expect("what was read can be written");
    assert!(again.len() <= bytes.len(), "the shortest form is written");
    assert_eq!(parse::<M>(&again, most).ok().as_ref(), Some(&message));
    Some(message)
}

/// A fuzzer's bytes, read as choices; past the end everything is zero.
pub(crate) struct Script<'a>(pub(crate) &'a [u8]);

impl Script<'_> {
    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self.0.split_at(N.min(self.0.len()));
        self.0 = tail;
        let mut filled = [0; N];
        filled[..head.len()].copy_from_slice(head);
        filled
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// A message as it arrives: changed in up to seven places, and perhaps cut or continued.
    pub(crate) fn changed(&mut self, genuine: &[u8]) -> Vec<u8> {
        let mut message = genuine.to_vec();
        let choice = self.byte();
        for _ in 0..choice & 7 {
            let (place, change) = (usize::from(self.byte()), self.byte());
            let len = message.len();
            message[place % len] ^= change;
        }
        if choice & 8 != 0 {
            let len = usize::from(self.byte()) % message.len();
            message.truncate(len);
        }
        if choice & 16 != 0 {
            message.extend(self.array::<4>());
        }
        message
    }
}

#[cfg(test)]
#[path = "../../tunnel/tests/corpus/replay.rs"]
mod replay;

/// Small enough to be cloned and replayed by everybody.
#[cfg(test)]
const MOST_FILES: usize = 150;
#[cfg(test)]
const MOST_BYTES: usize = 150 << 10;
/// Every short input is tried.
#[cfg(test)]
const STEP: usize = 1;
