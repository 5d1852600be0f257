//! What the public interface cannot bring about: kernels that refuse offloads, a dead descriptor,
//! datagrams of both kinds in one buffer; and what memory is held.

#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)] // options with no safe form, and a descriptor taken away

use std::future::poll_fn;
use std::io::IoSliceMut;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use quinn::AsyncUdpSocket;
use quinn::udp::RecvMeta;

use super::*;

fn bind() -> (SharedSocket, TunnelReceiver) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    SharedSocket::bind(any, SocketOptions::default()).unwrap()
}

fn set(socket: &SharedSocket, level: libc::c_int, option: libc::c_int, value: libc::c_int) {
    // SAFETY: the option reads one int, which lives on our stack for the call.
    let outcome = unsafe {
        libc::setsockopt(
            socket.inner.port.io.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(outcome, 0);
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .unwrap()
}

/// `count` tunnel messages of `length` bytes, numbered in their last byte.
fn messages(count: u8, length: usize) -> Vec<u8> {
    let mut buffer = vec![7; usize::from(count) * length];
    for (message, number) in buffer.chunks_mut(length).zip(0..) {
        message[..4].copy_from_slice(&[4, 0, 0, 0]);
        message[length - 1] = number;
    }
    buffer
}

#[tokio::test]
async fn a_kernel_that_refuses_to_segment_gets_single_datagrams() {
    let (sender, _unused) = bind();
    let (receiver, mut tunnel) = bind();
    // Linux answers EINVAL to UDP_SEGMENT on a socket that sends no checksums.
    set(&sender, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1);
    let mut buffer = vec![7; 20 * 1000 + 10];
    buffer
        .chunks_mut(1000)
        .for_each(|message| message[..4].copy_from_slice(&[4, 0, 0, 0]));
    let mut batch = Batch::new();
    for refused in [1, 1] {
        sender
            .send_segments(receiver.local_addr(), &buffer, 1000)
            .await
            .unwrap();
        let mut sizes = Vec::new();
        while sizes.len() < 21 {
            tunnel.recv(&mut batch).await.unwrap();
            sizes.extend(batch.iter().map(|(_, datagram)| datagram.len()));
        }
        assert_eq!(sizes[..20], [1000; 20]);
        assert_eq!(sizes[20], 10);
        // Refused once, then remembered.
        assert_eq!(sender.stats().segmentation_refused, refused);
    }
}

/// What `tunnel` receives until there are `count` datagrams: length and number of each.
async fn receive(tunnel: &mut TunnelReceiver, count: usize) -> Vec<(usize, u8)> {
    let mut batch = Batch::new();
    let mut seen = Vec::new();
    while seen.len() < count {
        within(tunnel.recv(&mut batch)).await.unwrap();
        seen.extend(batch.iter().map(|(_, d)| (d.len(), d[d.len() - 1])));
    }
    seen
}

/// Messages for two peers, among them one for 150 datagrams, empty ones, short ones, and more of
/// them than one call takes, whether the kernel segments or not.
async fn many_messages(refuse: bool) {
    let (sender, _unused) = bind();
    if refuse {
        set(&sender, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1);
    }
    let mut peers = [bind(), bind()];
    let [left, right] = [peers[0].0.local_addr(), peers[1].0.local_addr()];
    let (long, middle, short) = (messages(150, 1200), messages(7, 300), messages(1, 40));
    let to = |to, bytes, segment| Outgoing { to, bytes, segment };
    let mut outgoing = vec![
        to(left, &[][..], 1200),
        to(left, &long[..], 1200),
        to(right, &middle, 300),
        to(left, &[], 1),
        to(right, &middle[..1000], 300),
    ];
    outgoing.extend([to(left, &short[..], 40), to(right, &short, 1000)].repeat(20));
    let bytes: usize = outgoing.iter().map(|message| message.bytes.len()).sum();
    assert_eq!(sender.try_send_many(&outgoing).unwrap(), bytes);
    let numbered = |count, length| (0..count).map(move |number| (length, number));
    let mut expected: Vec<(usize, u8)> = numbered(150, 1200).collect();
    expected.extend([(40, 0); 20]);
    assert_eq!(receive(&mut peers[0].1, 170).await, expected);
    expected = numbered(7, 300).chain(numbered(3, 300)).collect();
    expected.push((100, 7));
    expected.extend([(40, 0); 20]);
    assert_eq!(receive(&mut peers[1].1, 31).await, expected);
    let stats = sender.stats();
    assert_eq!((stats.sent, stats.send_errors), (201, u64::from(refuse)));
    assert_eq!(stats.segmentation_refused, u64::from(refuse));
}

#[tokio::test]
async fn many_messages_leave_in_order_to_whom_each_is_for() {
    many_messages(false).await;
}

#[tokio::test]
async fn many_messages_leave_one_by_one_where_the_kernel_refuses_to_segment() {
    many_messages(true).await;
}

#[tokio::test]
async fn a_message_that_cannot_be_sent_stops_the_rest_and_is_named_when_it_comes_first() {
    let (sender, _unused) = bind();
    let (receiver, mut tunnel) = bind();
    let fine = messages(3, 100);
    let large = messages(1, 65_507);
    let there = Outgoing {
        to: receiver.local_addr(),
        bytes: &fine,
        segment: 100,
    };
    let nobody = Outgoing {
        to: "127.0.0.1:0".parse().unwrap(),
        ..there
    };
    let endless = Outgoing {
        segment: 0,
        ..there
    };
    // No route leads from loopback to TEST-NET-1 (RFC 5737).
    let elsewhere = Outgoing {
        to: "192.0.2.1:9".parse().unwrap(),
        bytes: &large,
        segment: 65_507,
    };
    for bad in [nobody, endless, elsewhere] {
        assert_eq!(
            sender.try_send_many(&[there, there, bad, there]).unwrap(),
            600
        );
        assert!(sender.try_send_many(&[bad, there]).is_err());
        assert_eq!(sender.try_send_many(&[there]).unwrap(), 300);
        assert_eq!(receive(&mut tunnel, 9).await.len(), 9);
    }
    // The kernel was asked about the last one only: once behind others, once alone.
    assert_eq!(sender.stats().send_errors, 2);
    assert_eq!(sender.try_send_many(&[]).unwrap(), 0);
}

#[tokio::test]
async fn a_kernel_that_does_not_coalesce_is_read_datagram_by_datagram() {
    for leads in [false, true] {
        let (sender, _unused) = bind();
        let (receiver, mut tunnel) = bind();
        set(&receiver, libc::SOL_UDP, libc::UDP_GRO, 0);
        if leads {
            tunnel.lead();
        }
        sender
            .send_segments(receiver.local_addr(), &messages(40, 1000), 1000)
            .await
            .unwrap();
        let mut batch = Batch::new();
        let mut seen = Vec::new();
        while seen.len() < 40 {
            let count = within(tunnel.recv(&mut batch)).await.unwrap();
            assert!(!leads || count <= 32, "32 buffers, a datagram each");
            seen.extend(batch.iter().map(|(_, d)| (d.len(), d[999])));
        }
        assert_eq!(seen, (0..40).map(|n| (1000, n)).collect::<Vec<_>>());
    }
}

/// Everything quinn would be given, datagram by datagram, until there are `count`.
async fn quic_datagrams(side: &QuicSide, count: usize) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    let mut memory = vec![0; 65_536];
    while datagrams.len() < count {
        let mut metas = [RecvMeta::default()];
        let mut buffers = [IoSliceMut::new(&mut memory)];
        let filled = within(poll_fn(|cx| side.poll_recv(cx, &mut buffers, &mut metas))).await;
        assert_eq!(filled.unwrap(), 1);
        let [meta] = metas;
        datagrams.extend(memory[..meta.len].chunks(meta.stride).map(<[u8]>::to_vec));
    }
    datagrams
}

#[tokio::test]
async fn a_buffer_of_mixed_datagrams_is_split_to_whom_each_belongs() {
    const LENGTH: usize = 100;
    let (sender, _unused) = bind();
    for leads in [false, true] {
        let (receiver, mut tunnel) = bind();
        let side = receiver.quic_side().unwrap();
        if leads {
            tunnel.lead();
        }
        // Tunnel, QUIC and junk in one call, hence in one buffer, hard by each other.
        let kinds = b"TTQTQQJTJQTTTTQJJQQTQ";
        let mut buffer = messages(kinds.len() as u8, LENGTH);
        for (message, kind) in buffer.chunks_mut(LENGTH).zip(kinds) {
            message[0] = match kind {
                b'T' => 4,
                b'Q' => 0x43,
                _ => 0x3f,
            };
        }
        let of = |wanted: u8| {
            let chosen = buffer.chunks(LENGTH).zip(kinds);
            let chosen = chosen.filter(move |(_, kind)| **kind == wanted);
            chosen
                .map(|(message, _)| message.to_vec())
                .collect::<Vec<_>>()
        };
        sender
            .try_send_segments(receiver.local_addr(), &buffer, LENGTH)
            .unwrap();
        let mut batch = Batch::new();
        within(tunnel.recv(&mut batch)).await.unwrap();
        let tunnelled: Vec<Vec<u8>> = batch.iter().map(|(_, d)| d.to_vec()).collect();
        assert_eq!(tunnelled, of(b'T'), "in one go: one buffer held them all");
        let in_place: Vec<Vec<u8>> = batch.iter_mut().map(|(_, d)| d.to_vec()).collect();
        assert_eq!(in_place, of(b'T'));
        assert_eq!(
            quic_datagrams(&side, of(b'Q').len()).await,
            of(b'Q'),
            "leads: {leads}"
        );
        let stats = receiver.stats();
        assert_eq!((stats.tunnel_in, stats.quic_in, stats.junk_in), (9, 8, 4));
        assert_eq!((stats.tunnel_dropped, stats.quic_dropped), (0, 0));
    }
}

#[tokio::test]
async fn a_leader_holds_a_fixed_amount_of_memory_whatever_is_sent() {
    let (sender, _unused) = bind();
    let (receiver, mut tunnel) = bind();
    let to = receiver.local_addr();
    let mut batch = Batch::new();
    let mut received = 0;
    // Followed for one round, so that the batch and the queue have memory to give back.
    for round in 0..200 {
        for _ in 0..20 {
            // Changes of kind make the most runs.
            let mut mixed = messages(60, 1000);
            mixed
                .iter_mut()
                .step_by(2000)
                .for_each(|first| *first = 0x43);
            sender.send_segments(to, &mixed, 1000).await.unwrap();
        }
        received += within(tunnel.recv(&mut batch)).await.unwrap();
        tunnel.lead();
        // By then nothing read before it led is left.
        if round >= 5 {
            let memory = batch.memory();
            // 2 MiB of buffers, and what 32 buffers of 65 segments can make of runs.
            let bound = intake::MEMORY + 2 * 32 * 65 * size_of::<pile::Run>();
            assert!((intake::MEMORY..=bound).contains(&memory), "{memory}");
            let stats = receiver.stats();
            assert_eq!((stats.tunnel_queued_bytes, stats.quic_queued_bytes), (0, 0));
            // Twice what was asked for, and the one buffer by which the kernel goes beyond.
            assert!(stats.kernel_queued_bytes <= 2 * (12 << 20) + 128 * 1024);
        }
    }
    assert!(received > 1000);
    assert!(
        receiver.stats().kernel_dropped > 0,
        "it was more than fitted"
    );
}

#[tokio::test]
async fn a_dead_descriptor_is_reported_to_both_consumers_whoever_reads() {
    for leads in [false, true] {
        let (socket, mut tunnel) = bind();
        let side = socket.quic_side().unwrap();
        if leads {
            tunnel.lead();
        }
        // Something arrives where our descriptor does not lead any more.
        let nothing = std::fs::File::open("/dev/null").unwrap();
        let _alive = socket.inner.port.io.as_fd().try_clone_to_owned().unwrap();
        let (sender, _unused) = bind();
        // SAFETY: both descriptors are open, and ours.
        let outcome = unsafe { libc::dup2(nothing.as_raw_fd(), socket.inner.port.io.as_raw_fd()) };
        assert!(outcome >= 0);
        sender.try_send(socket.local_addr(), &[4, 0, 0, 0]).unwrap();
        let mut batch = Batch::new();
        let error = within(tunnel.recv(&mut batch)).await.unwrap_err();
        assert_eq!(socket.stats().receive_errors, reader::PATIENCE as u64);
        for again in 0..2 {
            let kind = within(tunnel.recv(&mut batch)).await.unwrap_err().kind();
            assert_eq!(kind, error.kind(), "{again}");
        }
        let mut memory = [0; 100];
        let (mut buffers, mut metas) = ([IoSliceMut::new(&mut memory)], [RecvMeta::default()]);
        let told = poll_fn(|cx| side.poll_recv(cx, &mut buffers, &mut metas));
        assert_eq!(within(told).await.unwrap_err().kind(), error.kind());
    }
}
