//! One account on one chain: reads contracts, and has its transactions brought into blocks.
//!
//! Transactions go through an [`Outbox`](wayfare_payment::Outbox), which a task of the wallet drives: in the order in which they are
//! asked for, persisted before they leave where the wallet has a ledger, replaced when stuck, sent again after a reorganisation.
//! [`Wallet::transactions`] is the history, with the state of each as the chain shows it.
//! It refuses to know what the transactions mean, and to call anything done that no block shows.

mod driver;
mod endpoint;
mod look;
mod servers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::types::{Filter, Log, TransactionReceipt};
use alloy::sol_types::SolCall;
use alloy::transports::TransportResult;
use tokio::sync::{OnceCell, mpsc, oneshot};
use tokio::time::timeout;
use wayfare_identity::Signer;
use wayfare_payment::{
    Amount, ChainError, Errand, Job, JobId, JobState, Ledger, Moot, OutboxConfig, Purpose,
};

use driver::{Command, Driver, Ending};
use servers::Servers;

pub use endpoint::Endpoint;

/// An account that can act. Clones share its outbox; make one wallet for each key.
#[derive(Clone)]
pub struct Wallet {
    endpoint: Arc<Endpoint>,
    servers: Servers,
    signer: Arc<dyn Signer>,
    ledger: Option<Arc<dyn Ledger>>,
    /// The task, once there is something to do for it.
    driver: Arc<OnceCell<mpsc::Sender<Command>>>,
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wallet")
            .field("endpoint", &self.endpoint)
            .field("account", &self.signer.address())
            .field("persistent", &self.ledger.is_some())
            .finish_non_exhaustive()
    }
}

/// A transaction as its owner is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionView {
    /// Its number among the wallet's.
    pub job: JobId,
    /// What it is for.
    pub purpose: Purpose,
    /// How far it has come.
    pub state: JobState,
    /// Why it does not move on, where there is a reason.
    pub waiting: Option<String>,
    /// The one in a block, otherwise the newest that was sent.
    pub hash: Option<B256>,
    /// What it cost, in wei, once it is in a block.
    pub paid: Option<U256>,
    /// How often it was replaced by a dearer one.
    pub replaced: usize,
    /// How often a block that it was in has been taken back.
    pub reorganised: u32,
    /// Unix seconds when it was asked for.
    pub queued: u64,
    /// Unix seconds when its state last changed.
    pub changed: u64,
    /// Nothing can change any more.
    pub last: bool,
}

impl From<&Job> for TransactionView {
    fn from(job: &Job) -> Self {
        Self {
            job: job.id,
            purpose: job.purpose.clone(),
            state: job.state.clone(),
            waiting: job.waiting.clone(),
            hash: job.hash(),
            paid: job.mined().map(|mined| mined.paid()),
            replaced: job.replaced(),
            reorganised: job.reorganised,
            queued: job.queued,
            changed: job.changed,
            last: job.last,
        }
    }
}

impl Wallet {
    /// A wallet that forgets: for tools and tests. Touches nothing: the first call finds out whether a server is there;
    /// [`Wallet::check`] asks at once.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`] when an address is none.
    pub fn new(endpoint: Endpoint, signer: Arc<dyn Signer>) -> Result<Self, ChainError> {
        Self::with(endpoint, signer, None)
    }

