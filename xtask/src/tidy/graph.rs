//! The dependency graph as cargo sees it, held against the layer table and the bans.
//! It refuses to read manifests for what `cargo metadata` says.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde::Deserialize;

use super::Violation;
use super::table::{
    BANS, BELOW_THE_LINE, BELOW_THE_LINE_DIRECTLY, LAYERS, Row, THINKING, covers, room,
};
use crate::process::{self, SHORT, cargo};

const DEPTH: usize = 7;
const LICENCE: &str = "MIT OR Apache-2.0";

/// How one crate uses another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// At run time, or to build.
    Normal,
    /// In its tests only.
    Test,
}

/// A workspace crate.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    /// Its manifest, relative to the root.
    pub(super) manifest: String,
    /// The manifest's text.
    pub(super) text: String,
    pub(super) licence: Option<String>,
    /// Features other than `default`.
    pub(super) features: Vec<String>,
    /// Names of the crates it declares.
    pub(super) uses: BTreeSet<(Kind, String)>,
    /// Names of all third-party crates that it reaches in normal dependencies.
    pub(super) reaches: BTreeSet<String>,
}

/// The workspace: package name to crate.
#[derive(Clone, Debug, Default)]
pub(super) struct Workspace {
    pub(super) members: BTreeMap<String, Member>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    id: String,
    license: Option<String>,
    manifest_path: String,
    dependencies: Vec<Dependency>,
    features: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDependency>,
}

#[derive(Deserialize)]
struct NodeDependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

impl Workspace {
    /// Asks cargo, for every feature and the machine's own target.
    pub(super) fn load() -> anyhow::Result<(Self, Vec<Violation>)> {
        let ask = |more: &[&str]| {
            let args = ["metadata", "--format-version=1", "--all-features"];
            process::capture(&mut cargo(args.iter().chain(more)), SHORT * 5)
        };
        let mut found = Vec::new();
        let mut said = ask(&["--locked"])?;
        if !said.status.success() && said.stderr.contains("--locked") {
            let message = "it does not match the manifests; run any cargo build and commit it";
            found.push(Violation::new("Cargo.lock", 1, "lock", message.to_owned()));
            said = ask(&[])?;
        }
        let json = said.stdout_if_ok("cargo metadata")?;
        let metadata: Metadata =
            serde_json::from_str(&json).context("cargo metadata says something new")?;
        Ok((Self::read(&metadata)?, found))
    }

    fn read(metadata: &Metadata) -> anyhow::Result<Self> {
        let root = crate::tree::root();
        let names: BTreeMap<&str, &str> = metadata
            .packages
            .iter()
            .map(|package| (package.id.as_str(), package.name.as_str()))
            .collect();
        let mut workspace = Self::default();
        for package in &metadata.packages {
            if !metadata.workspace_members.contains(&package.id) {
                continue;
            }
            let uses = package.dependencies.iter().map(|dependency| {
                let kind = match dependency.kind.as_deref() {
                    Some("dev") => Kind::Test,
                    _ => Kind::Normal,
                };
                (kind, dependency.name.clone())
            });
            let path = std::path::Path::new(&package.manifest_path);
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let manifest = path.strip_prefix(root).unwrap_or(path);
            let features = package.features.keys().filter(|name| *name != "default");
            workspace.members.insert(
                package.name.clone(),
                Member {
                    manifest: manifest.to_string_lossy().into_owned(),
                    text,
                    licence: package.license.clone(),
                    features: features.cloned().collect(),
                    uses: uses.collect(),
                    reaches: reached(&metadata.resolve.nodes, &package.id, &names),
                },
            );
        }
        Ok(workspace)
    }

    fn is_member(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }
}

fn reached(nodes: &[Node], from: &str, names: &BTreeMap<&str, &str>) -> BTreeSet<String> {
    let nodes: BTreeMap<&str, &Node> = nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut seen = BTreeSet::from([from]);
    let mut queue = vec![from];
    while let Some(id) = queue.pop() {
        let deps = nodes.get(id).map_or(&[][..], |node| &node.deps);
        for dependency in deps {
            let normal = dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
            if normal && seen.insert(&dependency.pkg) {
                queue.push(&dependency.pkg);
            }
        }
    }
    seen.remove(from);
    let names = seen.iter().filter_map(|id| names.get(id));
    names.map(|name| (*name).to_owned()).collect()
}

fn row(name: &str) -> Option<&'static Row> {
    LAYERS.iter().find(|row| row.name == room(name))
}

