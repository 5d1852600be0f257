//! The nouns of the Hermes service as messages and back.

use wayfare_payment::{ChannelId, IssueReply, IssueRequest, SignedIssueRequest};

use super::{ConsumerState, Described, HermesTerms, ProviderState};
use crate::proto::hermes::v1 as pb;
use crate::{Malformed, field};

impl From<&Described> for pb::DescribeReply {
    fn from(described: &Described) -> Self {
        let terms = &described.terms;
        Self {
            welcome: Some((&described.welcome).into()),
            hermes: terms.hermes.to_vec(),
            operator: terms.operator.to_vec(),
            chain_id: terms.chain_id,
            vault: terms.vault.to_vec(),
            fee_basis_points: terms.fee_basis_points.into(),
            draining: terms.draining,
        }
    }
}

impl TryFrom<pb::DescribeReply> for Described {
    type Error = Malformed;

    fn try_from(reply: pb::DescribeReply) -> Result<Self, Malformed> {
        let fee = u16::try_from(reply.fee_basis_points)
            .ok()
            .filter(|fee| *fee <= 10_000);
        let terms = HermesTerms {
            hermes: field::address("hermes", &reply.hermes)?,
            operator: field::address("operator", &reply.operator)?,
            chain_id: reply.chain_id,
            vault: field::address("vault", &reply.vault)?,
            fee_basis_points: fee
                .ok_or_else(|| Malformed::new("fee_basis_points", "it is above 10,000"))?,
            draining: reply.draining,
        };
        Ok(Self {
            welcome: field::nested("welcome", reply.welcome)?,
            terms,
        })
    }
}

impl From<&SignedIssueRequest> for pb::IssueRequest {
    fn from(signed: &SignedIssueRequest) -> Self {
        Self {
            consumer: signed.request.consumer.to_vec(),
            exchange: Some((&signed.request.exchange).into()),
            provider_signature: signed.provider_signature.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<pb::IssueRequest> for SignedIssueRequest {
    type Error = Malformed;

    fn try_from(request: pb::IssueRequest) -> Result<Self, Malformed> {
        Ok(Self {
            request: IssueRequest {
                consumer: field::address("consumer", &request.consumer)?,
                exchange: field::nested("exchange", request.exchange)?,
            },
            provider_signature: field::signature(
                "provider_signature",
                &request.provider_signature,
            )?,
        })
    }
}

impl From<&IssueReply> for pb::IssueReply {
    fn from(issued: &IssueReply) -> Self {
        Self {
            promise: Some((&issued.promise).into()),
            receipt: Some((&issued.receipt).into()),
        }
    }
}

impl TryFrom<pb::IssueReply> for IssueReply {
    type Error = Malformed;

    fn try_from(reply: pb::IssueReply) -> Result<Self, Malformed> {
        Ok(Self {
            promise: field::nested("promise", reply.promise)?,
            receipt: field::nested("receipt", reply.receipt)?,
        })
    }
}

impl From<&ConsumerState> for pb::ConsumerStateReply {
    fn from(state: &ConsumerState) -> Self {
        Self {
            channel: state.channel.0.to_vec(),
            promised: field::of_amount(state.promised),
            deposit: field::of_amount(state.deposit),
            exit_at: state.exit_at.unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::ConsumerStateReply> for ConsumerState {
    type Error = Malformed;

    fn try_from(reply: pb::ConsumerStateReply) -> Result<Self, Malformed> {
        Ok(Self {
            channel: ChannelId(field::word("channel", &reply.channel)?),
            promised: field::amount("promised", &reply.promised)?,
            deposit: field::amount("deposit", &reply.deposit)?,
            exit_at: (reply.exit_at > 0).then_some(reply.exit_at),
        })
    }
}

impl From<&ProviderState> for pb::ProviderStateReply {
    fn from(state: &ProviderState) -> Self {
        Self {
            promised: field::of_amount(state.promised),
            last: state.last.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<pb::ProviderStateReply> for ProviderState {
    type Error = Malformed;

    fn try_from(reply: pb::ProviderStateReply) -> Result<Self, Malformed> {
        let last = reply
            .last
            .map(|promise| field::nested("last", Some(promise)))
            .transpose()?;
        Ok(Self {
            promised: field::amount("promised", &reply.promised)?,
            last,
        })
    }
}
