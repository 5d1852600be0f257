//! One consistent look at the chain for the outbox: the head, the account's nonce, what gas costs, and what became of transactions.
//!
//! Of one server, what can be checked is checked: a receipt must be of the transaction asked for and of our account, in a block that
//! the server itself counts among its chain, not above its head. Of two, the receipts must tell the same; the lower head counts, so
//! that nobody makes a transaction look deeper than it is, and the lower price, so that nobody makes us pay more than is asked.
//! It refuses to decide anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::types::TransactionReceipt;
use alloy::transports::TransportResult;
use tokio::task::JoinSet;
use wayfare_payment::{Block, ChainError, Fees, Look, Mined};

use super::servers::{MOST_LAG, Server, Servers};
use crate::fault::Fault;

/// Receipts asked for at a time.
const ABREAST: usize = 16;

/// What was seen.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) look: Look,
    /// The receipts behind `look.mined`.
    pub(super) receipts: BTreeMap<B256, TransactionReceipt>,
}

impl Servers {
    /// Looks at the chain and for these transactions.
    ///
    /// # Errors
    /// Why nothing can be said: nobody answers, or two contradict each other.
    pub(super) async fn look(&self, account: Address, hashes: &[B256]) -> Result<View, Fault> {
        let ask = |server: Arc<Server>| async move {
            self.look_of(&server, account, hashes.to_vec()).await
        };
        self.settle_between(ask, merge).await.map(|(view, _)| view)
    }

    async fn look_of(
        &self,
        server: &Arc<Server>,
        account: Address,
        hashes: Vec<B256>,
    ) -> Result<View, Fault> {
        // The nonce before the head: a transaction that it counts is then looked for in a chain that has it.
        let nonce = self
            .one(
                server,
                |p| async move { p.get_transaction_count(account).await },
            )
            .await?;
        let pending = self
            .one(server, |p| async move {
                p.get_transaction_count(account)
                    .block_id(BlockId::pending())
                    .await
            })
            .await?;
        let newest = self
            .one(server, |p| async move {
                p.get_block_by_number(BlockNumberOrTag::Latest).await
            })
            .await?;
        let Some(newest) = newest else {
            let told = format!("{} knows no newest block", server.name);
            return Err(Fault::Other(ChainError::Unreachable(told)));
        };
        let fees = self
            .one(server, |p| async move { p.estimate_eip1559_fees().await })
            .await?;
        let head = Block {
            number: newest.header.inner.number,
            hash: newest.header.hash,
        };
        let receipts = self.receipts(server, account, head, hashes).await?;
        let mined = receipts.values().filter_map(mined).collect();
        let look = Look {
            head,
            nonce,
            pending,
            base: u128::from(newest.header.inner.base_fee_per_gas.unwrap_or_default()),
            fees: Fees {
                most: fees.max_fee_per_gas,
                tip: fees.max_priority_fee_per_gas,
            },
            mined,
        };
        Ok(View { look, receipts })
    }

    async fn receipts(
        &self,
        server: &Arc<Server>,
        account: Address,
        head: Block,
        hashes: Vec<B256>,
    ) -> Result<BTreeMap<B256, TransactionReceipt>, Fault> {
        let mut found = BTreeMap::new();
        let mut left = hashes.into_iter();
        let mut asked = JoinSet::new();
        loop {
            while asked.len() < ABREAST
                && let Some(hash) = left.next()
            {
                let (servers, server) = (self.clone(), Arc::clone(server));
                asked.spawn(async move {
                    servers
                        .one(&server, move |p| canonical(p, account, head, hash))
                        .await
                });
            }
            match asked.join_next().await {
                None => return Ok(found),
                Some(Ok(Ok(Some(receipt)))) => {
                    found.insert(receipt.transaction_hash, receipt);
                }
                Some(Ok(Ok(None))) => {}
                Some(Ok(Err(fault))) => return Err(fault),
                Some(Err(_)) => {
                    let told = "a question to a server was given up".to_owned();
                    return Err(Fault::Other(ChainError::Unreachable(told)));
                }
            }
        }
    }
}

/// A receipt that is ours and in the server's own chain, or none.
async fn canonical(
    provider: RootProvider,
    account: Address,
    head: Block,
    hash: B256,
) -> TransportResult<Option<TransactionReceipt>> {
    let Some(receipt) = provider.get_transaction_receipt(hash).await? else {
        return Ok(None);
    };
    let (Some(number), Some(block)) = (receipt.block_number, receipt.block_hash) else {
        return Ok(None);
    };
    if receipt.transaction_hash != hash || receipt.from != account || number > head.number {
        return Ok(None);
    }
    if number == head.number {
        return Ok((block == head.hash).then_some(receipt));
    }
    let at = provider
        .get_block_by_number(BlockNumberOrTag::Number(number))
        .await?;
    Ok(at
        .is_some_and(|at| at.header.hash == block)
        .then_some(receipt))
}

fn mined(receipt: &TransactionReceipt) -> Option<Mined> {
    Some(Mined {
        hash: receipt.transaction_hash,
        block: Block {
            number: receipt.block_number?,
            hash: receipt.block_hash?,
        },
        succeeded: receipt.status(),
        gas: receipt.gas_used,
        price: receipt.effective_gas_price,
    })
}

/// Two looks as one, or what they contradict each other in.
fn merge(one: &View, other: &View) -> Result<View, String> {
    let (a, b) = (&one.look, &other.look);
    if a.head.number.abs_diff(b.head.number) > MOST_LAG {
        return Err(format!(
            "their newest blocks are {} and {}: one lags, or lies",
            a.head.number, b.head.number
        ));
    }
    let mut receipts = one.receipts.clone();
    for (hash, receipt) in &other.receipts {
        match receipts.get(hash) {
            Some(earlier) => agree(earlier, receipt)?,
            None => {
                not_yet(receipt, a, "the first")?;
                receipts.insert(*hash, receipt.clone());
            }
        }
    }
    for (hash, receipt) in &one.receipts {
        if !other.receipts.contains_key(hash) {
            not_yet(receipt, b, "the second")?;
        }
    }
    let lower = if a.head.number <= b.head.number { a } else { b };
    // One that a server has not come to yet has no depth; a nonce counts as used when both say so.
    let look = Look {
        head: lower.head,
        nonce: a.nonce.min(b.nonce),
        pending: a.pending.max(b.pending),
        base: a.base.min(b.base),
        fees: Fees {
            most: a.fees.most.min(b.fees.most),
            tip: a.fees.tip.min(b.fees.tip),
        },
        mined: receipts.values().filter_map(mined).collect(),
    };
    Ok(View { look, receipts })
}

/// A receipt that the other server does not have is fine while that server has not come to its block.
fn not_yet(receipt: &TransactionReceipt, other: &Look, which: &str) -> Result<(), String> {
    let at = receipt.block_number.unwrap_or_default();
    if other.head.number < at {
        return Ok(());
    }
    Err(format!(
        "{which} knows nothing of transaction {} in block {at}, which the other shows",
        receipt.transaction_hash
    ))
}

fn agree(one: &TransactionReceipt, other: &TransactionReceipt) -> Result<(), String> {
    let told = |receipt: &TransactionReceipt| {
        let events: Vec<_> = receipt.logs().iter().map(|log| log.inner.clone()).collect();
        (mined(receipt), receipt.contract_address, events)
    };
    if told(one) == told(other) {
        return Ok(());
    }
    Err(format!(
        "they show different receipts of transaction {}",
        one.transaction_hash
    ))
}
