//! What all clients of this door have in common: connections that are made when needed and again after they broke, and deadlines.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint};
use wayfare_session::Hello;

use crate::limits::{
    CONNECT_DEADLINE, CONNECTION_WINDOW, KEEPALIVE, MAX_HEADERS, STREAM_WINDOW, WAITING_KEEPALIVE,
};
use crate::{ApiError, DEADLINE, Malformed};

/// A server as a client sees it.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// For people.
    pub(crate) address: String,
    /// What we say first.
    pub(crate) hello: Hello,
    /// How long we wait for an answer.
    pub(crate) deadline: Duration,
    pub(crate) channel: Channel,
}

impl Line {
    /// To `http://host:port`. Connects with the first call, and again whenever the connection broke.
    pub(crate) fn to_url(url: &str) -> Result<Self, ApiError> {
        let bad = |why: &str| ApiError::BadAddress {
            address: url.to_owned(),
            why: why.to_owned(),
        };
        let Some(authority) = url.strip_prefix("http://") else {
            return Err(bad("it does not begin with http://"));
        };
        if authority.trim_end_matches('/').is_empty() {
            return Err(bad("it names no host"));
        }
        let endpoint =
            Endpoint::from_shared(url.to_owned()).map_err(|cause| bad(&cause.to_string()))?;
        let endpoint = bounded(endpoint)
            .http2_keep_alive_interval(WAITING_KEEPALIVE)
            .keep_alive_timeout(WAITING_KEEPALIVE);
        Ok(Self::new(url.to_owned(), endpoint.connect_lazy()))
    }

    /// Over a byte stream that somebody else opened; it cannot be opened again.
    pub(crate) fn over<IO>(address: String, io: IO) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let once = Arc::new(Mutex::new(Some(io)));
        let connector = tower::service_fn(move |_: tonic::transport::Uri| {
            let io = once.lock().ok().and_then(|mut io| io.take());
            async move {
                io.map(TokioIo::new)
                    .ok_or_else(|| std::io::Error::other("the stream has ended; open a new one"))
            }
        });
        let endpoint =
            bounded(Endpoint::from_static("http://stream.invalid")).keep_alive_while_idle(true);
        Self::new(address, endpoint.connect_with_connector_lazy(connector))
    }

    /// Over connections that `connect` makes.
    pub(crate) fn by<C, F, IO>(address: String, connect: C) -> Self
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = std::io::Result<IO>> + Send + 'static,
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connector = tower::service_fn(move |_: tonic::transport::Uri| {
            let connecting = connect();
            async move { connecting.await.map(TokioIo::new) }
        });
        let endpoint = bounded(Endpoint::from_static("http://socket.invalid"));
        Self::new(address, endpoint.connect_with_connector_lazy(connector))
    }

    fn new(address: String, channel: Channel) -> Self {
        Self {
            address,
            hello: Hello::ours(),
            deadline: DEADLINE,
            channel,
        }
    }

    /// Waits for an answer, no longer than the line's deadline.
    pub(crate) async fn call<T>(
        &self,
        answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, ApiError> {
        self.call_within(self.deadline, answer).await
    }

    /// Waits for an answer.
    pub(crate) async fn call_within<T>(
        &self,
        deadline: Duration,
        answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, ApiError> {
        let late = || ApiError::Deadline {
            address: self.address.clone(),
            after: deadline,
        };
        let answer = tokio::time::timeout(deadline, answer)
            .await
            .map_err(|_| late())?;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| self.error_within(deadline, &status))
    }

    /// Reads the status that ended a stream.
    pub(crate) fn error(&self, status: &tonic::Status) -> ApiError {
        self.error_within(self.deadline, status)
    }

    fn error_within(&self, deadline: Duration, status: &tonic::Status) -> ApiError {
        let ours = (self.hello.protocol_min, self.hello.protocol_max);
        ApiError::from_status(&self.address, ours, deadline, status)
    }

    pub(crate) fn malformed(&self) -> impl Fn(Malformed) -> ApiError {
        let address = self.address.clone();
        move |malformed| ApiError::malformed(&address, malformed)
    }
}

fn bounded(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_DEADLINE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(MAX_HEADERS)
}
