//! Transactions that wait to be mined: while mining is withheld, while gas costs more than they offer, and after a reorganisation.
//! It refuses to execute anything, and to keep order among accounts.

use std::collections::BTreeMap;

use alloy::consensus::{Transaction as _, TxEnvelope};
use alloy::primitives::{Address, B256};

use super::RpcError;

/// Transactions that wait; each is at most what one RPC body carries. More are refused.
const MOST: usize = 4_096;

/// The queue.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool {
    waiting: BTreeMap<(Address, u64), TxEnvelope>,
    /// Nothing is mined before it is asked for.
    pub(super) withheld: bool,
}

impl Pool {
    /// Takes a transaction, or one that pays a tenth more in the place of an earlier one.
    pub(super) fn take(&mut self, from: Address, transaction: TxEnvelope) -> Result<(), RpcError> {
        let place = (from, transaction.nonce());
        if let Some(earlier) = self.waiting.get(&place) {
            if earlier.tx_hash() == transaction.tx_hash() {
                return Err(RpcError::new(-32003, "already known"));
            }
            let enough = |old: u128, new: u128| new >= old.saturating_add(old / 10);
            let (old_tip, new_tip) = (tip(earlier), tip(&transaction));
            let dearer = enough(earlier.max_fee_per_gas(), transaction.max_fee_per_gas())
                && enough(old_tip, new_tip);
            if !dearer {
                return Err(RpcError::new(-32003, "replacement transaction underpriced"));
            }
        } else if self.waiting.len() >= MOST {
            return Err(RpcError::new(-32003, "txpool is full"));
        }
        self.waiting.insert(place, transaction);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn holds(&self, hash: B256) -> bool {
        self.waiting.values().any(|one| *one.tx_hash() == hash)
    }

    /// The next nonce of an account, counting what waits without a gap after `mined`.
    pub(super) fn next_nonce(&self, from: Address, mined: u64) -> u64 {
        // As many as there are entries, at most.
        (mined..)
            .find(|nonce| !self.waiting.contains_key(&(from, *nonce)))
            .unwrap_or(mined)
    }

    /// Takes out a transaction that a block with this base fee could hold; `nonce` tells an account's next.
    pub(super) fn next(
        &mut self,
        base_fee: u64,
        mut nonce: impl FnMut(Address) -> u64,
    ) -> Option<(Address, TxEnvelope)> {
        let place = self
            .waiting
            .iter()
            .find(|((from, at), one)| {
                *at == nonce(*from) && (**one).max_fee_per_gas() >= u128::from(base_fee)
            })
            .map(|(place, _)| *place)?;
        let transaction = self.waiting.remove(&place)?;
        Some((place.0, transaction))
    }

    /// Forgets what the chain has gone past.
    pub(super) fn tidy(&mut self, mut nonce: impl FnMut(Address) -> u64) {
        self.waiting.retain(|(from, at), _| *at >= nonce(*from));
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

fn tip(transaction: &TxEnvelope) -> u128 {
    transaction
        .max_priority_fee_per_gas()
        .unwrap_or_else(|| transaction.max_fee_per_gas())
}
