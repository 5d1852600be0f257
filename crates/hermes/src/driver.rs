//! The task that owns the issuing machine. Commands come over a bounded queue; batches are committed strictly in order, one commit
//! at a time, and whatever arrives during one is written together by the next. A failed commit ends the task.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use wayfare_identity::Address;
use wayfare_payment::{
    Amount, Batch, ChannelId, Collectable, ConsumerAccount, ConsumerView, IssueRefusal, IssueReply,
    IssueRequest, Issuer, IssuerOutput, Ledger, LedgerError, Preimage, RequestId, Ticket,
};

/// Bytes of one commit, and so of one flush: half of what ledgers take at once.
const MAX_COMMIT: usize = 512 * 1024;

/// Batches that wait for their commit before further commands have to wait.
const MAX_PENDING: usize = 1_024;

/// What the machine is asked.
#[derive(Debug)]
pub(crate) enum Command {
    /// A payment.
    Issue {
        request: Box<IssueRequest>,
        channel: ChannelId,
        account: ConsumerAccount,
        answer: oneshot::Sender<Result<IssueReply, IssueRefusal>>,
    },
    /// A preimage.
    Reveal {
        channel: ChannelId,
        preimage: Preimage,
        answer: oneshot::Sender<Result<(), IssueRefusal>>,
    },
    /// What is known of a consumer.
    Consumer {
        consumer: Address,
        answer: oneshot::Sender<Option<ConsumerView>>,
    },
    /// The last promise on a channel.
    Provider {
        channel: ChannelId,
        answer: oneshot::Sender<Option<IssueReply>>,
    },
    /// Everything that can be collected.
    Collectables {
        answer: oneshot::Sender<Vec<Collectable>>,
    },
    /// What was promised to everybody together.
    TotalPromised { answer: oneshot::Sender<Amount> },
}

/// Who waits for the machine.
#[derive(Debug)]
enum Waiting {
    Issue(oneshot::Sender<Result<IssueReply, IssueRefusal>>),
    Reveal(oneshot::Sender<Result<(), IssueRefusal>>),
}

type Commit = Pin<Box<dyn Future<Output = Result<(), LedgerError>> + Send>>;

/// The owner of the machine.
pub(crate) struct Driver {
    issuer: Issuer,
    ledger: Arc<dyn Ledger>,
    commands: mpsc::Receiver<Command>,
    waiting: BTreeMap<RequestId, Waiting>,
    pending: VecDeque<(Ticket, Batch)>,
}

impl Driver {
    pub(crate) fn new(
        issuer: Issuer,
        ledger: Arc<dyn Ledger>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self {
            issuer,
            ledger,
            commands,
            waiting: BTreeMap::new(),
            pending: VecDeque::new(),
        }
    }

    /// Works until nobody can ask any more and everything is durable, or until a commit fails.
    pub(crate) async fn run(mut self) -> Result<(), LedgerError> {
        let mut committing: Option<(Vec<Ticket>, Commit)> = None;
        let mut open = true;
        loop {
            if committing.is_none() {
                committing = self.next_commit();
            }
            if committing.is_none() && !open {
                return Ok(());
            }
            tokio::select! {
                outcome = finished(&mut committing) => {
                    let (tickets, _) = committing.take().expect("it has just finished");
                    if let Err(error) = outcome {
                        self.fail(&tickets);
                        return Err(error);
                    }
                    tickets.into_iter().for_each(|ticket| self.issuer.handle_durable(ticket));
                }
                command = self.commands.recv(), if open && self.pending.len() < MAX_PENDING => match command {
                    Some(command) => self.handle(command),
                    None => open = false,
                },
            }
            self.drain();
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Issue {
                request,
                channel,
                account,
                answer,
            } => {
                let id = self.issuer.handle_request(&request, channel, &account);
                self.waiting.insert(id, Waiting::Issue(answer));
            }
            Command::Reveal {
                channel,
                preimage,
                answer,
            } => {
                let id = self.issuer.handle_reveal(channel, preimage);
                self.waiting.insert(id, Waiting::Reveal(answer));
            }
            Command::Consumer { consumer, answer } => tell(answer, self.issuer.consumer(consumer)),
            Command::Provider { channel, answer } => tell(answer, self.issuer.provider(channel)),
            Command::Collectables { answer } => tell(answer, self.issuer.collectables().collect()),
            Command::TotalPromised { answer } => tell(answer, self.issuer.total_promised()),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.issuer.poll_output() {
            match output {
                IssuerOutput::Persist { ticket, batch } => self.pending.push_back((ticket, batch)),
                IssuerOutput::Answer { request, reply } => match self.waiting.remove(&request) {
                    Some(Waiting::Issue(answer)) => tell(answer, Ok(reply)),
                    Some(Waiting::Reveal(_)) | None => {
                        tracing::error!(?request, "a promise for nobody")
                    }
                },
                IssuerOutput::Acknowledged { request } => match self.waiting.remove(&request) {
                    Some(Waiting::Reveal(answer)) => tell(answer, Ok(())),
                    Some(Waiting::Issue(_)) | None => {
                        tracing::error!(?request, "an acknowledgement for nobody")
                    }
                },
                IssuerOutput::Refused { request, why } => match self.waiting.remove(&request) {
                    Some(Waiting::Issue(answer)) => tell(answer, Err(why)),
                    Some(Waiting::Reveal(answer)) => tell(answer, Err(why)),
                    None => tracing::error!(?request, "a refusal for nobody"),
                },
            }
        }
    }

    /// Joins as many waiting batches as one commit takes, in their order.
    fn next_commit(&mut self) -> Option<(Vec<Ticket>, Commit)> {
        let (mut tickets, mut joined, mut bytes) = (Vec::new(), Batch::default(), 0);
        while let Some((ticket, batch)) = self.pending.pop_front() {
            let size = size_of_batch(&batch);
            if !tickets.is_empty() && bytes + size > MAX_COMMIT {
                self.pending.push_front((ticket, batch));
                break;
            }
            bytes += size;
            tickets.push(ticket);
            joined.0.extend(batch.0);
        }
        if tickets.is_empty() {
            return None;
        }
        let ledger = Arc::clone(&self.ledger);
        Some((
            tickets,
            Box::pin(async move { ledger.commit(joined).await }),
        ))
    }

    fn fail(&mut self, tickets: &[Ticket]) {
        tickets
            .iter()
            .for_each(|ticket| self.issuer.handle_failed(*ticket));
        self.drain();
    }
}

/// Gives an answer; that nobody waits for it any more is no fault.
pub(crate) fn tell<T>(answer: oneshot::Sender<T>, value: T) {
    let _ = answer.send(value);
}

async fn finished(committing: &mut Option<(Vec<Ticket>, Commit)>) -> Result<(), LedgerError> {
    match committing {
        Some((_, commit)) => commit.await,
        None => std::future::pending().await,
    }
}

fn size_of_batch(batch: &Batch) -> usize {
    let value = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
    batch
        .0
        .iter()
        .map(|entry| entry.key.len() + value(&entry.value))
        .sum()
}
