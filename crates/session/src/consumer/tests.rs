//! What a consumer's session makes of each thing that its provider says, and of saying nothing.
#![allow(clippy::unwrap_used)]

use std::time::SystemTime;

use wayfare_identity::{Address, B256, LocalSigner, SecretKey, Signer, TunnelBinding, U256};
use wayfare_payment::{Agreement, AgreementId, ChannelId, Hashlock, Preimage, Price, Promise};
use wayfare_tunnel::{EndpointConfig, StaticSecret};

use super::*;
use crate::{Hello, RefusalCode, SessionToken, TunnelNetwork, negotiate};

fn signer(byte: u8) -> LocalSigner {
    LocalSigner::new(SecretKey::from_bytes([byte; 32]).unwrap())
}

/// Where virtual time starts.
#[allow(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made otherwise; only differences are used"
)]
fn start() -> Instant {
    Instant::now()
}

fn provider_key() -> [u8; 32] {
    StaticSecret::from_bytes([9; 32]).public().0
}

fn session(now: Instant) -> ConsumerSession {
    session_of(tunnel_start(provider_key(), now), now)
}

fn session_of(tunnel: TunnelStart, now: Instant) -> ConsumerSession {
    let agreement = Agreement {
        id: AgreementId(U256::ONE),
        consumer: signer(1).address(),
        provider: signer(2).address(),
        hermes: Address::repeat_byte(3),
        chain_id: 5,
        vault: Address::repeat_byte(4),
        consumer_channel: ChannelId(B256::repeat_byte(5)),
        price: Price::default(),
        chunk: units(10),
        chunk_limit: units(20),
    };
    let digest = agreement.digest();
    let (consumer, provider) = (signer(1), signer(2));
    let key = provider_key();
    let binding = TunnelBinding::sign(&provider, &agreement.domain(), key, agreement.id.0).unwrap();
    let setup = ConsumerSetup {
        agreement: SignedAgreement {
            agreement,
            consumer_signature: consumer.sign_digest(digest).unwrap(),
            provider_signature: provider.sign_digest(digest).unwrap(),
        },
        reply: OpenReply {
            welcome: negotiate(&Hello::ours(), &Hello::ours()).unwrap(),
            provider_signature: provider.sign_digest(digest).unwrap(),
            binding,
            network: TunnelNetwork {
                consumer_v4: [10, 80, 0, 2].into(),
                consumer_v6: None,
                mtu: 1_420,
            },
            token: SessionToken([6; 32]),
        },
        tunnel,
    };
    ConsumerSession::new(setup, now).unwrap()
}

fn tunnel_start(provider_key: [u8; 32], now: Instant) -> TunnelStart {
    let setup = TunnelSetup {
        secret: StaticSecret::from_bytes([7; 32]),
        provider_key,
        at: "198.51.100.1:51820".parse().unwrap(),
        seed: [8; 32],
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        config: EndpointConfig::default(),
    };
    TunnelStart::new(setup, now).unwrap()
}

fn units(units: u128) -> Amount {
    Amount::from_units(units)
}

fn said(session: &mut ConsumerSession) -> Vec<ConsumerOutput> {
    std::iter::from_fn(|| session.poll_output()).collect()
}

fn event(event: ConsumerEvent) -> ConsumerOutput {
    ConsumerOutput::Event(event)
}

fn payment(total: u128) -> Exchange {
    let by = signer(1);
    let amount = units(total);
    let promise = Promise {
        chain_id: 5,
        channel: ChannelId(B256::repeat_byte(5)),
        amount,
        fee: Amount::ZERO,
        hashlock: Preimage::derive(&B256::ZERO, U256::ONE, amount).hashlock(),
    };
    let promise = promise.sign(&by).unwrap();
    let (provider, hermes) = (signer(2).address(), Address::repeat_byte(3));
    Exchange::sign(
        &by,
        promise,
        AgreementId(U256::ONE),
        amount,
        provider,
        hermes,
    )
    .unwrap()
}

#[test]
fn an_invoice_becomes_a_bill_with_our_own_meter() {
    let now = start();
    let mut session = session(now);
    let invoice = Invoice {
        agreement: AgreementId(U256::ONE),
        total: units(10),
        hashlock: Hashlock(B256::repeat_byte(1)),
    };
    session.handle_frame(ProviderFrame::Invoice(invoice), now);
    // The provider's meter changes nothing about ours.
    let usage = Usage {
        up: 1 << 40,
        down: 1 << 40,
        time: Duration::from_secs(1 << 20),
    };
    session.handle_frame(ProviderFrame::Usage(usage), now);
    session.handle_frame(ProviderFrame::Invoice(invoice), now);
    let bill = ConsumerOutput::Bill {
        invoice,
        usage: Usage::default(),
    };
    assert_eq!(said(&mut session), [bill.clone(), bill]);
    assert_eq!(session.usage(now), Usage::default());
}

