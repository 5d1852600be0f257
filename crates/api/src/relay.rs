//! Paying a relay, over one byte stream that somebody else opened (in production a stream of a QUIC connection between the two, apart
//! from the channels that are paid for). The nouns are those of `session`, the frames those of [`peer`](crate::peer).
//!
//! Refuses to know connections and channels: whose node is at the other end is known to who opened the stream.

mod client;
pub(crate) mod convert;
mod server;

use std::future::Future;

use wayfare_session::{Tariff, TollReply, TollRequest};

use crate::Refusal;
use crate::peer::ConsumerLine;

pub use client::RelayClient;
pub use server::serve_stream;

/// What a relay that is paid does, in the nouns of `session`, for one connection. Methods are called concurrently, each under a
/// deadline.
pub trait RelayService: Send + Sync + 'static {
    /// What it asks for.
    fn describe(&self) -> impl Future<Output = Result<Tariff, Refusal>> + Send;

    /// Consents to an agreement, or not. The request's versions were negotiated, its signature was not checked.
    fn open(&self, request: TollRequest)
    -> impl Future<Output = Result<TollReply, Refusal>> + Send;

    /// Takes over a conversation and returns at once; whoever owns the agreement goes on with `line`.
    fn converse(&self, line: ConsumerLine) -> impl Future<Output = Result<(), Refusal>> + Send;
}
