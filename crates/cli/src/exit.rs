//! Failures that name the cause and the next step, and exit codes that differ by kind.

use std::fmt;

/// The kind of a failure; its number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A fault that fits nowhere else.
    Other = 1,
    /// Wrong arguments or settings. (The argument parser uses the same number.)
    Usage = 2,
    /// A missing privilege of the operating system.
    Privilege = 3,
    /// Something on the network does not answer: chain, Hermes, index, provider.
    Unreachable = 4,
    /// Money: no deposit, no gas, over budget.
    Money = 5,
    /// The other side refused.
    Refused = 6,
    /// Keys, passphrases, the ledger or another file.
    Storage = 7,
    /// Something is already there: a port, a lock, a running daemon.
    Busy = 8,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Other,
        Self::Usage,
        Self::Privilege,
        Self::Unreachable,
        Self::Money,
        Self::Refused,
        Self::Storage,
        Self::Busy,
    ];

    /// Its name for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Usage => "usage",
            Self::Privilege => "privilege",
            Self::Unreachable => "unreachable",
            Self::Money => "money",
            Self::Refused => "refused",
            Self::Storage => "storage",
            Self::Busy => "busy",
        }
    }

    /// The kind with this exit code; [`Kind::Other`] where there is none.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        Self::ALL
            .into_iter()
            .find(|kind| *kind as u8 == code)
            .unwrap_or(Self::Other)
    }
}

/// A failure as people read it.
#[derive(Debug)]
pub struct Failure {
    /// Its kind.
    pub kind: Kind,
    /// What went wrong and why.
    pub cause: String,
    /// What to do about it.
    pub next: Option<String>,
}

impl Failure {
    /// A failure of a kind.
    pub fn new(kind: Kind, cause: impl fmt::Display) -> Self {
        Self {
            kind,
            cause: cause.to_string(),
            next: None,
        }
    }

    /// Adds the next step.
    #[must_use]
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next = Some(step.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        match &self.next {
            Some(next) => write!(f, "\n  next: {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// Turns foreign errors into failures of a kind, with the next step.
pub trait Next<T> {
    /// Names the kind and what to do.
    ///
    /// # Errors
    /// The failure.
    fn or_fail(self, kind: Kind, next: &str) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> Next<T> for Result<T, E> {
    fn or_fail(self, kind: Kind, next: &str) -> Result<T, Failure> {
        self.map_err(|error| {
            let failure = Failure::new(kind, error);
            if next.is_empty() {
                failure
            } else {
                failure.next(next)
            }
        })
    }
}
