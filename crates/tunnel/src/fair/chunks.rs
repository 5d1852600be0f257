//! Memory for packets that wait: chunks of one fixed block, strung into a line per session. A packet is its length, four bytes, and
//! its bytes, across as many chunks as it takes. The block is taken at the beginning, and costs nothing until it is used.
//!
//! It refuses to judge who may have how much.

/// A full packet of the tunnel fits one; 8 MiB have one for each of 4,096 sessions.
pub(super) const CHUNK: usize = 2_048;
/// A packet's length in front of it.
const HEADER: usize = 4;
const NONE: u32 = u32::MAX;

/// One session's packets, oldest first. INVARIANT: it has chunks exactly while it has packets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    head: u32,
    tail: u32,
    chunks: u32,
    packets: u32,
    /// Where the oldest packet begins in `head`, below `CHUNK`.
    head_at: u16,
    /// Where the next one goes in `tail`, up to `CHUNK`.
    tail_at: u16,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            head: NONE,
            tail: NONE,
            chunks: 0,
            packets: 0,
            head_at: 0,
            tail_at: 0,
        }
    }
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.packets == 0
    }

    pub(super) fn chunks(&self) -> u32 {
        self.chunks
    }

    pub(super) fn packets(&self) -> u32 {
        self.packets
    }
}

#[derive(Debug)]
pub(super) struct Chunks {
    /// Zeroed by the operating system, page by page, when first touched.
    bytes: Box<[u8]>,
    /// How many there are.
    count: u32,
    /// What follows each chunk, in its line or among the free; those beyond were never used.
    next: Vec<u32>,
    free: u32,
    taken: u32,
}

impl Chunks {
    pub(super) fn new(count: u32) -> Self {
        Self {
            bytes: vec![0; count as usize * CHUNK].into_boxed_slice(),
            count,
            next: Vec::new(),
            free: NONE,
            taken: 0,
        }
    }

    pub(super) fn taken(&self) -> u32 {
        self.taken
    }

    pub(super) fn vacant(&self) -> u32 {
        self.count - self.taken
    }

    /// How many chunks more a line takes for a packet of this length.
    pub(super) fn needed(line: &Line, len: usize) -> usize {
        let room = if line.chunks == 0 {
            0
        } else {
            CHUNK - usize::from(line.tail_at)
        };
        len.saturating_add(HEADER)
            .saturating_sub(room)
            .div_ceil(CHUNK)
    }

    /// Takes a copy. The caller has made sure that enough chunks are vacant.
    pub(super) fn append(&mut self, line: &mut Line, packet: &[u8]) {
        debug_assert!(Self::needed(line, packet.len()) <= self.vacant() as usize);
        let length = u32::try_from(packet.len()).expect("a packet is smaller than the block");
        self.write(line, &length.to_le_bytes());
        self.write(line, packet);
        line.packets += 1;
    }

    /// The length of the oldest packet.
    pub(super) fn first_len(&self, line: &Line) -> usize {
        debug_assert!(!line.is_empty());
        let mut header = [0; HEADER];
        let (mut chunk, mut at) = (line.head as usize, usize::from(line.head_at));
        for byte in &mut header {
            if at == CHUNK {
                (chunk, at) = (self.next[chunk] as usize, 0);
            }
            *byte = self.bytes[chunk * CHUNK + at];
            at += 1;
        }
        u32::from_le_bytes(header) as usize
    }

    /// Moves the oldest packet into a buffer of exactly its length.
    pub(super) fn take_first(&mut self, line: &mut Line, mut into: &mut [u8]) {
        self.consume(line, HEADER, |_| {});
        self.consume(line, into.len(), |piece| {
            let (now, later) = std::mem::take(&mut into).split_at_mut(piece.len());
            now.copy_from_slice(piece);
            into = later;
        });
        self.finish_first(line);
    }

    /// Forgets the oldest packet; returns its length.
    pub(super) fn drop_first(&mut self, line: &mut Line) -> usize {
        let len = self.first_len(line);
        self.consume(line, HEADER + len, |_| {});
        self.finish_first(line);
        len
    }

