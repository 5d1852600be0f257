//! What nodes of the table, or who claims to be one, can say: questions as a serving node takes them, answers as whoever looks
//! for something takes them. It refuses to be part of any product.

use std::net::SocketAddr;
use std::time::Duration;

use libp2p_identity::PeerId;
use wayfare_identity::{NodeAddress, NodeId};

use super::limits::{Network, believable};
use super::lookup::{Lookup, Target};
use super::search::{Purpose, Search};
use super::store::{Bounds, Store};
use super::words::{
    ANSWER_BYTES, ANSWER_NODES, ANSWER_VALUES, Answer, MAX_ANSWER, MAX_QUESTION, MAX_VALUE,
    Question,
};
use super::{Admitted, Records, Topic};
use crate::address::peer_id;
use crate::fuzzed::{Ending, read};

const NOW: u64 = 1_000;
const TOPIC: Topic = Topic([7; 32]);

/// The curve's base point and its triple: keys that there are.
const US: NodeId = key([
    0xd4, 0xb4, 0xf5, 0x78, 0x48, 0x68, 0xc3, 0x02, 0x04, 0x03, 0x24, 0x67, 0x17, 0xec, 0x16, 0x9f,
    0xf7, 0x9e, 0x26, 0x60, 0x8e, 0xa1, 0x26, 0xa1, 0xab, 0x69, 0xee, 0x77, 0xd1, 0xb1, 0x67, 0x12,
]);
const SEED: NodeId = key([
    0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
    0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
]);

const fn key(bytes: [u8; 32]) -> NodeId {
    NodeId(bytes)
}

/// Whatever begins with an even byte: owner and slot are the bytes after it.
#[derive(Debug)]
struct EvenRecords;

impl Records for EvenRecords {
    fn now(&self) -> u64 {
        NOW
    }

    fn admit(&self, _: &Topic, value: &[u8]) -> Option<Admitted> {
        let [first, owner, slot, sequence, ..] = value else {
            return None;
        };
        (first % 2 == 0).then_some(Admitted {
            owner: [*owner; 32],
            slot: [*slot; 32],
            sequence: u64::from(*sequence),
            expires_at: NOW + 1,
        })
    }
}

/// A question or an answer, by the first byte.
pub(crate) fn topic(bytes: &[u8]) -> Ending {
    let Some((choice, message)) = bytes.split_first() else {
        return Ending::Refused;
    };
    if choice & 1 == 0 {
        let question = read::<Question>(message, MAX_QUESTION);
        if let Some(Question::Keep(topic, value)) = &question {
            kept(*topic, value);
        }
        return Ending::accepted_if(question.is_some());
    }
    let answer = read::<Answer>(message, MAX_ANSWER);
    if let Some(Answer::Found { values, closer }) = &answer {
        asked_next(closer);
        found(values);
    }
    Ending::accepted_if(answer.is_some())
}

/// A record is brought: what is kept is in bounds, and comes back as it came.
fn kept(topic: Topic, value: &[u8]) {
    let bounds = Bounds {
        bytes: 64 << 10,
        of_topic: 4,
        of_owner: 2,
    };
    let mut store = Store::new(bounds);
    let Some(admitted) = EvenRecords.admit(&topic, value) else {
        return;
    };
    let from = Network::V4([203, 0, 113]);
    let twice = [0, 1].map(|_| store.keep(topic, admitted, value.to_vec(), from, NOW));
    assert_eq!(twice[0], twice[1], "brought again it is as it was");
    let there = store.find(topic, NOW);
    let fits = value.len() <= MAX_VALUE && twice[0].is_ok();
    assert!(!fits || there == [value], "what is kept is found");
    assert!(there.iter().map(Vec::len).sum::<usize>() <= ANSWER_BYTES);
    store.expire(NOW + 1);
    assert_eq!(store.find(topic, NOW), Vec::<Vec<u8>>::new());
}

/// Others are named: only believable ones are asked, each once, and the lookup ends though none of them answers.
fn asked_next(closer: &[NodeAddress]) {
    let (Some(us), Some(seed)) = (peer_id(US), peer_id(SEED)) else {
        unreachable!("both are keys");
    };
    let at = SocketAddr::from(([203, 0, 113, 7], 443));
    let named = NodeAddress { node: SEED, at };
    let mut lookup = Lookup::new(us, Target::Topic(TOPIC), &[named]);
    // Differences alone count; a test of the corpus and a fuzzer's run may begin at different times.
    #[allow(
        clippy::disallowed_methods,
        reason = "no clock of `transport` reaches a fuzz body"
    )]
    let mut now = std::time::Instant::now();
    assert_eq!(lookup.next(now), Some((seed, named)));
    lookup.answered(seed, Some(at), closer);
    let mut asked: Vec<PeerId> = Vec::new();
    for _ in 0..8 {
        while let Some((peer, address)) = lookup.next(now) {
            assert!(believable(address.at, Some(at)), "{address}");
            assert!(peer != us && peer != seed && !asked.contains(&peer));
            asked.push(peer);
        }
        now += Duration::from_secs(3);
    }
    assert!(asked.len() <= ANSWER_NODES && lookup.is_done());
}

/// Records are found: what is merged is admitted, and bounded.
fn found(values: &[Vec<u8>]) {
    #[allow(
        clippy::disallowed_methods,
        reason = "no clock of `transport` reaches a fuzz body"
    )]
    let now = std::time::Instant::now();
    let us = peer_id(US).expect("it is a key");
    let lookup = Lookup::new(us, Target::Topic(TOPIC), &[]);
    let (done, _waits) = tokio::sync::oneshot::channel();
    let within = (Duration::ZERO, Duration::from_secs(1));
    let mut search = Search::find(lookup, TOPIC, within, done, now);
    search.take(values.to_vec(), &EvenRecords);
    let Purpose::Find { values: taken, .. } = &search.purpose else {
        unreachable!("it looks for something");
    };
    assert!(taken.len() <= ANSWER_VALUES);
    assert!(
        taken
            .iter()
            .all(|value| EvenRecords.admit(&TOPIC, value).is_some())
    );
}
