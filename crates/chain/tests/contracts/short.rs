//! The short ways of the vault, in which assembly does what Solidity does elsewhere: each is held to the same rules as the long
//! way, by the same attacks.

use alloy::primitives::{Address, Bytes, U256};
use wayfare_chain::Mandate;
use wayfare_chain::bindings::Vault;
use wayfare_identity::{LocalSigner, Signer};

use crate::arena::{Arena, DAY};
use crate::net::{COLLATERAL_DELAY, key};
use crate::rules::{killed, mallory};

/// A Hermes with free money: collateral that a consumer's promise has turned over.
fn with_free(arena: &mut Arena, units: u128) {
    let alice = key("alice");
    arena.deposit(alice.address(), units);
    let call = arena.collect_call(alice.address(), &alice, units);
    arena.must(mallory(), &call);
}

/// Settles once the long way, so that the short one has nothing extraordinary to do.
fn settled_before(arena: &mut Arena, payee: Address) {
    let call = arena.settle_call(payee, &arena.operator, 100);
    arena.must(payee, &call);
}

fn give(hermes: Address, methods: u8, until: u16) -> Vault::giveMandateCall {
    Vault::giveMandateCall {
        hermesId: hermes,
        caller: hermes,
        methods: U256::from(methods),
        untilDay: until,
    }
}

fn credit(arena: &mut Arena, payee: Address) -> u128 {
    let call = Vault::providerCall {
        payee,
        hermesId: arena.hermes,
    };
    arena.evm.view(arena.vault, &call).credit.to()
}

#[test]
fn r2_a_short_promise_is_paid_once() {
    killed("settled-advances", |arena| {
        with_free(arena, 10_000);
        settled_before(arena, mallory());
        let call = arena.draw_call(mallory(), &arena.operator, 200);
        arena.must(mallory(), &call);
        arena.call(mallory(), &call);
        arena.tokens(mallory()) > 190
    });
    killed("settled-advances", |arena| {
        with_free(arena, 10_000);
        settled_before(arena, mallory());
        let call = arena.keep_call(mallory(), &arena.operator, 200);
        arena.must(mallory(), &call);
        arena.call(mallory(), &call);
        credit(arena, mallory()) > 95
    });
}

#[test]
fn a1_a_short_promise_that_its_hermes_did_not_sign_is_worth_nothing() {
    killed("hermes-signature", |arena| {
        with_free(arena, 10_000);
        settled_before(arena, mallory());
        let call = arena.draw_call(mallory(), &key("mallory"), 5_000);
        arena.call(mallory(), &call).done
    });
}

#[test]
fn a1_rows_that_the_hermes_did_not_sign_are_worth_nothing() {
    killed("hermes-signature", |arena| {
        with_free(arena, 10_000);
        let rows = arena.rows(&[(mallory(), 5_000)], &key("mallory"), false);
        let call = arena.many_call(rows, Mandate::PAY_OUT);
        arena.call(mallory(), &call).done
    });
    killed("consumer-signature", |arena| {
        arena.deposit(key("alice").address(), 1_000);
        let rows = arena.rows(&[(key("alice").address(), 900)], &key("mallory"), true);
        let call = Vault::collectManyCall {
            hermesId: arena.hermes,
            rows,
        };
        arena.call(mallory(), &call).done
    });
}

#[test]
fn r2_many_promises_need_their_payees() {
    killed("payee-authority", |arena| {
        with_free(arena, 10_000);
        let bob = key("bob").address();
        let rows = arena.rows(&[(bob, 500)], &arena.operator, false);
        let call = arena.many_call(rows, Mandate::CREDIT);
        arena.call(mallory(), &call);
        arena.settled(bob) > 0
    });
}

#[test]
fn r2_an_operator_books_no_credit_that_the_payee_did_not_ask_for() {
    killed("payee-authority", |arena| {
        with_free(arena, 10_000);
        let (bob, operator) = (key("bob"), arena.operator.address());
        // A mandate to a caller, were it the operator itself, is none to the Hermes.
        arena.must(operator, &Vault::registerCallerCall {});
        let call = arena.mandate_call(&bob, operator, u16::MAX, 0);
        arena.must(operator, &call);
        let call = arena.credits_call(&[(bob.address(), 500)]);
        arena.call(operator, &call);
        arena.settled(bob.address()) > 0
    });
}

#[test]
fn r2_the_hermes_mandate_ends_with_its_last_day() {
    killed("mandate-end", |arena| {
        with_free(arena, 10_000);
        let (bob, operator) = (key("bob").address(), arena.operator.address());
        let call = give(arena.hermes, Mandate::CREDIT, arena.today() + 2);
        arena.must(bob, &call);
        arena.evm.pass(2 * DAY);
        let call = arena.credits_call(&[(bob, 100)]);
        arena.must(operator, &call);
        arena.evm.pass(DAY);
        let call = arena.credits_call(&[(bob, 200)]);
        arena.call(operator, &call).done
    });
}

