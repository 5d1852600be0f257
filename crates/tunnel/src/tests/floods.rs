//! Attack A14: floods, spoofed sources, junk of every shape. What must hold: nothing unauthenticated is answered (a
//! cookie under load excepted, and that is smaller than what it answers), nothing grows, nothing that was
//! established is disturbed, and an honest peer gets through meanwhile.

use super::*;
use crate::chance::Chance;
use crate::cookie::{CookieJar, MacKeys};
use crate::endpoint::Footprint;
use crate::{COOKIE_LEN, Deadline, INITIATION_LEN, MessageKind, PeerStats, RESPONSE_LEN, classify};

/// Everything about an endpoint and its peer that a stranger must not move.
#[derive(Debug, PartialEq)]
struct State {
    footprint: Footprint,
    stats: Option<PeerStats>,
    timeout: Option<Deadline>,
    loaded: bool,
}

fn state(endpoint: &Endpoint, peer: PeerId, now: Instant) -> State {
    State {
        footprint: endpoint.footprint(),
        stats: endpoint.peer_stats(peer),
        timeout: endpoint.poll_timeout(),
        loaded: endpoint.is_under_load(now),
    }
}

/// A message with a right MAC1 and nothing else right: what somebody who knows our public key can make at no cost.
fn cheap_forgery(keys: &MacKeys, kind: u8, salt: u32, now: Instant) -> Vec<u8> {
    let len = if kind == 1 {
        INITIATION_LEN
    } else {
        RESPONSE_LEN
    };
    let mut message: Vec<u8> = salt.to_le_bytes().into_iter().cycle().take(len).collect();
    message[..4].copy_from_slice(&[kind, 0, 0, 0]);
    CookieJar::default().seal(&mut message, keys, now);
    let mac2 = message.len() - 16;
    message[mac2..].fill(0);
    message
}

/// An address of its own for each number, IPv4 and IPv6 in turn.
fn spoofed(number: u32) -> SocketAddr {
    let port = 1_024 + (number % 50_000) as u16;
    if number.is_multiple_of(2) {
        SocketAddr::from(((0x0b00_0000 + number).to_be_bytes(), port))
    } else {
        let [a, b] = [number >> 16, number].map(|half| half as u16);
        SocketAddr::from(([0x2001, 0xdb8, a, b, 0, 0, 0, 1], port))
    }
}

/// One genuine datagram of each kind for an established provider, none of them delivered: a renewal's initiation,
/// the response to the provider's own, and a packet.
fn genuine(pair: &mut Pair) -> [Vec<u8>; 3] {
    let data = seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 100), pair.now);
    pair.now += SECOND;
    pair.provider.initiate(pair.guest, pair.now);
    let theirs = transmits(&mut pair.provider).remove(0).payload;
    receive(&mut pair.consumer, address(2), &theirs, pair.now);
    let response = transmits(&mut pair.consumer).remove(0).payload;
    pair.consumer.initiate(pair.exit, pair.now);
    let initiation = transmits(&mut pair.consumer).remove(0).payload;
    [initiation, response, data]
}

/// The genuine ones still do what they should: the positive control of every sweep.
fn all_still_work(pair: &mut Pair, messages: &[Vec<u8>; 3]) {
    for (message, kind) in messages.iter().zip([1_u8, 2, 4]).rev() {
        let got = receive(&mut pair.provider, address(1), message, pair.now);
        assert!(!matches!(got, Got::Dropped(_)), "kind {kind}: {got:?}");
    }
}

/// Delivers junk from somewhere else and checks that it came to nothing.
fn is_nothing(pair: &mut Pair, junk: &[u8], what: &str) {
    let got = receive(&mut pair.provider, address(66), junk, pair.now);
    assert!(matches!(got, Got::Dropped(_)), "{what}: {got:?}");
}

