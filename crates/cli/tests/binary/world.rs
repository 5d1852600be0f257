//! A development chain inside the test, with token, vault and somebody rich; servers that answer nonsense. Refuses to be a network:
//! Hermes and index are in `services`.

#![allow(
    dead_code,
    reason = "each binary's tests include this file and use a part of it"
)]

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use wayfare_chain::devchain::{DevChain, Genesis, deploy_contracts, developer};
use wayfare_chain::{Delays, Endpoint, TokenClient, VaultClient, Wallet};
use wayfare_identity::{Address, LocalSigner, U256};
use wayfare_payment::{Amount, Chain};

pub(crate) const CHAIN_ID: u64 = 31_337;
/// One token, one coin.
pub(crate) const ONE: u128 = 1_000_000_000_000_000_000;

/// A chain that lives as long as this does.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) rpc: String,
    pub(crate) vault: Address,
    pub(crate) token: Address,
    /// The vault as the rich developer sees it.
    pub(crate) rich: VaultClient,
}

impl World {
    pub(crate) fn new() -> Self {
        // Its threads stay in the network namespace of the thread that makes it.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let funds = vec![(developer().address(), U256::from(1_000 * ONE))];
        let (rpc, (token, vault), rich) = runtime.block_on(async {
            let chain = DevChain::new(&Genesis {
                chain_id: CHAIN_ID,
                funds,
            });
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let rpc = format!("http://{}", listener.local_addr().unwrap());
            tokio::spawn(chain.serve(listener, std::future::pending()));
            let mut endpoint = Endpoint::new(&rpc, CHAIN_ID);
            endpoint.poll = Duration::from_millis(5);
            let deployed = deploy_contracts(endpoint.clone(), Delays::default())
                .await
                .unwrap();
            let wallet = Wallet::new(endpoint, Arc::new(LocalSigner::new(developer()))).unwrap();
            let rich = VaultClient::new(wallet, deployed.1);
            (rpc, deployed, rich)
        });
        Self {
            runtime,
            rpc,
            vault,
            token,
            rich,
        }
    }

    pub(crate) fn bank(&self) -> TokenClient {
        TokenClient::new(self.rich.wallet().clone(), self.token)
    }

    /// Gives native coin, for gas.
    pub(crate) fn give_coin(&self, to: Address) {
        let given = self.rich.wallet().send_native(to, U256::from(ONE));
        self.runtime.block_on(given).unwrap();
    }

    /// Gives tokens.
    pub(crate) fn give_tokens(&self, to: Address, units: u128) {
        let given = async {
            self.bank()
                .mint(to, Amount::from_units(units))
                .await
                .unwrap();
        };
        self.runtime.block_on(given);
    }

    pub(crate) fn tokens_of(&self, account: Address) -> Amount {
        self.runtime
            .block_on(async { self.bank().balance(account).await.unwrap() })
    }

    /// Registers the developer's Hermes, with the developer's key as operator.
    pub(crate) fn hermes(&self) -> Address {
        let registered = self.rich.register_hermes(developer().address(), 0);
        self.runtime.block_on(registered).unwrap()
    }

    /// What the vault holds for a consumer.
    pub(crate) fn deposit(&self, consumer: Address, hermes: Address) -> Amount {
        let account = self.rich.consumer(consumer, hermes);
        self.runtime.block_on(account).unwrap().balance
    }

    /// A server that answers every connection with something else than was asked for. Ends with the world.
    pub(crate) fn nonsense(&self) -> String {
        let listener = self
            .runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        self.runtime.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 512];
                let _ = stream.read(&mut asked).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nrubbish")
                    .await;
            }
        });
        format!("http://{address}")
    }
}

/// An address of this computer at which nothing listens: bound once, then left.
pub(crate) fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
