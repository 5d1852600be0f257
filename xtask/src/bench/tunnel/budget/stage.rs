//! The stages of a byte's way, and to which of them a sample belongs: by the program it was taken
//! in and by the innermost function. It refuses to guess from the callers: what copies, copies,
//! whoever asked for it.

use std::collections::BTreeMap;

/// What the kernel calls our program, cut to its 15 bytes, and the two ends of the stream.
const OURS: &str = "wayfare";
const ENDS: &str = "iperf3";

/// The folded stacks of these programs alone.
pub(super) fn of_the_stream(folded: &str) -> String {
    let ours = |line: &&str| line.starts_with(OURS) || line.starts_with(ENDS);
    folded
        .lines()
        .filter(ours)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Where time goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Seal,
    Open,
    Checksums,
    Moves,
    Tunnel,
    Batches,
    Copies,
    UdpIp,
    Device,
    Tcp,
    Memory,
    Waking,
    OtherKernel,
    Ends,
    Elsewhere,
    Idle,
}

impl Stage {
    /// Those that cost, in the order of the table; the last word is idleness, which does not.
    pub(super) const ALL: [Self; 15] = [
        Self::Seal,
        Self::Open,
        Self::Checksums,
        Self::Moves,
        Self::Tunnel,
        Self::Batches,
        Self::Copies,
        Self::UdpIp,
        Self::Device,
        Self::Tcp,
        Self::Memory,
        Self::Waking,
        Self::OtherKernel,
        Self::Ends,
        Self::Elsewhere,
    ];

    /// In the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Open => "open",
            Self::Checksums => "checksums_and_segments",
            Self::Moves => "moves_in_memory",
            Self::Tunnel => "tunnel",
            Self::Batches => "batches",
            Self::Copies => "copies",
            Self::UdpIp => "udp_and_ip",
            Self::Device => "device",
            Self::Tcp => "tcp_in_our_calls",
            Self::Memory => "kernel_memory",
            Self::Waking => "waking",
            Self::OtherKernel => "other_kernel",
            Self::Ends => "tcp_ends",
            Self::Elsewhere => "elsewhere",
            Self::Idle => "idle",
        }
    }

    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Seal => "sealing: the cipher",
            Self::Open => "opening: the cipher",
            Self::Checksums => "ours: checksums, taking super-packets apart, putting them together",
            Self::Moves => "ours: moving bytes in memory",
            Self::Tunnel => "ours: the tunnel machine (keys, counters, replay, routes, timers)",
            Self::Batches => "ours: everything else (batches, event loop)",
            Self::Copies => "kernel, for us: copies between it and us",
            Self::UdpIp => "kernel, for us: UDP, IP, the cable",
            Self::Device => "kernel, for us: the TUN device",
            Self::Tcp => "kernel, for us: TCP that runs within our calls",
            Self::Memory => "kernel, for us: memory for packets",
            Self::Waking => "kernel, for us: waking, scheduling, interrupts",
            Self::OtherKernel => "kernel, for us: system calls and the rest",
            Self::Ends => "sender and receiver of the stream",
            Self::Elsewhere => "the rest of the machine",
            Self::Idle => "idle",
        }
    }

    /// Of a stack's program and innermost function.
    fn of(program: &str, function: &str) -> Self {
        let has = |words: &[&str]| words.iter().any(|word| function.contains(word));
        if program.starts_with("swapper") {
            let waits = has(&["halt", "idle", "mwait"]);
            return if waits { Self::Idle } else { Self::Elsewhere };
        }
        if program.starts_with(ENDS) {
            return Self::Ends;
        }
        if !program.starts_with(OURS) {
            return Self::Elsewhere;
        }
        match function.strip_suffix("_[k]") {
            Some(_) => Self::of_kernel(has),
            None => Self::of_ours(has),
        }
    }

    fn of_ours(has: impl Fn(&[&str]) -> bool) -> Self {
        if has(&["chacha20_poly1305", "poly1305", "aws_lc", "aead", "AEAD"]) {
            let opens = has(&["open", "memcmp"]);
            return if opens { Self::Open } else { Self::Seal };
        }
        if has(&["checksum", "segment", "coalesce", "TunDevice"]) {
            return Self::Checksums;
        }
        if has(&["memmove", "memcpy", "memset"]) {
            return Self::Moves;
        }
        if has(&["wayfare_tunnel"]) {
            return Self::Tunnel;
        }
        Self::Batches
    }

    fn of_kernel(has: impl Fn(&[&str]) -> bool) -> Self {
        if has(&[
            "_copy_",
            "copy_page",
            "copy_to",
            "copy_from",
            "datagram_iter",
            "object_size",
            "virt_addr",
        ]) {
            return Self::Copies;
        }
        if has(&[
            "irq", "sched", "wake", "task", "timer", "tick", "clock", "tsc", "epoll", "ep_",
        ]) {
            return Self::Waking;
        }
        if has(&["tcp"]) {
            return Self::Tcp;
        }
        if has(&["tun_", "tun"]) {
            return Self::Device;
        }
        if has(&[
            "udp", "ip_", "ip6", "ipv", "fib", "route", "neigh", "dst", "nf_", "inet", "veth",
            "dev_", "net_", "netif",
        ]) {
            return Self::UdpIp;
        }
        if has(&[
            "page", "kmem", "slab", "kfree", "kmalloc", "alloc", "free", "skb",
        ]) {
            return Self::Memory;
        }
        Self::OtherKernel
    }
}