#[test]
fn a14_a_flood_from_one_source_costs_that_source_alone() {
    let mut pair = Pair::established();
    let keys = MacKeys::of(&pair.provider.public_key());
    let before = pair.provider.footprint();
    let mut answered = 0;
    for number in 0..20_000 {
        let junk = cheap_forgery(&keys, 1 + (number % 2) as u8, number, pair.now);
        is_nothing(&mut pair, &junk, "flood");
        for reply in transmits(&mut pair.provider) {
            assert_eq!(
                (reply.to, classify(&reply.payload)),
                (address(66), Some(MessageKind::Cookie))
            );
            assert!(reply.payload.len() < junk.len(), "no amplification");
            answered += 1;
        }
    }
    // Before the load was noticed: silence. From then on a cookie each, and no x25519. The first of the 200 was the
    // handshake that established the pair.
    assert_eq!(answered, 20_000 - 199);
    assert_eq!(pair.provider.footprint(), before);
    // The honest peer neighbours the flooder's address.
    assert!(matches!(
        (pair.up(60), pair.down(60)),
        (Got::Packet(..), Got::Packet(..))
    ));
    renews_under_flood(&mut pair, |pair| {
        let junk = cheap_forgery(&keys, 1, 7, pair.now);
        for _ in 0..300 {
            is_nothing(pair, &junk, "flood");
        }
    });
}

#[test]
fn a14_a_flood_from_a_hundred_thousand_spoofed_sources_leaves_nothing_behind() {
    let mut pair = Pair::established();
    let keys = MacKeys::of(&pair.provider.public_key());
    let limits = EndpointConfig::default();
    let before = state(&pair.provider, pair.guest, pair.now);
    let (mut cookies, mut most) = (0, 0);
    for number in 0..100_000 {
        let junk = cheap_forgery(&keys, 1, number, pair.now);
        let got = receive(&mut pair.provider, spoofed(number), &junk, pair.now);
        assert!(matches!(got, Got::Dropped(_)), "{got:?}");
        // A driver that is late: replies pile up to their bound and no further.
        most = most.max(pair.provider.footprint().transmits);
        if number % 10_000 == 9_999 {
            for reply in transmits(&mut pair.provider) {
                assert_eq!((reply.peer, reply.payload.len()), (None, COOKIE_LEN));
                cookies += 1;
            }
        }
    }
    const { assert!(COOKIE_LEN < RESPONSE_LEN && COOKIE_LEN < INITIATION_LEN) };
    assert_eq!(
        (most, cookies),
        (limits.max_transmits, 10 * limits.max_transmits)
    );
    let after = state(&pair.provider, pair.guest, pair.now);
    assert_eq!(
        after.footprint.sources, 0,
        "an address that proved nothing is not remembered"
    );
    assert_eq!(
        after,
        State {
            loaded: true,
            ..before
        }
    );
    renews_under_flood(&mut pair, |pair| {
        for number in 0..300 {
            let junk = cheap_forgery(&keys, 1, number, pair.now);
            receive(&mut pair.provider, spoofed(number), &junk, pair.now);
        }
    });
}

/// With the flood before every single message of the honest peer, its renewal succeeds within two attempts (the
/// first brings the cookie), and its traffic is opened all the while.
fn renews_under_flood(pair: &mut Pair, mut flood: impl FnMut(&mut Pair)) {
    events(&mut pair.provider);
    pair.now += SECOND;
    pair.consumer.initiate(pair.exit, pair.now);
    let begin = pair.now;
    let mut renewed = false;
    while !renewed && pair.now < begin + 6 * SECOND {
        for sent in transmits(&mut pair.consumer) {
            flood(pair);
            assert!(pair.provider.is_under_load(pair.now));
            receive(&mut pair.provider, address(1), &sent.payload, pair.now);
        }
        for sent in transmits(&mut pair.provider) {
            if sent.to == address(1) {
                receive(&mut pair.consumer, address(2), &sent.payload, pair.now);
            }
        }
        flood(pair);
        transmits(&mut pair.provider);
        assert!(matches!(
            (pair.up(60), pair.down(60)),
            (Got::Packet(..), Got::Packet(..))
        ));
        renewed = events(&mut pair.provider).contains(&Event::Rekeyed { peer: pair.guest });
        pair.now += SECOND / 10;
        pair.consumer.handle_timeout(pair.now);
    }
    assert!(renewed, "an honest handshake passes during the flood");
}

