//! What the three binaries share: settings with their origins, exit codes that differ by kind, text and JSON output, logs, keys on
//! disk, signals.
//!
//! Refuses to know what any of the binaries does.

mod complete;
mod doctor;
mod exit;
mod identity;
mod keys;
mod output;
mod run;
mod settings;

pub use complete::{Generate, generate};
pub use doctor::{Finding, tell_findings};
pub use exit::{Failure, Kind, Next};
pub use identity::{IdentityCommand, keystore, passphrase, run_identity, show_settings, unlock};
pub use keys::{
    IdentityFile, chance, create_identity, list_identities, open_identity, read_passphrase,
    write_secret,
};
pub use output::Output;
pub use run::{Common, main, parse, terminated};
pub use settings::{Origin, Setting, Settings};
