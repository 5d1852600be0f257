//! A chain with the double of the deployed contracts on it, one Hermes, and actors with keys and coin, for one test.
//! It refuses to be shared: every test has its own, and it is gone with the test.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::types::TransactionReceipt;
use alloy::sol_types::SolCall;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use wayfare_chain::devchain::{DevChain, Genesis, developer};
use wayfare_chain::mysterium::{
    Deployment, HermesState, HermesTerms, KnownHermes, MysteriumClient, Registry, Version,
};
use wayfare_chain::{Endpoint, TokenClient, Wallet};
use wayfare_identity::{LocalSigner, SecretKey, Signer};
use wayfare_payment::{
    Amount, Chain, ChainError, ChannelId, Preimage, Promise, SettleOrder, SignedPromise,
};

pub(crate) const CHAIN_ID: u64 = 31_337;
/// 20 %, as the deployed Hermes take.
pub(crate) const FEE_BPS: u16 = 2_000;
/// The Hermes' own stake.
pub(crate) const HERMES_STAKE: u128 = 1_000;
/// The most that one settlement pays to a provider without a stake.
pub(crate) const MOST_STAKE: u128 = 10_000;

/// Init code of one of the double's contracts, from its committed artifact.
fn code(name: &str) -> Bytes {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mysterium/artifacts");
    let text = std::fs::read(folder.join(name).with_extension("json")).unwrap();
    let artifact: serde_json::Value = serde_json::from_slice(&text).unwrap();
    artifact["bytecode"]["object"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

/// How a Hermes is registered.
pub(crate) struct Terms {
    pub(crate) version: Version,
    pub(crate) fee: u16,
    pub(crate) least_stake: u128,
    pub(crate) most_stake: u128,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            version: Version::Third,
            fee: FEE_BPS,
            least_stake: 0,
            most_stake: MOST_STAKE,
        }
    }
}

pub(crate) struct Net {
    server: JoinHandle<std::io::Result<()>>,
    rpc: RootProvider,
    pub(crate) url: String,
    pub(crate) deployment: Deployment,
    /// Deployed everything, mints tokens, registered the Hermes.
    pub(crate) owner: MysteriumClient,
    pub(crate) token: TokenClient,
    pub(crate) hermes: Address,
    pub(crate) operator: LocalSigner,
}

impl Drop for Net {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Somebody with a key, some coin for gas, and a view of the contracts.
#[derive(Clone)]
pub(crate) struct Actor {
    pub(crate) signer: LocalSigner,
    pub(crate) client: MysteriumClient,
}

impl Actor {
    pub(crate) fn address(&self) -> Address {
        self.signer.address()
    }

