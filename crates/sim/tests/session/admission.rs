//! Admission: each thing that is wrong with a request has its code, and a refused request leaves nothing behind.

use wayfare_identity::{Address, Signature};
use wayfare_payment::{Agreement, Amount, ChannelId, Price};
use wayfare_session::{
    AdmissionFacts, ConsumerFrame, Funds, OpenRequest, RefusalCode, SessionToken, TunnelNetwork,
};
use wayfare_sim::session_world::{Applicant, Setting, World};

use super::support::{SECOND, connect, connected, exchange, millis, units};

/// Asks, expects a refusal, and checks that nothing was kept: the same key gets the first address afterwards.
fn refused(
    world: &mut World,
    applicant: &Applicant,
    facts: &AdmissionFacts,
    code: RefusalCode,
    what: &str,
) {
    let sessions = world.exit().session_count();
    let agreements = world.exit().collector().agreements().count();
    let persists = world.exit_persists();
    let refusal = world
        .admit(&applicant.request, facts)
        .unwrap()
        .expect_err(what);
    assert_eq!(refusal.code, code, "{what}: {refusal}");
    assert!(!refusal.message.is_empty(), "{what}");
    assert_eq!(world.exit().session_count(), sessions, "{what}");
    assert_eq!(
        world.exit().collector().agreements().count(),
        agreements,
        "{what}"
    );
    assert_eq!(world.exit_persists(), persists, "{what}");
    let stranger = world
        .frame(SessionToken(facts.token), ConsumerFrame::KeepAlive)
        .unwrap()
        .unwrap_err();
    assert_eq!(stranger.code, RefusalCode::Unknown, "{what}");
}

