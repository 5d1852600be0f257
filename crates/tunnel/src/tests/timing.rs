//! Timers in virtual time: renewal, rejection, retries, keepalives, silence, erasure.

use super::*;
use crate::{
    INITIATION_LEN, KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, REKEY_AFTER_TIME, REKEY_ATTEMPT_TIME,
    REKEY_TIMEOUT, TimerKind,
};

const KEEPALIVE_LEN: usize = 32;

fn is_initiation(transmit: &Transmit) -> bool {
    transmit.payload.len() == INITIATION_LEN
}

#[test]
fn the_initiator_renews_at_120_seconds_when_it_sends() {
    let mut pair = Pair::established();
    pair.now += REKEY_AFTER_TIME - SECOND;
    pair.up(60);
    assert!(!transmits(&mut pair.consumer).iter().any(is_initiation));
    pair.now += SECOND;
    pair.up(60);
    assert!(transmits(&mut pair.consumer).iter().any(is_initiation));
    pair.up(60);
    assert!(
        !transmits(&mut pair.consumer).iter().any(is_initiation),
        "once"
    );
}

#[test]
fn the_responder_does_not_renew_by_age() {
    let mut pair = Pair::established();
    pair.now += REJECT_AFTER_TIME - SECOND;
    pair.down(60);
    assert!(!transmits(&mut pair.provider).iter().any(is_initiation));
    // But the initiator does when data still arrives after 165 s, and only once.
    assert!(transmits(&mut pair.consumer).iter().any(is_initiation));
    pair.down(60);
    assert!(!transmits(&mut pair.consumer).iter().any(is_initiation));
}

#[test]
fn a_shorter_renewal_can_be_configured_and_a_longer_one_cannot() {
    for (configured, expect) in [(30, 30), (500, 120)] {
        let config = EndpointConfig {
            rekey_after: configured * SECOND,
            ..EndpointConfig::default()
        };
        let mut pair = Pair::with(config, |_| {});
        pair.handshake();
        pair.now += expect * SECOND - SECOND;
        pair.up(60);
        assert!(
            !transmits(&mut pair.consumer).iter().any(is_initiation),
            "{configured}"
        );
        pair.now += SECOND;
        pair.up(60);
        assert!(
            transmits(&mut pair.consumer).iter().any(is_initiation),
            "{configured}"
        );
    }
}

#[test]
fn keys_are_useless_after_180_seconds_and_traffic_brings_new_ones() {
    let mut pair = Pair::established();
    let late = seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 60), pair.now);
    pair.now += REJECT_AFTER_TIME;
    assert_eq!(
        receive(&mut pair.provider, address(1), &late, pair.now),
        Got::Dropped(DropReason::KeyExpired)
    );
    let mut buffer = [0; 200];
    let sealed = pair
        .consumer
        .seal(&packet(OUT.0, OUT.1, 61), pair.now, &mut buffer);
    assert_eq!(sealed, Sealed::Queued { peer: pair.exit });
    let got = pair.pump();
    assert!(
        got.iter()
            .any(|got| matches!(got, Got::Packet(_, bytes) if bytes.len() == 61)),
        "{got:?}"
    );
    assert_eq!(
        events(&mut pair.provider),
        [Event::Established { peer: pair.guest }]
    );
}

#[test]
fn all_keys_are_erased_after_540_seconds() {
    let mut pair = Pair::established();
    let start = pair.now;
    let datagram = seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 60), pair.now);
    assert!(matches!(
        receive(&mut pair.provider, address(1), &datagram, pair.now),
        Got::Packet(..)
    ));
    pair.run_until(start + REJECT_AFTER_TIME * 3 - SECOND);
    let heard = events(&mut pair.provider);
    assert!(
        !heard.contains(&Event::Expired { peer: pair.guest }),
        "{heard:?}"
    );
    pair.run_until(start + REJECT_AFTER_TIME * 3 + SECOND);
    assert_eq!(
        events(&mut pair.provider),
        [Event::Expired { peer: pair.guest }]
    );
    assert_eq!(
        receive(&mut pair.provider, address(1), &datagram, pair.now),
        Got::Dropped(DropReason::UnknownIndex)
    );
    assert_eq!(
        pair.provider.poll_timeout(),
        None,
        "an idle peer without keys costs no wake-up"
    );
}

