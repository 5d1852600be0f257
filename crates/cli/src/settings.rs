//! Settings: flag over environment over file over preset, each remembering where it came from.
//!
//! A binary declares its keys once, in a table; a key that is not in the table is an error wherever it appears, with the nearest
//! known key in the message.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{Failure, Kind};

/// One key that a binary knows.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Name in the file; `WAYFARE_` and upper case make the environment's name.
    pub key: &'static str,
    /// The preset's value.
    pub preset: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The command line.
    Flag,
    /// The environment variable of that name.
    Environment(String),
    /// A file.
    File(PathBuf),
    /// Built in.
    Preset,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Preset => f.write_str("preset"),
        }
    }
}

/// One line of `config show`.
#[derive(Debug, Clone)]
pub struct Row {
    /// The key.
    pub key: &'static str,
    /// Its value, where it has one.
    pub value: Option<String>,
    /// Where the value came from.
    pub origin: Option<Origin>,
    /// What it means.
    pub help: &'static str,
}

/// The settings of one run.
#[derive(Debug, Clone)]
pub struct Settings {
    table: &'static [Setting],
    values: BTreeMap<&'static str, (String, Origin)>,
}

impl Settings {
    /// Layers presets, the file, the environment and `key=value` flags.
    ///
    /// # Errors
    /// An unreadable file, a key that is not in the table, a flag that is not `key=value`.
    pub fn load(
        table: &'static [Setting],
        file: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
        flags: &[String],
    ) -> Result<Self, Failure> {
        let mut settings = Self {
            table,
            values: BTreeMap::new(),
        };
        for setting in table {
            if let Some(preset) = setting.preset {
                settings
                    .values
                    .insert(setting.key, (preset.to_owned(), Origin::Preset));
            }
        }
        if let Some(path) = file {
            settings.read_file(path)?;
        }
        for setting in table {
            let name = variable(setting.key);
            if let Some(value) = environment(&name) {
                settings
                    .values
                    .insert(setting.key, (value, Origin::Environment(name)));
            }
        }
        for flag in flags {
            let Some((key, value)) = flag.split_once('=') else {
                return Err(Failure::new(
                    Kind::Usage,
                    format!("--set {flag:?} is not of the form key=value"),
                )
                .next("write it as in --set listen=0.0.0.0:0; `config show` lists every key"));
            };
            let key = settings.known(key, "--set")?;
            settings
                .values
                .insert(key, (value.to_owned(), Origin::Flag));
        }
        Ok(settings)
    }

    /// Overrides one key from a flag of its own.
    pub fn flag(&mut self, key: &'static str, value: Option<String>) {
        if let Some(value) = value {
            self.values.insert(key, (value, Origin::Flag));
        }
    }

    /// The value of a key, if it has one.
    #[must_use]
    pub fn find(&self, key: &'static str) -> Option<&str> {
        self.values
            .get(key)
            .map(|(value, _)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The parsed value of a key, if it has one.
    ///
    /// # Errors
    /// A value that does not parse, with its origin.
    pub fn parse<T>(&self, key: &'static str) -> Result<Option<T>, Failure>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let Some((value, origin)) = self.values.get(key).filter(|(value, _)| !value.is_empty())
        else {
            return Ok(None);
        };
        match value.parse() {
            Ok(parsed) => Ok(Some(parsed)),
            Err(error) => Err(self.unusable(key, value, Some(origin), &error)),
        }
    }

    /// A value that does not parse: which, where it came from, and what belongs there.
    fn unusable(
        &self,
        key: &'static str,
        value: &str,
        origin: Option<&Origin>,
        why: &dyn std::fmt::Display,
    ) -> Failure {
        let from = origin.map_or(String::new(), |origin| format!(" (from {origin})"));
        let failure = Failure::new(Kind::Usage, format!("{key} = {value:?}{from}: {why}"));
        let preset = self.table.iter().find(|setting| setting.key == key);
        failure.next(match preset {
            Some(Setting {
                help,
                preset: Some(preset),
                ..
            }) => format!("expected: {help}; the preset is {preset:?}"),
            Some(Setting { help, .. }) => format!("expected: {help}"),
            None => "`config show --origin` tells where each value comes from".to_owned(),
        })
    }

    /// Refuses environment variables that look like a misspelled key. Others that begin with `WAYFARE_` belong to somebody else:
    /// another of the binaries, a test, a program that embeds a node.
    ///
    /// # Errors
    /// A variable within two letters of a key's.
    pub fn refuse_misspelled<I>(table: &[Setting], variables: I) -> Result<(), Failure>
    where
        I: IntoIterator<Item = String>,
    {
        for name in variables {
            let Some(key) = name.strip_prefix("WAYFARE_").map(str::to_lowercase) else {
                continue;
            };
            if OWN_VARIABLES.contains(&key.as_str()) || table.iter().any(|s| s.key == key) {
                continue;
            }
            let nearest = table
                .iter()
                .map(|setting| (distance(&key, setting.key), setting.key))
                .min();
            if let Some((0..=2, meant)) = nearest {
                return Err(Failure::new(
                    Kind::Usage,
                    format!("unknown setting {key:?} in the environment ({name})"),
                )
                .next(format!(
                    "did you mean {}? otherwise unset {name}",
                    variable(meant)
                )));
            }
        }
        Ok(())
    }

    /// The parsed value of a key that must be there.
    ///
    /// # Errors
    /// A missing value, with the three ways to give it; or one that does not parse.
    pub fn need<T>(&self, key: &'static str) -> Result<T, Failure>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        self.parse(key)?.ok_or_else(|| {
            let help = self
                .table
                .iter()
                .find(|setting| setting.key == key)
                .map_or("", |setting| setting.help);
            Failure::new(Kind::Usage, format!("{key} is not set ({help})")).next(format!(
                "give --set {key}=…, or {}=…, or a line in the configuration file",
                variable(key)
            ))
        })
    }

