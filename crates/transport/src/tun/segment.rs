//! A super-packet of the kernel taken apart into the packets it stands for, each written once, straight into its frame.
//!
//! What the kernel would do in software, RFC by RFC: lengths and checksums per segment, IPv4 identification counted up, TCP
//! sequence numbers moved on, FIN and PSH on the last segment only (RFC 9293), CWR on the first only (RFC 3168 §6.1.2). It
//! refuses to trust the header before a packet: what does not fit the packet's own headers is malformed.

use super::batch::PacketBatch;
use super::checksum::Sum;
use super::vnet::{Super, TCP_CHECKSUM, UDP_CHECKSUM, Unfinished, VnetHeader};

/// IPv4 with all options (60 bytes) or IPv6 with some extension headers, and TCP with all options (60).
const HEADERS_MAX: usize = 256;

const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// What became of what was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// Packets added to the batch.
    pub(super) added: usize,
    /// Packets for which the batch had no room.
    pub(super) lost: usize,
}

/// The header does not fit the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Adds `packet`, or the packets it stands for, to `batch`, with all checksums finished.
pub(super) fn unpack(
    header: VnetHeader,
    packet: &[u8],
    batch: &mut PacketBatch,
) -> Result<Unpacked, Malformed> {
    if let Some((kind, size)) = header.gso {
        let plan = Plan::new(kind, usize::from(size), header.unfinished, packet)?;
        return Ok(plan.segment(packet, batch));
    }
    let Some(unfinished) = header.unfinished else {
        return Ok(one(batch.push(packet.len(), |frame| {
            frame.copy_from_slice(packet);
        })));
    };
    let start = usize::from(unfinished.start);
    let at = usize::from(unfinished.offset);
    if start + at + 2 > packet.len() {
        return Err(Malformed);
    }
    let (head, summed) = packet.split_at(start);
    Ok(one(batch.push(packet.len(), |frame| {
        let (frame_head, frame) = frame.split_at_mut(start);
        frame_head.copy_from_slice(head);
        // The pseudo header's sum lies in the checksum's place and is summed with the rest.
        let sum = Sum::default().copy(summed, frame);
        let sum = if at == UDP_CHECKSUM {
            sum.finished_nonzero()
        } else {
            sum.finished()
        };
        frame[at..at + 2].copy_from_slice(&sum);
    })))
}

fn one(pushed: bool) -> Unpacked {
    Unpacked {
        added: usize::from(pushed),
        lost: usize::from(!pushed),
    }
}

/// Everything about a super-packet that its segments share.
struct Plan {
    /// All headers of the first segment, with zeroes where segments differ.
    template: [u8; HEADERS_MAX],
    /// Length of all headers.
    headers: usize,
    /// Where the TCP or UDP header begins.
    transport: usize,
    /// Payload bytes of each segment but the last, not zero.
    size: usize,
    /// Identification of the first segment, if this is IPv4, and the sum of the IPv4 header.
    ipv4: Option<(u16, Sum)>,
    protocol: Protocol,
    /// Sum of the pseudo header without its length and of the transport header.
    sum: Sum,
}

enum Protocol {
    Tcp {
        sequence: u32,
        flags: u8,
    },
    Udp {
        /// UDP over IPv4 may go without.
        checksum: bool,
    },
}

impl Plan {
    fn new(
        kind: Super,
        size: usize,
        unfinished: Option<Unfinished>,
        packet: &[u8],
    ) -> Result<Self, Malformed> {
        let (ip, transport) = layers(kind, unfinished, packet)?;
        let headers = headers(kind, transport, packet)?;
        // INVARIANT: every length below fits 16 bits, as IPv4 counts all and IPv6 what follows its header.
        let counted = packet.len() - if ip.is_some() { 0 } else { 40 };
        let at = kind.checksum_at();
        let elsewhere = unfinished.is_some_and(|it| usize::from(it.offset) != at);
        if size == 0 || elsewhere || u16::try_from(counted).is_err() {
            return Err(Malformed);
        }
        let checksum = take2(packet, transport + at);
        // The kernel's begun sum counts the super-packet's length; it also knows an IPv6 routing header's last address.
        let pseudo = if unfinished.is_some() {
            let whole = (packet.len() - transport) as u16;
            Sum::default().bytes(&checksum).without(whole)
        } else {
            Sum::default()
                .bytes(addresses(packet))
                .word(u16::from(kind.number()))
        };

        let mut template = [0; HEADERS_MAX];
        template[..headers].copy_from_slice(&packet[..headers]);
        let (below, above) = template.split_at_mut(transport);
        let ipv4 = ip.map(|length| {
            let identification = u16::from_be_bytes(take2(below, 4));
            below[2..6].fill(0);
            below[10..12].fill(0);
            (identification, Sum::default().bytes(&below[..length]))
        });
        if ipv4.is_none() {
            below[4..6].fill(0);
        }
        above[at..at + 2].fill(0);
        let protocol = match kind {
            Super::Udp => {
                above[4..6].fill(0);
                Protocol::Udp {
                    checksum: unfinished.is_some() || checksum != [0, 0],
                }
            }
            Super::Tcp4 | Super::Tcp6 => {
                let [a, b, c, d] = [above[4], above[5], above[6], above[7]];
                above[4..8].fill(0);
                Protocol::Tcp {
                    sequence: u32::from_be_bytes([a, b, c, d]),
                    flags: std::mem::take(&mut above[13]),
                }
            }
        };
        let sum = pseudo.bytes(&above[..headers - transport]);
        Ok(Self {
            template,
            headers,
            transport,
            size,
            ipv4,
            protocol,
            sum,
        })
    }