    /// Forgets all packets; returns their bytes.
    pub(super) fn clear(&mut self, line: &mut Line) -> usize {
        let mut bytes = 0;
        for _ in 0..line.packets {
            bytes += self.drop_first(line);
        }
        bytes
    }

    fn write(&mut self, line: &mut Line, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if line.chunks == 0 || usize::from(line.tail_at) == CHUNK {
                let chunk = self.take_chunk();
                if line.chunks == 0 {
                    (line.head, line.head_at) = (chunk, 0);
                } else {
                    self.next[line.tail as usize] = chunk;
                }
                (line.tail, line.tail_at) = (chunk, 0);
                line.chunks += 1;
            }
            let at = usize::from(line.tail_at);
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - at));
            let start = line.tail as usize * CHUNK + at;
            self.bytes[start..start + now.len()].copy_from_slice(now);
            line.tail_at += now.len() as u16;
            bytes = later;
        }
    }

    /// Passes over `count` bytes, which are there, and gives back each chunk that ends.
    fn consume(&mut self, line: &mut Line, mut count: usize, mut each: impl FnMut(&[u8])) {
        while count > 0 {
            let at = usize::from(line.head_at);
            let piece = count.min(CHUNK - at);
            let start = line.head as usize * CHUNK + at;
            each(&self.bytes[start..start + piece]);
            count -= piece;
            line.head_at += piece as u16;
            if usize::from(line.head_at) == CHUNK {
                self.drop_chunk(line);
            }
        }
    }

    fn finish_first(&mut self, line: &mut Line) {
        line.packets -= 1;
        if line.packets == 0 && line.chunks > 0 {
            // The last packet ended within its chunk.
            self.drop_chunk(line);
            debug_assert_eq!(line.chunks, 0);
        }
    }

    fn take_chunk(&mut self) -> u32 {
        self.taken += 1;
        if self.free == NONE {
            self.next.push(NONE);
            return self.next.len() as u32 - 1;
        }
        let chunk = self.free;
        self.free = self.next[chunk as usize];
        chunk
    }

    fn drop_chunk(&mut self, line: &mut Line) {
        let after = std::mem::replace(&mut self.next[line.head as usize], self.free);
        self.free = line.head;
        self.taken -= 1;
        line.chunks -= 1;
        (line.head, line.head_at) = (after, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of these lengths go in and come out, whatever chunk borders they meet.
    #[test]
    fn packets_come_out_as_they_went_in() {
        let mut chunks = Chunks::new(80);
        let mut line = Line::default();
        let lengths = [0, 1, 2_043, 2_044, 2_045, 4_088, 65_535, 3, CHUNK, 0];
        for round in 0..3_usize {
            for (n, len) in lengths.into_iter().enumerate() {
                let before = line.chunks;
                let needed = Chunks::needed(&line, len);
                chunks.append(&mut line, &vec![n as u8 ^ len as u8; len]);
                assert_eq!((line.chunks - before) as usize, needed, "{round} {len}");
            }
            for (n, len) in lengths.into_iter().enumerate() {
                assert_eq!(chunks.first_len(&line), len, "{round}");
                if n == 5 {
                    assert_eq!(chunks.drop_first(&mut line), len);
                    continue;
                }
                let mut into = vec![0; len];
                chunks.take_first(&mut line, &mut into);
                assert!(into.iter().all(|b| *b == n as u8 ^ len as u8), "{n} {len}");
            }
            assert!(line.is_empty());
            assert_eq!((line.chunks, chunks.taken()), (0, 0), "{round}");
        }
        assert!(chunks.next.len() <= 40, "freed chunks are used again first");
    }

    #[test]
    fn a_line_that_ends_with_its_chunk_begins_anew() {
        let mut chunks = Chunks::new(2);
        let mut line = Line::default();
        for _ in 0..5 {
            chunks.append(&mut line, &[7; CHUNK - HEADER]);
            assert_eq!(Chunks::needed(&line, 0), 1);
            assert_eq!(chunks.clear(&mut line), CHUNK - HEADER);
            assert_eq!(chunks.vacant(), 2);
        }
    }
}
