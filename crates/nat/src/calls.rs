//! The relay's protocol: open a channel to a node, ring it, pass a word along. A request and its reply are each one message on
//! one stream. It refuses messages beyond its bounds, and knows nothing of what offers say.

use std::io;
use std::net::SocketAddr;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p_request_response::Codec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wayfare_identity::NodeId;

/// The longest offer, answer or word that a relay passes on, bytes.
pub const MAX_WORD: usize = 2_048;
/// A word and what is around it.
pub(crate) const MAX_MESSAGE: usize = MAX_WORD + 256;

pub(crate) const PROTOCOL: &str = "/wayfare/relay/1";

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Of a relay: a channel to this node.
    Open { to: NodeId, offer: Vec<u8> },
    /// By a relay: this node wants a channel to you.
    Ring {
        from: NodeId,
        channel: u32,
        /// Where the relay sees it.
        seen: SocketAddr,
        offer: Vec<u8>,
    },
    /// Of a relay: tell this to the other end. By a relay: the other end tells you this.
    Pass {
        channel: u32,
        /// Where the relay sees the other end; of no meaning towards the relay.
        seen: Option<SocketAddr>,
        word: Vec<u8>,
    },
    /// Of a relay: the channel is not needed any more. By a relay: it is closed.
    Close { channel: u32 },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The channel is open.
    Opened {
        channel: u32,
        /// Where the relay sees the other end.
        seen: SocketAddr,
        answer: Vec<u8>,
    },
    /// To a ring.
    Answered { answer: Vec<u8> },
    /// Passed on, or closed.
    Done,
    /// No, and why, for people; at most 256 bytes are kept.
    Refused { why: String },
}

/// Messages in postcard, the stream's end being the message's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CallCodec;

impl Codec for CallCodec {
    type Protocol = &'static str;
    type Request = Request;
    type Response = Reply;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
    ) -> io::Result<Request> {
        read(io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
    ) -> io::Result<Reply> {
        read(io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
        request: Request,
    ) -> io::Result<()> {
        write(io, &request).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
        reply: Reply,
    ) -> io::Result<()> {
        write(io, &reply).await
    }
}

async fn read<T: AsyncRead + Unpin + Send, M: DeserializeOwned>(io: &mut T) -> io::Result<M> {
    let mut bytes = Vec::new();
    let limit = MAX_MESSAGE as u64 + 1;
    io.take(limit).read_to_end(&mut bytes).await?;
    parse(&bytes)
}

/// Reads a message; whatever is not exactly one is refused.
pub(crate) fn parse<M: DeserializeOwned>(bytes: &[u8]) -> io::Result<M> {
    let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    if bytes.len() > MAX_MESSAGE {
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

    #[test]
    fn messages_come_back_and_anything_else_is_refused() {
        let request = Request::Ring {
            from: NodeId([7; 32]),
            channel: 9,
            seen: "[2001:db8::1]:5".parse().unwrap(),
            offer: vec![1; MAX_WORD],
        };
        let bytes = postcard::to_stdvec(&request).unwrap();
        assert_eq!(parse::<Request>(&bytes).unwrap(), request);
        let longer = [&bytes[..], &[0]].concat();
        assert!(parse::<Request>(&longer).is_err());
        assert!(parse::<Request>(&bytes[..bytes.len() - 1]).is_err());
        assert!(parse::<Request>(&vec![0; MAX_MESSAGE + 1]).is_err());
        for first in 0..=255u8 {
            for length in 0..64 {
                let _ = parse::<Request>(&vec![first; length]);
                let _ = parse::<Reply>(&vec![first; length]);
            }
        }
    }
}
