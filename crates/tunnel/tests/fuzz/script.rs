//! A fuzzer's bytes, read as choices. It refuses to run dry: past the end everything is zero, so any input is a script.

/// The rest of an input.
#[derive(Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// At most `len` bytes.
    pub fn slice(&mut self, len: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(len.min(self.0.len()));
        self.0 = tail;
        head
    }

    /// Exactly `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut filled = [0; N];
        let slice = self.slice(N);
        filled[..slice.len()].copy_from_slice(slice);
        filled
    }

    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Changes a message `edits` times: a place, and what is mixed into the byte there.
    pub fn edit(&mut self, message: &mut [u8], edits: u8) {
        for _ in 0..edits {
            let (place, change) = (usize::from(self.short()), self.byte());
            if let Some(len) = message.len().checked_sub(1) {
                message[place % (len + 1)] ^= change;
            }
        }
    }
}
