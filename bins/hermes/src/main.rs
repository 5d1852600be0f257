//! `wayfare-hermes`: turns consumers' promises into cheques for providers. Parses, builds a Hermes, runs it, drains it.

mod ledger;
mod run;
mod settings;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use wayfare_cli::{Common, Generate, IdentityCommand};

const EXAMPLES: &str = "\
Examples:
  wayfare-hermes identity new                        owner and operator
  wayfare-hermes init --collateral 1000000000000000000000
  wayfare-hermes run --set vault=0x… --set hermes=0x…
  wayfare-hermes index                               a proposal index
  wayfare-hermes check                               proves the ledger of a Hermes that is stopped
  wayfare-hermes config show --origin                where each setting comes from";

/// Turn many consumers' promises into one cheque per provider, without holding anybody's money.
#[derive(Debug, Parser)]
#[command(name = "wayfare-hermes", version, propagate_version = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Registers the Hermes on the chain and adds collateral.
    Init(run::Init),
    /// Serves providers and consumers until interrupted.
    Run,
    /// Serves a proposal index until interrupted.
    Index,
    /// How the running Hermes stands.
    Status,
    /// Collects on the chain what consumers owe.
    Collect,
    /// Sends new sessions elsewhere; payments go on.
    Drain,
    /// Proves every invariant of the ledger (of a Hermes that is stopped).
    Check {
        /// Sums and links only, without every signature.
        #[arg(long)]
        quick: bool,
    },
    /// Copies the ledger (of a Hermes that is stopped).
    Backup {
        /// Where to.
        to: std::path::PathBuf,
    },
    /// Puts a backup back.
    Restore {
        /// Where from.
        from: std::path::PathBuf,
    },
    /// Makes, lists, imports and exports identities.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Settings.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Shell completions or the man page, on standard output.
    Generate {
        /// What to generate.
        what: Generate,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Every key with its value.
    Show {
        /// Also where each value came from.
        #[arg(long)]
        origin: bool,
    },
}

fn main() -> ExitCode {
    let arguments: Arguments = match wayfare_cli::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let common = arguments.common.clone();
    wayfare_cli::main(&common, run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { common, command } = arguments;
    let settings = common.settings(settings::TABLE)?;
    let output = common.output();
    match command {
        Command::Init(init) => run::init(&init, &settings, output).await?,
        Command::Run => run::hermes(&settings, output).await?,
        Command::Index => run::index(&settings, output).await?,
        Command::Status => run::status(&settings, output).await?,
        Command::Collect => run::collect(&settings, output).await?,
        Command::Drain => run::drain(&settings, output).await?,
        Command::Check { quick } => ledger::check(quick, &settings, output).await?,
        Command::Backup { to } => ledger::backup(&to, &settings, output)?,
        Command::Restore { from } => ledger::restore(&from, &settings, output)?,
        Command::Identity(command) => wayfare_cli::run_identity(command, &settings, output)?,
        Command::Config {
            command: ConfigCommand::Show { origin },
        } => {
            wayfare_cli::show_settings(&settings, origin, output);
        }
        Command::Generate { what } => wayfare_cli::generate(what, Arguments::command())?,
    }
    Ok(())
}
