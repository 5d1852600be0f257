//! From the path of a control connection to the size of the packets in the tunnel beside it: both run through one socket,
//! so what the one finds out holds for the other.
//!
//! It refuses to change devices and routes, and to look at packets.

use std::time::Duration;

use tokio::sync::watch;
use wayfare_transport::FULL_PAYLOAD;
use wayfare_tunnel::OVERHEAD;

/// How long a session waits for the first search of its path, which has begun with the connection. A path that carries
/// everything is known after one round trip, as the terms are; what is found later takes effect then.
pub(crate) const FIRST_SEARCH: Duration = Duration::from_millis(300);
/// What every IPv4 host takes (RFC 791 section 3.1).
const LEAST: u16 = 576;
/// Packets are padded to a multiple of this before they are sealed, unless they fill the device.
const PADDING: u16 = 16;

/// The longest packet that a datagram of `payload` bytes carries sealed and padded, `most` at most.
pub(crate) fn inner_mtu(payload: u16, most: u16) -> u16 {
    let room = payload.saturating_sub(OVERHEAD as u16);
    if payload >= FULL_PAYLOAD {
        return room.min(most);
    }
    (room - room % PADDING).max(LEAST).min(most)
}

/// The size of a session's packets as it changes with the path to the provider.
#[derive(Debug, Clone)]
pub struct MtuWatch {
    payload: watch::Receiver<u16>,
    most: u16,
    told: u16,
}

impl MtuWatch {
    pub(crate) fn new(mut payload: watch::Receiver<u16>, most: u16) -> Self {
        let told = inner_mtu(*payload.borrow_and_update(), most);
        Self {
            payload,
            most,
            told,
        }
    }

    /// The longest packet that gets through, bytes, as far as was told.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.told
    }

    /// Waits until it is another one. `None` when there will be no other: the connection is gone. Cancel safe.
    pub async fn changed(&mut self) -> Option<u16> {
        loop {
            self.payload.changed().await.ok()?;
            let mtu = inner_mtu(*self.payload.borrow_and_update(), self.most);
            if mtu != self.told {
                self.told = mtu;
                return Some(mtu);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::plane;

    #[test]
    fn what_is_sealed_and_padded_fits_and_little_room_is_left() {
        for payload in 1_200..=1_500 {
            let mtu = inner_mtu(payload, 1_420);
            for packet in 1_000..=mtu {
                let framed = plane::framing(1_420).framed(packet.into());
                assert!(framed <= payload.into(), "{packet} bytes on {payload}");
            }
            assert!(
                mtu == 1_420 || mtu + 16 + 32 > payload,
                "{mtu} of {payload}"
            );
        }
        assert_eq!(inner_mtu(1_452, 1_420), 1_420);
        assert_eq!(inner_mtu(1_372, 1_420), 1_328);
        assert_eq!(inner_mtu(1_452, 1_400), 1_400);
        assert_eq!(inner_mtu(0, 1_420), 576);
    }

    #[tokio::test]
    async fn only_news_is_told_and_the_end_is_the_end() {
        let (tell, payload) = watch::channel(1_200);
        let mut watch = MtuWatch::new(payload, 1_420);
        assert_eq!(watch.mtu(), 1_168);
        tell.send(1_201).unwrap();
        tell.send(1_230).unwrap();
        assert_eq!(watch.changed().await, Some(1_184));
        assert_eq!(watch.mtu(), 1_184);
        tell.send(1_231).unwrap();
        drop(tell);
        assert_eq!(watch.changed().await, None);
    }
}
