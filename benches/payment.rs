//! Signing, recovering and checking: what a Hermes does for each payment.

use divan::{Bencher, black_box};
use wayfare_identity::{Address, B256, LocalSigner, SecretKey, Signer, U256};
use wayfare_payment::{
    AgreementId, Amount, ChannelId, Exchange, GIB, Hashlock, Price, Promise, SignedPromise, Usage,
};

fn main() {
    divan::main();
}

fn signer() -> LocalSigner {
    LocalSigner::new(SecretKey::from_bytes([7; 32]).expect("a small number is a key"))
}

fn promise() -> Promise {
    Promise {
        chain_id: 137,
        channel: ChannelId(B256::repeat_byte(1)),
        amount: Amount::from_units(1 << 70),
        fee: Amount::ZERO,
        hashlock: Hashlock(B256::repeat_byte(2)),
    }
}

fn signed() -> SignedPromise {
    promise().sign(&signer()).expect("a local signer signs")
}

#[divan::bench]
fn sign_promise(bencher: Bencher<'_, '_>) {
    let signer = signer();
    bencher.bench_local(|| black_box(promise()).sign(&signer));
}

#[divan::bench]
fn verify_promise(bencher: Bencher<'_, '_>) {
    let (signed, payer) = (signed(), signer().address());
    bencher.bench_local(|| black_box(&signed).verify(payer));
}

#[divan::bench]
fn verify_exchange(bencher: Bencher<'_, '_>) {
    let signer = signer();
    let id = AgreementId(U256::from(1));
    let exchange = Exchange::sign(
        &signer,
        signed(),
        id,
        Amount::from_units(9),
        Address::repeat_byte(3),
        Address::repeat_byte(4),
    )
    .expect("a local signer signs");
    bencher.bench_local(|| black_box(&exchange).verify(signer.address()));
}

#[divan::bench]
fn cost_of_usage(bencher: Bencher<'_, '_>) {
    let price = Price {
        per_hour: Amount::from_units(1 << 60),
        per_gib: Amount::from_units(1 << 60),
    };
    let usage = Usage {
        up: GIB,
        down: 7 * GIB,
        time: std::time::Duration::from_secs(12_345),
    };
    bencher.bench_local(|| black_box(price).cost_rounded_down(black_box(&usage)));
}
