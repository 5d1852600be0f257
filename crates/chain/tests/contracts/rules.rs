//! Each rule of the contracts and the attack that it kills. Every attack is tried twice: on the contracts, where it must fail,
//! and on the same sources without the one guard, where it must succeed; otherwise it was no attack.

use alloy::primitives::{Address, U256};
use wayfare_chain::bindings::Vault;
use wayfare_chain::{ExitConsent, Mandate};
use wayfare_identity::{LocalSigner, Signer};

use crate::arena::{Arena, DAY, bytes};
use crate::net::{COLLATERAL_DELAY, EXIT_DELAY, key, preimage, wei};

#[track_caller]
pub(crate) fn killed(guard: &str, attack: fn(&mut Arena) -> bool) {
    assert!(!attack(&mut Arena::new()), "the attack succeeds");
    assert!(
        attack(&mut Arena::without(guard)),
        "the attack fails even without {guard}: it proves nothing"
    );
}

pub(crate) fn mallory() -> Address {
    key("mallory").address()
}

// ------------------------------------------------------------------------------------------------ rule 1: fees

#[test]
fn r1_a_front_runner_earns_no_relayers_fee() {
    killed("fee-to-named-caller", |arena| {
        arena.collateral(1_000);
        let (bob, relayer) = (key("bob"), key("relayer").address());
        // Where the caller is not read, any consent will do: one that names the relayer and one that names the payee.
        for named in [relayer, bob.address()] {
            let call = arena.relay_call(&bob, named, 30, 30);
            arena.call(mallory(), &call);
        }
        arena.tokens(mallory()) > 0
    });
}

#[test]
fn r1_a_relayer_earns_no_more_than_the_payee_agreed_to() {
    killed("fee-cap", |arena| {
        arena.collateral(1_000);
        let call = arena.relay_call(&key("bob"), mallory(), 400, 30);
        arena.call(mallory(), &call);
        arena.tokens(mallory()) > 30
    });
}

// --------------------------------------------------------------------------------------- rule 2: the payee's word

#[test]
fn r2_an_operator_cannot_settle_a_payee_by_itself() {
    killed("payee-authority", |arena| {
        arena.collateral(1_000);
        let bob = key("bob").address();
        let operator = arena.operator.address();
        // Forced credit: the total advances, and no tokens come.
        let call = arena.sheet_call(&[(bob, 500)], Mandate::CREDIT);
        arena.call(operator, &call);
        arena.settled(bob) > 0
    });
}

#[test]
fn r2_a_mandate_ends_with_its_last_day() {
    killed("mandate-end", |arena| {
        arena.collateral(1_000);
        let bob = key("bob");
        arena.must(mallory(), &Vault::registerCallerCall {});
        let until = arena.today() + 2;
        let call = arena.mandate_call(&bob, mallory(), until, 0);
        arena.must(mallory(), &call);
        arena.evm.pass(2 * DAY);
        // On its last day it is good, for both batches alike.
        let call = arena.sheet_call(&[(bob.address(), 100)], Mandate::PAY_OUT);
        assert!(arena.call(mallory(), &call).done);
        arena.evm.pass(DAY);
        let call = arena.sheet_call(&[(bob.address(), 200)], Mandate::PAY_OUT);
        arena.call(mallory(), &call).done
    });
}

