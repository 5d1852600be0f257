//! What a run leaves on the machine: namespaces, processes, firewall rules, routes. Measured as
//! the difference between two looks, as a machine has rules and routes of its own. It refuses to
//! count what others brought: only names of the lab or the product, and the plain routing of the
//! machine's own interfaces.

use std::collections::BTreeSet;
use std::fmt;

use super::{MARK, Namespace, sweep};
use crate::need;
use crate::process::{SHORT, command, output};

/// Interfaces of the product and the lab begin with one of these.
const OURS: &[&str] = &["wayfare", "wf"];

/// The product's programs.
const PROGRAMS: &[&str] = &[
    "wayfare",
    "wayfare-provider",
    "wayfare-hermes",
    "wayfare-devchain",
];

/// The machine at one moment, outside all namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    namespaces: BTreeSet<String>,
    /// `pid name` of the product's programs.
    programs: BTreeSet<String>,
    rules: BTreeSet<String>,
    routes: BTreeSet<String>,
    interfaces: BTreeSet<String>,
}

/// What is there that was not there before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Namespaces of the lab.
    pub namespaces: Vec<String>,
    /// Processes of the lab, and programs of the product that were not running before.
    pub processes: Vec<String>,
    /// Lines of the rule set.
    pub rules: Vec<String>,
    /// Routes, policy rules and interfaces.
    pub routes: Vec<String>,
}

impl Leftovers {
    /// How many things were left behind.
    pub fn count(&self) -> usize {
        self.namespaces.len() + self.processes.len() + self.rules.len() + self.routes.len()
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count() == 0 {
            return f.write_str("nothing");
        }
        let all = [&self.namespaces, &self.processes, &self.rules, &self.routes];
        let all: Vec<&str> = all.into_iter().flatten().map(String::as_str).collect();
        f.write_str(&all.join("; "))
    }
}

impl Snapshot {
    /// Looks at the machine.
    ///
    /// # Errors
    /// When `ip` or, where it is installed, `nft` does not answer.
    pub fn take() -> anyhow::Result<Self> {
        let mut snapshot = Self::network(&|words| {
            let (program, args) = words.split_first().expect("called with a program below");
            output(&mut command(program, args), SHORT)
        })?;
        snapshot.namespaces = sweep::namespaces()?.into_iter().collect();
        snapshot.programs = programs();
        Ok(snapshot)
    }

    /// Looks at the routes, rules and interfaces of one namespace of a lab.
    ///
    /// # Errors
    /// As [`Snapshot::take`].
    pub fn inside(namespace: &Namespace) -> anyhow::Result<Self> {
        Self::network(&|words| {
            let (program, args) = words.split_first().expect("called with a program below");
            namespace.output(program, args)
        })
    }

    /// What this look at a namespace has that `before` had not.
    pub fn since(&self, before: &Self) -> Leftovers {
        self.difference(before, "")
    }

    fn network(ask: &dyn Fn(&[&str]) -> anyhow::Result<String>) -> anyhow::Result<Self> {
        let mut routes = BTreeSet::new();
        for family in ["-4", "-6"] {
            let listed = ask(&["ip", family, "route", "show", "table", "all"])?;
            routes.extend(steady(&listed));
            routes.extend(steady(&ask(&["ip", family, "rule", "show"])?));
        }
        let rules = if need::program("nft").is_some() {
            qualified(&ask(&["nft", "--stateless", "list", "ruleset"])?)
        } else {
            BTreeSet::new()
        };
        Ok(Self {
            rules,
            routes,
            interfaces: interfaces(&ask(&["ip", "-o", "link", "show"])?),
            ..Self::default()
        })
    }

    /// What this look has that `before` had not, of the lab `lab` and of the product.
    ///
    /// # Errors
    /// When the lab's processes cannot be listed.
    pub fn left_behind(&self, before: &Self, lab: &str) -> anyhow::Result<Leftovers> {
        let processes = sweep::processes(lab)?;
        let mut left = self.difference(before, lab);
        left.processes
            .extend(processes.iter().map(|pid| format!("process {pid}")));
        Ok(left)
    }

    fn difference(&self, before: &Self, lab: &str) -> Leftovers {
        let prefix = format!("{lab}-");
        let new = |now: &BTreeSet<String>, then: &BTreeSet<String>| -> Vec<String> {
            now.difference(then).cloned().collect()
        };
        let mut namespaces = new(&self.namespaces, &before.namespaces);
        namespaces.retain(|name| name.starts_with(&prefix));
        let arrived = new(&self.interfaces, &before.interfaces);
        let (mine, foreign): (Vec<String>, Vec<String>) =
            arrived.into_iter().partition(|name| is_ours(name));
        let mut routes = new(&self.routes, &before.routes);
        routes.retain(|route| !foreign.iter().any(|name| mentions(route, name)));
        routes.extend(mine.iter().map(|name| format!("interface {name}")));
        Leftovers {
            namespaces,
            processes: new(&self.programs, &before.programs),
            rules: new(&self.rules, &before.rules),
            routes,
        }
    }
}

