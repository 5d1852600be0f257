//! Refusals: a code for programs and words for people, as a message in streams and in the trailer of a gRPC status.

use prost::Message;
use tonic::metadata::MetadataValue;
use wayfare_payment::IssueRefusal;
use wayfare_session as session;

use crate::Malformed;
use crate::limits::MAX_TEXT;
use crate::proto::link::v1 as pb;

/// The binary trailer that carries a refusal beside a gRPC status.
const TRAILER: &str = "wayfare-refusal-bin";

/// Why a request was not granted. Codes are part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalCode {
    /// No common protocol version.
    Incompatible,
    /// The request is not well formed.
    Malformed,
    /// A signature or binding does not hold.
    Signature,
    /// The terms are not those offered or expected.
    Terms,
    /// The deposit does not cover the promise.
    Unfunded,
    /// The consumer is taking its deposit back.
    Exiting,
    /// Not newer than what is known.
    Stale,
    /// Used before with other content.
    Replayed,
    /// The preimage of the previous promise must be revealed first.
    RevealFirst,
    /// The preimage does not open the lock.
    Preimage,
    /// No such thing.
    Unknown,
    /// No room, or too many requests.
    Full,
    /// Shutting down.
    Draining,
    /// The consumer did not pay in time.
    Unpaid,
    /// The provider does not work with that Hermes, or cannot reach it.
    Hermes,
    /// The chain does not answer.
    Chain,
    /// Expired, or from the future.
    Expired,
    /// The answering side's own fault.
    Internal,
}

impl RefusalCode {
    /// Every code.
    pub const ALL: [Self; 18] = [
        Self::Incompatible,
        Self::Malformed,
        Self::Signature,
        Self::Terms,
        Self::Unfunded,
        Self::Exiting,
        Self::Stale,
        Self::Replayed,
        Self::RevealFirst,
        Self::Preimage,
        Self::Unknown,
        Self::Full,
        Self::Draining,
        Self::Unpaid,
        Self::Hermes,
        Self::Chain,
        Self::Expired,
        Self::Internal,
    ];

    fn to_wire(self) -> pb::Code {
        match self {
            Self::Incompatible => pb::Code::Incompatible,
            Self::Malformed => pb::Code::Malformed,
            Self::Signature => pb::Code::Signature,
            Self::Terms => pb::Code::Terms,
            Self::Unfunded => pb::Code::Unfunded,
            Self::Exiting => pb::Code::Exiting,
            Self::Stale => pb::Code::Stale,
            Self::Replayed => pb::Code::Replayed,
            Self::RevealFirst => pb::Code::RevealFirst,
            Self::Preimage => pb::Code::Preimage,
            Self::Unknown => pb::Code::Unknown,
            Self::Full => pb::Code::Full,
            Self::Draining => pb::Code::Draining,
            Self::Unpaid => pb::Code::Unpaid,
            Self::Hermes => pb::Code::Hermes,
            Self::Chain => pb::Code::Chain,
            Self::Expired => pb::Code::Expired,
            Self::Internal => pb::Code::Internal,
        }
    }

    /// A code of a later release, or none at all, reads as the server's own fault.
    fn from_wire(number: i32) -> Self {
        Self::ALL
            .into_iter()
            .find(|code| code.to_wire() as i32 == number)
            .unwrap_or(Self::Internal)
    }

    fn grpc(self) -> tonic::Code {
        match self {
            Self::Malformed => tonic::Code::InvalidArgument,
            Self::Signature | Self::Preimage => tonic::Code::PermissionDenied,
            Self::Unknown => tonic::Code::NotFound,
            Self::Full => tonic::Code::ResourceExhausted,
            Self::Draining | Self::Chain => tonic::Code::Unavailable,
            Self::Internal => tonic::Code::Internal,
            Self::Incompatible
            | Self::Terms
            | Self::Unfunded
            | Self::Exiting
            | Self::Stale
            | Self::Replayed
            | Self::RevealFirst
            | Self::Unpaid
            | Self::Hermes
            | Self::Expired => tonic::Code::FailedPrecondition,
        }
    }
}

