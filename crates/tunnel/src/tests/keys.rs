//! Transport: reordering, rotation, roaming, queues, counters.

use super::*;

#[test]
fn both_families_and_the_counters() {
    let mut pair = Pair::established();
    assert!(matches!(pair.up(100), Got::Packet(..)));
    let six = packet("fd00::2", "2001:db8::1", 90);
    let datagram = seal(&mut pair.consumer, &six, pair.now);
    assert_eq!(
        receive(&mut pair.provider, address(1), &datagram, pair.now),
        Got::Packet(pair.guest, six)
    );
    assert!(matches!(pair.down(1_420), Got::Packet(..)));
    let stats = pair.provider.peer_stats(pair.guest).unwrap();
    assert_eq!(
        (
            stats.rx_packets,
            stats.rx_bytes,
            stats.tx_packets,
            stats.tx_bytes
        ),
        (2, 190, 1, 1_420)
    );
    assert_eq!(
        (stats.endpoint, stats.last_handshake),
        (Some(address(1)), Some(pair.now))
    );
}

#[test]
fn old_keys_open_what_was_under_way_during_a_rekey() {
    let mut pair = Pair::established();
    let before = seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 60), pair.now);
    let before_that = seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 61), pair.now);
    pair.now += SECOND;
    pair.handshake();
    assert_eq!(
        events(&mut pair.provider),
        [Event::Rekeyed { peer: pair.guest }]
    );
    assert!(matches!(
        receive(&mut pair.provider, address(1), &before, pair.now),
        Got::Packet(..)
    ));
    pair.now += SECOND;
    pair.handshake();
    let got = receive(&mut pair.provider, address(1), &before_that, pair.now);
    assert_eq!(
        got,
        Got::Dropped(DropReason::UnknownIndex),
        "two handshakes back"
    );
}

#[test]
fn a_responder_keeps_using_old_keys_until_new_ones_are_confirmed() {
    let mut pair = Pair::established();
    pair.now += SECOND;
    pair.consumer.initiate(pair.exit, pair.now);
    let initiation = transmits(&mut pair.consumer).remove(0).payload;
    receive(&mut pair.provider, address(1), &initiation, pair.now);
    // The response is lost, but the provider's packets still open.
    let response = transmits(&mut pair.provider).remove(0).payload;
    assert!(matches!(pair.down(60), Got::Packet(..)));
    assert_eq!(
        receive(&mut pair.consumer, address(2), &response, pair.now),
        Got::Handshake(pair.exit)
    );
    assert!(
        matches!(pair.down(60), Got::Packet(..)),
        "and now on the consumer's previous keys"
    );
    pair.pump();
    assert!(matches!(pair.down(60), Got::Packet(..)));
}

#[test]
fn roaming_follows_authenticated_data_only() {
    let mut pair = Pair::established();
    let old = seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 60), pair.now);
    let new = seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 60), pair.now);
    let mut forged = new.clone();
    forged[20] ^= 1;
    assert_eq!(
        receive(&mut pair.provider, address(66), &forged, pair.now),
        Got::Dropped(DropReason::Forged)
    );
    assert_eq!(
        pair.provider.peer_stats(pair.guest).unwrap().endpoint,
        Some(address(1))
    );
    assert!(matches!(
        receive(&mut pair.provider, address(7), &new, pair.now),
        Got::Packet(..)
    ));
    let moved = Event::Roamed {
        peer: pair.guest,
        from: address(1),
        to: address(7),
    };
    assert_eq!(events(&mut pair.provider), [moved]);
    // A packet that was overtaken does not pull the peer back; a replayed one does not pull it anywhere.
    assert!(matches!(
        receive(&mut pair.provider, address(1), &old, pair.now),
        Got::Packet(..)
    ));
    assert_eq!(
        receive(&mut pair.provider, address(66), &new, pair.now),
        Got::Dropped(DropReason::Replayed)
    );
    assert_eq!(
        pair.provider.peer_stats(pair.guest).unwrap().endpoint,
        Some(address(7))
    );
    assert_eq!(events(&mut pair.provider), []);
}

