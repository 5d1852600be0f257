//! The chain's state: accounts, blocks, receipts, time. It executes transactions and mines them.
//! It refuses to know JSON; `rpc` does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::consensus::transaction::SignerRecoverable;
use alloy::consensus::{
    Eip658Value, Header, Receipt, ReceiptEnvelope, Transaction as _, TxEnvelope, TxType, constants,
    proofs,
};
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::rpc::types::{self, Filter, Log, TransactionReceipt, TransactionRequest};
use alloy_evm::FromRecoveredTx;
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction, Output};
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::database::{CacheDB, EmptyDB};
use revm::primitives::hardfork::SpecId;
use revm::state::AccountInfo;
use revm::{Database, ExecuteCommitEvm, ExecuteEvm, MainBuilder, MainContext};

use super::pool::Pool;
use super::{Genesis, RpcError};

/// Gas in a block, and so in the largest transaction less the protocol's own cap: 30 M, as on the networks we settle on.
pub(super) const BLOCK_GAS: u64 = 30_000_000;
/// Base fee, 1 gwei, until a test wants another: a development chain is never congested.
const BASE_FEE: u64 = 1_000_000_000;
/// Snapshots kept; each holds a copy of the accounts. The oldest goes first.
const MOST_SNAPSHOTS: usize = 64;
/// EIP-7825: the most gas one transaction may ask for.
pub(super) const TRANSACTION_GAS: u64 = 1 << 24;

type Accounts = CacheDB<EmptyDB>;

/// A mined block with at most one transaction.
#[derive(Debug)]
pub(super) struct Mined {
    pub(super) header: types::Header,
    pub(super) transaction: Option<types::Transaction>,
    pub(super) receipt: Option<TransactionReceipt>,
}

#[derive(Clone)]
pub(super) struct World {
    accounts: Accounts,
    pub(super) chain_id: u64,
    /// Never empty: block 0 is made by `new`.
    blocks: Vec<Arc<Mined>>,
    by_transaction: BTreeMap<B256, usize>,
    /// Seconds that `evm_increaseTime` put between this chain and the wall clock.
    ahead: u64,
    snapshots: BTreeMap<u64, Box<World>>,
    last_snapshot: u64,
    pub(super) pool: Pool,
    /// What a unit of gas costs in the next block, in wei.
    pub(super) base_fee: u64,
    /// Reorganisations so far: it is in the blocks' headers, so that another history has other hashes.
    branch: u64,
}

impl World {
    pub(super) fn new(genesis: &Genesis) -> Self {
        let mut accounts = Accounts::new(EmptyDB::new());
        for (address, balance) in &genesis.funds {
            accounts.insert_account_info(
                *address,
                AccountInfo {
                    balance: *balance,
                    ..AccountInfo::default()
                },
            );
        }
        let mut world = Self {
            accounts,
            chain_id: genesis.chain_id,
            blocks: Vec::new(),
            by_transaction: BTreeMap::new(),
            ahead: 0,
            snapshots: BTreeMap::new(),
            last_snapshot: 0,
            pool: Pool::default(),
            base_fee: BASE_FEE,
            branch: 0,
        };
        world.push_block(world.next_header(wall_clock()), None);
        world
    }

    // ------------------------------------------------------------------------------------------------- reading

    pub(super) fn head(&self) -> &Mined {
        self.blocks
            .last()
            .expect("block 0 is made with the world and never taken back")
    }

    pub(super) fn number(&self) -> u64 {
        self.head().header.inner.number
    }

    pub(super) fn block(&self, number: u64) -> Option<&Mined> {
        self.blocks
            .get(usize::try_from(number).ok()?)
            .map(Arc::as_ref)
    }

    pub(super) fn block_by_hash(&self, hash: B256) -> Option<&Mined> {
        self.blocks
            .iter()
            .rev()
            .map(Arc::as_ref)
            .find(|block| block.header.hash == hash)
    }

