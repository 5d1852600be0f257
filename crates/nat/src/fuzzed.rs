//! The fuzz bodies: ordinary functions over bytes of strangers, each with its own idea of what must come out. libFuzzer calls
//! them with what it finds (see `fuzz/` beside `src/`), the test below with what it found. They refuse chance and state: the same
//! bytes do the same thing in every run.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::calls::{MAX_MESSAGE, Reply, Request};
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
        read::<Request>(message, MAX_MESSAGE).is_some()
    } else {
        read::<Reply>(message, MAX_MESSAGE).is_some()
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::{Path, PathBuf};

    use super::*;

    /// Small enough to be cloned and replayed by everybody.
    const MOST_FILES: usize = 150;
    const MOST_BYTES: usize = 150 << 10;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
    }

    /// The inputs of one target, in the order of their names.
    fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(folder().join(target)).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let read = |path: PathBuf| (path.clone(), std::fs::read(path).unwrap());
        paths.into_iter().map(read).collect()
    }

    #[test]
    fn corpus_is_replayed() {
        let (mut files, mut bytes) = (0, 0);
        for (target, body) in TARGETS {
            let mut endings = Vec::new();
            for (path, input) in inputs(target) {
                println!("{}", path.display());
                endings.push(body(&input));
                files += 1;
                bytes += input.len();
            }
            for ending in [Ending::Accepted, Ending::Refused] {
                let reached = endings.contains(&ending);
                assert!(reached, "no input of `{target}` ends {ending:?}");
            }
        }
        let small = files <= MOST_FILES && bytes <= MOST_BYTES;
        assert!(small, "{files} files, {bytes} bytes");
    }

    #[test]
    fn every_folder_has_its_target() {
        for entry in std::fs::read_dir(folder()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(TARGETS.iter().any(|(target, _)| *target == name), "{name}");
        }
    }

    #[test]
    fn any_short_input_is_a_script() {
        for (_, body) in TARGETS {
            for first in 0..=u8::MAX {
                body(&[first]);
                body(&[first, first, 1, 2, 3, first.rotate_left(4), 0xff]);
            }
            body(&[]);
        }
    }
}