    /// A wallet that remembers: its transactions are written down before they leave, and what an earlier run left unfinished goes on
    /// at once. No other wallet of the same key and chain may be open: two would take the same nonces.
    ///
    /// # Errors
    /// As [`Wallet::new`]; [`ChainError::Refused`] when the ledger cannot be read.
    pub async fn open(
        endpoint: Endpoint,
        signer: Arc<dyn Signer>,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Self, ChainError> {
        let wallet = Self::with(endpoint, signer, Some(ledger))?;
        wallet.driver().await?;
        Ok(wallet)
    }

    fn with(
        endpoint: Endpoint,
        signer: Arc<dyn Signer>,
        ledger: Option<Arc<dyn Ledger>>,
    ) -> Result<Self, ChainError> {
        Ok(Self {
            servers: Servers::new(&endpoint)?,
            endpoint: Arc::new(endpoint),
            signer,
            ledger,
            driver: Arc::default(),
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

    /// Asks whether a server is there and serves the right chain.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`], [`ChainError::WrongChain`].
    pub async fn check(&self) -> Result<(), ChainError> {
        self.any(|provider| async move { provider.get_chain_id().await })
            .await
            .map(drop)
    }

    /// Asks whether there is code at `contract`.
    ///
    /// # Errors
    /// [`ChainError::NoContract`] when there is none.
    pub async fn check_contract(&self, contract: Address) -> Result<(), ChainError> {
        let code = self
            .any(|provider| async move { provider.get_code_at(contract).await })
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
    /// [`ChainError::Unreachable`], [`ChainError::Contradiction`].
    pub async fn native_balance(&self, account: Address) -> Result<U256, ChainError> {
        self.agreed(
            |provider, block| async move { provider.get_balance(account).block_id(block).await },
        )
        .await
    }

    /// The chain's height.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn block_number(&self) -> Result<u64, ChainError> {
        self.any(|provider| async move { provider.get_block_number().await })
            .await
    }

    /// The chain's own clock: Unix seconds of its newest block. Delays of the contracts run on it.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn chain_time(&self) -> Result<u64, ChainError> {
        let latest = BlockNumberOrTag::Latest;
        let block = self
            .any(|provider| async move { provider.get_block_by_number(latest).await })
            .await?;
        match block {
            Some(block) => Ok(block.header.inner.timestamp),
            None => Err(ChainError::Unreachable(
                "the server knows no newest block".to_owned(),
            )),
        }
    }

    /// What a unit of gas costs now, in wei: what to offer at most in order to be mined soon.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn gas_price(&self) -> Result<u128, ChainError> {
        let fees = self
            .any(|provider| async move { provider.estimate_eip1559_fees().await })
            .await?;
        Ok(fees.max_fee_per_gas)
    }

    /// Calls a view. Where there are several servers, two must agree.
    ///
    /// # Errors
    /// [`ChainError::NoContract`] when nothing answers there, [`ChainError::Refused`] when it reverts,
    /// [`ChainError::Contradiction`] when two servers tell different things.
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
        let request = driver::request(
            self.address(),
            &errand(Some(contract), U256::ZERO, input, None),
        );
        let answer = self
            .agreed(|provider, block| {
                let request = request.clone();
                async move { provider.call(request).block(block).await }
            })
            .await?;
        if answer.is_empty() {
            return Err(ChainError::NoContract(contract));
        }
        Ok(answer)
    }

    /// A storage slot, for what a contract keeps and shows by no view.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`], [`ChainError::Contradiction`].
    pub async fn storage(&self, contract: Address, slot: u64) -> Result<U256, ChainError> {
        let slot = U256::from(slot);
        self.agreed(|provider, block| async move {
            provider
                .get_storage_at(contract, slot)
                .block_id(block)
                .await
        })
        .await
    }

    /// Events, oldest first.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, ChainError> {
        self.any(|provider| {
            let filter = filter.clone();
            async move { provider.get_logs(&filter).await }
        })
        .await
    }

    /// Sends a call and waits for its confirmations.
    ///
    /// # Errors
    /// [`ChainError::Refused`] with the contract's reason; [`ChainError::Pending`] when its fate is not known in time;
    /// [`ChainError::Waiting`] when it was not sent in time, with the reason: then it is not sent later, either.
    pub async fn call<C: SolCall>(
        &self,
        contract: Address,
        call: &C,
    ) -> Result<TransactionReceipt, ChainError> {
        self.call_for(Purpose::Call, contract, call).await
    }

