//! Hostile input: any bytes, altered messages, floods. Nothing panics, nothing is answered, nothing grows.

use proptest::prelude::*;

use super::*;
use crate::cookie::{CookieJar, MacKeys};

/// One genuine message of each kind for the provider of `pair`, and none of them delivered.
fn genuine(pair: &mut Pair) -> Vec<Vec<u8>> {
    let data = seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 100), pair.now);
    pair.now += SECOND;
    pair.consumer.initiate(pair.exit, pair.now);
    let initiation = transmits(&mut pair.consumer).remove(0).payload;
    pair.provider.initiate(pair.guest, pair.now);
    let theirs = transmits(&mut pair.provider).remove(0).payload;
    receive(&mut pair.consumer, address(2), &theirs, pair.now);
    let response = transmits(&mut pair.consumer).remove(0).payload;
    pair.consumer.set_under_load(true);
    receive(&mut pair.consumer, address(2), &theirs, pair.now);
    pair.consumer.set_under_load(false);
    let cookie = transmits(&mut pair.consumer).remove(0).payload;
    vec![initiation, response, cookie, data]
}

#[test]
fn genuine_messages_are_what_the_mutations_start_from() {
    let mut pair = Pair::established();
    let messages = genuine(&mut pair);
    let kinds: Vec<_> = messages
        .iter()
        .filter_map(|message| crate::classify(message))
        .collect();
    use crate::MessageKind::{Cookie, Initiation, Response, Transport};
    assert_eq!(kinds, [Initiation, Response, Cookie, Transport]);
    for message in [3, 2, 1, 0].map(|at| messages[at].clone()) {
        let got = receive(&mut pair.provider, address(1), &message, pair.now);
        assert!(
            !matches!(got, Got::Dropped(_)),
            "{got:?} for {:?}",
            crate::classify(&message)
        );
    }
}

#[test]
fn every_altered_bit_of_every_message_is_refused_in_silence() {
    let mut pair = Pair::established();
    let messages = genuine(&mut pair);
    events(&mut pair.provider);
    for message in &messages {
        for bit in 0..message.len() * 8 {
            let mut altered = message.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            // MAC2 is only looked at under load, so an altered one is no forgery.
            let in_mac2 =
                message.len() != COOKIE && bit / 8 >= message.len() - 16 && message[0] < 3;
            if in_mac2 {
                continue;
            }
            let got = receive(&mut pair.provider, address(66), &altered, pair.now);
            assert!(
                matches!(got, Got::Dropped(_)),
                "kind {} bit {bit}: {got:?}",
                message[0]
            );
        }
    }
    assert_eq!(transmits(&mut pair.provider), []);
    assert_eq!(events(&mut pair.provider), []);
    assert_eq!(
        pair.provider.peer_stats(pair.guest).unwrap().endpoint,
        Some(address(1))
    );
    // And none of it spoilt the real ones.
    for message in [3, 2, 1, 0].map(|at| messages[at].clone()) {
        assert!(!matches!(
            receive(&mut pair.provider, address(1), &message, pair.now),
            Got::Dropped(_)
        ));
    }
}

const COOKIE: usize = crate::COOKIE_LEN;

#[test]
fn a_flood_of_junk_leaves_no_trace() {
    let mut pair = Pair::established();
    let before = format!("{:?}", pair.provider.peer_stats(pair.guest));
    let mut chance = crate::chance::Chance::new([3; 32]);
    for round in 0..20_000_u32 {
        let bytes = chance.draw();
        let mut junk = bytes.repeat(8);
        junk.truncate([32, 64, 92, 148, 200][round as usize % 5]);
        junk[..4].copy_from_slice(&[1 + bytes[0] % 4, 0, 0, 0]);
        let from = SocketAddr::from(([10, bytes[1], bytes[2], bytes[3]], 9));
        assert!(matches!(
            receive(&mut pair.provider, from, &junk, pair.now),
            Got::Dropped(_)
        ));
    }
    assert_eq!(transmits(&mut pair.provider), []);
    assert_eq!(
        format!("{:?}", pair.provider.peer_stats(pair.guest)),
        before
    );
    assert!(
        !pair.provider.is_under_load(pair.now),
        "messages without MAC1 are no load"
    );
    assert!(matches!(
        (pair.up(60), pair.down(60)),
        (Got::Packet(..), Got::Packet(..))
    ));
}

