//! Packets taken from a device, each in a frame with room around it, so that it can be sealed where it lies and sent
//! from there.
//!
//! Frames lie back to back: sealed datagrams of equal length need no gathering before one segmented send. It refuses to
//! know what fills the room: a [`Framing`] is four numbers.

/// The room that each packet gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    /// Bytes before the packet.
    pub head: usize,
    /// Bytes after the packet and its padding.
    pub tail: usize,
    /// Packets are padded with zeroes to a multiple of this, at least 1.
    pub multiple: usize,
    /// Padding never makes a packet longer than this; the device's MTU.
    pub mtu: usize,
}

impl Framing {
    /// Length of the frame of a packet of `packet` bytes.
    #[must_use]
    pub fn framed(&self, packet: usize) -> usize {
        self.head + packet + self.padding(packet) + self.tail
    }

    /// Zero bytes after a packet of `packet` bytes.
    #[must_use]
    pub fn padding(&self, packet: usize) -> usize {
        let wanted = packet.next_multiple_of(self.multiple.max(1));
        wanted.min(self.mtu.max(packet)) - packet
    }
}

/// The largest IP packet, and the largest super-packet of a device with offloads.
pub const MAX_PACKET: usize = 65_535;

/// Packets that a super-packet stands for at most, and what each adds to its bytes: IPv6 and TCP with all options.
pub(super) const SUPER_SEGMENTS: usize = 64;
pub(super) const SUPER_HEADERS: usize = 100;

/// Packets of one turn. All memory is allocated by [`PacketBatch::new`]; reuse one for all turns.
#[derive(Debug)]
pub struct PacketBatch {
    framing: Framing,
    memory: Vec<u8>,
    /// End of the last frame.
    end: usize,
    /// Frame ends and packet lengths, in order.
    frames: Vec<Placed>,
    /// Where a device reads what it must take apart first.
    pub(super) scratch: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Placed {
    at: usize,
    packet: usize,
    framed: usize,
}

/// One packet with the room around it.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Head room, packet, padding (zeroes), tail room.
    pub bytes: &'a mut [u8],
    /// Length of the packet alone, which begins after the head room.
    pub packet: usize,
}

impl PacketBatch {
    /// An empty batch for `capacity` bytes of frames, at least one super-packet taken apart, and as many packets as fit
    /// at 64 bytes each.
    #[must_use]
    pub fn new(framing: Framing, capacity: usize) -> Self {
        let around = framing.head + framing.multiple + framing.tail + SUPER_HEADERS;
        let capacity = capacity.max(MAX_PACKET + SUPER_SEGMENTS * around);
        Self {
            framing,
            memory: vec![0; capacity],
            end: 0,
            frames: Vec::with_capacity(capacity / 64),
            scratch: vec![0; MAX_PACKET + 64],
        }
    }

    /// The room that each packet gets.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Changes the longest padded packet, with the device's MTU.
    pub fn set_mtu(&mut self, mtu: usize) {
        self.framing.mtu = mtu;
    }