#[test]
fn r2_a_mandate_names_its_caller_and_its_methods() {
    let mut arena = Arena::new();
    arena.collateral(1_000);
    let (bob, relayer) = (key("bob").address(), key("relayer").address());
    arena.must(relayer, &Vault::registerCallerCall {});
    arena.must(mallory(), &Vault::registerCallerCall {});
    let give = |caller: Address, methods: u8| Vault::giveMandateCall {
        hermesId: Address::ZERO,
        caller,
        methods: U256::from(methods),
        untilDay: u16::MAX,
    };
    let hermes = arena.hermes;
    let given = Vault::giveMandateCall {
        hermesId: hermes,
        ..give(relayer, Mandate::PAY_OUT)
    };
    arena.must(bob, &given);
    let pay = arena.sheet_call(&[(bob, 100)], Mandate::PAY_OUT);
    let credit = arena.sheet_call(&[(bob, 100)], Mandate::CREDIT);
    assert!(!arena.call(mallory(), &pay).done, "another caller");
    assert!(!arena.call(relayer, &credit).done, "another method");
    assert!(
        !arena
            .call(
                bob,
                &Vault::giveMandateCall {
                    hermesId: hermes,
                    ..give(key("nobody").address(), 1)
                }
            )
            .done
    );
    assert!(
        !arena
            .call(
                bob,
                &Vault::giveMandateCall {
                    hermesId: hermes,
                    ..give(relayer, 4)
                }
            )
            .done
    );
    assert!(arena.call(relayer, &pay).done);
    assert_eq!((arena.settled(bob), arena.tokens(bob)), (100, 95));
}

#[test]
fn r2_a_promise_is_paid_once() {
    killed("settled-advances", |arena| {
        arena.collateral(1_000);
        let call = arena.settle_call(mallory(), &arena.operator, 100);
        arena.call(mallory(), &call);
        arena.call(mallory(), &call);
        arena.tokens(mallory()) > 95
    });
}

#[test]
fn a1_a_promise_that_its_hermes_did_not_sign_is_worth_nothing() {
    killed("hermes-signature", |arena| {
        arena.collateral(1_000);
        let call = arena.settle_call(mallory(), &key("mallory"), 1_000);
        arena.call(mallory(), &call);
        arena.tokens(mallory()) > 0
    });
}

#[test]
fn a1_a_promise_that_its_consumer_did_not_sign_collects_nothing() {
    killed("consumer-signature", |arena| {
        let alice = key("alice").address();
        arena.deposit(alice, 1_000);
        let call = arena.collect_call(alice, &arena.operator, 1_000);
        arena.call(mallory(), &call).done
    });
}

#[test]
fn a4_a_consumer_who_promises_too_much_pays_with_its_own_deposit_only() {
    killed("own-deposit", |arena| {
        let mallory = key("mallory");
        arena.deposit(key("alice").address(), 1_000);
        arena.deposit(mallory.address(), 10);
        let call = arena.collect_call(mallory.address(), &mallory, 900);
        arena.call(mallory.address(), &call);
        arena.hermes_account().account.free.to::<u128>() > 10
    });
}

// ----------------------------------------------------------------------------------------------- rule 3: exits

#[test]
fn r3_a_consumer_cannot_drain_its_account_at_once() {
    killed("exit-delay", |arena| {
        let alice = key("alice").address();
        arena.deposit(alice, 1_000);
        let hermes = arena.hermes;
        arena.must(alice, &Vault::requestExitCall { hermesId: hermes });
        arena.evm.pass(EXIT_DELAY - 1);
        arena.call(
            alice,
            &Vault::finalizeExitCall {
                hermesId: hermes,
                beneficiary: alice,
            },
        );
        arena.tokens(alice) > 0
    });
}

#[test]
fn r3_an_exit_needs_nobody_and_promises_contest_it() {
    let mut arena = Arena::new();
    let alice = key("alice");
    let who = alice.address();
    arena.deposit(who, 1_000);
    let hermes = arena.hermes;
    arena.must(who, &Vault::requestExitCall { hermesId: hermes });
    let call = arena.collect_call(who, &alice, 300);
    arena.must(mallory(), &call);
    arena.evm.pass(EXIT_DELAY);
    arena.must(
        who,
        &Vault::finalizeExitCall {
            hermesId: hermes,
            beneficiary: who,
        },
    );
    assert_eq!(arena.tokens(who), 700);
}

