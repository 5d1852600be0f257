//! The provider of these tests: a plain peer in lanes on a thread of its own, and somebody inside who answers.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sched::{CloneFlags, unshare};
use wayfare_tunnel::{PublicKey, StaticSecret};
use wayfare_wireguard::{
    CancellationToken, LaneTotals, TunDevice, TunOptions, WireGuard, WireGuardError,
};

use super::guest::{Guest, PATIENCE};

pub(crate) const DEVICE: &str = "wflanes0";
const SECRET: [u8; 32] = [0x51; 32];

type Outcome = Result<Vec<LaneTotals>, WireGuardError>;

/// A running provider.
pub(crate) struct Provider {
    pub(crate) at: SocketAddr,
    /// The port inside the tunnel where everything is answered with itself.
    pub(crate) echo: u16,
    /// Why it has one lane.
    pub(crate) single: Option<String>,
    stop: CancellationToken,
    thread: JoinHandle<Outcome>,
}

impl Provider {
    pub(crate) fn start(lanes: usize, queues: usize, guests: &[Guest]) -> Self {
        let conf = conf(guests);
        let stop = CancellationToken::new();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || run(&conf, lanes, queues, stop, &tell)
        });
        let (port, single) = told.recv_timeout(PATIENCE).unwrap();
        ip(&format!("address add 10.77.0.1/16 dev {DEVICE}"));
        ip(&format!("address add fd77::1/112 dev {DEVICE} nodad"));
        // The kernel says yes to an IPv6 address before it has made the route to it.
        let routes = format!("-6 route show table local fd77::1 dev {DEVICE}");
        assert!((0..1_000).any(|_| ip(&routes).contains("fd77::1")));
        Self {
            at: SocketAddr::from(([127, 0, 0, 1], port)),
            echo: echo(),
            single,
            stop,
            thread,
        }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        StaticSecret::from_bytes(SECRET).public()
    }

    pub(crate) fn end(self) -> Vec<LaneTotals> {
        self.stop.cancel();
        self.thread.join().unwrap().unwrap()
    }
}

/// Runs `test` on a thread with an empty network namespace, which all threads begun there inherit.
pub(crate) fn in_new_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn run(
    conf: &str,
    lanes: usize,
    queues: usize,
    stop: CancellationToken,
    tell: &mpsc::Sender<(u16, Option<String>)>,
) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let peer: WireGuard = conf.parse().unwrap();
        let options = TunOptions {
            queues,
            ..TunOptions::default()
        };
        let device = TunDevice::create_with(DEVICE, 1_420, options)?;
        let lanes = peer.into_lanes(device, lanes).await?;
        let port = lanes.local_addr().port();
        let why = lanes.single().map(ToString::to_string);
        tell.send((port, why)).unwrap();
        lanes.run(stop).await
    })
}

fn conf(guests: &[Guest]) -> String {
    let mut text = format!("[Interface]\nPrivateKey = {}\n", STANDARD.encode(SECRET));
    for guest in guests {
        text += &format!(
            "[Peer]\nPublicKey = {}\nAllowedIPs = {}/32, {}/128\nEndpoint = {}\n",
            STANDARD.encode(guest.public_key().as_bytes()),
            guest.inner(),
            guest.inner_v6(),
            guest.socket.local_addr().unwrap(),
        );
    }
    text
}

/// Answers until it has heard nothing for long: then its namespace is about to go.
fn echo() -> u16 {
    let socket = UdpSocket::bind("[::]:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let silence = PATIENCE + Duration::from_secs(1);
    socket.set_read_timeout(Some(silence)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            assert_ne!(from.ip(), IpAddr::from([0, 0, 0, 0]));
            // A guest that has gone needs no answer.
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    port
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
