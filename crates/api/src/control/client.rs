//! The command line's side of the control socket.

use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tonic::transport::Channel;
use wayfare_identity::Address;
use wayfare_session::{Hello, Welcome};

use super::{Earning, NodeEvent, NodeStatus, SessionList, SettlementView};
use crate::dial::Line;
use crate::limits::SETTLE_DEADLINE;
use crate::proto::control::v1 as pb;
use crate::{ApiError, DEADLINE, MAX_MESSAGE, Malformed, field, link};

/// A client of one daemon; clones share the connection.
#[derive(Debug, Clone)]
pub struct ControlClient {
    line: Line,
}

/// What happens in a daemon, one by one.
#[derive(Debug)]
pub struct Events {
    line: Line,
    events: tonic::Streaming<pb::Event>,
}

impl Events {
    /// The next event; `None` when the daemon has gone.
    ///
    /// # Errors
    /// [`ApiError`] when the connection broke.
    pub async fn next(&mut self) -> Option<Result<NodeEvent, ApiError>> {
        match self.events.message().await {
            Ok(None) => None,
            Ok(event) => Some(field::nested("event", event).map_err(self.line.malformed())),
            Err(status) => Some(Err(self.line.error(&status))),
        }
    }
}

impl ControlClient {
    /// A client of the daemon that listens at `path`. Nothing is sent before the first call.
    #[must_use]
    pub fn connect_unix(path: &Path) -> Self {
        let (address, path) = (path.display().to_string(), path.to_owned());
        Self {
            line: Line::by(address, move || UnixStream::connect(path.clone())),
        }
    }

    /// Waits for answers no longer than this; the default is [`DEADLINE`](crate::DEADLINE).
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.line.deadline = deadline;
        self
    }

    /// Speaks for other software than this release.
    #[must_use]
    pub fn with_hello(mut self, hello: Hello) -> Self {
        self.line.hello = hello;
        self
    }

    /// The first call: versions are negotiated, the state is told.
    ///
    /// # Errors
    /// [`ApiError`]; [`ApiError::Unreachable`] when no daemon runs.
    pub async fn status(&self) -> Result<NodeStatus, ApiError> {
        let request = pb::StatusRequest {
            hello: Some((&self.line.hello).into()),
        };
        let reply = self.line.call(self.wire().status(request)).await?;
        let welcome: Welcome =
            field::nested("welcome", reply.welcome.clone()).map_err(self.line.malformed())?;
        link::check_welcome(&self.line.hello, &welcome).map_err(self.line.malformed())?;
        self.read(reply)
    }

    /// The open sessions.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn sessions(&self) -> Result<SessionList, ApiError> {
        self.read(
            self.line
                .call(self.wire().sessions(pb::SessionsRequest {}))
                .await?,
        )
    }

    /// What happens from now on.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn events(&self) -> Result<Events, ApiError> {
        let events = self
            .line
            .call(self.wire().events(pb::EventsRequest {}))
            .await?;
        Ok(Events {
            line: self.line.clone(),
            events,
        })
    }

    /// Ends all sessions in order and stops the daemon.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn down(&self) -> Result<(), ApiError> {
        let pb::DownReply {} = self.line.call(self.wire().down(pb::DownRequest {})).await?;
        Ok(())
    }

    /// Provider: accepts no new sessions, ends the open ones after so many seconds. Answers how many are open.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn drain(&self, seconds: u32) -> Result<u32, ApiError> {
        Ok(self
            .line
            .call(self.wire().drain(pb::DrainRequest { seconds }))
            .await?
            .sessions)
    }

    /// Provider: what was earned, by Hermes.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn earnings(&self) -> Result<Vec<Earning>, ApiError> {
        let reply = self
            .line
            .call(self.wire().earnings(pb::EarningsRequest {}))
            .await?;
        reply
            .earnings
            .into_iter()
            .map(|earning| self.read(earning))
            .collect()
    }

    /// Provider: cashes what one Hermes, or every Hermes, has promised. Answers when confirmed.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn settle(&self, hermes: Option<Address>) -> Result<Vec<SettlementView>, ApiError> {
        let request = pb::SettleRequest {
            hermes: hermes.map(|hermes| hermes.to_vec()).unwrap_or_default(),
        };
        let reply = self
            .line
            .call_within(SETTLE_DEADLINE + DEADLINE, self.wire().settle(request))
            .await?;
        reply
            .settlements
            .into_iter()
            .map(|settlement| self.read(settlement))
            .collect()
    }

    fn wire(&self) -> pb::node_client::NodeClient<Channel> {
        pb::node_client::NodeClient::new(self.line.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    fn read<P, T: TryFrom<P, Error = Malformed>>(&self, message: P) -> Result<T, ApiError> {
        T::try_from(message).map_err(self.line.malformed())
    }
}