#[test]
fn r10_the_operators_credits_equal_its_sheets() {
    let mut arena = Arena::new();
    with_free(&mut arena, 10_000);
    let operator = arena.operator.address();
    let payees: Vec<Address> = (0..5)
        .map(|n| key(&format!("payee {n}")).address())
        .collect();
    let call = give(arena.hermes, Mandate::CREDIT, u16::MAX);
    for payee in &payees[..4] {
        arena.must(*payee, &call);
    }
    let rows: Vec<_> = payees.iter().map(|payee| (*payee, 100)).collect();
    // The first was faster; the last gave no mandate.
    settled_before(&mut arena, payees[0]);
    let call = arena.credits_call(&rows);
    assert!(!arena.call(mallory(), &call).done, "who is no operator");
    arena.must(operator, &call);
    for (n, payee) in payees.iter().enumerate() {
        let expect = match n {
            0 => (100, 0),
            4 => (0, 0),
            _ => (100, 95),
        };
        assert_eq!(
            (arena.settled(*payee), credit(&mut arena, *payee)),
            expect,
            "payee {n}"
        );
    }
    assert!(!arena.call(operator, &call).done, "nothing is in it again");
    // 10,000 less five per cent of what was paid: four times 95.
    assert_eq!(arena.hermes_account().account.free.to::<u128>(), 9_620);
    // A row twice in one batch counts once.
    let twice = arena.credits_call(&[(payees[1], 300), (payees[1], 300)]);
    arena.must(operator, &twice);
    assert_eq!(credit(&mut arena, payees[1]), 285);
    // More than there is: whole or not at all, also where collateral helps.
    let over = arena.credits_call(&[(payees[1], 20_000)]);
    assert!(!arena.call(operator, &over).done);
    arena.collateral(20_000);
    arena.must(operator, &over);
    // Out to an address the Hermes' mandate does not go.
    let out = give(arena.hermes, Mandate::PAY_OUT | Mandate::CREDIT, u16::MAX);
    assert!(!arena.call(payees[0], &out).done);
    // Taken back, it is worth nothing.
    let back = give(arena.hermes, 0, 0);
    arena.must(payees[1], &back);
    let more = arena.credits_call(&[(payees[1], 20_100)]);
    assert!(!arena.call(operator, &more).done);
}

#[test]
fn r8_a_ruined_hermes_pays_nothing_in_short() {
    let mut arena = Arena::new();
    with_free(&mut arena, 1_000);
    let (bob, operator) = (key("bob").address(), arena.operator.address());
    settled_before(&mut arena, bob);
    let call = give(arena.hermes, Mandate::CREDIT, u16::MAX);
    arena.must(bob, &call);
    let first = arena.receipt(bob, 500, 500, None);
    let fork = arena.receipt(mallory(), 500, 500, None);
    assert!(arena.fraud(mallory(), &first, &fork).done);
    let call = arena.draw_call(bob, &arena.operator, 500);
    assert!(!arena.call(bob, &call).done);
    let call = arena.keep_call(bob, &arena.operator, 500);
    assert!(!arena.call(bob, &call).done);
    let call = arena.credits_call(&[(bob, 500)]);
    assert!(!arena.call(operator, &call).done);
    let rows = arena.rows(&[(bob, 500)], &arena.operator, false);
    let call = arena.many_call(rows, Mandate::PAY_OUT);
    assert!(!arena.call(bob, &call).done);
}

#[test]
fn r10_short_settlements_equal_long_ones() {
    let mut arena = Arena::new();
    with_free(&mut arena, 1_000);
    arena.collateral(1_000);
    let (bob, carol) = (key("bob").address(), key("carol").address());
    // The first of an account, one that free pays, one that needs collateral, one that is paid in part.
    for (units, paid) in [(300, 300), (700, 700), (1_500, 1_500), (9_000, 2_075)] {
        let call = arena.draw_call(bob, &arena.operator, units);
        arena.must(bob, &call);
        assert_eq!(arena.settled(bob), paid, "{units}");
        assert!(!arena.call(carol, &call).done, "another's");
    }
    // Five per cent of each step stayed with the Hermes, in free, and was paid out in the end.
    assert_eq!(arena.tokens(bob), 285 + 380 + 760 + 547);
    let account = arena.hermes_account().account;
    let left = account.free.to::<u128>() + account.collateral.to::<u128>();
    assert_eq!(arena.tokens(bob) + left, 2_000);
    let call = arena.keep_call(carol, &arena.operator, 10);
    arena.collateral(100);
    arena.must(carol, &call);
    let call = arena.keep_call(carol, &arena.operator, 50);
    arena.must(carol, &call);
    let kept = credit(&mut arena, carol);
    assert_eq!((kept, arena.settled(carol)), (48, 50));
    let call = arena.draw_call(carol, &arena.operator, 60);
    arena.must(carol, &call);
    assert_eq!(credit(&mut arena, carol), kept, "what was kept stays");
}

