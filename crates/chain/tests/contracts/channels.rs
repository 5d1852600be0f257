//! Rule 11: direct channels, and the attacks on them, tried as those of the vault are.

use alloy::primitives::U256;
use wayfare_chain::bindings::Direct;
use wayfare_chain::{DrawConsent, direct_channel};
use wayfare_identity::{Domain, LocalSigner, Signer};

use crate::arena::{Arena, DAY, bytes};
use crate::net::{CHAIN_ID, EXIT_DELAY, key, preimage, wei};
use crate::rules::{killed, mallory};

struct Pair {
    payer: LocalSigner,
    provider: LocalSigner,
}

fn pair(arena: &mut Arena, units: u128) -> Pair {
    let pair = Pair {
        payer: key("payer"),
        provider: key("provider"),
    };
    let direct = arena.direct;
    arena.mint(pair.payer.address(), units);
    arena.approve(pair.payer.address(), direct);
    let call = Direct::lockCall {
        provider: pair.provider.address(),
        amount: U256::from(units),
    };
    assert!(arena.evm.call(pair.payer.address(), direct, &call).done);
    pair
}

fn draw_call(arena: &Arena, pair: &Pair, total: u128, ceiling: u128) -> Direct::drawCall {
    let channel = direct_channel(arena.direct, pair.payer.address(), pair.provider.address());
    let promise = arena
        .promise(channel, ceiling, 0)
        .sign(&pair.payer)
        .unwrap();
    Direct::drawCall {
        payer: pair.payer.address(),
        total: U256::from(total),
        ceiling: U256::from(ceiling),
        fee: U256::ZERO,
        R: preimage(1).0,
        payerSig: bytes(&promise.signature),
        beneficiary: pair.provider.address(),
    }
}

#[test]
fn r11_a_provider_draws_what_was_used_and_no_more_than_the_ceiling() {
    killed("ceiling", |arena| {
        let pair = pair(arena, 1_000);
        let (provider, direct) = (pair.provider.address(), arena.direct);
        for (total, ceiling) in [(50, 100), (70, 100)] {
            let call = draw_call(arena, &pair, total, ceiling);
            assert!(arena.evm.call(provider, direct, &call).done);
        }
        assert_eq!(arena.tokens(provider), 70);
        let call = draw_call(arena, &pair, 101, 100);
        arena.evm.call(provider, direct, &call).done
    });
}

fn take_back(arena: &mut Arena, pair: &Pair, after: u64) -> bool {
    let (payer, provider, direct) = (pair.payer.address(), pair.provider.address(), arena.direct);
    arena
        .evm
        .call(payer, direct, &Direct::requestUnlockCall { provider });
    arena.evm.pass(after);
    arena
        .evm
        .call(
            payer,
            direct,
            &Direct::unlockCall {
                provider,
                beneficiary: payer,
            },
        )
        .done
}

#[test]
fn r11_a_payer_takes_back_only_after_the_delay() {
    killed("unlock-delay", |arena| {
        let pair = pair(arena, 1_000);
        take_back(arena, &pair, EXIT_DELAY - 1)
    });
}

#[test]
fn r11_an_old_ceiling_reaches_no_new_money() {
    killed("clean-restart", |arena| {
        let old = pair(arena, 1_000);
        assert!(take_back(arena, &old, EXIT_DELAY));
        let again = pair(arena, 500);
        let call = draw_call(arena, &again, 400, 800);
        let (provider, direct) = (again.provider.address(), arena.direct);
        arena.evm.call(provider, direct, &call).done
    });
}

#[test]
fn r11_nobody_draws_for_a_provider_without_its_consent() {
    killed("draw-consent", |arena| {
        let pair = pair(arena, 1_000);
        let draw = draw_call(arena, &pair, 100, 100);
        let consent = DrawConsent {
            provider: pair.provider.address(),
            payer: pair.payer.address(),
            caller: mallory(),
            beneficiary: mallory(),
            total: wei(100),
            max_fee: wei(0),
            deadline: arena.evm.now() + DAY,
        };
        let domain = Domain {
            chain_id: CHAIN_ID,
            verifying_contract: arena.direct,
        };
        let forged = key("mallory").sign_digest(consent.digest(&domain)).unwrap();
        let call = |signature| Direct::drawForCall {
            provider: consent.provider,
            payer: draw.payer,
            total: draw.total,
            ceiling: draw.ceiling,
            fee: U256::ZERO,
            R: draw.R,
            payerSig: draw.payerSig.clone(),
            beneficiary: mallory(),
            maxFee: U256::ZERO,
            deadline: U256::from(consent.deadline),
            providerSig: bytes(&signature),
        };
        let direct = arena.direct;
        let stolen = arena.evm.call(mallory(), direct, &call(forged)).done;
        let real = pair.provider.sign_digest(consent.digest(&domain)).unwrap();
        assert_eq!(arena.evm.call(mallory(), direct, &call(real)).done, !stolen);
        stolen
    });
}
