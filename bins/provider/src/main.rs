//! `wayfare-provider`: sells this computer's internet connection. Parses, builds a provider, runs it, drains it.

mod daemon;
mod relay;
mod settings;
mod show;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use wayfare_cli::{Common, Generate, IdentityCommand};

const EXAMPLES: &str = "\
Examples:
  wayfare-provider identity new
  wayfare-provider doctor
  wayfare-provider run --set advertise=203.0.113.7:51820 --set country=NL
  wayfare-provider run --set relays=NODE@198.51.100.9:51820 --set country=NL     behind a router
  wayfare-provider relay --set advertise=198.51.100.9:51820    carry for those behind routers
  wayfare-provider earnings
  wayfare-provider settle               one transaction cashes everything
  wayfare-provider config show --origin where each setting comes from";

/// Sell your spare internet connection by the second and the megabyte.
#[derive(Debug, Parser)]
#[command(name = "wayfare-provider", version, propagate_version = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Opens the exit, announces it and serves consumers until interrupted.
    Run,
    /// Carries sealed datagrams for peers behind routers, without reading them, until interrupted.
    Relay,
    /// How the running provider stands.
    Status,
    /// The running sessions.
    Sessions,
    /// What was promised and what was settled.
    Earnings,
    /// Cashes everything that was promised, in one transaction.
    Settle,
    /// Takes the last payments and refuses new sessions.
    Drain,
    /// Makes, lists, imports and exports identities.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Checks privileges, chain, Hermes and index, and says what to do.
    Doctor,
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
        Command::Run => daemon::run(&settings, output).await?,
        Command::Relay => relay::run(&settings, output).await?,
        Command::Status => show::status(&settings, output).await?,
        Command::Sessions => show::sessions(&settings, output).await?,
        Command::Earnings => show::earnings(&settings, output).await?,
        Command::Settle => show::settle(&settings, output).await?,
        Command::Drain => show::drain(&settings, output).await?,
        Command::Identity(command) => wayfare_cli::run_identity(command, &settings, output)?,
        Command::Doctor => daemon::doctor(&settings, output).await?,
        Command::Config {
            command: ConfigCommand::Show { origin },
        } => {
            wayfare_cli::show_settings(&settings, origin, output);
        }
        Command::Generate { what } => wayfare_cli::generate(what, Arguments::command())?,
    }
    Ok(())
}
