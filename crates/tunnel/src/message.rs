//! The four messages on the wire: sizes, field positions and how a datagram is told from noise.
//! It refuses to decrypt or to judge; a kind says only "this has the shape of".
//!
//! ```text
//! 1 initiation  type·3 zero | sender 4 | ephemeral 32 | static 32+16 | timestamp 12+16 | mac1 16 | mac2 16   = 148
//! 2 response    type·3 zero | sender 4 | receiver 4   | ephemeral 32 | empty 0+16      | mac1 16 | mac2 16   =  92
//! 3 cookie      type·3 zero | receiver 4 | nonce 24   | cookie 16+16                                         =  64
//! 4 transport   type·3 zero | receiver 4 | counter 8  | padded packet n+16                                   ≥  32
//! ```
//! All integers are little endian.

/// What a datagram has the shape of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Type 1: a handshake initiation.
    Initiation,
    /// Type 2: the response to one.
    Response,
    /// Type 3: a cookie reply from a loaded responder.
    Cookie,
    /// Type 4: a sealed packet or keepalive.
    Transport,
}

/// 4 type + 4 sender + 32 ephemeral + 48 static + 28 timestamp + 16 + 16 MACs.
pub const INITIATION_LEN: usize = 4 + 4 + 32 + 48 + 28 + 16 + 16;
/// 4 type + 4 sender + 4 receiver + 32 ephemeral + 16 tag + 16 + 16 MACs.
pub const RESPONSE_LEN: usize = 4 + 4 + 4 + 32 + 16 + 16 + 16;
/// 4 type + 4 receiver + 24 nonce + 32 sealed cookie.
pub const COOKIE_LEN: usize = 4 + 4 + 24 + 32;
/// 4 type + 4 receiver + 8 counter: what precedes the sealed packet.
pub const TRANSPORT_HEADER: usize = 4 + 4 + 8;
/// Poly1305 tag.
pub const TAG: usize = 16;
/// What sealing adds to a packet before padding: 16 header + 16 tag = 32 bytes.
pub const OVERHEAD: usize = TRANSPORT_HEADER + TAG;
/// Both MACs at the end of a handshake message.
pub(crate) const MACS: usize = 16 + 16;

/// Tells which message a datagram has the shape of; `None` for everything else.
#[must_use]
pub fn classify(datagram: &[u8]) -> Option<MessageKind> {
    let head: [u8; 4] = datagram.get(..4)?.try_into().ok()?;
    match (head, datagram.len()) {
        ([1, 0, 0, 0], INITIATION_LEN) => Some(MessageKind::Initiation),
        ([2, 0, 0, 0], RESPONSE_LEN) => Some(MessageKind::Response),
        ([3, 0, 0, 0], COOKIE_LEN) => Some(MessageKind::Cookie),
        ([4, 0, 0, 0], OVERHEAD..) => Some(MessageKind::Transport),
        _ => None,
    }
}

/// Reads the little-endian index at `at`; the caller has classified the datagram, so it is there.
pub(crate) fn index_at(message: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(message[at..at + 4].try_into().expect("a slice of 4 is 4"))
}

/// The counter of a transport message.
pub(crate) fn counter_of(message: &[u8]) -> u64 {
    u64::from_le_bytes(message[8..16].try_into().expect("a slice of 8 is 8"))
}

/// Writes the header of a transport message.
pub(crate) fn write_transport_header(into: &mut [u8], receiver: u32, counter: u64) {
    into[..4].copy_from_slice(&[4, 0, 0, 0]);
    into[4..8].copy_from_slice(&receiver.to_le_bytes());
    into[8..16].copy_from_slice(&counter.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_paper() {
        assert_eq!(
            (INITIATION_LEN, RESPONSE_LEN, COOKIE_LEN, OVERHEAD),
            (148, 92, 64, 32)
        );
    }

    #[test]
    fn shape_is_type_three_zeros_and_length() {
        let check = |head: [u8; 4], len: usize, expect: Option<MessageKind>| {
            let mut datagram = vec![0; len];
            let n = len.min(4);
            datagram[..n].copy_from_slice(&head[..n]);
            assert_eq!(classify(&datagram), expect, "{head:?} {len}");
        };
        check([1, 0, 0, 0], 148, Some(MessageKind::Initiation));
        check([1, 0, 0, 0], 147, None);
        check([1, 0, 0, 0], 149, None);
        check([1, 0, 1, 0], 148, None);
        check([2, 0, 0, 0], 92, Some(MessageKind::Response));
        check([3, 0, 0, 0], 64, Some(MessageKind::Cookie));
        check([4, 0, 0, 0], 32, Some(MessageKind::Transport));
        check([4, 0, 0, 0], 31, None);
        check([4, 0, 0, 0], 65_535, Some(MessageKind::Transport));
        check([0, 0, 0, 0], 64, None);
        check([5, 0, 0, 0], 64, None);
        check([4, 0, 0, 0], 3, None);
        check([4, 0, 0, 0], 0, None);
    }
}