#[test]
fn totals_only_grow() {
    let now = start();
    let mut session = session(now);
    for total in [10, 30, 20] {
        session.handle_frame(ProviderFrame::Paid(units(total)), now);
        session.handle_payment(payment(total));
    }
    assert_eq!((session.paid(), session.signed()), (units(30), units(30)));
    assert_eq!(said(&mut session).len(), 6);
}

#[test]
fn silence_of_fifteen_seconds_is_the_end_and_any_frame_puts_it_off() {
    let now = start();
    let seconds = |n| now + Duration::from_secs(n);
    let mut session = session(now);
    session.handle_frame(ProviderFrame::KeepAlive, seconds(10));
    session.handle_timeout(seconds(24));
    assert!(!session.is_closed());
    session.handle_timeout(seconds(25));
    assert!(session.is_closed());
    let end = event(ConsumerEvent::Closed(CloseReason::Silence));
    assert_eq!(said(&mut session).last(), Some(&end));
    // Said once, and nothing is reported any more.
    session.handle_timeout(seconds(60));
    session.abort();
    assert_eq!(said(&mut session), []);
}

#[test]
fn a_session_without_a_tunnel_proves_its_stream_alive_every_five_seconds() {
    let now = start();
    let mut session = session(now);
    let first = session.poll_timeout().unwrap();
    assert!(first.at <= now + Duration::from_secs(5));
    for n in [4, 5, 9, 10] {
        session.handle_timeout(now + Duration::from_secs(n));
    }
    let alive = ConsumerOutput::Frame(ConsumerFrame::KeepAlive);
    assert_eq!(said(&mut session), [alive.clone(), alive]);
}

#[test]
fn the_end_is_ours_if_we_asked_for_it_and_paid() {
    let check = |closing: bool, code: RefusalCode, ours: bool| {
        let now = start();
        let mut session = session(now);
        if closing {
            session.close();
            let close = ConsumerOutput::Frame(ConsumerFrame::Close);
            assert_eq!(said(&mut session), [close]);
        }
        let refusal = Refusal::new(code, "for a reason");
        session.handle_frame(ProviderFrame::Closed(refusal.clone()), now);
        let reason = if ours {
            CloseReason::Ours
        } else {
            CloseReason::Provider(refusal)
        };
        assert_eq!(
            said(&mut session),
            [event(ConsumerEvent::Closed(reason))],
            "{closing} {code:?}"
        );
    };
    check(true, RefusalCode::Draining, true);
    check(true, RefusalCode::Unpaid, false);
    check(false, RefusalCode::Draining, false);
    check(false, RefusalCode::Unpaid, false);
}

#[test]
fn a_provider_that_says_too_much_is_not_listened_to_for_ever() {
    let now = start();
    let mut session = session(now);
    for n in 0..5_000 {
        session.handle_frame(ProviderFrame::Paid(units(n)), now);
    }
    assert_eq!(said(&mut session).len(), MAX_OUTPUTS);
    assert_eq!(session.paying.dropped_outputs, 5_000 - MAX_OUTPUTS as u64);
    // The driver came back: it is heard again.
    session.handle_frame(ProviderFrame::Gate(GateState::Open), now);
    let open = event(ConsumerEvent::Gate(GateState::Open));
    assert_eq!(said(&mut session), [open]);
}

/// How many datagrams are to be sent.
fn datagrams(session: &mut ConsumerSession) -> usize {
    std::iter::from_fn(|| session.poll_transmit()).count()
}

#[test]
fn a_handshake_that_began_early_is_begun_anew_if_its_answer_does_not_come_with_the_terms() {
    let began = start();
    let mut tunnel = tunnel_start(provider_key(), began);
    assert!(tunnel.poll_transmit().is_some() && tunnel.poll_transmit().is_none());
    let agreed = began + Duration::from_millis(200);
    let mut session = session_of(tunnel, agreed);
    assert_eq!(datagrams(&mut session), 0, "it is on its way");
    let late = agreed + Duration::from_millis(50);
    assert_eq!(session.poll_timeout().map(|due| due.at), Some(late));
    session.handle_timeout(late);
    assert_eq!(datagrams(&mut session), 1);
    let later = session.poll_timeout().unwrap().at;
    assert!(
        later > late + Duration::from_secs(1),
        "from then on the tunnel's own timer"
    );
    // One that begins with the session has that timer from the start.
    let mut session = self::session(began);
    assert_eq!(datagrams(&mut session), 1);
    session.handle_timeout(began + Duration::from_millis(50));
    assert_eq!(datagrams(&mut session), 0);
}

#[test]
fn a_provider_that_agrees_to_another_tunnel_key_than_it_proposed_is_called_by_that_one() {
    let began = start();
    let other = StaticSecret::from_bytes([10; 32]).public().0;
    let mut tunnel = tunnel_start(other, began);
    assert!(tunnel.poll_transmit().is_some());
    let agreed = began + Duration::from_millis(200);
    let mut session = session_of(tunnel, agreed);
    assert_eq!(datagrams(&mut session), 1);
    session.handle_timeout(agreed + Duration::from_millis(50));
    assert_eq!(datagrams(&mut session), 0);
}
