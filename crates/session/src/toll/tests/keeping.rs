//! What a keeper takes, what it refuses, and what it says of whom.

use std::time::Duration;

use wayfare_identity::NodeId;
use wayfare_payment::Amount;

use super::super::{TollKeeper, TollKeeperOutput};
use super::world::{
    CHUNK, KIB, NODE, agreement, facts, fresh_keeper, hermes_account, request, start,
};
use crate::{ConsumerFrame, Funds, ProviderFrame, RefusalCode, SessionToken};

fn token(number: u64) -> SessionToken {
    SessionToken(facts(number).token)
}

fn said(keeper: &mut TollKeeper) -> Vec<TollKeeperOutput> {
    std::iter::from_fn(|| keeper.poll_output()).collect()
}

fn frames(outputs: &[TollKeeperOutput], of: SessionToken) -> Vec<ProviderFrame> {
    let frame = |output: &TollKeeperOutput| match output {
        TollKeeperOutput::Frame { token, frame } if *token == of => Some(frame.clone()),
        _ => None,
    };
    outputs.iter().filter_map(frame).collect()
}

#[test]
fn terms_that_are_not_the_tariffs_are_refused_and_leave_nothing() {
    let now = start();
    let mut keeper = fresh_keeper(now);
    let tariff = keeper.tariff();
    assert_eq!(
        (tariff.price(), tariff.free_bytes),
        (agreement(1).price, 256 * KIB)
    );
    let mut ask = |number, change: fn(&mut wayfare_payment::Agreement)| {
        let mut terms = agreement(number);
        change(&mut terms);
        let asked = keeper.admit(NODE, [0; 2], &request(terms), &facts(number), now);
        (
            asked.map(drop).map_err(|refusal| refusal.code),
            keeper.toll_count(),
        )
    };
    let refused = |code| (Err(code), 0);
    let price = ask(1, |terms| terms.price.per_hour = Amount::from_units(1));
    assert_eq!(price, refused(RefusalCode::Terms));
    let chunk = ask(1, |terms| terms.chunk = Amount::from_units(CHUNK + 1));
    assert_eq!(chunk, refused(RefusalCode::Terms));
    let nothing = ask(1, |terms| terms.chunk = Amount::ZERO);
    assert_eq!(nothing, refused(RefusalCode::Terms));
    let hermes = ask(1, |terms| terms.hermes = terms.vault);
    assert_eq!(hermes, refused(RefusalCode::Hermes));
    assert_eq!(ask(1, |_| ()), (Ok(()), 1));
    assert_eq!(ask(1, |_| ()), (Err(RefusalCode::Replayed), 1));
    let mut forged = request(agreement(2));
    forged.agreement.chunk_limit = Amount::MAX;
    let refusal = keeper.admit(NODE, [0; 2], &forged, &facts(2), now);
    assert_eq!(refusal.map_err(|r| r.code), Err(RefusalCode::Signature));
    assert_eq!(keeper.collector().agreements().count(), 1);
    keeper.drain(now);
    let late = keeper.admit(NODE, [0; 2], &request(agreement(3)), &facts(3), now);
    assert_eq!(late.map_err(|r| r.code), Err(RefusalCode::Draining));
}

#[test]
fn who_cannot_pay_the_first_chunk_or_pays_for_nothing_holds_nothing() {
    let now = start();
    let mut keeper = fresh_keeper(now);
    let mut poor = facts(1);
    poor.funds = Some(Funds {
        spendable: Amount::from_units(CHUNK - 1),
        leaving: false,
    });
    let refusal = keeper.admit(NODE, [0; 2], &request(agreement(1)), &poor, now);
    assert_eq!(refusal.map_err(|r| r.code), Err(RefusalCode::Unfunded));
    for number in 1..=5_u64 {
        let node = NodeId([number as u8; 32]);
        let asked = keeper.admit(
            node,
            [0; 2],
            &request(agreement(number)),
            &facts(number),
            now,
        );
        let expect = if number <= 4 {
            Ok(())
        } else {
            Err(RefusalCode::Unpaid)
        };
        assert_eq!(asked.map(drop).map_err(|r| r.code), expect, "{number}");
    }
    // They are given up, and their places with them.
    for seconds in 1..=61 {
        keeper.handle_timeout(now + Duration::from_secs(seconds));
    }
    assert_eq!(keeper.toll_count(), 0);
    assert_eq!(keeper.nodes().count(), 0);
}

#[test]
fn another_agreement_of_a_node_takes_over_the_count() {
    let now = start();
    let mut keeper = fresh_keeper(now);
    keeper
        .admit(NODE, [1, 2], &request(agreement(1)), &facts(1), now)
        .unwrap();
    keeper
        .handle_frame(token(1), ConsumerFrame::Attach(token(1)), now)
        .unwrap();
    keeper.handle_passed(NODE, [1, 2 + KIB], now);
    said(&mut keeper);
    keeper
        .admit(
            NODE,
            [1, 2 + 3 * KIB],
            &request(agreement(2)),
            &facts(2),
            now,
        )
        .unwrap();
    keeper.handle_passed(NODE, [1, 2 + 10 * KIB], now);
    let outputs = said(&mut keeper);
    // Nothing was paid of the first: what it still owes is asked for, and no first chunk.
    let invoices = frames(&outputs, token(1));
    assert!(
        invoices
            .iter()
            .any(|frame| matches!(frame, ProviderFrame::Invoice(_))),
        "{invoices:?}"
    );
    let mut counted: Vec<u64> = keeper.tolls().iter().map(|toll| toll.usage.down).collect();
    counted.sort_unstable();
    assert_eq!(counted, [3 * KIB, 7 * KIB]);
    assert_eq!(keeper.nodes().collect::<Vec<_>>(), [NODE]);
    let unknown = keeper.handle_frame(token(9), ConsumerFrame::KeepAlive, now);
    assert_eq!(unknown.map_err(|r| r.code), Err(RefusalCode::Unknown));
}

#[test]
fn how_far_a_node_may_pass_is_said_once() {
    let now = start();
    let mut keeper = fresh_keeper(now);
    let asked = request(agreement(1));
    keeper.admit(NODE, [0; 2], &asked, &facts(1), now).unwrap();
    let allowed = |outputs: &[TollKeeperOutput]| {
        let until = |output: &TollKeeperOutput| match output {
            TollKeeperOutput::Allow { node, until } => Some((*node, *until)),
            _ => None,
        };
        outputs.iter().filter_map(until).collect::<Vec<_>>()
    };
    assert_eq!(allowed(&said(&mut keeper)), [(NODE, 0)]);
    keeper.handle_passed(NODE, [500, 600], now);
    keeper.handle_hermes(hermes_account(), now);
    assert_eq!(allowed(&said(&mut keeper)), []);
    let other = NodeId([8; 32]);
    keeper.handle_passed(other, [500, 600], now);
    assert_eq!(allowed(&said(&mut keeper)), []);
    keeper.drain(now);
    assert_eq!(allowed(&said(&mut keeper)), [(NODE, 0)]);
}
