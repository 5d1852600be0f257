//! The consumer's side.

use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::Channel;
use wayfare_session::{SessionToken, Tariff, TollReply, TollRequest};

use super::convert::Described;
use crate::dial::Line;
use crate::peer::{ProviderLine, client::outgoing, client::provider_line};
use crate::proto::relay::v1 as pb;
use crate::{ApiError, MAX_MESSAGE, link};

/// A client of one relay over one stream; clones share it. When the stream ends, open another one.
#[derive(Debug, Clone)]
pub struct RelayClient {
    line: Line,
}

impl RelayClient {
    /// Over a byte stream to the relay; `address` names it in errors.
    pub fn over<IO>(io: IO, address: impl Into<String>) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self {
            line: Line::over(address.into(), io),
        }
    }

    /// What the relay asks for.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn describe(&self) -> Result<Tariff, ApiError> {
        let request = pb::DescribeRequest {
            hello: Some((&self.line.hello).into()),
        };
        let reply = self.line.call(self.wire().describe(request)).await?;
        let malformed = self.line.malformed();
        let described = Described::try_from(reply).map_err(&malformed)?;
        link::check_welcome(&self.line.hello, &described.welcome).map_err(&malformed)?;
        Ok(described.tariff)
    }

    /// Asks for an agreement. The answer is as the relay sent it: check it with [`TollReply::verify`].
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn open(&self, request: &TollRequest) -> Result<TollReply, ApiError> {
        let line = Line {
            hello: request.hello.clone(),
            ..self.line.clone()
        };
        let reply = line
            .call(self.wire().open(pb::OpenRequest::from(request)))
            .await?;
        let reply = TollReply::try_from(reply).map_err(line.malformed())?;
        link::check_welcome(&request.hello, &reply.welcome).map_err(line.malformed())?;
        Ok(reply)
    }

    /// Begins, or takes up again, the conversation of an agreement.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn converse(&self, token: SessionToken) -> Result<ProviderLine, ApiError> {
        let (replies, answers) = outgoing(token);
        let incoming = self.line.call(self.wire().converse(answers)).await?;
        Ok(provider_line(&self.line, incoming, replies))
    }

    fn wire(&self) -> pb::relay_client::RelayClient<Channel> {
        pb::relay_client::RelayClient::new(self.line.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }
}
