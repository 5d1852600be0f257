//! The two programs the kernel runs for us, instruction by instruction.
//!
//! Neither keeps state, loops or calls anything; a packet that is too short for what a program
//! reads ends it with 0, the first lane (both BPF dialects promise that of these loads). They
//! refuse to judge: a wrong guess costs the datagram nothing but a look-up that finds nobody.

use libc::{BPF_A, BPF_JA, BPF_JEQ, BPF_MOD, BPF_RSH, sock_filter};
use libc::{BPF_ABS, BPF_ALU, BPF_B, BPF_H, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};

/// Of the UDP payload: for tunnel messages of type 2, 3 and 4 the first byte of the receiver index
/// modulo `lanes`; 0 for all others (handshake initiations, QUIC, junk).
///
/// The index lies at 8 in type 2, at 4 in types 3 and 4, little endian. Its first byte on the wire
/// is its lowest; one byte, because a load of more would turn them round.
pub(super) fn by_receiver_index(lanes: u32) -> [sock_filter; 10] {
    let load = |size, at| statement(BPF_LD | size | BPF_ABS, at);
    [
        // The type and three zeroes, as this load reads them: most significant byte first.
        load(BPF_W, 0),
        jump_if(0x0400_0000, 2, 0), // to 4
        jump_if(0x0300_0000, 1, 0), // to 4
        jump_if(0x0200_0000, 2, 5), // to 6, or to 9
        load(BPF_B, 4),
        statement(BPF_JMP | BPF_JA, 1), // to 7
        load(BPF_B, 8),
        statement(BPF_ALU | BPF_MOD | BPF_K, lanes),
        statement(BPF_RET | BPF_A, 0),
        statement(BPF_RET | BPF_K, 0),
    ]
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

/// Skips `yes` or `no` instructions.
fn jump_if(equal: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter {
        jt: yes,
        jf: no,
        ..statement(BPF_JMP | BPF_JEQ | BPF_K, equal)
    }
}

/// One instruction of eBPF (`struct bpf_insn` of `linux/bpf.h`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u8,
    /// Target in the lower four bits, source in the upper.
    registers: u8,
    offset: i16,
    value: i32,
}

/// Classes and sources that classic BPF does not have.
const BPF_ALU64: u32 = 0x07;
const BPF_MOV: u32 = 0xb0;
const BPF_X: u32 = 0x08;
const BPF_EXIT: u32 = 0x90;

/// Of an IP packet: the last 16 bits of its destination modulo `lanes`; 0 for what is not IP.
///
/// Register 0 is the result, also of loads from the packet, which find it through register 6 and
/// read the most significant byte first; register 1 holds the packet at the start.
pub(super) fn by_destination(lanes: u32) -> [Instruction; 12] {
    let load = |size, at| insn(BPF_LD | BPF_ABS | size, 0, at);
    let jump_if = |equal, skip| insn(BPF_JMP | BPF_JEQ | BPF_K, skip, equal);
    let divisor = i32::try_from(lanes).unwrap_or(1).max(1);
    [
        Instruction {
            registers: 1 << 4 | 6,
            ..insn(BPF_ALU64 | BPF_MOV | BPF_X, 0, 0)
        },
        load(BPF_B, 0),
        insn(BPF_ALU | BPF_RSH | BPF_K, 0, 4),
        jump_if(4, 3), // to 7
        jump_if(6, 4), // to 9
        insn(BPF_ALU | BPF_MOV | BPF_K, 0, 0),
        insn(BPF_JMP | BPF_EXIT, 0, 0),
        load(BPF_H, 18),              // IPv4: 16 to 19
        insn(BPF_JMP | BPF_JA, 1, 0), // to 10
        load(BPF_H, 38),              // IPv6: 24 to 39
        insn(BPF_ALU | BPF_MOD | BPF_K, 0, divisor),
        insn(BPF_JMP | BPF_EXIT, 0, 0),
    ]
}

fn insn(code: u32, offset: i16, value: i32) -> Instruction {
    Instruction {
        code: code as u8,
        registers: 0,
        offset,
        value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel itself runs them in `tests/steer.rs`; here they are in its words.
    #[test]
    fn the_words_of_both_programs_are_those_the_kernel_documents() {
        let classic = by_receiver_index(3).map(|i| (i.code, i.jt, i.jf, i.k));
        let expect = [
            (0x20, 0, 0, 0),
            (0x15, 2, 0, 0x0400_0000),
            (0x15, 1, 0, 0x0300_0000),
            (0x15, 2, 5, 0x0200_0000),
            (0x30, 0, 0, 4),
            (0x05, 0, 0, 1),
            (0x30, 0, 0, 8),
            (0x94, 0, 0, 3),
            (0x16, 0, 0, 0),
            (0x06, 0, 0, 0),
        ];
        assert_eq!(classic, expect);

        let extended = by_destination(3).map(|i| (i.code, i.registers, i.offset, i.value));
        let expect = [
            (0xbf, 0x16, 0, 0),
            (0x30, 0, 0, 0),
            (0x74, 0, 0, 4),
            (0x15, 0, 3, 4),
            (0x15, 0, 4, 6),
            (0xb4, 0, 0, 0),
            (0x95, 0, 0, 0),
            (0x28, 0, 0, 18),
            (0x05, 0, 1, 0),
            (0x28, 0, 0, 38),
            (0x94, 0, 0, 3),
            (0x95, 0, 0, 0),
        ];
        assert_eq!(extended, expect);
        assert_eq!(size_of::<Instruction>(), 8);
    }
}
