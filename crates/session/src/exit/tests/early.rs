//! What goes on before the terms are settled and the deposit is known: handshakes that came too soon, and the welcome.

use wayfare_tunnel::{PeerConfig, PublicKey};

use super::*;
use crate::{Funds, ProviderFrame};

const HERE: &str = "198.51.100.7:4000";

fn funds(spendable: u128) -> Funds {
    Funds {
        spendable: Amount::from_units(spendable),
        leaving: false,
    }
}

/// An exit with a welcome of 1,000 bytes, whose Hermes is known.
fn welcoming(now: Instant) -> Exit {
    let mut exit = exit(now);
    exit.config.welcome = Usage {
        up: 1_000,
        ..Usage::default()
    };
    exit.handle_hermes(
        HermesAccount {
            operator: address(8),
            fee_basis_points: 0,
            collateral: Amount::from_units(1_000_000),
            free: Amount::ZERO,
            leaving: false,
        },
        now,
    );
    exit
}

/// Admits a consumer about whose deposit nothing is known yet.
fn admit_unproven(exit: &mut Exit, request: &OpenRequest, now: Instant) -> SessionToken {
    let facts = AdmissionFacts {
        channel: CHANNEL,
        funds: None,
        token: request.agreement.id.0.to_be_bytes(),
    };
    exit.admit(request, &facts, now).unwrap().token
}

/// The tunnel of the consumer of `request(_, number)`, with its handshake.
fn tunnel(exit: &Exit, number: u8, now: Instant) -> (Endpoint, PeerId, Vec<u8>) {
    let secret = StaticSecret::from_bytes([number + 100; 32]);
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let mut endpoint = Endpoint::new(secret, [number; 32], now, wall, EndpointConfig::default());
    let peer = endpoint
        .add_peer(PeerConfig {
            public_key: PublicKey(exit.tunnel_key),
            preshared_key: None,
            allowed_ips: vec!["0.0.0.0/0".parse().unwrap()],
            endpoint: Some("203.0.113.1:51820".parse().unwrap()),
            keepalive: None,
        })
        .unwrap();
    endpoint.initiate(peer, now);
    let initiation = endpoint.poll_transmit().unwrap().payload.to_vec();
    (endpoint, peer, initiation)
}

fn frames(exit: &mut Exit, token: SessionToken) -> Vec<ProviderFrame> {
    let outputs = std::iter::from_fn(|| exit.poll_output());
    outputs
        .filter_map(|output| match output {
            ExitOutput::Frame { token: to, frame } if to == token => Some(frame),
            _ => None,
        })
        .collect()
}

#[test]
fn a_handshake_that_came_before_its_terms_is_answered_with_them() {
    let now = start();
    let mut exit = exit(now);
    let (mut endpoint, _, mut initiation) = tunnel(&exit, 1, now);
    let from = HERE.parse().unwrap();
    exit.open(from, &mut initiation, now);
    assert!(exit.poll_transmit().is_none(), "nobody knows it yet");
    // Somebody else's terms do not answer it.
    admit_unproven(&mut exit, &request(21, 2), now);
    assert!(exit.poll_transmit().is_none());
    admit_unproven(&mut exit, &request(20, 1), now);
    let response = exit.poll_transmit().unwrap();
    assert_eq!(response.to, from);
    endpoint.handle_datagram(
        "203.0.113.1:51820".parse().unwrap(),
        &mut response.payload.to_vec(),
        now,
    );
    assert!(matches!(
        endpoint.poll_event(),
        Some(Event::Established { .. })
    ));
    assert!(exit.poll_transmit().is_none(), "once");
}

#[test]
fn few_early_handshakes_are_kept_and_not_for_long() {
    let now = start();
    let mut exit = exit(now);
    let from: SocketAddr = HERE.parse().unwrap();
    let mut oldest = tunnel(&exit, 1, now).2;
    exit.open(from, &mut oldest, now);
    for number in 2..=65 {
        let mut initiation = tunnel(&exit, number, now).2;
        exit.open(from, &mut initiation, now);
    }
    admit_unproven(&mut exit, &request(20, 1), now);
    assert!(exit.poll_transmit().is_none(), "64 newer ones came");
    admit_unproven(&mut exit, &request(21, 65), now);
    assert!(exit.poll_transmit().is_some());
    let late = now + Duration::from_secs(2);
    admit_unproven(&mut exit, &request(22, 64), late);
    assert!(exit.poll_transmit().is_none(), "two seconds ago");
}

