//! What an observer sees of a pipe: tshark's dissectors find no WireGuard, where they do find it in the same messages without
//! a pipe. And the pipes leave with the mark of the shared socket. Needs root, and tshark, without which it says so.

#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "of the namespaces a part is used here")]

#[path = "wireguard/netns.rs"]
mod netns;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use netns::Namespace;
use tokio::runtime::Handle;
use tokio::time::timeout;
use wayfare_transport::{
    Batch, PipeDoor, PipeKind, QuicEndpoint, QuicIdentity, SharedSocket, SocketOptions,
    TunnelReceiver, open_pipe, quic_endpoint, remote_address,
};

const PATIENCE: Duration = Duration::from_secs(15);
const MARK: u32 = 0x57;
const MESSAGES: u32 = 40;

struct Node {
    socket: SharedSocket,
    tunnel: TunnelReceiver,
    quic: QuicEndpoint,
    identity: QuicIdentity,
}

fn node(address: &str, seed: u8, mark: Option<u32>) -> Node {
    let options = SocketOptions {
        mark,
        ..SocketOptions::default()
    };
    let (socket, tunnel) = SharedSocket::bind(address.parse().unwrap(), options).unwrap();
    let identity = QuicIdentity::from_ed25519_seed([seed; 32]).unwrap();
    let quic = quic_endpoint(&socket, &identity).unwrap();
    Node {
        socket,
        tunnel,
        quic,
        identity,
    }
}

/// A transport data message (type 4) as WireGuard's: receiver index, counter, and 1,008 bytes that look sealed.
fn message(counter: u32) -> Vec<u8> {
    let mut message = vec![4, 0, 0, 0, 9, 9, 9, 9];
    message.extend(u64::from(counter).to_le_bytes());
    message.extend((0..1_008).map(|n| (n * 7 + counter) as u8));
    message
}

/// tshark, writing what passes until it is dropped.
struct Capture(Child);

impl Capture {
    fn begin(namespace: &Namespace, file: &Path) -> Self {
        let path = file.to_str().unwrap().to_owned();
        let mut child = namespace.enter(|| {
            Command::new("dumpcap")
                .args(["-q", "-i", "lo", "-w", &path])
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        });
        // It says so when it has begun.
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut lines = said.map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with("File:")));
        // The rest of what it says is not wanted; its end must not break it.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }

    /// Once what was sent has been written: it reads the kernel's buffer now and then.
    async fn end(mut self, file: &Path) {
        let sent = u64::from(2 * MESSAGES) * 1_024;
        let written = || std::fs::metadata(file).map_or(0, |file| file.len());
        let all = async {
            while written() < sent {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, all).await.unwrap();
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many packets of the file a display filter shows. `looks`: dissectors that look at the bytes come before those that look
/// at the port.
fn packets(file: &Path, filter: &str, looks: bool) -> usize {
    let first = match looks {
        true => "udp.try_heuristic_first:TRUE",
        false => "udp.try_heuristic_first:FALSE",
    };
    let shown = Command::new("tshark")
        .args([
            "-n",
            "-o",
            first,
            "-r",
            file.to_str().unwrap(),
            "-Y",
            filter,
        ])
        .output()
        .unwrap();
    assert!(shown.status.success(), "{filter}: {shown:?}");
    shown.stdout.split(|byte| *byte == b'\n').count() - 1
}

/// Sends messages both ways, by a pipe or without, on a capture of their own.
async fn exchange(namespace: &Namespace, kind: Option<PipeKind>, file: &Path) {
    let runtime = Handle::current();
    let (mut node, mut relay, door) = namespace.enter(|| {
        let _inside = runtime.enter();
        let relay = node("127.0.0.1:443", 2, None);
        let door = PipeDoor::open(&relay.socket, &relay.quic, &relay.identity).unwrap();
        (node("127.0.0.1:0", 1, Some(MARK)), relay, door)
    });
    assert!(door.tcp_addr().is_some());
    let capture = Capture::begin(namespace, file);
    let key = relay.quic.node_key();
    let at: SocketAddr = relay.socket.local_addr();
    let pipe = match kind {
        None => None,
        Some(kind) => {
            // The TCP socket is made by whoever asks: in the namespace.
            let opened = namespace.enter(|| {
                let ours = (&node.socket, &node.quic, &node.identity);
                runtime.block_on(async { timeout(PATIENCE, open_pipe(kind, ours, at, key)).await })
            });
            Some(opened.unwrap().unwrap())
        }
    };
    let to = pipe.as_ref().map_or(at, |pipe| pipe.address());
    // The relay learns where the node is by a connection. Without a pipe that would share the ports with what the observer
    // is to find, and tshark takes all between two ports for one protocol.
    let connected = match &pipe {
        None => None,
        Some(_) => Some(tokio::join!(node.quic.dial(to, key), relay.quic.accept())),
    };
    let back = match &connected {
        None => node.socket.local_addr(),
        Some((_, there)) => remote_address(there.as_ref().unwrap()),
    };
    for counter in 0..MESSAGES {
        node.socket.send(to, &message(counter)).await.unwrap();
        relay.socket.send(back, &message(counter)).await.unwrap();
    }
    for tunnel in [&mut relay.tunnel, &mut node.tunnel] {
        let (mut batch, mut count) = (Batch::new(), 0);
        while count < MESSAGES as usize {
            count += timeout(PATIENCE, tunnel.recv(&mut batch))
                .await
                .unwrap()
                .unwrap();
        }
    }
    capture.end(file).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_of_a_pipe_finds_no_wireguard() {
    for program in ["tshark", "dumpcap"] {
        if Command::new(program).arg("--version").output().is_err() {
            eprintln!("SKIPPED: no {program}; install the package tshark to run this test");
            return;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    // Nothing may leave towards the relay's port without the mark: what a kill switch demands.
    let closed = |namespace: &Namespace| {
        namespace.enter(|| {
            for rule in [
                "add table inet gate".to_owned(),
                "add chain inet gate out { type filter hook output priority 0; }".to_owned(),
                format!("add rule inet gate out meta mark != {MARK} tcp dport 443 drop"),
                format!("add rule inet gate out meta mark != {MARK} udp dport 443 drop"),
            ] {
                netns::run("nft", &rule);
            }
        });
    };
    for (name, kind) in [
        ("plain", None),
        ("quic", Some(PipeKind::Quic)),
        ("tls", Some(PipeKind::Tls)),
    ] {
        let namespace = Namespace::new();
        closed(&namespace);
        let file = folder.path().join(name);
        exchange(&namespace, kind, &file).await;
        let found = packets(&file, "wg", true) + packets(&file, "wg", false);
        let (udp, tls, quic) = (
            packets(&file, "udp", false),
            packets(&file, "tls.app_data", false),
            packets(&file, "quic", false),
        );
        let seen =
            format!("{name}: {found} of WireGuard, {udp} of UDP, {quic} of QUIC, {tls} of TLS");
        match kind {
            // Else the silence below would prove nothing.
            None => assert!(found >= 2 * MESSAGES as usize, "{seen}"),
            Some(PipeKind::Quic) => {
                assert_eq!(found, 0, "{seen}");
                // Trains are not cut before they reach the loopback.
                assert!(quic == udp && udp > 0, "{seen}");
            }
            Some(PipeKind::Tls) => {
                assert_eq!((found, udp), (0, 0), "{seen}");
                assert!(tls > 0, "{seen}");
            }
        }
        eprintln!("{seen}");
    }
}
