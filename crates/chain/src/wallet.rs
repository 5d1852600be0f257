//! One account on one chain: reads contracts, signs and sends transactions, waits until they are confirmed.
//!
//! Transactions of one wallet are sent one after the other, so concurrent callers never take the same nonce; they wait for
//! their confirmations side by side. It refuses to know what the transactions mean, and to send again what may still be mined.

use std::sync::Arc;
use std::time::Duration;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::types::{Filter, Log, TransactionReceipt, TransactionRequest};
use alloy::sol_types::SolCall;
use alloy::transports::TransportResult;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};
use wayfare_identity::Signer;
use wayfare_payment::{Amount, ChainError};

use crate::fault::Fault;

/// Tries at a nonce before giving up: each loses only to another program with the same key.
const NONCE_TRIES: usize = 3;
/// Gas limit over the estimate, in percent: a fifth more, for slots that other transactions fill in the meantime.
const GAS_MARGIN: u64 = 120;

/// Where the chain is and how patient to be with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://host:port` of a JSON-RPC server.
    pub url: String,
    /// The chain that it must serve.
    pub chain_id: u64,
    /// Blocks that a transaction must have, its own included, before it counts.
    pub confirmations: u64,
    /// The longest one RPC call may take.
    pub call_timeout: Duration,
    /// The longest to wait for confirmations.
    pub confirm_timeout: Duration,
    /// Pause between two looks at a transaction.
    pub poll: Duration,
    /// The most to pay for a unit of gas, in wei; `None` pays what the chain asks.
    pub gas_price_cap: Option<u128>,
}

impl Endpoint {
    /// One confirmation; 10 s a call (a slow server, not a dead one), two minutes for a transaction (sixty blocks of Polygon).
    #[must_use]
    pub fn new(url: impl Into<String>, chain_id: u64) -> Self {
        Self {
            url: url.into(),
            chain_id,
            confirmations: 1,
            call_timeout: Duration::from_secs(10),
            confirm_timeout: Duration::from_secs(120),
            poll: Duration::from_millis(100),
            gas_price_cap: None,
        }
    }
}

/// An account that can act. Clones share the nonce queue; make one wallet for each key.
#[derive(Debug, Clone)]
pub struct Wallet {
    endpoint: Arc<Endpoint>,
    provider: RootProvider,
    signer: Arc<dyn Signer>,
    /// The nonce after the last one we sent, while that one is not confirmed: servers behind a balancer lag.
    next_nonce: Arc<Mutex<Option<u64>>>,
}

impl Wallet {
    /// Touches nothing: the first call finds out whether the server is there; [`Wallet::check`] asks at once.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`] when the URL is not one.
    pub fn new(endpoint: Endpoint, signer: Arc<dyn Signer>) -> Result<Self, ChainError> {
        let bad = |why: String| {
            ChainError::Unreachable(format!("{:?} is not an RPC address: {why}", endpoint.url))
        };
        let url: alloy::transports::http::reqwest::Url = endpoint
            .url
            .parse()
            .map_err(|why| bad(format!("{why}; write http://host:port")))?;
        if url.scheme() != "http" {
            return Err(bad(format!("this build speaks http, not {}", url.scheme())));
        }
        let provider = RootProvider::new_http(url);
        Ok(Self {
            endpoint: Arc::new(endpoint),
            provider,
            signer,
            next_nonce: Arc::default(),
        })
    }

    /// The account.
    #[must_use]
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// Signs for the account, for messages that are not transactions.
    #[must_use]
    pub fn signer(&self) -> &dyn Signer {
        &*self.signer
    }

