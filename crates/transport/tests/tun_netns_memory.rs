//! What the packet path of a TUN device with offloads allocates: nothing. Needs root.

#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)] // an allocator that counts

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::poll_fn;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use wayfare_transport::tun::{Framing, PacketBatch, Tun, TunDevice};

thread_local! {
    /// Allocations of this thread.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is left to the system's allocator; counting touches a thread-local number without destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FRAMING: Framing = Framing {
    head: 16,
    tail: 16,
    multiple: 16,
    mtu: 1420,
};

async fn rounds() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let tun = TunDevice::create("wfmem", 1420).unwrap();
    assert!(tun.offloads().udp, "this test wants Linux 6.2");
    let added = Command::new("ip")
        .args(["address", "add", "10.88.0.1/24", "dev", "wfmem"])
        .status();
    assert!(added.unwrap().success());
    let program = std::net::UdpSocket::bind("10.88.0.1:0").unwrap();
    setsockopt(&program, sockopt::UdpGsoSegment, &1000).unwrap();
    let mut batch = PacketBatch::new(FRAMING, 1 << 18);
    let room = batch.bytes().as_ptr();
    let mut sent = 0;
    for round in 0..50 {
        program.send_to(&[7; 20_000], "10.88.0.2:9").unwrap();
        batch.clear();
        let mut train = 0;
        while train < 20 {
            let before = COUNT.get();
            train += poll_fn(|cx| tun.poll_recv_batch(cx, &mut batch))
                .await
                .unwrap();
            assert_eq!(COUNT.get() - before, 0, "receiving in round {round}");
        }
        assert_eq!(batch.bytes().as_ptr(), room);
        let packets: Vec<&[u8]> = batch
            .frames()
            .map(|frame| &frame.bytes[16..16 + frame.packet])
            .collect();
        let before = COUNT.get();
        sent += tun.send_batch(&packets);
        assert_eq!(COUNT.get() - before, 0, "sending in round {round}");
    }
    assert!(sent >= 1000);
    assert!(tun.counts().supers_received >= 50);
    assert!(tun.counts().supers_sent >= 50);
}

#[test]
fn batches_allocate_nothing() {
    let thread = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let limit = std::time::Duration::from_secs(20);
            tokio::time::timeout(limit, rounds()).await.unwrap();
        });
    });
    thread.join().unwrap();
}
