//! Replays at the endpoint: each packet once, within 8,192 of the newest of its keys, also across a renewal.
//! It refuses shortcuts into the window: every counter here is one that was really sealed.

use super::*;
use crate::replay::WINDOW;

/// A datagram with this counter, from the keys the consumer uses now.
fn sealed_with(pair: &mut Pair, counter: u64) -> Vec<u8> {
    pair.consumer.force_next_counter(pair.exit, counter);
    seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 40), pair.now)
}

fn deliver(pair: &mut Pair, datagram: &[u8]) -> Got {
    receive(&mut pair.provider, address(1), datagram, pair.now)
}

fn is_packet(got: &Got) -> bool {
    matches!(got, Got::Packet(..))
}

const REPLAYED: Got = Got::Dropped(DropReason::Replayed);

#[test]
fn reordered_by_8191_is_accepted_and_by_8192_is_refused() {
    assert_eq!(WINDOW, 8_192);
    // Every alignment to the words of the window, early counters, and those beyond 32 bits.
    let newest = (8_192..8_192 + 130).chain([20_000, 1 << 32, (1 << 60) + 17]);
    for newest in newest {
        let mut pair = Pair::established();
        let front = sealed_with(&mut pair, newest);
        let inside = sealed_with(&mut pair, newest - 8_191);
        let outside = sealed_with(&mut pair, newest - 8_192);
        assert!(is_packet(&deliver(&mut pair, &front)), "{newest}");
        assert_eq!(deliver(&mut pair, &outside), REPLAYED, "{newest}");
        assert!(is_packet(&deliver(&mut pair, &inside)), "{newest}");
        for again in [&front, &inside, &outside] {
            assert_eq!(deliver(&mut pair, again), REPLAYED, "{newest}");
        }
        assert_eq!(pair.provider.peer_stats(pair.guest).unwrap().rx_packets, 2);
    }
}

#[test]
fn the_packet_8192_behind_was_good_until_the_newest_came() {
    let mut pair = Pair::established();
    let (behind, front) = (sealed_with(&mut pair, 1_000), sealed_with(&mut pair, 9_192));
    assert!(is_packet(&deliver(&mut pair, &behind)));
    assert!(is_packet(&deliver(&mut pair, &front)));
    assert_eq!(deliver(&mut pair, &behind), REPLAYED);
}

#[test]
fn duplicates_are_refused_across_a_renewal() {
    let mut pair = Pair::established();
    let seen: Vec<Vec<u8>> = (0..50).map(|_| seal_one(&mut pair)).collect();
    for datagram in &seen {
        assert!(is_packet(&deliver(&mut pair, datagram)));
    }
    let under_way: Vec<Vec<u8>> = (0..50).map(|_| seal_one(&mut pair)).collect();
    pair.now += SECOND;
    pair.handshake();
    let fresh: Vec<Vec<u8>> = (0..50).map(|_| seal_one(&mut pair)).collect();
    // Old and new keys at once, each with its own window: every packet once.
    for (old, new) in under_way.iter().zip(&fresh) {
        assert!(is_packet(&deliver(&mut pair, old)));
        assert!(is_packet(&deliver(&mut pair, new)));
    }
    for again in seen.iter().chain(&under_way).chain(&fresh) {
        assert_eq!(deliver(&mut pair, again), REPLAYED);
    }
    // A packet of the old keys does not become one of the new by its index.
    for old in seen.iter().chain(&under_way) {
        let mut relabelled = old.clone();
        relabelled[4..8].copy_from_slice(&fresh[0][4..8]);
        relabelled[8..16].copy_from_slice(&(1_000_u64).to_le_bytes());
        assert_eq!(
            deliver(&mut pair, &relabelled),
            Got::Dropped(DropReason::Forged)
        );
    }
    pair.now += SECOND;
    pair.handshake();
    for gone in seen.iter().chain(&under_way) {
        assert_eq!(
            deliver(&mut pair, gone),
            Got::Dropped(DropReason::UnknownIndex)
        );
    }
    for again in &fresh {
        assert_eq!(deliver(&mut pair, again), REPLAYED);
    }
    assert_eq!(
        pair.provider.peer_stats(pair.guest).unwrap().rx_packets,
        150
    );
}

#[test]
fn a_forged_counter_does_not_move_the_window() {
    let mut pair = Pair::established();
    let genuine: Vec<Vec<u8>> = (0..20).map(|_| seal_one(&mut pair)).collect();
    for ahead in [1_u64, 63, 8_192, 1 << 20, (1 << 63) + 5] {
        let mut forged = genuine[19].clone();
        forged[8..16].copy_from_slice(&(20 + ahead).to_le_bytes());
        assert_eq!(
            deliver(&mut pair, &forged),
            Got::Dropped(DropReason::Forged)
        );
    }
    for datagram in &genuine {
        assert!(is_packet(&deliver(&mut pair, datagram)));
    }
}

fn seal_one(pair: &mut Pair) -> Vec<u8> {
    seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 40), pair.now)
}
