//! The consumer's side of session control.

use futures::{Stream, StreamExt, stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use wayfare_session::{ConsumerFrame, OpenReply, OpenRequest, ProviderFrame, SessionToken};

use super::server::until_error;
use super::{Frames, ProviderLine, convert};
use crate::dial::Line;
use crate::limits::FRAMES;
use crate::proto::peer::v1 as pb;
use crate::{ApiError, MAX_MESSAGE, field, link};

/// A client of one provider over one stream; clones share it. When the stream ends, open another one.
#[derive(Debug, Clone)]
pub struct PeerClient {
    line: Line,
}

impl PeerClient {
    /// Over a byte stream to the provider; `address` names it in errors.
    pub fn over<IO>(io: IO, address: impl Into<String>) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self {
            line: Line::over(address.into(), io),
        }
    }

    /// Asks for a session. The answer is as the provider sent it: check it with [`OpenReply::verify`].
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn open(&self, request: &OpenRequest) -> Result<OpenReply, ApiError> {
        let line = Line {
            hello: request.hello.clone(),
            ..self.line.clone()
        };
        let reply = line
            .call(self.wire().open(pb::OpenRequest::from(request)))
            .await?;
        let reply = convert::open_reply(reply, &request.agreement).map_err(line.malformed())?;
        link::check_welcome(&request.hello, &reply.welcome).map_err(line.malformed())?;
        Ok(reply)
    }

    /// Begins, or takes up again, the conversation of a session.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn converse(&self, token: SessionToken) -> Result<ProviderLine, ApiError> {
        let (replies, answers) = outgoing(token);
        let incoming = self.line.call(self.wire().converse(answers)).await?;
        Ok(provider_line(&self.line, incoming, replies))
    }

    fn wire(&self) -> pb::peer_client::PeerClient<Channel> {
        pb::peer_client::PeerClient::new(self.line.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }
}

/// What the consumer says in a conversation about `token`, and where it is given.
pub(crate) fn outgoing(
    token: SessionToken,
) -> (
    mpsc::Sender<ConsumerFrame>,
    impl Stream<Item = pb::ConsumerFrame> + Send + 'static,
) {
    let (replies, answers) = mpsc::channel(FRAMES);
    let attach = stream::once(async move { ConsumerFrame::Attach(token) });
    let answers = attach.chain(ReceiverStream::new(answers));
    (
        replies,
        answers.map(|frame| pb::ConsumerFrame::from(&frame)),
    )
}

/// A conversation that was begun.
pub(crate) fn provider_line(
    line: &Line,
    incoming: Streaming<pb::ProviderFrame>,
    replies: mpsc::Sender<ConsumerFrame>,
) -> ProviderLine {
    let line = line.clone();
    let frames = incoming.map(move |frame| {
        let frame = frame.map_err(|status| line.error(&status))?;
        field::nested::<_, ProviderFrame>("frame", Some(frame)).map_err(line.malformed())
    });
    ProviderLine {
        frames: Frames::new(until_error(frames)),
        replies,
    }
}