/// A refusal, with words for people: the cause and the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code:?})")]
pub struct Refusal {
    /// What programs decide upon.
    pub code: RefusalCode,
    /// Cause and next step.
    pub message: String,
    /// With [`RefusalCode::Incompatible`]: the refusing side's oldest and newest protocol version.
    pub versions: Option<(u32, u32)>,
    /// A finer stable word where a service defines some, else empty.
    pub detail: String,
}

impl Refusal {
    /// A refusal with its reason.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            versions: None,
            detail: String::new(),
        }
    }

    /// What the Hermes' machine said, when a Hermes refused.
    #[must_use]
    pub fn issue_refusal(&self) -> Option<IssueRefusal> {
        IssueRefusal::from_code(&self.detail)
    }

    pub(crate) fn to_wire(&self) -> pb::Refusal {
        let (protocol_min, protocol_max) = self.versions.unwrap_or_default();
        pb::Refusal {
            code: self.code.to_wire() as i32,
            message: printable(&self.message),
            protocol_min,
            protocol_max,
            detail: self.detail.clone(),
        }
    }

    pub(crate) fn from_wire(refusal: &pb::Refusal) -> Self {
        let versions =
            (refusal.protocol_max > 0).then_some((refusal.protocol_min, refusal.protocol_max));
        let detail = printable(&refusal.detail);
        Self {
            code: RefusalCode::from_wire(refusal.code),
            message: printable(&refusal.message),
            versions,
            detail,
        }
    }

    pub(crate) fn to_status(&self) -> tonic::Status {
        let mut status = tonic::Status::new(self.code.grpc(), printable(&self.message));
        let encoded = self.to_wire().encode_to_vec();
        status
            .metadata_mut()
            .insert_bin(TRAILER, MetadataValue::from_bytes(&encoded));
        status
    }

    pub(crate) fn from_status(status: &tonic::Status) -> Option<Self> {
        let bytes = status.metadata().get_bin(TRAILER)?.to_bytes().ok()?;
        pb::Refusal::decode(bytes)
            .ok()
            .map(|refusal| Self::from_wire(&refusal))
    }
}

/// Text of a stranger, fit for a terminal and a log: no control characters, no more than [`MAX_TEXT`] bytes.
pub(crate) fn printable(text: &str) -> String {
    let mut clean = String::new();
    for character in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if clean.len() + character.len_utf8() > MAX_TEXT {
            break;
        }
        clean.push(character);
    }
    clean
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        refusal.to_status()
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::new(RefusalCode::Malformed, malformed.to_string())
    }
}

impl From<Malformed> for tonic::Status {
    fn from(malformed: Malformed) -> Self {
        Refusal::from(malformed).to_status()
    }
}

impl From<IssueRefusal> for Refusal {
    fn from(refusal: IssueRefusal) -> Self {
        let code = match refusal {
            IssueRefusal::WrongHermes
            | IssueRefusal::WrongChain
            | IssueRefusal::WrongChannel
            | IssueRefusal::Fee
            | IssueRefusal::OtherProvider
            | IssueRefusal::NotCovered
            | IssueRefusal::Overflow => RefusalCode::Terms,
            IssueRefusal::Signature => RefusalCode::Signature,
            IssueRefusal::Stale => RefusalCode::Stale,
            IssueRefusal::LockChanged => RefusalCode::Replayed,
            IssueRefusal::OverDeposit => RefusalCode::Unfunded,
            IssueRefusal::ExitPending => RefusalCode::Exiting,
            IssueRefusal::RevealFirst => RefusalCode::RevealFirst,
            IssueRefusal::Crowded => RefusalCode::Full,
            IssueRefusal::WrongPreimage => RefusalCode::Preimage,
            IssueRefusal::OutOfOrder => RefusalCode::Internal,
        };
        Self {
            detail: refusal.code().to_owned(),
            ..Self::new(code, refusal.to_string())
        }
    }
}

