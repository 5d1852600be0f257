//! A chain in memory that does the vault's sums, and the parties that pay through it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use wayfare_hermes::{Hermes, HermesClient, HermesConfig, Ports};
use wayfare_identity::{Address, B256, LocalSigner, SecretKey, Signer, U256, keccak256};
use wayfare_payment::{
    AgreementId, Amount, Chain, ChainError, ChannelId, ConsumerAccount, Exchange, HermesAccount,
    IssueReply, IssueRequest, IssuerConfig, Ledger, PortFuture, Preimage, Promise, ProviderAccount,
    SettleOrder, Settled, SignedIssueRequest,
};

pub(crate) const CHAIN_ID: u64 = 31_337;

pub(crate) fn key(name: &str) -> LocalSigner {
    LocalSigner::new(SecretKey::from_bytes(keccak256(name).0).unwrap())
}

pub(crate) fn units(units: u128) -> Amount {
    Amount::from_units(units)
}

pub(crate) fn issuer() -> IssuerConfig {
    IssuerConfig {
        hermes: Address::repeat_byte(0x77),
        chain_id: CHAIN_ID,
        vault: Address::repeat_byte(9),
        locked_cap: units(1_000_000),
    }
}

pub(crate) fn config() -> HermesConfig {
    HermesConfig {
        collect_threshold: units(100),
        ..HermesConfig::new(issuer())
    }
}

/// The vault's sums, without a chain.
#[derive(Debug, Default)]
pub(crate) struct Vault {
    accounts: Mutex<BTreeMap<Address, ConsumerAccount>>,
    /// How often a consumer was looked up.
    pub(crate) looks: AtomicU64,
    /// Whether nobody answers.
    pub(crate) down: std::sync::atomic::AtomicBool,
    /// Told of each collection.
    pub(crate) collected: tokio::sync::Notify,
}

impl Vault {
    pub(crate) fn change(&self, consumer: Address, change: impl FnOnce(&mut ConsumerAccount)) {
        change(self.accounts.lock().unwrap().entry(consumer).or_default());
    }

    pub(crate) fn account(&self, consumer: Address) -> ConsumerAccount {
        self.accounts
            .lock()
            .unwrap()
            .get(&consumer)
            .copied()
            .unwrap_or_default()
    }

    fn answer<T: Send + 'static>(&self, value: T) -> PortFuture<'static, Result<T, ChainError>> {
        let down = self.down.load(Ordering::SeqCst);
        Box::pin(async move {
            if down {
                Err(ChainError::Unreachable("off".into()))
            } else {
                Ok(value)
            }
        })
    }
}

impl Chain for Vault {
    fn hermes(&self, hermes: Address) -> PortFuture<'_, Result<HermesAccount, ChainError>> {
        if hermes != issuer().hermes {
            return Box::pin(async move { Err(ChainError::UnknownHermes(hermes)) });
        }
        self.answer(HermesAccount {
            operator: key("operator").address(),
            fee_basis_points: 250,
            collateral: units(1),
            free: units(2),
            leaving: false,
        })
    }

    fn consumer(
        &self,
        consumer: Address,
        _: Address,
    ) -> PortFuture<'_, Result<ConsumerAccount, ChainError>> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.answer(self.account(consumer))
    }

    fn provider(
        &self,
        _: Address,
        _: Address,
    ) -> PortFuture<'_, Result<ProviderAccount, ChainError>> {
        self.answer(ProviderAccount::default())
    }

    fn consumer_channel(&self, consumer: Address, _: Address) -> ChannelId {
        ChannelId::of_deposit(consumer)
    }

    fn settle(&self, _: SettleOrder) -> PortFuture<'_, Result<Settled, ChainError>> {
        Box::pin(async { Err(ChainError::Refused("a Hermes settles nothing".into())) })
    }

    fn collect(
        &self,
        consumer: Address,
        order: SettleOrder,
    ) -> PortFuture<'_, Result<Settled, ChainError>> {
        let promise = order.promise.promise;
        assert_eq!(order.preimage.hashlock(), promise.hashlock);
        order.promise.verify(consumer).unwrap();
        let mut total = Amount::ZERO;
        self.change(consumer, |account| {
            let paid = promise
                .amount
                .saturating_sub(account.collected)
                .min(account.balance);
            account.balance = account.balance.saturating_sub(paid);
            account.collected = account.collected.saturating_add(paid);
            total = account.collected;
        });
        self.collected.notify_one();
        self.answer(Settled {
            transaction: Some(B256::repeat_byte(1)),
            total,
            gas: 50_000,
        })
    }
}

/// Starts a Hermes and a client of it.
pub(crate) async fn open(
    config: HermesConfig,
    ledger: Arc<dyn Ledger>,
    chain: Arc<dyn Chain>,
) -> (Hermes, HermesClient) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ports = Ports {
        ledger,
        chain,
        operator: Arc::new(key("operator")),
    };
    let hermes = Hermes::start(config, ports, listener).await.unwrap();
    let client = HermesClient::connect(&format!("http://{}", hermes.address())).unwrap();
    (hermes, client)
}

/// A consumer that pays one provider in one session.
pub(crate) struct Session {
    pub(crate) consumer: LocalSigner,
    pub(crate) provider: Address,
    pub(crate) seller: LocalSigner,
    pub(crate) channel: ChannelId,
    pub(crate) hermes: Address,
    pub(crate) agreement: u64,
    pub(crate) vault: Address,
}

impl Session {
    pub(crate) fn new(consumer: &str, provider: &str, agreement: u64) -> Self {
        let consumer = key(consumer);
        let channel = ChannelId::of_deposit(consumer.address());
        Self {
            consumer,
            provider: key(provider).address(),
            seller: key(provider),
            channel,
            hermes: issuer().hermes,
            agreement,
            vault: issuer().vault,
        }
    }

    fn preimage(&self, total: u128) -> Preimage {
        Preimage::derive(
            &B256::repeat_byte(3),
            U256::from(self.agreement),
            units(total),
        )
    }

    /// A payment of everything up to `total`; the consumer has no other sessions.
    pub(crate) fn pay(&self, total: u128) -> SignedIssueRequest {
        let promise = Promise {
            chain_id: CHAIN_ID,
            channel: self.channel,
            amount: units(total),
            fee: Amount::ZERO,
            hashlock: self.preimage(total).hashlock(),
        };
        let promise = promise.sign(&self.consumer).unwrap();
        let agreement = AgreementId(U256::from(self.agreement));
        let exchange = Exchange::sign(
            &self.consumer,
            promise,
            agreement,
            units(total),
            self.provider,
            self.hermes,
        )
        .unwrap();
        let request = IssueRequest {
            consumer: self.consumer.address(),
            exchange,
        };
        request.sign(&self.seller, self.vault).unwrap()
    }

    pub(crate) async fn issue(&self, client: &HermesClient, total: u128) -> IssueReply {
        let reply = client.issue(&self.pay(total)).await.unwrap();
        reply.promise.verify(key("operator").address()).unwrap();
        assert_eq!(
            reply.promise.promise.hashlock,
            self.preimage(total).hashlock()
        );
        reply
    }

    pub(crate) async fn reveal(&self, client: &HermesClient, total: u128) {
        let preimage = self.preimage(total);
        let channel = ChannelId::of_provider(self.provider, self.hermes);
        client
            .reveal(channel, preimage.hashlock(), preimage)
            .await
            .unwrap();
    }
}