/// Workspace edges against the layer table.
pub(super) fn layers(workspace: &Workspace) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, member) in &workspace.members {
        let mut break_rule = |message| {
            found.push(Violation::new(&member.manifest, 1, "layers", message));
        };
        let Some(row) = row(name) else {
            break_rule(format!("`{name}` has no row in the layer table"));
            continue;
        };
        for (kind, used) in &member.uses {
            if !workspace.is_member(used) {
                continue;
            }
            let target = room(used);
            let normal = row.may_use.contains(&target);
            let allowed = match kind {
                Kind::Normal => normal,
                Kind::Test => normal || row.tests_may_use.contains(&target),
            };
            if !allowed {
                let how = match kind {
                    Kind::Normal => "may not depend on",
                    Kind::Test => "may not depend on, even in tests,",
                };
                break_rule(format!("`{}` {how} `{target}`", row.name));
            }
        }
    }
    found
}

/// The longest chain of workspace crates, and cycles in it.
pub(super) fn depth(workspace: &Workspace) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut known = BTreeMap::new();
    for (name, member) in &workspace.members {
        let mut path = Vec::new();
        match chain_below(workspace, name, &mut path, &mut known) {
            Err(cycle) => {
                let message = format!("a cycle: {}", cycle.join(" → "));
                found.push(Violation::new(&member.manifest, 1, "depth", message));
            }
            Ok(depth) if depth > DEPTH => {
                let message = format!("`{name}` stands on a chain of {depth} crates, not {DEPTH}");
                found.push(Violation::new(&member.manifest, 1, "depth", message));
            }
            Ok(_) => {}
        }
    }
    found
}

/// Crates on the longest chain from `name` down, itself included; or the cycle that was met.
fn chain_below<'a>(
    workspace: &'a Workspace,
    name: &'a str,
    path: &mut Vec<&'a str>,
    known: &mut BTreeMap<&'a str, usize>,
) -> Result<usize, Vec<String>> {
    if let Some(depth) = known.get(name) {
        return Ok(*depth);
    }
    if let Some(at) = path.iter().position(|seen| *seen == name) {
        let cycle = path[at..].iter().chain([&name]);
        return Err(cycle.map(|step| (*step).to_owned()).collect());
    }
    path.push(name);
    let mut deepest = 0;
    if let Some(member) = workspace.members.get(name) {
        for (kind, used) in &member.uses {
            if *kind == Kind::Normal && workspace.is_member(used) {
                deepest = deepest.max(chain_below(workspace, used, path, known)?);
            }
        }
    }
    path.pop();
    known.insert(name, deepest + 1);
    Ok(deepest + 1)
}

/// Third-party crates outside their rooms.
pub(super) fn bans(workspace: &Workspace) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, member) in &workspace.members {
        let room = room(name);
        let mut break_rule = |message| {
            found.push(Violation::new(&member.manifest, 1, "bans", message));
        };
        for (_, used) in member
            .uses
            .iter()
            .filter(|(_, used)| !workspace.is_member(used))
        {
            let ban = BANS.iter().find(|ban| covers(ban.of, used));
            if let Some(ban) = ban
                && !ban.only_in.contains(&room)
                && !ban.except.contains(&used.as_str())
            {
                let homes = ban.only_in.join(", ");
                break_rule(format!("`{used}` belongs in {homes} only, not in `{room}`"));
            }
        }
        if !THINKING.contains(&room) {
            continue;
        }
        let direct = BELOW_THE_LINE_DIRECTLY;
        for (_, used) in &member.uses {
            if direct.iter().any(|pattern| covers(pattern, used)) {
                break_rule(format!(
                    "`{used}` is IO, chance or time: not below the line"
                ));
            }
        }
        for reached in &member.reaches {
            if BELOW_THE_LINE
                .iter()
                .any(|pattern| covers(pattern, reached))
            {
                break_rule(format!(
                    "`{room}` reaches `{reached}`, which is above the line"
                ));
            }
        }
    }
    found
}

/// What every manifest has alike.
pub(super) fn manifests(workspace: &Workspace) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, member) in &workspace.members {
        let mut break_rule = |message: &str| {
            let message = format!("`{name}` {message}");
            found.push(Violation::new(&member.manifest, 1, "manifest", message));
        };
        if member.licence.as_deref() != Some(LICENCE) {
            break_rule(&format!("is not licensed `{LICENCE}`"));
        }
        let lines: Vec<&str> = member.text.lines().map(str::trim).collect();
        if !lines
            .windows(2)
            .any(|pair| pair == ["[lints]", "workspace = true"])
        {
            break_rule("does not take the workspace's lints");
        }
        if member.features.len() > 1 {
            break_rule("has more than one feature");
        }
    }
    found
}

#[cfg(test)]
mod tests;
