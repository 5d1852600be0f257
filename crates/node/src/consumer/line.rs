//! The control line to a provider: frames between the session and the provider's stream, over whatever connection the path of
//! the moment allows. When the path changes a new connection is made along it, the session is attached there, and only then the
//! old one is let go. It refuses to interpret frames.

use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use wayfare_api::ApiError;
use wayfare_api::peer::{PeerClient, ProviderLine};
use wayfare_identity::NodeId;
use wayfare_session::{ConsumerFrame, ProviderFrame, SessionToken};
use wayfare_transport::{BiStream, PathPace, QuicEndpoint, discovered, remote_address, watch_path};

use crate::NodeError;
use crate::path::FIRST_SEARCH;
use crate::reach::PathNow;

/// A broken control stream is opened again this often while the session lives.
const REATTACH: Duration = Duration::from_secs(1);
/// A path that was just proved answers within round trips.
const DIAL: Duration = Duration::from_secs(5);

/// One session's control line.
pub(super) struct ControlLine {
    pub(super) endpoint: QuicEndpoint,
    pub(super) node: NodeId,
    pub(super) token: SessionToken,
    pub(super) connection: quinn::Connection,
    /// Where the connection goes, as the path's finder spells it.
    pub(super) at: SocketAddr,
    /// `None` when there is one path only.
    pub(super) path: Option<watch::Receiver<PathNow>>,
    /// What datagrams the path carries.
    pub(super) payload: watch::Sender<u16>,
}

/// A session attached to a connection.
struct Attached {
    at: SocketAddr,
    connection: quinn::Connection,
    line: ProviderLine,
}

type Attaching = BoxFuture<'static, Option<Attached>>;

/// Watches the width of one connection's path until it is dropped.
struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ControlLine {
    /// Carries frames until the session is over.
    pub(super) async fn carry(
        mut self,
        mut outbox: mpsc::Receiver<ConsumerFrame>,
        inbox: mpsc::Sender<ProviderFrame>,
    ) {
        let mut line = None;
        let mut attaching = Some(self.attach_first());
        let mut attached_before = false;
        let mut watching = None;
        loop {
            if attaching.is_none() && (line.is_none() || self.at != self.chosen()) {
                attaching = Some(self.attach(REATTACH));
            }
            tokio::select! {
                attached = finished(&mut attaching) => {
                    attaching = (!attached_before && self.at != self.chosen())
                        .then(|| self.attach(Duration::ZERO));
                    attached_before = true;
                    if let Some(attached) = attached {
                        line = Some(self.install(attached));
                        watching = Some(self.watch());
                    }
                }
                frame = next(&mut line) => match frame {
                    Ok(frame) => if inbox.send(frame).await.is_err() { return },
                    Err(why) => {
                        tracing::debug!(why, "the provider's stream broke");
                        line = None;
                    }
                },
                frame = outbox.recv(), if line.is_some() => match (frame, &line) {
                    (Some(frame), Some(open)) => if open.replies.send(frame).await.is_err() { line = None },
                    _ => return,
                },
                // The first payment is on its way then, and traffic waits for it.
                () = moved(&mut self.path), if attached_before => {
                    // It moves at once, not after the pause that follows a failure.
                    attaching = (self.at != self.chosen()).then(|| self.attach(Duration::ZERO)).or(attaching);
                }
                () = inbox.closed() => return,
            }
            let _ = &watching;
        }
    }

    /// The address that the path's finder has chosen.
    fn chosen(&self) -> SocketAddr {
        self.path.as_ref().map_or(self.at, |path| path.borrow().at)
    }

    /// Attaches on the connection that there is, wherever the path goes by now: for its first payment a session waits no longer
    /// than it must. What has become of the path meanwhile is looked at afterwards.
    fn attach_first(&self) -> Attaching {
        let (at, connection, token) = (self.at, self.connection.clone(), self.token);
        async move {
            let line = tokio::time::timeout(DIAL, converse(&connection, token)).await;
            let line = line.ok()??;
            Some(Attached {
                at,
                connection,
                line,
            })
        }
        .boxed()
    }

    /// Attaches after a pause: on the connection that there is, if it goes where the path goes, else on a new one.
    fn attach(&self, pause: Duration) -> Attaching {
        let (endpoint, node, token) = (self.endpoint.clone(), self.node, self.token);
        let at = self.chosen();
        let present = Some(self.connection.clone())
            .filter(|connection| at == self.at && connection.close_reason().is_none());
        async move {
            tokio::time::sleep(pause).await;
            if let Some(connection) = present
                && let Some(line) = converse(&connection, token).await
            {
                return Some(Attached {
                    at,
                    connection,
                    line,
                });
            }
            let dialed = endpoint.dial_within(at, node.0, DIAL).await;
            let connection = dialed
                .inspect_err(|error| tracing::debug!(%error, "the control line stays where it is"))
                .ok()?;
            let line = converse(&connection, token).await?;
            // Known before it is told: the session's packets need not shrink for a moment.
            discovered(&connection, FIRST_SEARCH).await;
            Some(Attached {
                at,
                connection,
                line,
            })
        }
        .boxed()
    }

    fn install(&mut self, attached: Attached) -> ProviderLine {
        let Attached {
            at,
            connection,
            line,
        } = attached;
        let old = std::mem::replace(&mut self.connection, connection);
        self.at = at;
        if old.stable_id() != self.connection.stable_id() {
            old.close(quinn::VarInt::from_u32(0), b"moved");
        }
        line
    }

    fn watch(&self) -> Watching {
        let (connection, payload) = (self.connection.clone(), self.payload.clone());
        Watching(tokio::spawn(async move {
            watch_path(&connection, payload, PathPace::default()).await;
        }))
    }
}

async fn finished(attaching: &mut Option<Attaching>) -> Option<Attached> {
    match attaching {
        Some(attaching) => attaching.await,
        None => std::future::pending().await,
    }
}

/// The provider's next frame, or why there is none; waits for ever without a line.
async fn next(line: &mut Option<ProviderLine>) -> Result<ProviderFrame, String> {
    let Some(open) = line else {
        return std::future::pending().await;
    };
    match open.frames.next().await {
        Some(Ok(frame)) => Ok(frame),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("it ended".to_owned()),
    }
}

/// Waits until the path is another one; for ever when there is one only.
async fn moved(path: &mut Option<watch::Receiver<PathNow>>) {
    if let Some(watched) = path {
        if watched.changed().await.is_ok() {
            return;
        }
        *path = None;
    }
    std::future::pending().await
}

async fn converse(connection: &quinn::Connection, token: SessionToken) -> Option<ProviderLine> {
    let client = peer_client(connection).await.ok()?;
    client.converse(token).await.ok()
}

/// A client of the provider's services, on a stream of its own.
pub(super) async fn peer_client(connection: &quinn::Connection) -> Result<PeerClient, NodeError> {
    let address = remote_address(connection).to_string();
    let stream = BiStream::open(connection)
        .await
        .map_err(|error| NodeError::Service {
            what: "the provider",
            source: ApiError::Unreachable {
                address: address.clone(),
                cause: error.to_string(),
            },
        })?;
    Ok(PeerClient::over(stream, address))
}