    pub(crate) async fn call<C: SolCall>(
        &self,
        to: Address,
        call: &C,
    ) -> Result<TransactionReceipt, ChainError> {
        self.client.wallet().call(to, call).await
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

pub(crate) fn wallet(url: &str, signer: LocalSigner) -> Wallet {
    let endpoint = Endpoint {
        poll: Duration::from_millis(2),
        ..Endpoint::new(url, CHAIN_ID)
    };
    Wallet::new(endpoint, Arc::new(signer)).unwrap()
}

impl Net {
    pub(crate) async fn new() -> Self {
        Self::with(Terms::default()).await
    }

    pub(crate) async fn with(terms: Terms) -> Self {
        let funds = vec![(developer().address(), U256::from(10).pow(U256::from(22)))];
        let chain = DevChain::new(&Genesis {
            chain_id: CHAIN_ID,
            funds,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(chain.serve(listener, std::future::pending()));
        let wallet = wallet(&url, LocalSigner::new(developer()));
        let deploy = |name: &'static str| {
            let wallet = wallet.clone();
            async move { wallet.deploy(code(name)).await.unwrap() }
        };
        let token = deploy("Myst").await;
        let registry = deploy("Registry").await;
        // The second version's contracts differ from the first's channel and from the third's Hermes.
        let generations = [
            ("ChannelFirst", "HermesFirst"),
            ("ChannelThird", "HermesFirst"),
            ("ChannelThird", "HermesThird"),
        ];
        let mut channel_implementation = Address::ZERO;
        let wanted = usize::try_from(terms.version.number()).unwrap() + 1;
        for (number, (channel, hermes)) in generations.into_iter().take(wanted).enumerate() {
            channel_implementation = deploy(channel).await;
            let implementations = (channel_implementation, deploy(hermes).await);
            implement(&wallet, registry, token, number == 0, implementations).await;
        }
        let mut deployment = Deployment {
            chain_id: CHAIN_ID,
            registry,
            token,
            hermes: Vec::new(),
        };
        let owner = MysteriumClient::new(wallet.clone(), deployment.clone());
        let operator = key("operator");
        owner
            .token()
            .mint(wallet.address(), wei(HERMES_STAKE))
            .await
            .unwrap();
        let registered = HermesTerms {
            operator: operator.address(),
            stake: wei(HERMES_STAKE),
            fee_basis_points: terms.fee,
            least_stake: wei(terms.least_stake),
            most_stake: wei(terms.most_stake),
        };
        let hermes = owner
            .register_hermes(&registered, "https://hermes.example")
            .await
            .unwrap();
        deployment.hermes.push(KnownHermes {
            id: hermes,
            version: terms.version,
            channel_implementation,
        });
        let owner = MysteriumClient::new(wallet, deployment.clone());
        owner.check().await.unwrap();
        Self {
            server,
            rpc: RootProvider::new_http(url.parse().unwrap()),
            url,
            deployment,
            token: owner.token(),
            owner,
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

    pub(crate) fn client(&self, signer: LocalSigner) -> MysteriumClient {
        MysteriumClient::new(wallet(&self.url, signer), self.deployment.clone())
    }

    /// Somebody with coin, by a name or as the operator.
    pub(crate) async fn actor(&self, name: &str) -> Actor {
        let signer = key(name);
        let coin = U256::from(10).pow(U256::from(18));
        self.owner
            .wallet()
            .send_native(signer.address(), coin)
            .await
            .unwrap();
        Actor {
            client: self.client(signer.clone()),
            signer,
        }
    }

    /// Somebody whose channel is open.
    pub(crate) async fn registered(&self, name: &str) -> Actor {
        let actor = self.actor(name).await;
        let beneficiary = actor.address();
        actor
            .client
            .register(self.hermes, beneficiary)
            .await
            .unwrap()
            .expect("nobody has registered this one before");
        actor
    }

    /// An ordinary transfer from an ordinary wallet to a consumer's channel.
    pub(crate) async fn top_up(&self, consumer: Address, units: u128) {
        let to = self.owner.deposit_address(consumer, self.hermes).unwrap();
        self.token.mint(to, wei(units)).await.unwrap();
    }

    /// Money that the Hermes can pay out.
    pub(crate) async fn float(&self, units: u128) {
        self.token.mint(self.hermes, wei(units)).await.unwrap();
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
        let promise = self.promise(channel, units, r).sign(consumer).unwrap();
        self.order(promise, r, Address::ZERO)
    }

    /// What the Hermes promises to a provider, who is also the beneficiary.
    pub(crate) fn provider_order(&self, provider: Address, units: u128, r: u8) -> SettleOrder {
        let channel = ChannelId::of_provider(provider, self.hermes);
        let promise = self
            .promise(channel, units, r)
            .sign(&self.operator)
            .unwrap();
        self.order(promise, r, provider)
    }

    pub(crate) fn order(&self, promise: SignedPromise, r: u8, beneficiary: Address) -> SettleOrder {
        SettleOrder {
            hermes: self.hermes,
            beneficiary,
            promise,
            preimage: preimage(r),
        }
    }

    pub(crate) async fn tokens(&self, account: Address) -> Amount {
        self.token.balance(account).await.unwrap()
    }

    pub(crate) async fn state(&self) -> HermesState {
        self.owner.hermes_state(self.hermes).await.unwrap()
    }

    pub(crate) async fn settled(&self, provider: Address) -> Amount {
        self.owner
            .provider(provider, self.hermes)
            .await
            .unwrap()
            .settled
    }
}

/// The registry's next version.
async fn implement(
    wallet: &Wallet,
    registry: Address,
    token: Address,
    first: bool,
    (channel, hermes): (Address, Address),
) {
    if first {
        let call = Registry::initializeCall {
            token,
            dex: Address::ZERO,
            minimalHermesStake: U256::from(HERMES_STAKE),
            channelImplementation: channel,
            hermesImplementation: hermes,
            parentRegistry: Address::ZERO,
        };
        wallet.call(registry, &call).await.unwrap();
    } else {
        let call = Registry::setImplementationsCall {
            channelImplementation: channel,
            hermesImplementation: hermes,
        };
        wallet.call(registry, &call).await.unwrap();
    }
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
