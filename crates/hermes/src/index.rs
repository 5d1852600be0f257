//! The proposal index: verified proposals in memory until they expire. It needs no disk, since providers repeat their proposals.
//!
//! Refuses what is not signed by the provider it names, and more of one identity than its quota. It reaches out to nobody: a place
//! in its answers says nothing about whether somebody listens there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use wayfare_api::discovery::{IndexService, serve};
use wayfare_api::{Refusal, RefusalCode, ServeError};
use wayfare_discovery::{
    Catalogue, Inserted, Limits, Proposal, ProposalError, Query, Refused, SignedProposal,
    SignedWithdrawal, Withdrawal,
};

use crate::driver::tell;
use crate::{HermesError, StartError};

/// Tells Unix seconds.
pub type UnixClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Requests that may wait for the catalogue: 256 × 4 KiB.
const QUEUE: usize = 256;

/// How often what has expired is thrown out; it is never shown meanwhile.
const EXPIRE_EVERY: Duration = Duration::from_secs(30);

#[derive(Debug)]
enum Command {
    Register {
        proposal: Box<Proposal>,
        answer: oneshot::Sender<Result<Inserted, Refused>>,
    },
    Withdraw {
        withdrawal: Withdrawal,
        answer: oneshot::Sender<bool>,
    },
    Query {
        query: Query,
        answer: oneshot::Sender<Vec<SignedProposal>>,
    },
    Size {
        answer: oneshot::Sender<usize>,
    },
}

/// A running index. Dropping it stops it.
#[derive(Debug)]
pub struct Index {
    address: SocketAddr,
    stop: CancellationToken,
    keeping: JoinHandle<()>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Index {
    /// Serves an empty catalogue. `seed` is chance that nobody else knows: it orders what is otherwise alike.
    ///
    /// # Errors
    /// [`StartError::Listener`].
    pub fn start(
        listener: TcpListener,
        limits: Limits,
        seed: [u8; 32],
        clock: UnixClock,
    ) -> Result<Self, StartError> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let (commands, queue) = mpsc::channel(QUEUE);
        let keeper = Keeper {
            catalogue: Catalogue::new(limits, seed),
            clock: Arc::clone(&clock),
        };
        let keeping = tokio::spawn(keeper.run(queue));
        let serving = tokio::spawn(serve(
            listener,
            Counter { commands, clock },
            stop.clone().cancelled_owned(),
        ));
        tracing::info!(%address, "the proposal index is open");
        Ok(Self {
            address,
            stop,
            keeping,
            serving,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops and waits for the end.
    ///
    /// # Errors
    /// [`HermesError::Serve`] when the service had broken down.
    pub async fn shutdown(mut self) -> Result<(), HermesError> {
        self.stop.cancel();
        (&mut self.serving)
            .await
            .map_err(|_| HermesError::Stopped)??;
        (&mut self.keeping).await.map_err(|_| HermesError::Stopped)
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The owner of the catalogue.
struct Keeper {
    catalogue: Catalogue,
    clock: UnixClock,
}

impl Keeper {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut rounds = interval(EXPIRE_EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.handle(command),
                    None => return,
                },
                _ = rounds.tick() => {
                    let expired = self.catalogue.expire((self.clock)());
                    tracing::debug!(expired, left = self.catalogue.len(), "expired proposals are out");
                }
            }
        }
    }

    fn handle(&mut self, command: Command) {
        let now = (self.clock)();
        match command {
            Command::Register { proposal, answer } => {
                tell(answer, self.catalogue.insert(*proposal, now))
            }
            Command::Withdraw { withdrawal, answer } => {
                tell(answer, self.catalogue.withdraw(&withdrawal, now))
            }
            Command::Query { query, answer } => {
                let found = self.catalogue.query(&query, now);
                drop(
                    answer.send(
                        found
                            .into_iter()
                            .map(|proposal| proposal.signed().clone())
                            .collect(),
                    ),
                );
            }
            Command::Size { answer } => tell(answer, self.catalogue.len()),
        }
    }
}

/// The network's side of the index. Signatures are verified here, many at a time, before the catalogue is bothered.
struct Counter {
    commands: mpsc::Sender<Command>,
    clock: UnixClock,
}

impl Counter {
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Refusal> {
        let stopped = || Refusal::new(RefusalCode::Draining, "this index is stopping: use another");
        let (answer, answered) = oneshot::channel();
        self.commands
            .send(command(answer))
            .await
            .map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())
    }
}

impl IndexService for Counter {
    async fn size(&self) -> u64 {
        self.ask(|answer| Command::Size { answer })
            .await
            .map_or(0, |size| size as u64)
    }

    async fn register(&self, proposal: SignedProposal) -> Result<(), Refusal> {
        let proposal = Box::new(
            proposal
                .verify((self.clock)())
                .map_err(|error| unverified(&error))?,
        );
        let taken = self
            .ask(|answer| Command::Register { proposal, answer })
            .await?;
        taken
            .map(|_: Inserted| ())
            .map_err(|refused| not_taken(&refused))
    }

    async fn withdraw(&self, withdrawal: SignedWithdrawal) -> Result<(), Refusal> {
        let withdrawal = withdrawal
            .verify()
            .map_err(|error| Refusal::new(RefusalCode::Signature, error.to_string()))?;
        let found = self
            .ask(|answer| Command::Withdraw { withdrawal, answer })
            .await?;
        let unknown = || {
            Refusal::new(
                RefusalCode::Unknown,
                "there is no such proposal, so there is nothing to take back",
            )
        };
        found.then_some(()).ok_or_else(unknown)
    }

    async fn query(&self, query: Query) -> Result<Vec<SignedProposal>, Refusal> {
        self.ask(|answer| Command::Query { query, answer }).await
    }
}

fn unverified(error: &ProposalError) -> Refusal {
    let code = match error {
        ProposalError::Offer(_) | ProposalError::Malformed(_) => RefusalCode::Malformed,
        ProposalError::Expired { .. } | ProposalError::FromFuture { .. } => RefusalCode::Expired,
        ProposalError::BadSignature(_) => RefusalCode::Signature,
    };
    Refusal::new(code, error.to_string())
}

fn not_taken(refused: &Refused) -> Refusal {
    let code = match refused {
        Refused::Expired(_) => RefusalCode::Expired,
        Refused::Stale { .. } => RefusalCode::Stale,
        Refused::Quota(_) | Refused::Full(_) => RefusalCode::Full,
    };
    Refusal::new(code, refused.to_string())
}
