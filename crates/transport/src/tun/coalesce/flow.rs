//! What one packet's headers say about its flow, and whether it could be part of a super-packet at all.
//!
//! Whether it fits a certain group is the group's question; whether its checksum is right is asked last, as it costs most.

use crate::tun::checksum::Sum;
use crate::tun::segment::addresses;
use crate::tun::vnet::{Super, TCP, UDP};

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
/// More fragments, and the offset.
const FRAGMENT: u16 = 0x3fff;

/// A packet at first sight: IPv4 or IPv6, with whole addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Glance {
    /// The addresses folded into one word: different words, different addresses.
    pub(super) tag: u64,
    /// Protocol and ports, unless they lie where they are not looked for: later fragments, extension headers.
    pub(super) ports: Option<(u8, [u8; 4])>,
    /// What could be part of a super-packet.
    pub(super) candidate: Option<Candidate>,
}

/// A whole TCP or UDP packet with payload and nothing special about it. Checksums are not verified yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) kind: Super,
    /// Where the TCP or UDP header begins.
    pub(super) transport: usize,
    /// Length of all headers.
    pub(super) headers: usize,
    /// PSH is set.
    pub(super) pushed: bool,
}

impl Glance {
    /// `None` if this is no IP packet.
    pub(super) fn at(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 if packet.len() >= 20 => Some(Self::ipv4(packet)),
            6 if packet.len() >= 40 => Some(Self::ipv6(packet)),
            _ => None,
        }
    }

    fn ipv4(packet: &[u8]) -> Self {
        let protocol = packet[9];
        let transport = usize::from(packet[0] & 0x0f) * 4;
        let whole = u16_at(packet, 6) & FRAGMENT == 0;
        let length = usize::from(u16_at(packet, 2));
        let plain = whole && transport == 20 && length == packet.len();
        Self {
            tag: u64_at(packet, 12),
            ports: ports(protocol, packet, transport).filter(|_| whole && transport >= 20),
            candidate: candidate(protocol, packet, transport, Super::Tcp4).filter(|_| plain),
        }
    }

    fn ipv6(packet: &[u8]) -> Self {
        let protocol = packet[6];
        let plain = usize::from(u16_at(packet, 4)) == packet.len() - 40;
        let tag = u64_at(packet, 8)
            ^ u64_at(packet, 16).rotate_left(13)
            ^ u64_at(packet, 24).rotate_left(29)
            ^ u64_at(packet, 32).rotate_left(43);
        Self {
            tag,
            ports: ports(protocol, packet, 40),
            candidate: candidate(protocol, packet, 40, Super::Tcp6).filter(|_| plain),
        }
    }
}

fn ports(protocol: u8, packet: &[u8], transport: usize) -> Option<(u8, [u8; 4])> {
    if !matches!(protocol, TCP | UDP) {
        return None;
    }
    let ports = packet.get(transport..)?.first_chunk()?;
    Some((protocol, *ports))
}

fn candidate(protocol: u8, packet: &[u8], transport: usize, tcp: Super) -> Option<Candidate> {
    let above = packet.get(transport..)?;
    let (kind, own, pushed) = match protocol {
        TCP if above.len() >= 20 => {
            // The four bits beside the length are reserved or part of ECN.
            let (words, beside, flags) = (above[12] >> 4, above[12] & 0x0f, above[13]);
            if words < 5 || beside != 0 || flags & !PSH != ACK {
                return None;
            }
            (tcp, usize::from(words) * 4, flags & PSH != 0)
        }
        UDP if above.len() >= 8 => {
            let checksum = u16_at(above, 6) != 0;
            if !checksum || usize::from(u16_at(above, 4)) != above.len() {
                return None;
            }
            (Super::Udp, 8, false)
        }
        _ => return None,
    };
    // Without payload there is nothing to put together.
    (above.len() > own).then_some(Candidate {
        kind,
        transport,
        headers: transport + own,
        pushed,
    })
}

impl Candidate {
    /// Whether the packet's checksums are right, of IPv4 and of what it carries.
    pub(super) fn verify(&self, packet: &[u8]) -> bool {
        if packet[0] >> 4 == 4 && !Sum::default().bytes(&packet[..20]).is_right() {
            return false;
        }
        let above = &packet[self.transport..];
        Sum::default()
            .bytes(addresses(packet))
            .word(u16::from(self.kind.number()))
            .word(above.len() as u16)
            .bytes(above)
            .is_right()
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}
