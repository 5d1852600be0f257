//! The eleven faults other userspace cores had, one test each, named after the fault. Each also holds the case that
//! must pass (its positive control), so that a core which refuses everything fails here too.
//!
//! | fault elsewhere | test |
//! |---|---|
//! | an oversized datagram panics the receive task | [`fault_01_an_oversized_datagram_does_not_panic`] |
//! | nested allowed-IPs let one peer spoof another | [`fault_02_nested_allowed_ips_do_not_let_one_peer_speak_for_another`] |
//! | Reject-After-Messages is not enforced | [`fault_03_reject_after_messages_is_enforced`] |
//! | the cookie's MAC leaves out the port | [`fault_04_a_cookie_is_bound_to_the_port`] |
//! | the handshake limiter is global, not per source | [`fault_05_the_limiter_is_per_source_and_not_global`] |
//! | a changed preshared key is ignored | [`fault_06_a_changed_preshared_key_is_used`], [`fault_06_a_preshared_key_reaches_the_handshake_in_flight`] |
//! | the peer roams on a cookie reply | [`fault_07_a_cookie_reply_does_not_move_the_peer`] |
//! | the replay window is too small | [`fault_08_the_replay_window_takes_8192_of_reordering`] |
//! | legitimate handshakes are dropped for 250 ms | [`fault_09_a_legitimate_handshake_is_not_refused_for_coming_soon`] |
//! | session indices can be predicted | [`fault_10_session_indices_are_unpredictable_and_unique`] |
//! | packets are not padded to 16 bytes | [`fault_11_packets_are_padded_to_sixteen_bytes`] |

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::keypair::REJECT_AFTER_MESSAGES;

#[test]
fn fault_01_an_oversized_datagram_does_not_panic() {
    let mut pair = Pair::established();
    // A real index, so that the bytes reach the cipher; lengths beyond any MTU and beyond UDP itself.
    let genuine = seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 100), pair.now);
    for len in [1_501, 9_000, 65_507, 65_535, 65_536, 200_000] {
        let mut oversized = genuine.clone();
        oversized.resize(len, 0xee);
        let got = receive(&mut pair.provider, address(1), &oversized, pair.now);
        assert_eq!(got, Got::Dropped(DropReason::Forged), "{len}");
    }
    let big = packet(OUT.0, OUT.1, 65_000);
    let datagram = seal(&mut pair.consumer, &big, pair.now);
    assert_eq!(
        receive(&mut pair.provider, address(1), &datagram, pair.now),
        Got::Packet(pair.guest, big)
    );
}

#[test]
fn fault_02_nested_allowed_ips_do_not_let_one_peer_speak_for_another() {
    let now = instant();
    let mut provider = endpoint(9, now);
    let (mut wide, mut narrow) = (endpoint(1, now), endpoint(2, now));
    let mut ids = Vec::new();
    for (consumer, prefix) in [(&mut wide, "10.0.0.0/8"), (&mut narrow, "10.8.0.0/24")] {
        let mut exit = PeerConfig::new(provider.public_key());
        exit.allowed_ips = vec!["0.0.0.0/0".parse().unwrap()];
        exit.endpoint = Some(address(9));
        let exit = consumer.add_peer(exit).unwrap();
        let mut guest = PeerConfig::new(consumer.public_key());
        guest.allowed_ips = vec![prefix.parse().unwrap()];
        ids.push(provider.add_peer(guest).unwrap());
        consumer.initiate(exit, now);
        receive(
            &mut provider,
            address(1),
            &transmits(consumer)[0].payload,
            now,
        );
        receive(
            consumer,
            address(9),
            &transmits(&mut provider)[0].payload,
            now,
        );
    }
    // 10.8.0.5 lies in both prefixes, but belongs to the longer one alone.
    let forged = seal(&mut wide, &packet("10.8.0.5", "1.1.1.1", 60), now);
    assert_eq!(
        receive(&mut provider, address(1), &forged, now),
        Got::Dropped(DropReason::SpoofedSource)
    );
    assert_eq!(provider.peer_stats(ids[0]).unwrap().rx_packets, 0);
    let honest = seal(&mut narrow, &packet("10.8.0.5", "1.1.1.1", 60), now);
    assert!(
        matches!(receive(&mut provider, address(2), &honest, now), Got::Packet(id, _) if id == ids[1])
    );
    let own = seal(&mut wide, &packet("10.9.0.5", "1.1.1.1", 60), now);
    assert!(
        matches!(receive(&mut provider, address(1), &own, now), Got::Packet(id, _) if id == ids[0])
    );
}

