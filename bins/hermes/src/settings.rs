//! The Hermes' settings, and what they describe.

use std::path::PathBuf;
use std::sync::Arc;

use wayfare_cli::{Failure, Kind, Setting, Settings};
use wayfare_hermes::{Endpoint, HermesConfig, Site, StartError};
use wayfare_identity::{LocalSigner, Signer};
use wayfare_payment::{ChainError, IssuerConfig, LedgerError};

/// Every key that `wayfare-hermes` knows. Amounts are in smallest units of a token with 18 decimals.
pub(crate) const TABLE: &[Setting] = &[
    Setting {
        key: "state_dir",
        preset: Some("/var/lib/wayfare/hermes"),
        help: "directory of keys, ledger, socket",
    },
    Setting {
        key: "passphrase_file",
        preset: None,
        help: "file whose first line is the keystore's passphrase",
    },
    Setting {
        key: "identity",
        preset: None,
        help: "address of owner and operator, where there are several",
    },
    Setting {
        key: "dev_keys",
        preset: Some("false"),
        help: "cheap passphrase hashing, for throw-away keys only",
    },
    Setting {
        key: "rpc",
        preset: Some("http://127.0.0.1:8545"),
        help: "JSON-RPC server of the chain",
    },
    Setting {
        key: "chain_id",
        preset: Some("31337"),
        help: "EIP-155 id of the chain",
    },
    Setting {
        key: "vault",
        preset: None,
        help: "address of the vault contract",
    },
    Setting {
        key: "hermes",
        preset: None,
        help: "id of this Hermes, as `init` printed it",
    },
    Setting {
        key: "listen",
        preset: Some("[::]:7400"),
        help: "address of the public service",
    },
    Setting {
        key: "index_listen",
        preset: Some("[::]:7401"),
        help: "address of the proposal index",
    },
    Setting {
        key: "fee_basis_points",
        preset: Some("0"),
        help: "share of each settlement in 1/10,000, fixed for ever by `init`",
    },
    Setting {
        key: "collect_threshold",
        preset: Some("1000000000000000000"),
        help: "collect from a consumer when it owes this much (1 token)",
    },
    Setting {
        key: "locked_cap",
        preset: Some("1000000000000000000"),
        help: "most that one consumer may have locked (1 token)",
    },
];

/// The configured Hermes.
pub(crate) fn config(settings: &Settings) -> Result<HermesConfig, Failure> {
    let issuer = IssuerConfig {
        hermes: settings.need("hermes")?,
        chain_id: settings.need("chain_id")?,
        vault: settings.need("vault")?,
        locked_cap: settings.need("locked_cap")?,
    };
    let mut config = HermesConfig::new(issuer);
    config.collect_threshold = settings.need("collect_threshold")?;
    Ok(config)
}

/// Ledger and chain.
pub(crate) fn site(settings: &Settings) -> Result<Site, Failure> {
    Ok(Site {
        ledger: settings.need::<PathBuf>("state_dir")?.join("ledger"),
        chain: Endpoint::new(settings.need::<String>("rpc")?, settings.need("chain_id")?),
        vault: settings.need("vault")?,
    })
}

/// The operator's key.
pub(crate) fn operator(settings: &Settings) -> Result<Arc<dyn Signer>, Failure> {
    Ok(Arc::new(LocalSigner::new(wayfare_cli::unlock(settings)?)))
}

/// Where the daemon listens for the command line.
pub(crate) fn socket(settings: &Settings) -> Result<PathBuf, Failure> {
    Ok(settings.need::<PathBuf>("state_dir")?.join("control.sock"))
}

/// An error of the start as the command line tells it.
pub(crate) fn failure(error: StartError) -> Failure {
    let kind = match &error {
        StartError::Ledger(LedgerError::Busy(_)) => Kind::Busy,
        StartError::Ledger(_) | StartError::Record(_) => Kind::Storage,
        StartError::Chain(
            ChainError::Unreachable(_)
            | ChainError::Contradiction(_)
            | ChainError::Waiting(_)
            | ChainError::Pending(_),
        ) => Kind::Unreachable,
        StartError::Chain(ChainError::NoGas { .. }) => Kind::Money,
        StartError::Chain(ChainError::Refused(_)) => Kind::Refused,
        StartError::Chain(_) | StartError::WrongOperator { .. } => Kind::Usage,
        StartError::Listener(_) => Kind::Busy,
    };
    Failure::new(kind, &error).next(next_step(&error))
}

fn next_step(error: &StartError) -> String {
    match error {
        StartError::Ledger(error) => after_ledger(error).into(),
        StartError::Record(_) => {
            "`wayfare-hermes check` tells what is wrong; it may be another Hermes' ledger".into()
        }
        StartError::Chain(error) => match error {
            ChainError::Unreachable(_) => "set `rpc` to a JSON-RPC server that runs".into(),
            ChainError::WrongChain { .. } => "set `rpc` and `chain_id` to the same chain".into(),
            ChainError::NoContract(_) => "set `vault` to the vault's address on that chain".into(),
            ChainError::UnknownHermes(_) => "register it with `wayfare-hermes init`".into(),
            ChainError::NoGas { account } => {
                format!("send native coin to {account}, then do the same again")
            }
            ChainError::Refused(_) => {
                "nothing was moved; mend the reason, then do the same again".into()
            }
            ChainError::Contradiction(_) => {
                "take the server that lies or lags out of `rpc`, or name another".into()
            }
            ChainError::Waiting(_) => {
                "look again later: it is sent when the reason has passed".into()
            }
            ChainError::Pending(_) => "look again later: it may still be mined".into(),
        },
        StartError::WrongOperator { registered, .. } => format!("set `identity` to {registered}"),
        StartError::Listener(_) => {
            "set `listen` to an address of this computer and a free port".into()
        }
    }
}

/// What to do about a ledger.
pub(crate) fn after_ledger(error: &LedgerError) -> &'static str {
    match error {
        LedgerError::Busy(_) => "stop the other process, or give this one its own `state_dir`",
        LedgerError::Corrupt(_) => {
            "keep the directory, move it away, then `wayfare-hermes restore` the newest backup"
        }
        LedgerError::Newer { .. } => "nothing was changed: start the release that wrote it",
        LedgerError::Failed(_) => "check the disk's room and the permissions of `state_dir`",
        LedgerError::Conflict { .. } => "start again: the ledger is read afresh",
    }
}
