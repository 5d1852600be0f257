//! The task that owns a wallet's outbox: it commits, asks servers, signs and sends what the outbox wants, and tells who waits.
//! It ends with the last clone of its wallet; what is in the ledger goes on with the next.
//! It refuses to decide anything about transactions, and to answer a caller before the job's record is durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, TxKind};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};
use wayfare_identity::Signer;
use wayfare_payment::{
    ChainError, Errand, EstimateFault, Failure, Job, JobId, JobState, Ledger, Moot, Outbox,
    OutboxOutput, Purpose, Row, SendFault, Table, Unsigned,
};

use super::look::View;
use super::servers::{Server, Servers};
use super::{Endpoint, outbox_config};
use crate::fault::{Fault, explain};

/// Commands that wait for the task; their senders wait beyond that.
const COMMANDS: usize = 64;
/// Records read at a time.
const PAGE: usize = 1_024;

/// How a job ended, for who waits for it.
pub(super) type Ending = Result<TransactionReceipt, ChainError>;

/// What a wallet asks of its task.
#[derive(Debug)]
pub(super) enum Command {
    Send {
        purpose: Purpose,
        errand: Errand,
        taken: oneshot::Sender<JobId>,
        ending: oneshot::Sender<Ending>,
    },
    /// The caller waits no more; how does it stand?
    GiveUp {
        job: JobId,
        standing: oneshot::Sender<ChainError>,
    },
    Moot {
        job: JobId,
        moot: Moot,
        done: oneshot::Sender<()>,
    },
    History {
        jobs: oneshot::Sender<Vec<Job>>,
    },
}

/// What a question to the servers came to.
#[derive(Debug)]
enum Heard {
    Look(Result<View, Fault>),
    Estimate(JobId, Result<u64, Fault>),
    Broadcast(JobId, B256, Result<(), Fault>),
    Explained(JobId, String),
}

/// See the module.
pub(super) struct Driver {
    outbox: Outbox,
    servers: Servers,
    signer: Arc<dyn Signer>,
    chain_id: u64,
    ledger: Option<Arc<dyn Ledger>>,
    waiting: BTreeMap<JobId, Vec<oneshot::Sender<Ending>>>,
    /// Of the newest look.
    receipts: BTreeMap<B256, TransactionReceipt>,
    asked: JoinSet<Heard>,
}