    /// As [`Wallet::call`], and the history says what for. Asking again for a settlement that is on its way waits for that one, and
    /// one that could not be sent in time is sent later.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn call_for<C: SolCall>(
        &self,
        purpose: Purpose,
        contract: Address,
        call: &C,
    ) -> Result<TransactionReceipt, ChainError> {
        self.begin_call(purpose, contract, call)
            .await?
            .ended()
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
        let errand = errand(Some(contract), U256::ZERO, input, Some(gas));
        self.begin(Purpose::Call, errand).await?.ended().await
    }

    /// Deploys init code; the answer is the new contract.
    ///
    /// # Errors
    /// As [`Wallet::call`].
    pub async fn deploy(&self, init_code: Bytes) -> Result<Address, ChainError> {
        let errand = errand(None, U256::ZERO, init_code, None);
        let receipt = self.begin(Purpose::Deploy, errand).await?.ended().await?;
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
        let errand = errand(Some(to), wei, Bytes::new(), None);
        self.begin(Purpose::Transfer, errand).await?.ended().await
    }

    /// The wallet's transactions, newest first, as the chain shows them; those of earlier runs where it has a ledger.
    ///
    /// # Errors
    /// [`ChainError::Refused`] when the wallet has stopped because its ledger failed.
    pub async fn transactions(&self) -> Result<Vec<TransactionView>, ChainError> {
        let (jobs, told) = oneshot::channel();
        self.command(Command::History { jobs }).await?;
        let jobs = told.await.map_err(|_| stopped())?;
        Ok(jobs.iter().map(TransactionView::from).collect())
    }

    /// Takes a transaction back. One that is not signed is gone; one in circulation is replaced by one that does nothing, and until
    /// that is mined may still win.
    ///
    /// # Errors
    /// As [`Wallet::transactions`].
    pub async fn withdraw(&self, job: JobId, why: &str) -> Result<(), ChainError> {
        self.moot(job, Moot::Withdrawn(why.to_owned())).await
    }

    // ------------------------------------------------------------------------------------------------- private

    /// Puts a call into the outbox.
    pub(crate) async fn begin_call<C: SolCall>(
        &self,
        purpose: Purpose,
        contract: Address,
        call: &C,
    ) -> Result<Begun, ChainError> {
        let input = call.abi_encode().into();
        self.begin(purpose, errand(Some(contract), U256::ZERO, input, None))
            .await
    }

    /// The gas that a call would need, or why it would be refused.
    pub(crate) async fn estimate<C: SolCall>(
        &self,
        contract: Address,
        call: &C,
    ) -> Result<u64, ChainError> {
        let input = call.abi_encode().into();
        let errand = errand(Some(contract), U256::ZERO, input, None);
        let request = driver::request(self.address(), &errand);
        let gas = self.servers.estimate(request).await;
        gas.map_err(|fault| fault.into_chain_error(self.address()))
    }

    /// Between two looks at what somebody else does.
    pub(crate) fn pause(&self) -> Duration {
        self.endpoint.poll * 5
    }

    async fn begin(&self, purpose: Purpose, errand: Errand) -> Result<Begun, ChainError> {
        let (taken, job) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        self.command(Command::Send {
            purpose,
            errand,
            taken,
            ending,
        })
        .await?;
        Ok(Begun {
            wallet: self.clone(),
            job: job.await.ok(),
            ended,
        })
    }

    /// Says that a job is pointless.
    pub(crate) async fn moot(&self, job: JobId, moot: Moot) -> Result<(), ChainError> {
        let (done, told) = oneshot::channel();
        self.command(Command::Moot { job, moot, done }).await?;
        told.await.map_err(|_| stopped())
    }

    async fn command(&self, command: Command) -> Result<(), ChainError> {
        let driver = self.driver().await?;
        driver.send(command).await.map_err(|_| stopped())
    }

    async fn driver(&self) -> Result<&mpsc::Sender<Command>, ChainError> {
        self.driver
            .get_or_try_init(|| {
                Driver::start(
                    &self.endpoint,
                    self.servers.clone(),
                    Arc::clone(&self.signer),
                    self.ledger.clone(),
                )
            })
            .await
    }

    async fn any<T, F>(&self, call: impl Fn(RootProvider) -> F) -> Result<T, ChainError>
    where
        F: Future<Output = TransportResult<T>>,
    {
        self.servers
            .any(call)
            .await
            .map_err(|fault| fault.into_chain_error(self.address()))
    }

    async fn agreed<T, F>(&self, call: impl Fn(RootProvider, BlockId) -> F) -> Result<T, ChainError>
    where
        T: PartialEq + Clone + fmt::Debug,
        F: Future<Output = TransportResult<T>>,
    {
        self.servers
            .agreed(call)
            .await
            .map_err(|fault| fault.into_chain_error(self.address()))
    }
}

/// A transaction in the outbox.
#[derive(Debug)]
pub(crate) struct Begun {
    wallet: Wallet,
    /// `None` when the outbox refused it.
    pub(crate) job: Option<JobId>,
    ended: oneshot::Receiver<Ending>,
}

impl Begun {
    /// Waits until it is confirmed, or will not be, or for as long as the endpoint says.
    pub(crate) async fn ended(mut self) -> Ending {
        let patience = self.wallet.endpoint.confirm_timeout;
        match timeout(patience, &mut self.ended).await {
            Ok(Ok(ending)) => ending,
            Ok(Err(_)) => Err(stopped()),
            Err(_) => self.given_up().await,
        }
    }

    async fn given_up(mut self) -> Ending {
        let Some(job) = self.job else {
            return Err(stopped());
        };
        // It may have ended at this very moment.
        if let Ok(ending) = self.ended.try_recv() {
            return ending;
        }
        self.ended.close();
        let (standing, told) = oneshot::channel();
        self.wallet
            .command(Command::GiveUp { job, standing })
            .await?;
        Err(told.await.map_err(|_| stopped())?)
    }
}

fn stopped() -> ChainError {
    ChainError::Refused(
        "the wallet has stopped, since its ledger failed: see the log, then start again".to_owned(),
    )
}

fn errand(to: Option<Address>, value: U256, input: Bytes, gas: Option<u64>) -> Errand {
    Errand {
        to,
        value,
        input: input.into(),
        gas,
    }
}

fn outbox_config(endpoint: &Endpoint, account: Address) -> OutboxConfig {
    OutboxConfig {
        account,
        chain_id: endpoint.chain_id,
        confirmations: endpoint.confirmations,
        finality: endpoint.finality,
        stuck_blocks: endpoint.stuck_blocks,
        stuck_after: endpoint.stuck_after,
        fee_cap: endpoint.gas_price_cap,
        poll: endpoint.poll,
        recheck: endpoint.recheck,
        patience: endpoint.patience(),
    }
}

/// A uint96 of a contract as money.
pub(crate) fn amount(units: alloy::primitives::aliases::U96) -> Amount {
    Amount::new(U256::from(units))
}
