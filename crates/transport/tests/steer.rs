//! Steering by the real kernel: where datagrams and packets land. Devices need root and a network
//! namespace, which belongs to the test's thread and disappears with it.

#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)] // the system call that drops one thread's privilege

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::task::Poll;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use tokio::runtime::Builder;
use wayfare_transport::{
    Batch, BindError, LaneSockets, SharedSocket, SocketOptions, SteerError, Tun, TunDevice,
    TunOptions, TunnelReceiver, lane_of, lane_sockets, steer_device,
};
use wayfare_tunnel::Lane;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn on_a_runtime<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let limit = Duration::from_secs(20);
    runtime.block_on(async { tokio::time::timeout(limit, test()).await.unwrap() });
}

/// Runs `test` on a thread with an empty network namespace.
fn in_new_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        on_a_runtime(test);
    });
    thread.join().unwrap();
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.unwrap();
    assert!(output.status.success(), "ip {arguments}");
    String::from_utf8(output.stdout).unwrap()
}

struct Lanes {
    port: u16,
    open: Vec<(SharedSocket, TunnelReceiver)>,
}

fn lanes(addr: &str, count: usize) -> Lanes {
    let LaneSockets { sockets, refused } =
        lane_sockets(addr.parse().unwrap(), SocketOptions::default(), count).unwrap();
    assert!(refused.is_none(), "{refused:?}");
    assert_eq!(sockets.len(), count);
    let port = sockets[0].local_addr().port();
    assert!(sockets.iter().all(|one| one.local_addr().port() == port));
    let open = sockets.into_iter().map(|one| one.open().unwrap());
    Lanes {
        port,
        open: open.collect(),
    }
}

impl Lanes {
    /// Which lanes have something, and what, until all have been silent once `expect` came.
    async fn landed(&mut self, expect: usize) -> BTreeMap<Vec<u8>, usize> {
        let mut landed = BTreeMap::new();
        let mut batch = Batch::new();
        while landed.len() < expect {
            let lane = poll_fn(|cx| {
                for (lane, (_, receiver)) in self.open.iter_mut().enumerate() {
                    if receiver.poll_recv(cx, &mut batch).is_ready() {
                        return Poll::Ready(lane);
                    }
                }
                Poll::Pending
            })
            .await;
            for (_, datagram) in batch.iter_mut() {
                landed.insert(datagram.to_vec(), lane);
            }
        }
        landed
    }
}

/// A tunnel message with `index` where its kind has the receiver's, another number elsewhere.
fn message(kind: u8, index: u32) -> Vec<u8> {
    let (at, len) = match kind {
        1 => (144, 148),
        2 => (8, 92),
        3 => (4, 64),
        _ => (4, 128),
    };
    let mut message = vec![kind; len];
    message[..4].copy_from_slice(&[kind, 0, 0, 0]);
    message[at..at + 4].copy_from_slice(&index.to_le_bytes());
    message
}

async fn messages_land_where_their_index_says(listen: &str, from: &str, to: IpAddr) {
    for count in [1, 2, 3, 4, 7] {
        let mut lanes = lanes(listen, count);
        let to = SocketAddr::new(to, lanes.port);
        let sender = UdpSocket::bind(from).unwrap();
        // Of many senders, as those of one may be put together by the kernel.
        let mut expect = BTreeMap::new();
        for low in 0..24_u32 {
            let index = 0x1234_5600 | (low * 11);
            for kind in 1..=4_u8 {
                let message = message(kind, index);
                sender.send_to(&message, to).unwrap();
                let owner = |lane: &usize| Lane::new(*lane, count).unwrap().owns(index);
                let lane = if kind == 1 {
                    Some(0)
                } else {
                    (0..count).find(owner)
                };
                expect.insert(message, lane.unwrap());
            }
        }
        assert_eq!(lanes.landed(expect.len()).await, expect, "{count} lanes");
    }
}

