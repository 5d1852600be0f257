//! An Ethereum development chain inside this process: revm behind ordinary JSON-RPC over HTTP, so that programs talk to it
//! exactly as they talk to a real network.
//!
//! One block for each transaction, mined at once; real time moves block timestamps, `evm_increaseTime` adds to it;
//! `evm_snapshot` and `evm_revert` take blocks back. For what real networks do to a wallet: `evm_setAutomine` withholds mining until
//! `evm_mine`, `wayfare_setBaseFee` makes gas dear, `wayfare_forget` empties the queue, `wayfare_reorganise` puts another history in
//! the place of the one since a snapshot, and [`DevChain::serve_crooked`] lies.
//! It refuses to be a production node: no peers, no persistence, no state of past blocks, no queue for transactions whose
//! nonce is ahead while it mines at once, no blobs; the state root in its headers is zero.

mod crooked;
mod evm;
mod gas;
mod pool;
mod rpc;
mod world;

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::utils::parse_ether;
use alloy::primitives::{Address, B256, U256, b256};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use wayfare_identity::{LocalSigner, SecretKey};
use wayfare_payment::ChainError;

use crate::{Delays, Endpoint, Wallet, deploy_token, deploy_vault};

pub use crooked::{Crook, Told};
pub use evm::{Evm, Outcome};
pub use gas::GasFigures;
pub use rpc::RpcError;
use world::World;

/// Calls in one JSON-RPC batch. Each costs at most one EVM run, so this bounds the work that one body can ask for.
const MOST_IN_BATCH: usize = 1_000;

/// The first key of the mnemonic that every Ethereum development chain knows. Worthless anywhere else.
pub const DEVELOPER: B256 =
    b256!("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");

/// The developer's key.
///
/// # Panics
/// Never: the key is valid.
#[must_use]
pub fn developer() -> SecretKey {
    SecretKey::from_bytes(DEVELOPER.0).expect("a well-known valid key")
}

/// Deploys the test token and a vault with the developer's key; answers their addresses, in this order. On a fresh chain they
/// are always the same.
///
/// # Errors
/// As [`Wallet::call`].
pub async fn deploy_contracts(
    endpoint: Endpoint,
    delays: Delays,
) -> Result<(Address, Address), ChainError> {
    let endpoint = Endpoint {
        poll: Duration::from_millis(5),
        ..endpoint
    };
    let wallet = Wallet::new(endpoint, Arc::new(LocalSigner::new(developer())))?;
    wallet.check().await?;
    let token = deploy_token(&wallet).await?;
    Ok((token, deploy_vault(&wallet, token, delays).await?))
}

/// What the chain is born with.
#[derive(Clone, Debug, Default)]
pub struct Genesis {
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// Accounts with native coin, in wei.
    pub funds: Vec<(Address, U256)>,
}

/// Reads `ADDRESS=ETHER` as an entry of [`Genesis::funds`].
///
/// # Errors
/// For people: what is wrong with which half.
pub fn parse_fund(text: &str) -> Result<(Address, U256), String> {
    let (who, ether) = text
        .split_once('=')
        .ok_or("write ADDRESS=ETHER, as in 0xf39f…2266=1.5")?;
    let who = who
        .parse()
        .map_err(|why| format!("{who:?} is not an address: {why}"))?;
    Ok((
        who,
        parse_ether(ether).map_err(|why| format!("{ether:?} is not ether: {why}"))?,
    ))
}

/// A handle to the chain; clones share it. It lives as long as its last handle.
#[derive(Clone)]
pub struct DevChain {
    world: Arc<Mutex<World>>,
}

impl fmt::Debug for DevChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevChain").finish_non_exhaustive()
    }
}

impl DevChain {
    /// A chain with an empty block 0 stamped now.
    #[must_use]
    pub fn new(genesis: &Genesis) -> Self {
        Self {
            world: Arc::new(Mutex::new(World::new(genesis))),
        }
    }

    /// One JSON-RPC call, without the envelope.
    ///
    /// # Errors
    /// As a node would answer: code, message, and the revert data where there is some.
    pub fn call(&self, method: &str, params: &Value) -> Result<Value, RpcError> {
        rpc::dispatch(&mut self.world(), method, params)
    }

    /// Serves JSON-RPC on `POST /` until `until` ends; requests being answered are finished first.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve<F>(self, listener: TcpListener, until: F) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let router = Router::new().route("/", post(answer)).with_state(self);
        axum::serve(listener, router)
            .with_graceful_shutdown(until)
            .await
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // A panic inside the EVM leaves a development chain in an unknown state, but a readable one: tests want the next error,
        // not a poisoned lock.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer_one(&self, request: &Value) -> Value {
        let id = request.get("id").cloned().unwrap_or(Value::Null);
        let outcome = match request.get("method").and_then(Value::as_str) {
            Some(method) => self.call(method, request.get("params").unwrap_or(&Value::Null)),
            None => Err(RpcError::new(-32600, "invalid request: no method")),
        };
        match outcome {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
        }
    }
}

async fn answer(State(chain): State<DevChain>, Json(body): Json<Value>) -> Json<Value> {
    let Value::Array(batch) = &body else {
        return Json(chain.answer_one(&body));
    };
    if batch.len() > MOST_IN_BATCH {
        let error = RpcError::new(
            -32600,
            format!("batch of {} calls, at most {MOST_IN_BATCH}", batch.len()),
        );
        return Json(json!({"jsonrpc": "2.0", "id": null, "error": error}));
    }
    Json(Value::Array(
        batch
            .iter()
            .map(|request| chain.answer_one(request))
            .collect(),
    ))
}