    pub(super) fn mined(&self, transaction: B256) -> Option<&Mined> {
        self.by_transaction
            .get(&transaction)
            .map(|at| self.blocks[*at].as_ref())
    }

    pub(super) fn account(&mut self, address: Address) -> AccountInfo {
        never(self.accounts.basic(address)).unwrap_or_default()
    }

    pub(super) fn code(&mut self, address: Address) -> Bytes {
        let account = self.account(address);
        match account.code {
            Some(code) => code.original_bytes(),
            None => never(self.accounts.code_by_hash(account.code_hash)).original_bytes(),
        }
    }

    pub(super) fn storage(&mut self, address: Address, slot: U256) -> U256 {
        never(self.accounts.storage(address, slot))
    }

    /// Events of a range of blocks; the filter's own range is the caller's to resolve.
    pub(super) fn logs(&self, filter: &Filter, from: u64, to: u64) -> Vec<Log> {
        let mut found = Vec::new();
        for number in from..=to.min(self.number()) {
            let Some(block) = self.block(number) else {
                break;
            };
            let Some(receipt) = &block.receipt else {
                continue;
            };
            if filter.matches_bloom(block.header.inner.logs_bloom) {
                let logs = receipt.inner.logs().iter();
                found.extend(logs.filter(|log| filter.matches(&log.inner)).cloned());
            }
        }
        found
    }

    // ------------------------------------------------------------------------------------------------ executing

    /// Runs a call on top of the head, as if in the next block, and forgets what it changed.
    pub(super) fn simulate(
        &mut self,
        request: &TransactionRequest,
        gas: u64,
    ) -> Result<ExecutionResult, RpcError> {
        let header = self.next_header(self.next_timestamp());
        let (block, mut cfg) = self.environment(&header);
        cfg.disable_balance_check = true;
        cfg.disable_base_fee = true;
        cfg.disable_nonce_check = true;
        let caller = request.from.unwrap_or_default();
        let call = TxEnv::builder()
            .caller(caller)
            .kind(request.to.unwrap_or(TxKind::Create))
            .value(request.value.unwrap_or_default())
            .data(request.input.input().cloned().unwrap_or_default())
            .nonce(self.account(caller).nonce)
            .gas_limit(gas)
            .chain_id(Some(self.chain_id))
            .build()
            .map_err(|why| RpcError::new(-32602, format!("call cannot be built: {why:?}")))?;
        let mut evm = Context::mainnet()
            .with_db(&mut self.accounts)
            .with_block(block)
            .with_cfg(cfg)
            .build_mainnet();
        let base_fee = self.base_fee;
        evm.transact_one(call)
            .map_err(|error| refused(error, base_fee))
    }

    /// Executes a signed transaction and mines it into a block of its own; or has it wait, while mining is withheld or others wait.
    pub(super) fn send(&mut self, transaction: TxEnvelope) -> Result<B256, RpcError> {
        if transaction.tx_type() == TxType::Eip4844 {
            return Err(RpcError::new(
                -32003,
                "transaction type not supported: this chain takes no blobs",
            ));
        }
        let hash = *transaction.tx_hash();
        if self.by_transaction.contains_key(&hash) {
            return Err(RpcError::new(-32003, "already known"));
        }
        let from = transaction
            .recover_signer()
            .map_err(|_| RpcError::new(-32003, "invalid transaction signature"))?;
        if !self.pool.withheld && self.pool.is_empty() {
            self.execute(from, transaction)?;
            return Ok(hash);
        }
        self.admit(from, &transaction)?;
        self.pool.take(from, transaction)?;
        if !self.pool.withheld {
            self.mine_waiting();
        }
        Ok(hash)
    }

    /// Mines what waits and can be mined, each into a block of its own; an empty block when there is nothing.
    pub(super) fn mine(&mut self) {
        if self.mine_waiting() == 0 {
            self.push_block(self.next_header(self.next_timestamp()), None);
        }
    }

