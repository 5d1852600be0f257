//! What each consumer's channel has really paid to its Hermes, from the token's own events.
//!
//! A channel counts as settled whatever left it by a cheque, also what went to the cheque's sender as a fee. So its owner can
//! empty it by a cheque of its own, and the channel then says that its Hermes was paid. A Hermes that believed it would go on
//! promising for money that it never got. It refuses to believe the channel.

use std::collections::BTreeMap;

use alloy::primitives::Address;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use wayfare_payment::{Amount, ChainError};

use super::contracts::Erc20;
use super::watch::{DEPTH, MOST_BLOCKS};
use crate::Wallet;

/// Follows what a Hermes is paid. Worst case 100 bytes for each channel that ever paid, and for each payment of the newest
/// [`DEPTH`] blocks.
#[derive(Debug, Clone)]
pub struct Takings {
    hermes: Address,
    /// Of blocks that are not read again.
    past: BTreeMap<Address, Amount>,
    /// Of later blocks, by block and place in it.
    recent: BTreeMap<(u64, u64), (Address, Amount)>,
    /// The first block that is not in `past`.
    floor: u64,
    /// The first block that was not read yet.
    next: u64,
}

impl Takings {
    /// From the block on in which the Hermes' first consumer paid, or any before it.
    #[must_use]
    pub fn new(hermes: Address, start: u64) -> Self {
        Self::restore(hermes, start, BTreeMap::new())
    }

    /// From what [`Takings::past`] gave in an earlier run, so that a long history is not read again.
    #[must_use]
    pub fn restore(hermes: Address, start: u64, past: BTreeMap<Address, Amount>) -> Self {
        Self {
            hermes,
            past,
            recent: BTreeMap::new(),
            floor: start,
            next: start,
        }
    }

    /// Whose takings these are.
    #[must_use]
    pub fn hermes(&self) -> Address {
        self.hermes
    }

    /// What a channel has paid so far.
    #[must_use]
    pub fn of(&self, channel: Address) -> Amount {
        let past = self.past.get(&channel).copied().unwrap_or_default();
        let recent = self.recent.values().filter(|(payer, _)| *payer == channel);
        recent.fold(past, |sum, (_, amount)| sum.saturating_add(*amount))
    }

    /// What was paid before a block that will not change any more, and that block: to be kept for [`Takings::restore`].
    #[must_use]
    pub fn past(&self) -> (u64, &BTreeMap<Address, Amount>) {
        (self.floor, &self.past)
    }

    /// Reads up to the newest block. After an error what was read stands, and the next try goes on from there.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn catch_up(&mut self, wallet: &Wallet, token: Address) -> Result<(), ChainError> {
        let head = wallet.block_number().await?;
        let unread = self.next.min(head.saturating_add(1));
        self.next = unread.saturating_sub(DEPTH).max(self.floor);
        // What a reorganisation may have changed is read again.
        self.recent.split_off(&(self.next, 0));
        while self.next <= head {
            let to = head.min(self.next.saturating_add(MOST_BLOCKS - 1));
            let filter = Filter::new()
                .address(token)
                .event_signature(Erc20::Transfer::SIGNATURE_HASH)
                .topic2(self.hermes.into_word())
                .from_block(self.next)
                .to_block(to);
            let logs = wallet.logs(&filter).await?;
            self.recent.extend(logs.iter().filter_map(payment));
            self.next = to.saturating_add(1);
            self.forget();
        }
        Ok(())
    }

    /// Adds up what is too deep to change.
    fn forget(&mut self) {
        let floor = self.next.saturating_sub(DEPTH).max(self.floor);
        let recent = self.recent.split_off(&(floor, 0));
        for (payer, amount) in std::mem::replace(&mut self.recent, recent).into_values() {
            let sum = self.past.entry(payer).or_default();
            *sum = sum.saturating_add(amount);
        }
        self.floor = floor;
    }
}

fn payment(log: &Log) -> Option<((u64, u64), (Address, Amount))> {
    let transfer = Erc20::Transfer::decode_log(&log.inner).ok()?.data;
    let place = (log.block_number?, log.log_index?);
    Some((place, (transfer.from, Amount::new(transfer.value))))
}
