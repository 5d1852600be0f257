//! JSON-RPC methods of the development chain: parameters in, answers out. It refuses to keep state.

use std::fmt;

use alloy::consensus::TxEnvelope;
use alloy::eips::eip2718::Decodable2718;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::rpc::types::{
    Block, BlockTransactions, FeeHistory, Filter, FilterBlockOption, TransactionRequest,
};
use revm::context::result::ExecutionResult;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::world::{Mined, TRANSACTION_GAS, World};

/// What wallets are told to add for the miner, in wei: there is no miner to please.
const TIP: u64 = 1;
/// Blocks in one `eth_feeHistory`, as other nodes bound it.
const MOST_FEE_BLOCKS: u64 = 1_024;

/// An error as JSON-RPC carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RpcError {
    /// JSON-RPC code; 3 for a revert, as other nodes answer.
    pub code: i64,
    /// For people.
    pub message: String,
    /// What the contract said when it reverted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Bytes>,
}

impl RpcError {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

impl std::error::Error for RpcError {}

pub(super) fn dispatch(world: &mut World, method: &str, params: &Value) -> Result<Value, RpcError> {
    match method {
        "eth_chainId" => Ok(quantity(world.chain_id)),
        "net_version" => Ok(json!(world.chain_id.to_string())),
        "web3_clientVersion" => Ok(json!(concat!(
            "wayfare-devchain/",
            env!("CARGO_PKG_VERSION")
        ))),
        "eth_blockNumber" => Ok(quantity(world.number())),
        "eth_gasPrice" => Ok(quantity(world.base_fee + TIP)),
        "eth_maxPriorityFeePerGas" => Ok(quantity(TIP)),
        "eth_feeHistory" => fee_history(world, params),
        "eth_getBalance" | "eth_getTransactionCount" | "eth_getCode" | "eth_getStorageAt" => {
            account(world, method, params)
        }
        "eth_call" | "eth_estimateGas" => run(world, method, params),
        "eth_sendRawTransaction" => {
            let raw: Bytes = required(params, 0, "signed transaction")?;
            let transaction = TxEnvelope::decode_2718_exact(&raw).map_err(|why| {
                RpcError::new(-32602, format!("transaction cannot be decoded: {why}"))
            })?;
            world.send(transaction).map(|hash| json!(hash))
        }
        "eth_getTransactionReceipt" => {
            let hash: B256 = required(params, 0, "transaction hash")?;
            Ok(json!(
                world.mined(hash).and_then(|block| block.receipt.as_ref())
            ))
        }
        "eth_getTransactionByHash" => {
            let hash: B256 = required(params, 0, "transaction hash")?;
            Ok(json!(
                world
                    .mined(hash)
                    .and_then(|block| block.transaction.as_ref())
            ))
        }
        "eth_getBlockByNumber" => {
            let tag: BlockNumberOrTag = required(params, 0, "block")?;
            let full = optional(params, 1)?.unwrap_or(false);
            Ok(json!(
                world
                    .block(height(world, tag))
                    .map(|block| rpc_block(block, full))
            ))
        }
        "eth_getBlockByHash" => {
            let hash: B256 = required(params, 0, "block hash")?;
            let full = optional(params, 1)?.unwrap_or(false);
            Ok(json!(
                world
                    .block_by_hash(hash)
                    .map(|block| rpc_block(block, full))
            ))
        }
        "eth_getBlockReceipts" => {
            let block = match required(params, 0, "block")? {
                BlockId::Hash(hash) => world.block_by_hash(hash.block_hash),
                BlockId::Number(tag) => world.block(height(world, tag)),
            };
            Ok(json!(
                block.map(|block| block.receipt.iter().collect::<Vec<_>>())
            ))
        }
        "eth_getLogs" => logs(world, params),
        "evm_increaseTime" => Ok(json!(world.increase_time(seconds(params)?))),
        "evm_mine" => {
            world.mine();
            Ok(json!("0x0"))
        }
        "evm_setAutomine" => {
            let automine: bool = required(params, 0, "whether to mine at once")?;
            world.pool.withheld = !automine;
            Ok(json!(true))
        }
        "wayfare_setBaseFee" => {
            let fee: U256 = required(params, 0, "wei")?;
            world.base_fee =
                u64::try_from(fee).map_err(|_| RpcError::new(-32602, "wei out of range"))?;
            Ok(json!(true))
        }
        "wayfare_forget" => {
            world.pool.clear();
            Ok(json!(true))
        }
        "wayfare_waits" => {
            let hash: B256 = required(params, 0, "transaction hash")?;
            Ok(json!(world.pool.holds(hash)))
        }
        "wayfare_reorganise" => {
            let id: U256 = required(params, 0, "snapshot")?;
            let keep: bool = required(params, 1, "whether transactions wait again")?;
            Ok(json!(
                u64::try_from(id).is_ok_and(|id| world.reorganise(id, keep))
            ))
        }
        "evm_snapshot" => Ok(quantity(world.snapshot())),
        "evm_revert" => {
            let id: U256 = required(params, 0, "snapshot")?;
            Ok(json!(u64::try_from(id).is_ok_and(|id| world.revert(id))))
        }
        unknown => Err(RpcError::new(
            -32601,
            format!("the method {unknown} does not exist on this chain"),
        )),
    }
}

fn account(world: &mut World, method: &str, params: &Value) -> Result<Value, RpcError> {
    let address: Address = required(params, 0, "address")?;
    at_head(
        world,
        params,
        if method == "eth_getStorageAt" { 2 } else { 1 },
    )?;
    Ok(match method {
        "eth_getBalance" => json!(world.account(address).balance),
        "eth_getTransactionCount" => {
            let at: BlockId = optional(params, 1)?.unwrap_or_default();
            if at == BlockId::pending() {
                quantity(world.pending_nonce(address))
            } else {
                quantity(world.account(address).nonce)
            }
        }
        "eth_getCode" => json!(world.code(address)),
        _ => json!(B256::from(
            world.storage(address, required(params, 1, "slot")?)
        )),
    })
}

fn run(world: &mut World, method: &str, params: &Value) -> Result<Value, RpcError> {
    let request: TransactionRequest = required(params, 0, "call")?;
    at_head(world, params, 1)?;
    let most = request.gas.unwrap_or(TRANSACTION_GAS).min(TRANSACTION_GAS);
    if method == "eth_call" {
        return succeeded(world.simulate(&request, most)?)
            .map(|result| json!(result.into_output().unwrap_or_default()));
    }
    estimate(world, &request, most).map(quantity)
}

/// The least gas limit with which the call succeeds, to about 1.5 %: what a call uses is not enough where it keeps a reserve
/// (EIP-150) or gets a refund at the end.
fn estimate(world: &mut World, request: &TransactionRequest, most: u64) -> Result<u64, RpcError> {
    let used = succeeded(world.simulate(request, most)?)?.tx_gas_used();
    let (mut fails, mut works) = (used.saturating_sub(1), most);
    let mut guess = used + used / 63 + 2_300;
    // The interval at least halves at each step: 24 steps take 2^24 gas to nothing.
    for _ in 0..24 {
        if works - fails <= works / 64 {
            break;
        }
        let guessed = guess.clamp(fails + 1, works);
        match world.simulate(request, guessed) {
            Ok(result) if result.is_success() => works = guessed,
            Ok(_) | Err(_) => fails = guessed,
        }
        guess = fails + (works - fails) / 2;
    }
    Ok(works)
}

fn succeeded(result: ExecutionResult) -> Result<ExecutionResult, RpcError> {
    match result {
        ExecutionResult::Success { .. } => Ok(result),
        ExecutionResult::Revert { output, .. } => Err(RpcError {
            code: 3,
            message: "execution reverted".to_owned(),
            data: Some(output),
        }),
        ExecutionResult::Halt { reason, .. } => Err(RpcError::new(
            -32003,
            format!("execution halted: {reason:?}"),
        )),
    }
}

fn logs(world: &World, params: &Value) -> Result<Value, RpcError> {
    let filter: Filter = required(params, 0, "filter")?;
    let (from, to) = match filter.block_option {
        FilterBlockOption::Range {
            from_block,
            to_block,
        } => (
            height(world, from_block.unwrap_or_default()),
            height(world, to_block.unwrap_or_default()),
        ),
        FilterBlockOption::AtBlockHash(hash) => {
            let block = world
                .block_by_hash(hash)
                .ok_or_else(|| RpcError::new(-32001, "unknown block"))?;
            (block.header.inner.number, block.header.inner.number)
        }
    };
    Ok(json!(world.logs(&filter, from, to)))
}

fn fee_history(world: &World, params: &Value) -> Result<Value, RpcError> {
    let wanted: U256 = required(params, 0, "number of blocks")?;
    let newest = height(world, required(params, 1, "newest block")?).min(world.number());
    let percentiles: Vec<f64> = optional(params, 2)?.unwrap_or_default();
    let count = wanted
        .saturating_to::<u64>()
        .clamp(1, MOST_FEE_BLOCKS)
        .min(newest + 1);
    let oldest = newest + 1 - count;
    let ratio =
        |block: &Mined| block.header.inner.gas_used as f64 / block.header.inner.gas_limit as f64;
    Ok(json!(FeeHistory {
        oldest_block: oldest,
        base_fee_per_gas: (oldest..=newest)
            .filter_map(|number| world.block(number))
            .map(|block| block.header.inner.base_fee_per_gas)
            .chain([Some(world.base_fee)])
            .map(|fee| u128::from(fee.unwrap_or_default()))
            .collect(),
        gas_used_ratio: (oldest..=newest)
            .filter_map(|number| world.block(number))
            .map(ratio)
            .collect(),
        reward: Some(
            (0..count)
                .map(|_| vec![u128::from(TIP); percentiles.len()])
                .collect()
        ),
        ..FeeHistory::default()
    }))
}

fn rpc_block(block: &Mined, full: bool) -> Block {
    let transactions = match &block.transaction {
        Some(transaction) if full => BlockTransactions::Full(vec![transaction.clone()]),
        Some(transaction) => BlockTransactions::Hashes(vec![*transaction.inner.tx_hash()]),
        None if full => BlockTransactions::Full(Vec::new()),
        None => BlockTransactions::Hashes(Vec::new()),
    };
    Block {
        header: block.header.clone(),
        uncles: Vec::new(),
        transactions,
        withdrawals: None,
    }
}

/// Nothing here is ever undecided: pending, safe and finalized are the head.
fn height(world: &World, tag: BlockNumberOrTag) -> u64 {
    match tag {
        BlockNumberOrTag::Number(number) => number,
        BlockNumberOrTag::Earliest => 0,
        BlockNumberOrTag::Latest
        | BlockNumberOrTag::Pending
        | BlockNumberOrTag::Safe
        | BlockNumberOrTag::Finalized => world.number(),
    }
}

/// Refuses questions about the state of past blocks, which this chain does not keep.
fn at_head(world: &World, params: &Value, index: usize) -> Result<(), RpcError> {
    let asked = match optional::<BlockId>(params, index)?.unwrap_or_default() {
        BlockId::Number(tag) => height(world, tag),
        BlockId::Hash(hash) => match world.block_by_hash(hash.block_hash) {
            Some(block) => block.header.inner.number,
            None => return Err(RpcError::new(-32001, "header not found")),
        },
    };
    if asked == world.number() {
        return Ok(());
    }
    Err(RpcError::new(
        -32000,
        format!("the state at block {asked} is not kept; ask at `latest`"),
    ))
}

/// Other tools send a number or a hex string.
fn seconds(params: &Value) -> Result<u64, RpcError> {
    if let Some(seconds) = params.get(0).and_then(Value::as_u64) {
        return Ok(seconds);
    }
    let seconds: U256 = required(params, 0, "seconds")?;
    u64::try_from(seconds).map_err(|_| RpcError::new(-32602, "seconds out of range"))
}

fn quantity(value: u64) -> Value {
    json!(format!("{value:#x}"))
}

fn required<T: DeserializeOwned>(params: &Value, index: usize, what: &str) -> Result<T, RpcError> {
    let value = params.get(index).cloned().unwrap_or(Value::Null);
    serde_json::from_value(value).map_err(|why| {
        RpcError::new(
            -32602,
            format!("parameter {index} ({what}) is missing or malformed: {why}"),
        )
    })
}

fn optional<T: DeserializeOwned>(params: &Value, index: usize) -> Result<Option<T>, RpcError> {
    match params.get(index) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => required(params, index, "optional").map(Some),
    }
}
