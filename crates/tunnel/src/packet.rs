//! IP packets, parsed once: an [`IpPacket`] in hand has a sane header and exactly its stated length.
//! It refuses to look past the network header: ports and payloads are other people's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which Internet Protocol a packet speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpVersion {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

/// Why bytes are not an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotIp {
    /// Fewer bytes than the fixed header, or than the header claims to have.
    #[error("shorter than its own header says")]
    Short,
    /// The version nibble is neither 4 nor 6.
    #[error("neither IPv4 nor IPv6")]
    Version,
    /// The IPv4 header length or total length contradicts itself.
    #[error("contradictory length fields")]
    Length,
}

/// A view of one IP packet, trimmed to the length its header states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpPacket<'a> {
    bytes: &'a [u8],
    version: IpVersion,
}

/// Fixed part of an IPv4 header (RFC 791).
const V4_HEADER: usize = 20;
/// The IPv6 header (RFC 8200).
const V6_HEADER: usize = 40;

impl<'a> IpPacket<'a> {
    /// Reads the header and trims whatever follows the packet (tunnel padding).
    ///
    /// # Errors
    /// [`NotIp`] if the bytes do not hold one whole packet.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotIp> {
        let first = *bytes.first().ok_or(NotIp::Short)?;
        match first >> 4 {
            4 => {
                if bytes.len() < V4_HEADER {
                    return Err(NotIp::Short);
                }
                let header = usize::from(first & 0x0f) * 4;
                let total = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
                if header < V4_HEADER || total < header {
                    return Err(NotIp::Length);
                }
                let bytes = bytes.get(..total).ok_or(NotIp::Short)?;
                Ok(Self {
                    bytes,
                    version: IpVersion::V4,
                })
            }
            6 => {
                if bytes.len() < V6_HEADER {
                    return Err(NotIp::Short);
                }
                let total = V6_HEADER + usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
                let bytes = bytes.get(..total).ok_or(NotIp::Short)?;
                Ok(Self {
                    bytes,
                    version: IpVersion::V6,
                })
            }
            _ => Err(NotIp::Version),
        }
    }

    /// The protocol version.
    #[must_use]
    pub fn version(&self) -> IpVersion {
        self.version
    }

    /// Where the packet claims to come from.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        match self.version {
            IpVersion::V4 => self.v4_at(12),
            IpVersion::V6 => self.v6_at(8),
        }
    }

    /// Where the packet wants to go.
    #[must_use]
    pub fn destination(&self) -> IpAddr {
        match self.version {
            IpVersion::V4 => self.v4_at(16),
            IpVersion::V6 => self.v6_at(24),
        }
    }

    /// Length in bytes, header included: what the header states and what [`Self::as_bytes`] holds.
    #[must_use]
    pub fn total_length(&self) -> usize {
        self.bytes.len()
    }

    /// The whole packet, without anything that followed it.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn v4_at(&self, at: usize) -> IpAddr {
        let octets: [u8; 4] = self.bytes[at..at + 4]
            .try_into()
            .expect("parse checked 20 bytes, a slice of 4 is 4");
        IpAddr::V4(Ipv4Addr::from(octets))
    }

    fn v6_at(&self, at: usize) -> IpAddr {
        let octets: [u8; 16] = self.bytes[at..at + 16]
            .try_into()
            .expect("parse checked 40 bytes, a slice of 16 is 16");
        IpAddr::V6(Ipv6Addr::from(octets))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn v4(total: u16, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        bytes[0] = 0x45;
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        bytes[12..16].copy_from_slice(&[10, 0, 0, 1]);
        bytes[16..20].copy_from_slice(&[1, 1, 1, 1]);
        bytes
    }

    #[test]
    fn an_ipv4_packet_is_trimmed_to_its_total_length() {
        let bytes = v4(21, 32);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!(
            (packet.total_length(), packet.version()),
            (21, IpVersion::V4)
        );
        assert_eq!(packet.source(), IpAddr::from([10, 0, 0, 1]));
        assert_eq!(packet.destination(), IpAddr::from([1, 1, 1, 1]));
    }

    #[test]
    fn an_ipv6_packet_counts_its_header() {
        let mut bytes = vec![0; 48];
        bytes[0] = 0x60;
        bytes[5] = 3;
        bytes[23] = 1;
        bytes[39] = 2;
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!(packet.total_length(), 43);
        assert_eq!(packet.source(), "::1".parse::<IpAddr>().unwrap());
        assert_eq!(packet.destination(), "::2".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn contradictions_are_named() {
        let check = |bytes: &[u8], expect: NotIp| {
            assert_eq!(IpPacket::parse(bytes), Err(expect), "{bytes:?}")
        };
        check(&[], NotIp::Short);
        check(&[0x45; 19], NotIp::Short);
        check(&[0x60; 39], NotIp::Short);
        check(&[0x10; 60], NotIp::Version);
        check(&v4(19, 32), NotIp::Length);
        check(&v4(33, 32), NotIp::Short);
        let mut options_past_the_end = v4(20, 32);
        options_past_the_end[0] = 0x46;
        check(&options_past_the_end, NotIp::Length);
        let mut header_too_small = v4(20, 32);
        header_too_small[0] = 0x44;
        check(&header_too_small, NotIp::Length);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(packet) = IpPacket::parse(&bytes) {
                prop_assert!(packet.total_length() <= bytes.len());
                let _ = (packet.source(), packet.destination());
            }
        }
    }
}
