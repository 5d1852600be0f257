//! Reading a device into a batch: as many reads as there is room for, each taken apart at once.
//!
//! It waits for the first packet only, and refuses to read what might not fit.

use std::io::{self, Read};
use std::task::{Context, Poll};

use super::TunDevice;
use crate::tun::batch::{MAX_PACKET, PacketBatch, SUPER_HEADERS};
use crate::tun::options::Counting;
use crate::tun::segment::{Unpacked, unpack};
use crate::tun::vnet::{VNET_LEN, VnetHeader};

impl TunDevice {
    /// Fills `batch` until nothing is there or one more super-packet might not fit.
    pub(super) fn fill(
        &self,
        cx: &mut Context<'_>,
        batch: &mut PacketBatch,
    ) -> Poll<io::Result<usize>> {
        let mut scratch = std::mem::take(&mut batch.scratch);
        let outcome = self.fill_through(cx, batch, &mut scratch);
        batch.scratch = scratch;
        outcome
    }

    fn fill_through(
        &self,
        cx: &mut Context<'_>,
        batch: &mut PacketBatch,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut added = 0;
        loop {
            let mut ready = match self.file.poll_read_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending if added > 0 => return Poll::Ready(Ok(added)),
                Poll::Pending => return Poll::Pending,
            };
            loop {
                if !batch.is_empty() && !self.has_room(batch) {
                    return Poll::Ready(Ok(added));
                }
                match ready.get_inner().read(scratch) {
                    Ok(length) => added += self.take(&scratch[..length], batch),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        ready.clear_ready();
                        if added > 0 {
                            return Poll::Ready(Ok(added));
                        }
                        break;
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) if added > 0 => return Poll::Ready(Ok(added)),
                    Err(e) => return Poll::Ready(Err(e)),
                }
            }
        }
    }

    fn has_room(&self, batch: &PacketBatch) -> bool {
        if self.vnet {
            batch.has_room(self.segments, MAX_PACKET + self.segments * SUPER_HEADERS)
        } else {
            batch.has_room(1, self.mtu)
        }
    }

    /// Takes what one read gave apart into `batch`. Returns how many packets that were.
    fn take(&self, read: &[u8], batch: &mut PacketBatch) -> usize {
        let (header, packet) = match read.split_first_chunk::<VNET_LEN>() {
            _ if !self.vnet => (Some(VnetHeader::default()), read),
            Some((header, packet)) => (VnetHeader::decode(*header), packet),
            None => (None, read),
        };
        let unpacked = header.and_then(|header| {
            let unpacked = unpack(header, packet, batch).ok()?;
            Some((header.gso.is_some(), unpacked))
        });
        let Some((is_super, Unpacked { added, lost })) = unpacked else {
            Counting::add(&self.counting.malformed, 1);
            return 0;
        };
        if is_super {
            Counting::add(&self.counting.supers_received, 1);
            Counting::add(&self.counting.segments_received, added);
        }
        Counting::add(&self.counting.lost, lost);
        added
    }
}