impl Driver {
    /// An outbox as the ledger left it, or an empty one, and the task around it.
    ///
    /// # Errors
    /// What is wrong with the ledger, in words.
    pub(super) async fn start(
        endpoint: &Endpoint,
        servers: Servers,
        signer: Arc<dyn Signer>,
        ledger: Option<Arc<dyn Ledger>>,
    ) -> Result<mpsc::Sender<Command>, ChainError> {
        let config = outbox_config(endpoint, signer.address());
        let (now, wall) = (Instant::now().into_std(), wall_clock());
        let outbox = match &ledger {
            None => Outbox::new(config, now, wall),
            Some(ledger) => {
                let unreadable = |why: String| {
                    ChainError::Refused(format!("the wallet's ledger cannot be read: {why}"))
                };
                let rows = load(ledger.as_ref())
                    .await
                    .map_err(|why| unreadable(why.to_string()))?;
                Outbox::restore(config, rows, now, wall)
                    .map_err(|why| unreadable(why.to_string()))?
            }
        };
        let driver = Self {
            outbox,
            servers,
            signer,
            chain_id: endpoint.chain_id,
            ledger,
            waiting: BTreeMap::new(),
            receipts: BTreeMap::new(),
            asked: JoinSet::new(),
        };
        let (commands, taken) = mpsc::channel(COMMANDS);
        tokio::spawn(driver.run(taken));
        Ok(commands)
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            if self.carry_out().await.is_err() {
                // Nothing is known about what the ledger holds. Whoever waits hears it when the task is gone.
                return;
            }
            let due = self.outbox.poll_timeout().map(|deadline| deadline.at);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                Some(heard) = self.asked.join_next() => match heard {
                    Ok(heard) => self.hear(heard),
                    Err(error) => {
                        warn!(%error, "a question to the chain's servers ended badly; the wallet stops");
                        return;
                    }
                },
                () = sleep_until(due.map_or_else(Instant::now, Instant::from_std)), if due.is_some() => {
                    self.outbox.handle_timeout(Instant::now().into_std());
                }
            }
        }
    }

    fn command(&mut self, command: Command) {
        let now = Instant::now().into_std();
        match command {
            Command::Send {
                purpose,
                errand,
                taken,
                ending,
            } => match self.outbox.enqueue(purpose, errand, now) {
                Ok(job) => {
                    let _ = taken.send(job);
                    self.waiting.entry(job).or_default().push(ending);
                }
                Err(refusal) => {
                    let _ = ending.send(Err(ChainError::Refused(refusal.to_string())));
                }
            },
            Command::GiveUp { job, standing } => {
                let _ = standing.send(self.give_up(job, now));
            }
            Command::Moot { job, moot, done } => {
                self.outbox.handle_moot(job, moot, now);
                let _ = done.send(());
            }
            Command::History { jobs } => {
                let _ = jobs.send(self.outbox.jobs().cloned().collect());
            }
        }
    }

    /// What is not signed and could not be told from another of its kind is withdrawn: its caller may ask again.
    fn give_up(&mut self, id: JobId, now: std::time::Instant) -> ChainError {
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.retain(|ending| !ending.is_closed());
        }
        let Some(job) = self.outbox.job(id) else {
            return ChainError::Refused("nothing is known of this transaction".to_owned());
        };
        let why = job
            .waiting
            .clone()
            .unwrap_or_else(|| "others are before it".to_owned());
        let Some(hash) = job.hash().filter(|_| job.state != JobState::Queued) else {
            if !job.purpose.is_repeatable() {
                self.outbox
                    .handle_moot(id, Moot::Withdrawn(why.clone()), now);
            }
            return ChainError::Waiting(why);
        };
        ChainError::Pending(hash)
    }

    fn hear(&mut self, heard: Heard) {
        let now = Instant::now().into_std();
        match heard {
            Heard::Look(Ok(view)) => {
                self.receipts = view.receipts;
                self.outbox.handle_look(Ok(view.look), now);
            }
            Heard::Look(Err(fault)) => {
                let error = fault.into_chain_error(self.signer.address());
                self.outbox.handle_look(Err(error.to_string()), now);
                self.tell_unreachable(&error, now);
            }
            Heard::Estimate(job, outcome) => {
                let outcome = outcome.map_err(|fault| match fault {
                    Fault::Reverted(data) => EstimateFault::Refused(explain(&data)),
                    Fault::NoGas => EstimateFault::NoGas,
                    Fault::NonceTaken
                    | Fault::Underpriced
                    | Fault::AlreadyKnown
                    | Fault::Other(_) => EstimateFault::Unreachable(self.told(fault)),
                });
                self.outbox.handle_estimate(job, outcome, now);
            }
            Heard::Broadcast(job, hash, outcome) => {
                let outcome = outcome.map_err(|fault| match fault {
                    Fault::NonceTaken => SendFault::NonceTaken,
                    Fault::Underpriced => SendFault::Underpriced,
                    Fault::NoGas => SendFault::NoGas,
                    Fault::Reverted(_) | Fault::AlreadyKnown | Fault::Other(_) => {
                        SendFault::Unreachable(self.told(fault))
                    }
                });
                debug!(%hash, ?outcome, "transaction sent");
                self.outbox.handle_broadcast(job, hash, outcome, now);
            }
            Heard::Explained(job, why) => self.outbox.handle_explained(job, why, now),
        }
    }

    fn told(&self, fault: Fault) -> String {
        fault.into_chain_error(self.signer.address()).to_string()
    }

    /// Nobody can be asked: who waits for what is not even signed need not wait for that.
    fn tell_unreachable(&mut self, error: &ChainError, now: std::time::Instant) {
        let queued: Vec<JobId> = self
            .waiting
            .keys()
            .copied()
            .filter(|id| {
                let job = self.outbox.job(*id);
                job.is_some_and(|job| job.state == JobState::Queued)
            })
            .collect();
        for id in queued {
            let _ = self.give_up(id, now);
            for ending in self.waiting.remove(&id).into_iter().flatten() {
                let _ = ending.send(Err(error.clone()));
            }
        }
    }

    /// Does what the outbox wants, commits first and in order.
    async fn carry_out(&mut self) -> Result<(), ()> {
        while let Some(output) = self.outbox.poll_output() {
            match output {
                OutboxOutput::Persist { ticket, batch } => {
                    if let Some(ledger) = &self.ledger
                        && let Err(error) = ledger.commit(batch).await
                    {
                        warn!(%error, "the wallet's ledger failed; nothing is sent any more");
                        self.outbox.handle_failed(ticket);
                        return Err(());
                    }
                    self.outbox
                        .handle_durable(ticket, Instant::now().into_std());
                }
                OutboxOutput::Sign { job, unsigned } => {
                    let signed = self.sign(&unsigned);
                    let now = Instant::now().into_std();
                    self.outbox.handle_signed(job, &unsigned, signed, now);
                }
                OutboxOutput::Changed(job) => self.changed(job),
                OutboxOutput::Look { hashes } => self.ask_look(hashes),
                OutboxOutput::Estimate { job, errand } => self.ask_estimate(job, &errand),
                OutboxOutput::Broadcast { job, hash, raw } => {
                    let servers = self.servers.clone();
                    self.asked.spawn(async move {
                        Heard::Broadcast(job, hash, servers.broadcast(&raw).await)
                    });
                }
                OutboxOutput::Explain { job, errand } => self.ask_why(job, &errand),
            }
        }
        Ok(())
    }

    fn ask_look(&mut self, hashes: Vec<B256>) {
        let (servers, account) = (self.servers.clone(), self.signer.address());
        self.asked
            .spawn(async move { Heard::Look(servers.look(account, &hashes).await) });
    }

    fn ask_estimate(&mut self, job: JobId, errand: &Errand) {
        let (servers, request) = (self.servers.clone(), self.request(errand));
        self.asked
            .spawn(async move { Heard::Estimate(job, servers.estimate(request).await) });
    }

    /// Receipts carry no reason: it is run again on the newest state to learn one.
    fn ask_why(&mut self, job: JobId, errand: &Errand) {
        let (servers, mut request) = (self.servers.clone(), self.request(errand));
        request.gas = errand.gas;
        let account = self.signer.address();
        self.asked.spawn(async move {
            let call = |provider: RootProvider| {
                let request = request.clone();
                async move { provider.call(request).await }
            };
            let why = match servers.any(call).await {
                Ok(_) => "reverted, and would not revert now: the chain moved".to_owned(),
                Err(Fault::Reverted(data)) => explain(&data),
                Err(fault) => format!("reverted; {}", fault.into_chain_error(account)),
            };
            Heard::Explained(job, why)
        });
    }

    /// Tells who waits for a job that it has ended.
    fn changed(&mut self, id: JobId) {
        let Some(job) = self.outbox.job(id) else {
            return;
        };
        let ending = match &job.state {
            JobState::Queued | JobState::Sent | JobState::Mined(_) => return,
            JobState::Confirmed { mined, depth } => {
                info!(hash = %mined.hash, gas = mined.gas, block = mined.block.number, depth, "transaction confirmed");
                match self.receipts.get(&mined.hash) {
                    Some(receipt) => Ok(receipt.clone()),
                    None => Err(ChainError::Pending(mined.hash)),
                }
            }
            JobState::SettledByAnother => Err(ChainError::Refused(
                "somebody else's transaction has done it".to_owned(),
            )),
            JobState::Failed(Failure::NoGas) => Err(ChainError::NoGas {
                account: self.signer.address(),
            }),
            JobState::Failed(failure) => Err(ChainError::Refused(failure.to_string())),
        };
        for waiting in self.waiting.remove(&id).into_iter().flatten() {
            let _ = waiting.send(ending.clone());
        }
    }

    fn request(&self, errand: &Errand) -> TransactionRequest {
        request(self.signer.address(), errand)
    }

    fn sign(&self, unsigned: &Unsigned) -> Result<(B256, Vec<u8>), String> {
        let transaction = TxEip1559 {
            chain_id: self.chain_id,
            nonce: unsigned.nonce,
            gas_limit: unsigned.gas,
            max_fee_per_gas: unsigned.fees.most,
            max_priority_fee_per_gas: unsigned.fees.tip,
            to: unsigned.errand.to.map_or(TxKind::Create, TxKind::Call),
            value: unsigned.errand.value,
            input: unsigned.errand.input.clone().into(),
            ..TxEip1559::default()
        };
        let signature = self
            .signer
            .sign_digest(transaction.signature_hash())
            .map_err(|why| why.to_string())?;
        let signature = alloy::primitives::Signature::from_raw(signature.as_bytes())
            .map_err(|why| why.to_string())?;
        let envelope = TxEnvelope::from(transaction.into_signed(signature));
        Ok((*envelope.tx_hash(), envelope.encoded_2718()))
    }
}

