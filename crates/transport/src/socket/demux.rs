//! First-byte demultiplexing (in the manner of RFC 9443) of what arrives on the shared socket.
//!
//! It looks at four bytes and refuses to judge more: a datagram that looks like a tunnel message
//! or like QUIC may still be noise, which its protocol will find out by authentication.

/// What a datagram is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For the QUIC endpoint.
    Quic,
    /// A tunnel message (WireGuard message types 1 to 4).
    Tunnel,
    /// For who looks for paths.
    Probe,
    /// A datagram on its way through a relay, behind a head that names its channel.
    Frame,
    /// For nobody.
    Junk,
}

/// Length of a relay frame's head: `06 00 00 00` and the channel, a u32, big endian.
pub(super) const HEAD: usize = 8;

/// Sorts one datagram.
///
/// Probes start with 5 and three zero bytes. Relay frames start with 6, three zero bytes and their
/// channel, and carry at least a byte.
///
/// Tunnel messages start with their type, 1 to 4, and three reserved zero bytes. QUIC packets
/// have the form bit `0x80` or the fixed bit `0x40` set (RFC 9000 section 17; version negotiation
/// packets may lack the latter), which is why QUIC-bit greasing (RFC 9287) is off on our endpoint.
#[must_use]
pub fn classify(datagram: &[u8]) -> Kind {
    match *datagram {
        [first, ..] if first & 0xc0 != 0 => Kind::Quic,
        [1..=4, 0, 0, 0, ..] => Kind::Tunnel,
        [5, 0, 0, 0, ..] => Kind::Probe,
        [6, 0, 0, 0, _, _, _, _, _, ..] => Kind::Frame,
        _ => Kind::Junk,
    }
}

/// The head of a frame of `channel`.
pub(super) fn head(channel: u32) -> [u8; HEAD] {
    let [a, b, c, d] = channel.to_be_bytes();
    [6, 0, 0, 0, a, b, c, d]
}

/// How long the first run of datagrams of one kind in a buffer of `stride`-sized ones is, bytes.
///
/// The kernel coalesces by address and size only, so QUIC, tunnel datagrams and frames of one peer
/// can share a buffer.
pub(super) fn first_run(buffer: &[u8], stride: usize) -> (Kind, usize) {
    alike(buffer, stride, classify).unwrap_or((Kind::Junk, 0))
}

/// As [`first_run`], of frames of one channel; `frames` must be nothing else.
pub(super) fn first_channel(frames: &[u8], stride: usize) -> (u32, usize) {
    let channel = |frame: &[u8]| {
        let channel = frame.get(4..HEAD).and_then(|bytes| bytes.try_into().ok());
        u32::from_be_bytes(channel.unwrap_or_default())
    };
    alike(frames, stride, channel).unwrap_or((0, 0))
}

/// What the first segment is, and how many bytes from the start are the same.
fn alike<T: PartialEq>(
    buffer: &[u8],
    stride: usize,
    what: impl Fn(&[u8]) -> T,
) -> Option<(T, usize)> {
    let mut segments = buffer.chunks(stride.max(1));
    let first = segments.next()?;
    let kind = what(first);
    let same = segments.take_while(|segment| what(segment) == kind);
    let length = first.len() + same.map(<[u8]>::len).sum::<usize>();
    Some((kind, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_decide() {
        let check =
            |datagram: &[u8], expect| assert_eq!(classify(datagram), expect, "{datagram:?}");
        for message_type in 1..=4 {
            check(&[message_type, 0, 0, 0], Kind::Tunnel);
            check(&[message_type, 0, 0, 0, 0xff, 0xff], Kind::Tunnel);
            check(&[message_type, 0, 0], Kind::Junk);
            check(&[message_type, 1, 0, 0], Kind::Junk);
            check(&[message_type, 0, 1, 0], Kind::Junk);
            check(&[message_type, 0, 0, 0x80], Kind::Junk);
        }
        check(&[], Kind::Junk);
        check(&[0, 0, 0, 0], Kind::Junk);
        check(&[5, 0, 0, 0], Kind::Probe);
        check(&[5, 0, 0, 0, 9], Kind::Probe);
        check(&[5, 0, 0], Kind::Junk);
        check(&[5, 0, 0, 1], Kind::Junk);
        check(&[6, 0, 0, 0, 1, 2, 3, 4], Kind::Junk);
        check(&[6, 0, 0, 0, 1, 2, 3, 4, 5], Kind::Frame);
        check(&[6, 0, 1, 0, 1, 2, 3, 4, 5], Kind::Junk);
        check(&[7, 0, 0, 0, 1, 2, 3, 4, 5], Kind::Junk);
        check(&[0x3f, 0, 0, 0], Kind::Junk);
        check(&[0x40], Kind::Quic);
        check(&[0x80, 0, 0, 0], Kind::Quic);
        check(&[0xc3, 0, 0, 0, 1], Kind::Quic);
        check(&[0xff], Kind::Quic);
    }

    #[test]
    fn every_first_byte_has_exactly_one_owner() {
        let owners: Vec<Kind> = (0..=255u8)
            .map(|first| classify(&[first, 0, 0, 0, 0, 0, 0, 0, 0]))
            .collect();
        let count = |wanted| owners.iter().filter(|kind| **kind == wanted).count();
        let kinds = [
            Kind::Quic,
            Kind::Tunnel,
            Kind::Probe,
            Kind::Frame,
            Kind::Junk,
        ];
        assert_eq!(kinds.map(count), [192, 4, 1, 1, 58]);
    }

    fn runs(mut buffer: &[u8], stride: usize) -> Vec<(Kind, usize)> {
        let mut cut = Vec::new();
        while !buffer.is_empty() {
            let (kind, length) = first_run(buffer, stride);
            cut.push((kind, length));
            buffer = &buffer[length..];
        }
        cut
    }

    #[test]
    fn frames_are_cut_where_the_channel_changes() {
        let frame = |channel| [&head(channel)[..], b"xy"].concat();
        let frames = [
            frame(7),
            frame(7),
            frame(1 << 24),
            head(7).to_vec(),
            vec![1],
        ]
        .concat();
        assert_eq!(classify(&frames), Kind::Frame);
        assert_eq!(first_channel(&frames, 10), (7, 20));
        assert_eq!(first_channel(&frames[20..], 10), (1 << 24, 10));
        assert_eq!(first_channel(&frames[30..], 10), (7, 9));
    }

    #[test]
    fn a_coalesced_buffer_is_cut_where_the_kind_changes() {
        let tunnel = [4, 0, 0, 0, 9];
        let quic = [0x41, 1, 2, 3, 4];
        let junk = [0, 0, 0, 0, 0];
        let short = [2, 0, 0, 0];
        let buffer = [&tunnel[..], &tunnel, &quic, &junk, &quic, &quic, &short].concat();
        let cut = runs(&buffer, 5);
        assert_eq!(
            cut,
            [
                (Kind::Tunnel, 10),
                (Kind::Quic, 5),
                (Kind::Junk, 5),
                (Kind::Quic, 10),
                (Kind::Tunnel, 4)
            ]
        );
        assert_eq!(first_run(&[], 0), (Kind::Junk, 0));
    }
}
