//! How a dishonest Hermes alters its answers (A1).

use wayfare_identity::{Address, B256, Domain, LocalSigner, SecretKey, Signer};
use wayfare_payment::{Amount, ChannelId, Hashlock, IssueReply};

use crate::Chance;

/// Alters at least one thing in an answer; half of the time it is properly signed afterwards.
///
/// # Panics
/// Never with keys in memory.
#[must_use]
pub fn mutate_reply(
    honest: IssueReply,
    operator: &dyn Signer,
    domain: &Domain,
    chance: &mut Chance,
) -> IssueReply {
    let mut reply = honest;
    let stranger = SecretKey::from_bytes([0x42; 32]).expect("below the order of the curve");
    let stranger = LocalSigner::new(stranger);
    let promise = &mut reply.promise.promise;
    let one = Amount::from_units(1);
    let mut forged = false;
    match chance.below(14) {
        0 => promise.amount = promise.amount.saturating_sub(one),
        1 => promise.amount = promise.amount.saturating_add(one),
        2 => promise.amount = Amount::from_units(chance.number().into()),
        3 => {
            promise.channel = ChannelId::of_provider(
                Address::from_slice(&chance.bytes()[..20]),
                domain.verifying_contract,
            )
        }
        4 => promise.chain_id = promise.chain_id.wrapping_add(1 + chance.below(9)),
        5 => promise.fee = Amount::from_units(1 + u128::from(chance.below(1000))),
        6 => promise.hashlock = Hashlock(B256::from(chance.bytes())),
        7 => reply.receipt.receipt.sequence = reply.receipt.receipt.sequence.wrapping_sub(1),
        8 => reply.receipt.receipt.increment = reply.receipt.receipt.increment.saturating_add(one),
        9 => reply.receipt.receipt.total_promised = Amount::ZERO,
        10 => reply.receipt.receipt.hermes = Address::from_slice(&chance.bytes()[..20]),
        11 => reply.receipt.receipt.promise = B256::from(chance.bytes()),
        12 => reply.receipt.receipt.channel = ChannelId(B256::from(chance.bytes())),
        _ => forged = true,
    }
    let sign_well = !forged && chance.happens(500);
    let signer: &dyn Signer = if forged { &stranger } else { operator };
    if sign_well || forged {
        let untouched = reply.receipt.receipt.promise == honest.receipt.receipt.promise;
        reply.promise = reply
            .promise
            .promise
            .sign(signer)
            .expect("keys in memory sign");
        if untouched {
            reply.receipt.receipt.promise = reply.promise.promise.digest();
        }
        reply.receipt = reply
            .receipt
            .receipt
            .sign(signer, domain)
            .expect("keys in memory sign");
    }
    reply
}
