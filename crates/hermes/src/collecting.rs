//! Collecting from consumers: when one owes enough, when one is leaving, or when told to. The chain is read before anything is
//! sent. Refuses to hurry: one transaction at a time, and what fails is tried again in the next round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use wayfare_identity::{Address, B256};
use wayfare_payment::{Amount, Chain, ChainError, Collectable, ConsumerAccount, SettleOrder};

use crate::HermesConfig;
use crate::accounts::Accounts;
use crate::desk::ask;
use crate::driver::Command;

/// Consumers looked up at a time.
const LOOKS: usize = 8;

/// One consumer's debt, collected or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Who owed.
    pub consumer: Address,
    /// How much it owed.
    pub owed: Amount,
    /// The transaction (`None` when somebody else's had done it) and the total collected, or why it failed.
    pub outcome: Result<(Option<B256>, Amount), ChainError>,
}

/// Asks for a round that leaves nothing behind.
pub(crate) type CollectNow = oneshot::Sender<Vec<Collection>>;

/// The task that collects.
#[derive(Debug)]
pub(crate) struct Collector {
    hermes: Address,
    threshold: Amount,
    every: Duration,
    chain: Arc<dyn Chain>,
    accounts: Arc<Accounts>,
    commands: mpsc::Sender<Command>,
    /// What each consumer has paid, as last seen: who owes nothing new is not looked up.
    collected: BTreeMap<Address, Amount>,
}

impl Collector {
    pub(crate) fn new(
        config: &HermesConfig,
        chain: Arc<dyn Chain>,
        accounts: Arc<Accounts>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self {
            hermes: config.issuer.hermes,
            threshold: config.collect_threshold,
            every: config.watch_every,
            chain,
            accounts,
            commands,
            collected: BTreeMap::new(),
        }
    }

    /// Works until `stop`. A transaction that is waited for then goes on without us; the next start finds it on the chain.
    pub(crate) async fn run(
        mut self,
        mut orders: mpsc::Receiver<CollectNow>,
        stop: CancellationToken,
    ) {
        let mut rounds = interval(self.every);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let order = tokio::select! {
                () = stop.cancelled() => return,
                order = orders.recv() => match order {
                    Some(order) => Some(order),
                    None => return,
                },
                _ = rounds.tick() => None,
            };
            let round = self.round(order.is_some());
            let collections = tokio::select! {
                () = stop.cancelled() => return,
                collections = round => collections,
            };
            if let Some(order) = order {
                // Whoever asked may have gone.
                let _ = order.send(collections);
            }
        }
    }

    async fn round(&mut self, everything: bool) -> Vec<Collection> {
        let Some(collectables) =
            ask(&self.commands, |answer| Command::Collectables { answer }).await
        else {
            return Vec::new();
        };
        let now = Instant::now();
        let owing: Vec<Collectable> = collectables
            .into_iter()
            .filter(|debt| {
                self.collected
                    .get(&debt.consumer)
                    .is_none_or(|paid| debt.promise.promise.amount > *paid)
            })
            .collect();
        let accounts = Arc::clone(&self.accounts);
        let looks = stream::iter(owing).map(|debt| {
            let accounts = Arc::clone(&accounts);
            async move { (debt, accounts.since(debt.consumer, now).await) }
        });
        let looks: Vec<_> = looks.buffered(LOOKS).collect().await;
        let mut collections = Vec::new();
        for (debt, seen) in looks {
            match seen {
                Ok(seen) => collections.extend(self.consider(debt, seen.account, everything).await),
                Err(cause) => {
                    tracing::warn!(%cause, "a consumer's account could not be looked up; trying again")
                }
            }
        }
        collections
    }

    async fn consider(
        &mut self,
        debt: Collectable,
        account: ConsumerAccount,
        everything: bool,
    ) -> Option<Collection> {
        let Collectable {
            consumer,
            promise,
            preimage,
        } = debt;
        self.collected.insert(consumer, account.collected);
        let owed = promise.promise.amount.saturating_sub(account.collected);
        let leaving = account.exit_at.is_some();
        // Nothing can come of an empty account, however much is owed.
        if owed.is_zero()
            || account.balance.is_zero()
            || !(everything || leaving || owed >= self.threshold)
        {
            return None;
        }
        let order = SettleOrder {
            hermes: self.hermes,
            beneficiary: self.hermes,
            promise,
            preimage,
        };
        let outcome = match self.chain.collect(consumer, order).await {
            Ok(settled) => {
                tracing::info!(%owed, total = %settled.total, gas = settled.gas, leaving, "collected from a consumer");
                self.collected.insert(consumer, settled.total);
                Ok((settled.transaction, settled.total))
            }
            Err(cause) => {
                tracing::warn!(%owed, %cause, leaving, "collecting from a consumer failed; trying again");
                Err(cause)
            }
        };
        Some(Collection {
            consumer,
            owed,
            outcome,
        })
    }
}
