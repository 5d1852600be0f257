//! Handshakes: both ways, each message lost, crossed, replayed, with and without keys shared beforehand.

use super::*;
use crate::{COOKIE_LEN, INITIATION_LEN, MessageKind, RESPONSE_LEN, classify};

#[test]
fn a_queued_packet_arrives_after_one_round_trip() {
    let mut pair = Pair::new();
    let inner = packet(OUT.0, OUT.1, 333);
    let mut buffer = [0; 1_500];
    assert_eq!(
        pair.consumer.seal(&inner, pair.now, &mut buffer),
        Sealed::Queued { peer: pair.exit }
    );
    let initiation = transmits(&mut pair.consumer).remove(0);
    assert_eq!(
        (initiation.payload.len(), initiation.to),
        (INITIATION_LEN, address(2))
    );
    assert_eq!(classify(&initiation.payload), Some(MessageKind::Initiation));
    assert_eq!(
        receive(
            &mut pair.provider,
            address(1),
            &initiation.payload,
            pair.now
        ),
        Got::Handshake(pair.guest)
    );
    assert_eq!(
        events(&mut pair.provider),
        [],
        "a responder announces keys when they are used"
    );
    let response = transmits(&mut pair.provider).remove(0);
    assert_eq!(
        (response.payload.len(), response.to),
        (RESPONSE_LEN, address(1))
    );
    assert_eq!(
        receive(&mut pair.consumer, address(2), &response.payload, pair.now),
        Got::Handshake(pair.exit)
    );
    assert_eq!(
        events(&mut pair.consumer),
        [Event::Established { peer: pair.exit }]
    );
    let data = transmits(&mut pair.consumer);
    assert_eq!(
        data.len(),
        1,
        "the packet confirms the keys, no keepalive is needed"
    );
    assert_eq!(
        receive(&mut pair.provider, address(1), &data[0].payload, pair.now),
        Got::Packet(pair.guest, inner)
    );
    assert_eq!(
        events(&mut pair.provider),
        [Event::Established { peer: pair.guest }]
    );
    assert!(matches!(pair.down(60), Got::Packet(..)));
}

#[test]
fn either_end_may_begin() {
    let mut pair = Pair::established();
    pair.now += SECOND;
    assert!(pair.provider.initiate(pair.guest, pair.now));
    pair.pump();
    assert_eq!(
        events(&mut pair.provider),
        [Event::Rekeyed { peer: pair.guest }]
    );
    assert_eq!(
        events(&mut pair.consumer),
        [Event::Rekeyed { peer: pair.exit }]
    );
    assert!(matches!(
        (pair.up(60), pair.down(60)),
        (Got::Packet(..), Got::Packet(..))
    ));
}

#[test]
fn a_preshared_key_must_be_the_same() {
    let mut pair = Pair::with(EndpointConfig::default(), |peer| {
        peer.preshared_key = Some([5; 32])
    });
    pair.handshake();
    assert!(matches!(
        (pair.up(60), pair.down(60)),
        (Got::Packet(..), Got::Packet(..))
    ));
    let mut pair = Pair::with(EndpointConfig::default(), |peer| {
        peer.preshared_key = Some([5; 32])
    });
    pair.provider.set_preshared_key(pair.guest, None);
    pair.consumer.initiate(pair.exit, pair.now);
    assert_eq!(
        pair.pump(),
        [
            Got::Handshake(pair.guest),
            Got::Dropped(DropReason::BadHandshake)
        ]
    );
}

