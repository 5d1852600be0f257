//! Packets of one flow on their way to become one super-packet.
//!
//! A group keeps slices, no bytes. One rule a line in [`Group::append`]; each has its test.

use super::flow::{Candidate, Glance, u16_at, u32_at};
use crate::tun::checksum::Sum;
use crate::tun::segment::addresses;
use crate::tun::vnet::{Super, Unfinished, VNET_LEN, VnetHeader};

/// Packets in one super-packet at most: what Linux takes for UDP (`UDP_MAX_SEGMENTS` before 6.9).
pub(super) const GROUP_MAX: usize = 64;
/// Bytes in one super-packet at most, so that its length fits both IP versions' headers.
const BYTES_MAX: usize = 65_535;
/// IPv6 without extension headers (40) and TCP with all options (60).
const HEAD_MAX: usize = VNET_LEN + 100;

const PSH: u8 = 0x08;
const DONT_FRAGMENT: u8 = 0x40;

#[derive(Debug)]
pub(super) struct Group<'a> {
    /// The flow of all members.
    tag: u64,
    ports: Option<(u8, [u8; 4])>,
    shape: Candidate,
    members: [&'a [u8]; GROUP_MAX],
    count: usize,
    /// Bytes of the super-packet.
    bytes: usize,
    /// Payload of each member but the last, which may have less.
    size: usize,
    complete: bool,
    /// A member has PSH, and so will the super-packet: see [`super`].
    pushed: bool,
    /// The first member's checksum is known to be right.
    verified: bool,
}

impl Default for Group<'_> {
    fn default() -> Self {
        Self {
            tag: 0,
            ports: None,
            shape: Candidate {
                kind: Super::Udp,
                transport: 0,
                headers: 0,
                pushed: false,
            },
            members: [&[]; GROUP_MAX],
            count: 0,
            bytes: 0,
            size: 0,
            complete: false,
            pushed: false,
            verified: false,
        }
    }
}

impl<'a> Group<'a> {
    /// Begins with one packet.
    pub(super) fn open(&mut self, glance: &Glance, shape: Candidate, packet: &'a [u8]) {
        self.tag = glance.tag;
        self.ports = glance.ports;
        self.shape = shape;
        self.members[0] = packet;
        self.count = 1;
        self.bytes = packet.len();
        self.size = packet.len() - shape.headers;
        self.complete = false;
        self.pushed = shape.pushed;
        self.verified = false;
    }

    pub(super) fn kind(&self) -> Super {
        self.shape.kind
    }

    pub(super) fn headers(&self) -> usize {
        self.shape.headers
    }

    pub(super) fn members(&self) -> &[&'a [u8]] {
        &self.members[..self.count]
    }

    /// Nothing more can be appended.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether `packet` must not overtake this group. What hides its ports is taken to share those of all groups
    /// between its addresses.
    #[inline]
    pub(super) fn shares_flow(&self, glance: &Glance, packet: &[u8]) -> bool {
        self.tag == glance.tag
            && (glance.ports.is_none() || self.ports == glance.ports)
            && addresses(self.first()) == addresses(packet)
    }

    /// Takes in a packet, which shares the flow, if the kernel would take it apart again as it is.
    pub(super) fn append(&mut self, candidate: &Candidate, packet: &'a [u8]) -> bool {
        let first = self.first();
        let payload = packet.len() - candidate.headers;
        let fits = candidate.kind == self.shape.kind
            && candidate.transport == self.shape.transport
            && candidate.headers == self.shape.headers
            && payload <= self.size
            && self.bytes + payload <= BYTES_MAX
            && self.same_ip(first, packet)
            && self.same_transport(first, packet);
        if !fits {
            return false;
        }
        // Last, as it reads the payload. A wrong checksum is never mended by putting together.
        self.verified = self.verified || self.shape.verify(first);
        if !self.verified || !candidate.verify(packet) {
            return false;
        }
        self.members[self.count] = packet;
        self.count += 1;
        self.bytes += payload;
        self.complete = payload < self.size || self.count == GROUP_MAX;
        self.pushed |= candidate.pushed;
        true
    }

    fn same_ip(&self, first: &[u8], packet: &[u8]) -> bool {
        if first[0] != packet[0] {
            return false;
        }
        if first[0] >> 4 == 6 {
            // Traffic class and flow label; hop limit.
            return first[1..4] == packet[1..4] && first[7] == packet[7];
        }
        let service = first[1] == packet[1];
        let hops = first[8] == packet[8];
        let flags = first[6] == packet[6];
        // Identification matters only to what may be fragmented (RFC 6864); the kernel will count it up.
        let follows = u16_at(first, 4).wrapping_add(self.count as u16) == u16_at(packet, 4);
        service && hops && flags && (follows || packet[6] & DONT_FRAGMENT != 0)
    }

    fn same_transport(&self, first: &[u8], packet: &[u8]) -> bool {
        let at = self.shape.transport;
        match self.shape.kind {
            Super::Udp => true,
            Super::Tcp4 | Super::Tcp6 => {
                let sent = (self.count * self.size) as u32;
                let sequence = u32_at(first, at + 4).wrapping_add(sent) == u32_at(packet, at + 4);
                let acknowledged = first[at + 8..at + 12] == packet[at + 8..at + 12];
                let window = first[at + 14..at + 16] == packet[at + 14..at + 16];
                // The urgent pointer and all options, timestamps among them.
                let rest = at + 18..self.shape.headers;
                sequence && acknowledged && window && first[rest.clone()] == packet[rest]
            }
        }
    }

    /// The vnet header and the super-packet's headers.
    pub(super) fn head(&self) -> Head {
        let (at, headers) = (self.shape.transport, self.shape.headers);
        let offset = self.shape.kind.checksum_at();
        let mut bytes = [0; HEAD_MAX];
        let vnet = VnetHeader {
            gso: Some((self.shape.kind, self.size as u16)),
            unfinished: Some(Unfinished {
                start: at as u16,
                offset: offset as u16,
            }),
            headers: headers as u16,
        };
        let (front, rest) = bytes.split_at_mut(VNET_LEN);
        front.copy_from_slice(&vnet.encode());
        let copy = &mut rest[..headers];
        copy.copy_from_slice(&self.first()[..headers]);

        let whole = (self.bytes - at) as u16;
        let pseudo = Sum::default()
            .bytes(addresses(copy))
            .word(u16::from(self.shape.kind.number()))
            .word(whole);
        let (ip, above) = copy.split_at_mut(at);
        if ip[0] >> 4 == 4 {
            ip[2..4].copy_from_slice(&(self.bytes as u16).to_be_bytes());
            ip[10..12].fill(0);
            let sum = Sum::default().bytes(ip).finished();
            ip[10..12].copy_from_slice(&sum);
        } else {
            ip[4..6].copy_from_slice(&whole.to_be_bytes());
        }
        match self.shape.kind {
            Super::Udp => above[4..6].copy_from_slice(&whole.to_be_bytes()),
            Super::Tcp4 | Super::Tcp6 => {
                if self.pushed {
                    above[13] |= PSH;
                }
            }
        }
        above[offset..offset + 2].copy_from_slice(&pseudo.begun());
        Head {
            bytes,
            length: VNET_LEN + headers,
        }
    }

    fn first(&self) -> &'a [u8] {
        self.members[0]
    }
}

/// What is written before the payloads.
pub(super) struct Head {
    bytes: [u8; HEAD_MAX],
    length: usize,
}

impl Head {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
