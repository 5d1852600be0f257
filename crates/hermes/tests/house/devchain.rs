//! The whole money path of a Hermes on a real EVM: registered, paid through, collected from, left.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use wayfare_chain::devchain::{DevChain, Genesis, developer};
use wayfare_chain::{Delays, Endpoint, VaultClient, Wallet, deploy_token, deploy_vault};
use wayfare_hermes::{Hermes, HermesClient, HermesConfig, Site, StartError};
use wayfare_identity::{LocalSigner, Signer, U256};
use wayfare_payment::IssuerConfig;

use crate::doubles::{CHAIN_ID, Session, key, units};

const TOKEN: u128 = 1_000_000_000_000_000_000;

#[tokio::test]
async fn a_hermes_on_a_real_chain_collects_what_it_promised() {
    let owner = Arc::new(LocalSigner::new(developer()));
    let operator = Arc::new(key("operator"));
    let funds = [
        owner.address(),
        operator.address(),
        key("consumer").address(),
    ];
    let coins = U256::from(1_000 * TOKEN);
    let chain = DevChain::new(&Genesis {
        chain_id: CHAIN_ID,
        funds: funds.map(|account| (account, coins)).to_vec(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut endpoint = Endpoint::new(
        format!("http://{}", listener.local_addr().unwrap()),
        CHAIN_ID,
    );
    endpoint.poll = Duration::from_millis(10);
    let serving = tokio::spawn(chain.serve(listener, std::future::pending()));

    let wallet = Wallet::new(endpoint.clone(), owner.clone()).unwrap();
    let token = deploy_token(&wallet).await.unwrap();
    let vault = deploy_vault(&wallet, token, Delays::default())
        .await
        .unwrap();
    let bank = VaultClient::new(wallet, vault).token().await.unwrap();
    bank.mint(owner.address(), units(100 * TOKEN))
        .await
        .unwrap();

    let folder = tempfile::tempdir().unwrap();
    let site = Site {
        ledger: folder.path().join("ledger"),
        chain: endpoint.clone(),
        vault,
    };
    let register = || site.register(owner.clone(), operator.address(), 100, units(10 * TOKEN));
    let hermes_id = register().await.unwrap();
    assert_eq!(
        register().await.unwrap(),
        hermes_id,
        "twice is once, with more collateral"
    );
    let other = site
        .register(owner.clone(), owner.address(), 100, units(0))
        .await
        .unwrap_err();
    assert!(matches!(other, StartError::WrongOperator { .. }), "{other}");

    let issuer = IssuerConfig {
        hermes: hermes_id,
        chain_id: CHAIN_ID,
        vault,
        locked_cap: units(TOKEN),
    };
    let ports = site.open(operator.clone()).await.unwrap();
    let view = Arc::clone(&ports.chain);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let watchful = HermesConfig {
        watch_every: Duration::from_millis(100),
        ..HermesConfig::new(issuer)
    };
    let hermes = Hermes::start(watchful, ports, listener).await.unwrap();
    let client = HermesClient::connect(&format!("http://{}", hermes.address())).unwrap();
    assert_eq!(client.describe().await.unwrap().terms.fee_basis_points, 100);
    assert_eq!(
        view.hermes(hermes_id).await.unwrap().collateral,
        units(20 * TOKEN)
    );

    let mut session = Session::new("consumer", "provider", 1);
    let consumer = session.consumer.address();
    session.hermes = hermes_id;
    session.vault = vault;
    session.channel = view.consumer_channel(consumer, hermes_id);
    client.issue(&session.pay(7)).await.unwrap_err();
    let own = VaultClient::new(
        Wallet::new(endpoint, Arc::new(session.consumer.clone())).unwrap(),
        vault,
    );
    bank.transfer(own.deposit_address(consumer, hermes_id), units(TOKEN))
        .await
        .unwrap();
    session.issue(&client, 7).await;
    session.reveal(&client, 7).await;
    let collections = hermes.collect_now().await.unwrap();
    assert_eq!(collections[0].outcome.as_ref().unwrap().1, units(7));
    assert_eq!(view.hermes(hermes_id).await.unwrap().free, units(7));

    // Whoever asks for its deposit back pays the rest of what it owes first.
    session.issue(&client, 9).await;
    session.reveal(&client, 9).await;
    own.request_exit(hermes_id).await.unwrap();
    let collected = async {
        while view.consumer(consumer, hermes_id).await.unwrap().collected < units(9) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), collected)
        .await
        .expect("the exit is noticed");
    let state = client.consumer_state(consumer).await.unwrap();
    assert_eq!((state.promised, state.deposit), (units(9), units(TOKEN)));
    hermes.shutdown().await.unwrap();
    serving.abort();
}
