//! `wayfare`: the consumer's command line. Parses, builds a node, runs it, drains it.

mod account;
mod doctor;
mod settings;
mod show;
mod up;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use wayfare_cli::{Common, Generate, IdentityCommand};

const EXAMPLES: &str = "\
Examples:
  wayfare identity new
  wayfare topup                         where to send tokens
  wayfare proposals --country NL
  wayfare up --country NL               until Ctrl-C, or `wayfare down`
  wayfare exit --finalize               the deposit back, after the vault's delay
  wayfare config show --origin          where each setting comes from";

/// Use the internet through other people's connections, paid by the megabyte.
#[derive(Debug, Parser)]
#[command(name = "wayfare", version, propagate_version = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Connects, and sends this computer's packets through a provider until interrupted.
    Up(up::Up),
    /// Ends the running session after its last payment.
    Down,
    /// How the running session stands.
    Status,
    /// The running session in detail.
    Sessions,
    /// Lists offers that fit.
    Proposals(up::Choice),
    /// Makes, lists, imports and exports identities.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Deposit, promises and what can still be spent.
    Account,
    /// Where to send tokens; with --wait, waits until they have arrived.
    Topup {
        /// Wait until the deposit has grown by this many smallest units.
        #[arg(long, value_name = "AMOUNT")]
        wait: Option<wayfare_node::Amount>,
    },
    /// Asks for the deposit back; --finalize takes it after the vault's delay.
    Exit(account::Exit),
    /// Checks chain, vault, Hermes, index, privileges, and says what to do.
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
        Command::Up(up) => up::run(&up, &settings, output).await?,
        Command::Down => show::down(&settings, output).await?,
        Command::Status => show::status(&settings, output).await?,
        Command::Sessions => show::sessions(&settings, output).await?,
        Command::Proposals(choice) => up::proposals(&choice, &settings, output).await?,
        Command::Identity(command) => wayfare_cli::run_identity(command, &settings, output)?,
        Command::Account => account::show(&settings, output).await?,
        Command::Topup { wait } => account::topup(wait, &settings, output).await?,
        Command::Exit(exit) => account::exit(&exit, &settings, output).await?,
        Command::Doctor => doctor::run(&settings, output).await?,
        Command::Config {
            command: ConfigCommand::Show { origin },
        } => {
            wayfare_cli::show_settings(&settings, origin, output);
        }
        Command::Generate { what } => wayfare_cli::generate(what, Arguments::command())?,
    }
    Ok(())
}
