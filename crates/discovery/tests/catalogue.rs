//! The catalogue: replacement, withdrawal, expiry, quotas, queries and their order.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use wayfare_discovery::{
    Catalogue, Evidence, Inserted, Limits, Location, MAX_LIFETIME, MAX_LIMIT, MAX_SKEW, Offer,
    Proposal, ProposalKey, ProposalSource, Query, Refused, ServiceType, SignedWithdrawal,
    StaticSource,
};
use wayfare_identity::{Address, NodeId, Signer};
use wayfare_payment::{Amount, Price};

#[path = "support/offers.rs"]
mod offers;
use offers::{NOW, SEED, keys, offer, ordinary, price, signer, verified};

fn catalogue() -> Catalogue {
    Catalogue::new(Limits::default(), SEED)
}

#[test]
fn a_higher_sequence_replaces_a_lower_one_never() {
    let me = signer(1);
    let with = |sequence, units| {
        verified(
            &me,
            Offer {
                sequence,
                price: price(units),
                ..offer(&me, 1)
            },
        )
    };
    let mut catalogue = catalogue();
    assert_eq!(catalogue.insert(with(5, 10), NOW), Ok(Inserted::New));
    assert_eq!(catalogue.insert(with(5, 10), NOW), Ok(Inserted::Known));
    assert_eq!(
        catalogue.insert(with(5, 11), NOW),
        Err(Refused::Stale { newest: 5 })
    );
    assert_eq!(
        catalogue.insert(with(4, 11), NOW),
        Err(Refused::Stale { newest: 5 })
    );
    assert_eq!(catalogue.insert(with(6, 12), NOW), Ok(Inserted::Replaced));
    let found = catalogue.query(&Query::any(), NOW);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].price, price(12));
}

#[test]
fn what_was_withdrawn_does_not_come_back() {
    let me = signer(1);
    let with = |sequence| {
        verified(
            &me,
            Offer {
                sequence,
                ..offer(&me, 1)
            },
        )
    };
    let withdrawal = |sequence| {
        SignedWithdrawal::sign(NodeId([7; 32]), ServiceType::vpn(), sequence, &me)
            .unwrap()
            .verify()
            .unwrap()
    };
    let mut catalogue = catalogue();
    assert!(
        !catalogue.withdraw(&withdrawal(9), NOW),
        "nothing is there, nothing is remembered"
    );
    catalogue.insert(with(5), NOW).unwrap();
    assert!(
        !catalogue.withdraw(&withdrawal(4), NOW),
        "an old withdrawal takes back a newer proposal"
    );
    assert_eq!(catalogue.query(&Query::any(), NOW).len(), 1);
    assert!(catalogue.withdraw(&withdrawal(5), NOW));
    assert!(!catalogue.withdraw(&withdrawal(5), NOW), "twice");
    assert!(catalogue.query(&Query::any(), NOW).is_empty());
    assert_eq!(
        catalogue.insert(with(5), NOW),
        Err(Refused::Stale { newest: 5 }),
        "replayed"
    );
    assert_eq!(catalogue.insert(with(6), NOW), Ok(Inserted::Replaced));
    assert!(catalogue.withdraw(&withdrawal(6), NOW));
    let forgotten = NOW + MAX_SKEW + MAX_LIFETIME;
    assert_eq!(
        catalogue.expire(forgotten - 1),
        0,
        "a copy might still be in force"
    );
    assert_eq!(catalogue.expire(forgotten), 1);
    assert!(catalogue.is_empty());
}

#[test]
fn what_expired_is_not_shown_and_does_not_come_back() {
    let me = signer(1);
    let short = verified(
        &me,
        Offer {
            sequence: 2,
            expires_at: NOW + 10,
            ..offer(&me, 1)
        },
    );
    let long = verified(
        &me,
        Offer {
            sequence: 1,
            expires_at: NOW + 3600,
            ..offer(&me, 1)
        },
    );
    let mut catalogue = catalogue();
    let key = short.key();
    assert_eq!(
        catalogue.insert(short.clone(), NOW + 10),
        Err(Refused::Expired(NOW + 10))
    );
    catalogue.insert(short, NOW).unwrap();
    assert!(catalogue.find(&key, NOW + 9).is_some());
    assert!(catalogue.find(&key, NOW + 10).is_none());
    assert!(
        catalogue.query(&Query::any(), NOW + 10).is_empty(),
        "shown before anybody called expire"
    );
    assert_eq!(catalogue.expire(NOW + 10), 0);
    assert_eq!(
        catalogue.insert(long, NOW + 20),
        Err(Refused::Stale { newest: 2 }),
        "an older one, dearer, longer"
    );
    assert_eq!(catalogue.expire(NOW + 3600), 1);
}