/// Samples by stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Samples(BTreeMap<Stage, u64>);

impl Samples {
    /// Reads folded stacks. Lines of another form count for nothing.
    pub(super) fn read(folded: &str) -> Self {
        let mut samples = Self::default();
        for line in folded.lines() {
            let Some((stack, count)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(count) = count.parse::<u64>() else {
                continue;
            };
            let mut frames = stack.split(';');
            let program = frames.next().unwrap_or_default();
            let function = frames.next_back().unwrap_or_default();
            *samples.0.entry(Stage::of(program, function)).or_default() += count;
        }
        samples
    }

    /// Of one stage.
    pub(super) fn of(&self, stage: Stage) -> u64 {
        self.0.get(&stage).copied().unwrap_or_default()
    }

    /// Of all that cost.
    pub(super) fn busy(&self) -> u64 {
        Stage::ALL.iter().map(|stage| self.of(*stage)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_has_one_stage() {
        let folded = "\
wayfare-wiregua;main;work;chacha20_poly1305_seal_avx2 40
wayfare-wiregua;main;work;chacha20_poly1305_open_avx2 30
wayfare-wiregua;main;__sendmmsg;entry_[k];_copy_from_iter_[k] 7
wayfare-wiregua;main;wayfare_tunnel::endpoint::Endpoint::seal 3
wayfare-wiregua;read;tun_do_read_[k] 2
iperf3;tcp_sendmsg_[k] 11
swapper;do_idle_[k];pv_native_safe_halt_[k] 9
kworker/0:1;worker_thread_[k] 1
no count
";
        let samples = Samples::read(folded);
        let found = [
            (Stage::Seal, 40),
            (Stage::Open, 30),
            (Stage::Copies, 7),
            (Stage::Tunnel, 3),
            (Stage::Device, 2),
            (Stage::Ends, 11),
            (Stage::Elsewhere, 1),
            (Stage::Idle, 9),
        ];
        for (stage, count) in found {
            assert_eq!(samples.of(stage), count, "{stage:?}");
        }
        assert_eq!(samples.busy(), 94);
        let drawn = Samples::read(&of_the_stream(folded));
        assert_eq!((drawn.busy(), drawn.of(Stage::Idle)), (93, 0));
    }

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<_> = Stage::ALL.iter().map(|stage| stage.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Stage::ALL.len());
    }
}