#[test]
fn nothing_passes_before_the_deposit_is_known_and_then_the_welcome() {
    let now = start();
    let mut exit = welcoming(now);
    let request = request(20, 1);
    let token = admit_unproven(&mut exit, &request, now);
    let slot = exit.by_token[&token];
    assert!(!exit.pass_up(slot, 600, now));
    exit.handle_funds(request.agreement.id, Ok(funds(1_000)), now);
    assert!(exit.pass_up(slot, 600, now) && exit.pass_up(slot, 400, now));
    // The gate is asked before a packet: the bound is the welcome and the packet that went before.
    assert!(exit.pass_up(slot, 600, now));
    assert!(!exit.pass_up(slot, 1, now));
    exit.handle_batch_end(now);
    assert_eq!(exit.sessions(now)[0].paid, Amount::ZERO);
}

#[test]
fn who_turns_out_to_have_no_deposit_is_told_so_whenever_it_comes() {
    let now = start();
    for attached_before in [true, false] {
        let mut exit = welcoming(now);
        let request = request(20, 1);
        let token = admit_unproven(&mut exit, &request, now);
        let attach = |exit: &mut Exit| {
            exit.handle_frame(token, ConsumerFrame::Attach(token), now)
                .unwrap();
        };
        if attached_before {
            attach(&mut exit);
        }
        exit.handle_funds(request.agreement.id, Ok(funds(999)), now);
        assert!(!exit.pass_up(0, 1, now));
        if !attached_before {
            assert_eq!(exit.session_count(), 1, "it was not told yet");
            attach(&mut exit);
        }
        assert_eq!(exit.session_count(), 0);
        let said = frames(&mut exit, token);
        let Some(ProviderFrame::Closed(refusal)) = said.last() else {
            panic!("{said:?}");
        };
        assert_eq!(refusal.code, RefusalCode::Unfunded);
    }
    // One that never comes is forgotten.
    let mut exit = welcoming(now);
    let request = request(20, 1);
    admit_unproven(&mut exit, &request, now);
    let leaving = Funds {
        leaving: true,
        ..funds(1_000)
    };
    exit.handle_funds(request.agreement.id, Ok(leaving), now);
    exit.handle_timeout(now + Duration::from_secs(5));
    assert_eq!(exit.session_count(), 0);
}

#[test]
fn few_consumers_wait_for_their_deposit_to_be_looked_up() {
    let now = start();
    let mut exit = exit(now);
    exit.config.max_sessions = 1_000;
    exit.pool = AddressPool::new("10.80.0.0/20".parse().unwrap(), None);
    let mut first = None;
    for number in 0..=255_u8 {
        let mut request = request(2 + number / 4, 1);
        // Each consumer may hold four.
        request.agreement.id = AgreementId(U256::from(1_000 + u32::from(number)));
        let request = signed(request, 2 + number / 4, number);
        admit_unproven(&mut exit, &request, now);
        first.get_or_insert(request.agreement.id);
    }
    let late = request(200, 1);
    let unknown = AdmissionFacts {
        channel: CHANNEL,
        funds: None,
        token: [9; 32],
    };
    let refused = exit.admit(&late, &unknown, now).unwrap_err();
    assert_eq!(refused.code, RefusalCode::Full);
    exit.handle_funds(first.unwrap(), Ok(funds(1_000)), now);
    exit.admit(&late, &unknown, now).unwrap();
}

#[test]
fn who_has_no_means_takes_nobodys_place() {
    let now = start();
    let mut exit = exit(now);
    exit.config.max_sessions = 2;
    let poor = request(20, 1);
    admit_unproven(&mut exit, &poor, now);
    // Half of the room is for those who are not known yet.
    let facts = AdmissionFacts {
        channel: CHANNEL,
        funds: None,
        token: [9; 32],
    };
    let refused = exit.admit(&request(21, 2), &facts, now).unwrap_err();
    assert_eq!(refused.code, RefusalCode::Full);
    exit.handle_funds(poor.agreement.id, Ok(funds(0)), now);
    for (consumer, number) in [(21, 3), (22, 4)] {
        admit(&mut exit, &request(consumer, number), now).unwrap();
    }
    assert_eq!(exit.session_count(), 2);
    let fifth = request(23, 5);
    assert_eq!(admit(&mut exit, &fifth, now), Err(RefusalCode::Full));
}

/// Signs a changed request again, with a tunnel key of its own.
fn signed(mut request: OpenRequest, consumer: u8, key: u8) -> OpenRequest {
    let consumer = signer(consumer);
    let agreement = &request.agreement;
    let mut secret = [0x77; 32];
    secret[5] = key;
    let key = StaticSecret::from_bytes(secret).public().0;
    request.binding =
        TunnelBinding::sign(&consumer, &agreement.domain(), key, agreement.id.0).unwrap();
    request.consumer_signature = consumer.sign_digest(agreement.digest()).unwrap();
    request
}
