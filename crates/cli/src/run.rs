//! The frame around a binary's main function: flags that all share, logs, the runtime, the exit code.

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::{Failure, Kind, Output, Setting, Settings};

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Configuration file (TOML, the keys of `config show`).
    #[arg(long, global = true, value_name = "FILE", env = "WAYFARE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Overrides one setting; may be repeated.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Results as JSON, one document a line.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to log, for example `info` or `wayfare_node=debug` (goes to standard error).
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "WAYFARE_LOG",
        default_value = "info"
    )]
    pub log: String,
}

impl Common {
    /// Where results go.
    #[must_use]
    pub fn output(&self) -> Output {
        Output { json: self.json }
    }

    /// The layered settings.
    ///
    /// # Errors
    /// See [`Settings::load`].
    pub fn settings(&self, table: &'static [Setting]) -> Result<Settings, Failure> {
        let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Settings::refuse_misspelled(table, variables)?;
        Settings::load(table, self.config.as_deref(), environment, &self.set)
    }
}

/// Runs a command: logs, runtime, exit code. Failures go to standard error, as JSON when asked.
pub fn main<F: Future<Output = anyhow::Result<()>>>(common: &Common, command: F) -> ExitCode {
    if let Err(failure) = start_logs(common) {
        return report(common.json, &failure.into());
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return report(
                common.json,
                &anyhow::Error::new(error).context("cannot start the runtime"),
            );
        }
    };
    let result = runtime.block_on(command);
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(common.json, &error),
    }
}

/// The command line as the binary describes it. `Err` is the exit code of one that is not understood, or that asked for help; it
/// has been told, as JSON when that was asked for.
///
/// # Errors
/// The exit code with which to end.
pub fn parse<T: clap::Parser>() -> Result<T, ExitCode> {
    let error = match T::try_parse() {
        Ok(arguments) => return Ok(arguments),
        Err(error) => error,
    };
    let json = std::env::args_os().any(|argument| argument == "--json");
    if !error.use_stderr() || !json {
        // A reader that went away (a closed pipe) is no failure of ours.
        let _ = error.print();
        return Err(ExitCode::from(if error.use_stderr() {
            Kind::Usage as u8
        } else {
            0
        }));
    }
    let text = error.render().to_string();
    let (cause, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let cause = cause.trim_start_matches("error: ").trim();
    let next = match rest.trim() {
        "" => "--help shows every command and flag",
        rest => rest,
    };
    Err(report(
        true,
        &Failure::new(Kind::Usage, cause).next(next).into(),
    ))
}

fn report(json: bool, error: &anyhow::Error) -> ExitCode {
    let failure = error.downcast_ref::<Failure>();
    let kind = failure.map_or(Kind::Other, |failure| failure.kind);
    let next = failure.and_then(|failure| failure.next.as_deref());
    if json {
        let cause = failure.map_or_else(|| format!("{error:#}"), |failure| failure.cause.clone());
        eprintln!(
            "{}",
            serde_json::json!({"error": cause, "kind": kind.word(), "next": next})
        );
    } else {
        eprintln!("error: {error:#}");
    }
    ExitCode::from(kind as u8)
}

/// Libraries that speak of their own matters; named in `--log` they are heard.
const QUIET: &str = "libp2p_swarm=warn,libp2p_kad=error";

fn start_logs(common: &Common) -> Result<(), Failure> {
    let filter = format!("{QUIET},{}", common.log);
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|error| {
        Failure::new(
            Kind::Usage,
            format!("--log {:?} is no filter: {error}", common.log),
        )
        .next(
            "write a level (error, warn, info, debug, trace), or module=level, separated by commas",
        )
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second subscriber in one process is a test's; the first one stays.
    let _ = if common.json {
        logs.json().try_init()
    } else {
        logs.with_target(false).compact().try_init()
    };
    Ok(())
}

/// Resolves at the first SIGINT or SIGTERM from this call on; a second one kills at once. To be called before a daemon says that it
/// runs: whoever has read that may ask it to stop.
pub fn terminated() -> impl Future<Output = ()> + Send + 'static {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            eprintln!("stopped at once, as asked twice");
            std::process::exit(130);
        });
    }
}

/// The one look into the environment that settings and passphrases share.
#[allow(
    clippy::disallowed_methods,
    reason = "the environment is one of the layers of the settings"
)]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