    /// The next nonce of an account as this node's queue has it.
    pub(super) fn pending_nonce(&mut self, address: Address) -> u64 {
        let mined = self.account(address).nonce;
        self.pool.next_nonce(address, mined)
    }

    /// Takes the blocks since a snapshot back and puts as many empty ones, and one more, in their place. Their transactions wait
    /// again where `keep` says so, and are forgotten otherwise. False when there is no such snapshot.
    pub(super) fn reorganise(&mut self, snapshot: u64, keep: bool) -> bool {
        let (height, blocks, mut pool, branch, base_fee) = (
            self.number(),
            self.blocks.clone(),
            self.pool.clone(),
            self.branch + 1,
            self.base_fee,
        );
        if !self.revert(snapshot) {
            return false;
        }
        if keep {
            for block in &blocks[self.blocks.len()..] {
                if let Some(back) = &block.transaction {
                    let (from, back) = (back.inner.signer(), back.inner.inner().clone());
                    // One that has been replaced in the queue since stays replaced.
                    let _ = pool.take(from, back);
                }
            }
        }
        (self.pool, self.branch, self.base_fee) = (pool, branch, base_fee);
        while self.number() <= height {
            self.push_block(self.next_header(self.next_timestamp()), None);
        }
        true
    }

    /// What a node checks before it lets a transaction wait.
    fn admit(&mut self, from: Address, transaction: &TxEnvelope) -> Result<(), RpcError> {
        let account = self.account(from);
        let refuse = |why: String| Err(RpcError::new(-32003, why));
        if transaction.chain_id() != Some(self.chain_id) {
            return refuse("invalid chain id for signer".to_owned());
        }
        if transaction.nonce() < account.nonce {
            return refuse(format!(
                "nonce too low: next nonce {}, tx nonce {}",
                account.nonce,
                transaction.nonce()
            ));
        }
        let cost = U256::from(transaction.gas_limit()) * U256::from(transaction.max_fee_per_gas())
            + transaction.value();
        if cost > account.balance {
            return refuse(format!(
                "insufficient funds for gas * price + value: have {} want {cost}",
                account.balance
            ));
        }
        Ok(())
    }

    /// Mines what waits and can be; answers how many.
    fn mine_waiting(&mut self) -> usize {
        let mut mined = 0;
        let mut pool = std::mem::take(&mut self.pool);
        let base_fee = self.base_fee;
        // Each turn takes one out.
        while let Some((from, transaction)) =
            pool.next(base_fee, |address| self.account(address).nonce)
        {
            // What can no longer be executed is dropped, as nodes do.
            mined += usize::from(self.execute(from, transaction).is_ok());
        }
        pool.tidy(|address| self.account(address).nonce);
        self.pool = pool;
        mined
    }

    fn execute(&mut self, from: Address, transaction: TxEnvelope) -> Result<(), RpcError> {
        let header = self.next_header(self.next_timestamp());
        let base_fee = self.base_fee;
        let (block, cfg) = self.environment(&header);
        let mut evm = Context::mainnet()
            .with_db(&mut self.accounts)
            .with_block(block)
            .with_cfg(cfg)
            .build_mainnet();
        let result = evm
            .transact_commit(TxEnv::from_recovered_tx(&transaction, from))
            .map_err(|error| refused(error, base_fee))?;
        self.push_block(header, Some((transaction, from, result)));
        Ok(())
    }

    /// Moves the chain's clock for ever, from where it stands: from the head, when many blocks have already taken that ahead of
    /// the wall clock. Answers how far ahead it is, in seconds.
    pub(super) fn increase_time(&mut self, seconds: u64) -> u64 {
        let drifted = self
            .head()
            .header
            .inner
            .timestamp
            .saturating_sub(wall_clock());
        self.ahead = self.ahead.max(drifted).saturating_add(seconds);
        self.ahead
    }