impl From<session::Incompatible> for Refusal {
    fn from(incompatible: session::Incompatible) -> Self {
        Self {
            code: RefusalCode::Incompatible,
            versions: Some((incompatible.ours_min, incompatible.ours_max)),
            message: incompatible.to_string(),
            detail: String::new(),
        }
    }
}

impl From<session::Refusal> for Refusal {
    fn from(refusal: session::Refusal) -> Self {
        let code = match refusal.code {
            session::RefusalCode::Incompatible => RefusalCode::Incompatible,
            session::RefusalCode::Terms => RefusalCode::Terms,
            session::RefusalCode::Hermes => RefusalCode::Hermes,
            session::RefusalCode::Signature => RefusalCode::Signature,
            session::RefusalCode::Unfunded => RefusalCode::Unfunded,
            session::RefusalCode::Replayed => RefusalCode::Replayed,
            session::RefusalCode::Full => RefusalCode::Full,
            session::RefusalCode::Draining => RefusalCode::Draining,
            session::RefusalCode::Unknown => RefusalCode::Unknown,
            session::RefusalCode::Unpaid => RefusalCode::Unpaid,
            session::RefusalCode::Internal => RefusalCode::Internal,
        };
        Self::new(code, refusal.message)
    }
}

/// What a session can do with a refusal is less fine than what the wire can say.
impl From<Refusal> for session::Refusal {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.code {
            RefusalCode::Incompatible => session::RefusalCode::Incompatible,
            RefusalCode::Terms | RefusalCode::Malformed | RefusalCode::Expired => {
                session::RefusalCode::Terms
            }
            RefusalCode::Hermes | RefusalCode::Chain => session::RefusalCode::Hermes,
            RefusalCode::Signature | RefusalCode::Preimage => session::RefusalCode::Signature,
            RefusalCode::Unfunded | RefusalCode::Exiting => session::RefusalCode::Unfunded,
            RefusalCode::Replayed | RefusalCode::Stale => session::RefusalCode::Replayed,
            RefusalCode::Full => session::RefusalCode::Full,
            RefusalCode::Draining => session::RefusalCode::Draining,
            RefusalCode::Unknown => session::RefusalCode::Unknown,
            RefusalCode::Unpaid => session::RefusalCode::Unpaid,
            RefusalCode::RevealFirst | RefusalCode::Internal => session::RefusalCode::Internal,
        };
        Self {
            code,
            message: refusal.message,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_code_survives_the_wire_in_a_message_and_in_a_status() {
        for code in RefusalCode::ALL {
            let refusal = Refusal::new(code, "because; do that");
            assert_eq!(Refusal::from_wire(&refusal.to_wire()), refusal);
            assert_eq!(Refusal::from_status(&refusal.to_status()), Some(refusal));
        }
    }

    #[test]
    fn every_refusal_of_the_issuer_comes_back_as_it_was() {
        for refusal in IssueRefusal::ALL {
            let status = Refusal::from(refusal).to_status();
            assert_eq!(
                Refusal::from_status(&status).unwrap().issue_refusal(),
                Some(refusal)
            );
        }
    }

    #[test]
    fn an_unknown_code_is_the_servers_fault() {
        for number in [-1, 0, 19, i32::MAX] {
            assert_eq!(RefusalCode::from_wire(number), RefusalCode::Internal);
        }
    }

    #[test]
    fn a_strangers_text_is_bounded_and_has_no_control_characters() {
        let text = printable(&format!("\u{1b}[2J{}", "é".repeat(2_000)));
        assert!(
            text.len() <= MAX_TEXT && !text.chars().any(char::is_control),
            "{text:?}"
        );
    }

    #[test]
    fn a_session_refusal_comes_back_with_its_code() {
        let refusal = session::Refusal::new(session::RefusalCode::Unpaid, "pay");
        assert_eq!(
            session::Refusal::from(Refusal::from(refusal.clone())),
            refusal
        );
    }
}