#[test]
fn a_first_handshake_of_those_who_agreed_on_it_is_tried_again_sooner() {
    let config = EndpointConfig {
        first_retry: SECOND,
        ..EndpointConfig::default()
    };
    let mut pair = Pair::with(config, |_| {});
    let mut buffer = [0; 200];
    pair.consumer
        .seal(&packet(OUT.0, OUT.1, 60), pair.now, &mut buffer);
    let mut gaps = Vec::new();
    for _ in 0..5 {
        let before = pair.now;
        pair.now = pair.consumer.poll_timeout().unwrap().at;
        pair.consumer.handle_timeout(pair.now);
        gaps.push((pair.now - before).as_secs());
    }
    assert_eq!(gaps[..3], [1, 1, 2]);
    assert_eq!(gaps[4], REKEY_TIMEOUT.as_secs());
}

#[test]
fn an_unanswered_initiation_is_repeated_every_five_seconds_for_ninety() {
    let mut pair = Pair::new();
    let mut buffer = [0; 200];
    pair.consumer
        .seal(&packet(OUT.0, OUT.1, 60), pair.now, &mut buffer);
    let start = pair.now;
    let mut at = vec![(start, transmits(&mut pair.consumer).remove(0).payload)];
    let mut failed = Vec::new();
    for _ in 0..100 {
        let Some(deadline) = pair.consumer.poll_timeout() else {
            break;
        };
        assert_eq!(deadline.why, TimerKind::HandshakeRetry);
        pair.now = deadline.at;
        pair.consumer.handle_timeout(pair.now);
        at.extend(
            transmits(&mut pair.consumer)
                .into_iter()
                .map(|sent| (pair.now, sent.payload)),
        );
        failed.extend(events(&mut pair.consumer));
    }
    assert_eq!(failed, [Event::HandshakeFailed { peer: pair.exit }]);
    assert!((17..=18).contains(&at.len()), "{}", at.len());
    for pair_of in at.windows(2) {
        let gap = pair_of[1].0 - pair_of[0].0;
        assert!(
            gap >= REKEY_TIMEOUT && gap < REKEY_TIMEOUT + SECOND / 3,
            "{gap:?}"
        );
        assert_ne!(
            pair_of[0].1[8..40],
            pair_of[1].1[8..40],
            "each attempt has its own ephemeral key"
        );
    }
    assert!(
        pair.now - start >= REKEY_ATTEMPT_TIME
            && pair.now - start < REKEY_ATTEMPT_TIME + REKEY_TIMEOUT + SECOND
    );
    // New traffic begins anew.
    pair.consumer
        .seal(&packet(OUT.0, OUT.1, 61), pair.now, &mut buffer);
    let got = pair.pump();
    let lengths: Vec<usize> = got
        .iter()
        .filter_map(|got| {
            if let Got::Packet(_, bytes) = got {
                Some(bytes.len())
            } else {
                None
            }
        })
        .collect();
    assert_eq!(lengths, [61], "what waited before was dropped");
}

#[test]
fn data_without_answer_gets_a_keepalive_after_ten_seconds() {
    let mut pair = Pair::established();
    pair.up(60);
    assert_eq!(transmits(&mut pair.provider), []);
    pair.now += KEEPALIVE_TIMEOUT - SECOND;
    pair.provider.handle_timeout(pair.now);
    assert_eq!(transmits(&mut pair.provider), []);
    pair.now += SECOND;
    pair.provider.handle_timeout(pair.now);
    let sent = transmits(&mut pair.provider);
    assert_eq!((sent.len(), sent[0].payload.len()), (1, KEEPALIVE_LEN));
    assert_eq!(
        receive(&mut pair.consumer, address(2), &sent[0].payload, pair.now),
        Got::Keepalive(pair.exit)
    );
    // A keepalive is not answered by another: both ends come to rest.
    let got = pair.run_until(pair.now + 60 * SECOND);
    assert_eq!(got, []);
}

