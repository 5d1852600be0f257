//! Announced in the distributed table alone, and found there.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use wayfare_discovery::Query;
use wayfare_identity::{Address, LocalSigner, NodeAddress, NodeKey, SecretKey};
use wayfare_nat::SwarmConfig;
use wayfare_payment::{Amount, Price};
use wayfare_transport::{QuicIdentity, SharedSocket, SocketOptions, quic_endpoint};

use super::*;
use crate::discover::{self, Sources};
use crate::reach::swarm_on;
use crate::{Preset, Relay, RelayBuilder, RelayLimits};

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

async fn relay(number: u8, bootstrap: Vec<NodeAddress>) -> Relay {
    let at = free();
    let builder = RelayBuilder {
        secret: [number; 32],
        listen: at,
        advertise: at,
        limits: RelayLimits::default(),
        bootstrap,
        toll: None,
    };
    builder.start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_is_found_through_relays_when_no_index_answers() {
    let first = relay(1, Vec::new()).await;
    let second = relay(2, vec![first.address()]).await;

    let mut network = Network::new(Preset::Local, Address::ZERO, Address::repeat_byte(4));
    network.index_url = "http://127.0.0.1:9".into();
    network.bootstrap = vec![first.address()];

    let key = NodeKey::from_seed([3; 32]);
    let any = ([127, 0, 0, 1], 0).into();
    let (socket, _receiver) = SharedSocket::bind(any, SocketOptions::default()).unwrap();
    let identity = QuicIdentity::from_ed25519_seed(*key.seed()).unwrap();
    let endpoint = quic_endpoint(&socket, &identity).unwrap();
    let config = SwarmConfig {
        key: key.clone(),
        relay: None,
        dht: Some(discover::table(network.bootstrap.clone(), false)),
    };
    let (swarm, _events) = swarm_on(&socket, &endpoint, &identity, config).unwrap();
    // The second relay joins through the first meanwhile.
    let mut joined = Ok(0);
    for _ in 0..1_000 {
        joined = swarm.bootstrap(Vec::new()).await;
        if joined == Ok(2) {
            break;
        }
    }
    assert_eq!(joined, Ok(2));
    let announcer = Announcer {
        indexes: discover::indexes(&network).unwrap(),
        table: Some(swarm),
        signer: Arc::new(LocalSigner::new(SecretKey::from_bytes([5; 32]).unwrap())),
        offer: Offer {
            price: Price {
                per_hour: Amount::from_units(1),
                per_gib: Amount::from_units(1),
            },
            chunk: Amount::from_units(1),
            chunk_limit: Amount::from_units(1),
            country: "NL".into(),
            contact: Vec::new(),
            relays: vec![second.address()],
        },
        country: "NL".parse().unwrap(),
        network: network.clone(),
        node: key.id(),
        tunnel_key: [3; 32],
    };
    let failed = announcer.register().await;
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].0, "http://127.0.0.1:9");

    let asked = Instant::now();
    let sources = Sources::new(&network).unwrap();
    for query in [Query::any(), Query::country("NL".parse().unwrap())] {
        let found = sources.ask(&query).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].node, key.id());
    }
    assert!(asked.elapsed().as_secs() < 10, "{:?}", asked.elapsed());

    // The relay that the proposal names is a first contact from now on, should the first be gone.
    first.stop().await;
    let found = sources.ask(&Query::any()).await.unwrap();
    assert_eq!(found.len(), 1);
    let elsewhere = Query::country("DE".parse().unwrap());
    assert_eq!(sources.ask(&elsewhere).await.unwrap().len(), 0);
    second.stop().await;
}
