//! The embedded chain as a node: blocks, receipts, logs, time, snapshots, and how it refuses. What contracts do on it is compared
//! with anvil in `contracts`.
#![allow(clippy::unwrap_used)]

use alloy::consensus::proofs::calculate_transaction_root;
use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::rpc::types::{Block, TransactionReceipt};
use serde_json::{Value, json};
use wayfare_chain::devchain::{DevChain, Genesis, RpcError, developer};

const CHAIN_ID: u64 = 31_337;

fn chain() -> DevChain {
    let funds = vec![(developer().address(), U256::from(10).pow(U256::from(20)))];
    DevChain::new(&Genesis {
        chain_id: CHAIN_ID,
        funds,
    })
}

fn call(chain: &DevChain, method: &str, params: Value) -> Value {
    chain.call(method, &params).unwrap()
}

fn transfer(nonce: u64) -> TxEip1559 {
    TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 2_000_000_000,
        to: TxKind::Call(Address::repeat_byte(1)),
        value: U256::from(1),
        ..TxEip1559::default()
    }
}

fn send(chain: &DevChain, transaction: TxEip1559) -> Result<B256, RpcError> {
    let signature = developer().sign_digest(transaction.signature_hash());
    let signature = alloy::primitives::Signature::from_raw(signature.as_bytes()).unwrap();
    let raw = Bytes::from(TxEnvelope::from(transaction.into_signed(signature)).encoded_2718());
    chain
        .call("eth_sendRawTransaction", &json!([raw]))
        .map(|hash| serde_json::from_value(hash).unwrap())
}

fn block(chain: &DevChain, which: Value) -> Block {
    serde_json::from_value(call(chain, "eth_getBlockByNumber", json!([which, true]))).unwrap()
}

#[test]
fn blocks_hash_to_their_hash_and_hang_together() {
    let chain = chain();
    for nonce in 0..3 {
        send(&chain, transfer(nonce)).unwrap();
        call(&chain, "evm_mine", json!([]));
    }
    let mut parent = B256::ZERO;
    let mut before = 0;
    for number in 0..=6u64 {
        let block = block(&chain, json!(format!("{number:#x}")));
        assert_eq!(
            block.header.inner.hash_slow(),
            block.header.hash,
            "block {number}"
        );
        assert_eq!(block.header.inner.parent_hash, parent);
        assert!(block.header.inner.timestamp > before);
        let transactions: Vec<TxEnvelope> = block
            .transactions
            .txns()
            .map(|mined| mined.inner.inner().clone())
            .collect();
        assert_eq!(
            block.header.inner.transactions_root,
            calculate_transaction_root(&transactions)
        );
        (parent, before) = (block.header.hash, block.header.inner.timestamp);
        let by_hash = call(&chain, "eth_getBlockByHash", json!([parent, true]));
        assert_eq!(
            serde_json::from_value::<Block>(by_hash).unwrap().header,
            block.header
        );
    }
    assert_eq!(
        call(&chain, "eth_getBlockByNumber", json!(["0x7", false])),
        Value::Null
    );
}

#[test]
fn a_receipt_tells_what_happened() {
    let chain = chain();
    let hash = send(&chain, transfer(0)).unwrap();
    let receipt: TransactionReceipt =
        serde_json::from_value(call(&chain, "eth_getTransactionReceipt", json!([hash]))).unwrap();
    assert!(receipt.status());
    assert_eq!((receipt.gas_used, receipt.block_number), (21_000, Some(1)));
    assert_eq!(
        receipt.block_hash,
        Some(block(&chain, json!("latest")).header.hash)
    );
    assert_eq!(
        call(
            &chain,
            "eth_getBalance",
            json!([Address::repeat_byte(1), "latest"])
        ),
        json!("0x1")
    );
    assert_eq!(
        call(&chain, "eth_getTransactionReceipt", json!([B256::ZERO])),
        Value::Null
    );
    assert_eq!(
        call(&chain, "eth_getTransactionByHash", json!([hash]))["blockNumber"],
        json!("0x1")
    );
}

#[test]
fn bad_transactions_are_refused_as_other_nodes_do() {
    let chain = chain();
    send(&chain, transfer(0)).unwrap();
    let check = |transaction, expect: &str| {
        let told = send(&chain, transaction).unwrap_err();
        assert!(
            told.message.contains(expect),
            "{told} does not say {expect:?}"
        );
    };
    check(transfer(0), "already known");
    check(
        TxEip1559 {
            value: U256::from(2),
            ..transfer(0)
        },
        "nonce too low: next nonce 1, tx nonce 0",
    );
    check(transfer(2), "nonce too high: next nonce 1, tx nonce 2");
    check(
        TxEip1559 {
            value: U256::MAX >> 8,
            ..transfer(1)
        },
        "insufficient funds",
    );
    check(
        TxEip1559 {
            max_fee_per_gas: 1,
            ..transfer(1)
        },
        "less than block base fee",
    );
    check(
        TxEip1559 {
            chain_id: 1,
            ..transfer(1)
        },
        "invalid chain id",
    );
    check(
        TxEip1559 {
            gas_limit: 20_000,
            ..transfer(1)
        },
        "gas",
    );
    // None of them moved anything.
    assert_eq!(call(&chain, "eth_blockNumber", json!([])), json!("0x1"));
    send(&chain, transfer(1)).unwrap();
}

