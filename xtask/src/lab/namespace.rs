//! One namespace: its addresses, routes, rules, and programs run inside it. It refuses to outlive
//! the lab: it is a name, and the lab sweeps by name.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::{Background, Lab, MARK, wait_for};
use crate::process::{self, SHORT, Said, command};

/// Carrier comes up asynchronously, within a second even under load.
const CARRIER: Duration = Duration::from_secs(10);

/// A network namespace of a lab. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    lab: String,
    folder: PathBuf,
}

/// One end of a cable.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The namespace it is plugged into.
    pub at: &'a Namespace,
    /// The interface's name there, at most 15 letters.
    pub interface: &'a str,
    /// Its addresses with prefix length, of either family.
    pub addresses: &'a [&'a str],
}

impl Namespace {
    pub(super) fn create(lab: &Lab, name: &str) -> anyhow::Result<Self> {
        let namespace = Self {
            name: format!("{}-{name}", lab.name()),
            lab: lab.name().to_owned(),
            folder: lab.folder().to_owned(),
        };
        process::output(&mut command("ip", ["netns", "add", &namespace.name]), SHORT)?;
        namespace.ip("link set lo up")?;
        // Addresses are ours to give: usable at once, none made up by the kernel's neighbours.
        for setting in ["accept_dad=0", "accept_ra=0"] {
            for scope in ["all", "default"] {
                let (name, value) = setting.split_once('=').expect("written so above");
                namespace.sysctl(&format!("net.ipv6.conf.{scope}.{name}"), value)?;
            }
        }
        Ok(namespace)
    }

    /// Its full name, as `ip netns` tells it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs `program` inside, marked as the lab's.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut inside = command("ip", ["netns", "exec", &self.name]);
        inside.arg(program).args(args).env(MARK, &self.lab);
        inside
    }

    /// Runs a program to its end and returns what it said, successful or not.
    ///
    /// # Errors
    /// When it cannot be started, is not done within `limit`, or a signal comes.
    pub fn capture(&self, program: &str, args: &[&str], limit: Duration) -> anyhow::Result<Said> {
        process::capture(&mut self.command(program, args), limit)
    }

    /// Runs a program that answers at once and returns its standard output.
    ///
    /// # Errors
    /// When it fails, with its complaint.
    pub fn output(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        let said = self.capture(program, args, SHORT)?;
        said.stdout_if_ok(&format!("{program} {}", args.join(" ")))
            .with_context(|| format!("in {}", self.name))
    }

    /// `ip` with these words, such as `route add default via 10.0.0.1`.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn ip(&self, words: &str) -> anyhow::Result<String> {
        let mut args = vec!["-n", &self.name];
        args.extend(words.split_whitespace());
        process::output(&mut command("ip", args), SHORT)
    }

    /// Sets a kernel setting of this namespace, named with dots.
    ///
    /// # Errors
    /// When the kernel refuses, or has no such setting.
    pub fn sysctl(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let script = "printf %s \"$1\" > \"$2\"";
        self.output("sh", &["-c", script, "sh", value, &path])
            .map(drop)
    }

    /// Loads nftables rules.
    ///
    /// # Errors
    /// When nft refuses, with its complaint.
    pub fn nft(&self, rules: &str) -> anyhow::Result<()> {
        let file = self.folder.join(format!("{}.nft", self.name));
        std::fs::write(&file, rules).with_context(|| format!("cannot write {}", file.display()))?;
        self.output("nft", &["-f", &file.to_string_lossy()])
            .map(drop)
    }

    /// Starts a program that goes on until it is ended, its output in `<log>.log` of the lab's
    /// folder (appended to, so that a restarted program keeps its story).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(
        &self,
        log: &str,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Background> {
        self.spawn_command(log, self.command(program, args))
    }

    /// As [`Namespace::spawn`], for a command made by [`Namespace::command`] and added to.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_command(&self, log: &str, command: Command) -> anyhow::Result<Background> {
        Background::start(log, &self.log(log), command)
    }

    /// Where the output of [`Namespace::spawn`] with this name goes.
    pub fn log(&self, name: &str) -> PathBuf {
        Path::new(&self.folder).join(format!("{name}.log"))
    }

    fn carries(&self, interface: &str) -> anyhow::Result<Option<()>> {
        let link = self.ip(&format!("-o link show dev {interface}"))?;
        Ok(link.contains("state UP").then_some(()))
    }
}

pub(super) fn cable(a: &End<'_>, b: &End<'_>) -> anyhow::Result<()> {
    let words = format!(
        "link add {} netns {} type veth peer name {} netns {}",
        a.interface, a.at.name, b.interface, b.at.name
    );
    process::output(&mut command("ip", words.split_whitespace()), SHORT)?;
    for end in [a, b] {
        for address in end.addresses {
            end.at
                .ip(&format!("address add {address} dev {}", end.interface))?;
        }
        end.at.ip(&format!("link set {} up", end.interface))?;
    }
    for end in [a, b] {
        let what = format!("the carrier of {} in {}", end.interface, end.at.name);
        wait_for(&what, CARRIER, || end.at.carries(end.interface))?;
    }
    Ok(())
}
