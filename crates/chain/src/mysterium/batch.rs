//! Many settlements in one transaction, by `Batch.sol`. One that fails does not sink the rest: it is reported. The gas limit is
//! set here, as an estimate would be low enough for items to fail in silence. It refuses items that are not sound, one by one.

use alloy::primitives::{Address, B256, Bytes};
use alloy::sol_types::SolEvent;
use wayfare_payment::{ChainError, ChannelId, SettleOrder};

use super::client::{MysteriumClient, sound};
use crate::Wallet;

mod bindings {
    #![allow(
        missing_docs,
        missing_debug_implementations,
        unreachable_pub,
        clippy::all
    )]
    alloy::sol!(
        #[sol(all_derives)]
        Batch,
        "contracts/mysterium/artifacts/Batch.json"
    );
}

pub use bindings::Batch;

/// Items in one transaction: their gas and the last one's reserve stay below the 2^24 that a transaction may ask for.
pub const MOST_ITEMS: usize = 200;
/// Gas for each item: a first settlement in a batch takes 55,378 through the proxied token of Polygon, and half more is spare.
const ITEM_GAS: u64 = 80_000;
/// Gas beside the items: the transaction's own, and what the contract wants to see before the last item.
const BASE_GAS: u64 = 300_000;

/// One promise and whose channel it is on: a provider when settling, a consumer when collecting.
#[derive(Debug, Clone, Copy)]
pub struct Item {
    /// The identity.
    pub party: Address,
    /// The promise and what unlocks it.
    pub order: SettleOrder,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batched {
    /// The transaction; `None` when no item was worth one.
    pub transaction: Option<B256>,
    /// Gas used by it.
    pub gas: u64,
    /// For each item, in order: nothing, or why it did not go through. What an item moved is read from its channel.
    pub outcomes: Vec<Result<(), String>>,
}

/// Deploys the batcher; it has no owner and holds nothing, so one is enough for everybody on a chain.
///
/// # Errors
/// As [`Wallet::deploy`].
pub async fn deploy_batcher(wallet: &Wallet) -> Result<Address, ChainError> {
    wallet.deploy(Batch::BYTECODE.clone()).await
}

impl MysteriumClient {
    /// Cashes many providers' promises of one Hermes, each to its registered beneficiary.
    ///
    /// # Errors
    /// As [`Wallet::call`]: then no item went through. [`ChainError::Refused`] for more than [`MOST_ITEMS`].
    pub async fn settle_batch(
        &self,
        batcher: Address,
        hermes: Address,
        items: &[Item],
    ) -> Result<Batched, ChainError> {
        let operator = self.hermes_state(hermes).await?.operator;
        let chain_id = self.wallet().chain_id();
        let packed = items.iter().map(|item| {
            if item.order.hermes != hermes {
                return Err(format!("it is a promise of {}", item.order.hermes));
            }
            let channel = ChannelId::of_provider(item.party, hermes);
            sound(&item.order, chain_id, channel, operator).map_err(|why| why.to_string())?;
            pack(item.party, &item.order)
        });
        let (sent, mut outcomes, bytes) = sort(packed);
        let call = Batch::settleCall {
            hermes,
            items: bytes,
        };
        self.send_batch(batcher, &call, &sent, &mut outcomes).await
    }

    /// Collects many consumers' promises, of one Hermes or of several.
    ///
    /// # Errors
    /// As [`MysteriumClient::settle_batch`].
    pub async fn collect_batch(
        &self,
        batcher: Address,
        items: &[Item],
    ) -> Result<Batched, ChainError> {
        let chain_id = self.wallet().chain_id();
        let packed = items.iter().map(|item| {
            let told = |why: ChainError| why.to_string();
            let channel = self
                .deposit_address(item.party, item.order.hermes)
                .map_err(told)?;
            sound(
                &item.order,
                chain_id,
                ChannelId::of_deposit(channel),
                item.party,
            )
            .map_err(told)?;
            pack(channel, &item.order)
        });
        let (sent, mut outcomes, items) = sort(packed);
        self.send_batch(batcher, &Batch::collectCall { items }, &sent, &mut outcomes)
            .await
    }

    async fn send_batch<C: alloy::sol_types::SolCall>(
        &self,
        batcher: Address,
        call: &C,
        sent: &[usize],
        outcomes: &mut [Result<(), String>],
    ) -> Result<Batched, ChainError> {
        if sent.is_empty() {
            return Ok(Batched {
                transaction: None,
                gas: 0,
                outcomes: outcomes.to_vec(),
            });
        }
        if sent.len() > MOST_ITEMS {
            return Err(ChainError::Refused(format!(
                "a batch has {MOST_ITEMS} items at most, this one has {}",
                sent.len()
            )));
        }
        // An account without code takes everything and does nothing.
        self.wallet().check_contract(batcher).await?;
        let gas = BASE_GAS + ITEM_GAS * sent.len() as u64;
        let receipt = self.wallet().call_with_gas(batcher, call, gas).await?;
        for log in receipt.logs() {
            let Ok(failed) = Batch::Failed::decode_log(&log.inner) else {
                continue;
            };
            let place = sent.get(failed.index.saturating_to::<usize>());
            if let Some(outcome) = place.and_then(|place| outcomes.get_mut(*place))
                && log.address() == batcher
            {
                *outcome = Err(crate::explain(&failed.reason));
            }
        }
        Ok(Batched {
            transaction: Some(receipt.transaction_hash),
            gas: receipt.gas_used,
            outcomes: outcomes.to_vec(),
        })
    }
}

/// The 133 bytes of an item; see `Batch.sol`.
fn pack(account: Address, order: &SettleOrder) -> Result<Vec<u8>, String> {
    let amount = u128::try_from(order.promise.promise.amount.units())
        .map_err(|_| "an item's amount has 128 bits at most".to_owned())?;
    Ok([
        account.as_slice(),
        &amount.to_be_bytes(),
        order.preimage.0.as_slice(),
        order.promise.signature.as_bytes(),
    ]
    .concat())
}

/// Which items are sent, what is known of each, and the bytes of those that are sent.
fn sort(
    packed: impl Iterator<Item = Result<Vec<u8>, String>>,
) -> (Vec<usize>, Vec<Result<(), String>>, Bytes) {
    let (mut sent, mut outcomes, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for (place, item) in packed.enumerate() {
        outcomes.push(item.map(|item| {
            sent.push(place);
            bytes.extend(item);
        }));
    }
    (sent, outcomes, bytes.into())
}