    /// Number of packets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is no packet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Forgets the packets, keeps the memory.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.end = 0;
    }

    /// Whether `packets` packets of `bytes` bytes together fit in.
    #[must_use]
    pub fn has_room(&self, packets: usize, bytes: usize) -> bool {
        let each = self.framing.head + self.framing.multiple + self.framing.tail;
        self.frames.len() + packets <= self.frames.capacity()
            && self.end + bytes + packets * each <= self.memory.len()
    }

    /// Whether a device with offloads would not be read once more: a super-packet might not fit. It may have more then.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        let headers = SUPER_SEGMENTS * SUPER_HEADERS;
        !self.has_room(SUPER_SEGMENTS, MAX_PACKET + headers)
    }

    /// Adds a packet that `write` writes to the room it is given, saying how long it is; `None` adds nothing. The room is
    /// that of the largest packet, or all that is left. Returns whether a packet was added.
    pub fn compose(&mut self, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let Framing { head, tail, .. } = self.framing;
        let around = tail + self.framing.multiple;
        let begin = self.end + head;
        let most = self.memory.len().saturating_sub(begin + around);
        let room = self.memory.get_mut(begin..begin + most.min(MAX_PACKET));
        if self.frames.len() == self.frames.capacity() {
            return false;
        }
        match room.and_then(|room| write(room).filter(|length| *length <= room.len())) {
            Some(length) => self.push(length, |_| {}),
            None => false,
        }
    }

    /// Adds a packet of `packet` bytes, which `fill` writes. `false` if there is no room: nothing is changed then.
    pub fn push(&mut self, packet: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        let framed = self.framing.framed(packet);
        let Some(frame) = self.memory.get_mut(self.end..self.end + framed) else {
            return false;
        };
        if self.frames.len() == self.frames.capacity() {
            return false;
        }
        let (content, rest) = frame[self.framing.head..].split_at_mut(packet);
        fill(content);
        let padding = rest.len() - self.framing.tail;
        rest[..padding].fill(0);
        self.frames.push(Placed {
            at: self.end,
            packet,
            framed,
        });
        self.end += framed;
        true
    }

    /// The packets in order, each in its frame.
    pub fn frames(&mut self) -> impl Iterator<Item = Frame<'_>> {
        let mut rest = &mut self.memory[..self.end];
        self.frames.iter().map(move |placed| {
            let (bytes, tail) = std::mem::take(&mut rest).split_at_mut(placed.framed);
            rest = tail;
            Frame {
                bytes,
                packet: placed.packet,
            }
        })
    }

    /// The frame number `index`.
    pub fn frame(&mut self, index: usize) -> Option<Frame<'_>> {
        let placed = self.frames.get(index)?;
        Some(Frame {
            bytes: &mut self.memory[placed.at..placed.at + placed.framed],
            packet: placed.packet,
        })
    }

    /// Where the frame number `index` lies in [`bytes`](Self::bytes).
    #[must_use]
    pub fn place(&self, index: usize) -> Option<std::ops::Range<usize>> {
        let placed = self.frames.get(index)?;
        Some(placed.at..placed.at + placed.framed)
    }

    /// All frames, back to back.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.memory[..self.end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMING: Framing = Framing {
        head: 16,
        tail: 16,
        multiple: 16,
        mtu: 1420,
    };

    #[test]
    fn frames_lie_back_to_back_with_zeroed_padding() {
        let mut batch = PacketBatch::new(FRAMING, 0);
        for round in 1..4 {
            batch.clear();
            assert!(batch.push(20, |packet| packet.fill(round)));
            assert!(batch.push(1420, |packet| packet.fill(round)));
            assert_eq!(batch.len(), 2);
            assert_eq!(batch.bytes().len(), 16 + 32 + 16 + 16 + 1420 + 16);
            let lengths: Vec<_> = batch
                .frames()
                .map(|f| (f.packet, f.bytes.len(), f.bytes[16], f.bytes[16 + 20]))
                .collect();
            assert_eq!(lengths, [(20, 64, round, 0), (1420, 1452, round, round)]);
            assert_eq!(batch.place(1), Some(64..64 + 1452));
            assert_eq!(batch.frame(1).map(|f| f.packet), Some(1420));
            assert!(batch.frame(2).is_none());
            // What a sealer leaves behind must not show in the next round's padding.
            for frame in batch.frames() {
                frame.bytes.fill(0xee);
            }
        }
    }

    #[test]
    fn padding_fills_sixteen_but_not_past_the_mtu() {
        for (packet, expect) in [(0, 0), (1, 15), (1408, 0), (1409, 11), (1420, 0), (1421, 0)] {
            assert_eq!(FRAMING.padding(packet), expect, "{packet}");
        }
    }

    #[test]
    fn a_full_batch_refuses_and_keeps_what_it_has() {
        let mut batch = PacketBatch::new(FRAMING, 0);
        while batch.push(9_000, |_| {}) {}
        let held = batch.len();
        assert!(held >= 7, "{held}");
        assert!(!batch.has_room(1, 9_000));
        assert!(!batch.push(9_000, |_| {}));
        assert_eq!(batch.len(), held);
    }

    #[test]
    fn a_composed_packet_lies_as_a_pushed_one_would() {
        let mut batch = PacketBatch::new(FRAMING, 0);
        assert!(batch.push(20, |packet| packet.fill(1)));
        assert!(!batch.compose(|_| None), "nothing was written");
        assert!(batch.compose(|room| {
            assert!(room.len() >= 1_420);
            room.fill(7);
            Some(20)
        }));
        assert!(!batch.compose(|room| Some(room.len() + 1)), "too long");
        assert_eq!(batch.len(), 2);
        let lies: Vec<_> = batch.frames().map(|f| (f.packet, f.bytes.len())).collect();
        assert_eq!(lies, [(20, 64), (20, 64)]);
        let frame = batch.frame(1).map(|frame| frame.bytes.to_vec());
        let frame = frame.unwrap_or_default();
        assert_eq!(frame[16..36], [7; 20]);
        assert_eq!(frame[36..48], [0; 12], "padding");
    }

    #[test]
    fn a_batch_without_room_for_a_super_packet_is_pressed() {
        let mut batch = PacketBatch::new(FRAMING, 160 << 10);
        assert!(!batch.is_pressed());
        let mut pushed = 0;
        while !batch.is_pressed() {
            assert!(batch.push(1_420, |_| {}));
            pushed += 1;
        }
        assert!((50..70).contains(&pushed), "{pushed}");
    }
}