#[test]
fn a_pinned_peer_is_opened_from_anywhere_and_answered_where_it_was_pinned() {
    let mut pair = Pair::established();
    pair.consumer.pin_endpoint(pair.exit, address(9), pair.now);
    // The peer is told by an empty packet on the new path.
    let told = pair.consumer.poll_transmit().unwrap();
    assert_eq!(told.to, address(9));
    let got = receive(&mut pair.provider, address(5), &told.payload, pair.now);
    assert!(matches!(got, Got::Keepalive(_)));
    assert_eq!(
        pair.provider.peer_stats(pair.guest).unwrap().endpoint,
        Some(address(5))
    );
    events(&mut pair.provider);
    let back = seal(&mut pair.provider, &packet(BACK.0, BACK.1, 60), pair.now);
    let got = receive(&mut pair.consumer, address(2), &back, pair.now);
    assert!(matches!(got, Got::Packet(..)));
    assert_eq!(
        pair.consumer.peer_stats(pair.exit).unwrap().endpoint,
        Some(address(9))
    );
    assert_eq!(events(&mut pair.consumer), []);
    // Pinned where it is already: nothing to tell.
    pair.consumer.pin_endpoint(pair.exit, address(9), pair.now);
    assert!(pair.consumer.poll_transmit().is_none());
}

#[test]
fn a_handshake_in_flight_follows_the_pin() {
    let mut pair = Pair::new();
    pair.consumer.initiate(pair.exit, pair.now);
    let first = pair.consumer.poll_transmit().unwrap();
    pair.consumer.pin_endpoint(pair.exit, address(9), pair.now);
    let again = pair.consumer.poll_transmit().unwrap();
    assert_eq!((first.to, again.to), (address(2), address(9)));
    assert!(pair.consumer.poll_transmit().is_none());
}

#[test]
fn a_packet_of_older_keys_does_not_pull_the_peer_back() {
    let mut pair = Pair::established();
    // The last one under the old keys, held back by the path or by somebody on it.
    let held_back = seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 60), pair.now);
    pair.now += SECOND;
    pair.handshake();
    let data = seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 60), pair.now);
    receive(&mut pair.provider, address(7), &data, pair.now);
    events(&mut pair.provider);
    assert!(matches!(
        receive(&mut pair.provider, address(66), &held_back, pair.now),
        Got::Packet(..)
    ));
    assert_eq!(
        pair.provider.peer_stats(pair.guest).unwrap().endpoint,
        Some(address(7))
    );
    assert_eq!(events(&mut pair.provider), []);
}

#[test]
fn a_peer_that_cannot_use_the_new_keys_yet_still_moves_by_the_old_ones() {
    let mut pair = Pair::established();
    pair.now += SECOND;
    pair.consumer.initiate(pair.exit, pair.now);
    let initiation = transmits(&mut pair.consumer).remove(0).payload;
    receive(&mut pair.provider, address(1), &initiation, pair.now);
    let response = transmits(&mut pair.provider).remove(0).payload;
    receive(&mut pair.consumer, address(2), &response, pair.now);
    // What confirms the new keys is lost: the provider goes on with the old ones, from elsewhere.
    transmits(&mut pair.consumer);
    let data = seal(&mut pair.provider, &packet(BACK.0, BACK.1, 60), pair.now);
    receive(&mut pair.consumer, address(9), &data, pair.now);
    assert_eq!(
        pair.consumer.peer_stats(pair.exit).unwrap().endpoint,
        Some(address(9))
    );
}

#[test]
fn a_handshake_from_elsewhere_is_answered_there_but_moves_nobody() {
    let mut pair = Pair::established();
    pair.now += SECOND;
    pair.consumer.initiate(pair.exit, pair.now);
    let initiation = transmits(&mut pair.consumer).remove(0).payload;
    assert_eq!(
        receive(&mut pair.provider, address(66), &initiation, pair.now),
        Got::Handshake(pair.guest)
    );
    assert_eq!(transmits(&mut pair.provider)[0].to, address(66));
    assert_eq!(
        pair.provider.peer_stats(pair.guest).unwrap().endpoint,
        Some(address(1))
    );
}

#[test]
fn the_queue_is_bounded_keeps_the_newest_and_its_order() {
    let config = EndpointConfig {
        max_queued_packets: 3,
        ..EndpointConfig::default()
    };
    let mut pair = Pair::with(config, |_| {});
    let mut buffer = [0; 200];
    for len in 60..70 {
        let sealed = pair
            .consumer
            .seal(&packet(OUT.0, OUT.1, len), pair.now, &mut buffer);
        assert_eq!(sealed, Sealed::Queued { peer: pair.exit });
    }
    let lengths: Vec<usize> = pair
        .pump()
        .into_iter()
        .filter_map(|got| {
            if let Got::Packet(_, bytes) = got {
                Some(bytes.len())
            } else {
                None
            }
        })
        .collect();
    assert_eq!(lengths, [67, 68, 69]);
}

