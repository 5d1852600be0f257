//! The nouns of `payment` as messages and back.

use std::time::Duration;

use wayfare_payment::{
    Agreement, AgreementId, ChannelId, Exchange, Hashlock, Invoice, Price, Promise, Receipt,
    SignedPromise, SignedReceipt, Usage,
};

use crate::proto::payment::v1 as pb;
use crate::{Malformed, field};

impl From<&Price> for pb::Price {
    fn from(price: &Price) -> Self {
        Self {
            per_hour: field::of_amount(price.per_hour),
            per_gib: field::of_amount(price.per_gib),
        }
    }
}

impl TryFrom<pb::Price> for Price {
    type Error = Malformed;

    fn try_from(price: pb::Price) -> Result<Self, Malformed> {
        Ok(Self {
            per_hour: field::amount("per_hour", &price.per_hour)?,
            per_gib: field::amount("per_gib", &price.per_gib)?,
        })
    }
}

impl From<&Usage> for pb::Usage {
    fn from(usage: &Usage) -> Self {
        let time_ms = u64::try_from(usage.time.as_millis()).unwrap_or(u64::MAX);
        Self {
            up: usage.up,
            down: usage.down,
            time_ms,
        }
    }
}

impl TryFrom<pb::Usage> for Usage {
    type Error = Malformed;

    fn try_from(usage: pb::Usage) -> Result<Self, Malformed> {
        Ok(Self {
            up: usage.up,
            down: usage.down,
            time: Duration::from_millis(usage.time_ms),
        })
    }
}

impl From<&Agreement> for pb::Agreement {
    fn from(agreement: &Agreement) -> Self {
        Self {
            id: field::of_uint(agreement.id.0),
            consumer: agreement.consumer.to_vec(),
            provider: agreement.provider.to_vec(),
            hermes: agreement.hermes.to_vec(),
            chain_id: agreement.chain_id,
            vault: agreement.vault.to_vec(),
            consumer_channel: agreement.consumer_channel.0.to_vec(),
            price: Some((&agreement.price).into()),
            chunk: field::of_amount(agreement.chunk),
            chunk_limit: field::of_amount(agreement.chunk_limit),
        }
    }
}

impl TryFrom<pb::Agreement> for Agreement {
    type Error = Malformed;

    fn try_from(agreement: pb::Agreement) -> Result<Self, Malformed> {
        Ok(Self {
            id: AgreementId(field::uint("id", &agreement.id)?),
            consumer: field::address("consumer", &agreement.consumer)?,
            provider: field::address("provider", &agreement.provider)?,
            hermes: field::address("hermes", &agreement.hermes)?,
            chain_id: agreement.chain_id,
            vault: field::address("vault", &agreement.vault)?,
            consumer_channel: ChannelId(field::word(
                "consumer_channel",
                &agreement.consumer_channel,
            )?),
            price: field::nested("price", agreement.price)?,
            chunk: field::amount("chunk", &agreement.chunk)?,
            chunk_limit: field::amount("chunk_limit", &agreement.chunk_limit)?,
        })
    }
}

impl From<&Invoice> for pb::Invoice {
    fn from(invoice: &Invoice) -> Self {
        Self {
            agreement: field::of_uint(invoice.agreement.0),
            total: field::of_amount(invoice.total),
            hashlock: invoice.hashlock.0.to_vec(),
        }
    }
}

impl TryFrom<pb::Invoice> for Invoice {
    type Error = Malformed;

    fn try_from(invoice: pb::Invoice) -> Result<Self, Malformed> {
        Ok(Self {
            agreement: AgreementId(field::uint("agreement", &invoice.agreement)?),
            total: field::amount("total", &invoice.total)?,
            hashlock: Hashlock(field::word("hashlock", &invoice.hashlock)?),
        })
    }
}

impl From<&SignedPromise> for pb::SignedPromise {
    fn from(signed: &SignedPromise) -> Self {
        let promise = &signed.promise;
        Self {
            chain_id: promise.chain_id,
            channel: promise.channel.0.to_vec(),
            amount: field::of_amount(promise.amount),
            fee: field::of_amount(promise.fee),
            hashlock: promise.hashlock.0.to_vec(),
            signature: signed.signature.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<pb::SignedPromise> for SignedPromise {
    type Error = Malformed;

    fn try_from(signed: pb::SignedPromise) -> Result<Self, Malformed> {
        let promise = Promise {
            chain_id: signed.chain_id,
            channel: ChannelId(field::word("channel", &signed.channel)?),
            amount: field::amount("amount", &signed.amount)?,
            fee: field::amount("fee", &signed.fee)?,
            hashlock: Hashlock(field::word("hashlock", &signed.hashlock)?),
        };
        Ok(Self {
            promise,
            signature: field::signature("signature", &signed.signature)?,
        })
    }
}

impl From<&Exchange> for pb::Exchange {
    fn from(exchange: &Exchange) -> Self {
        Self {
            promise: Some((&exchange.promise).into()),
            agreement: field::of_uint(exchange.agreement.0),
            agreement_total: field::of_amount(exchange.agreement_total),
            provider: exchange.provider.to_vec(),
            hermes: exchange.hermes.to_vec(),
            signature: exchange.signature.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<pb::Exchange> for Exchange {
    type Error = Malformed;

    fn try_from(exchange: pb::Exchange) -> Result<Self, Malformed> {
        Ok(Self {
            promise: field::nested("promise", exchange.promise)?,
            agreement: AgreementId(field::uint("agreement", &exchange.agreement)?),
            agreement_total: field::amount("agreement_total", &exchange.agreement_total)?,
            provider: field::address("provider", &exchange.provider)?,
            hermes: field::address("hermes", &exchange.hermes)?,
            signature: field::signature("signature", &exchange.signature)?,
        })
    }
}

impl From<&SignedReceipt> for pb::SignedReceipt {
    fn from(signed: &SignedReceipt) -> Self {
        let receipt = &signed.receipt;
        Self {
            hermes: receipt.hermes.to_vec(),
            sequence: receipt.sequence,
            previous: receipt.previous.to_vec(),
            channel: receipt.channel.0.to_vec(),
            promise: receipt.promise.to_vec(),
            increment: field::of_amount(receipt.increment),
            total_promised: field::of_amount(receipt.total_promised),
            signature: signed.signature.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<pb::SignedReceipt> for SignedReceipt {
    type Error = Malformed;

    fn try_from(signed: pb::SignedReceipt) -> Result<Self, Malformed> {
        let receipt = Receipt {
            hermes: field::address("hermes", &signed.hermes)?,
            sequence: signed.sequence,
            previous: field::word("previous", &signed.previous)?,
            channel: ChannelId(field::word("channel", &signed.channel)?),
            promise: field::word("promise", &signed.promise)?,
            increment: field::amount("increment", &signed.increment)?,
            total_promised: field::amount("total_promised", &signed.total_promised)?,
        };
        Ok(Self {
            receipt,
            signature: field::signature("signature", &signed.signature)?,
        })
    }
}
