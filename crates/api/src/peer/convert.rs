//! The nouns of `session` as messages and back.

use std::net::{Ipv4Addr, Ipv6Addr};

use wayfare_identity::TunnelBinding;
use wayfare_payment::Agreement;
use wayfare_session::{
    ConsumerFrame, GateState, OpenReply, OpenRequest, ProviderFrame, SessionToken, TunnelNetwork,
};

use crate::limits::MAX_TEXT;
use crate::proto::peer::v1 as pb;
use crate::refusal::printable;
use crate::{Malformed, Refusal, field};

/// Smallest packet that every IPv4 host must take (RFC 791).
const MIN_MTU: u16 = 576;

impl From<&OpenRequest> for pb::OpenRequest {
    fn from(request: &OpenRequest) -> Self {
        Self {
            hello: Some((&request.hello).into()),
            agreement: Some((&request.agreement).into()),
            consumer_signature: request.consumer_signature.as_bytes().to_vec(),
            tunnel_key: request.binding.tunnel_key.to_vec(),
            tunnel_key_signature: request.binding.signature.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<pb::OpenRequest> for OpenRequest {
    type Error = Malformed;

    fn try_from(request: pb::OpenRequest) -> Result<Self, Malformed> {
        let agreement: Agreement = field::nested("agreement", request.agreement)?;
        Ok(Self {
            hello: field::nested("hello", request.hello)?,
            consumer_signature: field::signature(
                "consumer_signature",
                &request.consumer_signature,
            )?,
            binding: TunnelBinding {
                identity: agreement.consumer,
                tunnel_key: field::array("tunnel_key", &request.tunnel_key)?,
                agreement: agreement.id.0,
                signature: field::signature("tunnel_key_signature", &request.tunnel_key_signature)?,
            },
            agreement,
        })
    }
}

impl From<&OpenReply> for pb::OpenReply {
    fn from(reply: &OpenReply) -> Self {
        Self {
            welcome: Some((&reply.welcome).into()),
            provider_signature: reply.provider_signature.as_bytes().to_vec(),
            tunnel_key: reply.binding.tunnel_key.to_vec(),
            tunnel_key_signature: reply.binding.signature.as_bytes().to_vec(),
            network: Some((&reply.network).into()),
            token: reply.token.0.to_vec(),
        }
    }
}

/// Reads the answer to a request about `agreement`: whose key it binds, and to what, is not said twice on the wire.
pub(super) fn open_reply(
    reply: pb::OpenReply,
    agreement: &Agreement,
) -> Result<OpenReply, Malformed> {
    Ok(OpenReply {
        welcome: field::nested("welcome", reply.welcome)?,
        provider_signature: field::signature("provider_signature", &reply.provider_signature)?,
        binding: TunnelBinding {
            identity: agreement.provider,
            tunnel_key: field::array("tunnel_key", &reply.tunnel_key)?,
            agreement: agreement.id.0,
            signature: field::signature("tunnel_key_signature", &reply.tunnel_key_signature)?,
        },
        network: field::nested("network", reply.network)?,
        token: SessionToken(field::array("token", &reply.token)?),
    })
}

impl From<&TunnelNetwork> for pb::TunnelNetwork {
    fn from(network: &TunnelNetwork) -> Self {
        Self {
            consumer_v4: network.consumer_v4.octets().to_vec(),
            consumer_v6: network
                .consumer_v6
                .map(|address| address.octets().to_vec())
                .unwrap_or_default(),
            mtu: network.mtu.into(),
        }
    }
}

impl TryFrom<pb::TunnelNetwork> for TunnelNetwork {
    type Error = Malformed;

    fn try_from(network: pb::TunnelNetwork) -> Result<Self, Malformed> {
        let consumer_v6 = match network.consumer_v6.as_slice() {
            [] => None,
            bytes => Some(Ipv6Addr::from(field::array::<16>("consumer_v6", bytes)?)),
        };
        let mtu = u16::try_from(network.mtu)
            .ok()
            .filter(|mtu| *mtu >= MIN_MTU);
        Ok(Self {
            consumer_v4: Ipv4Addr::from(field::array::<4>("consumer_v4", &network.consumer_v4)?),
            consumer_v6,
            mtu: mtu
                .ok_or_else(|| Malformed::new("mtu", format!("{MIN_MTU} to 65535 is expected")))?,
        })
    }
}

impl From<&ConsumerFrame> for pb::ConsumerFrame {
    fn from(frame: &ConsumerFrame) -> Self {
        use pb::consumer_frame::Kind;
        let kind = match frame {
            ConsumerFrame::Attach(token) => Kind::Attach(pb::Attach {
                token: token.0.to_vec(),
            }),
            ConsumerFrame::Payment(exchange) => Kind::Payment(exchange.into()),
            ConsumerFrame::Usage(usage) => Kind::Usage(usage.into()),
            ConsumerFrame::KeepAlive => Kind::KeepAlive(pb::KeepAlive {}),
            ConsumerFrame::Close => Kind::Close(pb::Close {}),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<pb::ConsumerFrame> for ConsumerFrame {
    type Error = Malformed;

    fn try_from(frame: pb::ConsumerFrame) -> Result<Self, Malformed> {
        use pb::consumer_frame::Kind;
        Ok(match frame.kind {
            Some(Kind::Attach(attach)) => {
                Self::Attach(SessionToken(field::array("attach.token", &attach.token)?))
            }
            Some(Kind::Payment(exchange)) => {
                Self::Payment(field::nested("payment", Some(exchange))?)
            }
            Some(Kind::Usage(usage)) => Self::Usage(field::nested("usage", Some(usage))?),
            Some(Kind::KeepAlive(pb::KeepAlive {})) => Self::KeepAlive,
            Some(Kind::Close(pb::Close {})) => Self::Close,
            None => {
                return Err(Malformed::new(
                    "kind",
                    "it is missing, or of a later release",
                ));
            }
        })
    }
}

impl From<&ProviderFrame> for pb::ProviderFrame {
    fn from(frame: &ProviderFrame) -> Self {
        use pb::provider_frame::Kind;
        let kind = match frame {
            ProviderFrame::Invoice(invoice) => Kind::Invoice(invoice.into()),
            ProviderFrame::Paid(total) => Kind::Paid(pb::Paid {
                total: field::of_amount(*total),
            }),
            ProviderFrame::Usage(usage) => Kind::Usage(usage.into()),
            ProviderFrame::Gate(GateState::Open) => Kind::Gate(pb::Gate {
                open: true,
                reason: String::new(),
            }),
            ProviderFrame::Gate(GateState::Closed(why)) => Kind::Gate(pb::Gate {
                open: false,
                reason: printable(why),
            }),
            ProviderFrame::Draining { seconds } => {
                Kind::Draining(pb::Draining { seconds: *seconds })
            }
            ProviderFrame::Closed(refusal) => {
                Kind::Closed(Refusal::from(refusal.clone()).to_wire())
            }
            ProviderFrame::KeepAlive => Kind::KeepAlive(pb::KeepAlive {}),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<pb::ProviderFrame> for ProviderFrame {
    type Error = Malformed;

    fn try_from(frame: pb::ProviderFrame) -> Result<Self, Malformed> {
        use pb::provider_frame::Kind;
        Ok(match frame.kind {
            Some(Kind::Invoice(invoice)) => Self::Invoice(field::nested("invoice", Some(invoice))?),
            Some(Kind::Paid(paid)) => Self::Paid(field::amount("paid.total", &paid.total)?),
            Some(Kind::Usage(usage)) => Self::Usage(field::nested("usage", Some(usage))?),
            Some(Kind::Gate(pb::Gate { open: true, .. })) => Self::Gate(GateState::Open),
            Some(Kind::Gate(pb::Gate {
                open: false,
                reason,
            })) => Self::Gate(GateState::Closed(field::text(
                "gate.reason",
                reason,
                MAX_TEXT,
            )?)),
            Some(Kind::Draining(draining)) => Self::Draining {
                seconds: draining.seconds,
            },
            Some(Kind::Closed(refusal)) => Self::Closed(Refusal::from_wire(&refusal).into()),
            Some(Kind::KeepAlive(pb::KeepAlive {})) => Self::KeepAlive,
            None => {
                return Err(Malformed::new(
                    "kind",
                    "it is missing, or of a later release",
                ));
            }
        })
    }
}
