//! The one task that reads the shared socket and sorts what it reads into the two queues.
//!
//! One reader keeps each peer's datagrams in order. It refuses to wait for a slow consumer: what
//! does not fit is dropped and counted.

use std::array;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::sync::Arc;

use quinn::udp::RecvMeta;
use tokio::io::Interest;

use super::batch::Run;
use super::demux::{self, Kind};
use super::inner::Inner;

/// Buffers offered to the kernel per call. With 64 KiB each: 1 MiB per socket.
const BUFFERS: usize = 16;
/// The largest UDP payload, coalesced or not, rounded up.
const BUFFER: usize = 65_536;
/// Failures in a row after which the socket counts as broken. Passing trouble (no memory) ends
/// sooner; a dead descriptor would otherwise spin for ever.
const PATIENCE: usize = 64;

pub(super) async fn run(inner: Arc<Inner>) {
    let mut memory = vec![0u8; BUFFERS * BUFFER];
    let mut metas = [RecvMeta::default(); BUFFERS];
    let mut failures = 0;
    let cause = loop {
        // The poll form takes part in tokio's cooperative budget: a flood cannot keep the thread.
        if let Err(e) = poll_fn(|cx| inner.io.poll_recv_ready(cx)).await {
            break e;
        }
        match receive(&inner, &mut memory, &mut metas) {
            Ok(buffers) => {
                failures = 0;
                for (bytes, meta) in memory.chunks(BUFFER).zip(&metas).take(buffers) {
                    sort(&inner, bytes, meta);
                }
                inner.tunnel.wake();
                inner.quic.wake();
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => {
                inner.counters.receive_errors.add(1);
                failures += 1;
                if failures == PATIENCE {
                    break e;
                }
                tokio::task::yield_now().await;
            }
        }
    };
    tracing::error!(error = %cause, "the shared UDP socket failed");
    inner.tunnel.break_off(cause.kind());
    inner.quic.break_off(cause.kind());
}

fn receive(inner: &Inner, memory: &mut [u8], metas: &mut [RecvMeta; BUFFERS]) -> io::Result<usize> {
    let mut chunks = memory.chunks_mut(BUFFER);
    let mut buffers: [IoSliceMut<'_>; BUFFERS] =
        array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
    inner.io.try_io(Interest::READABLE, || {
        inner.udp.recv((&inner.io).into(), &mut buffers, metas)
    })
}

fn sort(inner: &Inner, bytes: &[u8], meta: &RecvMeta) {
    let counters = &inner.counters;
    let received = &bytes[..meta.len.min(bytes.len())];
    if received.is_empty() {
        counters.junk_in.add(1);
    }
    let canonical = super::canonical(meta.addr);
    for (kind, bytes) in demux::runs(received, meta.stride) {
        let run = Run {
            // QUIC gets the address as the kernel wrote it: quinn compares it with its own.
            from: if kind == Kind::Quic {
                meta.addr
            } else {
                canonical
            },
            len: bytes.len(),
            stride: meta.stride.clamp(1, bytes.len()),
            ecn: meta.ecn,
            local_ip: meta.dst_ip,
        };
        let datagrams = run.datagrams();
        let (queue, seen, dropped) = match kind {
            Kind::Quic => (&inner.quic, &counters.quic_in, &counters.quic_dropped),
            Kind::Tunnel => (&inner.tunnel, &counters.tunnel_in, &counters.tunnel_dropped),
            Kind::Junk => {
                counters.junk_in.add(datagrams);
                continue;
            }
        };
        seen.add(datagrams);
        if !queue.push(run, bytes) {
            dropped.add(datagrams);
        }
    }
}