    pub(super) fn snapshot(&mut self) -> u64 {
        let mut copy = self.clone();
        copy.snapshots.clear();
        self.last_snapshot += 1;
        self.snapshots.insert(self.last_snapshot, Box::new(copy));
        if self.snapshots.len() > MOST_SNAPSHOTS {
            self.snapshots.pop_first();
        }
        self.last_snapshot
    }

    /// Goes back to a snapshot; it and the later ones are used up. False when there is no such snapshot.
    pub(super) fn revert(&mut self, snapshot: u64) -> bool {
        let mut later = self.snapshots.split_off(&snapshot);
        let Some(then) = later.remove(&snapshot) else {
            self.snapshots.append(&mut later);
            return false;
        };
        let (earlier, last_snapshot) = (std::mem::take(&mut self.snapshots), self.last_snapshot);
        *self = World {
            snapshots: earlier,
            last_snapshot,
            ..*then
        };
        true
    }

    // ------------------------------------------------------------------------------------------------- private

    fn environment(&self, header: &Header) -> (BlockEnv, CfgEnv) {
        let cfg = CfgEnv::new_with_spec(SpecId::PRAGUE).with_chain_id(self.chain_id);
        let block = BlockEnv {
            number: U256::from(header.number),
            timestamp: U256::from(header.timestamp),
            gas_limit: BLOCK_GAS,
            basefee: self.base_fee,
            prevrandao: Some(header.mix_hash),
            ..BlockEnv::default()
        };
        (block, cfg)
    }

    /// Strictly later than the head, and otherwise the wall clock plus what was added to it.
    fn next_timestamp(&self) -> u64 {
        wall_clock()
            .saturating_add(self.ahead)
            .max(self.head().header.inner.timestamp + 1)
    }

    fn next_header(&self, timestamp: u64) -> Header {
        let parent = self.blocks.last().map(|block| &block.header);
        Header {
            parent_hash: parent.map_or(B256::ZERO, |header| header.hash),
            number: parent.map_or(0, |header| header.inner.number + 1),
            timestamp,
            gas_limit: BLOCK_GAS,
            base_fee_per_gas: Some(self.base_fee),
            extra_data: branch_mark(self.branch),
            transactions_root: constants::EMPTY_TRANSACTIONS,
            receipts_root: constants::EMPTY_RECEIPTS,
            ..Header::default()
        }
    }

    fn push_block(
        &mut self,
        mut header: Header,
        executed: Option<(TxEnvelope, Address, ExecutionResult)>,
    ) {
        let at = self.blocks.len();
        let mined = match executed {
            None => Mined {
                header: types::Header::new(header),
                transaction: None,
                receipt: None,
            },
            Some((transaction, from, result)) => {
                let envelope = consensus_receipt(&transaction, &result);
                header.transactions_root =
                    proofs::calculate_transaction_root(std::slice::from_ref(&transaction));
                header.receipts_root =
                    proofs::calculate_receipt_root(std::slice::from_ref(&envelope));
                header.logs_bloom = *envelope.logs_bloom();
                header.gas_used = result.tx_gas_used();
                self.by_transaction.insert(*transaction.tx_hash(), at);
                let header = types::Header::new(header);
                let receipt = rpc_receipt(&header, &transaction, from, &result, envelope);
                let transaction = rpc_transaction(&header, transaction, from);
                Mined {
                    header,
                    transaction: Some(transaction),
                    receipt: Some(receipt),
                }
            }
        };
        // What the BLOCKHASH opcode reads.
        self.accounts
            .cache
            .block_hashes
            .insert(U256::from(at), mined.header.hash);
        self.blocks.push(Arc::new(mined));
    }
}

fn consensus_receipt(transaction: &TxEnvelope, result: &ExecutionResult) -> ReceiptEnvelope {
    let logs = if result.is_success() {
        result.logs().to_vec()
    } else {
        Vec::new()
    };
    let receipt = Receipt {
        status: Eip658Value::Eip658(result.is_success()),
        cumulative_gas_used: result.tx_gas_used(),
        logs,
    };
    ReceiptEnvelope::from_typed(transaction.tx_type(), receipt)
}

