//! The header of ten bytes before each packet of a device with offloads: `struct virtio_net_hdr` (virtio 1.2, 5.1.6), in
//! the machine's byte order as TUN devices write it.
//!
//! It only reads and writes the fields; whether they fit the packet is asked by whoever acts on them.

/// Length of the header.
pub(super) const VNET_LEN: usize = 10;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_*`.
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
/// The first segment alone carries CWR, as segmentation here does anyway.
const GSO_ECN: u8 = 0x80;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const TCP_CHECKSUM: usize = 16;
pub(super) const UDP_CHECKSUM: usize = 6;

/// Which packets a super-packet stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Super {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over either.
    Udp,
}

impl Super {
    /// IP's number of the protocol.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp4 | Self::Tcp6 => TCP,
            Self::Udp => UDP,
        }
    }

    /// Where in the protocol's header the checksum lies.
    pub(super) fn checksum_at(self) -> usize {
        match self {
            Self::Tcp4 | Self::Tcp6 => TCP_CHECKSUM,
            Self::Udp => UDP_CHECKSUM,
        }
    }
}

/// Where a checksum is to be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfinished {
    /// What is summed begins here and ends with the packet.
    pub(super) start: u16,
    /// Where the sum goes, from `start`; the pseudo header's sum lies there already.
    pub(super) offset: u16,
}

/// What the kernel says about the packet that follows, or is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct VnetHeader {
    /// None of the known kinds with a segment size: see [`decode`](Self::decode).
    pub(super) gso: Option<(Super, u16)>,
    pub(super) unfinished: Option<Unfinished>,
    /// All headers together. The kernel's own figure is a hint for where to put bytes; it is not read here.
    pub(super) headers: u16,
}

impl VnetHeader {
    /// `None` for a kind of super-packet that was never asked for.
    pub(super) fn decode(bytes: [u8; VNET_LEN]) -> Option<Self> {
        let [flags, gso, a, b, c, d, e, f, g, h] = bytes;
        let size = u16::from_ne_bytes([c, d]);
        let gso = match gso & !GSO_ECN {
            GSO_NONE => None,
            GSO_TCP4 => Some((Super::Tcp4, size)),
            GSO_TCP6 => Some((Super::Tcp6, size)),
            GSO_UDP => Some((Super::Udp, size)),
            _ => return None,
        };
        let unfinished = (flags & NEEDS_CHECKSUM != 0).then_some(Unfinished {
            start: u16::from_ne_bytes([e, f]),
            offset: u16::from_ne_bytes([g, h]),
        });
        Some(Self {
            gso,
            unfinished,
            headers: u16::from_ne_bytes([a, b]),
        })
    }

    pub(super) fn encode(self) -> [u8; VNET_LEN] {
        let (gso, size) = match self.gso {
            None => (GSO_NONE, 0),
            Some((Super::Tcp4, size)) => (GSO_TCP4, size),
            Some((Super::Tcp6, size)) => (GSO_TCP6, size),
            Some((Super::Udp, size)) => (GSO_UDP, size),
        };
        let (flags, start, offset) = match self.unfinished {
            None => (0, 0, 0),
            Some(at) => (NEEDS_CHECKSUM, at.start, at.offset),
        };
        let [a, b] = self.headers.to_ne_bytes();
        let [c, d] = size.to_ne_bytes();
        let [e, f] = start.to_ne_bytes();
        let [g, h] = offset.to_ne_bytes();
        [flags, gso, a, b, c, d, e, f, g, h]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let unfinished = Some(Unfinished {
            start: 20,
            offset: 16,
        });
        for gso in [
            None,
            Some((Super::Tcp4, 1368)),
            Some((Super::Tcp6, 1348)),
            Some((Super::Udp, 512)),
        ] {
            for unfinished in [None, unfinished] {
                let header = VnetHeader {
                    gso,
                    unfinished,
                    headers: 52,
                };
                assert_eq!(VnetHeader::decode(header.encode()), Some(header));
            }
        }
        assert_eq!(VnetHeader::default().encode(), [0; VNET_LEN]);
    }

    #[test]
    fn the_fields_lie_where_the_kernel_has_them() {
        let mut bytes = [1, 0x81, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[2..4].copy_from_slice(&52u16.to_ne_bytes());
        bytes[4..6].copy_from_slice(&1368u16.to_ne_bytes());
        bytes[6..8].copy_from_slice(&20u16.to_ne_bytes());
        bytes[8..10].copy_from_slice(&16u16.to_ne_bytes());
        let header = VnetHeader {
            gso: Some((Super::Tcp4, 1368)),
            unfinished: Some(Unfinished {
                start: 20,
                offset: 16,
            }),
            headers: 52,
        };
        assert_eq!(VnetHeader::decode(bytes), Some(header));
    }

    #[test]
    fn kinds_nobody_asked_for_are_refused() {
        for kind in [2, 3, 6, 0x7f, 0x83] {
            let bytes = [0, kind, 0, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(VnetHeader::decode(bytes), None, "{kind}");
        }
    }
}
