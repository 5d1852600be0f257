//! The asking side. Connects when first used and again after a break; every call has a deadline and a typed error.

use std::time::Duration;

use tonic::transport::Channel;
use wayfare_identity::Address;
use wayfare_payment::{ChannelId, Hashlock, IssueReply, Preimage, SignedIssueRequest};
use wayfare_session::Hello;

use super::{ConsumerState, Described, ProviderState};
use crate::dial::Line;
use crate::proto::hermes::v1 as pb;
use crate::{ApiError, MAX_MESSAGE, link};

/// A client of one Hermes; clones share the connection.
#[derive(Debug, Clone)]
pub struct HermesClient {
    line: Line,
}

impl HermesClient {
    /// A client of the Hermes at `http://host:port`. Nothing is sent before the first call.
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

    /// Where the Hermes is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.line.address
    }

    /// The first call: versions are negotiated, terms are told. Everything else assumes that this once succeeded.
    ///
    /// # Errors
    /// [`ApiError`]; [`ApiError::Incompatible`] when no version is common.
    pub async fn describe(&self) -> Result<Described, ApiError> {
        let request = pb::DescribeRequest {
            hello: Some((&self.line.hello).into()),
        };
        let described: Described =
            self.read(self.line.call(self.wire().describe(request)).await?)?;
        link::check_welcome(&self.line.hello, &described.welcome).map_err(self.line.malformed())?;
        Ok(described)
    }

    /// Exchanges a consumer's promise for the Hermes' own. Repeating it is harmless. The answer is as the Hermes sent it: verify it.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn issue(&self, request: &SignedIssueRequest) -> Result<IssueReply, ApiError> {
        let request = pb::IssueRequest::from(request);
        self.read(self.line.call(self.wire().issue(request)).await?)
    }

    /// Reveals the preimage of the last promise on a provider's channel. Repeating it is harmless.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn reveal(
        &self,
        channel: ChannelId,
        hashlock: Hashlock,
        preimage: Preimage,
    ) -> Result<(), ApiError> {
        let request = pb::RevealRequest {
            channel: channel.0.to_vec(),
            hashlock: hashlock.0.to_vec(),
            preimage: preimage.0.to_vec(),
        };
        let pb::RevealReply {} = self.line.call(self.wire().reveal(request)).await?;
        Ok(())
    }

    /// What the Hermes knows of a consumer.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn consumer_state(&self, consumer: Address) -> Result<ConsumerState, ApiError> {
        let request = pb::ConsumerStateRequest {
            consumer: consumer.to_vec(),
        };
        self.read(self.line.call(self.wire().consumer_state(request)).await?)
    }

    /// What the Hermes has promised on a provider's channel.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn provider_state(&self, channel: ChannelId) -> Result<ProviderState, ApiError> {
        let request = pb::ProviderStateRequest {
            channel: channel.0.to_vec(),
        };
        self.read(self.line.call(self.wire().provider_state(request)).await?)
    }

    fn wire(&self) -> pb::hermes_client::HermesClient<Channel> {
        pb::hermes_client::HermesClient::new(self.line.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    fn read<P, T: TryFrom<P, Error = crate::Malformed>>(&self, message: P) -> Result<T, ApiError> {
        T::try_from(message).map_err(self.line.malformed())
    }
}
