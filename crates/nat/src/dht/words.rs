//! Questions and answers about topics: each one message on one stream. It refuses messages beyond their bounds.

use serde::{Deserialize, Serialize};
use wayfare_identity::NodeAddress;

use super::Topic;
use crate::message::MessageCodec;

/// The longest record, bytes.
pub const MAX_VALUE: usize = 4_096;
/// A record and what is around it.
pub(crate) const MAX_QUESTION: usize = MAX_VALUE + 64;
/// The records of one answer, bytes together.
pub(crate) const ANSWER_BYTES: usize = 48 << 10;
/// The records of one answer: each costs the asker a verification, 0.1 ms.
pub(crate) const ANSWER_VALUES: usize = 128;
/// The nodes of one answer.
pub(crate) const ANSWER_NODES: usize = 20;
/// Records, their lengths, and 20 nodes of at most 52 bytes.
pub(crate) const MAX_ANSWER: usize = ANSWER_BYTES + 4 * ANSWER_VALUES + 64 * ANSWER_NODES;

pub(crate) const PROTOCOL: &str = "/wayfare/topic/1";

/// What is asked of a serving node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Question {
    /// Who is closer to whoever asks.
    Around,
    /// Who is closer to the topic.
    Closer(Topic),
    /// What is under the topic, and who is closer.
    Find(Topic),
    /// Keep this under the topic.
    Keep(Topic, Vec<u8>),
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// To the first three.
    Found {
        values: Vec<Vec<u8>>,
        closer: Vec<NodeAddress>,
    },
    /// To the last: whether it did.
    Kept(bool),
}

/// How both are written and read.
pub(crate) type WordCodec = MessageCodec<Question, Answer>;

pub(crate) const fn codec() -> WordCodec {
    MessageCodec::new(MAX_QUESTION, MAX_ANSWER)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::message::parse;
    use wayfare_identity::NodeId;

    #[test]
    fn the_largest_messages_fit_and_anything_else_is_refused() {
        let question = Question::Keep(Topic([9; 32]), vec![255; MAX_VALUE]);
        let bytes = postcard::to_stdvec(&question).unwrap();
        assert_eq!(parse::<Question>(&bytes, MAX_QUESTION).unwrap(), question);
        let node = NodeAddress {
            node: NodeId([255; 32]),
            at: "[ffff::ffff]:65535".parse().unwrap(),
        };
        let answer = Answer::Found {
            values: vec![vec![255; ANSWER_BYTES / ANSWER_VALUES]; ANSWER_VALUES],
            closer: vec![node; ANSWER_NODES],
        };
        let bytes = postcard::to_stdvec(&answer).unwrap();
        assert_eq!(parse::<Answer>(&bytes, MAX_ANSWER).unwrap(), answer);
        let longer = [&bytes[..], &[0]].concat();
        assert!(parse::<Answer>(&longer, MAX_ANSWER).is_err());
        assert!(parse::<Answer>(&bytes[..bytes.len() - 1], MAX_ANSWER).is_err());
        assert!(parse::<Answer>(&vec![0; MAX_ANSWER + 1], MAX_ANSWER).is_err());
        for first in 0..=255u8 {
            for length in 0..64 {
                let _ = parse::<Question>(&vec![first; length], MAX_QUESTION);
                let _ = parse::<Answer>(&vec![first; length], MAX_ANSWER);
            }
        }
    }
}