#[test]
fn fault_03_reject_after_messages_is_enforced() {
    let mut pair = Pair::established();
    let counter_at =
        |endpoint: &mut Endpoint, id, counter| endpoint.force_next_counter(id, counter);
    counter_at(&mut pair.consumer, pair.exit, REJECT_AFTER_MESSAGES - 1);
    let last = seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 60), pair.now);
    assert!(matches!(
        receive(&mut pair.provider, address(1), &last, pair.now),
        Got::Packet(..)
    ));
    // The next counter would be REJECT_AFTER_MESSAGES: the packet waits for new keys instead.
    let mut buffer = [0; 200];
    let sealed = pair
        .consumer
        .seal(&packet(OUT.0, OUT.1, 61), pair.now, &mut buffer);
    assert_eq!(sealed, Sealed::Queued { peer: pair.exit });
    // And a peer that ignores the limit is not heard: the counter in the header is enough.
    let mut beyond = last.clone();
    beyond[8..16].copy_from_slice(&REJECT_AFTER_MESSAGES.to_le_bytes());
    assert_eq!(
        receive(&mut pair.provider, address(1), &beyond, pair.now),
        Got::Dropped(DropReason::KeyExpired)
    );
    pair.now += 6 * SECOND;
    let got = pair.run_until(pair.now);
    assert!(
        got.iter()
            .any(|got| matches!(got, Got::Packet(_, bytes) if bytes.len() == 61)),
        "{got:?}"
    );
}

#[test]
fn fault_04_a_cookie_is_bound_to_the_port() {
    let homes = [
        ("192.0.2.1:51820", "192.0.2.1:51821", "192.0.2.3:51820"),
        ("[2001:db8::1]:7", "[2001:db8::1]:8", "[2001:db8::3]:7"),
    ];
    for (home, other_port, other_address) in homes.map(|(a, b, c)| {
        let parsed = |text: &str| text.parse::<SocketAddr>().unwrap();
        (parsed(a), parsed(b), parsed(c))
    }) {
        let mut pair = Pair::new();
        pair.provider.set_under_load(true);
        pair.consumer.initiate(pair.exit, pair.now);
        let first = transmits(&mut pair.consumer).remove(0).payload;
        assert_eq!(
            receive(&mut pair.provider, home, &first, pair.now),
            Got::Dropped(DropReason::CookieDemanded)
        );
        let cookie = transmits(&mut pair.provider).remove(0).payload;
        assert_eq!(
            receive(&mut pair.consumer, address(2), &cookie, pair.now),
            Got::Handshake(pair.exit)
        );
        pair.now += 6 * SECOND;
        pair.consumer.handle_timeout(pair.now);
        let second = transmits(&mut pair.consumer).remove(0).payload;
        for elsewhere in [other_port, other_address] {
            assert_eq!(
                receive(&mut pair.provider, elsewhere, &second, pair.now),
                Got::Dropped(DropReason::CookieDemanded),
                "{elsewhere}"
            );
        }
        assert_eq!(
            receive(&mut pair.provider, home, &second, pair.now),
            Got::Handshake(pair.guest)
        );
    }
}

