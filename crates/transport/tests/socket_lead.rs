//! A tunnel receiver that reads the kernel itself: order and completeness across hand-overs,
//! bounded work, and what the kernel keeps meanwhile. Loopback.

#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::Semaphore;
use wayfare_transport::{Batch, SharedSocket, SocketOptions, TunnelReceiver};

fn bind() -> (SharedSocket, TunnelReceiver) {
    bind_with(SocketOptions::default())
}

fn bind_with(options: SocketOptions) -> (SharedSocket, TunnelReceiver) {
    SharedSocket::bind("127.0.0.1:0".parse().unwrap(), options).unwrap()
}

/// A tunnel message of `length` bytes that carries `number`.
fn message(number: u32, length: usize) -> Vec<u8> {
    let mut message = vec![0; length];
    message[0] = 4;
    message[4..8].copy_from_slice(&number.to_be_bytes());
    message
}

fn numbers(batch: &Batch) -> Vec<u32> {
    batch
        .iter()
        .map(|(_, d)| u32::from_be_bytes(d[4..8].try_into().unwrap()))
        .collect()
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .unwrap()
}

/// Waits for an event that other tasks bring about; fails instead of hanging.
async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let wait = async {
        while !happened() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect(what);
}

/// Datagrams each way in the test of many hand-overs.
const COUNT: u32 = 60_000;
/// Datagrams under way at once: two bursts, so that there are many batches to change roles at.
const WINDOW: usize = 82;

/// Sends `COUNT` numbered datagrams, alone and segmented, never more than the window ahead.
async fn send_numbered(from: SharedSocket, to: SharedSocket, window: Arc<Semaphore>) {
    let mut next = 0;
    let mut burst = 1;
    while next < COUNT {
        burst = (burst * 7 + 3) % 41 + 1;
        let end = COUNT.min(next + burst);
        let length = 40 + (next % 1300) as usize;
        let buffer: Vec<u8> = (next..end).flat_map(|n| message(n, length)).collect();
        window.acquire_many(end - next).await.unwrap().forget();
        from.send_segments(to.local_addr(), &buffer, length)
            .await
            .unwrap();
        next = end;
    }
}

/// Receives `COUNT` datagrams while changing roles all the time; returns how often it did.
async fn receive_numbered(mut tunnel: TunnelReceiver, window: Arc<Semaphore>) -> usize {
    let mut batch = Batch::new();
    let (mut next, mut rounds, mut changes) = (0, 0usize, 0);
    while next < COUNT {
        // Led for 1 to 4 rounds, followed for one: both longer and shorter than a batch lasts.
        match rounds % 5 {
            0 => tunnel.lead(),
            n if n == 1 + rounds / 5 % 4 => tunnel.follow(),
            _ => {}
        }
        changes += usize::from(rounds % 5 == 0);
        rounds += 1;
        let count = tunnel.recv(&mut batch).await.unwrap();
        for number in numbers(&batch) {
            assert_eq!(number, next, "after {changes} hand-overs");
            next += 1;
        }
        window.add_permits(count);
    }
    changes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_reordered_by_many_hand_overs_under_load_both_ways() {
    let (left, left_tunnel) = bind();
    let (right, right_tunnel) = bind();
    let way = |from: &SharedSocket, to: &SharedSocket, tunnel| {
        let window = Arc::new(Semaphore::new(WINDOW));
        tokio::spawn(send_numbered(from.clone(), to.clone(), window.clone()));
        tokio::spawn(receive_numbered(tunnel, window))
    };
    let ways = [
        way(&left, &right, right_tunnel),
        way(&right, &left, left_tunnel),
    ];
    for way in ways {
        let changes = within(way).await.unwrap();
        assert!(changes > 100, "{changes}");
        println!("{COUNT} datagrams in order across {changes} hand-overs");
    }
    for stats in [left.stats(), right.stats()] {
        assert_eq!(stats.tunnel_in, u64::from(COUNT));
        assert_eq!((stats.tunnel_dropped, stats.kernel_dropped), (0, 0));
    }
}

#[tokio::test]
async fn what_was_queued_comes_before_what_is_read_directly() {
    let (socket, mut tunnel) = bind();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            peer.send_to(&message(number, 100), socket.local_addr())
                .unwrap();
        }
    };
    send(0..40);
    eventually("queued", || socket.stats().tunnel_in == 40).await;
    tunnel.lead();
    send(40..45);
    let mut batch = Batch::new();
    assert_eq!(within(tunnel.recv(&mut batch)).await.unwrap(), 40);
    assert_eq!(numbers(&batch), (0..40).collect::<Vec<_>>());
    assert_eq!(socket.stats().tunnel_in, 40, "the rest is the kernel's yet");
    assert_eq!(within(tunnel.recv(&mut batch)).await.unwrap(), 5);
    assert_eq!(numbers(&batch), (40..45).collect::<Vec<_>>());
    let (from, first) = batch.iter_mut().next().unwrap();
    assert_eq!((from, first.len()), (peer.local_addr().unwrap(), 100));
}