    fn segment(&self, packet: &[u8], batch: &mut PacketBatch) -> Unpacked {
        let mut rest = &packet[self.headers..];
        let mut unpacked = Unpacked::default();
        loop {
            let index = unpacked.added;
            let (payload, after) = rest.split_at(rest.len().min(self.size));
            let last = after.is_empty();
            let length = self.headers + payload.len();
            if !batch.push(length, |frame| self.write(frame, payload, index, last)) {
                unpacked.lost = 1 + after.len().div_ceil(self.size);
                return unpacked;
            }
            unpacked.added += 1;
            if last {
                return unpacked;
            }
            rest = after;
        }
    }

    #[inline]
    fn write(&self, frame: &mut [u8], payload: &[u8], index: usize, last: bool) {
        let (headers, body) = frame.split_at_mut(self.headers);
        headers.copy_from_slice(&self.template[..self.headers]);
        let (below, above) = headers.split_at_mut(self.transport);
        let above_ip = (above.len() + payload.len()) as u16;
        match self.ipv4 {
            Some((first, sum)) => {
                let length = self.transport as u16 + above_ip;
                let identification = first.wrapping_add(index as u16);
                below[2..4].copy_from_slice(&length.to_be_bytes());
                below[4..6].copy_from_slice(&identification.to_be_bytes());
                let sum = sum.word(length).word(identification).finished();
                below[10..12].copy_from_slice(&sum);
            }
            None => {
                let length = self.transport as u16 - 40 + above_ip;
                below[4..6].copy_from_slice(&length.to_be_bytes());
            }
        }
        let sum = self.sum.word(above_ip).copy(payload, body);
        match self.protocol {
            Protocol::Tcp { sequence, flags } => {
                let sequence = sequence.wrapping_add((index * self.size) as u32);
                let mut flags = flags;
                if !last {
                    flags &= !FIN_PSH;
                }
                if index > 0 {
                    flags &= !CWR;
                }
                above[4..8].copy_from_slice(&sequence.to_be_bytes());
                above[13] = flags;
                let sum = sum.long(sequence).word(u16::from(flags)).finished();
                above[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&sum);
            }
            Protocol::Udp { checksum } => {
                above[4..6].copy_from_slice(&above_ip.to_be_bytes());
                if checksum {
                    // The length counts twice: in the pseudo header and in the UDP header.
                    let sum = sum.word(above_ip).finished_nonzero();
                    above[UDP_CHECKSUM..].copy_from_slice(&sum);
                }
            }
        }
    }
}

/// Length of the IPv4 header, if it is one, and where the transport header begins.
fn layers(
    kind: Super,
    unfinished: Option<Unfinished>,
    packet: &[u8],
) -> Result<(Option<usize>, usize), Malformed> {
    let number = kind.number();
    let start = unfinished.map(|it| usize::from(it.start));
    let first = *packet.first().ok_or(Malformed)?;
    match first >> 4 {
        4 if kind != Super::Tcp6 => {
            let length = usize::from(first & 0x0f) * 4;
            let fits = (20..=packet.len()).contains(&length);
            if !fits || packet[9] != number || start.is_some_and(|start| start != length) {
                return Err(Malformed);
            }
            Ok((Some(length), length))
        }
        6 if kind != Super::Tcp4 => {
            if packet.len() < 40 {
                return Err(Malformed);
            }
            // Behind extension headers, which come in eights, only the kernel's word leads.
            let start = start.unwrap_or(40);
            let direct = packet[6] == number;
            if direct != (start == 40)
                || start < 40
                || !start.is_multiple_of(8)
                || start > packet.len()
            {
                return Err(Malformed);
            }
            Ok((None, start))
        }
        _ => Err(Malformed),
    }
}

/// Length of all headers, which are there and not longer than a [`Plan`] holds.
fn headers(kind: Super, transport: usize, packet: &[u8]) -> Result<usize, Malformed> {
    let (own, least) = match kind {
        Super::Udp => (8, 8),
        Super::Tcp4 | Super::Tcp6 => {
            let words = packet.get(transport + 12).ok_or(Malformed)? >> 4;
            (usize::from(words) * 4, 20)
        }
    };
    let headers = transport + own;
    if own >= least && headers <= packet.len().min(HEADERS_MAX) {
        Ok(headers)
    } else {
        Err(Malformed)
    }
}

/// Both addresses of a packet that has passed for IPv4 or IPv6.
pub(super) fn addresses(packet: &[u8]) -> &[u8] {
    if packet[0] >> 4 == 4 {
        &packet[12..20]
    } else {
        &packet[8..40]
    }
}

/// Two bytes of a header known to be there.
fn take2(bytes: &[u8], at: usize) -> [u8; 2] {
    [bytes[at], bytes[at + 1]]
}

#[cfg(test)]
mod tests;