#[test]
fn fault_05_the_limiter_is_per_source_and_not_global() {
    let mut pair = Pair::new();
    pair.provider.set_under_load(true);
    // A flooder that owns its address and has a cookie for it.
    let flooder = address(66);
    let mut stranger = endpoint(66, pair.now);
    let mut exit = PeerConfig::new(pair.provider.public_key());
    exit.endpoint = Some(address(2));
    let exit = stranger.add_peer(exit).unwrap();
    stranger.initiate(exit, pair.now);
    let ask = transmits(&mut stranger).remove(0).payload;
    receive(&mut pair.provider, flooder, &ask, pair.now);
    let cookie = transmits(&mut pair.provider).remove(0).payload;
    assert!(matches!(
        receive(&mut stranger, address(2), &cookie, pair.now),
        Got::Handshake(_)
    ));
    pair.now += 6 * SECOND;
    stranger.handle_timeout(pair.now);
    let flood = transmits(&mut stranger).remove(0).payload;
    let outcomes: Vec<Got> = (0..1_000)
        .map(|_| receive(&mut pair.provider, flooder, &flood, pair.now))
        .collect();
    let limited = outcomes
        .iter()
        .filter(|got| **got == Got::Dropped(DropReason::RateLimited))
        .count();
    assert!((980..1_000).contains(&limited), "{limited}");
    assert!(!matches!(
        outcomes[0],
        Got::Dropped(DropReason::RateLimited)
    ));
    // An honest consumer elsewhere still gets through, in the midst of it.
    pair.consumer.initiate(pair.exit, pair.now);
    pair.pump();
    pair.run_until(pair.now + 6 * SECOND);
    assert!(matches!(pair.up(60), Got::Packet(..)));
}

#[test]
fn fault_06_a_changed_preshared_key_is_used() {
    let mut pair = Pair::established();
    pair.consumer.set_preshared_key(pair.exit, Some([7; 32]));
    pair.now += SECOND;
    pair.handshake();
    assert_eq!(
        events(&mut pair.consumer),
        [],
        "only one end knows the new key"
    );
    // The other end learns it while our initiation is in flight; so does the initiation.
    pair.consumer.set_preshared_key(pair.exit, Some([8; 32]));
    pair.provider.set_preshared_key(pair.guest, Some([8; 32]));
    pair.run_until(pair.now + 6 * SECOND);
    assert!(events(&mut pair.consumer).contains(&Event::Rekeyed { peer: pair.exit }));
    assert!(matches!(pair.up(60), Got::Packet(..)));
}

#[test]
fn fault_06_a_preshared_key_reaches_the_handshake_in_flight() {
    let mut pair = Pair::new();
    pair.consumer.initiate(pair.exit, pair.now);
    let initiation = transmits(&mut pair.consumer).remove(0).payload;
    pair.consumer.set_preshared_key(pair.exit, Some([8; 32]));
    pair.provider.set_preshared_key(pair.guest, Some([8; 32]));
    receive(&mut pair.provider, address(1), &initiation, pair.now);
    let response = transmits(&mut pair.provider).remove(0).payload;
    assert_eq!(
        receive(&mut pair.consumer, address(2), &response, pair.now),
        Got::Handshake(pair.exit)
    );
}

#[test]
fn fault_07_a_cookie_reply_does_not_move_the_peer() {
    let mut pair = Pair::new();
    pair.provider.set_under_load(true);
    pair.consumer.initiate(pair.exit, pair.now);
    let initiation = transmits(&mut pair.consumer).remove(0).payload;
    receive(&mut pair.provider, address(1), &initiation, pair.now);
    let cookie = transmits(&mut pair.provider).remove(0).payload;
    assert_eq!(
        receive(&mut pair.consumer, address(66), &cookie, pair.now),
        Got::Handshake(pair.exit)
    );
    assert_eq!(
        pair.consumer.peer_stats(pair.exit).unwrap().endpoint,
        Some(address(2))
    );
    pair.now += 6 * SECOND;
    pair.consumer.handle_timeout(pair.now);
    let second = transmits(&mut pair.consumer).remove(0);
    assert_eq!(second.to, address(2));
    assert_eq!(events(&mut pair.consumer), []);
    // Authenticated data from there does move it.
    receive(&mut pair.provider, address(1), &second.payload, pair.now);
    pair.pump();
    let data = seal(&mut pair.provider, &packet(BACK.0, BACK.1, 60), pair.now);
    receive(&mut pair.consumer, address(66), &data, pair.now);
    assert_eq!(
        pair.consumer.peer_stats(pair.exit).unwrap().endpoint,
        Some(address(66))
    );
}

