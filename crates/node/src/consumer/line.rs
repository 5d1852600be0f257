//! The control line to a provider: frames between the session and the provider's stream, over whatever connection the path of
//! the moment allows. When the path changes a new connection is made along it, the session is attached there, and only then the
//! old one is let go. It refuses to interpret frames.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use wayfare_api::ApiError;
use wayfare_api::peer::{PeerClient, ProviderLine};
use wayfare_identity::NodeId;
use wayfare_session::{ConsumerFrame, ProviderFrame, SessionToken};
use wayfare_transport::{BiStream, PathPace, QuicEndpoint, remote_address, watch_path};

use crate::NodeError;
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

/// Watches the width of one connection's path until it is dropped.
struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ControlLine {
    /// Carries frames until the session is over or the provider is lost for good.
    pub(super) async fn carry(
        mut self,
        first: ProviderLine,
        mut outbox: mpsc::Receiver<ConsumerFrame>,
        inbox: mpsc::Sender<ProviderFrame>,
    ) {
        let mut line = Some(first);
        let mut watching = self.watch();
        loop {
            let Some(open) = &mut line else {
                tokio::time::sleep(REATTACH).await;
                if outbox.is_closed() || inbox.is_closed() {
                    return;
                }
                line = self.attach_again().await;
                if line.is_some() {
                    watching = self.watch();
                }
                continue;
            };
            tokio::select! {
                frame = open.frames.next() => match frame {
                    Some(Ok(frame)) => if inbox.send(frame).await.is_err() { return },
                    Some(Err(error)) => {
                        tracing::debug!(%error, "the provider's stream broke");
                        line = None;
                    }
                    None => line = None,
                },
                frame = outbox.recv() => match frame {
                    Some(frame) => if open.replies.send(frame).await.is_err() { line = None },
                    None => return,
                },
                moved = self.moved() => if let Some((at, connection, attached)) = moved {
                    let old = std::mem::replace(&mut self.connection, connection);
                    self.at = at;
                    line = Some(attached);
                    watching = self.watch();
                    old.close(quinn::VarInt::from_u32(0), b"moved");
                },
            }
            let _ = &watching;
        }
    }

    /// Waits for another path, and attaches there. `None` if that did not work; the old connection is as good as it was.
    async fn moved(&mut self) -> Option<(SocketAddr, quinn::Connection, ProviderLine)> {
        let Some(path) = &mut self.path else {
            return std::future::pending().await;
        };
        let at = loop {
            let at = path.borrow_and_update().at;
            if at != self.at {
                break at;
            }
            if path.changed().await.is_err() {
                // Nobody looks for paths any more; this one stays.
                return std::future::pending().await;
            }
        };
        let attached = self.attach_at(at).await;
        if attached.is_none() {
            tracing::debug!("the control line stays where it is");
            tokio::time::sleep(REATTACH).await;
        }
        attached
    }

    async fn attach_at(
        &self,
        at: SocketAddr,
    ) -> Option<(SocketAddr, quinn::Connection, ProviderLine)> {
        let dialed = self.endpoint.dial_within(at, self.node.0, DIAL).await;
        let connection = dialed
            .inspect_err(|error| tracing::debug!(%error, "control"))
            .ok()?;
        let line = attach(&connection, self.token).await?;
        Some((at, connection, line))
    }

    /// On the same connection, or on a new one along the path of the moment.
    async fn attach_again(&mut self) -> Option<ProviderLine> {
        if self.connection.close_reason().is_none()
            && let Some(line) = attach(&self.connection, self.token).await
        {
            return Some(line);
        }
        let at = self.path.as_ref().map_or(self.at, |path| path.borrow().at);
        let (at, connection, line) = self.attach_at(at).await?;
        (self.at, self.connection) = (at, connection);
        Some(line)
    }

    fn watch(&self) -> Watching {
        let (connection, payload) = (self.connection.clone(), self.payload.clone());
        Watching(tokio::spawn(async move {
            watch_path(&connection, payload, PathPace::default()).await;
        }))
    }
}

async fn attach(connection: &quinn::Connection, token: SessionToken) -> Option<ProviderLine> {
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
