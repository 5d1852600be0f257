//! Words on the command line, read against a table. It refuses to guess: an unknown subcommand,
//! flag or a missing value is an error that names the valid ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How a subcommand that ran to its end came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every check held.
    Passed,
    /// At least one did not; what and why has been printed.
    Failed,
}

impl Outcome {
    /// `Passed` when `held`.
    pub fn from_held(held: bool) -> Self {
        if held { Self::Passed } else { Self::Failed }
    }
}

/// A flag of one subcommand.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// As typed, dashes included.
    pub name: &'static str,
    /// The name of its value in the help, for a flag that takes one.
    pub value: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}

/// A subcommand: one row of the table in `main.rs`.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// As typed.
    pub name: &'static str,
    /// One line of help; empty for a subcommand that only the workshop itself calls, which help
    /// does not tell.
    pub summary: &'static str,
    /// What the words after the flags are called, where they are accepted.
    pub rest: Option<&'static str>,
    /// Its flags.
    pub flags: &'static [Flag],
    /// Does it. An `Err` is a failure of the run itself, not of a check.
    pub run: fn(&Given) -> anyhow::Result<Outcome>,
}

/// The flags and words that were given to a subcommand.
#[derive(Clone, Debug, Default)]
pub struct Given {
    flags: BTreeMap<&'static str, Vec<String>>,
    /// The words that are no flags.
    pub rest: Vec<String>,
}

impl Given {
    /// These flags, as if they had been typed.
    pub fn of(flags: &[(&'static str, &str)]) -> Self {
        let mut given = Self::default();
        for (name, value) in flags {
            given.add(name, (*value).to_owned());
        }
        given
    }

    /// Whether `flag` was given.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains_key(flag)
    }

    /// The value of `flag`, if it was given; the last one, if more than once.
    pub fn value(&self, flag: &str) -> Option<&str> {
        self.values(flag).last().map(String::as_str)
    }

    /// Every value of a flag that may be given more than once, in their order.
    pub fn values(&self, flag: &str) -> &[String] {
        self.flags.get(flag).map_or(&[], Vec::as_slice)
    }

    /// The value of `flag` as a number, or `otherwise` when it was not given.
    ///
    /// # Errors
    /// When the value is not a number, naming the flag and the value.
    pub fn number(&self, flag: &str, otherwise: u64) -> anyhow::Result<u64> {
        let Some(text) = self.value(flag) else {
            return Ok(otherwise);
        };
        text.parse()
            .map_err(|_| anyhow::anyhow!("{flag} takes a whole number, not `{text}`"))
    }

    fn add(&mut self, flag: &'static str, value: String) {
        self.flags.entry(flag).or_default().push(value);
    }
}

/// What the words ask for.
#[derive(Debug)]
pub enum Asked {
    /// Print this and stop.
    Help(String),
    /// Run this subcommand.
    Run(Command, Given),
}

/// Reads `words` against the table.
///
/// # Errors
/// A sentence for the person who typed them.
pub fn parse(commands: &[Command], words: &[String]) -> Result<Asked, String> {
    let Some((name, words)) = words.split_first() else {
        return Ok(Asked::Help(overview(commands)));
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        return match words.first() {
            None => Ok(Asked::Help(overview(commands))),
            Some(name) => find(commands, name).map(|command| Asked::Help(usage(&command))),
        };
    }
    let command = find(commands, name)?;
    let mut given = Given::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if matches!(word.as_str(), "--help" | "-h") {
            return Ok(Asked::Help(usage(&command)));
        }
        if word.starts_with('-') {
            let (flag, value) = flag(&command, word, &mut words)?;
            given.add(flag, value);
        } else if command.rest.is_some() {
            given.rest.push(word.clone());
        } else {
            return Err(format!(
                "`{name}` takes no `{word}`; {}",
                valid_flags(&command)
            ));
        }
    }
    Ok(Asked::Run(command, given))
}

fn find(commands: &[Command], name: &str) -> Result<Command, String> {
    let found = commands.iter().find(|command| command.name == name);
    found.copied().ok_or_else(|| {
        let names: Vec<_> = commands.iter().map(|command| command.name).collect();
        format!("no subcommand `{name}`; there are: {}", names.join(", "))
    })
}

