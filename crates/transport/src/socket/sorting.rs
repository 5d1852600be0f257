//! Everything that arrives goes to whom it is for: tunnel messages, QUIC and probes to their
//! takers, relay frames to whom is in them or to the switch.
//!
//! Frames of paths of ours are taken apart where they lie: the datagrams of a train move together
//! over the heads between them, in order, and are then sorted as any others. It refuses frames
//! within frames, and senders that cannot be: virtual addresses never come from the network.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use quinn::udp::{EcnCodepoint, RecvMeta};

use super::demux::{self, HEAD, Kind};
use super::inner::Inner;
use super::pile::Run;
use super::{canonical, is_virtual, probes};

/// Whom a kernel socket may hear.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// The shared socket: whoever has an address.
    Everybody,
    /// An adopted one: its remote, canonical and as the shared socket's family writes it.
    Only {
        remote: SocketAddr,
        wire: SocketAddr,
    },
}

/// Where datagrams came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    /// Canonical.
    from: SocketAddr,
    /// As the shared socket's family writes it, which is what quinn compares with its own.
    wire: SocketAddr,
    ecn: Option<EcnCodepoint>,
    local_ip: Option<IpAddr>,
}

impl Heard {
    /// Through a relay or a carrier: nothing else is known of the way.
    pub(super) fn through(from: SocketAddr, wire: SocketAddr) -> Self {
        Self {
            from,
            wire,
            ecn: None,
            local_ip: None,
        }
    }

    fn of(inner: &Inner, meta: &RecvMeta, source: Source) -> Option<Self> {
        let from = canonical(meta.addr);
        let (wire, local_ip) = match source {
            Source::Everybody if is_virtual(from) => return None,
            Source::Everybody => (meta.addr, meta.dst_ip),
            Source::Only { remote, .. } if from != remote => return None,
            Source::Only { wire, .. } => {
                inner
                    .counters
                    .adopted_in
                    .add(datagrams(meta.len, meta.stride));
                (wire, None)
            }
        };
        Some(Self {
            from,
            wire,
            ecn: meta.ecn,
            local_ip,
        })
    }
}

fn datagrams(length: usize, stride: usize) -> usize {
    length.div_ceil(stride.max(1)).max(1)
}

/// Counts everything, copies QUIC to its queue without waking it, and offers runs of tunnel
/// messages, which begin at `Run::start` of `memory`, to `tunnel`, which says whether it took them.
/// The kernel wrote to the first `metas.len()` buffers of `size` bytes.
pub(super) fn sort(
    inner: &Inner,
    memory: &mut [u8],
    size: usize,
    (metas, source): (&[RecvMeta], Source),
    mut tunnel: impl FnMut(Run, &[u8]) -> bool,
) {
    for (number, (buffer, meta)) in memory.chunks_mut(size).zip(metas).enumerate() {
        let length = meta.len.min(buffer.len());
        let heard = Heard::of(inner, meta, source);
        let Some(heard) = heard.filter(|_| length > 0) else {
            inner.counters.junk_in.add(datagrams(length, meta.stride));
            continue;
        };
        let mut sorter = Sorter {
            inner,
            heard: &heard,
            offset: number * size,
            tunnel: &mut tunnel,
        };
        sorter.buffer(buffer, length, meta.stride.max(1));
    }
}

/// As [`sort`] for one datagram that lies elsewhere; all of it is copied.
pub(super) fn take_in(inner: &Inner, heard: &Heard, datagram: &[u8], frames: bool) {
    let mut tunnel = |run, bytes: &[u8]| inner.tunnel.push(run, bytes);
    let mut sorter = Sorter {
        inner,
        heard,
        offset: 0,
        tunnel: &mut tunnel,
    };
    let kind = demux::classify(datagram);
    if kind != Kind::Frame || !frames {
        sorter.hand(kind, 0, datagram, datagram.len());
        return;
    }
    let (channel, _) = demux::first_channel(datagram, datagram.len());
    match inner.detours.relayed(heard.from, channel, datagram.len()) {
        None => inner.forward(heard.from, channel, datagram, datagram.len()),
        Some(address) => sorter.relayed(address, 1, |sorter| {
            let inside = &datagram[HEAD..];
            sorter.hand(demux::classify(inside), 0, inside, inside.len());
        }),
    }
}

/// Sorts what was heard from one sender.
struct Sorter<'a, T> {
    inner: &'a Inner,
    heard: &'a Heard,
    /// Where its memory begins in the memory that runs are told of.
    offset: usize,
    tunnel: &'a mut T,
}