fn rpc_receipt(
    header: &types::Header,
    transaction: &TxEnvelope,
    from: Address,
    result: &ExecutionResult,
    envelope: ReceiptEnvelope,
) -> TransactionReceipt {
    let mut index = 0;
    let inner = envelope.map_logs(|inner| {
        let log_index = Some(index);
        index += 1;
        Log {
            inner,
            block_hash: Some(header.hash),
            block_number: Some(header.inner.number),
            block_timestamp: Some(header.inner.timestamp),
            transaction_hash: Some(*transaction.tx_hash()),
            transaction_index: Some(0),
            log_index,
            removed: false,
        }
    });
    let contract_address = match result {
        ExecutionResult::Success {
            output: Output::Create(_, address),
            ..
        } => *address,
        ExecutionResult::Success { .. }
        | ExecutionResult::Revert { .. }
        | ExecutionResult::Halt { .. } => None,
    };
    TransactionReceipt {
        inner,
        transaction_hash: *transaction.tx_hash(),
        transaction_index: Some(0),
        block_hash: Some(header.hash),
        block_number: Some(header.inner.number),
        gas_used: result.tx_gas_used(),
        effective_gas_price: transaction.effective_gas_price(header.inner.base_fee_per_gas),
        blob_gas_used: None,
        blob_gas_price: None,
        from,
        to: transaction.to(),
        contract_address,
    }
}

fn rpc_transaction(
    header: &types::Header,
    transaction: TxEnvelope,
    from: Address,
) -> types::Transaction {
    types::Transaction {
        effective_gas_price: Some(transaction.effective_gas_price(header.inner.base_fee_per_gas)),
        inner: alloy::consensus::transaction::Recovered::new_unchecked(transaction, from),
        block_hash: Some(header.hash),
        block_number: Some(header.inner.number),
        transaction_index: Some(0),
        block_timestamp: Some(header.inner.timestamp),
    }
}

/// Which of several histories a block belongs to; nothing in the first.
fn branch_mark(branch: u64) -> Bytes {
    if branch == 0 {
        Bytes::new()
    } else {
        Bytes::copy_from_slice(&branch.to_be_bytes())
    }
}

/// Why the EVM did not run it, in the words that clients of real nodes look for.
fn refused<E: std::fmt::Debug>(error: EVMError<E>, base_fee: u64) -> RpcError {
    let EVMError::Transaction(why) = error else {
        return RpcError::new(-32603, format!("the EVM failed: {error:?}"));
    };
    let message = match &why {
        InvalidTransaction::NonceTooLow { tx, state } => {
            format!("nonce too low: next nonce {state}, tx nonce {tx}")
        }
        InvalidTransaction::NonceTooHigh { tx, state } => {
            format!("nonce too high: next nonce {state}, tx nonce {tx}; this chain keeps no queue")
        }
        InvalidTransaction::LackOfFundForMaxFee { fee, balance } => {
            format!("insufficient funds for gas * price + value: have {balance} want {fee}")
        }
        InvalidTransaction::GasPriceLessThanBasefee => {
            format!("max fee per gas less than block base fee: baseFee: {base_fee}")
        }
        InvalidTransaction::InvalidChainId => "invalid chain id for signer".to_owned(),
        // Everything else is said well by revm itself; the list is theirs, not ours.
        other => other.to_string(),
    };
    RpcError::new(-32003, message)
}

// A chain stamps its blocks with the wall clock; tests move it by `evm_increaseTime`.
#[allow(clippy::disallowed_methods)]
fn wall_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The database is in memory: its error type has no values.
fn never<T>(result: Result<T, std::convert::Infallible>) -> T {
    match result {
        Ok(value) => value,
    }
}