#[test]
fn data_in_return_is_keepalive_enough() {
    let mut pair = Pair::established();
    pair.up(60);
    pair.now += SECOND;
    pair.down(60);
    pair.now += KEEPALIVE_TIMEOUT - SECOND;
    pair.provider.handle_timeout(pair.now);
    assert_eq!(transmits(&mut pair.provider), []);
}

#[test]
fn silence_after_sending_starts_a_handshake() {
    let mut pair = Pair::established();
    pair.now += 6 * SECOND;
    seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 60), pair.now);
    pair.now += 14 * SECOND;
    pair.consumer.handle_timeout(pair.now);
    assert_eq!(transmits(&mut pair.consumer), []);
    pair.now += 2 * SECOND;
    pair.consumer.handle_timeout(pair.now);
    assert!(transmits(&mut pair.consumer).iter().any(is_initiation));
}

#[test]
fn a_restarted_provider_is_found_again() {
    let mut pair = Pair::established();
    let mut reborn = Pair::new();
    std::mem::swap(&mut pair.provider, &mut reborn.provider);
    pair.now += 6 * SECOND;
    seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 60), pair.now);
    pair.run_until(pair.now + 16 * SECOND);
    assert!(events(&mut pair.provider).contains(&Event::Established { peer: pair.guest }));
    assert!(matches!(
        (pair.up(60), pair.down(60)),
        (Got::Packet(..), Got::Packet(..))
    ));
}

#[test]
fn a_persistent_keepalive_keeps_its_interval_and_revives_keys() {
    let mut pair = Pair::with(EndpointConfig::default(), |peer| {
        peer.keepalive = Some(25 * SECOND)
    });
    pair.handshake();
    let got = pair.run_until(pair.now + 101 * SECOND);
    assert_eq!(got, vec![Got::Keepalive(pair.guest); 4]);
    events(&mut pair.provider);
    pair.run_until(pair.now + 600 * SECOND);
    assert!(events(&mut pair.provider).contains(&Event::Rekeyed { peer: pair.guest }));
}

#[test]
fn deadlines_are_never_missed_and_never_stuck() {
    // A deadline that handle_timeout leaves in place would spin a driver.
    let mut pair = Pair::with(EndpointConfig::default(), |peer| {
        peer.keepalive = Some(7 * SECOND)
    });
    pair.handshake();
    for step in 0..2_000 {
        if step % 3 == 0 {
            let mut buffer = [0; 200];
            pair.consumer
                .seal(&packet(OUT.0, OUT.1, 60), pair.now, &mut buffer);
        }
        pair.pump();
        let next = [pair.consumer.poll_timeout(), pair.provider.poll_timeout()]
            .into_iter()
            .flatten()
            .min();
        let Some(next) = next else { break };
        assert!(next.at >= pair.now, "{next:?} is overdue");
        pair.now = next.at;
        pair.consumer.handle_timeout(pair.now);
        pair.provider.handle_timeout(pair.now);
        for endpoint in [&pair.consumer, &pair.provider] {
            assert!(
                endpoint
                    .poll_timeout()
                    .is_none_or(|deadline| deadline.at > pair.now),
                "stuck at {next:?}"
            );
        }
    }
}

#[test]
fn time_that_runs_backwards_or_leaps_does_no_harm() {
    let mut pair = Pair::established();
    let before = pair.now.checked_sub(SECOND).unwrap_or(pair.now);
    pair.consumer.handle_timeout(before);
    let datagram = seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 60), before);
    assert!(matches!(
        receive(&mut pair.provider, address(1), &datagram, before),
        Got::Packet(..)
    ));
    pair.now += 100_000_000 * SECOND;
    pair.consumer.handle_timeout(pair.now);
    pair.provider.handle_timeout(pair.now);
    pair.pump();
    pair.now += 6 * SECOND;
    pair.handshake();
    assert!(matches!(
        (pair.up(60), pair.down(60)),
        (Got::Packet(..), Got::Packet(..))
    ));
}