impl<T: FnMut(Run, &[u8]) -> bool> Sorter<'_, T> {
    /// Sorts the first `length` bytes of `memory`, datagrams of `stride` bytes.
    fn buffer(&mut self, memory: &mut [u8], length: usize, stride: usize) {
        let mut start = 0;
        while start < length {
            let (kind, run) = demux::first_run(&memory[start..length], stride);
            let end = start + run;
            if kind == Kind::Frame {
                self.frames(memory, start..end, stride);
            } else {
                self.hand(kind, start, &memory[start..end], stride);
            }
            start = end;
        }
    }

    /// Frames of any channels.
    fn frames(&mut self, memory: &mut [u8], Range { mut start, end }: Range<usize>, stride: usize) {
        while start < end {
            let (channel, run) = demux::first_channel(&memory[start..end], stride);
            let frames = start..start + run;
            start = frames.end;
            let from = self.heard.from;
            let Some(address) = self.inner.detours.relayed(from, channel, run) else {
                self.inner.forward(from, channel, &memory[frames], stride);
                continue;
            };
            let count = run.div_ceil(stride);
            let inside = strip(memory, frames, stride);
            let stride = stride - HEAD;
            self.relayed(address, count, |sorter| {
                let Range { mut start, end } = inside;
                while start < end {
                    let (kind, run) = demux::first_run(&memory[start..end], stride);
                    sorter.hand(kind, start, &memory[start..start + run], stride);
                    start += run;
                }
            });
        }
    }

    /// Sorts the insides of `count` frames, which are heard from a virtual address.
    fn relayed(
        &mut self,
        address: SocketAddr,
        count: usize,
        sort: impl FnOnce(&mut Sorter<'_, T>),
    ) {
        self.inner.counters.frames_in.add(count);
        // Every virtual address can be written in both families.
        let Ok(wire) = self.inner.port.wire(address) else {
            return;
        };
        sort(&mut Sorter {
            inner: self.inner,
            heard: &Heard::through(address, wire),
            offset: self.offset,
            tunnel: &mut *self.tunnel,
        });
    }

    /// One run of one kind, which is not taken apart any further. It begins at `start`.
    fn hand(&mut self, kind: Kind, start: usize, bytes: &[u8], stride: usize) {
        let counters = &self.inner.counters;
        let Heard {
            from,
            wire,
            ecn,
            local_ip,
        } = *self.heard;
        let run = Run {
            from: if kind == Kind::Quic { wire } else { from },
            start: self.offset + start,
            len: bytes.len(),
            stride: stride.clamp(1, bytes.len().max(1)),
            ecn,
            local_ip,
        };
        let datagrams = run.datagrams();
        match kind {
            Kind::Quic => {
                counters.quic_in.add(datagrams);
                if !self.inner.quic.push(run, bytes) {
                    counters.quic_dropped.add(datagrams);
                }
            }
            Kind::Tunnel => {
                counters.tunnel_in.add(datagrams);
                if !(self.tunnel)(run, bytes) {
                    counters.tunnel_dropped.add(datagrams);
                }
            }
            Kind::Probe => bytes.chunks(run.stride).for_each(|probe| self.probe(probe)),
            Kind::Frame | Kind::Junk => counters.junk_in.add(datagrams.max(1)),
        }
    }

    fn probe(&self, probe: &[u8]) {
        let counters = &self.inner.counters;
        if probe.len() > probes::LONGEST {
            counters.junk_in.add(1);
            return;
        }
        counters.probes_in.add(1);
        if !self.inner.probes.push(self.heard.from, probe) {
            counters.probes_dropped.add(1);
        }
    }
}

/// Moves the datagrams of `frames`, of `stride` bytes with their heads, together; says where they
/// lie then, within where they lay.
fn strip(memory: &mut [u8], frames: Range<usize>, stride: usize) -> Range<usize> {
    let mut to = frames.start + HEAD;
    let mut at = frames.start;
    while at < frames.end {
        let end = frames.end.min(at + stride);
        // The first stays where it is.
        if to != at + HEAD {
            memory.copy_within(at + HEAD..end, to);
        }
        to += end - at - HEAD;
        at = end;
    }
    frames.start + HEAD..to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_taken_out_in_place() {
        let check = |insides: &[&[u8]], stride: usize| {
            let head = demux::head(9);
            let frames: Vec<u8> = insides
                .iter()
                .flat_map(|inside| [&head[..], inside].concat())
                .collect();
            let mut memory = [&b"before"[..], &frames, b"after"].concat();
            let all = 6..6 + frames.len();
            let left = strip(&mut memory, all.clone(), stride);
            assert!(all.start <= left.start && left.end <= all.end);
            assert_eq!(memory[left], insides.concat());
            assert_eq!(&memory[..6], b"before");
            assert_eq!(&memory[all.end..], b"after");
        };
        check(&[b"x"], 9);
        check(&[b"x"], 2000);
        check(&[b"abc", b"def", b"ghi"], 11);
        check(&[b"abc", b"def", b"g"], 11);
        check(&[&[1; 1000], &[2; 1000], &[3; 1000], &[4; 10]], 1008);
    }
}
