//! The far end: a WireGuard program that others wrote, configured by `wg set` and read by `wg show`.
//!
//! It refuses to pretend: a program that is not installed fails the test with the line that
//! installs it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use wayfare_transport::Clock;
use wayfare_tunnel::PublicKey;

use super::netns::{Namespace, unique};

/// Lines of its log that are kept to be shown when a test fails.
const KEPT_LINES: usize = 400;

/// Who is on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    WireguardGo,
    Boringtun,
}

impl Program {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun-cli",
        }
    }

    fn how_to_install(self) -> &'static str {
        match self {
            Self::WireguardGo => "apt-get install wireguard-go wireguard-tools",
            Self::Boringtun => "cargo install --locked boringtun-cli",
        }
    }

    /// What it logs once its device and its configuration socket are there.
    fn started(self) -> &'static str {
        match self {
            Self::WireguardGo => "UAPI listener started",
            Self::Boringtun => "BoringTun started successfully",
        }
    }

    /// What it logs when a cookie arrives.
    pub(crate) fn got_cookie(self) -> &'static str {
        match self {
            Self::WireguardGo => "Receiving cookie response",
            Self::Boringtun => "Received cookie_reply",
        }
    }

    fn spawn(self, interface: &str) -> Child {
        let start = |program: PathBuf| {
            let mut command = Command::new(program);
            match self {
                Self::WireguardGo => command.args(["-f", interface]).env("LOG_LEVEL", "verbose"),
                Self::Boringtun => {
                    let quiet = ["-f", "--disable-drop-privileges", "-v", "debug", interface];
                    command.args(quiet).env("NO_COLOR", "1")
                }
            };
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
        };
        let beside_cargo = std::env::home_dir()
            .unwrap_or_default()
            .join(".cargo/bin")
            .join(self.name());
        match start(self.name().into()).or_else(|_| start(beside_cargo)) {
            Ok(child) => child,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                panic!("{} is missing: {}", self.name(), self.how_to_install())
            }
            Err(e) => panic!("{}: {e}", self.name()),
        }
    }
}

/// What the peer must know of us.
#[derive(Debug, Clone)]
pub(crate) struct Ours {
    pub(crate) public_key: PublicKey,
    pub(crate) preshared_key: Option<[u8; 32]>,
    /// Only if the peer shall be the one that calls.
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) allowed_ips: &'static str,
}

/// A running peer. Dropping it ends the process and removes its configuration socket.
#[derive(Debug)]
pub(crate) struct Peer {
    program: Program,
    interface: String,
    child: Child,
    log: Arc<Log>,
    keys: TempDir,
    ours: Ours,
}

impl Peer {
    /// Starts `program` in `namespace` and configures it: key, port, us as its only peer, inner
    /// address, MTU 1,420, link up.
    pub(crate) fn start(
        program: Program,
        namespace: &Namespace,
        secret: [u8; 32],
        port: u16,
        address: &str,
        ours: Ours,
    ) -> Self {
        // Configuration sockets of all namespaces lie in one folder: the name must be unique.
        let interface = format!("wfi{}x{}", std::process::id(), unique());
        let mut child = namespace.enter(|| program.spawn(&interface));
        let log = Arc::new(Log::default());
        Log::follow(&log, child.stdout.take().unwrap());
        Log::follow(&log, child.stderr.take().unwrap());
        let peer = Self {
            program,
            interface,
            child,
            log,
            keys: tempfile::tempdir().unwrap(),
            ours,
        };
        peer.expect_log(program.started(), Duration::from_secs(30));
        let secret = peer.key_file("secret", secret);
        peer.set(&format!("private-key {secret} listen-port {port}"));
        peer.add_us();
        namespace.ip(&format!("address add {address} dev {}", peer.interface));
        namespace.ip(&format!("link set {} mtu 1420 up", peer.interface));
        peer
    }

    /// Waits until it has logged a line with `text`.
    pub(crate) fn expect_log(&self, text: &str, patience: Duration) {
        let seen = self.log.wait(text, patience);
        assert!(seen, "{} never logged {text:?}", self.program.name());
    }