#[test]
fn each_lost_handshake_message_is_recovered() {
    for lost in 0..3 {
        let mut pair = Pair::new();
        let mut buffer = [0; 200];
        pair.consumer
            .seal(&packet(OUT.0, OUT.1, 77), pair.now, &mut buffer);
        let (mut sent, mut arrived) = (0, Vec::new());
        for _ in 0..40 {
            for transmit in transmits(&mut pair.consumer) {
                sent += 1;
                if sent - 1 != lost {
                    arrived.push(receive(
                        &mut pair.provider,
                        address(1),
                        &transmit.payload,
                        pair.now,
                    ));
                }
            }
            for transmit in transmits(&mut pair.provider) {
                sent += 1;
                if sent - 1 != lost {
                    receive(&mut pair.consumer, address(2), &transmit.payload, pair.now);
                }
            }
            pair.now += SECOND;
            pair.consumer.handle_timeout(pair.now);
            pair.provider.handle_timeout(pair.now);
        }
        // Message 2 is the data itself: lost data is not ours to repeat, but the next packet must do.
        let data_arrived = arrived
            .iter()
            .any(|got| matches!(got, Got::Packet(_, bytes) if bytes.len() == 77));
        assert_eq!(data_arrived, lost != 2, "lost {lost}: {arrived:?}");
        assert!(matches!(pair.up(60), Got::Packet(..)), "lost {lost}");
        assert!(matches!(pair.down(60), Got::Packet(..)), "lost {lost}");
    }
}

#[test]
fn a_replayed_initiation_is_refused_and_unanswered() {
    let mut pair = Pair::new();
    pair.consumer.initiate(pair.exit, pair.now);
    let initiation = transmits(&mut pair.consumer).remove(0).payload;
    receive(&mut pair.provider, address(1), &initiation, pair.now);
    let response = transmits(&mut pair.provider).remove(0).payload;
    receive(&mut pair.consumer, address(2), &response, pair.now);
    pair.pump();
    let got = receive(
        &mut pair.provider,
        address(66),
        &initiation,
        pair.now + 10 * SECOND,
    );
    assert_eq!(got, Got::Dropped(DropReason::ReplayedHandshake));
    assert_eq!(transmits(&mut pair.provider), []);
    let got = receive(&mut pair.consumer, address(66), &response, pair.now);
    assert_eq!(
        got,
        Got::Dropped(DropReason::UnknownIndex),
        "a response is good once"
    );
    assert!(matches!(
        (pair.up(60), pair.down(60)),
        (Got::Packet(..), Got::Packet(..))
    ));
}

#[test]
fn an_older_initiation_than_the_last_one_is_refused() {
    let mut pair = Pair::new();
    pair.consumer.initiate(pair.exit, pair.now);
    let older = transmits(&mut pair.consumer).remove(0).payload;
    pair.run_until(pair.now + 6 * SECOND);
    assert_eq!(
        receive(&mut pair.provider, address(1), &older, pair.now),
        Got::Dropped(DropReason::ReplayedHandshake)
    );
}

#[test]
fn a_forged_response_does_not_spoil_the_right_one() {
    let mut pair = Pair::new();
    pair.consumer.initiate(pair.exit, pair.now);
    let initiation = transmits(&mut pair.consumer).remove(0).payload;
    receive(&mut pair.provider, address(1), &initiation, pair.now);
    let response = transmits(&mut pair.provider).remove(0).payload;
    for at in [12, 20, 43, 44, 59] {
        let mut forged = response.clone();
        forged[at] ^= 1;
        // Whoever knows our public key can make the MAC right.
        let keys = crate::cookie::MacKeys::of(&pair.consumer.public_key());
        crate::cookie::CookieJar::default().seal(&mut forged, &keys, pair.now);
        let got = receive(&mut pair.consumer, address(2), &forged, pair.now);
        assert_eq!(got, Got::Dropped(DropReason::BadHandshake), "{at}");
    }
    assert_eq!(
        receive(&mut pair.consumer, address(2), &response, pair.now),
        Got::Handshake(pair.exit)
    );
}

