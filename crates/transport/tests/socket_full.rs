//! A send buffer that is full, and room in it again. Needs root for a network namespace of its own.
//!
//! Nothing fills up over loopback. Here a neighbour does not say where it lives: what is sent to
//! it waits in the kernel, on the sender's account, until its address is told.

#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use tokio::task::JoinSet;
use wayfare_transport::{Outgoing, SharedSocket, SocketOptions};

/// A child inherits the namespace of the thread that starts it.
fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// A namespace made by `unshare` belongs to its thread and disappears with it.
#[test]
fn a_full_send_buffer_says_so_and_room_wakes_all_who_wait() {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), full_and_free_again())
                .await
                .unwrap();
        });
    });
    thread.join().unwrap();
}

async fn full_and_free_again() {
    ip("link add wffull0 type veth peer name wffull1");
    ip("address add 10.88.0.1/24 dev wffull0");
    ip("link set wffull0 up");
    ip("link set wffull1 up");
    let options = SocketOptions {
        send_buffer: 8 << 10,
        ..SocketOptions::default()
    };
    let (socket, _tunnel) = SharedSocket::bind("10.88.0.1:0".parse().unwrap(), options).unwrap();
    let silent: SocketAddr = "10.88.0.2:7".parse().unwrap();
    let datagram = [4; 1000];
    let mut taken = 0;
    let full = loop {
        match socket.try_send(silent, &datagram) {
            Ok(()) => taken += 1,
            Err(e) => break e,
        }
        assert!(taken < 1000, "it never fills");
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    let many = [Outgoing {
        to: silent,
        bytes: &datagram,
        segment: 500,
    }; 3];
    let full = socket.try_send_many(&many).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    assert_eq!(socket.stats().send_errors, 0, "a full buffer is no error");

    let (mut waiting, free) = wait_in_three_ways(&socket, silent);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(free.load(Ordering::Relaxed), 0, "there is no room");

    ip("neighbour replace 10.88.0.2 lladdr 02:00:00:00:00:01 dev wffull0");
    while let Some(outcome) = waiting.join_next().await {
        outcome.unwrap();
    }
    assert_eq!(free.load(Ordering::Relaxed), 3);
    assert_eq!(socket.stats().sent, taken + 1);
}

/// Tasks that each wait for room in a way of its own, and how many found it.
fn wait_in_three_ways(
    socket: &SharedSocket,
    silent: SocketAddr,
) -> (JoinSet<()>, Arc<AtomicUsize>) {
    let free = Arc::new(AtomicUsize::new(0));
    let mut waiting = JoinSet::new();
    let done = |free: &Arc<AtomicUsize>| free.fetch_add(1, Ordering::Relaxed);
    waiting.spawn({
        let (socket, free) = (socket.clone(), free.clone());
        async move {
            socket.writable().await.unwrap();
            done(&free);
        }
    });
    waiting.spawn({
        let (socket, free) = (socket.clone(), free.clone());
        async move {
            std::future::poll_fn(|cx| socket.poll_writable(cx))
                .await
                .unwrap();
            done(&free);
        }
    });
    waiting.spawn({
        let (socket, free) = (socket.clone(), free.clone());
        async move {
            socket.send(silent, &[4; 1000]).await.unwrap();
            done(&free);
        }
    });
    (waiting, free)
}
