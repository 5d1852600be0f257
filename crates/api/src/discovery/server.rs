//! The index's side.

use std::future::Future;
use std::sync::Arc;

use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use wayfare_discovery::{Query, SignedProposal, SignedWithdrawal};

use super::IndexService;
use crate::proto::discovery::v1 as pb;
use crate::serve::Served;
use crate::{MAX_MESSAGE, Malformed, ServeError, link};

/// Room in an answer for proposals: a message without its last 1 KiB; each proposal costs 4 bytes beside its own.
const ROOM: usize = MAX_MESSAGE - 1_024;
const OVERHEAD: usize = 4;

/// Serves an index until `shutdown`, then a little longer for the calls that are open.
///
/// # Errors
/// [`ServeError::Stopped`] when the server breaks down.
pub async fn serve(
    listener: TcpListener,
    service: impl IndexService,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let server = pb::index_server::IndexServer::new(Adapter(Arc::new(service)))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    Served::new(pb::index_server::SERVICE_NAME, Routes::new(server))
        .on_tcp(listener, shutdown)
        .await
}

#[derive(Debug)]
struct Adapter<S>(Arc<S>);

#[tonic::async_trait]
impl<S: IndexService> pb::index_server::Index for Adapter<S> {
    async fn describe(
        &self,
        request: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::DescribeReply>, Status> {
        let welcome = link::welcome(request.into_inner().hello)?;
        let proposals = self.0.size().await;
        Ok(Response::new(pb::DescribeReply {
            welcome: Some((&welcome).into()),
            proposals,
        }))
    }

    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterReply>, Status> {
        let proposal = SignedProposal::from_bytes(&request.into_inner().proposal)
            .map_err(|cause| Malformed::new("proposal", cause.to_string()))?;
        self.0.register(proposal).await?;
        Ok(Response::new(pb::RegisterReply {}))
    }

    async fn withdraw(
        &self,
        request: Request<pb::WithdrawRequest>,
    ) -> Result<Response<pb::WithdrawReply>, Status> {
        let withdrawal = SignedWithdrawal::from_bytes(&request.into_inner().withdrawal)
            .map_err(|cause| Malformed::new("withdrawal", cause.to_string()))?;
        self.0.withdraw(withdrawal).await?;
        Ok(Response::new(pb::WithdrawReply {}))
    }

    async fn query(
        &self,
        request: Request<pb::QueryRequest>,
    ) -> Result<Response<pb::QueryReply>, Status> {
        let query = Query::try_from(request.into_inner())?;
        let skipped = query.skip;
        let found = self.0.query(query).await?;
        Ok(Response::new(page(&found, skipped)))
    }
}

/// As many proposals as fit one message; the offset of the next page when that was not all of them.
fn page(found: &[SignedProposal], skipped: usize) -> pb::QueryReply {
    let mut room = ROOM;
    let mut proposals = Vec::new();
    for signed in found {
        let bytes = signed.to_bytes();
        let Some(left) = room.checked_sub(bytes.len() + OVERHEAD) else {
            break;
        };
        room = left;
        proposals.push(bytes);
    }
    let next = if proposals.len() < found.len() {
        skipped + proposals.len()
    } else {
        0
    };
    pb::QueryReply {
        proposals,
        next_offset: u32::try_from(next).unwrap_or(0),
    }
}