#[test]
fn time_runs_with_the_clock_and_can_be_moved() {
    let chain = chain();
    let at = |chain: &DevChain| block(chain, json!("latest")).header.inner.timestamp;
    let start = at(&chain);
    // A burst of blocks takes the chain ahead of the clock; moving time starts from there.
    for _ in 0..50 {
        call(&chain, "evm_mine", json!([]));
    }
    let ahead = at(&chain);
    assert!(ahead >= start + 50);
    call(&chain, "evm_increaseTime", json!([1_000]));
    call(&chain, "evm_mine", json!([]));
    let moved = at(&chain);
    assert!(
        (ahead + 1_000..ahead + 1_010).contains(&moved),
        "{ahead} to {moved}"
    );
    call(&chain, "evm_increaseTime", json!(["0x10"]));
    call(&chain, "evm_mine", json!([]));
    assert!(at(&chain) >= moved + 16);
}

#[test]
fn snapshots_take_everything_back_once() {
    let chain = chain();
    let first = call(&chain, "evm_snapshot", json!([]));
    let hash = send(&chain, transfer(0)).unwrap();
    let second = call(&chain, "evm_snapshot", json!([]));
    call(&chain, "evm_increaseTime", json!([1_000_000]));
    assert_eq!(call(&chain, "evm_revert", json!([first])), json!(true));
    assert_eq!(call(&chain, "eth_blockNumber", json!([])), json!("0x0"));
    assert_eq!(
        call(&chain, "eth_getTransactionReceipt", json!([hash])),
        Value::Null
    );
    assert_eq!(
        call(
            &chain,
            "eth_getTransactionCount",
            json!([developer().address(), "latest"])
        ),
        json!("0x0")
    );
    for used in [first, second, json!("0x63")] {
        assert_eq!(
            call(&chain, "evm_revert", json!([used])),
            json!(false),
            "{used}"
        );
    }
    // The same transaction can be mined again.
    assert_eq!(send(&chain, transfer(0)).unwrap(), hash);
}

#[test]
fn a_fee_history_has_the_asked_size() {
    let chain = chain();
    for _ in 0..4 {
        call(&chain, "evm_mine", json!([]));
    }
    let history = call(
        &chain,
        "eth_feeHistory",
        json!(["0x3", "latest", [20.0, 50.0]]),
    );
    assert_eq!(history["oldestBlock"], json!("0x2"));
    for (key, size) in [("baseFeePerGas", 4), ("gasUsedRatio", 3), ("reward", 3)] {
        assert_eq!(history[key].as_array().unwrap().len(), size, "{key}");
    }
    let all = call(&chain, "eth_feeHistory", json!(["0x400", "latest", []]));
    assert_eq!(all["oldestBlock"], json!("0x0"));
}

#[test]
fn hostile_requests_are_errors_and_nothing_else() {
    let chain = chain();
    let methods = [
        "eth_call",
        "eth_estimateGas",
        "eth_sendRawTransaction",
        "eth_getLogs",
        "eth_getBlockByNumber",
        "eth_getBalance",
        "eth_getStorageAt",
        "eth_feeHistory",
        "evm_revert",
        "evm_increaseTime",
        "nonsense",
        "",
    ];
    let hostile = [
        json!(null),
        json!({}),
        json!("x"),
        json!([]),
        json!([null]),
        json!([[[]]]),
        json!(["0xzz", -1]),
    ];
    for method in methods {
        for params in &hostile {
            assert!(chain.call(method, params).is_err(), "{method} {params}");
        }
    }
    let past = chain
        .call("eth_getBalance", &json!([Address::ZERO, "0x9"]))
        .unwrap_err();
    assert!(past.message.contains("is not kept"), "{past}");
    let huge = json!([{"fromBlock": "0x0", "toBlock": "0xffffffffffffffff"}]);
    assert_eq!(call(&chain, "eth_getLogs", huge), json!([]));
    let lots = json!(["0xffffffffffffffffffffffffffff", "latest", []]);
    assert_eq!(
        call(&chain, "eth_feeHistory", lots)["oldestBlock"],
        json!("0x0")
    );
    call(&chain, "evm_increaseTime", json!([u64::MAX]));
    assert!(chain.call("evm_mine", &json!([])).is_ok());
}

/// The program, ended with the test whatever happens.
struct Program(std::process::Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_program_deploys_and_says_where_and_refuses_a_used_port() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let program = || Command::new(env!("CARGO_BIN_EXE_wayfare-devchain"));
    let fund = format!("{}=2.5", Address::repeat_byte(7));
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--chain-id",
        "1234",
        "--deploy",
        "--fund",
        &fund,
    ];
    let mut running = Program(
        program()
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut printed = String::new();
    for line in BufReader::new(running.0.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        printed.push_str(&line);
        if line == "}" {
            break;
        }
    }
    let report: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(report["chain_id"], 1234);
    for contract in ["token", "vault"] {
        report[contract]
            .as_str()
            .unwrap()
            .parse::<Address>()
            .unwrap();
    }
    let used = report["rpc"]
        .as_str()
        .unwrap()
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    let refused = program().args(["--listen", &used]).output().unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("in use by another program") && said.contains(&used),
        "{said}"
    );
    let malformed = program().args(["--fund", "nobody=1"]).output().unwrap();
    assert!(
        String::from_utf8(malformed.stderr)
            .unwrap()
            .contains("not an address")
    );
}
