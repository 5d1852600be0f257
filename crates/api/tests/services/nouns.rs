//! Signed nouns to send.

use wayfare_identity::{Address, B256, LocalSigner, SecretKey, Signer, TunnelBinding, U256};
use wayfare_payment::{
    Agreement, AgreementId, Amount, ChannelId, Exchange, Hashlock, IssueReply, IssueRequest, Price,
    Promise, Receipt, SignedIssueRequest, SignedPromise,
};
use wayfare_session::{Hello, OpenReply, OpenRequest, SessionToken, TunnelNetwork, Welcome};

pub(crate) fn consumer() -> LocalSigner {
    LocalSigner::new(SecretKey::from_bytes([1; 32]).unwrap())
}

pub(crate) fn provider() -> LocalSigner {
    LocalSigner::new(SecretKey::from_bytes([2; 32]).unwrap())
}

pub(crate) fn operator() -> LocalSigner {
    LocalSigner::new(SecretKey::from_bytes([3; 32]).unwrap())
}

pub(crate) fn hermes() -> Address {
    Address::repeat_byte(0x77)
}

pub(crate) fn agreement() -> Agreement {
    Agreement {
        id: AgreementId(U256::from(0xabcdef_u64)),
        consumer: consumer().address(),
        provider: provider().address(),
        hermes: hermes(),
        chain_id: 31_337,
        vault: Address::repeat_byte(9),
        consumer_channel: ChannelId::of_deposit(Address::repeat_byte(4)),
        price: Price {
            per_hour: Amount::from_units(3_600),
            per_gib: Amount::from_units(1 << 40),
        },
        chunk: Amount::from_units(1_000),
        chunk_limit: Amount::MAX,
    }
}

pub(crate) fn promise(signer: &LocalSigner, channel: ChannelId, amount: u128) -> SignedPromise {
    let promise = Promise {
        chain_id: 31_337,
        channel,
        amount: Amount::from_units(amount),
        fee: Amount::ZERO,
        hashlock: Hashlock(B256::repeat_byte(5)),
    };
    promise.sign(signer).unwrap()
}

pub(crate) fn exchange(total: u128) -> Exchange {
    let agreement = agreement();
    let promise = promise(&consumer(), agreement.consumer_channel, total);
    let (provider, hermes) = (agreement.provider, agreement.hermes);
    Exchange::sign(
        &consumer(),
        promise,
        agreement.id,
        Amount::from_units(total),
        provider,
        hermes,
    )
    .unwrap()
}

pub(crate) fn issue_request(total: u128) -> SignedIssueRequest {
    let request = IssueRequest {
        consumer: consumer().address(),
        exchange: exchange(total),
    };
    request.sign(&provider(), agreement().vault).unwrap()
}

pub(crate) fn issue_reply(signed: &SignedIssueRequest) -> IssueReply {
    let channel = ChannelId::of_provider(signed.request.exchange.provider, hermes());
    let promise = promise(&operator(), channel, 17);
    let receipt = Receipt {
        hermes: hermes(),
        sequence: u64::MAX,
        previous: B256::repeat_byte(6),
        channel,
        promise: promise.promise.digest(),
        increment: Amount::from_units(17),
        total_promised: Amount::MAX,
    };
    IssueReply {
        promise,
        receipt: receipt.sign(&operator(), &agreement().domain()).unwrap(),
    }
}

pub(crate) fn open_request() -> OpenRequest {
    let agreement = agreement();
    OpenRequest {
        hello: Hello::ours(),
        agreement,
        consumer_signature: consumer().sign_digest(agreement.digest()).unwrap(),
        binding: TunnelBinding::sign(&consumer(), &agreement.domain(), [7; 32], agreement.id.0)
            .unwrap(),
    }
}

pub(crate) fn open_reply() -> OpenReply {
    let agreement = agreement();
    let hello = Hello::ours();
    OpenReply {
        welcome: Welcome {
            protocol: hello.protocol_max,
            capabilities: hello.capabilities,
            software: hello.software,
        },
        provider_signature: provider().sign_digest(agreement.digest()).unwrap(),
        binding: TunnelBinding::sign(&provider(), &agreement.domain(), [8; 32], agreement.id.0)
            .unwrap(),
        network: TunnelNetwork {
            consumer_v4: "10.64.0.2".parse().unwrap(),
            consumer_v6: Some("fd00::2".parse().unwrap()),
            mtu: 1_420,
        },
        token: SessionToken([9; 32]),
    }
}

/// A hello of software from far away in time.
pub(crate) fn foreign_hello() -> Hello {
    Hello {
        protocol_min: 7,
        protocol_max: 9,
        ..Hello::ours()
    }
}
