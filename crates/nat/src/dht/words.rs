//! Questions and answers about topics: each one message on one stream. It refuses messages beyond their bounds.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p_request_response::Codec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wayfare_identity::NodeAddress;

use super::Topic;

/// The longest record, bytes.
pub const MAX_VALUE: usize = 4_096;
/// A record and what is around it.
const MAX_QUESTION: usize = MAX_VALUE + 64;
/// The records of one answer, bytes together.
pub(crate) const ANSWER_BYTES: usize = 48 << 10;
/// The records of one answer: each costs the asker a verification, 0.1 ms.
pub(crate) const ANSWER_VALUES: usize = 128;
/// The nodes of one answer.
pub(crate) const ANSWER_NODES: usize = 20;
/// Records, their lengths, and 20 nodes of at most 52 bytes.
const MAX_ANSWER: usize = ANSWER_BYTES + 4 * ANSWER_VALUES + 64 * ANSWER_NODES;

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

/// Messages in postcard, the stream's end being the message's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WordCodec;

impl Codec for WordCodec {
    type Protocol = &'static str;
    type Request = Question;
    type Response = Answer;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
    ) -> io::Result<Question> {
        read(io, MAX_QUESTION).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
    ) -> io::Result<Answer> {
        read(io, MAX_ANSWER).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
        question: Question,
    ) -> io::Result<()> {
        write(io, &question).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
        answer: Answer,
    ) -> io::Result<()> {
        write(io, &answer).await
    }
}

async fn read<T: AsyncRead + Unpin + Send, M: DeserializeOwned>(
    io: &mut T,
    most: usize,
) -> io::Result<M> {
    let mut bytes = Vec::new();
    io.take(most as u64 + 1).read_to_end(&mut bytes).await?;
    parse(&bytes, most)
}

/// Reads a message; whatever is not exactly one is refused.
fn parse<M: DeserializeOwned>(bytes: &[u8], most: usize) -> io::Result<M> {
    let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    if bytes.len() > most {
        return Err(refuse("the message is too long"));
    }
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(refuse("something follows the message")),
        Err(_) => Err(refuse("the bytes are no message")),
    }
}

async fn write<T: AsyncWrite + Unpin + Send, M: Serialize>(
    io: &mut T,
    message: &M,
) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    io.write_all(&bytes).await?;
    io.close().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
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