#[test]
fn tunnel_messages_land_in_the_lane_of_their_index() {
    on_a_runtime(|| async {
        messages_land_where_their_index_says("127.0.0.1:0", "127.0.0.1:0", LOCAL).await;
    });
}

#[test]
fn ipv6_and_ipv4_on_one_dual_stack_port_are_steered_alike() {
    in_new_namespace(|| async {
        ip("link set lo up");
        let v6 = Ipv6Addr::LOCALHOST.into();
        messages_land_where_their_index_says("[::]:0", "[::1]:0", v6).await;
        messages_land_where_their_index_says("[::]:0", "127.0.0.1:0", LOCAL).await;
        messages_land_where_their_index_says("[::1]:0", "[::1]:0", v6).await;
    });
}

#[test]
fn what_names_no_index_lands_in_the_first_lane() {
    on_a_runtime(|| async {
        let lanes = lanes("127.0.0.1:0", 4);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        // QUIC, junk of all lengths (also too short for what the program reads), near misses, a
        // probe and a relay frame with a tunnel message in it.
        let mut sent: Vec<Vec<u8>> = (0..16).map(|len| vec![0x41; len]).collect();
        sent.extend((1..16).map(|len| vec![4; len]));
        sent.push(vec![4, 0, 0, 0]);
        sent.push(vec![2, 0, 0, 0, 1, 1, 1, 1]);
        sent.push(vec![4, 0, 0, 1, 1, 1, 1, 1, 1]);
        sent.push(vec![5, 0, 0, 0, 1, 1, 1, 1, 1]);
        sent.push(vec![6, 0, 0, 0, 1, 1, 1, 1, 4, 0, 0, 0, 1, 1, 1, 1]);
        for datagram in &sent {
            sender.send_to(datagram, (LOCAL, lanes.port)).unwrap();
        }
        let count = |socket: &SharedSocket| {
            let stats = socket.stats();
            (stats.quic_in + stats.junk_in + stats.tunnel_in + stats.probes_in) as usize
        };
        while count(&lanes.open[0].0) < sent.len() {
            tokio::task::yield_now().await;
        }
        for (socket, _) in &lanes.open[1..] {
            assert_eq!(count(socket), 0);
        }
    });
}