/// What is wrong with a request, made from it and from another good one.
type Forged = (
    &'static str,
    RefusalCode,
    fn(&mut OpenRequest, &OpenRequest),
);
/// What is wrong with the terms.
type Wrong = (&'static str, RefusalCode, fn(&mut Agreement));

#[test]
fn terms_that_were_not_offered_are_refused_and_nothing_is_kept() {
    let table: [Wrong; 10] = [
        ("another provider", RefusalCode::Terms, |a| {
            a.provider = Address::repeat_byte(1);
        }),
        ("another Hermes", RefusalCode::Hermes, |a| {
            a.hermes = Address::repeat_byte(1);
        }),
        ("another chain", RefusalCode::Terms, |a| a.chain_id += 1),
        ("another vault", RefusalCode::Terms, |a| {
            a.vault = Address::repeat_byte(1);
        }),
        ("a lower price", RefusalCode::Terms, |a| {
            a.price.per_gib = units(1);
        }),
        ("a higher price", RefusalCode::Terms, |a| {
            a.price = Price {
                per_hour: units(1),
                ..a.price
            };
        }),
        ("no chunk", RefusalCode::Terms, |a| a.chunk = Amount::ZERO),
        ("too long a chunk", RefusalCode::Terms, |a| {
            a.chunk = units(100_001);
        }),
        ("a channel of its own choice", RefusalCode::Terms, |a| {
            a.consumer_channel = ChannelId::of_deposit(Address::repeat_byte(1));
        }),
        ("somebody else's name", RefusalCode::Signature, |a| {
            a.consumer = Address::repeat_byte(1);
        }),
    ];
    let mut world = World::new(Setting::default(), 1);
    for (what, code, change) in table {
        let mut terms = world.terms(0);
        change(&mut terms);
        let applicant = world.apply(0, terms).unwrap();
        let facts = world.facts(0);
        refused(&mut world, &applicant, &facts, code, what);
    }
    first_come_is_served(&mut world);
}

#[test]
fn a_request_that_is_not_signed_as_it_should_be_is_refused() {
    let table: [Forged; 6] = [
        (
            "the terms changed after signing",
            RefusalCode::Signature,
            |r, _| {
                r.agreement.chunk = units(99_999);
            },
        ),
        ("another's signature", RefusalCode::Signature, |r, other| {
            r.consumer_signature = other.consumer_signature;
        }),
        ("a signature of nobody", RefusalCode::Signature, |r, _| {
            let mut bytes = *r.consumer_signature.as_bytes();
            // The other of the two recovery bytes.
            bytes[64] ^= 27 ^ 28;
            r.consumer_signature = Signature::from_slice(&bytes).unwrap();
        }),
        (
            "another agreement's tunnel key",
            RefusalCode::Signature,
            |r, other| {
                r.binding = other.binding.clone();
            },
        ),
        (
            "a tunnel key put in by a third party",
            RefusalCode::Signature,
            |r, _| {
                r.binding.tunnel_key = [9; 32];
            },
        ),
        (
            "a release of the future",
            RefusalCode::Incompatible,
            |r, _| {
                (r.hello.protocol_min, r.hello.protocol_max) = (1_000, 1_001);
            },
        ),
    ];
    let mut world = World::new(Setting::default(), 1);
    for (what, code, change) in table {
        let (terms, others) = (world.terms(0), world.terms(0));
        let other = world.apply(0, others).unwrap();
        let mut applicant = world.apply(0, terms).unwrap();
        change(&mut applicant.request, &other.request);
        let facts = world.facts(0);
        refused(&mut world, &applicant, &facts, code, what);
    }
    first_come_is_served(&mut world);
}

#[test]
fn who_cannot_pay_the_first_chunk_is_refused() {
    let mut world = World::new(Setting::default(), 1);
    let terms = world.terms(0);
    let applicant = world.apply(0, terms).unwrap();
    let good = world.facts(0);
    let with = |spendable: Amount, leaving| AdmissionFacts {
        funds: Some(Funds { spendable, leaving }),
        ..good
    };
    let poor = with(units(99_999), false);
    let leaving = with(good.funds.unwrap().spendable, true);
    let code = RefusalCode::Unfunded;
    refused(&mut world, &applicant, &poor, code, "99,999 units");
    refused(&mut world, &applicant, &leaving, code, "an exit");
    let enough = with(units(100_000), false);
    world.admit(&applicant.request, &enough).unwrap().unwrap();
}

#[test]
fn a_deposit_that_other_sessions_used_up_does_not_count_twice() {
    let setting = Setting {
        deposit: 250_000,
        ..Setting::default()
    };
    let mut world = connected(setting, 1);
    exchange(&mut world, 0, 75, millis(5));
    world.close(0).unwrap();
    world.run_for(10 * SECOND).unwrap();
    assert_eq!(world.consumer(0).total(), units(195_000));
    let terms = world.terms(0);
    let applicant = world.apply(0, terms).unwrap();
    let facts = world.facts(0);
    assert_eq!(facts.funds.unwrap().spendable, units(55_000));
    let code = RefusalCode::Unfunded;
    refused(&mut world, &applicant, &facts, code, "55,000 units");
}

#[test]
fn a_tunnel_key_in_use_is_refused() {
    let mut world = connected(
        Setting {
            consumers: 2,
            ..Setting::default()
        },
        1,
    );
    let terms = world.terms(0);
    let applicant = world.apply(0, terms).unwrap();
    let facts = world.facts(0);
    world.admit(&applicant.request, &facts).unwrap().unwrap();
    // The same key under a fresh agreement.
    let terms = world.terms(0);
    let mut again = world.apply(0, terms).unwrap();
    again.request.binding = world.bind(0, &terms, &applicant.secret).unwrap();
    let facts = world.facts(0);
    let code = RefusalCode::Terms;
    refused(
        &mut world,
        &again,
        &facts,
        code,
        "the key of another session",
    );
}

#[test]
fn an_agreement_serves_once() {
    let mut world = World::new(Setting::default(), 1);
    let terms = world.terms(0);
    let applicant = world.apply(0, terms).unwrap();
    let facts = world.facts(0);
    let reply = world.admit(&applicant.request, &facts).unwrap().unwrap();
    world.begin(0, applicant.clone(), reply).unwrap();
    let code = RefusalCode::Replayed;
    let facts = world.facts(0);
    refused(&mut world, &applicant, &facts, code, "while it lives");

    world.run_for(SECOND).unwrap();
    exchange(&mut world, 0, 10, millis(5));
    world.close(0).unwrap();
    world.run_for(2 * SECOND).unwrap();
    assert_eq!(world.exit().session_count(), 0);
    assert_eq!(world.exit().collector().agreements().count(), 0);
    let facts = world.facts(0);
    refused(&mut world, &applicant, &facts, code, "after it was paid");
    world.run_for(3_600 * SECOND).unwrap();
    let facts = world.facts(0);
    refused(&mut world, &applicant, &facts, code, "an hour later");
}

#[test]
fn a_full_exit_refuses_until_somebody_leaves() {
    let setting = Setting {
        consumers: 3,
        max_sessions: 2,
        ..Setting::default()
    };
    let mut world = World::new(setting, 1);
    connect(&mut world, 0);
    connect(&mut world, 1);
    let terms = world.terms(2);
    let applicant = world.apply(2, terms).unwrap();
    let facts = world.facts(2);
    let code = RefusalCode::Full;
    refused(&mut world, &applicant, &facts, code, "a third session");
    world.close(0).unwrap();
    world.run_for(5 * SECOND).unwrap();
    let reply = world.admit(&applicant.request, &facts).unwrap().unwrap();
    world.begin(2, applicant, reply).unwrap();
    assert!(
        world
            .run_until(SECOND, |w| w.consumer(2).is_active())
            .unwrap()
    );
}

#[test]
fn addresses_run_out_and_come_back() {
    let setting = Setting {
        consumers: 6,
        // Network, exit and broadcast are taken: five remain.
        pool_v4: "10.80.0.0/29",
        ..Setting::default()
    };
    let mut world = World::new(setting, 1);
    for consumer in 0..5 {
        connect(&mut world, consumer);
    }
    let address = |w: &World, c: usize| w.consumer(c).network().map(|n| n.consumer_v4);
    let mut all: Vec<_> = (0..5).map(|c| address(&world, c)).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5);
    let terms = world.terms(5);
    let applicant = world.apply(5, terms).unwrap();
    let facts = world.facts(5);
    let code = RefusalCode::Full;
    refused(&mut world, &applicant, &facts, code, "a sixth address");
    let freed = address(&world, 3);
    world.close(3).unwrap();
    world.run_for(5 * SECOND).unwrap();
    let reply = world.admit(&applicant.request, &facts).unwrap().unwrap();
    world.begin(5, applicant, reply).unwrap();
    assert_eq!(address(&world, 5), freed);
    assert!(
        world
            .run_until(SECOND, |w| w.consumer(5).is_active())
            .unwrap()
    );
    world.run_for(SECOND).unwrap();
    assert_eq!(exchange(&mut world, 5, 10, millis(5)), 10);
    assert_eq!(world.internet(5).len(), 10);
}

fn first_come_is_served(world: &mut World) {
    let terms = world.terms(0);
    let applicant = world.apply(0, terms).unwrap();
    let facts = world.facts(0);
    let reply = world.admit(&applicant.request, &facts).unwrap().unwrap();
    let TunnelNetwork {
        consumer_v4,
        consumer_v6,
        mtu,
    } = reply.network;
    assert_eq!(consumer_v4.to_string(), "10.80.0.2");
    assert_eq!(consumer_v6.unwrap().to_string(), "fd00:80::2");
    assert_eq!(mtu, 1_420);
}