    /// EIP-155 id of the chain.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.endpoint.chain_id
    }

    /// Asks whether the server is there and serves the right chain.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`], [`ChainError::WrongChain`].
    pub async fn check(&self) -> Result<(), ChainError> {
        let found = self.ask(self.provider.get_chain_id()).await?;
        let expected = self.endpoint.chain_id;
        if found == expected {
            Ok(())
        } else {
            Err(ChainError::WrongChain { expected, found })
        }
    }

    /// Asks whether there is code at `contract`.
    ///
    /// # Errors
    /// [`ChainError::NoContract`] when there is none.
    pub async fn check_contract(&self, contract: Address) -> Result<(), ChainError> {
        let code = self
            .ask(async { self.provider.get_code_at(contract).await })
            .await?;
        if code.is_empty() {
            Err(ChainError::NoContract(contract))
        } else {
            Ok(())
        }
    }

    /// Native coin of the account, in wei.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn native_balance(&self, account: Address) -> Result<U256, ChainError> {
        self.ask(async { self.provider.get_balance(account).await })
            .await
    }

    /// The chain's height.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn block_number(&self) -> Result<u64, ChainError> {
        self.ask(self.provider.get_block_number()).await
    }

    /// The chain's own clock: Unix seconds of its newest block. Delays of the contracts run on it.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn chain_time(&self) -> Result<u64, ChainError> {
        let latest = alloy::eips::BlockNumberOrTag::Latest;
        let block = self
            .ask(async { self.provider.get_block_by_number(latest).await })
            .await?;
        match block {
            Some(block) => Ok(block.header.inner.timestamp),
            None => Err(ChainError::Unreachable(
                "the server knows no newest block".to_owned(),
            )),
        }
    }

    /// Calls a view.
    ///
    /// # Errors
    /// [`ChainError::NoContract`] when nothing answers there, [`ChainError::Refused`] when it reverts.
    pub async fn read<C: SolCall>(
        &self,
        contract: Address,
        call: &C,
    ) -> Result<C::Return, ChainError> {
        let answer = self.read_raw(contract, call.abi_encode().into()).await?;
        C::abi_decode_returns(&answer).map_err(|_| ChainError::NoContract(contract))
    }

    /// Calls a view whose answer is not as its declaration says.
    pub(crate) async fn read_raw(
        &self,
        contract: Address,
        input: Bytes,
    ) -> Result<Bytes, ChainError> {
        let request = self.request(TxKind::Call(contract), U256::ZERO, input);
        let answer = self
            .ask(async { self.provider.call(request).await })
            .await?;
        if answer.is_empty() {
            return Err(ChainError::NoContract(contract));
        }
        Ok(answer)
    }

    /// A storage slot, for what a contract keeps and shows by no view.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn storage(&self, contract: Address, slot: u64) -> Result<U256, ChainError> {
        let slot = U256::from(slot);
        self.ask(async { self.provider.get_storage_at(contract, slot).await })
            .await
    }

    /// Events, oldest first.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, ChainError> {
        self.ask(self.provider.get_logs(filter)).await
    }

    /// Sends a call and waits for its confirmations.
    ///
    /// # Errors
    /// [`ChainError::Refused`] with the contract's reason; [`ChainError::Pending`] when its fate is not known in time.
    pub async fn call<C: SolCall>(
        &self,
        contract: Address,
        call: &C,
    ) -> Result<TransactionReceipt, ChainError> {
        let input = call.abi_encode().into();
        self.transact(TxKind::Call(contract), U256::ZERO, input, None)
            .await
    }

    /// As [`Wallet::call`], with this gas limit: an estimate is too low for a call that survives the failure of what it calls.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn call_with_gas<C: SolCall>(
        &self,
        contract: Address,
        call: &C,
        gas: u64,
    ) -> Result<TransactionReceipt, ChainError> {
        let input = call.abi_encode().into();
        self.transact(TxKind::Call(contract), U256::ZERO, input, Some(gas))
            .await
    }

    /// Deploys init code; the answer is the new contract.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn deploy(&self, init_code: Bytes) -> Result<Address, ChainError> {
        let receipt = self
            .transact(TxKind::Create, U256::ZERO, init_code, None)
            .await?;
        receipt
            .contract_address
            .ok_or_else(|| ChainError::Refused("the deployment made no contract".to_owned()))
    }

    /// Sends native coin, in wei.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn send_native(
        &self,
        to: Address,
        wei: U256,
    ) -> Result<TransactionReceipt, ChainError> {
        self.transact(TxKind::Call(to), wei, Bytes::new(), None)
            .await
    }

    // ------------------------------------------------------------------------------------------------- private

    async fn transact(
        &self,
        to: TxKind,
        value: U256,
        input: Bytes,
        gas: Option<u64>,
    ) -> Result<TransactionReceipt, ChainError> {
        let (hash, nonce) = self.send(to, value, input.clone(), gas).await?;
        debug!(%hash, nonce, from = %self.address(), "transaction sent");
        let confirmed = self.confirmed(hash).await;
        let mut next = self.next_nonce.lock().await;
        // Confirmed: the server counts it by now. Not confirmed: it may be lost, and a gap would hold up all that follow.
        if confirmed.is_err() || *next == Some(nonce + 1) {
            *next = None;
        }
        drop(next);
        let receipt = confirmed?;
        if receipt.status() {
            info!(%hash, gas = receipt.gas_used, block = receipt.block_number, "transaction confirmed");
            return Ok(receipt);
        }
        // Receipts carry no reason: run it again on the newest state to learn one.
        let mut request = self.request(to, value, input);
        request.gas = gas;
        let reason = self
            .asked(async { self.provider.call(request).await })
            .await;
        Err(match reason {
            Err(fault) => fault.into_chain_error(self.address()),
            Ok(_) => ChainError::Refused(
                "reverted, and would not revert now: the chain moved".to_owned(),
            ),
        })
    }

    /// Takes a nonce, signs and sends; the lock is held until the server has the transaction.
    async fn send(
        &self,
        to: TxKind,
        value: U256,
        input: Bytes,
        gas: Option<u64>,
    ) -> Result<(B256, u64), ChainError> {
        let mut next = self.next_nonce.lock().await;
        let mut last = Fault::NonceTaken;
        for _ in 0..NONCE_TRIES {
            let sent = self.send_once(*next, to, value, input.clone(), gas);
            match sent.await {
                Ok((hash, nonce)) => {
                    *next = Some(nonce + 1);
                    return Ok((hash, nonce));
                }
                Err(fault @ Fault::NonceTaken) => {
                    *next = None;
                    last = fault;
                }
                Err(fault) => return Err(fault.into_chain_error(self.address())),
            }
        }
        Err(last.into_chain_error(self.address()))
    }

    async fn send_once(
        &self,
        expected: Option<u64>,
        to: TxKind,
        value: U256,
        input: Bytes,
        gas: Option<u64>,
    ) -> Result<(B256, u64), Fault> {
        let from = self.address();
        let gas_limit = match gas {
            Some(gas) => gas,
            None => {
                let request = self.request(to, value, input.clone());
                let estimate = self.provider.estimate_gas(request);
                let gas = self.asked(async { estimate.await }).await?;
                gas.saturating_mul(GAS_MARGIN) / 100
            }
        };
        let fees = self.asked(self.provider.estimate_eip1559_fees()).await?;
        if let Some(cap) = self
            .endpoint
            .gas_price_cap
            .filter(|cap| fees.max_fee_per_gas > *cap)
        {
            return Err(Fault::Other(ChainError::Refused(format!(
                "gas costs up to {} wei and the cap is {cap}: wait, or raise the cap",
                fees.max_fee_per_gas
            ))));
        }
        let known = self
            .asked(async { self.provider.get_transaction_count(from).pending().await })
            .await?;
        let nonce = known.max(expected.unwrap_or(0));
        let transaction = TxEip1559 {
            chain_id: self.endpoint.chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            to,
            value,
            input,
            ..TxEip1559::default()
        };
        let signature = self
            .signer
            .sign_digest(transaction.signature_hash())
            .map_err(|why| Fault::Other(ChainError::Refused(why.to_string())))?;
        let signature = alloy::primitives::Signature::from_raw(signature.as_bytes())
            .expect("identity's signatures have 65 bytes and v 27 or 28");
        let envelope = TxEnvelope::from(transaction.into_signed(signature));
        let (hash, raw) = (*envelope.tx_hash(), envelope.encoded_2718());
        match self
            .asked(async { self.provider.send_raw_transaction(&raw).await.map(|_| ()) })
            .await
        {
            // No answer may still mean that it arrived: waiting for its receipt will tell.
            Ok(()) | Err(Fault::AlreadyKnown | Fault::Other(ChainError::Unreachable(_))) => {
                Ok((hash, nonce))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Waits until the transaction has its confirmations on the canonical chain; a reorganisation starts the wait again.
    async fn confirmed(&self, hash: B256) -> Result<TransactionReceipt, ChainError> {
        let deadline = Instant::now() + self.endpoint.confirm_timeout;
        loop {
            // Errors of the server here are not the transaction's: look again until the deadline.
            if let Ok(Some(receipt)) = self.ask(self.provider.get_transaction_receipt(hash)).await {
                let needed = receipt
                    .block_number
                    .unwrap_or(u64::MAX)
                    .saturating_add(self.endpoint.confirmations);
                let deep = self.endpoint.confirmations <= 1
                    || self
                        .block_number()
                        .await
                        .is_ok_and(|head| head.saturating_add(1) >= needed);
                if deep {
                    return Ok(receipt);
                }
            }
            if Instant::now() >= deadline {
                return Err(ChainError::Pending(hash));
            }
            sleep(self.endpoint.poll).await;
        }
    }

    fn request(&self, to: TxKind, value: U256, input: Bytes) -> TransactionRequest {
        let mut request = TransactionRequest::default()
            .from(self.address())
            .value(value)
            .input(input.into());
        request.to = Some(to);
        request
    }

    async fn ask<T>(
        &self,
        call: impl Future<Output = TransportResult<T>>,
    ) -> Result<T, ChainError> {
        self.asked(call)
            .await
            .map_err(|fault| fault.into_chain_error(self.address()))
    }

    async fn asked<T>(&self, call: impl Future<Output = TransportResult<T>>) -> Result<T, Fault> {
        match timeout(self.endpoint.call_timeout, call).await {
            Ok(answer) => answer.map_err(Fault::from),
            Err(_) => Err(Fault::Other(ChainError::Unreachable(format!(
                "no answer from {} within {:?}",
                self.endpoint.url, self.endpoint.call_timeout
            )))),
        }
    }
}

/// A uint96 of a contract as money.
pub(crate) fn amount(units: alloy::primitives::aliases::U96) -> Amount {
    Amount::new(U256::from(units))
}
