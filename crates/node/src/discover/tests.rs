//! What the sources say, verified and merged.
#![allow(clippy::unwrap_used)]
use wayfare_discovery::{CountryCode, FORMAT, IpType, Location, Offer, Protocols, ServiceType};
use wayfare_identity::{Address, LocalSigner, NodeId, SecretKey, Signer};
use wayfare_nat::{Records, Topic};
use wayfare_payment::{Amount, Price};

use super::*;
use crate::Preset;

/// The test's time is the clock's: records are judged by it.
fn now() -> u64 {
    Clock::unix_ms() / 1_000
}

pub(super) fn offer(provider: u8, sequence: u64) -> (Offer, LocalSigner) {
    let signer = LocalSigner::new(SecretKey::from_bytes([provider; 32]).unwrap());
    let offer = Offer {
        format: FORMAT,
        provider: signer.address(),
        node: NodeId([provider; 32]),
        tunnel_key: [3; 32],
        service: ServiceType::vpn(),
        location: Location {
            country: "NL".parse().unwrap(),
            city: None,
            ip_type: IpType::Unstated,
        },
        price: Price {
            per_hour: Amount::from_units(u128::from(provider)),
            per_gib: Amount::from_units(1),
        },
        hermes: vec![Address::repeat_byte(4)],
        chain_id: 31_337,
        vault: Address::repeat_byte(3),
        contact: vec![([203, 0, provider, 1], 4_000).into()],
        relays: Vec::new(),
        capabilities: std::collections::BTreeSet::new(),
        protocol: Protocols { min: 1, max: 1 },
        sequence,
        issued_at: now(),
        expires_at: now() + 600,
    };
    (offer, signer)
}

pub(super) fn signed(provider: u8, sequence: u64) -> SignedProposal {
    let (offer, signer) = offer(provider, sequence);
    offer.sign(&signer).unwrap()
}

fn country(code: &str) -> CountryCode {
    code.parse().unwrap()
}

#[test]
fn an_offer_is_under_the_topics_that_its_seekers_ask() {
    let (offer, _) = offer(1, 1);
    let topics = topics_of(&offer);
    let asks = |query: &Query| {
        topics_for(query)
            .iter()
            .filter(|topic| topics.contains(topic))
            .count()
    };
    let here = country("NL");
    for query in [
        Query::any(),
        Query::country(here),
        Query::any().provider(offer.provider),
        Query::country(here).provider(offer.provider),
        Query::any().service(ServiceType::vpn()),
    ] {
        assert_eq!(asks(&query), 1, "{query:?}");
    }
    for query in [
        Query::country(country("DE")),
        Query::any().service("proxy".parse().unwrap()),
    ] {
        assert_eq!(asks(&query), 0, "{query:?}");
    }
}

#[test]
fn only_verified_proposals_under_their_own_topics_are_admitted() {
    let records = ProposalRecords;
    let good = signed(1, 7);
    let [here, share] = topics_of(&good.offer);
    let admitted = records.admit(&here, &good.to_bytes()).unwrap();
    assert_eq!(records.admit(&share, &good.to_bytes()), Some(admitted));
    assert_eq!(admitted.sequence, 7);
    assert_eq!(admitted.expires_at, good.offer.expires_at);
    let other = records.admit(&here, &signed(2, 7).to_bytes()).unwrap();
    assert_ne!((other.owner, other.slot), (admitted.owner, admitted.slot));
    assert_eq!(records.admit(&Topic([0; 32]), &good.to_bytes()), None);

    let mut forged = good.clone();
    forged.offer.price.per_gib = Amount::ZERO;
    assert_eq!(records.admit(&here, &forged.to_bytes()), None);
    let (mut late, signer) = offer(1, 8);
    late.issued_at -= 700;
    late.expires_at -= 700;
    let late = late.sign(&signer).unwrap();
    assert_eq!(records.admit(&here, &late.to_bytes()), None);
    for length in 0..good.to_bytes().len() {
        assert_eq!(records.admit(&here, &good.to_bytes()[..length]), None);
    }
}

#[test]
fn answers_are_merged_each_key_once_the_latest_and_nothing_that_does_not_hold() {
    let mut forged = signed(9, 9);
    forged.offer.sequence += 1;
    let heard = vec![
        (
            None,
            vec![signed(6, 1), signed(5, 1), signed(1, 3), forged.clone()],
        ),
        (Some(1), vec![signed(3, 1), signed(1, 1)]),
        (Some(0), vec![signed(2, 1), signed(1, 2), forged]),
    ];
    let found = merge(heard, &Query::any(), now()).unwrap();
    let told: Vec<(u8, u64)> = found
        .iter()
        .map(|proposal| (proposal.node.0[0], proposal.sequence))
        .collect();
    // One of each index in turn, then the table's own by price; provider 1 with the table's later proposal.
    assert_eq!(told, [(2, 1), (3, 1), (1, 3), (5, 1), (6, 1)]);
    let heard = vec![(Some(0), vec![signed(2, 1), signed(3, 1)])];
    assert_eq!(
        merge(heard, &Query::any().limit(1), now()).unwrap().len(),
        1
    );
}

#[tokio::test]
async fn a_network_without_any_source_is_told_at_once() {
    let mut network = Network::new(Preset::Local, Address::ZERO, Address::ZERO);
    assert!(Sources::new(&network).is_ok());
    network.index_url = String::new();
    assert!(matches!(Sources::new(&network), Err(NodeError::Setting(_))));
    network.index_url = "http://127.0.0.1:1, nonsense".into();
    let wrong = Sources::new(&network).unwrap_err().to_string();
    assert!(wrong.contains("nonsense"), "{wrong}");
}

#[tokio::test]
async fn when_nobody_answers_everybody_is_named() {
    let mut network = Network::new(Preset::Local, Address::ZERO, Address::ZERO);
    let nobody = NodeAddress {
        node: NodeKey::from_seed([1; 32]).id(),
        at: ([127, 0, 0, 1], 9).into(),
    };
    network.index_url = "http://127.0.0.1:9,http://127.0.0.1:19".into();
    network.bootstrap = vec![nobody];
    let silent = Sources::new(&network).unwrap().ask(&Query::any()).await;
    let silent = silent.unwrap_err();
    assert_eq!(silent.code(), 4);
    let told = silent.to_string();
    for name in ["http://127.0.0.1:9", "http://127.0.0.1:19", TABLE] {
        assert!(told.contains(name), "{told}");
    }
    assert!(silent.next_step().contains("`bootstrap`"));
}
