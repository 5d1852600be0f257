//! Running other programs: each in a process group of its own, each wait bounded and heedful of
//! signals, each group ended when its guard goes. It refuses to leave a child behind.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::interrupt;

/// How often a wait looks: short against anything measured here (tens of milliseconds and up),
/// long against the cost of a look (microseconds).
pub const LOOK: Duration = Duration::from_millis(10);

/// How long a group may take to obey SIGTERM before SIGKILL.
pub const GRACE: Duration = Duration::from_secs(5);

/// For commands that answer at once (`ip`, `nft`, `git`): well beyond their worst under load.
pub const SHORT: Duration = Duration::from_secs(60);

/// A running child with its process group, ended on drop.
#[derive(Debug)]
pub struct Group {
    child: Child,
    line: String,
}

impl Group {
    /// Starts `command` in a group of its own, without standard input unless one was set up by
    /// `command.stdin` *after* this module's builders.
    ///
    /// # Errors
    /// When the program cannot be started, naming it.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let line = shown(command);
        let child = command.process_group(0).spawn();
        let child = child.with_context(|| format!("cannot start `{line}`"))?;
        Ok(Self { child, line })
    }

    /// The child's process id, which is also its group's.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("cannot ask after `{}`", self.line))
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// [`interrupt::Interrupted`], or after `limit`; the group is then ended by the drop.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            interrupt::check()?;
            std::thread::sleep(LOOK);
        }
        bail!("`{}` did not end within {} s", self.line, limit.as_secs())
    }

    /// Sends `signal` to the whole group; a group that is gone already is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        match killpg(self.pid(), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot signal `{}`", self.line)),
        }
    }

    /// SIGTERM, and SIGKILL after `grace`; reaps the child. Never interrupted.
    ///
    /// # Errors
    /// When even SIGKILL does not end it.
    pub fn end(&mut self, grace: Duration) -> anyhow::Result<ExitStatus> {
        interrupt::shielded(|| {
            if self.ended()?.is_none() {
                self.signal(Signal::SIGTERM)?;
                if let Ok(status) = self.wait(grace) {
                    let _ = self.signal(Signal::SIGKILL);
                    return Ok(status);
                }
            }
            // The child's own children may outlive it in its group.
            self.signal(Signal::SIGKILL)?;
            self.wait(GRACE)
        })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id fits an i32"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_)))
            && let Err(error) = self.end(GRACE)
        {
            crate::progress::say(&format!("left running: {error:#}"));
        }
    }
}

/// What a command said.
#[derive(Clone, Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, lossily decoded.
    pub stdout: String,
    /// Standard error, lossily decoded.
    pub stderr: String,
}

impl Said {
    /// Standard output when the command succeeded.
    ///
    /// # Errors
    /// Otherwise, with what it complained of.
    pub fn stdout_if_ok(self, line: &str) -> anyhow::Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        bail!(
            "`{line}` {}: {}",
            told(self.status),
            last_lines(&self.stderr, 12)
        )
    }
}

/// A command without standard input.
pub fn command<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}

/// Cargo at the root of the tree. What the outer `cargo run` told this process about its own
/// package is withheld: it would mislead build scripts of the inner call.
pub fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = command(&program, args);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST")
            || text == "CARGO_PRIMARY_PACKAGE"
        {
            command.env_remove(&name);
        }
    }
    command.current_dir(crate::tree::root());
    command
}

/// Runs `command` with its output on the terminal.
///
/// # Errors
/// When it fails, does not end within `limit`, or a signal comes.
pub fn run(command: &mut Command, limit: Duration) -> anyhow::Result<()> {
    let line = shown(command);
    let status = Group::start(command)?.wait(limit)?;
    if !status.success() {
        bail!("`{line}` {}", told(status));
    }
    Ok(())
}

/// Runs `command` and returns what it said, whether it succeeded or not.
///
/// # Errors
/// When it cannot be started, does not end within `limit`, leaves a process that holds its
/// output, or a signal comes.
pub fn capture(command: &mut Command, limit: Duration) -> anyhow::Result<Said> {
    let line = shown(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut group = Group::start(command)?;
    let stdout = drain(group.child.stdout.take());
    let stderr = drain(group.child.stderr.take());
    let status = group.wait(limit)?;
    let collect = |from: mpsc::Receiver<Vec<u8>>| {
        let bytes = from.recv_timeout(GRACE);
        bytes.with_context(|| format!("`{line}` left a process that holds its output"))
    };
    Ok(Said {
        status,
        stdout: String::from_utf8_lossy(&collect(stdout)?).into_owned(),
        stderr: String::from_utf8_lossy(&collect(stderr)?).into_owned(),
    })
}

/// [`capture`], and an error unless the command succeeds.
///
/// # Errors
/// As [`capture`], and when the command fails, with the end of its complaint.
pub fn output(command: &mut Command, limit: Duration) -> anyhow::Result<String> {
    let line = shown(command);
    capture(command, limit)?.stdout_if_ok(&line)
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

/// An exit status in words.
pub fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last `count` lines of `text`, trimmed.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        command("sh", ["-c", script])
    }

    #[test]
    fn both_streams_and_the_status_come_back() {
        let said = capture(&mut sh("echo a; echo b >&2; exit 3"), SHORT).unwrap();
        assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("a\n", "b\n"));
        assert_eq!(said.status.code(), Some(3));
        let error = said.stdout_if_ok("it").unwrap_err().to_string();
        assert!(
            error.contains("exit code 3") && error.contains('b'),
            "{error}"
        );
    }

    #[test]
    fn more_output_than_a_pipe_holds_does_not_hang() {
        let text = output(&mut sh("head -c 1000000 /dev/zero | tr '\\0' x"), SHORT).unwrap();
        assert_eq!(text.len(), 1_000_000);
    }

    #[test]
    fn a_late_command_is_ended_with_its_children() {
        let error = run(&mut sh("sleep 300 & wait"), Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("did not end within"));
    }

    #[test]
    fn a_group_that_ignores_term_is_killed() {
        let mut group = Group::start(&mut sh("trap '' TERM; while :; do sleep 1; done")).unwrap();
        let id = group.id();
        let status = group.end(Duration::from_millis(50)).unwrap();
        assert!(status.signal().is_some() || status.code().is_some());
        let pid = Pid::from_raw(i32::try_from(id).unwrap());
        // The killed grandchild stays a member until init has reaped it, which takes a moment.
        let gone = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            killpg(pid, None) == Err(Errno::ESRCH)
        });
        assert!(gone, "a member of the group lives on");
    }

    #[test]
    fn children_obey_term_though_we_catch_it() {
        interrupt::watch().unwrap();
        let mut group = Group::start(&mut command("sleep", ["300"])).unwrap();
        let status = group.end(SHORT).unwrap();
        assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut command("no-such-program", ["x"]), SHORT).unwrap_err();
        assert!(format!("{error:#}").contains("no-such-program x"));
    }

    #[test]
    fn only_the_end_of_a_long_complaint_is_told() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a\n", 2), "a");
    }
}
