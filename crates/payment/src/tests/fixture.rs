//! What the machines' tests share: identities, terms, and ledgers that are plain maps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use wayfare_identity::{Address, B256, LocalSigner, SecretKey, Signer, U256};

use crate::{
    Agreement, AgreementId, Amount, Batch, ChannelId, CollectorConfig, ConsumerAccount, Exchange,
    HermesAccount, IssuerConfig, Patience, PayerConfig, Preimage, Price, Promise, Row,
    SignedAgreement, Table, Usage,
};

pub(crate) const CHAIN: u64 = 31_337;
pub(crate) const CHUNK: u128 = 1_000;

/// Where virtual time starts.
#[allow(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made otherwise; only differences are used"
)]
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) fn signer(seed: u8) -> Arc<dyn Signer> {
    Arc::new(LocalSigner::new(SecretKey::from_bytes([seed; 32]).unwrap()))
}

pub(crate) fn consumer() -> Arc<dyn Signer> {
    signer(1)
}

pub(crate) fn provider() -> Arc<dyn Signer> {
    signer(2)
}

pub(crate) fn operator() -> Arc<dyn Signer> {
    signer(3)
}

pub(crate) fn hermes() -> Address {
    Address::repeat_byte(0xee)
}

pub(crate) fn vault() -> Address {
    Address::repeat_byte(0xaa)
}

pub(crate) fn secret() -> B256 {
    B256::repeat_byte(0x5e)
}

pub(crate) fn channel_of(consumer: Address) -> ChannelId {
    ChannelId::of_provider(consumer, vault())
}

pub(crate) fn units(units: u128) -> Amount {
    Amount::from_units(units)
}

/// One unit for each KiB, nothing for time.
pub(crate) fn used(kib: u64) -> Usage {
    Usage {
        down: kib * 1024,
        ..Usage::default()
    }
}

pub(crate) fn agreement(id: u64) -> Agreement {
    Agreement {
        id: AgreementId(U256::from(id)),
        consumer: consumer().address(),
        provider: provider().address(),
        hermes: hermes(),
        chain_id: CHAIN,
        vault: vault(),
        consumer_channel: channel_of(consumer().address()),
        price: Price {
            per_hour: Amount::ZERO,
            per_gib: units(1 << 20),
        },
        chunk: units(CHUNK),
        chunk_limit: units(16 * CHUNK),
    }
}

pub(crate) fn sign(
    agreement: Agreement,
    consumer: &dyn Signer,
    provider: &dyn Signer,
) -> SignedAgreement {
    SignedAgreement {
        agreement,
        consumer_signature: consumer.sign_digest(agreement.digest()).unwrap(),
        provider_signature: provider.sign_digest(agreement.digest()).unwrap(),
    }
}

pub(crate) fn terms(id: u64) -> SignedAgreement {
    sign(agreement(id), consumer().as_ref(), provider().as_ref())
}

pub(crate) fn payer_config() -> PayerConfig {
    PayerConfig {
        hermes: hermes(),
        chain_id: CHAIN,
        vault: vault(),
        channel: channel_of(consumer().address()),
    }
}

pub(crate) fn collector_config() -> CollectorConfig {
    CollectorConfig {
        provider: provider().address(),
        hermes: hermes(),
        chain_id: CHAIN,
        vault: vault(),
        secret: secret(),
        fee_cap_basis_points: 200,
        own_cap: Amount::ZERO,
        credit_cap: Amount::MAX,
        patience: Patience::default(),
    }
}

pub(crate) fn issuer_config() -> IssuerConfig {
    IssuerConfig {
        hermes: hermes(),
        chain_id: CHAIN,
        vault: vault(),
        locked_cap: units(1_000_000),
    }
}

pub(crate) fn hermes_account() -> HermesAccount {
    HermesAccount {
        operator: operator().address(),
        fee_basis_points: 100,
        collateral: units(1_000_000),
        free: units(0),
        leaving: false,
    }
}

pub(crate) fn deposit(units: u128) -> ConsumerAccount {
    ConsumerAccount {
        balance: Amount::from_units(units),
        ..ConsumerAccount::default()
    }
}

pub(crate) fn preimage(agreement: u64, total: u128) -> Preimage {
    Preimage::derive(&secret(), U256::from(agreement), units(total))
}

/// A payment of the consumer: `total` within the agreement, `amount` on the channel.
pub(crate) fn payment(agreement: u64, total: u128, amount: u128) -> Exchange {
    let promise = Promise {
        chain_id: CHAIN,
        channel: channel_of(consumer().address()),
        amount: units(amount),
        fee: Amount::ZERO,
        hashlock: preimage(agreement, total).hashlock(),
    };
    signed_payment(consumer().as_ref(), promise, agreement, total)
}

pub(crate) fn signed_payment(
    by: &dyn Signer,
    promise: Promise,
    agreement: u64,
    total: u128,
) -> Exchange {
    let promise = promise.sign(by).unwrap();
    let id = AgreementId(U256::from(agreement));
    Exchange::sign(
        by,
        promise,
        id,
        units(total),
        provider().address(),
        hermes(),
    )
    .unwrap()
}

/// A ledger of plain maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rows(pub(crate) BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Rows {
    pub(crate) fn commit(&mut self, batch: Batch) {
        for entry in batch.0 {
            match entry.value {
                Some(value) => self.0.insert((entry.table, entry.key), value),
                None => self.0.remove(&(entry.table, entry.key)),
            };
        }
    }

    pub(crate) fn of(&self, tables: &[Table]) -> Vec<(Table, Row)> {
        let wanted = self
            .0
            .iter()
            .filter(|((table, _), _)| tables.contains(table));
        wanted
            .map(|((table, key), value)| (*table, (key.clone(), value.clone())))
            .collect()
    }
}
