//! Who gets in, and who does not get in again.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant, SystemTime};

use wayfare_identity::{B256, LocalSigner, SecretKey, TunnelBinding, U256};
use wayfare_payment::{Agreement, CollectorConfig, Patience, Usage};

mod early;

use super::pass::Pass;
use super::*;
use crate::{GateState, Hello, OpenRequest};

const CHANNEL: ChannelId = ChannelId(B256::repeat_byte(9));

#[allow(
    clippy::disallowed_methods,
    reason = "a test needs some moment to begin at; what follows is arithmetic"
)]
fn start() -> Instant {
    Instant::now()
}

fn signer(byte: u8) -> LocalSigner {
    LocalSigner::new(SecretKey::from_bytes([byte; 32]).unwrap())
}

fn address(byte: u8) -> Address {
    Address::repeat_byte(byte)
}

fn price() -> Price {
    Price {
        per_hour: Amount::from_units(3_600_000),
        per_gib: Amount::from_units(1 << 30),
    }
}

fn exit(now: Instant) -> Exit {
    let provider = signer(1);
    let collector = Collector::new(CollectorConfig {
        provider: provider.address(),
        hermes: address(2),
        chain_id: 7,
        vault: address(3),
        secret: B256::repeat_byte(4),
        fee_cap_basis_points: 0,
        own_cap: Amount::ZERO,
        credit_cap: Amount::from_units(16_000),
        patience: Patience::default(),
    });
    let config = ExitConfig {
        hermes: address(2),
        chain_id: 7,
        vault: address(3),
        price: price(),
        chunk: Amount::from_units(1_000),
        pool_v4: "10.80.0.0/24".parse().unwrap(),
        pool_v6: None,
        mtu: 1_420,
        max_sessions: 64,
        welcome: Usage::default(),
        tunnel: EndpointConfig::default(),
    };
    let secret = StaticSecret::from_bytes([5; 32]);
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    Exit::new(
        config,
        Arc::new(provider),
        secret,
        collector,
        [6; 32],
        wall,
        now,
    )
}

fn request(consumer: u8, number: u8) -> OpenRequest {
    let consumer = signer(consumer);
    let agreement = Agreement {
        id: AgreementId(U256::from(number)),
        consumer: consumer.address(),
        provider: signer(1).address(),
        hermes: address(2),
        chain_id: 7,
        vault: address(3),
        consumer_channel: CHANNEL,
        price: price(),
        chunk: Amount::from_units(1_000),
        chunk_limit: Amount::from_units(16_000),
    };
    let tunnel_key = StaticSecret::from_bytes([number + 100; 32]).public().0;
    let binding =
        TunnelBinding::sign(&consumer, &agreement.domain(), tunnel_key, agreement.id.0).unwrap();
    OpenRequest {
        hello: Hello::ours(),
        agreement,
        consumer_signature: consumer.sign_digest(agreement.digest()).unwrap(),
        binding,
    }
}

fn admit(exit: &mut Exit, request: &OpenRequest, now: Instant) -> Result<(), RefusalCode> {
    let id = request.agreement.id.0.to_be_bytes();
    let facts = AdmissionFacts {
        channel: CHANNEL,
        funds: Some(Funds {
            spendable: Amount::from_units(1_000_000),
            leaving: false,
        }),
        token: id,
    };
    let opened = exit.admit(request, &facts, now);
    opened.map(|_| ()).map_err(|refusal| refusal.code)
}

#[test]
fn an_agreement_is_used_once_also_when_its_session_is_long_over() {
    let now = start();
    let mut exit = exit(now);
    let request = request(20, 1);
    admit(&mut exit, &request, now).unwrap();
    assert_eq!(admit(&mut exit, &request, now), Err(RefusalCode::Replayed));
    // Silence ends the session, the collector's patience its memory of the agreement.
    for seconds in [61, 120, 200] {
        exit.handle_timeout(now + Duration::from_secs(seconds));
    }
    let later = now + Duration::from_secs(201);
    assert_eq!(exit.session_count(), 0);
    assert_eq!(exit.collector().agreements().count(), 0);
    assert_eq!(
        admit(&mut exit, &request, later),
        Err(RefusalCode::Replayed)
    );
}

#[test]
fn a_consumer_that_pays_for_nothing_holds_few_sessions() {
    let now = start();
    let mut exit = exit(now);
    for number in 1..=4 {
        admit(&mut exit, &request(20, number), now).unwrap();
    }
    let fifth = request(20, 5);
    assert_eq!(admit(&mut exit, &fifth, now), Err(RefusalCode::Unpaid));
    admit(&mut exit, &request(21, 6), now).unwrap();
    let later = now + Duration::from_secs(61);
    exit.handle_timeout(later);
    admit(&mut exit, &fifth, later).unwrap();
}

#[test]
fn who_would_give_more_credit_than_we_do_is_welcome_and_one_with_a_larger_first_chunk_is_not() {
    let now = start();
    let mut exit = exit(now);
    let ask = |number, change: fn(&mut Agreement)| {
        let mut request = request(20, number);
        change(&mut request.agreement);
        let digest = request.agreement.digest();
        request.consumer_signature = signer(20).sign_digest(digest).unwrap();
        request
    };
    let generous = ask(1, |agreement| agreement.chunk_limit = Amount::MAX);
    assert_eq!(admit(&mut exit, &generous, now), Ok(()));
    let hasty = ask(2, |agreement| agreement.chunk = Amount::from_units(1_001));
    assert_eq!(admit(&mut exit, &hasty, now), Err(RefusalCode::Terms));
}

