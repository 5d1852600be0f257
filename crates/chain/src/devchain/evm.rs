//! An EVM and nothing around it: no blocks, no keys, no fees. Whoever calls says who he is, so a thousand actors cost nothing
//! and a call takes microseconds. Gas is what a transaction would use, its 21,000 and its calldata included.
//! It refuses to check signatures of transactions: that is a chain's business, and no rule of a contract rests on it.

use std::fmt;

use alloy::primitives::{Address, Bytes, Log, TxKind, U256};
use alloy::sol_types::SolCall;
use revm::context::result::{ExecutionResult, Output};
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::database::{CacheDB, EmptyDB};
use revm::primitives::hardfork::SpecId;
use revm::{Context, ExecuteCommitEvm, MainBuilder, MainContext};

use super::world::TRANSACTION_GAS;

/// What one call came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether it took effect.
    pub done: bool,
    /// What it returned, or why it reverted.
    pub output: Bytes,
    /// Gas of the whole transaction.
    pub gas: u64,
    /// What it said.
    pub logs: Vec<Log>,
}

/// The machine and its state. A clone is a snapshot.
#[derive(Clone)]
pub struct Evm {
    accounts: CacheDB<EmptyDB>,
    chain_id: u64,
    now: u64,
}

impl fmt::Debug for Evm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evm")
            .field("chain_id", &self.chain_id)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl Evm {
    /// An empty state at a time, in Unix seconds.
    #[must_use]
    pub fn new(chain_id: u64, now: u64) -> Self {
        Self {
            accounts: CacheDB::new(EmptyDB::new()),
            chain_id,
            now,
        }
    }

    /// EIP-155 id that contracts see.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The timestamp that contracts see, in Unix seconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Lets time pass.
    pub fn pass(&mut self, seconds: u64) {
        self.now = self.now.saturating_add(seconds);
    }

    /// Puts a contract there; `None` when its constructor reverted.
    pub fn deploy(&mut self, from: Address, code: Vec<u8>) -> Option<Address> {
        match self.run(from, TxKind::Create, code.into()) {
            ExecutionResult::Success {
                output: Output::Create(_, address),
                ..
            } => address,
            ExecutionResult::Success { .. }
            | ExecutionResult::Revert { .. }
            | ExecutionResult::Halt { .. } => None,
        }
    }

    /// One transaction, and what came of it.
    pub fn call<C: SolCall>(&mut self, from: Address, to: Address, call: &C) -> Outcome {
        self.send(from, to, call.abi_encode().into())
    }

    /// The same, already encoded.
    pub fn send(&mut self, from: Address, to: Address, data: Bytes) -> Outcome {
        let result = self.run(from, TxKind::Call(to), data);
        let (done, gas, logs) = (
            result.is_success(),
            result.tx_gas_used(),
            result.logs().to_vec(),
        );
        Outcome {
            done,
            output: result.into_output().unwrap_or_default(),
            gas,
            logs,
        }
    }

    /// Reads: the answer of a call that must not revert.
    ///
    /// # Panics
    /// When it reverts: a view that cannot answer is a defect of the caller.
    pub fn view<C: SolCall>(&mut self, to: Address, call: &C) -> C::Return {
        let outcome = self.call(Address::ZERO, to, call);
        assert!(
            outcome.done,
            "{} reverted: {}",
            C::SIGNATURE,
            outcome.output
        );
        C::abi_decode_returns(&outcome.output).expect("the binding belongs to the contract")
    }

    fn run(&mut self, from: Address, kind: TxKind, data: Bytes) -> ExecutionResult {
        let mut cfg = CfgEnv::new_with_spec(SpecId::PRAGUE).with_chain_id(self.chain_id);
        cfg.disable_balance_check = true;
        cfg.disable_base_fee = true;
        cfg.disable_nonce_check = true;
        let block = BlockEnv {
            number: U256::from(1),
            timestamp: U256::from(self.now),
            gas_limit: TRANSACTION_GAS,
            basefee: 0,
            ..BlockEnv::default()
        };
        let nonce = self
            .accounts
            .load_account(from)
            .map_or(0, |account| account.info.nonce);
        let transaction = TxEnv::builder()
            .caller(from)
            .kind(kind)
            .data(data)
            .nonce(nonce)
            .gas_limit(TRANSACTION_GAS)
            .gas_price(0)
            .chain_id(Some(self.chain_id))
            .build()
            .expect("every field is given and none contradicts another");
        let mut evm = Context::mainnet()
            .with_db(&mut self.accounts)
            .with_block(block)
            .with_cfg(cfg)
            .build_mainnet();
        evm.transact_commit(transaction)
            .expect("checks of balance, nonce and fee are off, and memory does not fail")
    }
}
