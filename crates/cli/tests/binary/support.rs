//! A binary run as people run it, in a home of its own, and what every failure of it must look like: an exit code of its kind, the
//! cause, the next step, the same as JSON, and never a panic or a backtrace.
//!
//! Refuses to look inside: only arguments, environment, files, exit code and output count.

#![allow(
    dead_code,
    reason = "each binary's tests include this file and use a part of it"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use wayfare_cli::Kind;
use wayfare_identity::Address;

/// What a person never wants to read: panics, backtraces, Rust's own notation.
const NEVER: &[&str] = &[
    "panicked at",
    "stack backtrace",
    "RUST_BACKTRACE",
    "Some(",
    "None)",
    "Err(",
    "Os {",
    "ErrorKind",
];
/// Lines that one daemon may say while something is waited for.
const MOST_LINES: usize = 2_000;
/// The longest silence of a daemon while something is waited for.
const SILENCE: Duration = Duration::from_secs(20);

/// A folder with settings and state, and the program that lives there.
pub(crate) struct Home {
    program: &'static str,
    folder: TempDir,
    settings: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
    wrapper: Vec<&'static str>,
}

/// What a program said.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Home {
    /// With a passphrase, cheap keys, and addresses at which nothing is.
    pub(crate) fn new(program: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut home = Self {
            program,
            folder,
            settings: BTreeMap::new(),
            variables: BTreeMap::new(),
            wrapper: Vec::new(),
        };
        home.write("passphrase", "correct horse\n");
        let (state, passphrase) = (home.path("state"), home.path("passphrase"));
        home.set("state_dir", state.display());
        home.set("passphrase_file", passphrase.display());
        home.set("dev_keys", true);
        home.set("rpc", "http://127.0.0.1:1");
        home.set("vault", Address::repeat_byte(0x11));
        home.set("hermes", Address::repeat_byte(0x22));
        home
    }

    pub(crate) fn set(&mut self, key: &str, value: impl ToString) -> &mut Self {
        self.settings.insert(key.to_owned(), value.to_string());
        self
    }

    pub(crate) fn unset(&mut self, key: &str) -> &mut Self {
        self.settings.remove(key);
        self
    }

    pub(crate) fn variable(&mut self, name: &str, value: &str) -> &mut Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// From now on the program is run by this one: `setpriv …`.
    pub(crate) fn run_by(&mut self, wrapper: &[&'static str]) -> &mut Self {
        self.wrapper = wrapper.to_vec();
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn command(&self, program: &[&str], args: &[&str]) -> Command {
        let lines = self.settings.iter().map(|(k, v)| format!("{k} = '{v}'\n"));
        self.write("config.toml", lines.collect::<String>());
        let words = [program, &self.wrapper, &[self.program]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(args);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("RUST_BACKTRACE", "1")
            .env("WAYFARE_CONFIG", self.path("config.toml"))
            .envs(&self.variables)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let mut command = self.command(&["timeout", "--kill-after=1", "30"], args);
        let output = command.output().unwrap();
        let ran = Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        for never in NEVER {
            let said = ran.out.contains(never) || ran.err.contains(never);
            assert!(!said, "{args:?} said {never:?}: {}{}", ran.out, ran.err);
        }
        ran
    }

    /// Runs a command that must succeed; its standard output.
    pub(crate) fn succeeds(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}{}", ran.out, ran.err);
        ran.out
    }

    /// Runs a command that must succeed; its result as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.succeeds(&[&["--json"], args].concat())).unwrap()
    }

    /// Runs a command that must fail, once for people and once for programs: each time with this kind's exit code, these words in
    /// the cause and these in the next step.
    pub(crate) fn fails(&self, args: &[&str], kind: Kind, cause: &[&str], next: &[&str]) {
        let demand = |what: &str, text: &str, words: &[&str]| {
            assert!(!text.trim().is_empty(), "{args:?}: no {what}");
            for word in words {
                assert!(
                    text.contains(word),
                    "{args:?}: no {word:?} in the {what}: {text}"
                );
            }
        };
        let ran = self.run(args);
        let told = &ran.err;
        assert_eq!(ran.code, Some(kind as i32), "{args:?}: {told}");
        let at = match told.find("\nerror: ") {
            Some(at) => at + 1,
            None => 0,
        };
        assert!(told[at..].starts_with("error: "), "{args:?}: {told}");
        let (why, then) = told[at..]
            .split_once("\n  next: ")
            .unwrap_or_else(|| panic!("{args:?}: no next step: {told}"));
        demand("cause", why, cause);
        demand("next step", then, next);

        let ran = self.run(&[&["--json"], args].concat());
        let told = &ran.err;
        assert_eq!(ran.code, Some(kind as i32), "{args:?} --json: {told}");
        let last = told.lines().last().unwrap_or_default();
        let object: Value = serde_json::from_str(last)
            .unwrap_or_else(|error| panic!("{args:?} --json: {error}: {told}"));
        let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
        assert_eq!(text("kind"), kind.word(), "{args:?} --json: {told}");
        demand("cause as JSON", &text("error"), cause);
        demand("next step as JSON", &text("next"), next);
        assert_eq!(object.as_object().unwrap().len(), 3, "{told}");
    }

    /// Makes an identity.
    pub(crate) fn identity(&self) -> Address {
        let made = self.json(&["identity", "new"]);
        made["address"].as_str().unwrap().parse().unwrap()
    }

    /// The only keystore file.
    pub(crate) fn keystore_file(&self) -> PathBuf {
        let mut files = std::fs::read_dir(self.path("state/keystore")).unwrap();
        files.next().unwrap().unwrap().path()
    }

    /// Starts a daemon.
    pub(crate) fn start(&self, args: &[&str]) -> Daemon {
        let words = [&["--json"], args].concat();
        let mut command = self.command(&["timeout", "--foreground", "60"], &words);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = sync_channel(MOST_LINES);
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let also = sender.clone();
        // Both end with the process, whose end of the pipe they read.
        std::thread::spawn(move || {
            BufReader::new(out)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        std::thread::spawn(move || {
            BufReader::new(err)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| also.send(line))
        });
        Daemon {
            child,
            lines,
            said: Vec::new(),
        }
    }
}

/// A program that runs until it is stopped; killed when it is dropped.
pub(crate) struct Daemon {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Daemon {
    /// Waits until it says a line with all these words, on either output.
    pub(crate) fn says(&mut self, words: &[&str]) -> String {
        for _ in 0..MOST_LINES {
            let Ok(line) = self.lines.recv_timeout(SILENCE) else {
                break;
            };
            self.said.push(line.clone());
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
        panic!("nothing with {words:?}, but: {}", self.said.join("\n"));
    }

    /// Asks it to stop, which it must do with exit code 0.
    pub(crate) fn stops(mut self) {
        let child = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(child, Signal::SIGTERM).unwrap();
        let code = self.child.wait().unwrap().code();
        // The readers end with the process, and the channel with them.
        self.said.extend(self.lines.iter());
        let said = self.said.join("\n");
        assert_eq!(code, Some(0), "{said}");
        for never in ["panicked at", "stack backtrace"] {
            assert!(!said.contains(never), "{said}");
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // `timeout` passes SIGTERM on; SIGKILL would leave the program behind. It is killed itself after 60 s whatever happens.
        if let Ok(id) = i32::try_from(self.child.id())
            && matches!(self.child.try_wait(), Ok(None))
        {
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}