#[test]
fn queued_bytes_are_bounded_over_all_peers_and_given_back() {
    let config = EndpointConfig {
        max_queued_bytes: 1_000,
        ..EndpointConfig::default()
    };
    let mut pair = Pair::with(config, |_| {});
    let mut buffer = [0; 2_000];
    let big = packet(OUT.0, OUT.1, 600);
    assert_eq!(
        pair.consumer.seal(&big, pair.now, &mut buffer),
        Sealed::Queued { peer: pair.exit }
    );
    assert_eq!(
        pair.consumer.seal(&big, pair.now, &mut buffer),
        Sealed::Dropped(DropReason::Full)
    );
    pair.consumer.remove_peer(pair.exit);
    let mut exit = PeerConfig::new(pair.provider.public_key());
    exit.allowed_ips = vec!["0.0.0.0/0".parse().unwrap()];
    exit.endpoint = Some(address(2));
    let exit = pair.consumer.add_peer(exit).unwrap();
    assert_eq!(
        pair.consumer.seal(&big, pair.now, &mut buffer),
        Sealed::Queued { peer: exit }
    );
}

#[test]
fn what_cannot_be_sealed_says_why() {
    let mut pair = Pair::established();
    let mut buffer = [0; 2_000];
    let check = |endpoint: &mut Endpoint, bytes: &[u8], into: &mut [u8], now, why| {
        assert_eq!(endpoint.seal(bytes, now, into), Sealed::Dropped(why));
    };
    let now = pair.now;
    check(
        &mut pair.consumer,
        b"not ip",
        &mut buffer,
        now,
        DropReason::NotIp,
    );
    check(&mut pair.consumer, &[], &mut buffer, now, DropReason::NotIp);
    check(
        &mut pair.provider,
        &packet("1.1.1.1", "10.8.0.3", 60),
        &mut buffer,
        now,
        DropReason::NoRoute,
    );
    let exact = 64 + crate::OVERHEAD;
    check(
        &mut pair.consumer,
        &packet(OUT.0, OUT.1, 60),
        &mut buffer[..exact - 1],
        now,
        DropReason::BufferTooSmall,
    );
    let sealed = pair
        .consumer
        .seal(&packet(OUT.0, OUT.1, 60), now, &mut buffer[..exact]);
    assert_eq!(
        sealed,
        Sealed::Datagram {
            peer: pair.exit,
            to: address(2),
            len: exact
        }
    );
    let mut fresh = Pair::new();
    let back = packet(BACK.0, BACK.1, 60);
    check(
        &mut fresh.provider,
        &back,
        &mut buffer,
        now,
        DropReason::NoEndpoint,
    );
    assert!(
        !fresh.provider.initiate(fresh.guest, now),
        "no address to begin with"
    );
    assert_eq!(
        fresh
            .provider
            .seal_to(PeerId::from_index(9), &back, now, &mut buffer),
        Sealed::Dropped(DropReason::UnknownPeer)
    );
}

#[test]
fn an_inner_packet_that_is_not_ip_or_not_its_senders_is_dropped_unbilled() {
    let mut pair = Pair::established();
    let spoofed = seal(
        &mut pair.consumer,
        &packet("10.8.0.3", "1.1.1.1", 60),
        pair.now,
    );
    let got = receive(&mut pair.provider, address(1), &spoofed, pair.now);
    assert_eq!(got, Got::Dropped(DropReason::SpoofedSource));
    assert_eq!(pair.provider.peer_stats(pair.guest).unwrap().rx_bytes, 0);
}

#[test]
fn an_idle_peer_costs_what_the_configuration_says() {
    // The AEAD contexts live in AWS-LC's heap: an EVP_AEAD_CTX is below 600 bytes.
    let keys = 3 * (size_of::<crate::keypair::Keypair>() + 2 * 640);
    let peer = size_of::<crate::peer::Peer>() + 64 /* tables */ + 4 * 24 /* indices */ + 96 * 2 /* prefixes */ + 80 /* agenda */;
    assert!(peer < 2 << 10, "{peer}");
    assert!(keys + peer < 9 << 10, "{}", keys + peer);
}