    /// A comma-separated list; empty when the key has no value.
    ///
    /// # Errors
    /// An element that does not parse.
    pub fn list<T>(&self, key: &'static str) -> Result<Vec<T>, Failure>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let Some(text) = self.find(key) else {
            return Ok(Vec::new());
        };
        let origin = self.values.get(key).map(|(_, origin)| origin);
        let parse = |part: &str| {
            part.trim()
                .parse()
                .map_err(|error| self.unusable(key, part, origin, &error))
        };
        text.split(',')
            .filter(|part| !part.trim().is_empty())
            .map(parse)
            .collect()
    }

    /// Every key with value and origin, in the order of the table.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let row = |setting: &Setting| {
            let (value, origin) = self.values.get(setting.key).cloned().unzip();
            Row {
                key: setting.key,
                value,
                origin,
                help: setting.help,
            }
        };
        self.table.iter().map(row).collect()
    }

    fn read_file(&mut self, path: &Path) -> Result<(), Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(
                Kind::Storage,
                format!(
                    "cannot read the configuration file {}: {error}",
                    path.display()
                ),
            )
            .next("check --config (or WAYFARE_CONFIG), and that you may read the file")
        })?;
        let parsed: toml::Table = text.parse().map_err(|error| {
            Failure::new(
                Kind::Usage,
                format!("{} is not TOML: {error}", path.display()),
            )
            .next("write one key a line, as in: listen = \"0.0.0.0:0\"; `config show` lists every key")
        })?;
        for (key, value) in parsed {
            let known = self.known(&key, &path.display().to_string())?;
            let value = plain(&key, &value, path)?;
            self.values
                .insert(known, (value, Origin::File(path.to_owned())));
        }
        Ok(())
    }

    fn known(&self, key: &str, place: &str) -> Result<&'static str, Failure> {
        if let Some(setting) = self.table.iter().find(|setting| setting.key == key) {
            return Ok(setting.key);
        }
        let nearest = self
            .table
            .iter()
            .min_by_key(|setting| distance(key, setting.key));
        let failure = Failure::new(Kind::Usage, format!("unknown setting {key:?} in {place}"));
        Err(match nearest {
            Some(setting) => failure.next(format!(
                "did you mean {:?}? `config show` lists every key",
                setting.key
            )),
            None => failure,
        })
    }
}

fn plain(key: &str, value: &toml::Value, path: &Path) -> Result<String, Failure> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(flag) => Ok(flag.to_string()),
        toml::Value::Array(items) => {
            let parts: Result<Vec<_>, _> =
                items.iter().map(|item| plain(key, item, path)).collect();
            Ok(parts?.join(","))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => {
            Err(Failure::new(
                Kind::Usage,
                format!(
                    "{key} in {}: a text, an integer, true, false or a list of them is expected",
                    path.display()
                ),
            )
            .next("put large amounts in quotes; `config show` shows each key with a value"))
        }
    }
}

fn variable(key: &str) -> String {
    format!("WAYFARE_{}", key.to_uppercase())
}

/// Edit distance, for "did you mean"; both words are short.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate().take(64) {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Variables of the command line itself, which are no settings.
const OWN_VARIABLES: &[&str] = &["config", "log", "passphrase"];

#[cfg(test)]
mod tests;