#[test]
fn a_port_is_never_shared_with_a_stranger() {
    on_a_runtime(|| async {
        let ours = lanes("127.0.0.1:0", 3);
        let addr = SocketAddr::new(LOCAL, ours.port);
        for count in [1, 2] {
            let error = lane_sockets(addr, SocketOptions::default(), count).unwrap_err();
            assert!(matches!(error, BindError::PortInUse { .. }), "{error}");
        }
        let error = SharedSocket::bind(addr, SocketOptions::default()).unwrap_err();
        assert!(matches!(error, BindError::PortInUse { .. }), "{error}");
        drop(ours);
        // The sockets go with their readers, which the runtime lets go of when it comes to them.
        while let Err(error) = lane_sockets(addr, SocketOptions::default(), 2) {
            assert!(matches!(error, BindError::PortInUse { .. }), "{error}");
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn what_cannot_be_split_is_one_socket() {
    on_a_runtime(|| async {
        for count in [0, 65] {
            let addr = SocketAddr::new(LOCAL, 0);
            let one = lane_sockets(addr, SocketOptions::default(), count).unwrap();
            assert!(matches!(one.refused, Some(SteerError::Lanes(n)) if n == count));
            assert_eq!(one.sockets.len(), 1);
        }
    });
}

/// A device of `count` queues in the calling thread's namespace, steered.
fn queues(count: usize) -> Vec<TunDevice> {
    let options = TunOptions {
        queues: count,
        ..TunOptions::default()
    };
    let first = TunDevice::create_with("steer0", 1420, options).unwrap();
    steer_device(&first, count).unwrap();
    let mut queues = vec![first];
    for _ in 1..count {
        let next = queues[0].another_queue().unwrap();
        queues.push(next);
    }
    queues
}

/// The destination of an IP packet.
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?.into()),
        6 => Some(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?.into()),
        _ => None,
    }
}

#[test]
fn packets_land_in_the_queue_of_their_destination() {
    for count in [2, 3, 4] {
        in_new_namespace(move || async move {
            let queues = queues(count);
            ip("address add 10.77.0.1/16 dev steer0");
            ip("address add fd77::1/112 dev steer0 nodad");
            let v4 = (2..26).map(|n| IpAddr::from([10, 77, 1, n * 7]));
            let v6 = (2..26).map(|n| IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, 0x100 + n * 7]));
            let expect: BTreeMap<IpAddr, usize> = v4
                .chain(v6)
                .map(|address| (address, lane_of(address, count)))
                .collect();
            let sender = UdpSocket::bind("[::]:0").unwrap();
            let reach = |address: &IpAddr| {
                let mapped = match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => *v6,
                };
                // The route of a fresh IPv6 address comes a moment after the address.
                let sent = (0..1000).any(|_| sender.send_to(b"where", (mapped, 9)).is_ok());
                assert!(sent, "{address}");
            };
            expect.keys().for_each(reach);
            let mut landed = BTreeMap::new();
            let mut buffer = vec![0; 1420];
            while landed.len() < expect.len() {
                let (lane, length) = poll_fn(|cx| {
                    for (lane, queue) in queues.iter().enumerate() {
                        if let Poll::Ready(length) = queue.poll_recv(cx, &mut buffer) {
                            return Poll::Ready((lane, length.unwrap()));
                        }
                    }
                    Poll::Pending
                })
                .await;
                let to = destination(&buffer[..length]).unwrap();
                // The kernel says hello by itself, to everybody.
                if expect.contains_key(&to) {
                    landed.insert(to, lane);
                }
            }
            assert_eq!(landed, expect);
            assert_eq!(
                landed.values().max(),
                Some(&(count - 1)),
                "every lane was used"
            );
        });
    }
}

#[test]
fn both_addresses_of_a_session_agree_for_any_number_of_lanes() {
    for slot in [0_u16, 1, 2, 5, 250, 255, 256, 1_000, 40_000, u16::MAX] {
        let [high, low] = slot.to_be_bytes();
        let v4 = IpAddr::from([10, 77, high, low]);
        let v6 = IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, slot]);
        for lanes in 1..=64 {
            assert_eq!(lane_of(v4, lanes), usize::from(slot) % lanes);
            assert_eq!(lane_of(v4, lanes), lane_of(v6, lanes));
        }
    }
}

#[test]
fn without_the_privilege_a_device_is_not_steered_and_works_on() {
    in_new_namespace(|| async {
        let options = TunOptions {
            queues: 2,
            ..TunOptions::default()
        };
        let device = TunDevice::create_with("steer0", 1420, options).unwrap();
        ip("address add 10.77.0.1/16 dev steer0");
        const NOBODY: libc::c_long = 65_534;
        // SAFETY: the raw call takes plain numbers and changes this thread alone, which ends with
        // the test; libc's wrapper would change the whole process.
        let outcome = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        assert_eq!(outcome, 0);
        let error = steer_device(&device, 2).unwrap_err();
        assert!(matches!(error, SteerError::Device { .. }), "{error:?}");
        assert!(error.to_string().contains("CAP_BPF"), "{error}");
        let sender = UdpSocket::bind("10.77.0.1:0").unwrap();
        sender.send_to(b"still", ("10.77.0.2", 9)).unwrap();
        let mut buffer = vec![0; 1420];
        let wanted = Some(IpAddr::from([10, 77, 0, 2]));
        loop {
            let length = poll_fn(|cx| device.poll_recv(cx, &mut buffer)).await;
            if destination(&buffer[..length.unwrap()]) == wanted {
                break;
            }
        }
    });
}
