//! The proposal index over its network service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpListener;
use wayfare_api::RefusalCode;
use wayfare_api::discovery::IndexClient;
use wayfare_discovery::{
    FORMAT, IpType, Location, Offer, Protocols, Query, ServiceType, SignedProposal,
    SignedWithdrawal,
};
use wayfare_hermes::{Index, Limits};
use wayfare_identity::{Address, NodeId, Signer};
use wayfare_payment::Price;

use crate::doubles::{key, units};

const NOW: u64 = 1_700_000_000;

fn proposal(provider: &str, node: u8, sequence: u64) -> SignedProposal {
    let provider = key(provider);
    let offer = Offer {
        format: FORMAT,
        provider: provider.address(),
        node: NodeId([node; 32]),
        tunnel_key: [3; 32],
        service: ServiceType::vpn(),
        location: Location {
            country: "NL".parse().unwrap(),
            city: None,
            ip_type: IpType::Hosting,
        },
        price: Price {
            per_hour: units(1),
            per_gib: units(2),
        },
        hermes: vec![Address::repeat_byte(1)],
        chain_id: 31_337,
        vault: Address::repeat_byte(9),
        contact: vec!["192.0.2.1:51820".parse().unwrap()],
        relays: vec![],
        capabilities: Default::default(),
        protocol: Protocols { min: 1, max: 1 },
        sequence,
        issued_at: NOW,
        expires_at: NOW + 600,
    };
    offer.sign(&provider).unwrap()
}

fn code(outcome: Result<(), wayfare_api::ApiError>) -> RefusalCode {
    outcome.unwrap_err().refusal().unwrap().code
}

#[tokio::test]
async fn proposals_come_are_replaced_taken_back_and_expire() {
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = Arc::clone(&now);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limits = Limits {
        per_identity: 2,
        ..Limits::default()
    };
    let index = Index::start(
        listener,
        limits,
        [7; 32],
        Arc::new(move || clock.load(Ordering::SeqCst)),
    )
    .unwrap();
    let client = IndexClient::connect(&format!("http://{}", index.address())).unwrap();

    let first = proposal("a", 1, 5);
    client.register(&first).await.unwrap();
    client.register(&first).await.unwrap();
    assert_eq!(
        client.query(&Query::any()).await.unwrap(),
        std::slice::from_ref(&first)
    );
    assert_eq!(
        client
            .query(&Query::country("DE".parse().unwrap()))
            .await
            .unwrap(),
        []
    );
    assert_eq!(
        code(client.register(&proposal("a", 1, 4)).await),
        RefusalCode::Stale
    );
    let newer = proposal("a", 1, 6);
    client.register(&newer).await.unwrap();
    client.register(&proposal("a", 2, 1)).await.unwrap();
    assert_eq!(
        code(client.register(&proposal("a", 3, 1)).await),
        RefusalCode::Full
    );
    assert_eq!(client.describe().await.unwrap(), 2);

    let mut forged = proposal("b", 1, 1);
    forged.offer.price.per_gib = units(0);
    assert_eq!(code(client.register(&forged).await), RefusalCode::Signature);
    let withdrawal =
        SignedWithdrawal::sign(NodeId([1; 32]), ServiceType::vpn(), 6, &key("a")).unwrap();
    client.withdraw(&withdrawal).await.unwrap();
    let found = client
        .query(&Query::any().provider(newer.offer.provider))
        .await
        .unwrap();
    assert_eq!(found, [proposal("a", 2, 1)]);
    let foreign =
        SignedWithdrawal::sign(NodeId([2; 32]), ServiceType::vpn(), 6, &key("b")).unwrap();
    assert_eq!(code(client.withdraw(&foreign).await), RefusalCode::Unknown);

    now.store(NOW + 600, Ordering::SeqCst);
    assert_eq!(client.query(&Query::any()).await.unwrap(), []);
    assert_eq!(
        code(client.register(&proposal("c", 1, 1)).await),
        RefusalCode::Expired
    );
    index.shutdown().await.unwrap();
    client.describe().await.unwrap_err();
}
