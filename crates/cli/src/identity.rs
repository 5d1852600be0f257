//! `identity new | list | import | export`: the same in every binary.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;
use wayfare_identity::{Address, Kdf, KeystoreSalt, SecretKey, open_keystore, seal_keystore};

use crate::keys::{chance, create_identity, list_identities, open_identity, write_secret};
use crate::settings::Row;
use crate::{Failure, Kind, Next, Output, Settings, read_passphrase};

/// What can be done with identities.
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Makes a new identity.
    New,
    /// Lists the identities of the keystore.
    List,
    /// Takes over a keystore file (Web3 format, version 3) of another wallet.
    Import {
        /// The file.
        file: PathBuf,
        /// File with that file's passphrase, if it differs from ours.
        #[arg(long, value_name = "FILE")]
        its_passphrase: Option<PathBuf>,
    },
    /// Writes an identity as a keystore file that other wallets read.
    Export {
        /// Where to.
        file: PathBuf,
        /// Which one; needed where there are several.
        #[arg(long, value_name = "ADDRESS")]
        identity: Option<Address>,
    },
}

#[derive(Serialize)]
struct Shown {
    address: Address,
    path: PathBuf,
}

/// The keystore directory of a state directory.
#[must_use]
pub fn keystore(state: &Path) -> PathBuf {
    state.join("keystore")
}

/// The passphrase as configured (`passphrase_file`, environment, terminal).
///
/// # Errors
/// See [`read_passphrase`].
pub fn passphrase(settings: &Settings) -> Result<String, Failure> {
    let file: Option<PathBuf> = settings.parse("passphrase_file")?;
    read_passphrase(file.as_deref(), crate::run::environment)
}

/// Opens the configured identity.
///
/// # Errors
/// See [`open_identity`].
pub fn unlock(settings: &Settings) -> Result<SecretKey, Failure> {
    let state: PathBuf = settings.need("state_dir")?;
    let named: Option<Address> = settings.parse("identity")?;
    open_identity(&keystore(&state), named, &passphrase(settings)?)
}

/// Runs an identity command.
///
/// # Errors
/// What the keystore says.
pub fn run_identity(
    command: IdentityCommand,
    settings: &Settings,
    output: Output,
) -> Result<(), Failure> {
    let state: PathBuf = settings.need("state_dir")?;
    let directory = keystore(&state);
    match command {
        IdentityCommand::New => {
            let key = new_key()?;
            let made = create_identity(&directory, &key, &passphrase(settings)?, kdf(settings)?)?;
            output.show(
                &Shown {
                    address: made.address,
                    path: made.path,
                },
                |shown| format!("{} (keystore file {})", shown.address, shown.path.display()),
            );
        }
        IdentityCommand::List => {
            let found = list_identities(&directory)?;
            let shown: Vec<_> = found
                .into_iter()
                .map(|i| Shown {
                    address: i.address,
                    path: i.path,
                })
                .collect();
            output.show(&shown, |all| match all.as_slice() {
                [] => "no identity yet; make one with `identity new`".into(),
                all => all
                    .iter()
                    .map(|i| i.address.to_string())
                    .collect::<Vec<_>>()
                    .join("\n"),
            });
        }
        IdentityCommand::Import {
            file,
            its_passphrase,
        } => {
            let text = std::fs::read_to_string(&file)
                .map_err(|error| format!("cannot read {}: {error}", file.display()))
                .or_fail(Kind::Storage, "check the file's name")?;
            let ours = passphrase(settings)?;
            let theirs = match its_passphrase {
                Some(file) => read_passphrase(Some(&file), |_| None)?,
                None => ours.clone(),
            };
            let key = open_keystore(&text, &theirs)
                .map_err(|error| format!("{}: {error}", file.display()))
                .or_fail(
                    Kind::Storage,
                    "name a Web3 keystore file (version 3); if its passphrase differs from ours, give --its-passphrase FILE",
                )?;
            let made = create_identity(&directory, &key, &ours, kdf(settings)?)?;
            output.show(
                &Shown {
                    address: made.address,
                    path: made.path,
                },
                |shown| shown.address.to_string(),
            );
        }
        IdentityCommand::Export { file, identity } => {
            if file.exists() {
                return Err(Failure::new(
                    Kind::Busy,
                    format!("{} is already there", file.display()),
                )
                .next("choose another name; nothing was written"));
            }
            let passphrase = passphrase(settings)?;
            let key = open_identity(&directory, identity, &passphrase)?;
            let salt = KeystoreSalt {
                salt: chance()?,
                iv: chance()?,
                id: chance()?,
            };
            let text = seal_keystore(&key, &passphrase, Kdf::Standard, &salt)
                .or_fail(Kind::Storage, "choose another passphrase")?;
            write_secret(&file, text.as_bytes())?;
            output.show(
                &Shown {
                    address: key.address(),
                    path: file,
                },
                |shown| shown.path.display().to_string(),
            );
        }
    }
    Ok(())
}

/// Cheap key derivation only where throw-away keys were asked for.
fn kdf(settings: &Settings) -> Result<Kdf, Failure> {
    let cheap: bool = settings.parse("dev_keys")?.unwrap_or(false);
    Ok(if cheap {
        Kdf::Development
    } else {
        Kdf::Standard
    })
}

fn new_key() -> Result<SecretKey, Failure> {
    // One draw in 2^127 is not a key.
    loop {
        if let Ok(key) = SecretKey::from_bytes(chance()?) {
            return Ok(key);
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    key: &'a str,
    value: Option<&'a str>,
    origin: Option<String>,
    help: &'a str,
}

impl<'a> From<&'a Row> for Line<'a> {
    fn from(row: &'a Row) -> Self {
        let Row {
            key,
            value,
            origin,
            help,
        } = row;
        Self {
            key,
            value: value.as_deref(),
            origin: origin.as_ref().map(ToString::to_string),
            help,
        }
    }
}

/// `config show`: every key, its value, where the value came from.
pub fn show_settings(settings: &Settings, origin: bool, output: Output) {
    let rows = settings.rows();
    let lines: Vec<_> = rows.iter().map(Line::from).collect();
    output.show(&lines, |lines| {
        let text = |line: &Line<'_>| {
            let value = line
                .value
                .map_or_else(|| "(not set)".to_owned(), |value| format!("{value:?}"));
            match (&line.origin, origin) {
                (Some(from), true) => {
                    format!("{:<18} = {value:<32} # {from}; {}", line.key, line.help)
                }
                _ => format!("{:<18} = {value:<32} # {}", line.key, line.help),
            }
        };
        lines.iter().map(text).collect::<Vec<_>>().join("\n")
    });
}