/// Accepts `--flag`, `--flag VALUE` and `--flag=VALUE`.
fn flag(
    command: &Command,
    word: &str,
    more: &mut std::slice::Iter<'_, String>,
) -> Result<(&'static str, String), String> {
    let (name, joined) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word, None),
    };
    let Some(flag) = command.flags.iter().find(|flag| flag.name == name) else {
        return Err(format!(
            "`{}` has no flag `{name}`; {}",
            command.name,
            valid_flags(command)
        ));
    };
    match (flag.value, joined) {
        (None, None) => Ok((flag.name, String::new())),
        (None, Some(_)) => Err(format!("{name} takes no value")),
        (Some(_), Some(value)) => Ok((flag.name, value)),
        (Some(what), None) => match more.next() {
            Some(value) => Ok((flag.name, value.clone())),
            None => Err(format!("{name} needs its {what}")),
        },
    }
}

fn valid_flags(command: &Command) -> String {
    if command.flags.is_empty() {
        return "it has no flags".to_owned();
    }
    let names: Vec<_> = command.flags.iter().map(|flag| flag.name).collect();
    format!("its flags are: {}", names.join(", "))
}

fn overview(commands: &[Command]) -> String {
    let mut text = String::from("usage: cargo xtask SUBCOMMAND [FLAGS]\n\n");
    for command in commands
        .iter()
        .filter(|command| !command.summary.is_empty())
    {
        let _ = writeln!(text, "  {:<10} {}", command.name, command.summary);
    }
    text.push_str("\n`cargo xtask help SUBCOMMAND` names its flags.");
    text
}

fn usage(command: &Command) -> String {
    let rest = command.rest.map(|rest| format!(" [{rest}…]"));
    let mut text = format!(
        "usage: cargo xtask {}{}{}\n\n{}",
        command.name,
        if command.flags.is_empty() {
            ""
        } else {
            " [FLAGS]"
        },
        rest.unwrap_or_default(),
        command.summary
    );
    for flag in command.flags {
        let shown = match flag.value {
            Some(value) => format!("{} {value}", flag.name),
            None => flag.name.to_owned(),
        };
        let _ = write!(text, "\n  {shown:<16} {}", flag.help);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Command] = &[Command {
        name: "weigh",
        summary: "weighs",
        rest: None,
        flags: &[
            Flag {
                name: "--json",
                value: Some("FILE"),
                help: "",
            },
            Flag {
                name: "--all",
                value: None,
                help: "",
            },
        ],
        run: |_| Ok(Outcome::Passed),
    }];

    fn ask(line: &str) -> Result<Asked, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(TABLE, &words)
    }

    #[test]
    fn flags_are_read_in_both_spellings() {
        for line in ["weigh --json a.json --all", "weigh --all --json=a.json"] {
            let Ok(Asked::Run(_, given)) = ask(line) else {
                panic!("{line} is valid");
            };
            assert_eq!(given.value("--json"), Some("a.json"));
            assert!(given.has("--all"));
        }
        let Ok(Asked::Run(_, given)) = ask("weigh --json a --json=b") else {
            panic!("a flag may be repeated");
        };
        assert_eq!(given.values("--json"), ["a", "b"]);
        assert_eq!(given.value("--json"), Some("b"));
    }

    #[test]
    fn mistakes_name_what_is_valid() {
        for (line, told) in [
            ("wiegh", "there are: weigh"),
            ("weigh --jsn x", "its flags are: --json, --all"),
            ("weigh --json", "--json needs its FILE"),
            ("weigh --all=1", "--all takes no value"),
            ("weigh it", "takes no `it`"),
        ] {
            let mistake = ask(line).expect_err(line);
            assert!(mistake.contains(told), "{line}: {mistake}");
        }
    }

    #[test]
    fn no_words_and_help_teach() {
        for line in ["", "help", "help weigh", "weigh --help"] {
            assert!(matches!(ask(line), Ok(Asked::Help(text)) if text.contains("weigh")));
        }
    }

    #[test]
    fn numbers_are_parsed_or_named() {
        let mut given = Given::default();
        assert_eq!(given.number("--rounds", 7).unwrap(), 7);
        given.add("--rounds", "12".to_owned());
        assert_eq!(given.number("--rounds", 7).unwrap(), 12);
        given.add("--rounds", "many".to_owned());
        let error = given.number("--rounds", 7).unwrap_err().to_string();
        assert!(error.contains("--rounds") && error.contains("many"));
    }
}