#[test]
fn r7_an_exit_signed_once_is_requested_once() {
    killed("exit-nonce", |arena| {
        let alice = key("alice");
        let who = alice.address();
        arena.deposit(who, 1_000);
        let consent = ExitConsent {
            consumer: who,
            hermes: arena.hermes,
            nonce: 0,
            deadline: arena.evm.now() + 100 * DAY,
        };
        let sig = bytes(
            &alice
                .sign_digest(consent.request_digest(&arena.domain()))
                .unwrap(),
        );
        let call = Vault::requestExitBySigCall {
            consumer_: who,
            hermesId: arena.hermes,
            deadline: U256::from(consent.deadline),
            sig,
        };
        arena.must(mallory(), &call);
        arena.evm.pass(EXIT_DELAY);
        let hermes = arena.hermes;
        arena.must(
            who,
            &Vault::finalizeExitCall {
                hermesId: hermes,
                beneficiary: who,
            },
        );
        arena.call(mallory(), &call).done
    });
}

#[test]
fn r7_a_mandate_that_was_taken_back_does_not_come_back() {
    killed("mandate-nonce", |arena| {
        arena.collateral(1_000);
        let bob = key("bob");
        arena.must(mallory(), &Vault::registerCallerCall {});
        let given = arena.mandate_call(&bob, mallory(), u16::MAX, 0);
        arena.must(mallory(), &given);
        let taken = Vault::giveMandateCall {
            hermesId: arena.hermes,
            caller: mallory(),
            methods: U256::ZERO,
            untilDay: 0,
        };
        arena.must(bob.address(), &taken);
        arena.call(mallory(), &given);
        let call = arena.sheet_call(&[(bob.address(), 100)], Mandate::CREDIT);
        arena.call(mallory(), &call).done
    });
}

// ------------------------------------------------------------------------------------------ rule 4: collateral

fn give_notice(arena: &mut Arena, units: u128) {
    let owner = arena.owner;
    arena.must(
        owner,
        &Vault::requestCollateralCall {
            amount: U256::from(units),
        },
    );
}

#[test]
fn r4_an_owner_takes_collateral_only_with_notice() {
    killed("collateral-notice", |arena| {
        arena.collateral(1_000);
        give_notice(arena, 1_000);
        let owner = arena.owner;
        arena.call(owner, &Vault::withdrawCollateralCall {}).done
    });
}

#[test]
fn r4_an_owner_leaves_what_receipts_prove_to_be_owed() {
    killed("proven-liabilities", |arena| {
        arena.collateral(1_000);
        let bob = key("bob").address();
        let receipt = arena.receipt(bob, 600, 600, None);
        assert!(arena.prove(&receipt).done);
        give_notice(arena, 1_000);
        arena.evm.pass(COLLATERAL_DELAY);
        let owner = arena.owner;
        arena.call(owner, &Vault::withdrawCollateralCall {});
        // 600 less the Hermes' own 5 %.
        let call = arena.settle_call(bob, &arena.operator, 600);
        let settle = Vault::settleWithReceiptCall {
            amount: call.amount,
            R: call.R,
            hermesSig: call.hermesSig,
            beneficiary: bob,
            receipt: wayfare_chain::onchain_receipt(&receipt.receipt),
            receiptSig: bytes(&receipt.signature),
        };
        arena.call(bob, &settle);
        arena.tokens(bob) < 570
    });
}

#[test]
fn r4_a_straw_payee_cannot_carry_off_what_others_earned() {
    killed("guarded-collateral", |arena| {
        arena.collateral(1_000);
        let receipt = arena.receipt(key("bob").address(), 800, 800, None);
        assert!(arena.prove(&receipt).done);
        let call = arena.settle_call(mallory(), &arena.operator, 1_000);
        arena.call(mallory(), &call);
        // What is above Bob's 800 is nobody's but the Hermes'.
        arena.tokens(mallory()) > 200
    });
}

