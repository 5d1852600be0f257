//! The provider's side: messages become nouns, [`PeerService`] answers, nouns become messages.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use wayfare_session::{ConsumerFrame, Hello, OpenRequest};

use super::{ConsumerLine, Frames, PeerService};
use crate::limits::FRAMES;
use crate::proto::peer::v1 as pb;
use crate::serve::Served;
use crate::wire::Origin;
use crate::{ApiError, DEADLINE, MAX_MESSAGE, Malformed, ServeError, field, link};

/// Serves streams as they come, until there are no more or `shutdown`, then a little longer for the calls that are open.
///
/// # Errors
/// [`ServeError::Stopped`] when the server breaks down.
pub async fn serve<IO>(
    incoming: impl Stream<Item = (IO, SocketAddr)> + Send,
    service: impl PeerService,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let incoming = incoming.map(|(io, from)| (io, Origin(Some(from))));
    served(Arc::new(service)).on(incoming, shutdown).await
}

/// Serves one stream until it closes or `shutdown`.
///
/// # Errors
/// [`ServeError::Stopped`] when the server breaks down.
pub async fn serve_stream<IO>(
    io: IO,
    from: Option<SocketAddr>,
    service: Arc<impl PeerService>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    served(service).on_one(io, Origin(from), shutdown).await
}

fn served(service: Arc<impl PeerService>) -> Served {
    let server = pb::peer_server::PeerServer::new(Adapter(service))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    Served::new(pb::peer_server::SERVICE_NAME, Routes::new(server))
}

#[derive(Debug)]
struct Adapter<S>(Arc<S>);

#[tonic::async_trait]
impl<S: PeerService> pb::peer_server::Peer for Adapter<S> {
    async fn open(
        &self,
        request: Request<pb::OpenRequest>,
    ) -> Result<Response<pb::OpenReply>, Status> {
        let from = origin(&request);
        let request = request.into_inner();
        link::welcome(request.hello.clone())?;
        let request = OpenRequest::try_from(request)?;
        Ok(Response::new((&self.0.open(from, request).await?).into()))
    }

    type ConverseStream = ReplyStream;

    async fn converse(
        &self,
        request: Request<Streaming<pb::ConsumerFrame>>,
    ) -> Result<Response<ReplyStream>, Status> {
        let (line, answers) = conversation(request).await?;
        self.0.converse(line).await?;
        Ok(Response::new(answers))
    }
}

/// What the serving side says in a conversation.
pub(crate) type ReplyStream = Pin<Box<dyn Stream<Item = Result<pb::ProviderFrame, Status>> + Send>>;

/// Begins a conversation: its first frame must name what it is about.
pub(crate) async fn conversation(
    request: Request<Streaming<pb::ConsumerFrame>>,
) -> Result<(ConsumerLine, ReplyStream), Status> {
    let from = origin(&request);
    let mut incoming = request.into_inner();
    let first: ConsumerFrame = field::nested("frame", incoming.message().await?)?;
    let ConsumerFrame::Attach(token) = first else {
        return Err(Malformed::new("attach", "the first frame must name the session").into());
    };
    let address = from.map_or_else(|| "the consumer".to_owned(), |from| from.to_string());
    let frames = Frames::new(until_error(
        incoming.map(move |frame| read(&address, frame)),
    ));
    let (replies, answers) = mpsc::channel(FRAMES);
    let line = ConsumerLine {
        from,
        token,
        frames,
        replies,
    };
    let answers = ReceiverStream::new(answers).map(|frame| Ok(pb::ProviderFrame::from(&frame)));
    Ok((line, Box::pin(answers)))
}

fn origin<T>(request: &Request<T>) -> Option<SocketAddr> {
    request
        .extensions()
        .get::<Origin>()
        .and_then(|origin| origin.0)
}

fn read(
    address: &str,
    frame: Result<pb::ConsumerFrame, Status>,
) -> Result<ConsumerFrame, ApiError> {
    let ours = Hello::ours();
    let versions = (ours.protocol_min, ours.protocol_max);
    let frame =
        frame.map_err(|status| ApiError::from_status(address, versions, DEADLINE, &status))?;
    match ConsumerFrame::try_from(frame)
        .map_err(|malformed| ApiError::malformed(address, malformed))?
    {
        ConsumerFrame::Attach(_) => Err(ApiError::malformed(
            address,
            "a session is named once a stream",
        )),
        frame @ (ConsumerFrame::Payment(_)
        | ConsumerFrame::Usage(_)
        | ConsumerFrame::KeepAlive
        | ConsumerFrame::Close) => Ok(frame),
    }
}

/// Passes everything up to and including the first error.
pub(super) fn until_error<T, E>(
    frames: impl Stream<Item = Result<T, E>>,
) -> impl Stream<Item = Result<T, E>> {
    frames.scan(false, |failed, frame| {
        let frame = (!*failed).then_some(frame);
        *failed |= matches!(frame, Some(Err(_)));
        async move { frame }
    })
}
