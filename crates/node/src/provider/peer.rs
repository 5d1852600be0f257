//! The provider's side of the session control: QUIC connections in, gRPC over each of their streams, requests handed to the exit's
//! owner.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wayfare_api::hermes::HermesClient;
use wayfare_api::peer::{ConsumerLine, PeerService, serve_stream};
use wayfare_api::{Refusal, ServeError};
use wayfare_chain::VaultClient;
use wayfare_identity::Address;
use wayfare_payment::{Agreement, AgreementId, Chain};
use wayfare_session::{
    self as session, AdmissionFacts, Funds, OpenReply, OpenRequest, ProviderFrame, RefusalCode,
    TunnelNetwork,
};
use wayfare_transport::{BiStream, QuicEndpoint, remote_address};

use super::driver::Command;
use super::paths::{self, PathChange};
use crate::{NodeError, chance};

/// Connections served at a time; each holds at most its streams' buffers, 64 KiB apiece.
const MAX_CONNECTIONS: usize = 4_096;
/// What a connection beyond these is closed with.
const NO_ROOM: quinn::VarInt = quinn::VarInt::from_u32(2);
/// Streams of one connection: a session needs two.
const MAX_STREAMS: usize = 8;

/// Takes what consumers ask to the owner of what they open, with what admission depends on.
#[derive(Debug)]
pub(crate) struct Reception<Q = OpenRequest, A = OpenReply> {
    pub(crate) commands: mpsc::Sender<Command<Q, A>>,
    pub(crate) chain: Arc<VaultClient>,
    pub(crate) hermes_client: HermesClient,
    pub(crate) hermes: Address,
}

/// Answers consumers in the name of one exit.
#[derive(Debug)]
pub(crate) struct PeerDesk {
    pub(crate) reception: Reception,
    /// What paths carry.
    pub(crate) paths: mpsc::Sender<PathChange>,
    pub(crate) funds: mpsc::Sender<FundsFound>,
}

/// What was found out about the means of an agreement's consumer.
pub(crate) type FundsFound = (AgreementId, Result<Funds, session::Refusal>);

/// Answers one connection, whose path the sessions opened on it share.
#[derive(Debug)]
struct ConnectionDesk {
    desk: Arc<PeerDesk>,
    opened: mpsc::Sender<TunnelNetwork>,
}

impl PeerService for ConnectionDesk {
    async fn open(
        &self,
        _from: Option<SocketAddr>,
        request: OpenRequest,
    ) -> Result<OpenReply, Refusal> {
        // Signatures first: a stranger's request asks neither the chain nor the Hermes.
        request.verify()?;
        let Agreement { id, consumer, .. } = request.agreement;
        let reply = self.desk.reception.open(request, consumer, None).await?;
        let desk = Arc::clone(&self.desk);
        // Nothing passes before its means are known. What is looked up at a time is bounded by the exit, and by how long the
        // chain and the Hermes may take to answer.
        tokio::spawn(async move {
            let funds = desk.reception.funds(consumer).await;
            let _ = desk.funds.send((id, funds)).await;
        });
        // A connection that is lost needs no room.
        let _ = self.opened.send(reply.network).await;
        Ok(reply)
    }

    async fn converse(&self, line: ConsumerLine) -> Result<(), Refusal> {
        self.desk.reception.converse(line).await
    }
}

impl<Q: Send + 'static, A: Send + 'static> Reception<Q, A> {
    /// Asks the owner to open what a consumer wants. `funds`: `None` where they are looked up meanwhile.
    pub(crate) async fn open(
        &self,
        request: Q,
        consumer: Address,
        funds: Option<Funds>,
    ) -> Result<A, Refusal> {
        let internal =
            |error: NodeError| session::Refusal::new(RefusalCode::Internal, error.to_string());
        let facts = AdmissionFacts {
            channel: self.chain.consumer_channel(consumer, self.hermes),
            funds,
            token: chance::bytes().map_err(internal)?,
        };
        let (answer, opened) = oneshot::channel();
        self.command(Command::Open {
            request: Box::new(request),
            facts,
            answer,
        })
        .await?;
        Ok(opened.await.map_err(|_| stopping())??)
    }

    /// Accepts a stream; the frames go on in a task of their own.
    pub(crate) async fn converse(&self, line: ConsumerLine) -> Result<(), Refusal> {
        let (answer, attached) = oneshot::channel();
        let token = line.token;
        self.command(Command::Attach { token, answer }).await?;
        let frames = attached.await.map_err(|_| stopping())??;
        tokio::spawn(carry_frames(line, frames, self.commands.clone()));
        Ok(())
    }