#[test]
fn r4_a_straw_with_a_receipt_ends_in_insolvency_and_comes_last() {
    let mut arena = Arena::new();
    arena.collateral(1_000);
    let bob = key("bob").address();
    let honest = arena.receipt(bob, 900, 900, None);
    let straw = arena.receipt(mallory(), 100_000, 100_000, Some(&honest.receipt));
    assert!(arena.prove(&straw).done);
    let promise = arena.settle_call(mallory(), &arena.operator, 100_000);
    let taken = Vault::settleWithReceiptCall {
        amount: promise.amount,
        R: promise.R,
        hermesSig: promise.hermesSig,
        beneficiary: mallory(),
        receipt: wayfare_chain::onchain_receipt(&straw.receipt),
        receiptSig: bytes(&straw.signature),
    };
    assert!(!arena.call(mallory(), &taken).done);
    let hermes = arena.hermes;
    arena.must(bob, &Vault::declareInsolvencyCall { hermesId: hermes });
    arena.evm.pass(EXIT_DELAY);
    arena.must(bob, &Vault::resolveInsolvencyCall { hermesId: hermes });
    let call = arena.claim_call(mallory(), 100_000, Some(&straw));
    arena.must(mallory(), &call);
    let call = arena.claim_call(bob, 900, Some(&honest));
    arena.must(bob, &call);
    arena.evm.pass(30 * DAY);
    for who in [mallory(), bob] {
        arena.must(
            who,
            &Vault::withdrawClaimCall {
                hermesId: hermes,
                beneficiary: who,
            },
        );
    }
    assert_eq!((arena.tokens(bob), arena.tokens(mallory())), (855, 145));
}

#[test]
fn r4_an_honest_hermes_cannot_be_accused() {
    killed("equivocation-is-two", |arena| {
        arena.collateral(1_000);
        let receipt = arena.receipt(key("bob").address(), 600, 600, None);
        arena.fraud(mallory(), &receipt, &receipt).done
    });
}

#[test]
fn r4_contradicting_receipts_ruin_a_hermes() {
    let bob = key("bob").address();
    let first = Arena::new().receipt(bob, 100, 100, None);
    let bent = |change: fn(&mut wayfare_payment::Receipt)| {
        let arena = Arena::new();
        let mut receipt = arena.receipt(bob, 200, 100, Some(&first.receipt)).receipt;
        change(&mut receipt);
        receipt.sign(&arena.operator, &arena.domain()).unwrap()
    };
    let honest = bent(|_| {});
    let frauds = [
        bent(|r| (r.sequence, r.increment) = (1, wei(7))),
        bent(|r| r.previous = preimage(9).0),
        bent(|r| r.total_promised = wei(201)),
        bent(|r| (r.sequence, r.total_promised) = (7, wei(99))),
        bent(|r| (r.sequence, r.increment) = (7, wei(101))),
    ];
    let mut arena = Arena::new();
    assert!(!arena.fraud(mallory(), &first, &honest).done);
    assert!(
        !arena.fraud(mallory(), &honest, &first).done,
        "the order says which is later"
    );
    let later = bent(|r| (r.sequence, r.total_promised) = (7, wei(900)));
    assert!(
        !arena.fraud(mallory(), &first, &later).done,
        "others in between"
    );
    for fraud in &frauds {
        let mut arena = Arena::new();
        assert!(arena.fraud(mallory(), &first, fraud).done, "{fraud:?}");
        assert_eq!(arena.hermes_account().account.state, 2);
        assert_eq!(arena.tokens(mallory()), 0, "nobody earns by it");
    }
    let broken = bent(|r| r.increment = wei(201));
    let call = |signed: &wayfare_payment::SignedReceipt| Vault::proveBrokenReceiptCall {
        receipt: wayfare_chain::onchain_receipt(&signed.receipt),
        sig: bytes(&signed.signature),
    };
    assert!(!arena.call(mallory(), &call(&honest)).done);
    assert!(!arena.call(mallory(), &call(&first)).done);
    assert!(arena.call(mallory(), &call(&broken)).done);
}

#[test]
fn r4_an_insolvent_hermes_has_time_to_collect() {
    killed("insolvency-grace", |arena| {
        let receipt = arena.receipt(key("bob").address(), 100, 100, None);
        assert!(arena.prove(&receipt).done);
        let hermes = arena.hermes;
        arena.must(
            mallory(),
            &Vault::declareInsolvencyCall { hermesId: hermes },
        );
        arena
            .call(
                mallory(),
                &Vault::resolveInsolvencyCall { hermesId: hermes },
            )
            .done
    });
}

