//! The proposal index.

use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use wayfare_api::discovery::{IndexClient, IndexService, serve};
use wayfare_api::{ApiError, Refusal, RefusalCode};
use wayfare_discovery::{
    FORMAT, IpType, Location, Offer, ProposalSource, Protocols, Query, ServiceType, SignedProposal,
    SignedWithdrawal, SourceError,
};
use wayfare_identity::{Address, NodeId, Signer};
use wayfare_payment::{Amount, Price};

use crate::nouns;

/// Keeps what it is given, and the last query.
#[derive(Clone, Default)]
struct Double(Arc<Mutex<(Vec<SignedProposal>, Option<Query>)>>);

impl IndexService for Double {
    async fn size(&self) -> u64 {
        self.0.lock().unwrap().0.len() as u64
    }

    async fn register(&self, proposal: SignedProposal) -> Result<(), Refusal> {
        self.0.lock().unwrap().0.push(proposal);
        Ok(())
    }

    async fn withdraw(&self, withdrawal: SignedWithdrawal) -> Result<(), Refusal> {
        let withdrawal = withdrawal
            .verify()
            .map_err(|why| Refusal::new(RefusalCode::Signature, why.to_string()))?;
        self.0
            .lock()
            .unwrap()
            .0
            .retain(|signed| signed.offer.node != withdrawal.key.node);
        Ok(())
    }

    async fn query(&self, query: Query) -> Result<Vec<SignedProposal>, Refusal> {
        let mut inner = self.0.lock().unwrap();
        let found = inner
            .0
            .iter()
            .skip(query.skip)
            .take(query.limit)
            .cloned()
            .collect();
        inner.1 = Some(query);
        Ok(found)
    }
}

fn proposal(node: u8) -> SignedProposal {
    let offer = Offer {
        format: FORMAT,
        provider: nouns::provider().address(),
        node: NodeId([node; 32]),
        tunnel_key: [8; 32],
        service: ServiceType::vpn(),
        location: Location {
            country: "NL".parse().unwrap(),
            city: Some("x".repeat(64)),
            ip_type: IpType::Hosting,
        },
        price: Price {
            per_hour: Amount::from_units(1),
            per_gib: Amount::from_units(2),
        },
        hermes: (1..=8).map(Address::repeat_byte).collect(),
        chain_id: 31_337,
        vault: Address::repeat_byte(9),
        contact: (1..=8)
            .map(|port| std::net::SocketAddr::from(([192, 0, 2, 1], port)))
            .collect(),
        relays: vec![],
        capabilities: (10..42)
            .map(|n| format!("c{n}-{}", "c".repeat(20)))
            .collect(),
        protocol: Protocols { min: 1, max: 1 },
        sequence: 1,
        issued_at: 1_000,
        expires_at: 2_000,
    };
    offer.sign(&nouns::provider()).unwrap()
}

async fn index() -> (Double, IndexClient) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client =
        IndexClient::connect(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let service = Double::default();
    tokio::spawn(serve(listener, service.clone(), std::future::pending()));
    (service, client)
}

#[tokio::test]
async fn more_proposals_than_fit_one_message_are_found_page_by_page() {
    let (service, client) = index().await;
    let all: Vec<_> = (0..100).map(proposal).collect();
    assert!(
        all.iter()
            .map(|signed| signed.to_bytes().len())
            .sum::<usize>()
            > wayfare_api::MAX_MESSAGE,
        "one page is not enough"
    );
    for signed in &all {
        client.register(signed).await.unwrap();
    }
    assert_eq!(client.describe().await.unwrap(), 100);
    let source: &dyn ProposalSource = &client;
    assert_eq!(source.find(&Query::any().limit(100)).await.unwrap(), all);
    assert_eq!(
        client.query(&Query::any().skip(97)).await.unwrap(),
        all[97..]
    );
    assert_eq!(
        client.query(&Query::any().limit(2)).await.unwrap(),
        all[..2]
    );

    let withdrawal =
        SignedWithdrawal::sign(NodeId([0; 32]), ServiceType::vpn(), 1, &nouns::provider()).unwrap();
    client.withdraw(&withdrawal).await.unwrap();
    assert_eq!(service.size().await, 99);
    let forged = SignedWithdrawal {
        sequence: 2,
        ..withdrawal
    };
    assert_eq!(
        client
            .withdraw(&forged)
            .await
            .unwrap_err()
            .refusal()
            .unwrap()
            .code,
        RefusalCode::Signature
    );
}

#[tokio::test]
async fn every_filter_arrives_as_it_was_sent() {
    let (service, client) = index().await;
    let query = Query::country("NL".parse().unwrap())
        .service(ServiceType::vpn())
        .max_price(Price {
            per_hour: Amount::MAX,
            per_gib: Amount::ZERO,
        })
        .provider(Address::repeat_byte(1))
        .hermes(Address::repeat_byte(2))
        .chain_id(5)
        .limit(3)
        .skip(4);
    for query in [query, Query::any()] {
        client.query(&query).await.unwrap();
        assert_eq!(service.0.lock().unwrap().1.take(), Some(query));
    }
}

#[tokio::test]
async fn a_dead_index_and_another_version_are_told_apart() {
    let (_service, client) = index().await;
    let error = client
        .with_hello(nouns::foreign_hello())
        .describe()
        .await
        .unwrap_err();
    assert!(matches!(error, ApiError::Incompatible { .. }), "{error:?}");

    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let client = IndexClient::connect(&format!("http://127.0.0.1:{port}")).unwrap();
    let error = client.find(&Query::any()).await.unwrap_err();
    assert!(
        matches!(error, SourceError::Unreachable { .. }),
        "{error:?}"
    );
}