#[test]
fn crossed_handshakes_settle_on_one_pair_that_somebody_renews() {
    let mut pair = Pair::established();
    pair.now += 10 * SECOND;
    pair.consumer.initiate(pair.exit, pair.now);
    pair.provider.initiate(pair.guest, pair.now);
    let (up, down) = (transmits(&mut pair.consumer), transmits(&mut pair.provider));
    receive(&mut pair.provider, address(1), &up[0].payload, pair.now);
    receive(&mut pair.consumer, address(2), &down[0].payload, pair.now);
    pair.pump();
    for _ in 0..5 {
        assert!(matches!(
            (pair.up(60), pair.down(60)),
            (Got::Packet(..), Got::Packet(..))
        ));
    }
    events(&mut pair.consumer);
    events(&mut pair.provider);
    // With traffic both ways, keys are renewed after 120 s, before they die at 180 s.
    let mut renewed = 0;
    for _ in 0..170 {
        pair.run_until(pair.now + SECOND);
        assert!(matches!(
            (pair.up(60), pair.down(60)),
            (Got::Packet(..), Got::Packet(..))
        ));
        pair.pump();
        renewed += events(&mut pair.consumer).len();
    }
    assert_eq!(renewed, 1);
}

#[test]
fn a_stranger_gets_no_answer() {
    let mut pair = Pair::established();
    let mut stranger = endpoint(66, pair.now);
    let mut exit = PeerConfig::new(pair.provider.public_key());
    exit.endpoint = Some(address(2));
    let exit = stranger.add_peer(exit).unwrap();
    stranger.initiate(exit, pair.now);
    let initiation = transmits(&mut stranger).remove(0).payload;
    assert_eq!(
        receive(&mut pair.provider, address(66), &initiation, pair.now),
        Got::Dropped(DropReason::UnknownPeer)
    );
    assert_eq!(transmits(&mut pair.provider), []);
    assert_eq!(events(&mut pair.provider), []);
}

#[test]
fn under_load_a_cookie_is_asked_for_and_accepted_by_both_roles() {
    let mut pair = Pair::new();
    pair.provider.set_under_load(true);
    pair.consumer.set_under_load(true);
    pair.consumer.initiate(pair.exit, pair.now);
    let initiation = transmits(&mut pair.consumer).remove(0).payload;
    let got = receive(&mut pair.provider, address(1), &initiation, pair.now);
    assert_eq!(got, Got::Dropped(DropReason::CookieDemanded));
    let reply = transmits(&mut pair.provider).remove(0);
    assert_eq!(
        (reply.payload.len(), reply.to, reply.peer),
        (COOKIE_LEN, address(1), None)
    );
    assert!(reply.payload.len() < initiation.len(), "no amplification");
    let got = receive(&mut pair.consumer, address(2), &reply.payload, pair.now);
    assert_eq!(got, Got::Handshake(pair.exit));
    assert_eq!(
        transmits(&mut pair.consumer),
        [],
        "the retry timer repeats, not the cookie"
    );
    let got = receive(&mut pair.consumer, address(2), &reply.payload, pair.now);
    assert_eq!(got, Got::Dropped(DropReason::BadCookie));
    // The responder is then asked for a cookie too, and the third attempt carries both.
    pair.run_until(pair.now + 12 * SECOND);
    assert!(matches!(
        (pair.up(60), pair.down(60)),
        (Got::Packet(..), Got::Packet(..))
    ));
}

#[test]
fn measured_load_demands_cookies_and_ends() {
    let config = EndpointConfig {
        handshakes_per_second: 50,
        ..EndpointConfig::default()
    };
    let mut pair = Pair::with(config, |_| {});
    pair.consumer.initiate(pair.exit, pair.now);
    let initiation = transmits(&mut pair.consumer).remove(0).payload;
    let outcomes: Vec<Got> = (0..60)
        .map(|_| receive(&mut pair.provider, address(1), &initiation, pair.now))
        .collect();
    assert_eq!(outcomes[0], Got::Handshake(pair.guest));
    assert!(
        outcomes[1..50]
            .iter()
            .all(|got| *got == Got::Dropped(DropReason::ReplayedHandshake))
    );
    assert!(
        outcomes[50..]
            .iter()
            .all(|got| *got == Got::Dropped(DropReason::CookieDemanded))
    );
    assert!(pair.provider.is_under_load(pair.now));
    assert!(!pair.provider.is_under_load(pair.now + 2 * SECOND));
}
