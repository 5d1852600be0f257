//! The asking side of an index, and its use as a source of proposals.

use std::time::Duration;

use tonic::transport::Channel;
use wayfare_discovery::{
    MAX_LIMIT, ProposalSource, Query, SignedProposal, SignedWithdrawal, SourceError,
};
use wayfare_payment::PortFuture;
use wayfare_session::{Hello, Welcome};

use crate::dial::Line;
use crate::proto::discovery::v1 as pb;
use crate::{ApiError, MAX_MESSAGE, field, link};

/// Pages of one query: fifteen largest proposals fit one message, so seven pages hold the most that can be asked for.
const MAX_PAGES: usize = 8;

/// A client of one index; clones share the connection.
#[derive(Debug, Clone)]
pub struct IndexClient {
    line: Line,
}

impl IndexClient {
    /// A client of the index at `http://host:port`. Nothing is sent before the first call.
    ///
    /// # Errors
    /// [`ApiError::BadAddress`].
    pub fn connect(url: &str) -> Result<Self, ApiError> {
        Ok(Self {
            line: Line::to_url(url)?,
        })
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

    /// Negotiates versions; answers how many proposals the index holds.
    ///
    /// # Errors
    /// [`ApiError`]; [`ApiError::Incompatible`] when no version is common.
    pub async fn describe(&self) -> Result<u64, ApiError> {
        let request = pb::DescribeRequest {
            hello: Some((&self.line.hello).into()),
        };
        let reply = self.line.call(self.wire().describe(request)).await?;
        let welcome: Welcome =
            field::nested("welcome", reply.welcome).map_err(self.line.malformed())?;
        link::check_welcome(&self.line.hello, &welcome).map_err(self.line.malformed())?;
        Ok(reply.proposals)
    }

    /// Adds or replaces a proposal.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn register(&self, proposal: &SignedProposal) -> Result<(), ApiError> {
        let request = pb::RegisterRequest {
            proposal: proposal.to_bytes(),
        };
        let pb::RegisterReply {} = self.line.call(self.wire().register(request)).await?;
        Ok(())
    }

    /// Takes proposals back.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn withdraw(&self, withdrawal: &SignedWithdrawal) -> Result<(), ApiError> {
        let request = pb::WithdrawRequest {
            withdrawal: withdrawal.to_bytes(),
        };
        let pb::WithdrawReply {} = self.line.call(self.wire().withdraw(request)).await?;
        Ok(())
    }

    /// Proposals that match, best first, as the index sent them: verify each. Those of a format that this release does not read
    /// are left out.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn query(&self, query: &Query) -> Result<Vec<SignedProposal>, ApiError> {
        let limit = query.limit.min(MAX_LIMIT);
        let mut found = Vec::new();
        let mut request = pb::QueryRequest::from(&Query {
            limit,
            ..query.clone()
        });
        for _ in 0..MAX_PAGES {
            let left = limit.saturating_sub(found.len());
            if left == 0 {
                break;
            }
            request.limit = u32::try_from(left).unwrap_or(u32::MAX);
            let reply = self.line.call(self.wire().query(request.clone())).await?;
            if reply.proposals.len() > left {
                return Err(ApiError::malformed(
                    &self.line.address,
                    "more proposals than were asked for",
                ));
            }
            found.extend(
                reply
                    .proposals
                    .iter()
                    .filter_map(|bytes| SignedProposal::from_bytes(bytes).ok()),
            );
            if reply.next_offset <= request.offset {
                break;
            }
            request.offset = reply.next_offset;
        }
        Ok(found)
    }

    fn wire(&self) -> pb::index_client::IndexClient<Channel> {
        pb::index_client::IndexClient::new(self.line.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }
}

impl ProposalSource for IndexClient {
    fn find<'a>(
        &'a self,
        query: &'a Query,
    ) -> PortFuture<'a, Result<Vec<SignedProposal>, SourceError>> {
        Box::pin(async move {
            self.query(query).await.map_err(|error| {
                let (source_name, cause) = (self.line.address.clone(), error.to_string());
                match error {
                    ApiError::Unreachable { .. }
                    | ApiError::Deadline { .. }
                    | ApiError::BadAddress { .. } => {
                        SourceError::Unreachable { source_name, cause }
                    }
                    ApiError::Refused { .. } => SourceError::Refused { source_name, cause },
                    ApiError::Incompatible { .. } | ApiError::Malformed { .. } => {
                        SourceError::Misbehaved { source_name, cause }
                    }
                }
            })
        })
    }
}
