//! Cashing: the settler, its writes and its transactions, polled by the exit's owner.

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::oneshot;
use wayfare_chain::VaultClient;
use wayfare_identity::Address;
use wayfare_payment::{
    Amount, Chain, ChainError, LedgerError, ProviderAccount, SettleMaterial, Settled, Settler,
    SettlerOutput, Ticket,
};
use wayfare_transport::Clock;

use crate::persistence::Persistence;

/// Callers waiting for one settlement.
const MAX_WAITING: usize = 16;

/// What came back from the disk or the chain.
#[derive(Debug)]
pub(crate) enum Returned {
    Durable(Ticket),
    Outcome(Result<Settled, ChainError>),
    Account(Result<ProviderAccount, ChainError>),
}

/// What a caller of "settle now" hears.
pub(crate) type SettleAnswer = oneshot::Sender<Result<Settled, String>>;

/// The settler and everything around it.
#[derive(Debug)]
pub(crate) struct Settlement {
    settler: Settler,
    persistence: Persistence,
    chain: Arc<VaultClient>,
    provider: Address,
    hermes: Address,
    running: FuturesUnordered<BoxFuture<'static, Returned>>,
    waiting: Vec<SettleAnswer>,
}

impl Settlement {
    pub(crate) fn new(
        settler: Settler,
        persistence: Persistence,
        chain: Arc<VaultClient>,
        provider: Address,
        hermes: Address,
    ) -> Self {
        let running = FuturesUnordered::new();
        Self {
            settler,
            persistence,
            chain,
            provider,
            hermes,
            running,
            waiting: Vec::new(),
        }
    }

    /// The next answer of disk or chain; waits for ever while nothing is under way.
    ///
    /// # Errors
    /// The ledger failed.
    pub(crate) async fn next(&mut self) -> Result<Returned, LedgerError> {
        if self.running.is_empty() {
            return Ok(Returned::Durable(self.persistence.next().await?));
        }
        tokio::select! {
            ticket = self.persistence.next() => Ok(Returned::Durable(ticket?)),
            Some(returned) = self.running.next() => Ok(returned),
        }
    }

    /// Takes in an answer. `Some` when the chain told what is settled.
    pub(crate) fn handle(&mut self, returned: Returned) -> Option<Amount> {
        let now = Clock::now();
        let told = match returned {
            Returned::Durable(ticket) => {
                self.settler.handle_durable(ticket, now);
                None
            }
            Returned::Outcome(outcome) => {
                let total = outcome.as_ref().ok().map(|settled| settled.total);
                self.settler.handle_outcome(outcome, now);
                total
            }
            Returned::Account(Ok(account)) => {
                self.settler.handle_chain(account.settled, now);
                Some(account.settled)
            }
            // Not told to the settler, which would ask again at once, and again: the chain is read every few seconds anyhow, and
            // the settler's own patience ends too.
            Returned::Account(Err(error)) => {
                tracing::warn!(%error, "the chain cannot be read; a settlement waits for it");
                None
            }
        };
        self.carry_out();
        told
    }

    pub(crate) fn handle_material(&mut self, material: SettleMaterial, now: Instant) {
        self.settler.handle_material(material, now);
        self.carry_out();
    }

    pub(crate) fn handle_chain(&mut self, settled: Amount) {
        self.settler.handle_chain(settled, Clock::now());
        self.carry_out();
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.settler.handle_timeout(now);
        self.carry_out();
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.settler.poll_timeout().map(|deadline| deadline.at)
    }

    /// Settles now, and answers when it is done or delayed.
    pub(crate) fn settle_now(&mut self, answer: SettleAnswer) {
        if self.settler.unsettled().is_zero() {
            let _ = answer.send(Err("there is nothing to settle".into()));
            return;
        }
        if self.waiting.len() >= MAX_WAITING {
            let _ = answer.send(Err("a settlement is under way".into()));
            return;
        }
        self.waiting.push(answer);
        self.settler.settle_now(Clock::now());
        self.carry_out();
    }

    pub(crate) fn settled(&self) -> Amount {
        self.settler.settled()
    }

    /// Does what the settler asks for. Called once after it was made, to resume what an earlier run began.
    pub(crate) fn carry_out(&mut self) {
        while let Some(output) = self.settler.poll_output() {
            match output {
                SettlerOutput::Persist { ticket, batch } => self.persistence.push(ticket, batch),
                SettlerOutput::Submit(order) => {
                    let chain = Arc::clone(&self.chain);
                    tracing::info!(amount = %order.promise.promise.amount, "settling");
                    self.running.push(Box::pin(async move {
                        Returned::Outcome(chain.settle(order).await)
                    }));
                }
                SettlerOutput::ReadChain => {
                    let (chain, provider, hermes) =
                        (Arc::clone(&self.chain), self.provider, self.hermes);
                    let read =
                        async move { Returned::Account(chain.provider(provider, hermes).await) };
                    self.running.push(Box::pin(read));
                }
                SettlerOutput::Done { total, settled, .. } => {
                    tracing::info!(%total, gas = settled.map(|s| s.gas), "settled");
                    let told = settled.unwrap_or(Settled {
                        transaction: None,
                        total,
                        gas: 0,
                    });
                    self.answer(&Ok(told));
                }
                SettlerOutput::Delayed { wanted, total, why } => {
                    tracing::warn!(%wanted, settled = %total, %why, "the settlement is delayed");
                    self.answer(&Err(format!(
                        "{why}; {total} of {wanted} is settled, it is tried again"
                    )));
                }
            }
        }
    }

    fn answer(&mut self, answer: &Result<Settled, String>) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(answer.clone());
        }
    }
}
