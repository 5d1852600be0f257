//! The line to the Hermes: one request at a time, answered through a channel, so that the exit's owner never waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wayfare_api::hermes::HermesClient;
use wayfare_identity::{Address, Signer};
use wayfare_payment::{ChannelId, Hashlock, IssueFailure, IssueReply, IssueRequest, Preimage};

/// Requests that may wait: the collector has one in flight, and a reveal beside it.
const QUEUE: usize = 16;
/// An answer later than this is no answer; the request is sent again and the Hermes gives the same one.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum Request {
    Issue(Box<IssueRequest>),
    Reveal {
        channel: ChannelId,
        hashlock: Hashlock,
        preimage: Preimage,
    },
}

/// What came back.
#[derive(Debug)]
pub(crate) enum HermesAnswer {
    Issued(Box<IssueReply>),
    Revealed(Hashlock),
    IssueFailed(Hashlock, IssueFailure),
}

/// The exit's end of the line.
#[derive(Debug)]
pub(crate) struct HermesLink {
    requests: mpsc::Sender<Request>,
    answers: mpsc::Receiver<HermesAnswer>,
    task: JoinHandle<()>,
}

impl Drop for HermesLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HermesLink {
    pub(crate) fn start(client: HermesClient, signer: Arc<dyn Signer>, vault: Address) -> Self {
        let (requests, inbox) = mpsc::channel(QUEUE);
        let (outbox, answers) = mpsc::channel(QUEUE);
        let desk = Desk {
            client,
            signer,
            vault,
        };
        let task = tokio::spawn(serve(desk, inbox, outbox));
        Self {
            requests,
            answers,
            task,
        }
    }

    pub(crate) fn issue(&mut self, request: IssueRequest) {
        self.send(Request::Issue(Box::new(request)));
    }

    pub(crate) fn reveal(&mut self, channel: ChannelId, hashlock: Hashlock, preimage: Preimage) {
        self.send(Request::Reveal {
            channel,
            hashlock,
            preimage,
        });
    }

    /// The next answer; waits for ever while nothing was asked.
    pub(crate) async fn next(&mut self) -> HermesAnswer {
        match self.answers.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    fn send(&mut self, request: Request) {
        if self.requests.try_send(request).is_err() {
            // The collector asks again when no answer comes.
            tracing::warn!("the line to the Hermes is full; a request was dropped");
        }
    }
}

/// Speaks to the Hermes in the provider's name.
#[derive(Debug)]
struct Desk {
    client: HermesClient,
    signer: Arc<dyn Signer>,
    vault: Address,
}

async fn serve(desk: Desk, mut inbox: mpsc::Receiver<Request>, outbox: mpsc::Sender<HermesAnswer>) {
    while let Some(request) = inbox.recv().await {
        let answer = match request {
            Request::Issue(request) => {
                let hashlock = request.exchange.promise.promise.hashlock;
                let signed = match request.sign(desk.signer.as_ref(), desk.vault) {
                    Ok(signed) => signed,
                    Err(error) => {
                        tracing::error!(%error, "a request to the Hermes was not signed");
                        continue;
                    }
                };
                match tokio::time::timeout(PATIENCE, desk.client.issue(&signed)).await {
                    Ok(Ok(reply)) => HermesAnswer::Issued(Box::new(reply)),
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "the Hermes did not cover a payment");
                        HermesAnswer::IssueFailed(hashlock, error.issue_failure())
                    }
                    Err(_) => HermesAnswer::IssueFailed(hashlock, IssueFailure::Unreachable),
                }
            }
            Request::Reveal {
                channel,
                hashlock,
                preimage,
            } => {
                match tokio::time::timeout(
                    PATIENCE,
                    desk.client.reveal(channel, hashlock, preimage),
                )
                .await
                {
                    Ok(Ok(())) => HermesAnswer::Revealed(hashlock),
                    Ok(Err(error)) => {
                        // The collector asks again when no answer comes.
                        tracing::warn!(%error, "the Hermes did not take a preimage");
                        continue;
                    }
                    Err(_) => continue,
                }
            }
        };
        if outbox.send(answer).await.is_err() {
            return;
        }
    }
}