impl Servers {
    /// The gas limit with which a call would succeed. Of two servers the one that lets it is believed: trying costs little.
    pub(super) async fn estimate(&self, request: TransactionRequest) -> Result<u64, Fault> {
        let call = |provider: RootProvider| {
            let request = request.clone();
            async move { provider.estimate_gas(request).await }
        };
        let call = &call;
        let ask = |server: Arc<Server>| async move {
            match self.one(&server, call).await {
                Err(fault) if fault.is_of_the_server() => Err(fault),
                answer => Ok(answer),
            }
        };
        // Two refusals are one; anything else is not asked twice.
        let merge = |one: &Result<u64, Fault>, other: &Result<u64, Fault>| match (one, other) {
            (Ok(gas), _) | (Err(_), Ok(gas)) => Ok(Ok(*gas)),
            (Err(fault), Err(_)) => Ok(Err(fault.clone())),
        };
        let (answer, _) = self.settle_between(ask, merge).await?;
        answer
    }
}

/// A call as servers want it.
pub(super) fn request(from: Address, errand: &Errand) -> TransactionRequest {
    let input = alloy::primitives::Bytes::from(errand.input.clone());
    let mut request = TransactionRequest::default()
        .from(from)
        .value(errand.value)
        .input(input.into());
    request.to = Some(errand.to.map_or(TxKind::Create, TxKind::Call));
    request
}

async fn load(ledger: &dyn Ledger) -> Result<Vec<(Table, Row)>, wayfare_payment::LedgerError> {
    let mut rows = Vec::new();
    for table in Outbox::TABLES {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = ledger.scan(*table, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            rows.extend(page.into_iter().map(|row| (*table, row)));
        }
    }
    Ok(rows)
}

// The history tells people when something happened; no decision rests on it.
#[allow(
    clippy::disallowed_methods,
    reason = "times of the history, for people"
)]
fn wall_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