#[tokio::test]
async fn no_wake_up_is_lost_when_roles_change_while_waiting() {
    let (socket, mut tunnel) = bind();
    let to = socket.local_addr();
    let mut batch = Batch::new();
    for number in 0..400 {
        {
            // Wait in the old role, and give up waiting.
            let mut waiting = pin!(tunnel.recv(&mut batch));
            poll_fn(|cx| {
                assert!(waiting.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        match number % 4 {
            0 => tunnel.lead(),
            2 => tunnel.follow(),
            _ => {}
        }
        let (sent, received) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                socket.send(to, &message(number, 32)).await
            },
            within(tunnel.recv(&mut batch))
        );
        sent.unwrap();
        assert_eq!(received.unwrap(), 1);
        assert_eq!(numbers(&batch), [number]);
    }
}

#[tokio::test]
async fn a_leader_that_leaves_hands_reading_back_at_once() {
    let (socket, mut tunnel) = bind();
    let to = socket.local_addr();
    tunnel.lead();
    socket.send(to, &message(1, 32)).await.unwrap();
    within(tunnel.recv(&mut Batch::new())).await.unwrap();
    // Unread when the leader goes: the background task must notice without a new arrival.
    socket.send(to, &message(2, 32)).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(socket.stats().tunnel_in, 1, "nobody reads beside a leader");
    drop(tunnel);
    eventually("drop", || socket.stats().tunnel_dropped == 1).await;
    socket.send(to, &message(3, 32)).await.unwrap();
    eventually("drop", || socket.stats().tunnel_dropped == 2).await;
}

#[derive(Debug, Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn one_poll_reads_the_kernel_once_and_comes_back_for_the_rest() {
    let (socket, mut tunnel) = bind();
    tunnel.lead();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_nonblocking(true).unwrap();
    let junk = || {
        for _ in 0..100 {
            peer.send_to(b"?junk", socket.local_addr()).unwrap();
        }
    };
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    let mut batch = Batch::new();
    junk();
    // Until the event loop has told of the arrivals there is nothing to read.
    eventually("first read", || {
        assert!(tunnel.poll_recv(&mut cx, &mut batch).is_pending());
        socket.stats().junk_in > 0
    })
    .await;
    assert_eq!(socket.stats().junk_in, 32, "one call of 32 buffers");
    for calls in 2..=4 {
        let before = woken.0.load(Ordering::Relaxed);
        assert!(tunnel.poll_recv(&mut cx, &mut batch).is_pending());
        assert_eq!(socket.stats().junk_in, 100.min(calls * 32));
        // It comes back by itself while there may be more, and then waits for an event.
        let again = woken.0.load(Ordering::Relaxed) - before;
        assert_eq!(again, usize::from(calls < 4), "call {calls}");
    }
    junk();
    eventually("woken by arrivals", || woken.0.load(Ordering::Relaxed) > 3).await;

    // Tunnel messages behind the junk: at most 32 a call, all of them in order.
    for number in 0..40 {
        peer.send_to(&message(number, 32), socket.local_addr())
            .unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 40 {
        assert!(within(tunnel.recv(&mut batch)).await.unwrap() <= 32);
        seen.extend(numbers(&batch));
    }
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
    assert_eq!(socket.stats().junk_in, 200);
    // And nobody was answered.
    let error = peer.recv(&mut [0; 100]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

/// See `socket/open.rs`: a stream with a window of 6 MiB, its receiver away, nothing coalesced.
#[tokio::test]
async fn the_kernel_keeps_a_whole_tcp_window_for_a_busy_leader() {
    const WINDOW: u32 = (6 << 20) / 1368 + 1;
    let (socket, mut tunnel) = bind();
    tunnel.lead();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..WINDOW {
        peer.send_to(&message(number, 1452), socket.local_addr())
            .unwrap();
    }
    let stats = socket.stats();
    assert_eq!((stats.kernel_dropped, stats.tunnel_in), (0, 0));
    let per_datagram = stats.kernel_queued_bytes / u64::from(WINDOW);
    println!("{WINDOW} datagrams of 1,452 bytes are charged {per_datagram} bytes each");
    assert!((1452..=2304).contains(&per_datagram), "{per_datagram}");
    let mut batch = Batch::new();
    let mut next = 0;
    while next < WINDOW {
        within(tunnel.recv(&mut batch)).await.unwrap();
        for number in numbers(&batch) {
            assert_eq!(number, next);
            next += 1;
        }
    }
    assert_eq!(socket.stats().kernel_queued_bytes, 0);
}

#[tokio::test]
async fn what_the_kernel_drops_is_counted() {
    let (socket, mut tunnel) = bind_with(SocketOptions {
        receive_buffer: 16 << 10,
        ..SocketOptions::default()
    });
    tunnel.lead();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..1000 {
        peer.send_to(&message(number, 1000), socket.local_addr())
            .unwrap();
    }
    let dropped = socket.stats().kernel_dropped;
    assert!((900..1000).contains(&dropped), "{dropped}");
    let mut batch = Batch::new();
    let mut kept = Vec::new();
    while kept.len() < 1000 - dropped as usize {
        within(tunnel.recv(&mut batch)).await.unwrap();
        kept.extend(numbers(&batch));
    }
    // The oldest were kept, and no more than was not counted.
    assert_eq!(kept, (0..1000 - dropped as u32).collect::<Vec<_>>());
    assert_eq!(socket.stats().kernel_queued_bytes, 0);
    assert_eq!(socket.stats().kernel_dropped, dropped);
}
