//! The daemon's side of the control socket.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::socket::ControlSocket;
use super::{ControlService, convert};
use crate::limits::SETTLE_DEADLINE;
use crate::proto::control::v1 as pb;
use crate::serve::Served;
use crate::{MAX_MESSAGE, ServeError, field, link};

/// Serves the control socket at `path` (made with mode 0600, removed afterwards) until `shutdown`, then a little longer for the
/// calls that are open. A socket left by a crash is replaced.
///
/// # Errors
/// [`ServeError`]: another daemon listens there, the path is something else, or cannot be made.
pub async fn serve_unix(
    path: &Path,
    service: impl ControlService,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let socket = ControlSocket::bind(path).await?;
    let server = pb::node_server::NodeServer::new(Adapter(Arc::new(service)))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let mut served = Served::new(pb::node_server::SERVICE_NAME, Routes::new(server));
    served.deadline = SETTLE_DEADLINE;
    served.on(socket.accepted(), shutdown).await
}

#[derive(Debug)]
struct Adapter<S>(Arc<S>);

#[tonic::async_trait]
impl<S: ControlService> pb::node_server::Node for Adapter<S> {
    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusReply>, Status> {
        let welcome = link::welcome(request.into_inner().hello)?;
        let status = self.0.status().await;
        Ok(Response::new(pb::StatusReply {
            welcome: Some((&welcome).into()),
            ..convert::of_status(&status)
        }))
    }

    async fn sessions(
        &self,
        _: Request<pb::SessionsRequest>,
    ) -> Result<Response<pb::SessionsReply>, Status> {
        Ok(Response::new((&self.0.sessions().await).into()))
    }

    type EventsStream = Pin<Box<dyn Stream<Item = Result<pb::Event, Status>> + Send>>;

    async fn events(
        &self,
        _: Request<pb::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let events = ReceiverStream::new(self.0.events().await);
        Ok(Response::new(Box::pin(
            events.map(|event| Ok(pb::Event::from(&event))),
        )))
    }

    async fn down(&self, _: Request<pb::DownRequest>) -> Result<Response<pb::DownReply>, Status> {
        self.0.down().await?;
        Ok(Response::new(pb::DownReply {}))
    }

    async fn drain(
        &self,
        request: Request<pb::DrainRequest>,
    ) -> Result<Response<pb::DrainReply>, Status> {
        let sessions = self.0.drain(request.into_inner().seconds).await?;
        Ok(Response::new(pb::DrainReply { sessions }))
    }

    async fn earnings(
        &self,
        _: Request<pb::EarningsRequest>,
    ) -> Result<Response<pb::EarningsReply>, Status> {
        let earnings = self.0.earnings().await?.iter().map(Into::into).collect();
        Ok(Response::new(pb::EarningsReply { earnings }))
    }

    async fn settle(
        &self,
        request: Request<pb::SettleRequest>,
    ) -> Result<Response<pb::SettleReply>, Status> {
        let hermes = match request.into_inner().hermes.as_slice() {
            [] => None,
            bytes => Some(field::address("hermes", bytes)?),
        };
        let settlements = self
            .0
            .settle(hermes)
            .await?
            .iter()
            .map(Into::into)
            .collect();
        Ok(Response::new(pb::SettleReply { settlements }))
    }
}
