//! The nouns of tolls as messages and back.

use wayfare_session::{SessionToken, Tariff, TollReply, TollRequest, Welcome};

use crate::proto::relay::v1 as pb;
use crate::{Malformed, field};

/// What a relay asks for, as the answer to a hello.
pub(super) fn tariff_to_wire(welcome: &Welcome, tariff: &Tariff) -> pb::Tariff {
    pb::Tariff {
        welcome: Some(welcome.into()),
        operator: tariff.operator.to_vec(),
        hermes: tariff.hermes.to_vec(),
        chain_id: tariff.chain_id,
        vault: tariff.vault.to_vec(),
        per_gib: field::of_amount(tariff.per_gib),
        chunk_most: field::of_amount(tariff.chunk_most),
        free_bytes: tariff.free_bytes,
    }
}

/// The answer to a hello.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) welcome: Welcome,
    pub(crate) tariff: Tariff,
}

impl TryFrom<pb::Tariff> for Described {
    type Error = Malformed;

    fn try_from(reply: pb::Tariff) -> Result<Self, Malformed> {
        Ok(Self {
            welcome: field::nested("welcome", reply.welcome)?,
            tariff: Tariff {
                operator: field::address("operator", &reply.operator)?,
                hermes: field::address("hermes", &reply.hermes)?,
                chain_id: reply.chain_id,
                vault: field::address("vault", &reply.vault)?,
                per_gib: field::amount("per_gib", &reply.per_gib)?,
                chunk_most: field::amount("chunk_most", &reply.chunk_most)?,
                free_bytes: reply.free_bytes,
            },
        })
    }
}

impl From<&TollRequest> for pb::OpenRequest {
    fn from(request: &TollRequest) -> Self {
        Self {
            hello: Some((&request.hello).into()),
            agreement: Some((&request.agreement).into()),
            consumer_signature: request.consumer_signature.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<pb::OpenRequest> for TollRequest {
    type Error = Malformed;

    fn try_from(request: pb::OpenRequest) -> Result<Self, Malformed> {
        Ok(Self {
            hello: field::nested("hello", request.hello)?,
            agreement: field::nested("agreement", request.agreement)?,
            consumer_signature: field::signature(
                "consumer_signature",
                &request.consumer_signature,
            )?,
        })
    }
}

impl From<&TollReply> for pb::OpenReply {
    fn from(reply: &TollReply) -> Self {
        Self {
            welcome: Some((&reply.welcome).into()),
            provider_signature: reply.provider_signature.as_bytes().to_vec(),
            token: reply.token.0.to_vec(),
        }
    }
}

impl TryFrom<pb::OpenReply> for TollReply {
    type Error = Malformed;

    fn try_from(reply: pb::OpenReply) -> Result<Self, Malformed> {
        Ok(Self {
            welcome: field::nested("welcome", reply.welcome)?,
            provider_signature: field::signature("provider_signature", &reply.provider_signature)?,
            token: SessionToken(field::array("token", &reply.token)?),
        })
    }
}
