//! A chain with the contracts on it and actors with keys and coin, on the embedded chain or on anvil, for one test.
//! It refuses to be shared: every test has its own, and it is gone with the test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::providers::{Provider, RootProvider};
use alloy::sol_types::SolCall;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use wayfare_chain::bindings::Vault;
use wayfare_chain::devchain::{DevChain, Genesis, developer};
use wayfare_chain::{
    Delays, Endpoint, TokenClient, VaultClient, Wallet, deploy_token, deploy_vault,
};
use wayfare_identity::{LocalSigner, SecretKey, Signer};
use wayfare_payment::{
    Amount, Chain, ChainError, ChannelId, ConsumerAccount, HermesAccount, Preimage, Promise,
    SettleOrder, SignedPromise,
};

pub(crate) const CHAIN_ID: u64 = 31_337;
pub(crate) const EXIT_DELAY: u64 = 24 * 60 * 60;
pub(crate) const COLLATERAL_DELAY: u64 = 30 * EXIT_DELAY;
/// 5 %.
pub(crate) const FEE_BPS: u16 = 500;

/// What serves the chain; dropping it ends it.
enum Server {
    Embedded(JoinHandle<std::io::Result<()>>),
    Anvil(Child),
}

impl Drop for Server {
    fn drop(&mut self) {
        match self {
            Self::Embedded(task) => task.abort(),
            Self::Anvil(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

pub(crate) struct Net {
    _server: Server,
    rpc: RootProvider,
    pub(crate) url: String,
    /// Deployed everything, mints tokens, owns the Hermes.
    pub(crate) owner: VaultClient,
    pub(crate) token: TokenClient,
    pub(crate) vault: Address,
    pub(crate) hermes: Address,
    /// The Hermes' signing key.
    pub(crate) operator: LocalSigner,
}

/// Somebody with a key, some coin for gas, and a view of the vault.
#[derive(Clone)]
pub(crate) struct Actor {
    pub(crate) signer: LocalSigner,
    pub(crate) vault: VaultClient,
}

impl Actor {
    pub(crate) fn address(&self) -> Address {
        self.signer.address()
    }

    pub(crate) async fn call<C: SolCall>(
        &self,
        call: &C,
    ) -> Result<alloy::rpc::types::TransactionReceipt, ChainError> {
        self.vault.wallet().call(self.vault.address(), call).await
    }
}

pub(crate) fn key(name: &str) -> LocalSigner {
    LocalSigner::new(SecretKey::from_bytes(keccak256(name).0).unwrap())
}

pub(crate) fn wei(units: u128) -> Amount {
    Amount::from_units(units)
}

pub(crate) fn preimage(n: u8) -> Preimage {
    Preimage(B256::repeat_byte(n))
}

/// The binary of anvil; `None` only outside CI.
// A test has no configuration to read it from.
#[allow(clippy::disallowed_methods)]
fn anvil_binary() -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
    let named = std::env::var_os("ANVIL").map(PathBuf::from);
    let found = named
        .into_iter()
        .chain([installed])
        .find(|path| path.is_file());
    if found.is_none() {
        let how = "anvil is not here: run `npm ci --ignore-scripts` in crates/chain/contracts, or name its binary in ANVIL";
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "{how}"
        );
        eprintln!("not run: {how}");
    }
    found
}

impl Net {
    pub(crate) async fn embedded() -> Self {
        Self::embedded_on(Self::chain()).await
    }

    /// A fresh chain, for who wants to hold it by another end, too.
    pub(crate) fn chain() -> DevChain {
        let developer = developer().address();
        let funds = vec![(developer, U256::from(10).pow(U256::from(22)))];
        DevChain::new(&Genesis {
            chain_id: CHAIN_ID,
            funds,
        })
    }

    pub(crate) async fn embedded_on(chain: DevChain) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(chain.serve(listener, std::future::pending()));
        Self::deploy(Server::Embedded(server), url).await
    }

    pub(crate) async fn anvil() -> Option<Self> {
        let mut child = Command::new(anvil_binary()?)
            .args([
                "--port",
                "0",
                "--chain-id",
                &CHAIN_ID.to_string(),
                "--hardfork",
                "prague",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let server = Server::Anvil(child);
        let address = lines
            .find_map(|line| {
                line.unwrap()
                    .strip_prefix("Listening on ")
                    .map(str::to_owned)
            })
            .expect("anvil says where it listens");
        // It must not block on a full pipe while the test runs.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self::deploy(server, format!("http://{address}")).await)
    }

    async fn deploy(server: Server, url: String) -> Self {
        let developer = LocalSigner::new(developer());
        let wallet = wallet(&url, developer);
        let token = deploy_token(&wallet).await.unwrap();
        let delays = Delays {
            exit: Duration::from_secs(EXIT_DELAY),
            collateral: Duration::from_secs(COLLATERAL_DELAY),
        };
        let vault = deploy_vault(&wallet, token, delays).await.unwrap();
        let owner = VaultClient::new(wallet, vault);
        owner.check().await.unwrap();
        let operator = key("operator");
        let hermes = owner
            .register_hermes(operator.address(), FEE_BPS)
            .await
            .unwrap();
        let token = owner.token().await.unwrap();
        let rpc = RootProvider::new_http(url.parse().unwrap());
        Self {
            _server: server,
            rpc,
            url,
            owner,
            token,
            vault,
            hermes,
            operator,
        }
    }

    pub(crate) async fn raw(
        &self,
        method: &'static str,
        params: serde_json::Value,
    ) -> serde_json::Value {
        self.rpc.raw_request(method.into(), params).await.unwrap()
    }

    pub(crate) async fn pass(&self, seconds: u64) {
        self.raw("evm_increaseTime", serde_json::json!([seconds]))
            .await;
        self.raw("evm_mine", serde_json::json!([])).await;
    }

    pub(crate) async fn actor(&self, name: &str) -> Actor {
        let signer = key(name);
        let coin = U256::from(10).pow(U256::from(18));
        self.owner
            .wallet()
            .send_native(signer.address(), coin)
            .await
            .unwrap();
        Actor {
            vault: VaultClient::new(wallet(&self.url, signer.clone()), self.vault),
            signer,
        }
    }

    /// An ordinary transfer from an ordinary wallet to a consumer's deposit address.
    pub(crate) async fn deposit(&self, consumer: Address, units: u128) {
        self.token
            .mint(
                self.owner.deposit_address(consumer, self.hermes),
                wei(units),
            )
            .await
            .unwrap();
    }

    pub(crate) async fn collateral(&self, units: u128) {
        self.token
            .mint(self.owner.wallet().address(), wei(units))
            .await
            .unwrap();
        self.owner
            .add_collateral(self.hermes, wei(units))
            .await
            .unwrap();
    }

    pub(crate) fn promise(&self, channel: ChannelId, units: u128, r: u8) -> Promise {
        Promise {
            chain_id: CHAIN_ID,
            channel,
            amount: wei(units),
            fee: Amount::ZERO,
            hashlock: preimage(r).hashlock(),
        }
    }

    /// What a consumer promises to the Hermes.
    pub(crate) fn consumer_order(&self, consumer: &LocalSigner, units: u128, r: u8) -> SettleOrder {
        let channel = self.owner.consumer_channel(consumer.address(), self.hermes);
        self.order(
            self.promise(channel, units, r).sign(consumer).unwrap(),
            r,
            Address::ZERO,
        )
    }

    /// What the Hermes promises to a provider, who is also the beneficiary.
    pub(crate) fn provider_order(&self, provider: Address, units: u128, r: u8) -> SettleOrder {
        let channel = ChannelId::of_provider(provider, self.hermes);
        self.order(
            self.promise(channel, units, r)
                .sign(&self.operator)
                .unwrap(),
            r,
            provider,
        )
    }

    pub(crate) fn order(&self, promise: SignedPromise, r: u8, beneficiary: Address) -> SettleOrder {
        SettleOrder {
            hermes: self.hermes,
            beneficiary,
            promise,
            preimage: preimage(r),
        }
    }

    pub(crate) fn settle_call(&self, order: &SettleOrder) -> Vault::settleCall {
        Vault::settleCall {
            hermesId: order.hermes,
            amount: order.promise.promise.amount.units(),
            fee: order.promise.promise.fee.units(),
            R: order.preimage.0,
            hermesSig: order.promise.signature.as_bytes().to_vec().into(),
            beneficiary: order.beneficiary,
        }
    }

    pub(crate) fn collect_call(
        &self,
        consumer: Address,
        order: &SettleOrder,
    ) -> Vault::collectCall {
        Vault::collectCall {
            consumer_: consumer,
            hermesId: order.hermes,
            amount: order.promise.promise.amount.units(),
            fee: order.promise.promise.fee.units(),
            R: order.preimage.0,
            sig: order.promise.signature.as_bytes().to_vec().into(),
        }
    }

    pub(crate) async fn tokens(&self, account: Address) -> Amount {
        self.token.balance(account).await.unwrap()
    }

    pub(crate) async fn hermes_account(&self) -> HermesAccount {
        self.owner.hermes(self.hermes).await.unwrap()
    }

    pub(crate) async fn consumer_account(&self, consumer: Address) -> ConsumerAccount {
        self.owner.consumer(consumer, self.hermes).await.unwrap()
    }

    pub(crate) async fn settled(&self, provider: Address) -> Amount {
        self.owner
            .provider(provider, self.hermes)
            .await
            .unwrap()
            .settled
    }

    /// INVARIANT of the vault: what it holds is what it owes, to the last unit.
    pub(crate) async fn assert_conserved(&self, consumers: &[Address], providers: &[Address]) {
        let read = Vault::hermesCall {
            hermesId: self.hermes,
        };
        let account = self
            .owner
            .wallet()
            .read(self.vault, &read)
            .await
            .unwrap()
            .account;
        let mut owed = U256::from(account.free) + U256::from(account.collateral);
        for consumer in consumers {
            let read = Vault::consumerCall {
                consumer_: *consumer,
                hermesId: self.hermes,
            };
            owed += U256::from(
                self.owner
                    .wallet()
                    .read(self.vault, &read)
                    .await
                    .unwrap()
                    .account
                    .balance,
            );
        }
        for provider in providers {
            owed += self
                .owner
                .credit(*provider, self.hermes)
                .await
                .unwrap()
                .units();
        }
        assert_eq!(
            self.tokens(self.vault).await.units(),
            owed,
            "the vault holds something else than it owes"
        );
    }
}

pub(crate) fn wallet(url: &str, signer: LocalSigner) -> Wallet {
    let endpoint = Endpoint {
        poll: Duration::from_millis(2),
        ..Endpoint::new(url, CHAIN_ID)
    };
    Wallet::new(endpoint, Arc::new(signer)).unwrap()
}

/// Asserts that a call was refused, and why.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, ChainError>, why: &str) {
    match outcome {
        Err(ChainError::Refused(said)) => assert!(
            said.contains(why),
            "refused with {said:?}, expected {why:?}"
        ),
        other => panic!("expected a refusal because {why:?}, got {other:?}"),
    }
}