#[test]
fn what_the_collector_refuses_last_is_taken_back_whole() {
    let now = start();
    let mut exit = exit(now);
    exit.collector.handle_failed(Ticket(0));
    for _ in 0..2 {
        // The ledger's failure is our own fault, and no reason to look at the terms again.
        let refused = admit(&mut exit, &request(20, 1), now);
        assert_eq!(refused, Err(RefusalCode::Internal));
        assert_eq!(exit.session_count(), 0);
        assert_eq!(exit.endpoint.peer_count(), 0);
        assert!(exit.by_token.is_empty() && exit.by_agreement.is_empty());
        assert_eq!(exit.pool.owner([10, 80, 0, 2].into()), None);
    }
}

#[test]
fn facts_do_not_show_the_token() {
    let facts = AdmissionFacts {
        channel: CHANNEL,
        funds: Some(Funds {
            spendable: Amount::ZERO,
            leaving: false,
        }),
        token: [0xAB; 32],
    };
    let shown = format!("{facts:?}");
    assert!(!shown.contains("171") && !shown.contains("abab"), "{shown}");
}

/// Everything that is found without a search is where a search would find it.
fn audit(exit: &Exit, now: Instant) {
    let wanted = exit.roster.values().map(ProviderSession::wants_a_look_at);
    let first = exit.roster.first_look().map(|(at, _)| at);
    assert!(
        first <= wanted.min(),
        "somebody would be looked at too late"
    );
    assert_eq!(first.is_none(), exit.roster.is_empty());
    for session in exit.roster.values() {
        let slot = session.lease.slot;
        assert_eq!(exit.slot_of(session.lease.v4.into()), Some(slot));
        assert_eq!(exit.by_token[&session.token], slot);
        assert_eq!(exit.by_agreement[&session.agreement.id], slot);
    }
    assert_eq!(exit.by_token.len(), exit.session_count());
    assert_eq!(exit.endpoint.peer_count(), exit.session_count());
    if let Some(due) = exit.poll_timeout() {
        assert!(due.at > now, "{due:?} would be asked for at once again");
    }
}

#[test]
fn silence_ends_each_session_in_its_time_and_wakes_nobody_in_vain() {
    let begin = start();
    let mut exit = exit(begin);
    let mut tokens = Vec::new();
    for number in 0..40 {
        let now = begin + Duration::from_secs(number);
        let request = request(20 + number as u8, 1 + number as u8);
        admit(&mut exit, &request, now).unwrap();
        tokens.push(SessionToken(request.agreement.id.0.to_be_bytes()));
    }
    let (mut now, mut wake_ups, mut heard) = (begin + Duration::from_secs(39), 0, 0);
    let mut ended = Vec::new();
    while let Some(due) = exit.poll_timeout() {
        now = now.max(due.at);
        exit.handle_timeout(now);
        audit(&exit, now);
        wake_ups += 1;
        // Half of them go on talking for a minute.
        if now < begin + Duration::from_secs(100) {
            for token in tokens.iter().step_by(2) {
                heard += u32::from(
                    exit.handle_frame(*token, ConsumerFrame::KeepAlive, now)
                        .is_ok(),
                );
            }
        }
        while let Some(output) = exit.poll_output() {
            if let ExitOutput::Ended { token, .. } = output {
                let place = tokens.iter().position(|other| *other == token).unwrap();
                ended.push((place, (now - begin).as_secs()));
            }
        }
    }
    assert_eq!(exit.session_count(), 0);
    assert!(heard >= 20, "{heard}");
    ended.sort_unstable();
    for (place, at) in ended {
        // The silent are given up after 60 s; the others after 120 s without a payment.
        let patience = if place % 2 == 0 { 120 } else { 60 };
        assert_eq!(at, place as u64 + patience, "session {place}");
    }
    // One for each report and two for each session, and not one for each packet.
    assert!(wake_ups <= 160 / 5 + 2 * 40 + 2, "{wake_ups}");
}

#[test]
fn a_hermes_near_its_limit_makes_the_collector_the_judge_of_every_packet() {
    let now = start();
    let mut exit = exit(now);
    admit(&mut exit, &request(20, 1), now).unwrap();
    assert!(exit.tight, "nothing is known of it");
    let account = HermesAccount {
        operator: address(9),
        fee_basis_points: 0,
        collateral: Amount::from_units(1_000_000),
        free: Amount::ZERO,
        leaving: false,
    };
    let mut hear = |change: fn(&mut HermesAccount)| {
        let mut account = account;
        change(&mut account);
        exit.handle_hermes(account, now);
        exit.tight
    };
    assert!(!hear(|_| ()));
    // The first chunk is asked for, and an allowance of the largest size has to fit beside it.
    assert!(!hear(
        |hermes| hermes.collateral = Amount::from_units(17_000)
    ));
    assert!(hear(|hermes| hermes.collateral = Amount::from_units(16_999)));
    assert!(hear(|hermes| hermes.leaving = true));
    // A pass is void then: the gate, open by mistake, is asked and shut.
    let generous = Pass::within(Amount::MAX, &price(), &Usage::default(), now);
    let seat = exit.roster.seat(0).unwrap();
    seat.session.set_gate(GateState::Open, now);
    seat.pass = Some(generous);
    while exit.poll_output().is_some() {}
    assert!(!exit.may_pass(0, now));
    let shut = exit.poll_output();
    assert!(matches!(
        shut,
        Some(ExitOutput::Frame {
            frame: ProviderFrame::Gate(GateState::Closed(_)),
            ..
        })
    ));
    // Held packets are counted and say nothing more.
    assert!(!exit.may_pass(0, now));
    assert!(exit.poll_output().is_none());
    assert_eq!(exit.roster.session(0).unwrap().held, 2);
}
