//! Session control between a consumer and a provider, over one byte stream that somebody else opened (in production a stream of
//! their QUIC connection). The nouns are those of `session`.
//!
//! Refuses to know connections and sessions: a stream comes in, frames go out.

pub(crate) mod client;
mod convert;
pub(crate) mod server;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use wayfare_session::{ConsumerFrame, OpenReply, OpenRequest, ProviderFrame, SessionToken};

use crate::{ApiError, Refusal};

pub use client::PeerClient;
pub use server::{serve, serve_stream};

/// What the other side says, frame by frame. Ends after the first error.
pub struct Frames<F>(Pin<Box<dyn Stream<Item = Result<F, ApiError>> + Send>>);

impl<F> Frames<F> {
    pub(crate) fn new(frames: impl Stream<Item = Result<F, ApiError>> + Send + 'static) -> Self {
        Self(Box::pin(frames))
    }

    /// The next frame; `None` when the other side has closed its half.
    ///
    /// # Errors
    /// [`ApiError`] when the stream broke or a frame is not what the protocol says; nothing follows.
    pub async fn next(&mut self) -> Option<Result<F, ApiError>> {
        self.0.next().await
    }
}

impl<F> std::fmt::Debug for Frames<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Frames(..)")
    }
}

/// One conversation as the provider sees it. Dropping `replies` ends it.
#[derive(Debug)]
pub struct ConsumerLine {
    /// Where the consumer's stream comes from.
    pub from: Option<SocketAddr>,
    /// Which session it names; the implementor checks that it exists.
    pub token: SessionToken,
    /// What the consumer says. Never [`ConsumerFrame::Attach`]: that is `token`.
    pub frames: Frames<ConsumerFrame>,
    /// Where answers go: bounded, closed when the consumer is gone.
    pub replies: mpsc::Sender<ProviderFrame>,
}

/// One conversation as the consumer sees it. Dropping `replies` closes the consumer's half.
#[derive(Debug)]
pub struct ProviderLine {
    /// What the provider says.
    pub frames: Frames<ProviderFrame>,
    /// Where answers go: bounded, closed when the provider is gone.
    pub replies: mpsc::Sender<ConsumerFrame>,
}

/// What a provider does, in the nouns of `session`. Methods are called concurrently, each under a deadline.
pub trait PeerService: Send + Sync + 'static {
    /// Consents to a session, or not. The request's versions were negotiated, its signatures were not checked.
    fn open(
        &self,
        from: Option<SocketAddr>,
        request: OpenRequest,
    ) -> impl Future<Output = Result<OpenReply, Refusal>> + Send;

    /// Takes over a conversation and returns at once; whoever drives the session goes on with `line`.
    fn converse(&self, line: ConsumerLine) -> impl Future<Output = Result<(), Refusal>> + Send;
}