fn is_ours(name: &str) -> bool {
    OURS.iter().any(|prefix| name.starts_with(prefix))
}

fn mentions(line: &str, word: &str) -> bool {
    line.split_whitespace().any(|part| part == word)
}

/// Lines without what counts down by itself.
fn steady(listed: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in listed.lines() {
        let mut words = Vec::new();
        let mut parts = line.split_whitespace();
        while let Some(word) = parts.next() {
            if matches!(word, "expires" | "age" | "users" | "used") {
                parts.next();
            } else {
                words.push(word);
            }
        }
        lines.push(words.join(" "));
    }
    lines
}

/// The lines of a rule set, each with the table and chain that hold it, so that equal lines in
/// two tables are two.
fn qualified(listed: &str) -> BTreeSet<String> {
    let mut path: Vec<&str> = Vec::new();
    let mut rules = BTreeSet::new();
    for line in listed
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        if line == "}" {
            path.pop();
            continue;
        }
        let opened = line.strip_suffix('{').map(str::trim);
        let shown = opened.unwrap_or(line);
        let mut whole = path.clone();
        whole.push(shown);
        rules.insert(whole.join(" / "));
        if opened.is_some() {
            path.push(shown);
        }
    }
    rules
}

/// `2: eth0@if3: <…>` → `eth0`.
fn interfaces(listed: &str) -> BTreeSet<String> {
    let names = listed
        .lines()
        .filter_map(|line| line.split(": ").nth(1)?.split('@').next());
    names.map(str::to_owned).collect()
}

/// Running programs of the product that no lab has marked as its own: a lab's are found by their
/// mark, and another lab's are not ours to judge. Named by their executable: any process may call
/// itself anything.
fn programs() -> BTreeSet<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let program = std::fs::read_link(entry.path().join("exe")).ok()?;
        let name = program.file_name()?.to_string_lossy().into_owned();
        let name = name.trim_end_matches(" (deleted)");
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        let marked = variables.any(|one| one.starts_with(format!("{MARK}=").as_bytes()));
        (PROGRAMS.contains(&name) && !marked).then(|| format!("{name} ({pid})"))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn quiet() -> Snapshot {
        Snapshot {
            routes: set(&["default via 10.0.0.1 dev eth0"]),
            interfaces: set(&["lo", "eth0"]),
            ..Snapshot::default()
        }
    }

    #[test]
    fn an_unchanged_machine_has_nothing_left() {
        assert_eq!(quiet().difference(&quiet(), "wf1").count(), 0);
    }

    #[test]
    fn each_kind_of_leftover_is_seen() {
        let mut after = quiet();
        after.namespaces = set(&["wf1-web", "wf12-web", "other"]);
        after.programs = set(&["wayfare (7)"]);
        after.rules = set(&["table inet wayfare"]);
        after
            .routes
            .insert("10.9.0.1 via 10.0.0.1 dev eth0".to_owned());
        after.interfaces.insert("wayfare0".to_owned());
        let left = after.difference(&quiet(), "wf1");
        assert_eq!(left.namespaces, ["wf1-web"], "and not another lab's");
        assert_eq!(
            (left.processes.len(), left.rules.len(), left.routes.len()),
            (1, 1, 2)
        );
        assert_eq!(left.count(), 5);
        assert!(left.to_string().contains("wayfare0"));
    }

    #[test]
    fn interfaces_of_others_are_not_ours() {
        let mut after = quiet();
        after.interfaces.insert("docker0".to_owned());
        after
            .routes
            .insert("172.17.0.0/16 dev docker0 scope link".to_owned());
        assert_eq!(after.difference(&quiet(), "wf1").count(), 0);
    }

    #[test]
    fn countdowns_are_no_change() {
        let line = |left: u32| format!("fe80::1 dev eth0 expires {left}sec pref medium\n");
        assert_eq!(steady(&line(9)), steady(&line(8)));
        assert_eq!(steady(&line(9)), ["fe80::1 dev eth0 pref medium"]);
    }

    #[test]
    fn rules_are_told_by_their_place() {
        let listed = "table ip a {\n\tchain c {\n\t\taccept\n\t}\n}\ntable ip b {\n\tchain c {\n\t\taccept\n\t}\n}\n";
        let rules = qualified(listed);
        assert_eq!(rules.len(), 6);
        assert!(rules.contains("table ip b / chain c / accept"));
    }

    #[test]
    fn interfaces_lose_their_peers() {
        let listed = "1: lo: <LOOPBACK> x\n2: eth0@if3: <UP> y\n";
        assert_eq!(interfaces(listed), set(&["lo", "eth0"]));
    }
}
