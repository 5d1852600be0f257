//! What all servers of this door have in common: limits, health, reflection, and an end that always comes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;

use crate::limits::{
    CONNECTION_WINDOW, DRAIN_GRACE, KEEPALIVE, MAX_CONNECTIONS, MAX_HEADERS, MAX_STREAMS,
    PREFACE_DEADLINE, STREAM_WINDOW,
};
use crate::proto::DESCRIPTORS;
use crate::wire::{Cut, Origin, Wire};
use crate::{DEADLINE, ServeError};

/// Pause after an accept that failed (usually: no file descriptors left), so that a loop of failures costs no processor.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One service, about to be served.
pub(crate) struct Served {
    /// Full name of the service.
    pub(crate) name: &'static str,
    /// The service itself.
    pub(crate) routes: Routes,
    /// How long one call may take until its answer begins.
    pub(crate) deadline: Duration,
}

impl Served {
    pub(crate) fn new(name: &'static str, routes: Routes) -> Self {
        Self {
            name,
            routes,
            deadline: DEADLINE,
        }
    }

    /// Serves a TCP listener until `shutdown`, then [`DRAIN_GRACE`] longer for the calls that are open.
    pub(crate) async fn on_tcp(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        self.on(accepted(listener), shutdown).await
    }

    /// Serves connections as they come.
    pub(crate) async fn on<IO>(
        self,
        incoming: impl Stream<Item = (IO, Origin)> + Send,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (cutter, cut) = watch::channel(false);
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let wires = incoming.then(move |(io, origin)| {
            let (room, cut) = (Arc::clone(&room), cut.clone());
            async move {
                let permit = room
                    .acquire_owned()
                    .await
                    .expect("this semaphore is never closed");
                Ok::<_, std::io::Error>(
                    Wire::new(io, origin, Cut(cut), PREFACE_DEADLINE).with_permit(permit),
                )
            }
        });
        self.run(wires, cutter, shutdown).await
    }

    /// Serves one connection until it closes.
    pub(crate) async fn on_one<IO>(
        self,
        io: IO,
        origin: Origin,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (cutter, cut) = watch::channel(false);
        let alive = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&alive)
            .try_acquire_owned()
            .expect("a new semaphore has its one permit");
        let wire = Wire::new(io, origin, Cut(cut), PREFACE_DEADLINE).with_permit(permit);
        // INVARIANT: the stream of connections must not end before the connection does, or the server would go away at once.
        let closed = stream::once(async move { alive.acquire().await.map(drop) })
            .filter_map(|_| async { None });
        let wires = stream::once(async { Ok::<_, std::io::Error>(wire) }).chain(closed);
        self.run(wires, cutter, shutdown).await
    }

    async fn run<IO>(
        self,
        wires: impl Stream<Item = Result<Wire<IO>, std::io::Error>> + Send,
        cutter: watch::Sender<bool>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stopped = |cause: &dyn std::fmt::Display| ServeError::Stopped(cause.to_string());
        let (health, health_service) = tonic_health::server::health_reporter();
        health
            .set_service_status(self.name, ServingStatus::Serving)
            .await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|cause| stopped(&cause))?;
        let (stop, stopping) = oneshot::channel::<()>();
        let serving = server(self.deadline)
            .add_routes(self.routes)
            .add_service(health_service)
            .add_service(reflection)
            .serve_with_incoming_shutdown(wires, async {
                // An error means that nobody will ever ask: the sender outlives this future.
                let _ = stopping.await;
            });
        tokio::pin!(serving);
        tokio::select! {
            ended = &mut serving => return ended.map_err(|cause| stopped(&cause)),
            () = shutdown => {}
        }
        health
            .set_service_status(self.name, ServingStatus::NotServing)
            .await;
        let _ = stop.send(());
        if let Ok(ended) = tokio::time::timeout(DRAIN_GRACE, &mut serving).await {
            return ended.map_err(|cause| stopped(&cause));
        }
        tracing::info!(service = self.name, "open calls were cut at shutdown");
        let _ = cutter.send(true);
        serving.await.map_err(|cause| stopped(&cause))
    }
}

fn server(deadline: Duration) -> Server {
    Server::builder()
        .timeout(deadline)
        .concurrency_limit_per_connection(MAX_STREAMS as usize)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .http2_max_header_list_size(MAX_HEADERS)
}

fn accepted(listener: TcpListener) -> impl Stream<Item = (TcpStream, Origin)> + Send {
    stream::unfold(listener, |listener| async move {
        loop {
            match listener.accept().await {
                Ok((connection, from)) => {
                    // Without it small answers wait for acknowledgements; a failure only costs time.
                    let _ = connection.set_nodelay(true);
                    return Some(((connection, Origin(Some(from))), listener));
                }
                Err(cause) => {
                    tracing::warn!(%cause, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}