#[test]
fn r9_a_batch_takes_every_key_of_its_hermes_and_no_other() {
    let mut arena = Arena::new();
    with_free(&mut arena, 10_000);
    let (owner, next) = (arena.owner, key("next operator"));
    let payees: Vec<LocalSigner> = (0..4).map(|n| key(&format!("payee {n}"))).collect();
    arena.must(mallory(), &Vault::registerCallerCall {});
    for payee in &payees {
        let call = arena.mandate_call(payee, mallory(), u16::MAX, 0);
        arena.must(mallory(), &call);
    }
    let rotate = Vault::rotateOperatorCall {
        next: next.address(),
    };
    arena.must(owner, &rotate);
    let row = |arena: &Arena, n: usize, by: &LocalSigner| {
        arena.rows(&[(payees[n].address(), 100)], by, false)
    };
    let mixed = |arena: &Arena| -> Bytes {
        let by = [&arena.operator, &next, &arena.operator, &next];
        let rows: Vec<Bytes> = (0..4).map(|n| row(arena, n, by[n])).collect();
        rows.concat().into()
    };
    let call = arena.many_call(mixed(&arena), Mandate::PAY_OUT);
    assert!(!arena.call(mallory(), &call).done, "the next key is early");
    arena.evm.pass(COLLATERAL_DELAY);
    arena.must(mallory(), &call);
    for payee in &payees {
        assert_eq!(arena.tokens(payee.address()), 95);
    }
}

#[test]
fn a1_bent_rows_end_the_whole_batch() {
    let mut arena = Arena::new();
    with_free(&mut arena, 10_000);
    let bob = key("bob").address();
    let good = arena.rows(&[(bob, 100), (bob, 200)], &arena.operator, false);
    let bend = |at: usize, with: u8| {
        let mut rows = good.to_vec();
        rows[at] ^= with;
        Bytes::from(rows)
    };
    // In the second row: payee, amount, R, r, the sign bit, s, and s mirrored into the upper half.
    for at in [128, 128 + 31, 128 + 40, 128 + 70, 128 + 127] {
        let call = arena.many_call(bend(at, 1), Mandate::PAY_OUT);
        assert!(!arena.call(bob, &call).done, "byte {at}");
    }
    let call = arena.many_call(bend(128 + 96, 0x80), Mandate::PAY_OUT);
    assert!(!arena.call(bob, &call).done, "the sign of the point");
    let call = arena.many_call(bend(128 + 96, 0x40), Mandate::PAY_OUT);
    assert!(!arena.call(bob, &call).done, "a high s");
    // A signature that recovers to nobody.
    let mut rows = good.to_vec();
    rows[128 + 64..].fill(0);
    let call = arena.many_call(rows.into(), Mandate::PAY_OUT);
    assert!(!arena.call(bob, &call).done, "nobody's");
    for length in [0, 127, 129] {
        let call = arena.many_call(good[..length].to_vec().into(), Mandate::PAY_OUT);
        assert!(!arena.call(bob, &call).done, "{length} bytes");
    }
    assert_eq!(arena.settled(bob), 0);
    let call = arena.many_call(good.clone(), Mandate::PAY_OUT);
    arena.must(bob, &call);
    assert_eq!((arena.settled(bob), arena.tokens(bob)), (200, 190));
}

#[test]
fn a_deposit_that_a_slot_cannot_hold_is_refused() {
    let mut arena = Arena::new();
    let (alice, vault) = (key("alice").address(), arena.vault);
    let most = (1u128 << 96) - 1;
    arena.mint(alice, u128::MAX);
    arena.approve(alice, vault);
    let place = |arena: &Arena, units: u128| {
        let word = [alice.as_slice(), &units.to_be_bytes()[4..]].concat();
        Vault::placeApprovedCall {
            hermesId: arena.hermes,
            consumerAndAmount: alloy::primitives::B256::from_slice(&word),
        }
    };
    let call = place(&arena, most);
    arena.must(alice, &call);
    let call = place(&arena, 1);
    assert!(!arena.call(alice, &call).done);
    assert!(!arena.call(mallory(), &call).done, "who has no tokens");
    let call = Vault::consumerCall {
        consumer_: alice,
        hermesId: arena.hermes,
    };
    let account = arena.evm.view(vault, &call).account;
    assert_eq!(account.balance.to::<u128>(), most);
    assert_eq!(account.collected.to::<u128>(), 0);
    assert_eq!(arena.tokens(vault), most);
}
