//! Shell completions and man pages, made from the argument parser itself.

use std::io::Write;

use clap::{Command, ValueEnum};

use crate::{Failure, Kind, Next};

/// What can be generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Generate {
    /// Completions for bash.
    Bash,
    /// Completions for zsh.
    Zsh,
    /// Completions for fish.
    Fish,
    /// A man page in roff.
    Man,
}

/// Writes completions or the man page of `command` to standard output.
///
/// # Errors
/// Standard output is closed.
pub fn generate(what: Generate, mut command: Command) -> Result<(), Failure> {
    use clap_complete::shells::{Bash, Fish, Zsh};
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    match what {
        Generate::Bash => clap_complete::generate(Bash, &mut command, name, &mut text),
        Generate::Zsh => clap_complete::generate(Zsh, &mut command, name, &mut text),
        Generate::Fish => clap_complete::generate(Fish, &mut command, name, &mut text),
        Generate::Man => clap_mangen::Man::new(command)
            .render(&mut text)
            .or_fail(Kind::Other, "")?,
    }
    std::io::stdout()
        .lock()
        .write_all(&text)
        .or_fail(Kind::Other, "")
}
