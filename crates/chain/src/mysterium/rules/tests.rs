//! The rules, one by one. Refuses to need a chain.
#![allow(clippy::unwrap_used)]
use alloy::primitives::B256;
use wayfare_identity::{LocalSigner, SecretKey};
use wayfare_payment::Preimage;

use super::*;
use crate::mysterium::Sighting;

const HERMES: Address = Address::repeat_byte(0xE1);

fn units(units: u128) -> Amount {
    Amount::from_units(units)
}

fn state() -> HermesState {
    HermesState {
        operator: Address::repeat_byte(1),
        status: Status::Active,
        fee_basis_points: 2_000,
        next_fee_basis_points: 2_000,
        fee_from: 0,
        stake: units(500),
        total_stake: Amount::ZERO,
        available: units(1_000),
        least_stake: Amount::ZERO,
        most_stake: units(100),
    }
}

fn saw(event: Event) -> Change {
    Change::Appeared(Sighting {
        block: 1,
        transaction: B256::ZERO,
        event,
    })
}

#[test]
fn collecting_is_worth_ten_times_its_gas() {
    // 366,990 gas at 50 gwei are 0.0183495 coins, at 2.5 tokens each.
    let price = units(2_500_000_000_000_000_000);
    let threshold = collect_threshold(50_000_000_000, price);
    assert_eq!(threshold, units(45_873_750_000_000_000));
    assert_eq!(collect_threshold(1, units(1)), units(1));
    assert_eq!(collect_threshold(0, price), Amount::ZERO);
}

#[test]
fn exposure_never_exceeds_its_cap() {
    let check = |signed, collected, tokens, cap, expect| {
        let room = room(units(signed), units(collected), units(tokens), units(cap));
        assert_eq!(room, units(expect));
        assert!(exposure(units(signed), units(collected)).saturating_add(room) <= units(cap));
    };
    check(0, 0, 1_000, 300, 300);
    check(100, 0, 1_000, 300, 200);
    check(400, 100, 1_000, 300, 0);
    check(400, 400, 600, 300, 300);
    check(400, 400, 200, 300, 200);
    // What was drained is not counted on, whatever was signed.
    check(400, 350, 20, 300, 0);
}

#[test]
fn each_alarm_is_given_when_it_begins() {
    let mut vigil = Vigil::new(HERMES);
    let calm = state();
    assert_eq!(vigil.observe(calm, &[], units(100)), []);
    let withdrawn = saw(Event::FundsWithdrawn);
    assert_eq!(
        vigil.observe(calm, &[withdrawn, withdrawn], units(100)),
        [Alarm::FundsWithdrawn]
    );
    let rising = HermesState {
        next_fee_basis_points: 3_000,
        fee_from: 77,
        ..calm
    };
    let rises = Alarm::FeeRises {
        from: 2_000,
        to: 3_000,
        at: 77,
    };
    assert_eq!(vigil.observe(rising, &[], units(100)), [rises]);
    assert_eq!(vigil.observe(rising, &[], units(100)), []);
    // A lower share is no alarm, nor is one that holds by now.
    let falling = HermesState {
        next_fee_basis_points: 1_000,
        ..calm
    };
    assert_eq!(vigil.observe(falling, &[], units(100)), []);
    let paused = HermesState {
        status: Status::Paused,
        ..calm
    };
    assert_eq!(
        vigil.observe(paused, &[], units(100)),
        [Alarm::Status(Status::Paused)]
    );
    assert_eq!(vigil.observe(paused, &[], units(100)), []);
    let closed = HermesState {
        status: Status::Closed,
        ..calm
    };
    assert_eq!(
        vigil.observe(closed, &[], units(100)),
        [Alarm::Status(Status::Closed)]
    );
    assert_eq!(vigil.observe(calm, &[], units(100)), []);
    let low = Alarm::FreeLow {
        available: units(1_000),
        owed: units(875),
    };
    assert_eq!(vigil.observe(calm, &[], units(874)), []);
    assert_eq!(vigil.observe(calm, &[], units(875)), [low]);
    assert_eq!(vigil.observe(calm, &[], units(900)), []);
    assert_eq!(vigil.observe(calm, &[], units(10)), []);
    assert_eq!(vigil.observe(calm, &[], units(875)), [low]);
}

#[test]
fn movement_to_the_hermes_is_none_and_what_vanished_is_no_alarm() {
    let mut vigil = Vigil::new(HERMES);
    let channel = Address::repeat_byte(7);
    let moved = |to| Event::Moved {
        channel,
        to,
        amount: units(5),
    };
    let away = saw(moved(Address::repeat_byte(8)));
    let changes = [saw(moved(HERMES)), away];
    let drained = Alarm::Drained {
        channel,
        amount: units(5),
    };
    assert_eq!(vigil.observe(state(), &changes, Amount::ZERO), [drained]);
    let Change::Appeared(sighting) = away else {
        panic!("it appeared");
    };
    let vanished = [Change::Vanished(sighting)];
    assert_eq!(vigil.observe(state(), &vanished, Amount::ZERO), []);
}

#[test]
fn an_operator_never_goes_back_and_pays_nobody_who_pays_himself() {
    let signer = LocalSigner::new(SecretKey::from_bytes([3; 32]).unwrap());
    let operator = signer.address();
    let (owner, consumer, provider) = (
        Address::repeat_byte(1),
        Address::repeat_byte(2),
        Address::repeat_byte(4),
    );
    let mut key = OperatorKey::new(Arc::new(signer), 5, HERMES, owner);
    let promise = |provider, amount: u128, r: u8| Promise {
        chain_id: 5,
        channel: ChannelId::of_provider(provider, HERMES),
        amount: units(amount),
        fee: Amount::ZERO,
        hashlock: Preimage(B256::repeat_byte(r)).hashlock(),
    };
    let channel = ChannelId::of_provider(provider, HERMES);
    key.restore(channel, units(10));
    key.restore(channel, units(9));
    let falls = |last, asked| {
        Err(Unsigned::Falls {
            last: units(last),
            asked: units(asked),
        })
    };
    assert_eq!(
        key.sign(consumer, provider, promise(provider, 9, 1)),
        falls(10, 9)
    );
    // A refresh: as much, behind another lock.
    let signed = key
        .sign(consumer, provider, promise(provider, 10, 2))
        .unwrap();
    signed.verify(operator).unwrap();
    key.sign(consumer, provider, promise(provider, 30, 3))
        .unwrap();
    assert_eq!(
        key.sign(consumer, provider, promise(provider, 29, 4)),
        falls(30, 29)
    );
    for (consumer, provider) in [
        (provider, provider),
        (consumer, owner),
        (consumer, operator),
    ] {
        assert_eq!(
            key.sign(consumer, provider, promise(provider, 50, 5)),
            Err(Unsigned::SelfDealing(provider))
        );
    }
    let fee = Promise {
        fee: units(1),
        ..promise(provider, 50, 6)
    };
    assert_eq!(
        key.sign(consumer, provider, fee),
        Err(Unsigned::Fee(units(1)))
    );
    let elsewhere = Promise {
        chain_id: 6,
        ..promise(provider, 50, 6)
    };
    let anothers = promise(consumer, 50, 6);
    for foreign in [elsewhere, anothers] {
        assert_eq!(
            key.sign(consumer, provider, foreign),
            Err(Unsigned::Foreign)
        );
    }
}