#[test]
fn one_identity_has_a_quota() {
    let me = signer(1);
    let node = |number: u8| {
        verified(
            &me,
            Offer {
                node: NodeId([number; 32]),
                ..offer(&me, 1)
            },
        )
    };
    let mut catalogue = Catalogue::new(
        Limits {
            per_identity: 3,
            ..Limits::default()
        },
        SEED,
    );
    for number in 0..3 {
        catalogue.insert(node(number), NOW).unwrap();
    }
    assert_eq!(catalogue.insert(node(3), NOW), Err(Refused::Quota(3)));
    assert_eq!(
        catalogue.insert(ordinary(2), NOW),
        Ok(Inserted::New),
        "somebody else is not held liable"
    );
    assert_eq!(catalogue.expire(NOW + MAX_LIFETIME), 4);
    let later = Offer {
        issued_at: NOW + 4000,
        expires_at: NOW + 4600,
        ..offer(&me, 1)
    };
    let later = later.sign(&me).unwrap().verify(NOW + 4000).unwrap();
    assert_eq!(
        catalogue.insert(later, NOW + 4000),
        Ok(Inserted::New),
        "the quota is given back"
    );
}

#[test]
fn a_full_catalogue_takes_from_the_most_crowded_network_and_never_a_reached_entry() {
    let mut catalogue = Catalogue::new(
        Limits {
            entries: 10,
            per_identity: 64,
        },
        SEED,
    );
    let crowd: Vec<Proposal> = (1..=9)
        .map(|number| {
            let signer = signer(number);
            let contact = vec![([198, 51, 100, number as u8], 1).into()];
            let offer = Offer {
                contact,
                ..offer(&signer, number)
            };
            verified(&signer, offer)
        })
        .collect();
    for proposal in &crowd {
        catalogue.insert(proposal.clone(), NOW).unwrap();
    }
    for reached in &crowd[..4] {
        assert!(catalogue.record(&reached.key(), Evidence::Reached(reached.contact[0]), NOW));
    }
    // 9 in one network and 1 in another: each newcomer from elsewhere takes the place of one of the 5 that may go.
    for number in 20..26 {
        assert_eq!(
            catalogue.insert(ordinary(number), NOW),
            Ok(Inserted::New),
            "{number}"
        );
    }
    assert_eq!(catalogue.len(), 10);
    assert!(
        crowd[..4]
            .iter()
            .all(|reached| catalogue.find(&reached.key(), NOW).is_some())
    );
    // Now nobody may go: the crowd was reached, and no other network is more crowded than the newcomer's would be.
    let crowded = signer(99);
    let late = Offer {
        contact: vec![([198, 51, 100, 99], 1).into()],
        ..offer(&crowded, 99)
    };
    assert_eq!(
        catalogue.insert(verified(&crowded, late), NOW),
        Err(Refused::Full(10))
    );
}

#[test]
fn queries_filter_by_each_field_and_page_without_gaps() {
    let mut catalogue = catalogue();
    let mine = signer(1);
    let special = Offer {
        location: Location {
            country: "DE".parse().unwrap(),
            ..offer(&mine, 1).location
        },
        service: "proxy".parse().unwrap(),
        price: Price {
            per_hour: Amount::from_units(7),
            per_gib: Amount::from_units(90),
        },
        hermes: vec![Address::repeat_byte(8), Address::repeat_byte(9)],
        chain_id: 6,
        ..offer(&mine, 1)
    };
    let special = verified(&mine, special);
    catalogue.insert(special.clone(), NOW).unwrap();
    for number in 2..=250 {
        catalogue.insert(ordinary(number), NOW).unwrap();
    }
    let found = |query: Query| keys(&catalogue.query(&query, NOW));
    let only = [special.key()];
    assert_eq!(found(Query::country("DE".parse().unwrap())), only);
    assert_eq!(found(Query::any().service("proxy".parse().unwrap())), only);
    assert_eq!(found(Query::any().provider(mine.address())), only);
    assert_eq!(found(Query::any().hermes(Address::repeat_byte(9))), only);
    assert_eq!(found(Query::any().chain_id(6)), only);
    let most = |hour, gib| {
        Query::any().max_price(Price {
            per_hour: Amount::from_units(hour),
            per_gib: Amount::from_units(gib),
        })
    };
    assert_eq!(found(most(7, 90)), only);
    assert!(
        found(most(6, 90)).is_empty() && found(most(7, 89)).is_empty(),
        "both limits count"
    );
    assert!(found(Query::country("FR".parse().unwrap())).is_empty());
    assert!(
        found(Query::country("DE".parse().unwrap()).chain_id(5)).is_empty(),
        "filters add up"
    );

    assert_eq!(found(Query::any()).len(), 50);
    assert_eq!(found(Query::any().limit(usize::MAX)).len(), MAX_LIMIT);
    assert!(
        found(Query::any().limit(0)).is_empty() && found(Query::any().skip(usize::MAX)).is_empty()
    );
    let mut paged: Vec<ProposalKey> = Vec::new();
    for page in 0..3 {
        paged.extend(found(Query::any().limit(MAX_LIMIT).skip(page * MAX_LIMIT)));
    }
    assert_eq!(paged.len(), 250);
    assert_eq!(
        paged.iter().collect::<BTreeSet<_>>().len(),
        250,
        "a page repeats another"
    );
}