    /// Makes it forget us and learn us anew: all its keys are gone, the next packet it sends
    /// starts a handshake.
    pub(crate) fn forget_and_learn(&self) {
        let us = base64(self.ours.public_key.as_bytes());
        self.set(&format!("peer {us} remove"));
        self.add_us();
    }

    /// When it completed its latest handshake with us, in seconds since 1970, as `wg show` says.
    pub(crate) fn latest_handshake(&self) -> Option<u64> {
        let shown = wg(&["show", &self.interface, "latest-handshakes"]);
        let mut fields = shown.split_whitespace();
        let us = base64(self.ours.public_key.as_bytes());
        assert_eq!(fields.next(), Some(us.as_str()), "{shown}");
        let seconds: u64 = fields.next().unwrap().parse().unwrap();
        match self.program {
            Program::WireguardGo => Some(seconds).filter(|seconds| *seconds > 0),
            // boringtun 0.7 writes the age of the keys where the protocol wants a date.
            Program::Boringtun => Some(Clock::unix_ms() / 1_000 - seconds),
        }
    }

    fn add_us(&self) {
        let mut line = format!("peer {}", base64(self.ours.public_key.as_bytes()));
        if let Some(key) = self.ours.preshared_key {
            line += &format!(" preshared-key {}", self.key_file("preshared", key));
        }
        if let Some(endpoint) = self.ours.endpoint {
            line += &format!(" endpoint {endpoint}");
        }
        self.set(&format!("{line} allowed-ips {}", self.ours.allowed_ips));
    }

    fn set(&self, arguments: &str) {
        let words = ["set", &self.interface].into_iter();
        wg(&words.chain(arguments.split(' ')).collect::<Vec<_>>());
    }

    fn key_file(&self, name: &str, key: [u8; 32]) -> String {
        let path = self.keys.path().join(name);
        std::fs::write(&path, base64(&key)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- {} said last ---", self.program.name());
            eprintln!("{}", self.log.tail());
        }
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // Politely first: it then removes its socket itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if !self.log.wait_for_end(Duration::from_secs(2)) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        let socket = format!("/var/run/wireguard/{}.sock", self.interface);
        let _ = std::fs::remove_file(socket);
    }
}

/// Everything the peer writes, line by line.
#[derive(Debug, Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    lines: VecDeque<String>,
    open: usize,
}

impl Log {
    fn follow(log: &Arc<Self>, output: impl Read + Send + 'static) {
        log.state.lock().unwrap().open += 1;
        let log = Arc::clone(log);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut state = log.state.lock().unwrap();
                if state.lines.len() == KEPT_LINES {
                    state.lines.pop_front();
                }
                state.lines.push_back(line);
                log.changed.notify_all();
            }
            log.state.lock().unwrap().open -= 1;
            log.changed.notify_all();
        });
    }

    /// Whether a line with `text` came within `patience`.
    fn wait(&self, text: &str, patience: Duration) -> bool {
        let has = |state: &LogState| state.lines.iter().any(|line| line.contains(text));
        let state = self.state.lock().unwrap();
        let waiting = |state: &mut LogState| !has(state) && state.open > 0;
        let (state, _) = self
            .changed
            .wait_timeout_while(state, patience, waiting)
            .unwrap();
        has(&state)
    }

    /// Whether the process closed its output, which it does by ending, within `patience`.
    fn wait_for_end(&self, patience: Duration) -> bool {
        let state = self.state.lock().unwrap();
        let waiting = |state: &mut LogState| state.open > 0;
        let outcome = self.changed.wait_timeout_while(state, patience, waiting);
        outcome.unwrap().0.open == 0
    }

    fn tail(&self) -> String {
        let state = self.state.lock().unwrap();
        let from = state.lines.len().saturating_sub(60);
        state
            .lines
            .range(from..)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    }
}

fn wg(arguments: &[&str]) -> String {
    let output = match Command::new("wg").args(arguments).output() {
        Ok(output) => output,
        Err(e) => panic!("wg: {e}: apt-get install wireguard-tools"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "wg {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// RFC 4648, section 4, for the 32 bytes of a key.
fn base64(key: &[u8; 32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(44);
    for three in key.chunks(3) {
        let bits = three
            .iter()
            .fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for at in 0..=three.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text + "="
}
