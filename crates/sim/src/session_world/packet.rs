//! Inner packets with a label, so that whoever sees one knows who sent it. It refuses to be more than a header and a number.

use std::net::IpAddr;

/// Which packet this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// Who sent it, or for whom it is.
    pub consumer: usize,
    /// Counted for each consumer and direction.
    pub number: u32,
}

/// Shorter packets cannot carry a label behind an IPv6 header.
pub(super) const SHORTEST: usize = 48;

/// An IP packet of `length` bytes, of the family of `source`.
pub(super) fn build(source: IpAddr, destination: IpAddr, label: Label, length: usize) -> Vec<u8> {
    let length = length.max(SHORTEST);
    let mut bytes = vec![0; length];
    let header = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes[0] = 0x45;
            bytes[2..4].copy_from_slice(&field(length));
            bytes[8..10].copy_from_slice(&[64, 17]);
            bytes[12..16].copy_from_slice(&source.octets());
            bytes[16..20].copy_from_slice(&destination.octets());
            20
        }
        (source, destination) => {
            bytes[0] = 0x60;
            bytes[4..6].copy_from_slice(&field(length - 40));
            bytes[6..8].copy_from_slice(&[17, 64]);
            bytes[8..24].copy_from_slice(&v6(source));
            bytes[24..40].copy_from_slice(&v6(destination));
            40
        }
    };
    let [_, _, _, _, high @ ..] = (label.consumer as u64).to_be_bytes();
    bytes[header..header + 4].copy_from_slice(&high);
    bytes[header + 4..header + 8].copy_from_slice(&label.number.to_be_bytes());
    bytes
}

/// The label of a packet that [`build`] made.
pub(super) fn label(packet: &[u8]) -> Option<Label> {
    let header = if packet.first()? >> 4 == 4 { 20 } else { 40 };
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?))
    };
    Some(Label {
        consumer: word(header)? as usize,
        number: word(header + 4)?,
    })
}

fn field(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