    /// Looks up a consumer's means: the deposit on the chain, and what the Hermes has already accepted.
    pub(crate) async fn funds(&self, consumer: Address) -> Result<Funds, session::Refusal> {
        let account = async {
            let account = self.chain.consumer(consumer, self.hermes).await;
            account.map_err(|error| {
                session::Refusal::new(
                    RefusalCode::Internal,
                    format!("the provider cannot read the chain: {error}; try another one"),
                )
            })
        };
        let state = async {
            let state = self.hermes_client.consumer_state(consumer).await;
            state.map_err(|error| {
                session::Refusal::new(
                    RefusalCode::Hermes,
                    format!("the provider cannot reach the Hermes: {error}; try another one"),
                )
            })
        };
        let (account, state) = tokio::try_join!(account, state)?;
        let deposit = account.balance.saturating_add(account.collected);
        Ok(Funds {
            spendable: deposit.saturating_sub(state.promised),
            leaving: account.exit_at.is_some(),
        })
    }

    async fn command(&self, command: Command<Q, A>) -> Result<(), session::Refusal> {
        self.commands.send(command).await.map_err(|_| stopping())
    }
}

/// Carries frames between a consumer's stream and the exit's owner until either ends.
async fn carry_frames<Q, A>(
    mut line: ConsumerLine,
    mut frames: mpsc::Receiver<ProviderFrame>,
    commands: mpsc::Sender<Command<Q, A>>,
) {
    loop {
        tokio::select! {
            frame = line.frames.next() => match frame {
                Some(Ok(frame)) => {
                    let command = Command::Frame { token: line.token, frame };
                    if commands.send(command).await.is_err() {
                        return;
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a consumer's stream broke");
                    return;
                }
                None => return,
            },
            frame = frames.recv() => match frame {
                Some(frame) => {
                    if line.replies.send(frame).await.is_err() {
                        return;
                    }
                }
                None => return,
            },
        }
    }
}

fn stopping() -> session::Refusal {
    session::Refusal::new(
        RefusalCode::Draining,
        "the provider is shutting down: choose another one",
    )
}

/// Answers consumers until cancelled.
pub(crate) async fn listen(endpoint: QuicEndpoint, desk: Arc<PeerDesk>, stop: CancellationToken) {
    let (streams, until) = (stop.clone(), stop);
    let serve = |connection| serve_connection(connection, Arc::clone(&desk), streams.clone());
    accept(endpoint, serve, until).await;
}

/// Accepts connections until cancelled, and serves a bounded number at a time.
pub(crate) async fn accept<F>(
    endpoint: QuicEndpoint,
    serve: impl Fn(quinn::Connection) -> F,
    stop: CancellationToken,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tasks = TaskTracker::new();
    loop {
        let connection = tokio::select! {
            () = stop.cancelled() => break,
            connection = endpoint.accept() => connection,
        };
        let Some(connection) = connection else { break };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            connection.close(NO_ROOM, b"no room for another connection");
            continue;
        };
        let serving = serve(connection);
        tasks.spawn(async move {
            serving.await;
            drop(permit);
        });
    }
    tasks.close();
    tasks.wait().await;
}

async fn serve_connection(
    connection: quinn::Connection,
    desk: Arc<PeerDesk>,
    stop: CancellationToken,
) {
    let from = remote_address(&connection);
    let streams = TaskTracker::new();
    let (opened, networks) = mpsc::channel(MAX_STREAMS);
    let (path, changes, stopped) = (connection.clone(), desk.paths.clone(), stop.clone());
    streams.spawn(async move {
        tokio::select! {
            () = stopped.cancelled() => {}
            () = paths::follow(&path, networks, changes) => {}
        }
    });
    let desk = Arc::new(ConnectionDesk { desk, opened });
    let until = stop.clone();
    let serve = |stream| {
        serve_stream(
            stream,
            Some(from),
            Arc::clone(&desk),
            until.clone().cancelled_owned(),
        )
    };
    accept_streams(&connection, streams, serve, stop).await;
}

/// Accepts the streams of a connection until it ends or is cancelled; `tasks` end with it.
pub(crate) async fn accept_streams<F>(
    connection: &quinn::Connection,
    tasks: TaskTracker,
    serve: impl Fn(BiStream) -> F,
    stop: CancellationToken,
) where
    F: Future<Output = Result<(), ServeError>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MAX_STREAMS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            break;
        };
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            stream = BiStream::accept(connection) => stream,
        };
        let Ok(stream) = stream else { break };
        let serving = serve(stream);
        tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::debug!(%error, "a control stream ended");
            }
            drop(permit);
        });
    }
    tasks.close();
    tasks.wait().await;
}
