//! What happens at a Hermes and on its consumers' channels, read back from the chain's events, and taken back when a
//! reorganisation takes it back. It refuses to trust a past that is not deep: the newest blocks are read again each time, and
//! compared.
//!
//! Of most events the documents tell the name and the values, and not which of them are indexed. Such an event says *that* it
//! happened; what it happened to is read from the contract.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256};
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use wayfare_payment::{Amount, ChainError, ChannelId, Preimage};

use super::client::MysteriumClient;
use super::contracts::{Erc20, HermesImplementation as H};

/// Blocks that are read again: four minutes of Polygon, several times its deepest reorganisations of late.
pub(super) const DEPTH: u64 = 128;
/// Blocks in one request: what public servers answer.
pub(super) const MOST_BLOCKS: u64 = 1_000;
/// Channels in one request.
const MOST_CHANNELS: usize = 100;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A provider was paid; the preimage is public from here on.
    PromiseSettled {
        /// The provider.
        identity: Address,
        /// Its channel.
        channel: ChannelId,
        /// Who got it; the Hermes itself when it became stake.
        beneficiary: Address,
        /// What it got.
        sent: Amount,
        /// What was kept of it.
        fees: Amount,
        /// What unlocked the promise.
        preimage: Preimage,
    },
    /// A provider's stake changed.
    StakeChanged,
    /// The owner took money out.
    FundsWithdrawn,
    /// Another share of settlements was announced.
    FeeAnnounced,
    /// The Hermes came under punishment.
    Punished,
    /// The Hermes was closed.
    Closed,
    /// Tokens left a consumer's channel.
    Moved {
        /// The channel.
        channel: Address,
        /// Where to.
        to: Address,
        /// How many.
        amount: Amount,
    },
}

/// An event and where it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// Block number.
    pub block: u64,
    /// The transaction that caused it.
    pub transaction: B256,
    /// What happened.
    pub event: Event,
}

/// What a look at the chain brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Not seen before.
    Appeared(Sighting),
    /// Seen before, and not on the chain any more.
    Vanished(Sighting),
}

/// Follows one Hermes and any number of channels. Worst case 256 bytes an event of the newest [`DEPTH`] blocks.
#[derive(Debug, Clone)]
pub struct Watch {
    hermes: Address,
    channels: BTreeSet<Address>,
    /// The first block whose events may still change.
    floor: u64,
    /// The first block that was not read yet.
    next: u64,
    /// By block and place in it; with the block's hash, which changes when the block does.
    seen: BTreeMap<(u64, u64), (B256, Sighting)>,
}

impl Watch {
    /// Follows a Hermes from a block on.
    #[must_use]
    pub fn new(hermes: Address, start: u64) -> Self {
        Self {
            hermes,
            channels: BTreeSet::new(),
            floor: start,
            next: start,
            seen: BTreeMap::new(),
        }
    }

    /// Follows a consumer's channel too, from now on.
    pub fn follow(&mut self, channel: Address) {
        self.channels.insert(channel);
    }

    /// Looks: what vanished first, then what appeared, each in the chain's order. After an error nothing has changed and the
    /// next look brings all of it.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn look(&mut self, client: &MysteriumClient) -> Result<Vec<Change>, ChainError> {
        let head = client.wallet().block_number().await?;
        let unread = self.next.min(head.saturating_add(1));
        let first = unread.saturating_sub(DEPTH).max(self.floor);
        let mut found = BTreeMap::new();
        let mut from = first;
        while from <= head {
            let to = head.min(from.saturating_add(MOST_BLOCKS - 1));
            for filter in self.filters(client) {
                let logs = client
                    .wallet()
                    .logs(&filter.from_block(from).to_block(to))
                    .await?;
                found.extend(logs.iter().filter_map(sighting));
            }
            from = to.saturating_add(1);
        }
        let recent = self.seen.split_off(&(first, 0));
        let gone = recent
            .iter()
            .filter(|(at, was)| found.get(*at) != Some(*was));
        let mut changes: Vec<Change> = gone
            .map(|(_, (_, sighting))| Change::Vanished(*sighting))
            .collect();
        let fresh = found.iter().filter(|(at, is)| recent.get(*at) != Some(*is));
        changes.extend(fresh.map(|(_, (_, sighting))| Change::Appeared(*sighting)));
        // What is older will not be read again.
        let next = head.saturating_add(1);
        self.floor = next.saturating_sub(DEPTH).max(self.floor);
        self.seen = found.split_off(&(self.floor, 0));
        self.next = next;
        Ok(changes)
    }

    fn filters(&self, client: &MysteriumClient) -> Vec<Filter> {
        let mut filters = vec![Filter::new().address(self.hermes)];
        let channels: Vec<B256> = self.channels.iter().map(|it| it.into_word()).collect();
        filters.extend(channels.chunks(MOST_CHANNELS).map(|some| {
            Filter::new()
                .address(client.deployment().token)
                .event_signature(Erc20::Transfer::SIGNATURE_HASH)
                .topic1(some.to_vec())
        }));
        filters
    }
}

/// A log as an event, with its place; `None` for what is not known.
fn sighting(log: &Log) -> Option<((u64, u64), (B256, Sighting))> {
    let sighting = Sighting {
        block: log.block_number?,
        transaction: log.transaction_hash?,
        event: event(log)?,
    };
    let place = (sighting.block, log.log_index?);
    Some((place, (log.block_hash?, sighting)))
}

fn event(log: &Log) -> Option<Event> {
    let topic = *log.topic0()?;
    if topic == H::PromiseSettled::SIGNATURE_HASH {
        let settled = H::PromiseSettled::decode_log(&log.inner).ok()?.data;
        return Some(Event::PromiseSettled {
            identity: settled.identity,
            channel: ChannelId(settled.channel),
            beneficiary: settled.beneficiary,
            sent: Amount::new(settled.sent),
            fees: Amount::new(settled.fees),
            preimage: Preimage(settled.lock),
        });
    }
    if topic == Erc20::Transfer::SIGNATURE_HASH {
        let transfer = Erc20::Transfer::decode_log(&log.inner).ok()?.data;
        return Some(Event::Moved {
            channel: transfer.from,
            to: transfer.to,
            amount: Amount::new(transfer.value),
        });
    }
    let plain = [
        (H::NewStake::SIGNATURE_HASH, Event::StakeChanged),
        (H::FundsWithdrawned::SIGNATURE_HASH, Event::FundsWithdrawn),
        (H::HermesFeeUpdated::SIGNATURE_HASH, Event::FeeAnnounced),
        (
            H::HermesPunishmentActivated::SIGNATURE_HASH,
            Event::Punished,
        ),
        (H::HermesClosed::SIGNATURE_HASH, Event::Closed),
    ];
    plain
        .into_iter()
        .find_map(|(known, event)| (known == topic).then_some(event))
}
