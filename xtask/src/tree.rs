//! Where the tree is and which files belong to it. It refuses to look at anything that git does
//! not track or would not take.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Context as _;

use crate::process::{SHORT, command, output};

/// The root of the workspace: found at run time, as one binary may serve several clones.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let start = manifest.or_else(|| std::env::current_dir().ok());
        let start = start.unwrap_or_else(|| PathBuf::from("."));
        let holds_xtask = |folder: &&Path| folder.join("xtask/Cargo.toml").is_file();
        let found = start.ancestors().find(holds_xtask);
        found.map_or_else(|| start.clone(), Path::to_path_buf)
    })
}

/// Paths of all files of the tree, relative to the root, sorted: tracked, or new and not ignored.
///
/// # Errors
/// When git is missing or this is no git tree.
pub fn files() -> anyhow::Result<Vec<String>> {
    let listed = output(
        command(
            "git",
            [
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ],
        )
        .current_dir(root()),
        SHORT,
    )
    .context("cannot list the files of the tree")?;
    let mut files: Vec<String> = listed
        .split('\0')
        .filter(|path| !path.is_empty() && root().join(path).is_file())
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// The commit that is checked out, with `-dirty` when tracked files differ from it, or `unknown`.
pub fn commit() -> String {
    let git = |args: &[&str]| output(command("git", args).current_dir(root()), SHORT);
    let Ok(commit) = git(&["rev-parse", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let clean = git(&["status", "--porcelain", "--untracked-files=no"])
        .is_ok_and(|changes| changes.trim().is_empty());
    let mark = if clean { "" } else { "-dirty" };
    format!("{}{mark}", commit.trim())
}