// ---------------------------------------------------------------------------- rules 5, 6, 8 and 9: ends and changes

#[test]
fn r5_an_owner_who_closes_waits_for_its_holders() {
    killed("closing-window", |arena| {
        arena.collateral(1_000);
        let owner = arena.owner;
        arena.must(owner, &Vault::closeHermesCall {});
        arena.evm.pass(29 * DAY);
        let taken = arena.call(owner, &Vault::withdrawClosedCall {}).done;
        if !taken {
            // Settlement is open all the time, and afterwards.
            let call = arena.settle_call(key("bob").address(), &arena.operator, 100);
            arena.must(key("bob").address(), &call);
            arena.evm.pass(DAY);
            arena.must(owner, &Vault::withdrawClosedCall {});
            assert_eq!(arena.tokens(owner), 905);
        }
        taken
    });
}

#[test]
fn r5_closing_touches_nobody_elses_money() {
    killed("closing-own-money", |arena| {
        arena.deposit(key("alice").address(), 5_000);
        arena.collateral(1_000);
        let owner = arena.owner;
        arena.must(owner, &Vault::closeHermesCall {});
        arena.evm.pass(31 * DAY);
        arena.call(owner, &Vault::withdrawClosedCall {});
        arena.tokens(owner) > 1_000
    });
}

alloy::sol! {
    /// What a contract with changeable fees would have.
    function setFee(uint16 feeBps) external;
}

#[test]
fn r6_a_fee_cannot_rise_after_the_promise() {
    killed("fee-rate", |arena| {
        arena.collateral(1_000);
        let (owner, bob) = (arena.owner, key("bob").address());
        let promise = arena.settle_call(bob, &arena.operator, 1_000);
        arena.call(owner, &setFeeCall { feeBps: 2_000 });
        arena.call(bob, &promise);
        arena.tokens(bob) < 950
    });
}

/// Two holders of a ruined Hermes that has half of what it owes.
fn two_holders(arena: &mut Arena) -> [Address; 2] {
    arena.collateral(950);
    let payees = [mallory(), key("bob").address()];
    let first = arena.receipt(payees[0], 1_000, 1_000, None);
    let fork = arena.receipt(payees[1], 1_000, 1_000, None);
    assert!(arena.fraud(payees[1], &first, &fork).done);
    payees
}

#[test]
fn r8_the_first_to_come_gets_no_more_than_its_part() {
    killed("pro-rata", |arena| {
        let payees = two_holders(arena);
        for payee in payees {
            let call = arena.claim_call(payee, 1_000, None);
            arena.must(payee, &call);
        }
        arena.evm.pass(30 * DAY);
        let hermes = arena.hermes;
        for beneficiary in payees {
            arena.call(
                beneficiary,
                &Vault::withdrawClaimCall {
                    hermesId: hermes,
                    beneficiary,
                },
            );
        }
        arena.tokens(payees[0]) != 475 || arena.tokens(payees[1]) != 475
    });
}

#[test]
fn r8_nothing_is_shared_before_everybody_could_file() {
    killed("filing-window", |arena| {
        let payees = two_holders(arena);
        let call = arena.claim_call(payees[0], 1_000, None);
        arena.must(payees[0], &call);
        let call = Vault::withdrawClaimCall {
            hermesId: arena.hermes,
            beneficiary: payees[0],
        };
        arena.call(payees[0], &call).done
    });
}

