//! The nouns of the control socket as messages and back.

use std::time::Duration;

use wayfare_payment::AgreementId;

use super::{
    Earning, NodeEvent, NodeStatus, PathView, Role, SessionList, SessionState, SessionView,
    SettlementView,
};
use crate::limits::{MAX_SESSIONS, MAX_TEXT};
use crate::proto::control::v1 as pb;
use crate::refusal::printable;
use crate::{Malformed, field};

/// Longest stable word.
const MAX_WORD: usize = 64;

impl SessionState {
    const ALL: [Self; 4] = [Self::Opening, Self::Active, Self::Gated, Self::Closing];

    /// A stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Active => "active",
            Self::Gated => "gated",
            Self::Closing => "closing",
        }
    }
}

/// An answer without the versions, which are negotiated elsewhere.
pub(super) fn of_status(status: &NodeStatus) -> pb::StatusReply {
    let role = match status.role {
        Role::Consumer => pb::Role::Consumer,
        Role::Provider => pb::Role::Provider,
        Role::Hermes => pb::Role::Hermes,
    };
    pb::StatusReply {
        welcome: None,
        role: role.into(),
        identity: status.identity.to_vec(),
        process: status.process,
        started_ms: status.started_ms,
        draining: status.draining,
        summary: printable(&status.summary),
        sessions: status.sessions,
        usage: Some((&status.usage).into()),
        paid: field::of_amount(status.paid),
        promises: status.promises,
    }
}

impl TryFrom<pb::StatusReply> for NodeStatus {
    type Error = Malformed;

    fn try_from(reply: pb::StatusReply) -> Result<Self, Malformed> {
        let role = match reply.role() {
            pb::Role::Consumer => Role::Consumer,
            pb::Role::Provider => Role::Provider,
            pb::Role::Hermes => Role::Hermes,
            pb::Role::Unspecified => {
                return Err(Malformed::new("role", "it is of a later release"));
            }
        };
        Ok(Self {
            role,
            identity: field::address("identity", &reply.identity)?,
            process: reply.process,
            started_ms: reply.started_ms,
            draining: reply.draining,
            summary: field::text("summary", reply.summary, MAX_TEXT)?,
            sessions: reply.sessions,
            usage: field::nested("usage", reply.usage)?,
            paid: field::amount("paid", &reply.paid)?,
            promises: reply.promises,
        })
    }
}

impl From<&SessionView> for pb::Session {
    fn from(session: &SessionView) -> Self {
        Self {
            agreement: field::of_uint(session.agreement.0),
            peer: session.peer.to_vec(),
            state: session.state.word().to_owned(),
            started_ms: session.started_ms,
            usage: Some((&session.usage).into()),
            price: Some((&session.price).into()),
            invoiced: field::of_amount(session.invoiced),
            paid: field::of_amount(session.paid),
            path: session.path.as_ref().map(Into::into),
        }
    }
}

impl From<&PathView> for pb::Path {
    fn from(path: &PathView) -> Self {
        let rtt = path.rtt.unwrap_or_default().as_micros();
        Self {
            direct: path.direct,
            carrier: path.carrier.clone(),
            rtt_us: u64::try_from(rtt).unwrap_or(u64::MAX),
            outcome: path.outcome.clone(),
        }
    }
}

impl TryFrom<pb::Path> for PathView {
    type Error = Malformed;

    fn try_from(path: pb::Path) -> Result<Self, Malformed> {
        let rtt = Duration::from_micros(path.rtt_us);
        Ok(Self {
            direct: path.direct,
            carrier: field::text("carrier", path.carrier, 64)?,
            rtt: (!rtt.is_zero()).then_some(rtt),
            outcome: field::text("outcome", path.outcome, 256)?,
        })
    }
}

impl TryFrom<pb::Session> for SessionView {
    type Error = Malformed;

    fn try_from(session: pb::Session) -> Result<Self, Malformed> {
        let state = SessionState::ALL
            .into_iter()
            .find(|state| state.word() == session.state);
        Ok(Self {
            agreement: AgreementId(field::uint("agreement", &session.agreement)?),
            peer: field::address("peer", &session.peer)?,
            state: state.ok_or_else(|| Malformed::new("state", "it is of a later release"))?,
            started_ms: session.started_ms,
            usage: field::nested("usage", session.usage)?,
            price: field::nested("price", session.price)?,
            invoiced: field::amount("invoiced", &session.invoiced)?,
            paid: field::amount("paid", &session.paid)?,
            path: session.path.map(PathView::try_from).transpose()?,
        })
    }
}

impl From<&SessionList> for pb::SessionsReply {
    fn from(list: &SessionList) -> Self {
        let sessions = list
            .sessions
            .iter()
            .take(MAX_SESSIONS)
            .map(Into::into)
            .collect();
        Self {
            sessions,
            total: list.total,
        }
    }
}

impl TryFrom<pb::SessionsReply> for SessionList {
    type Error = Malformed;

    fn try_from(reply: pb::SessionsReply) -> Result<Self, Malformed> {
        let sessions = reply
            .sessions
            .into_iter()
            .map(|session| field::nested("sessions", Some(session)));
        Ok(Self {
            sessions: sessions.collect::<Result<_, _>>()?,
            total: reply.total,
        })
    }
}

impl From<&NodeEvent> for pb::Event {
    fn from(event: &NodeEvent) -> Self {
        Self {
            at_ms: event.at_ms,
            kind: event.kind.clone(),
            message: printable(&event.message),
            agreement: event
                .agreement
                .map(|agreement| field::of_uint(agreement.0))
                .unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::Event> for NodeEvent {
    type Error = Malformed;

    fn try_from(event: pb::Event) -> Result<Self, Malformed> {
        let agreement = match event.agreement.as_slice() {
            [] => None,
            bytes => Some(AgreementId(field::uint("agreement", bytes)?)),
        };
        Ok(Self {
            at_ms: event.at_ms,
            kind: field::text("kind", event.kind, MAX_WORD)?,
            message: field::text("message", event.message, MAX_TEXT)?,
            agreement,
        })
    }
}

impl From<&Earning> for pb::Earning {
    fn from(earning: &Earning) -> Self {
        Self {
            hermes: earning.hermes.to_vec(),
            promised: field::of_amount(earning.promised),
            settled: field::of_amount(earning.settled),
            settling: earning.settling,
        }
    }
}

impl TryFrom<pb::Earning> for Earning {
    type Error = Malformed;

    fn try_from(earning: pb::Earning) -> Result<Self, Malformed> {
        Ok(Self {
            hermes: field::address("hermes", &earning.hermes)?,
            promised: field::amount("promised", &earning.promised)?,
            settled: field::amount("settled", &earning.settled)?,
            settling: earning.settling,
        })
    }
}

impl From<&SettlementView> for pb::Settlement {
    fn from(settlement: &SettlementView) -> Self {
        Self {
            hermes: settlement.hermes.to_vec(),
            transaction: settlement
                .transaction
                .map(|hash| hash.to_vec())
                .unwrap_or_default(),
            total: field::of_amount(settlement.total),
            gas: settlement.gas,
        }
    }
}

impl TryFrom<pb::Settlement> for SettlementView {
    type Error = Malformed;

    fn try_from(settlement: pb::Settlement) -> Result<Self, Malformed> {
        let transaction = match settlement.transaction.as_slice() {
            [] => None,
            bytes => Some(field::word("transaction", bytes)?),
        };
        Ok(Self {
            hermes: field::address("hermes", &settlement.hermes)?,
            transaction,
            total: field::amount("total", &settlement.total)?,
            gas: settlement.gas,
        })
    }
}
