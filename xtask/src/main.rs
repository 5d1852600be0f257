//! `cargo xtask`: which subcommand was asked for, and which exit code each ending gets.
//! It refuses to do any work itself; every subcommand is a module of the library beside it.

use std::process::ExitCode;

use workshop::cli::{self, Asked, Outcome};
use workshop::commands::COMMANDS;
use workshop::{interrupt, progress};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (command, given) = match cli::parse(COMMANDS, &words) {
        Ok(Asked::Run(command, given)) => (command, given),
        Ok(Asked::Help(text)) => {
            progress::out(&text);
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            progress::say(&format!("error: {mistake}"));
            return ExitCode::from(2);
        }
    };
    let ending = interrupt::watch().and_then(|()| (command.run)(&given));
    match ending {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Err(error) if error.is::<interrupt::Interrupted>() => {
            progress::say("interrupted; everything that was started is ended");
            ExitCode::from(130)
        }
        Err(error) => {
            progress::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
