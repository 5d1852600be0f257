//! The upgrade of HTTP/1.1 to a WebSocket (RFC 6455, section 4), without a pause: the node's frames follow its request, and the
//! relay takes what came along with one. The answer is looked at when it comes, before the first frame behind it.
//!
//! It refuses heads longer than a browser's.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::{Response, generate_request};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response, write_response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Of a request or an answer, bytes; ours have 160.
const MOST_HEAD: usize = 8 << 10;
/// Read at once.
const PART: usize = 2 << 10;
/// Where a head ends.
const END: &[u8] = b"\r\n\r\n";

/// A request that is sent, and what its answer must hold.
pub(super) struct Asked {
    /// What goes out.
    pub(super) request: Vec<u8>,
    accept: String,
}

impl Asked {
    /// For a WebSocket at the root of `ws://HOST/`.
    pub(super) fn new(host: impl std::fmt::Display) -> Result<Self, Error> {
        let request = format!("ws://{host}/").into_client_request()?;
        let (request, key) = generate_request(request)?;
        Ok(Self {
            request,
            accept: derive_accept_key(key.as_bytes()),
        })
    }

    fn verify(&self, answer: Response) -> Result<(), Error> {
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::Http(Box::new(answer)));
        }
        let says = |name, wanted: &str| {
            let value = answer.headers().get(name).and_then(|v| v.to_str().ok());
            value.is_some_and(|value| value.eq_ignore_ascii_case(wanted))
        };
        let accept = answer.headers().get("Sec-WebSocket-Accept");
        let missing = if !says("Upgrade", "websocket") {
            ProtocolError::MissingUpgradeWebSocketHeader
        } else if !says("Connection", "Upgrade") {
            ProtocolError::MissingConnectionUpgradeHeader
        } else if accept.is_none_or(|key| *key != self.accept) {
            ProtocolError::SecWebSocketAcceptKeyMismatch
        } else {
            return Ok(());
        };
        Err(Error::Protocol(missing))
    }

    /// What follows the answer in `head`; `None` while it has not all come.
    fn answered(&self, head: &[u8], looked: usize) -> Result<Option<Bytes>, Error> {
        let Some(end) = end_of(head, looked)? else {
            return Ok(None);
        };
        let Some((_, answer)) = Response::try_parse(&head[..end])? else {
            return Err(Error::Protocol(ProtocolError::HandshakeIncomplete));
        };
        self.verify(answer)?;
        Ok(Some(Bytes::copy_from_slice(&head[end..])))
    }
}

/// A stream on which a request is on its way: it may be written at once, and what is read is what follows the answer.
/// Another answer is an error of the first read, which `refused` puts into words.
pub(super) struct Upgraded<S> {
    stream: S,
    owed: Option<Owed>,
    /// What came along with the answer.
    rest: Bytes,
}

struct Owed {
    asked: Asked,
    head: Vec<u8>,
    refused: Box<dyn Fn(Error) -> io::Error + Send>,
}

impl<S> Upgraded<S> {
    pub(super) fn new(
        stream: S,
        asked: Asked,
        refused: impl Fn(Error) -> io::Error + Send + 'static,
    ) -> Self {
        let owed = Owed {
            asked,
            head: Vec::new(),
            refused: Box::new(refused),
        };
        Self {
            stream,
            owed: Some(owed),
            rest: Bytes::new(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Upgraded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while let Some(owed) = &mut this.owed {
            let mut part = [0; PART];
            let mut part = ReadBuf::new(&mut part);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut part))?;
            let looked = owed.head.len();
            owed.head.extend_from_slice(part.filled());
            let answered = match part.filled().is_empty() {
                true => Err(Error::Protocol(ProtocolError::HandshakeIncomplete)),
                false => owed.asked.answered(&owed.head, looked),
            };
            if let Some(rest) = answered.map_err(&owed.refused)? {
                this.rest = rest;
                this.owed = None;
            }
        }
        if this.rest.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, into);
        }
        let length = this.rest.len().min(into.remaining());
        into.put_slice(&this.rest[..length]);
        this.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Upgraded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// The relay's half: frames that came along with the request are not lost.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    limits: WebSocketConfig,
) -> Result<WebSocketStream<S>, Error> {
    let mut head = Vec::with_capacity(PART);
    let end = loop {
        let looked = head.len();
        if stream.read_buf(&mut head).await? == 0 {
            return Err(Error::Protocol(ProtocolError::HandshakeIncomplete));
        }
        if let Some(end) = end_of(&head, looked)? {
            break end;
        }
    };
    let Some((_, request)) = Request::try_parse(&head[..end])? else {
        return Err(Error::Protocol(ProtocolError::HandshakeIncomplete));
    };
    let mut answer = Vec::new();
    write_response(&mut answer, &create_response(&request)?)?;
    stream.write_all(&answer).await?;
    stream.flush().await?;
    let frames = head.split_off(end);
    let (role, limits) = (Role::Server, Some(limits));
    Ok(WebSocketStream::from_partially_read(stream, frames, role, limits).await)
}

/// Where the head ends and frames begin, if that has come; what was `looked` at is not looked at again.
fn end_of(head: &[u8], looked: usize) -> Result<Option<usize>, Error> {
    let from = looked.saturating_sub(END.len() - 1);
    let found = head[from..].windows(END.len()).position(|four| four == END);
    match found.map(|at| from + at + END.len()) {
        Some(end) if end <= MOST_HEAD => Ok(Some(end)),
        None if head.len() <= MOST_HEAD => Ok(None),
        Some(_) | None => Err(Error::AttackAttempt),
    }
}

#[cfg(test)]
mod tests;