#[test]
fn a_flood_from_who_knows_our_key_is_bounded_and_an_honest_peer_gets_in() {
    let config = EndpointConfig {
        max_transmits: 100,
        ..EndpointConfig::default()
    };
    let mut pair = Pair::with(config, |_| {});
    let keys = MacKeys::of(&pair.provider.public_key());
    let flood = |provider: &mut Endpoint, now| {
        let mut worst = 0;
        for round in 0..2_000_u32 {
            let mut junk = vec![round as u8; 148];
            junk[..4].copy_from_slice(&[1, 0, 0, 0]);
            CookieJar::default().seal(&mut junk, &keys, now);
            receive(
                provider,
                SocketAddr::from((round.to_be_bytes(), 9)),
                &junk,
                now,
            );
            worst += 1;
        }
        assert!(transmits(provider).len() <= 100);
        worst
    };
    assert_eq!(flood(&mut pair.provider, pair.now), 2_000);
    assert!(pair.provider.is_under_load(pair.now));
    // First attempt: a cookie. Second attempt, in the middle of the next flood: in.
    pair.handshake();
    assert_eq!(events(&mut pair.provider), []);
    pair.now += 6 * SECOND;
    flood(&mut pair.provider, pair.now);
    pair.run_until(pair.now);
    assert!(matches!(
        (pair.up(60), pair.down(60)),
        (Got::Packet(..), Got::Packet(..))
    ));
}

#[test]
fn a_peer_key_of_low_order_is_harmless() {
    let now = instant();
    let mut endpoint = endpoint(1, now);
    for bytes in [[0; 32], std::array::from_fn(|i| u8::from(i == 0))] {
        let mut config = PeerConfig::new(crate::PublicKey(bytes));
        config.endpoint = Some(address(2));
        let id = endpoint.add_peer(config).unwrap();
        assert!(!endpoint.initiate(id, now), "no shared secret can exist");
        assert_eq!(transmits(&mut endpoint), []);
        endpoint.remove_peer(id);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_mangled_datagrams_is_survived(
        steps in prop::collection::vec(
            (0_usize..5, any::<prop::sample::Index>(), any::<u8>(), 0_usize..220, any::<bool>(), 0_u64..40_000),
            1..60,
        ),
    ) {
        let mut pair = Pair::established();
        let messages = genuine(&mut pair);
        for (which, at, value, len, resize, millis) in steps {
            let mut bytes = messages.get(which).cloned().unwrap_or_default();
            if resize || bytes.is_empty() {
                bytes.resize(len, value);
            }
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            pair.now += Duration::from_millis(millis);
            receive(&mut pair.provider, address(value), &bytes, pair.now);
            receive(&mut pair.consumer, address(value), &bytes, pair.now);
            pair.consumer.handle_timeout(pair.now);
            pair.provider.handle_timeout(pair.now);
            prop_assert!(transmits(&mut pair.provider).len() <= 4);
            prop_assert!(transmits(&mut pair.consumer).len() <= 4);
        }
        // Both ends still work together.
        let later = pair.now + 300 * SECOND;
        pair.consumer.set_endpoint(pair.exit, address(2));
        pair.provider.set_endpoint(pair.guest, address(1));
        pair.run_until(later);
        pair.handshake();
        let was_established = matches!((pair.up(60), pair.down(60)), (Got::Packet(..), Got::Packet(..)));
        prop_assert!(was_established);
    }
}