#[test]
fn ranked_by_evidence_then_price() {
    let mut catalogue = catalogue();
    let with_price = |number, units| {
        let signer = signer(number);
        let offer = Offer {
            price: price(units),
            ..offer(&signer, number)
        };
        verified(&signer, offer)
    };
    // Numbered in the order in which they should stand.
    let all = [(1, 90), (2, 10), (3, 80), (4, 5), (5, 50), (6, 0)]
        .map(|(number, units)| with_price(number, units));
    for proposal in &all {
        catalogue.insert(proposal.clone(), NOW).unwrap();
    }
    let mut note = |number: usize, evidence: &[fn(SocketAddr) -> Evidence]| {
        let proposal = &all[number - 1];
        for evidence in evidence {
            assert!(catalogue.record(&proposal.key(), evidence(proposal.contact[0]), NOW));
        }
    };
    note(1, &[Evidence::Served]);
    note(2, &[Evidence::Reached]);
    note(
        3,
        &[
            Evidence::Reached,
            |_| Evidence::Failed,
            |_| Evidence::Failed,
        ],
    );
    note(4, &[|_| Evidence::Failed]);
    note(
        6,
        &[
            Evidence::Served,
            |_| Evidence::Failed,
            |_| Evidence::Failed,
            |_| Evidence::Failed,
        ],
    );
    let expected: Vec<ProposalKey> = all.iter().map(Proposal::key).collect();
    assert_eq!(keys(&catalogue.query(&Query::any(), NOW)), expected);
    // Whom to try: the untried one, then those whose trial failed; not those that were reached.
    let next = keys(&catalogue.unproven(NOW + 1, 10));
    assert_eq!(next.first(), Some(&expected[4]));
    assert_eq!(
        next.iter().collect::<BTreeSet<_>>(),
        expected[3..].iter().collect()
    );
}

#[test]
fn evidence_is_bound_to_an_address_and_grows_old() {
    let me = signer(1);
    let old = verified(
        &me,
        Offer {
            expires_at: NOW + 3600,
            ..offer(&me, 1)
        },
    );
    let key = old.key();
    let rival = ordinary(2);
    let mut catalogue = catalogue();
    catalogue.insert(old.clone(), NOW).unwrap();
    catalogue.insert(rival.clone(), NOW).unwrap();
    let first = |catalogue: &Catalogue| catalogue.query(&Query::any(), NOW)[0].key();
    let unknown = Evidence::Reached("203.0.113.1:1".parse().unwrap());
    assert!(
        !catalogue.record(&key, unknown, NOW),
        "reached where it does not claim to be"
    );
    assert!(catalogue.record(&key, Evidence::Reached(old.contact[0]), NOW));
    assert_eq!(first(&catalogue), key);

    let renewed = verified(
        &me,
        Offer {
            sequence: 2,
            price: price(1000),
            ..offer(&me, 1)
        },
    );
    catalogue.insert(renewed, NOW).unwrap();
    assert_eq!(first(&catalogue), key, "the same address, so still reached");
    let moved = Offer {
        sequence: 3,
        price: price(1000),
        contact: vec!["203.0.113.1:1".parse().unwrap()],
        ..offer(&me, 1)
    };
    catalogue.insert(verified(&me, moved), NOW).unwrap();
    assert_eq!(
        first(&catalogue),
        rival.key(),
        "another address is another claim"
    );

    assert!(catalogue.record(&rival.key(), Evidence::Reached(rival.contact[0]), NOW));
    assert_eq!(
        catalogue.unproven(NOW + MAX_LIFETIME - 1, 9).len(),
        0,
        "both proposals have expired by then"
    );
    let mut catalogue = Catalogue::new(Limits::default(), SEED);
    catalogue.insert(old.clone(), NOW).unwrap();
    catalogue.record(&key, Evidence::Reached(old.contact[0]), NOW - 100);
    assert!(catalogue.unproven(NOW + MAX_LIFETIME - 101, 9).is_empty());
    assert_eq!(
        catalogue.unproven(NOW + MAX_LIFETIME - 100, 9).len(),
        1,
        "reached an hour ago is not reached"
    );
}

#[test]
fn a_static_source_answers_queries_and_pages() {
    let list: Vec<_> = (1..=9)
        .map(|number| ordinary(number).signed().clone())
        .collect();
    let source: Box<dyn ProposalSource> = Box::new(StaticSource::new(list.clone()));
    let ask = |query: Query| {
        let mut context = Context::from_waker(Waker::noop());
        let answer = pin!(source.find(&query)).poll(&mut context);
        let Poll::Ready(answer) = answer else {
            panic!("a list does not wait")
        };
        answer.unwrap()
    };
    assert_eq!(ask(Query::any()), list);
    assert_eq!(ask(Query::any().skip(2).limit(3)), list[2..5]);
    assert_eq!(ask(Query::any().provider(signer(4).address())), list[3..4]);
    assert!(ask(Query::country("DE".parse().unwrap())).is_empty());
}
