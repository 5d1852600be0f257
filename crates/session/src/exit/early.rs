//! Tunnel handshakes of consumers whose terms are still on their way: a consumer knows the exit's tunnel key from its proposal, and
//! begins both at once. They are answered with the admission, so that terms and handshake take one round trip together. It refuses
//! to answer anybody who is not admitted, and to remember many or for long.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wayfare_tunnel::{Call, DropReason, PublicKey, Received};

use super::Exit;

/// Handshakes that are kept: 2 KiB each. A newer one takes the place of the oldest.
const MOST: usize = 64;
/// For how long. Terms come with them; those that were lost on the way are sent again within a second.
const PATIENCE: Duration = Duration::from_secs(2);

/// Handshakes of strangers.
#[derive(Debug, Default)]
pub(super) struct EarlyCalls(VecDeque<(Instant, Call)>);

impl EarlyCalls {
    fn keep(&mut self, call: Call, now: Instant) {
        self.0.retain(|(at, kept)| {
            now.saturating_duration_since(*at) < PATIENCE && kept.caller() != call.caller()
        });
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back((now, call));
    }

    fn take(&mut self, caller: PublicKey, now: Instant) -> Option<Call> {
        let place = self
            .0
            .iter()
            .position(|(_, call)| call.caller() == caller)?;
        let (at, call) = self.0.remove(place)?;
        (now.saturating_duration_since(at) < PATIENCE).then_some(call)
    }
}

impl Exit {
    /// A handshake: answered if its sender was admitted, kept for a moment if not.
    pub(super) fn take_call(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> Received<'static> {
        match self.endpoint.open_call(from, datagram, now) {
            Ok(call) if self.endpoint.peer_with_key(&call.caller()).is_some() => {
                self.endpoint.answer(call, now)
            }
            Ok(call) => {
                self.early.keep(call, now);
                Received::Dropped(DropReason::UnknownPeer)
            }
            Err(why) => Received::Dropped(why),
        }
    }

    /// Answers the handshake of somebody who was admitted just now, if it came before.
    pub(super) fn answer_early(&mut self, caller: PublicKey, now: Instant) {
        if let Some(call) = self.early.take(caller, now) {
            self.endpoint.answer(call, now);
            self.drain_tunnel(now);
        }
    }
}
