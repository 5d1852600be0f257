//! Consumers' deposits as the chain shows them, remembered for a moment. Refuses to be a source of truth: whoever is about to turn
//! a consumer away looks again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use wayfare_identity::Address;
use wayfare_payment::{Chain, ChainError, ChannelId, ConsumerAccount};

use crate::HermesConfig;

/// Consumers that are remembered: 16,384 × 200 bytes.
const MAX_KNOWN: usize = 16_384;

/// Looks at the chain at a time: strangers' requests cost one each.
const MAX_READS: usize = 32;

/// What was seen, and when the look began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) account: ConsumerAccount,
    pub(crate) at: Instant,
}

/// One consumer's slot; whoever holds it is looking.
type Slot = Arc<tokio::sync::Mutex<Option<Seen>>>;

/// Consumers' deposits.
#[derive(Debug)]
pub(crate) struct Accounts {
    chain: Arc<dyn Chain>,
    hermes: Address,
    age: Duration,
    deadline: Duration,
    known: Mutex<BTreeMap<Address, Slot>>,
    reads: Semaphore,
}

impl Accounts {
    pub(crate) fn new(chain: Arc<dyn Chain>, config: &HermesConfig) -> Self {
        Self {
            chain,
            hermes: config.issuer.hermes,
            age: config.account_age,
            deadline: config.chain_deadline,
            known: Mutex::default(),
            reads: Semaphore::new(MAX_READS),
        }
    }

    /// Derived here; no server is asked.
    pub(crate) fn channel(&self, consumer: Address) -> ChannelId {
        self.chain.consumer_channel(consumer, self.hermes)
    }

    /// As it was at most `account_age` ago.
    pub(crate) async fn recent(&self, consumer: Address) -> Result<Seen, ChainError> {
        let now = Instant::now();
        self.since(consumer, now.checked_sub(self.age).unwrap_or(now))
            .await
    }

    /// As it was at `instant` or later.
    pub(crate) async fn since(
        &self,
        consumer: Address,
        instant: Instant,
    ) -> Result<Seen, ChainError> {
        let slot = self.slot(consumer);
        let mut held = slot.lock().await;
        if let Some(seen) = *held
            && seen.at >= instant
        {
            return Ok(seen);
        }
        let _turn = self
            .reads
            .acquire()
            .await
            .expect("this semaphore is never closed");
        let at = Instant::now();
        let reading = self.chain.consumer(consumer, self.hermes);
        let slow =
            || ChainError::Unreachable(format!("no answer within {} s", self.deadline.as_secs()));
        let account = tokio::time::timeout(self.deadline, reading)
            .await
            .map_err(|_| slow())??;
        let seen = Seen { account, at };
        *held = Some(seen);
        Ok(seen)
    }

    fn slot(&self, consumer: Address) -> Slot {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN && !known.contains_key(&consumer) {
            // Whoever is being looked at keeps its slot; the rest is worth two seconds at most.
            known.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(known.entry(consumer).or_default())
    }
}