#[test]
fn a14_oversized_datagrams_of_every_kind_are_nothing() {
    let mut pair = Pair::established();
    let messages = genuine(&mut pair);
    let before = state(&pair.provider, pair.guest, pair.now);
    for message in &messages {
        for more in (1..200).chain([1_500, 9_000, 65_535 - message.len(), 65_536, 1 << 20]) {
            for filling in [0, 0xff] {
                let mut oversized = message.clone();
                oversized.resize(message.len() + more, filling);
                is_nothing(
                    &mut pair,
                    &oversized,
                    &format!("kind {} and {more}", message[0]),
                );
            }
        }
    }
    assert_eq!(state(&pair.provider, pair.guest, pair.now), before);
    all_still_work(&mut pair, &messages);
}

#[test]
fn a14_coalesced_messages_and_junk_are_nothing() {
    let mut pair = Pair::established();
    let messages = genuine(&mut pair);
    let mut chance = Chance::new([14; 32]);
    let before = state(&pair.provider, pair.guest, pair.now);
    for first in &messages {
        for second in &messages {
            // As a socket would hand them over that forgot where the first one ended.
            is_nothing(
                &mut pair,
                &[first.as_slice(), second].concat(),
                "two in one",
            );
            for junk_len in [1, 15, 16, 31, 32, 1_000] {
                let junk: Vec<u8> = chance
                    .draw()
                    .iter()
                    .copied()
                    .cycle()
                    .take(junk_len)
                    .collect();
                is_nothing(
                    &mut pair,
                    &[first.as_slice(), &junk].concat(),
                    "junk behind",
                );
                is_nothing(
                    &mut pair,
                    &[&junk, second.as_slice()].concat(),
                    "junk before",
                );
                is_nothing(
                    &mut pair,
                    &[first.as_slice(), &junk, second].concat(),
                    "junk between",
                );
            }
        }
    }
    // Sixty-four segments of one receive, each on its own index or none.
    let segments: Vec<u8> = (0..64).flat_map(|_| messages[2].clone()).collect();
    is_nothing(&mut pair, &segments, "sixty-four in one");
    assert_eq!(state(&pair.provider, pair.guest, pair.now), before);
    all_still_work(&mut pair, &messages);
}

#[test]
fn a14_every_truncation_of_every_message_is_nothing() {
    let mut pair = Pair::established();
    let messages = genuine(&mut pair);
    let before = state(&pair.provider, pair.guest, pair.now);
    for message in &messages {
        for len in 0..message.len() {
            is_nothing(
                &mut pair,
                &message[..len],
                &format!("kind {} cut to {len}", message[0]),
            );
            is_nothing(
                &mut pair,
                &message[message.len() - len..],
                &format!("last {len} of kind {}", message[0]),
            );
        }
    }
    assert_eq!(state(&pair.provider, pair.guest, pair.now), before);
    all_still_work(&mut pair, &messages);
}

#[test]
fn a14_junk_moves_no_endpoint_timer_or_counter() {
    let mut pair = Pair::established();
    let messages = genuine(&mut pair);
    let keys = MacKeys::of(&pair.provider.public_key());
    let (ours, theirs) = (messages[1][8..12].to_vec(), messages[2][4..8].to_vec());
    let before = state(&pair.provider, pair.guest, pair.now);
    for number in 0..2_000_u32 {
        // Our own indices, as an observer of the path knows them, on every kind of message.
        let mut response = cheap_forgery(&keys, 2, number, pair.now);
        response[8..12].copy_from_slice(&ours);
        CookieJar::default().seal(&mut response, &keys, pair.now);
        let mut cookie = vec![number as u8; COOKIE_LEN];
        cookie[..4].copy_from_slice(&[3, 0, 0, 0]);
        cookie[4..8].copy_from_slice(&ours);
        let mut data = vec![number as u8; 32 + number as usize % 1_500];
        data[..4].copy_from_slice(&[4, 0, 0, 0]);
        data[4..8].copy_from_slice(&theirs);
        data[8..16].copy_from_slice(&u64::from(number).to_le_bytes());
        for junk in [&cookie, &data] {
            is_nothing(&mut pair, junk, "junk on our index");
        }
        // MAC1 is right on this one, so it counts towards load: below the threshold only.
        if number < 150 {
            is_nothing(&mut pair, &response, "response on our index");
        }
    }
    assert_eq!(state(&pair.provider, pair.guest, pair.now), before);
    assert_eq!(transmits(&mut pair.provider), []);
    all_still_work(&mut pair, &messages);
    // The positive control: genuine data does move what junk did not.
    assert_ne!(state(&pair.provider, pair.guest, pair.now), before);
}
