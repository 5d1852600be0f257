//! The codecs: what is sealed is read, what is not ours is refused, and no bytes make anything panic.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::net::SocketAddr;

use proptest::prelude::*;
use wayfare_identity::NodeKey;
use wayfare_path::{
    Answer, Attempt, Candidate, CandidateKind, Capabilities, Cookies, Description, Ephemeral,
    MAX_OFFER, NatClass, Offer, OfferError, Probe, ProbeKind, ProbeSecret, Role, observe_reply,
    observe_result, tag_of,
};

fn addr() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from),
        (any::<[u16; 8]>(), any::<u16>()).prop_map(SocketAddr::from),
    ]
}

fn nat() -> impl Strategy<Value = NatClass> {
    prop_oneof![
        Just(NatClass::Unknown),
        Just(NatClass::Open),
        Just(NatClass::EndpointIndependent),
        (any::<i16>(), any::<u16>())
            .prop_map(|(delta, last_port)| NatClass::Sequential { delta, last_port }),
        Just(NatClass::Random),
        Just(NatClass::UdpBlocked),
    ]
}

fn description() -> impl Strategy<Value = Description> {
    let candidate =
        (0..6usize, addr()).prop_map(|(kind, addr)| Candidate::new(CandidateKind::ALL[kind], addr));
    let candidates = prop::collection::vec(candidate, 0..40);
    (candidates, nat(), any::<Option<u8>>(), any::<[u8; 32]>()).prop_map(
        |(candidates, nat, depth, seed)| {
            Description::new(Ephemeral::from_seed(seed).public(), candidates, nat)
                .with_depth(depth)
                .with_capabilities(Capabilities::BIRTHDAY)
        },
    )
}

fn secrets() -> (ProbeSecret, ProbeSecret) {
    let keys = [1, 2].map(|n| NodeKey::from_seed([n; 32]));
    let ephemerals = [3, 4].map(|n| Ephemeral::from_seed([n; 32]));
    let describe = |n: usize| Description::new(ephemerals[n].public(), vec![], NatClass::Unknown);
    let attempt = Attempt([5; 16]);
    let offer = Offer::sign(&keys[0], keys[1].id(), attempt, 0, &describe(0));
    let offer = offer.verify(keys[0].id(), keys[1].id()).unwrap();
    let answer = Answer::sign(&keys[1], &offer, 0, &describe(1));
    let answer = answer.verify(keys[1].id(), keys[0].id(), attempt).unwrap();
    (
        answer.secret(&ephemerals[0]).unwrap(),
        offer.secret(&ephemerals[1]).unwrap(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn an_offer_is_what_was_offered(description in description(), attempt: [u8; 16], serial: u32) {
        let (us, peer) = (NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32]));
        let bytes = Offer::sign(&us, peer.id(), Attempt(attempt), serial, &description).to_bytes();
        prop_assert!(bytes.len() <= MAX_OFFER);
        let offer = Offer::from_bytes(&bytes).unwrap();
        let verified = offer.verify(us.id(), peer.id()).unwrap();
        prop_assert_eq!(verified.description(), &description);
        prop_assert_eq!(verified.attempt(), Attempt(attempt));
    }

    #[test]
    fn one_changed_bit_is_refused(description in description(), at: prop::sample::Index, bit in 0..8u8) {
        let (us, peer) = (NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32]));
        let mut bytes = Offer::sign(&us, peer.id(), Attempt([0; 16]), 0, &description).to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let read = Offer::from_bytes(&bytes);
        prop_assert!(read.and_then(|offer| offer.verify(us.id(), peer.id())).is_err());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000), from in addr()) {
        let (caller, _) = secrets();
        let _ = (Offer::from_bytes(&bytes), Answer::from_bytes(&bytes));
        let _ = (tag_of(&bytes), observe_result(&bytes));
        let now = std::time::Instant::now();
        let _ = observe_reply(from, &bytes, &Cookies::new([1; 32], now), now);
        prop_assert!(Probe::open(&bytes, &caller, Role::Callee).is_err());
    }

    #[test]
    fn no_head_with_any_bytes_panics(rest in prop::collection::vec(any::<u8>(), 80..2048), role in 1..3u8) {
        let bytes = [&[1, role], rest.as_slice()].concat();
        let _ = (Offer::from_bytes(&bytes), Answer::from_bytes(&bytes));
        let probe = [&[5, 0, 0, 0, role], &rest[..50]].concat();
        prop_assert!(ProbeKind::of(&probe).is_some());
        prop_assert!(Probe::open(&probe, &secrets().0, Role::Callee).is_err());
    }

    #[test]
    fn a_probe_is_what_was_sealed(transaction: u64, wish: bool, again: bool, round: u8, seen in addr(), at in 0..55usize) {
        let (caller, callee) = secrets();
        let seen = SocketAddr::new(seen.ip().to_canonical(), seen.port());
        let ping = Probe::Ping { transaction, wish, again, round };
        for probe in [ping, Probe::Pong { transaction, seen }] {
            let mut bytes = probe.seal(&caller, Role::Caller);
            prop_assert_eq!(tag_of(&bytes), Some(callee.tag()));
            prop_assert_eq!(Probe::open(&bytes, &callee, Role::Caller), Ok(probe));
            // A probe that is reflected to its sender proves nothing.
            prop_assert!(Probe::open(&bytes, &caller, Role::Callee).is_err());
            bytes[at] ^= 1;
            prop_assert!(Probe::open(&bytes, &callee, Role::Caller).is_err());
        }
    }
}

#[test]
fn an_offer_is_for_one_node_one_role_and_one_attempt() {
    let [caller, callee, other] = [1, 2, 3].map(|n| NodeKey::from_seed([n; 32]));
    let description = Description::new(
        Ephemeral::from_seed([1; 32]).public(),
        vec![],
        NatClass::Open,
    );
    let offer = Offer::sign(&caller, callee.id(), Attempt([1; 16]), 0, &description);
    let wrong = Err(OfferError::Signature);
    assert_eq!(offer.clone().verify(caller.id(), other.id()), wrong);
    assert_eq!(offer.clone().verify(other.id(), callee.id()), wrong);
    assert_eq!(Answer::from_bytes(&offer.to_bytes()), Err(OfferError::Role));
    let mut disguised = offer.to_bytes();
    disguised[1] = 2;
    let disguised = Answer::from_bytes(&disguised).unwrap();
    let verified = disguised.verify(caller.id(), callee.id(), Attempt([1; 16]));
    assert_eq!(verified, wrong);

    let offer = offer.verify(caller.id(), callee.id()).unwrap();
    let answer = Answer::sign(&callee, &offer, 0, &description);
    let verified = answer
        .clone()
        .verify(callee.id(), caller.id(), Attempt([2; 16]));
    assert_eq!(verified, Err(OfferError::Attempt));
    let first = answer
        .verify(callee.id(), caller.id(), Attempt([1; 16]))
        .unwrap();
    let later = Answer::sign(&callee, &offer, 1, &description);
    let later = later
        .verify(callee.id(), caller.id(), Attempt([1; 16]))
        .unwrap();
    assert!(later.supersedes(&first) && !first.supersedes(&later) && !first.supersedes(&first));
}

#[test]
fn what_is_too_long_or_too_new_is_refused() {
    assert_eq!(
        Offer::from_bytes(&[1; MAX_OFFER + 1]),
        Err(OfferError::TooLong)
    );
    assert_eq!(Offer::from_bytes(&[9, 1, 0]), Err(OfferError::Version(9)));
    assert_eq!(Offer::from_bytes(&[]), Err(OfferError::Malformed));
}
