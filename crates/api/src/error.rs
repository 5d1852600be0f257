//! What can go wrong on the way to a server and back; each error names who is to blame and the next step.

use std::path::PathBuf;
use std::time::Duration;

use wayfare_payment::IssueFailure;

use crate::{Refusal, RefusalCode};

/// A message that is not what its type says. Names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the field {field} is wrong: {why}")]
pub struct Malformed {
    /// Path of the field, for example `exchange.promise.amount`.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

impl Malformed {
    pub(crate) fn new(field: &str, why: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            why: why.into(),
        }
    }

    /// Prefixes the path with the message that holds it.
    #[must_use]
    pub(crate) fn within(self, outer: &str) -> Self {
        Self {
            field: format!("{outer}.{}", self.field),
            why: self.why,
        }
    }
}

/// Why a call gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The address cannot be used.
    #[error("{address:?} is no address of a server: {why}; expected http://host:port")]
    BadAddress {
        /// As configured.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers there.
    #[error(
        "{address} cannot be reached: {cause}; check the address, that the server runs, and the way to it"
    )]
    Unreachable {
        /// Whom we called.
        address: String,
        /// What the network said.
        cause: String,
    },
    /// It answers too late.
    #[error("{address} did not answer within {} s; it is overloaded or stuck, try again later or use another", .after.as_secs())]
    Deadline {
        /// Whom we called.
        address: String,
        /// How long we waited.
        after: Duration,
    },
    /// It answered with a reason.
    #[error("{address} refused: {refusal}")]
    Refused {
        /// Whom we called.
        address: String,
        /// Its reason.
        refusal: Refusal,
    },
    /// It speaks other versions of the protocol.
    #[error(
        "{address} speaks protocol versions {} to {}, this release {} to {}: update the older side",
        .theirs.0, .theirs.1, .ours.0, .ours.1
    )]
    Incompatible {
        /// Whom we called.
        address: String,
        /// Our oldest and newest version.
        ours: (u32, u32),
        /// Its oldest and newest version.
        theirs: (u32, u32),
    },
    /// Its answer is not what the protocol says.
    #[error(
        "{address} does not keep to the protocol: {why}; it is broken or something else, use another"
    )]
    Malformed {
        /// Whom we called.
        address: String,
        /// What is wrong.
        why: String,
    },
}

impl ApiError {
    /// The server's reason, when it gave one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            Self::BadAddress { .. }
            | Self::Unreachable { .. }
            | Self::Deadline { .. }
            | Self::Incompatible { .. }
            | Self::Malformed { .. } => None,
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Deadline { .. } => true,
            Self::Refused { refusal, .. } => matches!(
                refusal.code,
                RefusalCode::Full
                    | RefusalCode::Draining
                    | RefusalCode::Chain
                    | RefusalCode::Internal
            ),
            Self::BadAddress { .. } | Self::Incompatible { .. } | Self::Malformed { .. } => false,
        }
    }

    /// What the provider's machine must hear when a Hermes gave no promise.
    #[must_use]
    pub fn issue_failure(&self) -> IssueFailure {
        self.refusal()
            .and_then(Refusal::issue_refusal)
            .map_or(IssueFailure::Unreachable, IssueFailure::Refused)
    }

    pub(crate) fn malformed(address: &str, why: impl ToString) -> Self {
        Self::Malformed {
            address: address.to_owned(),
            why: why.to_string(),
        }
    }

    /// Reads a gRPC status.
    pub(crate) fn from_status(
        address: &str,
        ours: (u32, u32),
        after: Duration,
        status: &tonic::Status,
    ) -> Self {
        let address = address.to_owned();
        if let Some(refusal) = Refusal::from_status(status) {
            return match refusal.versions {
                Some(theirs) if refusal.code == RefusalCode::Incompatible => Self::Incompatible {
                    address,
                    ours,
                    theirs,
                },
                Some(_) | None => Self::Refused { address, refusal },
            };
        }
        let text = crate::refusal::printable(status.message());
        match status.code() {
            tonic::Code::DeadlineExceeded => Self::Deadline { address, after },
            // The word of tonic's server for its own deadline.
            tonic::Code::Cancelled if text.contains("Timeout expired") => {
                Self::Deadline { address, after }
            }
            tonic::Code::Unavailable
            | tonic::Code::Unknown
            | tonic::Code::Aborted
            | tonic::Code::Cancelled => Self::Unreachable {
                address,
                cause: cause_of(status),
            },
            tonic::Code::OutOfRange
            | tonic::Code::Unimplemented
            | tonic::Code::DataLoss
            | tonic::Code::Internal => Self::Malformed { address, why: text },
            tonic::Code::InvalidArgument => Self::Refused {
                address,
                refusal: Refusal::new(RefusalCode::Malformed, text),
            },
            tonic::Code::ResourceExhausted => Self::Refused {
                address,
                refusal: Refusal::new(RefusalCode::Full, text),
            },
            tonic::Code::NotFound => Self::Refused {
                address,
                refusal: Refusal::new(RefusalCode::Unknown, text),
            },
            tonic::Code::Ok
            | tonic::Code::AlreadyExists
            | tonic::Code::PermissionDenied
            | tonic::Code::FailedPrecondition
            | tonic::Code::Unauthenticated => Self::Refused {
                address,
                refusal: Refusal::new(RefusalCode::Internal, text),
            },
        }
    }
}

/// The innermost cause is what helps: "Connection refused" rather than "transport error".
fn cause_of(status: &tonic::Status) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    let mut text = status.message().to_owned();
    for _ in 0..8 {
        let Some(error) = cause else { break };
        text = error.to_string();
        cause = error.source();
    }
    crate::refusal::printable(&text)
}

/// Why a service does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another process serves there.
    #[error("{} is in use by a running daemon: stop it first, or choose another path", .0.display())]
    InUse(PathBuf),
    /// The path is something else than a socket.
    #[error("{} exists and is no socket: remove it, or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// The socket cannot be made.
    #[error("the control socket {} cannot be made: {cause}; check that its folder exists and may be written", .path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The server broke down.
    #[error("the server stopped: {0}")]
    Stopped(String),
}
