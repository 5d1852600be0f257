//! The relay's side: messages become nouns, [`RelayService`] answers, nouns become messages.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use wayfare_session::TollRequest;

use super::{RelayService, convert};
use crate::peer::server::{ReplyStream, conversation};
use crate::proto::peer::v1 as peer;
use crate::proto::relay::v1 as pb;
use crate::serve::Served;
use crate::wire::Origin;
use crate::{MAX_MESSAGE, ServeError, link};

/// Serves one stream until it closes or `shutdown`.
///
/// # Errors
/// [`ServeError::Stopped`] when the server breaks down.
pub async fn serve_stream<IO>(
    io: IO,
    from: Option<SocketAddr>,
    service: Arc<impl RelayService>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let server = pb::relay_server::RelayServer::new(Adapter(service))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let served = Served::new(pb::relay_server::SERVICE_NAME, Routes::new(server));
    served.on_one(io, Origin(from), shutdown).await
}

#[derive(Debug)]
struct Adapter<S>(Arc<S>);

#[tonic::async_trait]
impl<S: RelayService> pb::relay_server::Relay for Adapter<S> {
    async fn describe(
        &self,
        request: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::Tariff>, Status> {
        let welcome = link::welcome(request.into_inner().hello)?;
        let tariff = self.0.describe().await?;
        Ok(Response::new(convert::tariff_to_wire(&welcome, &tariff)))
    }

    async fn open(
        &self,
        request: Request<pb::OpenRequest>,
    ) -> Result<Response<pb::OpenReply>, Status> {
        let request = request.into_inner();
        link::welcome(request.hello.clone())?;
        let request = TollRequest::try_from(request)?;
        Ok(Response::new((&self.0.open(request).await?).into()))
    }

    type ConverseStream = ReplyStream;

    async fn converse(
        &self,
        request: Request<Streaming<peer::ConsumerFrame>>,
    ) -> Result<Response<ReplyStream>, Status> {
        let (line, answers) = conversation(request).await?;
        self.0.converse(line).await?;
        Ok(Response::new(answers))
    }
}
