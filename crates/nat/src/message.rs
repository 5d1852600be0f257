//! Messages of our own protocols: one on a stream, in postcard, the stream's end being the message's. It refuses messages beyond
//! their bounds, and knows nothing of what they say.

use std::io;
use std::marker::PhantomData;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p_request_response::Codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Requests of one kind and replies of another.
#[derive(Debug, Clone)]
pub(crate) struct MessageCodec<Q, R> {
    most_request: usize,
    most_reply: usize,
    kinds: PhantomData<fn() -> (Q, R)>,
}

impl<Q, R> MessageCodec<Q, R> {
    /// The longest request and the longest reply that are read, bytes.
    pub(crate) const fn new(most_request: usize, most_reply: usize) -> Self {
        Self {
            most_request,
            most_reply,
            kinds: PhantomData,
        }
    }
}

impl<Q, R> Codec for MessageCodec<Q, R>
where
    Q: Serialize + DeserializeOwned + Clone + Send + Sync,
    R: Serialize + DeserializeOwned + Clone + Send + Sync,
{
    type Protocol = &'static str;
    type Request = Q;
    type Response = R;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
    ) -> io::Result<Q> {
        read(io, self.most_request).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
    ) -> io::Result<R> {
        read(io, self.most_reply).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
        request: Q,
    ) -> io::Result<()> {
        write(io, &request).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
        reply: R,
    ) -> io::Result<()> {
        write(io, &reply).await
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

/// Reads a message of at most `most` bytes; whatever is not exactly one is refused.
pub(crate) fn parse<M: DeserializeOwned>(bytes: &[u8], most: usize) -> io::Result<M> {
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

async fn write<T: AsyncWrite + Unpin + Send, M: Serialize + Sync>(
    io: &mut T,
    message: &M,
) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    io.write_all(&bytes).await?;
    io.close().await
}
