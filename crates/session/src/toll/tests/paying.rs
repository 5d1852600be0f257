//! What a consumer's machine makes of each thing that a relay says, and of saying nothing.

use std::time::{Duration, Instant};

use wayfare_identity::B256;
use wayfare_payment::{Amount, Hashlock, Invoice, SignedAgreement, Usage};

use super::super::{TollEvent, TollOutput, TollPayer};
use super::world::{KIB, agreement, signer, start};
use crate::{CloseReason, ConsumerFrame, GateState, ProviderFrame, Refusal, RefusalCode};

fn payer(now: Instant) -> TollPayer {
    let agreement = agreement(1);
    let sign = |by: u8| signer(by).sign_digest(agreement.digest()).unwrap();
    let terms = SignedAgreement {
        agreement,
        consumer_signature: sign(1),
        provider_signature: sign(2),
    };
    TollPayer::new(terms, [KIB, 2 * KIB], now)
}

fn said(payer: &mut TollPayer) -> Vec<TollOutput> {
    std::iter::from_fn(|| payer.poll_output()).collect()
}

fn closed(reason: CloseReason) -> Vec<TollOutput> {
    vec![TollOutput::Event(TollEvent::Closed(reason))]
}

#[test]
fn an_invoice_is_shown_with_what_passed_since_the_beginning() {
    let now = start();
    let mut payer = payer(now);
    let invoice = Invoice {
        agreement: payer.agreement().agreement.id,
        total: Amount::from_units(7),
        hashlock: Hashlock(B256::repeat_byte(3)),
    };
    payer.handle_passed([3 * KIB, 2 * KIB]);
    payer.handle_frame(ProviderFrame::Invoice(invoice), now);
    let usage = Usage {
        up: 2 * KIB,
        ..Usage::default()
    };
    assert_eq!(said(&mut payer), [TollOutput::Bill { invoice, usage }]);
    // What the relay has counted is its own affair.
    payer.handle_frame(ProviderFrame::Usage(usage), now);
    payer.handle_frame(ProviderFrame::KeepAlive, now);
    assert_eq!(said(&mut payer), []);
}

#[test]
fn what_the_relay_says_is_told_and_the_largest_paid_total_is_kept() {
    let now = start();
    let mut payer = payer(now);
    for total in [5, 3] {
        payer.handle_frame(ProviderFrame::Paid(Amount::from_units(total)), now);
    }
    payer.handle_frame(ProviderFrame::Gate(GateState::Open), now);
    payer.handle_frame(ProviderFrame::Draining { seconds: 5 }, now);
    assert_eq!(payer.paid(), Amount::from_units(5));
    let events = [
        TollEvent::Paid(Amount::from_units(5)),
        TollEvent::Paid(Amount::from_units(3)),
        TollEvent::Gate(GateState::Open),
        TollEvent::Draining(5),
    ];
    assert_eq!(said(&mut payer), events.map(TollOutput::Event));
}

#[test]
fn the_end_is_ours_if_we_asked_for_it_and_paid() {
    let now = start();
    for (code, ours) in [(RefusalCode::Draining, true), (RefusalCode::Unpaid, false)] {
        let mut payer = payer(now);
        payer.close();
        assert_eq!(said(&mut payer), [TollOutput::Frame(ConsumerFrame::Close)]);
        let refusal = Refusal::new(code, "over");
        payer.handle_frame(ProviderFrame::Closed(refusal.clone()), now);
        let reason = match ours {
            true => CloseReason::Ours,
            false => CloseReason::Provider(refusal),
        };
        assert_eq!(said(&mut payer), closed(reason));
        // Nothing is said or heard any more.
        payer.handle_frame(ProviderFrame::Gate(GateState::Open), now);
        payer.handle_timeout(now + Duration::from_secs(60));
        payer.abort();
        assert_eq!((said(&mut payer), payer.poll_timeout()), (vec![], None));
        assert!(payer.is_closed());
    }
}

#[test]
fn a_silent_relay_is_told_our_count_and_then_given_up() {
    let now = start();
    let mut payer = payer(now);
    let mut told = Vec::new();
    // Bounded: reports come every 5 s, and silence lasts 15.
    for _ in 0..8 {
        let Some(due) = payer.poll_timeout() else {
            break;
        };
        payer.handle_timeout(due.at);
        for output in said(&mut payer) {
            told.push(((due.at - now).as_secs(), output));
        }
    }
    let report = TollOutput::Frame(ConsumerFrame::Usage(Usage::default()));
    let end = TollOutput::Event(TollEvent::Closed(CloseReason::Silence));
    let expect = [(5, &report), (10, &report), (15, &report), (15, &end)];
    let told: Vec<_> = told.iter().map(|(at, output)| (*at, output)).collect();
    assert_eq!(told, expect);
}
