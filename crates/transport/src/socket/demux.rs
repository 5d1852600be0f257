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
    /// For nobody.
    Junk,
}

/// Sorts one datagram.
///
/// Tunnel messages start with their type, 1 to 4, and three reserved zero bytes. QUIC packets
/// have the form bit `0x80` or the fixed bit `0x40` set (RFC 9000 section 17; version negotiation
/// packets may lack the latter), which is why QUIC-bit greasing (RFC 9287) is off on our endpoint.
#[must_use]
pub fn classify(datagram: &[u8]) -> Kind {
    match *datagram {
        [first, ..] if first & 0xc0 != 0 => Kind::Quic,
        [1..=4, 0, 0, 0, ..] => Kind::Tunnel,
        _ => Kind::Junk,
    }
}

/// Splits a received buffer of `stride`-sized datagrams into the longest runs of one kind.
///
/// The kernel coalesces by address and size only, so QUIC and tunnel datagrams of one peer can
/// share a buffer.
pub(super) fn runs(buffer: &[u8], stride: usize) -> Runs<'_> {
    Runs {
        rest: buffer,
        stride: stride.max(1),
    }
}

pub(super) struct Runs<'a> {
    rest: &'a [u8],
    stride: usize,
}

impl<'a> Iterator for Runs<'a> {
    type Item = (Kind, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let mut segments = self.rest.chunks(self.stride);
        let first = segments.next()?;
        let kind = classify(first);
        let same = segments.take_while(|segment| classify(segment) == kind);
        let length = first.len() + same.map(<[u8]>::len).sum::<usize>();
        let (run, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some((kind, run))
    }
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
        check(&[5, 0, 0, 0], Kind::Junk);
        check(&[0x3f, 0, 0, 0], Kind::Junk);
        check(&[0x40], Kind::Quic);
        check(&[0x80, 0, 0, 0], Kind::Quic);
        check(&[0xc3, 0, 0, 0, 1], Kind::Quic);
        check(&[0xff], Kind::Quic);
    }

    #[test]
    fn every_first_byte_has_exactly_one_owner() {
        let owners: Vec<Kind> = (0..=255u8)
            .map(|first| classify(&[first, 0, 0, 0]))
            .collect();
        assert_eq!(
            owners.iter().filter(|kind| **kind == Kind::Quic).count(),
            192
        );
        assert_eq!(
            owners.iter().filter(|kind| **kind == Kind::Tunnel).count(),
            4
        );
        assert_eq!(
            owners.iter().filter(|kind| **kind == Kind::Junk).count(),
            60
        );
    }

    #[test]
    fn a_coalesced_buffer_is_cut_where_the_kind_changes() {
        let tunnel = [4, 0, 0, 0, 9];
        let quic = [0x41, 1, 2, 3, 4];
        let junk = [0, 0, 0, 0, 0];
        let short = [2, 0, 0, 0];
        let buffer = [&tunnel[..], &tunnel, &quic, &junk, &quic, &quic, &short].concat();
        let cut: Vec<(Kind, usize)> = runs(&buffer, 5)
            .map(|(kind, run)| (kind, run.len()))
            .collect();
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
        assert_eq!(runs(&[], 0).count(), 0);
    }
}
