//! The serving side: messages become nouns, [`HermesService`] answers, nouns become messages.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use wayfare_payment::{ChannelId, Hashlock, Preimage, SignedIssueRequest};

use super::{Described, HermesService};
use crate::limits::PAYMENTS_IN_FLIGHT;
use crate::proto::hermes::v1 as pb;
use crate::serve::Served;
use crate::{DEADLINE, MAX_MESSAGE, Malformed, Refusal, RefusalCode, ServeError, field, link};

/// Serves a Hermes until `shutdown`, then a little longer for the calls that are open.
///
/// # Errors
/// [`ServeError::Stopped`] when the server breaks down.
pub async fn serve(
    listener: TcpListener,
    service: impl HermesService,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let server = pb::hermes_server::HermesServer::new(Adapter(Arc::new(service)))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    Served::new(pb::hermes_server::SERVICE_NAME, Routes::new(server))
        .on_tcp(listener, shutdown)
        .await
}

#[derive(Debug)]
struct Adapter<S>(Arc<S>);

impl<S> Clone for Adapter<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: HermesService> Adapter<S> {
    async fn issued(&self, request: pb::IssueRequest) -> Result<pb::IssueReply, Refusal> {
        let request = SignedIssueRequest::try_from(request)?;
        Ok((&self.0.issue(request).await?).into())
    }

    async fn revealed(&self, request: pb::RevealRequest) -> Result<pb::RevealReply, Refusal> {
        let channel = ChannelId(field::word("channel", &request.channel)?);
        let hashlock = Hashlock(field::word("hashlock", &request.hashlock)?);
        let preimage = Preimage(field::word("preimage", &request.preimage)?);
        self.0.reveal(channel, hashlock, preimage).await?;
        Ok(pb::RevealReply {})
    }

    /// Answers one message of a stream of payments, in time.
    async fn paid(
        self,
        request: Result<pb::PaymentRequest, Status>,
    ) -> Result<pb::PaymentReply, Status> {
        use pb::payment_reply::Kind as Reply;
        use pb::payment_request::Kind;

        let pb::PaymentRequest { request, kind } = request?;
        let answer = async {
            match kind {
                Some(Kind::Issue(issue)) => self.issued(issue).await.map(Reply::Issued),
                Some(Kind::Reveal(reveal)) => self.revealed(reveal).await.map(Reply::Revealed),
                Some(Kind::Hello(_)) => {
                    Err(Malformed::new("hello", "only the first message greets").into())
                }
                None => Err(Malformed::new("kind", "it is missing, or of a later release").into()),
            }
        };
        let late = || {
            Refusal::new(
                RefusalCode::Full,
                "no answer in time: the Hermes is overloaded, try again later",
            )
        };
        let answer = tokio::time::timeout(DEADLINE, answer)
            .await
            .unwrap_or_else(|_| Err(late()));
        let kind = answer.unwrap_or_else(|refusal| Reply::Refused(refusal.to_wire()));
        Ok(pb::PaymentReply {
            request,
            kind: Some(kind),
        })
    }
}

#[tonic::async_trait]
impl<S: HermesService> pb::hermes_server::Hermes for Adapter<S> {
    async fn describe(
        &self,
        request: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::DescribeReply>, Status> {
        let welcome = link::welcome(request.into_inner().hello)?;
        let terms = self.0.describe().await;
        Ok(Response::new((&Described { welcome, terms }).into()))
    }

    type PaymentsStream = Pin<Box<dyn Stream<Item = Result<pb::PaymentReply, Status>> + Send>>;

    async fn payments(
        &self,
        request: Request<Streaming<pb::PaymentRequest>>,
    ) -> Result<Response<Self::PaymentsStream>, Status> {
        let mut requests = request.into_inner();
        let hello = match requests.message().await? {
            Some(pb::PaymentRequest {
                request,
                kind: Some(pb::payment_request::Kind::Hello(hello)),
            }) => (request, hello),
            Some(_) | None => {
                return Err(Malformed::new("hello", "the first message must greet").into());
            }
        };
        let welcome = pb::payment_reply::Kind::Welcome((&link::welcome(Some(hello.1))?).into());
        let welcome = pb::PaymentReply {
            request: hello.0,
            kind: Some(welcome),
        };
        let adapter = self.clone();
        let replies = requests
            .map(move |request| adapter.clone().paid(request))
            .buffer_unordered(PAYMENTS_IN_FLIGHT);
        Ok(Response::new(Box::pin(
            stream::once(async { Ok(welcome) }).chain(replies),
        )))
    }

    async fn issue(
        &self,
        request: Request<pb::IssueRequest>,
    ) -> Result<Response<pb::IssueReply>, Status> {
        Ok(Response::new(self.issued(request.into_inner()).await?))
    }

    async fn reveal(
        &self,
        request: Request<pb::RevealRequest>,
    ) -> Result<Response<pb::RevealReply>, Status> {
        Ok(Response::new(self.revealed(request.into_inner()).await?))
    }

    async fn consumer_state(
        &self,
        request: Request<pb::ConsumerStateRequest>,
    ) -> Result<Response<pb::ConsumerStateReply>, Status> {
        let consumer = field::address("consumer", &request.into_inner().consumer)?;
        Ok(Response::new(
            (&self.0.consumer_state(consumer).await?).into(),
        ))
    }

    async fn provider_state(
        &self,
        request: Request<pb::ProviderStateRequest>,
    ) -> Result<Response<pb::ProviderStateReply>, Status> {
        let channel = ChannelId(field::word("channel", &request.into_inner().channel)?);
        Ok(Response::new(
            (&self.0.provider_state(channel).await?).into(),
        ))
    }
}
