//! Packets for the tests beside: built field by field with the plain checksum of RFC 1071, and checked the same way.

use super::checksum::naive;
use super::vnet::{Super, Unfinished, VnetHeader};

pub(super) const FIN: u8 = 0x01;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
pub(super) const CWR: u8 = 0x80;

/// What a packet is made of.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    pub(super) v6: bool,
    pub(super) udp: bool,
    /// Last byte of the source address.
    pub(super) host: u8,
    pub(super) port: u16,
    /// Traffic class, hop limit, identification, DF, and IPv4 options.
    pub(super) service: u8,
    pub(super) hops: u8,
    pub(super) identification: u16,
    pub(super) dont_fragment: bool,
    pub(super) ip_options: Vec<u8>,
    pub(super) flow_label: u16,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Recipe {
    pub(super) fn new(v6: bool, udp: bool, payload: usize) -> Self {
        Self {
            v6,
            udp,
            host: 1,
            port: 443,
            service: 0,
            hops: 64,
            identification: 0xfffe,
            dont_fragment: true,
            ip_options: Vec::new(),
            flow_label: 7,
            sequence: 0xffff_fc00,
            acknowledged: 99,
            flags: ACK,
            window: 501,
            options: vec![1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8],
            payload: (0..payload)
                .map(|byte| (byte * 7 + byte / 256) as u8)
                .collect(),
        }
    }

    /// Both IP versions and both protocols.
    pub(super) fn four(payload: usize) -> [Self; 4] {
        [(false, false), (false, true), (true, false), (true, true)]
            .map(|(v6, udp)| Self::new(v6, udp, payload))
    }

    pub(super) fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }

    /// Where the transport header begins.
    pub(super) fn transport(&self) -> usize {
        if self.v6 {
            40
        } else {
            20 + self.ip_options.len()
        }
    }

    pub(super) fn headers(&self) -> usize {
        let own = if self.udp { 8 } else { 20 + self.options.len() };
        self.transport() + own
    }

    pub(super) fn kind(&self) -> Super {
        match (self.udp, self.v6) {
            (true, _) => Super::Udp,
            (false, true) => Super::Tcp6,
            (false, false) => Super::Tcp4,
        }
    }

    /// The packet with right checksums.
    pub(super) fn build(&self) -> Vec<u8> {
        let mut packet = self.without_checksum();
        let sum = naive(&with_pseudo(&packet, self.transport(), self.number()));
        let at = self.transport() + self.checksum_at();
        let sum = if self.udp && sum == 0 { 0xffff } else { sum };
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    /// The packet as the kernel gives it where its checksum is left to us, with its header; `size` makes it a
    /// super-packet.
    pub(super) fn unfinished(&self, size: Option<u16>) -> (VnetHeader, Vec<u8>) {
        let mut packet = self.without_checksum();
        let pseudo = with_pseudo(&packet, self.transport(), self.number());
        let pseudo = &pseudo[..pseudo.len() - (packet.len() - self.transport())];
        let at = self.transport() + self.checksum_at();
        packet[at..at + 2].copy_from_slice(&(!naive(pseudo)).to_be_bytes());
        let header = VnetHeader {
            gso: size.map(|size| (self.kind(), size)),
            unfinished: Some(Unfinished {
                start: self.transport() as u16,
                offset: self.checksum_at() as u16,
            }),
            headers: self.headers() as u16,
        };
        (header, packet)
    }

    /// The packets that a super-packet of this recipe stands for.
    pub(super) fn segments(&self, size: usize) -> Vec<Vec<u8>> {
        let count = self.payload.len().div_ceil(size);
        let pieces = self.payload.chunks(size).enumerate();
        pieces
            .map(|(index, piece)| {
                let segment = self.with(|it| {
                    it.payload = piece.to_vec();
                    it.identification = it.identification.wrapping_add(index as u16);
                    it.sequence = it.sequence.wrapping_add((index * size) as u32);
                    if index + 1 < count {
                        it.flags &= !(FIN | PSH);
                    }
                    if index > 0 {
                        it.flags &= !CWR;
                    }
                });
                segment.build()
            })
            .collect()
    }

    fn number(&self) -> u8 {
        if self.udp { 17 } else { 6 }
    }

    fn checksum_at(&self) -> usize {
        if self.udp { 6 } else { 16 }
    }

    fn without_checksum(&self) -> Vec<u8> {
        let mut above = Vec::new();
        above.extend(self.port.to_be_bytes());
        above.extend(8080u16.to_be_bytes());
        if self.udp {
            above.extend((8 + self.payload.len() as u16).to_be_bytes());
            above.extend([0, 0]);
        } else {
            above.extend(self.sequence.to_be_bytes());
            above.extend(self.acknowledged.to_be_bytes());
            above.extend([(5 + self.options.len() as u8 / 4) << 4, self.flags]);
            above.extend(self.window.to_be_bytes());
            above.extend([0, 0, 0, 0]);
            above.extend(&self.options);
        }
        above.extend(&self.payload);

        let mut packet = Vec::new();
        if self.v6 {
            packet.extend([0x60 | self.service >> 4, self.service << 4]);
            packet.extend(self.flow_label.to_be_bytes());
            packet.extend((above.len() as u16).to_be_bytes());
            packet.extend([self.number(), self.hops]);
            packet.extend([0xfd; 15]);
            packet.push(self.host);
            packet.extend([0xfd; 15]);
            packet.push(200);
        } else {
            let header = 20 + self.ip_options.len();
            packet.extend([0x40 | (header / 4) as u8, self.service]);
            packet.extend(((header + above.len()) as u16).to_be_bytes());
            packet.extend(self.identification.to_be_bytes());
            packet.extend([u8::from(self.dont_fragment) << 6, 0]);
            packet.extend([self.hops, self.number(), 0, 0]);
            packet.extend([10, 0, 0, self.host, 10, 0, 0, 200]);
            packet.extend(&self.ip_options);
            let sum = naive(&packet);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        packet.extend(above);
        packet
    }
}

/// The pseudo header (RFC 9293 §3.1, RFC 8200 §8.1) and what it is for.
fn with_pseudo(packet: &[u8], transport: usize, number: u8) -> Vec<u8> {
    let addresses = if packet[0] >> 4 == 4 {
        &packet[12..20]
    } else {
        &packet[8..40]
    };
    let mut summed = addresses.to_vec();
    summed.extend([0, number]);
    summed.extend(((packet.len() - transport) as u16).to_be_bytes());
    summed.extend(&packet[transport..]);
    summed
}

/// Fails unless every length and checksum of a plain packet is right.
pub(super) fn assert_right(packet: &[u8]) {
    let (transport, number) = if packet[0] >> 4 == 4 {
        let header = usize::from(packet[0] & 15) * 4;
        let length = u16::from_be_bytes([packet[2], packet[3]]);
        assert_eq!(usize::from(length), packet.len());
        assert_eq!(naive(&packet[..header]), 0, "IPv4 header");
        (header, packet[9])
    } else {
        let length = u16::from_be_bytes([packet[4], packet[5]]);
        assert_eq!(usize::from(length), packet.len() - 40);
        (40, packet[6])
    };
    if number == 17 {
        let length = u16::from_be_bytes([packet[transport + 4], packet[transport + 5]]);
        assert_eq!(usize::from(length), packet.len() - transport);
        assert_ne!(packet[transport + 6..transport + 8], [0, 0]);
    }
    let summed = with_pseudo(packet, transport, number);
    assert_eq!(naive(&summed), 0, "transport");
}
