//! The ways back: one value per change that this crate can make, and how it is reversed.
//!
//! Refuses to hold command lines: an undo record is typed, so that a damaged journal can at worst remove
//! something of ours. Every undo may be repeated and finds it fine when its object is already gone.

use serde::{Deserialize, Serialize};

use crate::command::{ip, nft};
use crate::{HostError, sysctl};

/// An address family of `ip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// The switch of `ip`.
    pub(crate) fn switch(self) -> &'static str {
        match self {
            Self::V4 => "-4",
            Self::V6 => "-6",
        }
    }
}

/// A policy routing rule of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PolicyRule {
    /// Everything without our firewall mark is looked up in our table.
    UnmarkedTo {
        table: u32,
        mark: u32,
        priority: u32,
    },
    /// The main table answers first, but never with its default route.
    MainWithoutDefault { priority: u32 },
}

/// A route in a table of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TableRoute {
    /// Default by an interface.
    DefaultVia { interface: String, table: u32 },
    /// Default that fails, behind every other route of the table.
    DefaultUnreachable { table: u32 },
}

/// The largest metric: any route of the tunnel beats it.
const LAST_METRIC: &str = "4294967294";

/// How one change is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Undo {
    /// Delete the table `inet <name>`.
    Table { name: String },
    /// Delete a policy rule.
    Rule { family: Family, rule: PolicyRule },
    /// Delete a route.
    Route { family: Family, route: TableRoute },
    /// Put a kernel setting back, unless somebody else changed it since.
    Setting {
        key: String,
        /// What we wrote.
        set: String,
        /// What was there.
        previous: String,
        /// Settings that the kernel changes along with `key`, and what they were.
        also: Vec<(String, String)>,
    },
}

impl Undo {
    /// For people: what it is that would be undone.
    pub(crate) fn what(&self) -> String {
        match self {
            Self::Table { name } => format!("the nftables table `inet {name}`"),
            Self::Rule { family, rule } => {
                format!("the rule `ip {} rule {}`", family.switch(), rule.words())
            }
            Self::Route { family, route } => {
                format!("the route `ip {} route {}`", family.switch(), route.words())
            }
            Self::Setting { key, .. } => format!("the kernel setting {key}"),
        }
    }

    /// Takes the change back.
    pub(crate) fn execute(&self) -> Result<(), HostError> {
        match self {
            // Adding first makes the deletion succeed whether or not the table is there, in one transaction.
            Self::Table { name } => nft(&format!("table inet {name}\ndelete table inet {name}\n")),
            Self::Rule { family, rule } => RoutingStep::Rule(rule.clone()).delete(*family),
            Self::Route { family, route } => RoutingStep::Route(route.clone()).delete(*family),
            Self::Setting {
                key,
                set,
                previous,
                also,
            } => restore(key, set, previous, also),
        }
    }
}

impl PolicyRule {
    fn words(&self) -> String {
        match self {
            Self::UnmarkedTo {
                table,
                mark,
                priority,
            } => {
                format!("not from all fwmark {mark:#x} lookup {table} priority {priority}")
            }
            Self::MainWithoutDefault { priority } => {
                format!("from all lookup main suppress_prefixlength 0 priority {priority}")
            }
        }
    }
}

impl TableRoute {
    fn words(&self) -> String {
        match self {
            Self::DefaultVia { interface, table } => {
                format!("default dev {interface} table {table}")
            }
            Self::DefaultUnreachable { table } => {
                format!("unreachable default metric {LAST_METRIC} table {table}")
            }
        }
    }
}

/// One step on the way of a family's packets into the tunnel.
#[derive(Debug, Clone)]
pub(crate) enum RoutingStep {
    Rule(PolicyRule),
    Route(TableRoute),
}

impl RoutingStep {
    /// What `ip` is told, without the family; `verb`: `add` or `del`.
    pub(crate) fn line(&self, verb: &str) -> String {
        match self {
            Self::Rule(rule) => format!("rule {verb} {}", rule.words()),
            Self::Route(route) => format!("route {verb} {}", route.words()),
        }
    }

    pub(crate) fn undo(&self, family: Family) -> Undo {
        match self.clone() {
            Self::Rule(rule) => Undo::Rule { family, rule },
            Self::Route(route) => Undo::Route { family, route },
        }
    }

    fn delete(&self, family: Family) -> Result<(), HostError> {
        let line = self.line("del");
        let args: Vec<&str> = std::iter::once(family.switch())
            .chain(line.split(' '))
            .collect();
        already_gone(ip(&args))
    }
}

/// Turns "it is not there" into success: the answers of `ip` for ENOENT, ESRCH, ENODEV and a missing table.
fn already_gone(result: Result<(), HostError>) -> Result<(), HostError> {
    const GONE: [&str; 4] = [
        "No such file or directory",
        "No such process",
        "Cannot find device",
        "FIB table does not exist",
    ];
    match result {
        Err(HostError::CommandFailed { stderr, .. })
            if GONE.iter().any(|text| stderr.contains(text)) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn restore(
    key: &str,
    set: &str,
    previous: &str,
    also: &[(String, String)],
) -> Result<(), HostError> {
    // Gone with its interface, or changed by somebody since: then it is theirs and not ours to touch.
    if sysctl::read(key)?.as_deref() != Some(set) {
        return Ok(());
    }
    sysctl::write(key, previous)?;
    for (key, value) in also {
        let now = sysctl::read(key)?;
        if now.is_some() && now.as_deref() != Some(value) {
            sysctl::write(key, value)?;
        }
    }
    Ok(())
}
