//! A flood of fake proposals: what a query costs then, and who is still seen (safety.md, A8).

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use wayfare_discovery::{Catalogue, Evidence, Limits, Offer, Proposal, ProposalKey, Query};
use wayfare_identity::{LocalSigner, NodeId};

#[path = "support/offers.rs"]
mod offers;
use offers::{NOW, SEED, keys, offer, ordinary, price, signer, verified};

const FAKES: u32 = 100_000;

/// In how many networks the fakes of each flood can really be reached, and how many honest ones there are beside them.
const FLOODS: [(u32, u32); 3] = [(1, 49), (10, 40), (40, 10)];

/// Where a fake says that it is: first anywhere in the address space, then in one network of each of [`FLOODS`].
fn contacts(number: u32) -> Vec<SocketAddr> {
    let [a, b, c, d] = number.wrapping_mul(2_654_435_761).to_be_bytes();
    let anywhere = ([a % 200 + 1, b, c, d], 1).into();
    let [_, _, high, low] = number.to_be_bytes();
    let within = FLOODS.iter().zip(20..).map(|((networks, _), first)| {
        (
            [first, (number % networks) as u8, high, low],
            2 + (number >> 16) as u16,
        )
            .into()
    });
    std::iter::once(anywhere).chain(within).collect()
}

/// 100,000 proposals that cost nothing, 50 for each identity.
fn fakes() -> Vec<Proposal> {
    let fake = |signer: &LocalSigner, number: u32| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let contact = contacts(number);
        verified(
            signer,
            Offer {
                node: NodeId(id),
                price: price(0),
                contact,
                ..offer(signer, 1)
            },
        )
    };
    (0..FAKES / 50)
        .flat_map(|identity| {
            let signer = signer(1_000_000 + identity);
            (identity * 50..identity * 50 + 50)
                .map(|number| fake(&signer, number))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Honest providers, each in a network of its own (from 60.0 on), all dearer than the fakes, all reached.
fn honest(catalogue: &mut Catalogue, count: u32) -> BTreeSet<ProposalKey> {
    (0..count)
        .map(|number| {
            let proposal = ordinary(60 * 256 + number);
            catalogue.insert(proposal.clone(), NOW).unwrap();
            assert!(catalogue.record(&proposal.key(), Evidence::Reached(proposal.contact[0]), NOW));
            proposal.key()
        })
        .collect()
}

/// The best of twenty: what a query costs, not what else the machine does.
#[allow(
    clippy::disallowed_methods,
    reason = "a test measures what a query costs"
)]
fn measured(catalogue: &Catalogue, query: &Query) -> (Vec<ProposalKey>, Duration) {
    let mut best = Duration::MAX;
    let mut found = Vec::new();
    for _ in 0..20 {
        let began = std::time::Instant::now();
        let answer = catalogue.query(query, NOW);
        best = best.min(std::time::Instant::now() - began);
        found = keys(&answer);
    }
    (found, best)
}

fn assert_all_in(found: &[ProposalKey], honest: &BTreeSet<ProposalKey>, what: &str) {
    let seen = found.iter().filter(|key| honest.contains(key)).count();
    assert_eq!(
        seen,
        honest.len(),
        "{what}: {seen} of {} honest ones are among the {}",
        honest.len(),
        found.len()
    );
}

#[test]
fn a_hundred_thousand_fakes_push_no_reached_provider_out_of_the_top_50() {
    let fakes = fakes();
    let mut flooded = Catalogue::new(Limits::default(), SEED);
    for fake in &fakes {
        flooded.insert(fake.clone(), NOW).unwrap();
    }
    let query = Query::any().limit(50);
    let check = |what: &str, catalogue: &Catalogue, honest: &BTreeSet<ProposalKey>| {
        let (found, cost) = measured(catalogue, &query);
        println!("100,000 fakes, {what}: {cost:?} a query");
        assert_all_in(&found, honest, what);
        assert!(cost < Duration::from_millis(50), "{what}: {cost:?} a query");
    };

    let mut unreached = flooded.clone();
    let beside = honest(&mut unreached, 50);
    check("none reached, in all networks", &unreached, &beside);
    // Positive control: by price alone, none of the honest would be seen.
    let bait = unreached.query(&query.clone().max_price(price(0)), NOW);
    assert_eq!(
        bait.len(),
        50,
        "as many fakes are cheaper than any honest one"
    );
    drop(unreached);

    for (flood, (networks, others)) in FLOODS.into_iter().enumerate() {
        let mut answering = flooded.clone();
        for fake in &fakes {
            assert!(answering.record(&fake.key(), Evidence::Reached(fake.contact[1 + flood]), NOW));
        }
        let beside = honest(&mut answering, others);
        check(
            &format!("all reached, in {networks} networks"),
            &answering,
            &beside,
        );
    }
}