#[test]
fn r8_a_ruin_stops_nobody_else() {
    let mut arena = Arena::new();
    let (carol, bob) = (key("carol").address(), key("bob").address());
    let alice = key("alice").address();
    arena.collateral(500);
    arena.deposit(alice, 700);
    let credited = Vault::settleCall {
        beneficiary: arena.vault,
        ..arena.settle_call(bob, &arena.operator, 100)
    };
    arena.must(bob, &credited);
    two_holders(&mut arena);
    // Credit, an exit, late collections, and other Hermes.
    let hermes = arena.hermes;
    arena.must(
        bob,
        &Vault::withdrawCreditCall {
            hermesId: hermes,
            beneficiary: bob,
        },
    );
    let call = arena.collect_call(alice, &key("alice"), 200);
    arena.must(carol, &call);
    arena.must(alice, &Vault::requestExitCall { hermesId: hermes });
    arena.evm.pass(EXIT_DELAY);
    arena.must(
        alice,
        &Vault::finalizeExitCall {
            hermesId: hermes,
            beneficiary: alice,
        },
    );
    assert_eq!((arena.tokens(bob), arena.tokens(alice)), (95, 500));
    arena.must(
        carol,
        &Vault::registerHermesCall {
            operator: carol,
            feeBps: 0,
        },
    );
    let refused = arena.settle_call(bob, &arena.operator, 300);
    assert!(
        !arena.call(bob, &refused).done,
        "who was ruined pays by claims alone"
    );
}

#[test]
fn r9_a_new_key_is_worth_nothing_before_its_time() {
    killed("rotation-delay", |arena| {
        arena.collateral(1_000);
        let owner = arena.owner;
        arena.must(owner, &Vault::rotateOperatorCall { next: mallory() });
        arena.evm.pass(COLLATERAL_DELAY - 1);
        let call = arena.settle_call(mallory(), &key("mallory"), 1_000);
        arena.call(mallory(), &call).done
    });
}

#[test]
fn r9_an_old_key_ages_once_the_rotation_is_finished() {
    let mut arena = Arena::new();
    arena.collateral(1_000);
    let (owner, bob, next) = (arena.owner, key("bob").address(), key("next operator"));
    arena.must(
        owner,
        &Vault::rotateOperatorCall {
            next: next.address(),
        },
    );
    let hermes = arena.hermes;
    let finish = Vault::finishRotationCall { hermesId: hermes };
    assert!(!arena.call(mallory(), &finish).done);
    arena.evm.pass(COLLATERAL_DELAY);
    arena.must(mallory(), &finish);
    let old = |arena: &Arena, units| arena.settle_call(bob, &arena.operator, units);
    let call = old(&arena, 100);
    arena.must(bob, &call);
    arena.evm.pass(COLLATERAL_DELAY);
    let call = old(&arena, 200);
    assert!(!arena.call(bob, &call).done, "its time is over");
    let call = arena.settle_call(bob, &next, 300);
    arena.must(bob, &call);
}

// ------------------------------------------------------------------------------------------- rule 10 and A6: batches

#[test]
fn r10_a_batch_equals_its_singles_and_faster_payees_break_none() {
    let mut arena = Arena::new();
    arena.collateral(1_000);
    let payees: Vec<LocalSigner> = (0..5).map(|n| key(&format!("payee {n}"))).collect();
    arena.must(mallory(), &Vault::registerCallerCall {});
    for payee in &payees[..4] {
        let call = arena.mandate_call(payee, mallory(), u16::MAX, 0);
        arena.must(mallory(), &call);
    }
    let rows: Vec<_> = payees.iter().map(|payee| (payee.address(), 100)).collect();
    // The first was faster; the last gave no mandate.
    let call = arena.settle_call(rows[0].0, &arena.operator, 100);
    arena.must(rows[0].0, &call);
    let call = arena.sheet_call(&rows, Mandate::PAY_OUT);
    arena.must(mallory(), &call);
    for (n, (payee, _)) in rows.iter().enumerate() {
        let expect = if n == 4 { (0, 0) } else { (100, 95) };
        assert_eq!(
            (arena.settled(*payee), arena.tokens(*payee)),
            expect,
            "payee {n}"
        );
    }
    assert!(
        !arena.call(mallory(), &call).done,
        "again there is nothing in it"
    );
    let over = arena.sheet_call(&[(rows[1].0, 100_000)], Mandate::PAY_OUT);
    assert!(
        !arena.call(mallory(), &over).done,
        "a batch is paid whole or not at all"
    );
}
