//! One chain, as many servers in front of it as a story needs, honest or not, and a wallet that remembers.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, U256};
use alloy::rpc::types::TransactionReceipt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wayfare_chain::devchain::{Crook, DevChain, Told};
use wayfare_chain::{Endpoint, TransactionView, VaultClient, Wallet};
use wayfare_identity::{LocalSigner, Signer};
use wayfare_payment::{ChainError, JobState, Ledger};

use crate::net::{Actor, CHAIN_ID, Net};
use crate::notebook::Notebook;

/// The longest that anything here takes, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct World {
    pub(crate) net: Net,
    pub(crate) chain: DevChain,
    servers: Vec<JoinHandle<std::io::Result<()>>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let chain = Net::chain();
        Self {
            net: Net::embedded_on(chain.clone()).await,
            chain,
            servers: Vec::new(),
        }
    }

    /// A server that bends what it says; the answer is its address.
    pub(crate) async fn server(
        &mut self,
        bend: impl Fn(&str, &Value, Result<Value, wayfare_chain::devchain::RpcError>) -> Told
        + Send
        + Sync
        + 'static,
    ) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve =
            self.chain
                .clone()
                .serve_crooked(Crook::new(bend), listener, std::future::pending());
        self.servers.push(tokio::spawn(serve));
        url
    }

    pub(crate) async fn honest(&mut self) -> String {
        self.server(|_, _, truth| Told::Answer(truth)).await
    }

    /// A test's word to the chain itself, whatever servers say.
    pub(crate) fn tell(&self, method: &str, params: Value) -> Value {
        self.chain.call(method, &params).unwrap()
    }

    pub(crate) fn withhold(&self, withheld: bool) {
        self.tell("evm_setAutomine", json!([!withheld]));
    }

    pub(crate) fn mine(&self, blocks: usize) {
        for _ in 0..blocks {
            self.tell("evm_mine", json!([]));
        }
    }

    pub(crate) fn transactions_of(&self, account: Address) -> u64 {
        let told = self.tell("eth_getTransactionCount", json!([account, "latest"]));
        let count: U256 = serde_json::from_value(told).unwrap();
        count.to()
    }
}

/// Patience of tests: looks every two milliseconds, and never gives up on a busy machine.
pub(crate) fn endpoint<'a>(urls: impl IntoIterator<Item = &'a String>) -> Endpoint {
    Endpoint {
        poll: Duration::from_millis(2),
        recheck: Duration::from_millis(20),
        confirm_timeout: PATIENCE,
        finality: 64,
        ..Endpoint::of(urls.into_iter().cloned(), CHAIN_ID)
    }
}

pub(crate) async fn open(endpoint: Endpoint, key: &LocalSigner, ledger: &Arc<Notebook>) -> Wallet {
    let ledger: Arc<dyn Ledger> = Arc::clone(ledger) as _;
    Wallet::open(endpoint, Arc::new(key.clone()), ledger)
        .await
        .unwrap()
}

/// The same account, with a wallet of one's own.
pub(crate) fn seen_by(actor: &Actor, wallet: Wallet) -> VaultClient {
    VaultClient::new(wallet, actor.vault.address())
}

/// Waits until the newest transaction is as wanted.
pub(crate) async fn newest(
    wallet: &Wallet,
    wanted: impl Fn(&TransactionView) -> bool,
) -> TransactionView {
    let seen = async {
        loop {
            let all = wallet.transactions().await.unwrap();
            if let Some(found) = all.first().filter(|view| wanted(view)) {
                return found.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    match timeout(PATIENCE, seen).await {
        Ok(view) => view,
        Err(_) => panic!("it never comes to that: {:?}", wallet.transactions().await),
    }
}

pub(crate) fn is_confirmed(view: &TransactionView) -> bool {
    matches!(view.state, JobState::Confirmed { .. })
}

pub(crate) fn is_sent(view: &TransactionView) -> bool {
    view.state == JobState::Sent && view.hash.is_some()
}

/// The user's view is what the ledger holds, and what it calls confirmed is in the chain where it says.
pub(crate) async fn assert_true(world: &World, wallet: &Wallet, ledger: &Notebook) {
    let shown = wallet.transactions().await.unwrap();
    let quiet = Endpoint {
        // It only reads what is written: no look comes before the comparison.
        poll: PATIENCE,
        ..endpoint(&["http://127.0.0.1:1".to_owned()])
    };
    let key: Arc<dyn Signer> = Arc::new(Mute(wallet.address()));
    let written = Wallet::open(quiet, key, Arc::new(ledger.reopened()))
        .await
        .unwrap()
        .transactions()
        .await
        .unwrap();
    let told = |all: &[TransactionView]| -> Vec<_> {
        all.iter()
            .map(|view| {
                (
                    view.job,
                    view.purpose.clone(),
                    view.state.clone(),
                    view.hash,
                )
            })
            .collect()
    };
    assert_eq!(told(&shown), told(&written), "view and ledger differ");
    for view in &shown {
        let receipt = match view.hash {
            Some(hash) => world.tell("eth_getTransactionReceipt", json!([hash])),
            None => Value::Null,
        };
        match &view.state {
            JobState::Confirmed { mined, .. } => {
                assert_eq!(receipt["blockHash"], json!(mined.block.hash), "{view:?}");
                assert_eq!(receipt["status"], "0x1", "{view:?}");
            }
            JobState::Queued | JobState::Sent => assert!(receipt.is_null(), "{view:?}"),
            JobState::Mined(_) | JobState::SettledByAnother | JobState::Failed(_) => {}
        }
    }
}

/// An account whose key is elsewhere.
#[derive(Debug)]
struct Mute(Address);

impl Signer for Mute {
    fn address(&self) -> Address {
        self.0
    }

    fn sign_digest(
        &self,
        _digest: alloy::primitives::B256,
    ) -> Result<wayfare_identity::Signature, wayfare_identity::SignError> {
        panic!("nothing is signed here");
    }
}

/// Sends five wei, to be awaited when the story is ready for it.
pub(crate) fn begin_sending(
    wallet: &Wallet,
    to: Address,
) -> JoinHandle<Result<TransactionReceipt, ChainError>> {
    let wallet = wallet.clone();
    tokio::spawn(async move { wallet.send_native(to, U256::from(5)).await })
}