#[test]
fn fault_08_the_replay_window_takes_8192_of_reordering() {
    let mut pair = Pair::established();
    let datagrams: Vec<Vec<u8>> = (0..8_193)
        .map(|_| seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 40), pair.now))
        .collect();
    assert!(matches!(
        receive(&mut pair.provider, address(1), &datagrams[8_192], pair.now),
        Got::Packet(..)
    ));
    for datagram in datagrams[1..8_192].iter().rev() {
        assert!(matches!(
            receive(&mut pair.provider, address(1), datagram, pair.now),
            Got::Packet(..)
        ));
    }
    for datagram in &datagrams {
        let got = receive(&mut pair.provider, address(1), datagram, pair.now);
        assert_eq!(got, Got::Dropped(DropReason::Replayed));
    }
}

#[test]
fn fault_09_a_legitimate_handshake_is_not_refused_for_coming_soon() {
    let mut pair = Pair::established();
    for step in 0..20 {
        pair.now += Duration::from_millis(1);
        assert!(pair.consumer.initiate(pair.exit, pair.now));
        let got = pair.pump();
        assert!(
            !got.iter().any(|got| matches!(got, Got::Dropped(_))),
            "{step}: {got:?}"
        );
        assert!(
            events(&mut pair.provider).contains(&Event::Rekeyed { peer: pair.guest }),
            "{step}"
        );
    }
}

#[test]
fn fault_10_session_indices_are_unpredictable_and_unique() {
    let index_of = |message: &[u8]| u32::from_le_bytes(message[4..8].try_into().unwrap());
    let mut pair = Pair::new();
    let mut seen = BTreeSet::new();
    // The initiator's and the responder's, bit by bit, and how each differs from the one before.
    let mut ones = [[0_u32; 32]; 4];
    let mut last = [0; 2];
    for _ in 0..400 {
        pair.now += SECOND;
        pair.consumer.initiate(pair.exit, pair.now);
        let initiation = transmits(&mut pair.consumer).remove(0).payload;
        receive(&mut pair.provider, address(1), &initiation, pair.now);
        let response = transmits(&mut pair.provider).remove(0).payload;
        receive(&mut pair.consumer, address(2), &response, pair.now);
        pair.pump();
        let indices = [index_of(&initiation), index_of(&response)];
        for (role, index) in indices.into_iter().enumerate() {
            assert!(seen.insert(index));
            let step = index.wrapping_sub(last[role]);
            for (of, value) in [(role, index), (2 + role, step)] {
                for (bit, ones) in ones[of].iter_mut().enumerate() {
                    *ones += value >> bit & 1;
                }
            }
        }
        last = indices;
    }
    // Fair bits: 200 ± 7 standard deviations (10 each). A counter or a peer number in the index fails at once.
    for ones in ones {
        assert!(
            ones.iter().all(|ones| (130..=270).contains(ones)),
            "{ones:?}"
        );
    }
    // Another seed gives other indices.
    let mut other = Pair::new();
    other.consumer = Endpoint::new(
        StaticSecret::from_bytes([1; 32]),
        [77; 32],
        other.now,
        SystemTime::UNIX_EPOCH,
        EndpointConfig::default(),
    );
    let mut exit = PeerConfig::new(other.provider.public_key());
    exit.endpoint = Some(address(2));
    let exit = other.consumer.add_peer(exit).unwrap();
    other.consumer.initiate(exit, other.now);
    let initiation = transmits(&mut other.consumer).remove(0).payload;
    assert!(!seen.contains(&index_of(&initiation)));
}

#[test]
fn fault_11_packets_are_padded_to_sixteen_bytes() {
    let mut pair = Pair::established();
    for len in 20..=1_420 {
        let inner = packet(OUT.0, OUT.1, len);
        let datagram = seal(&mut pair.consumer, &inner, pair.now);
        let sealed = datagram.len() - crate::OVERHEAD;
        assert!(
            sealed.is_multiple_of(16) || sealed == 1_420,
            "{len}: {sealed}"
        );
        assert!(
            sealed >= len && sealed < len + 16 && sealed <= 1_420,
            "{len}: {sealed}"
        );
        assert_eq!(
            receive(&mut pair.provider, address(1), &datagram, pair.now),
            Got::Packet(pair.guest, inner)
        );
    }
}
