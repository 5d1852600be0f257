//! The consumers' streams by what they belong to. It refuses to wait for one that does not read: that one is cut off, and may come
//! again.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use wayfare_session::{ProviderFrame, Refusal, SessionToken};

/// Frames waiting for one consumer's stream; one that does not read is cut off.
const STREAM_QUEUE: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Streams(BTreeMap<SessionToken, mpsc::Sender<ProviderFrame>>);

impl Streams {
    /// A new stream takes the place of the one before, unless `accept` refuses.
    pub(crate) fn attach(
        &mut self,
        token: SessionToken,
        accept: impl FnOnce() -> Result<(), Refusal>,
    ) -> Result<mpsc::Receiver<ProviderFrame>, Refusal> {
        accept()?;
        let (sender, receiver) = mpsc::channel(STREAM_QUEUE);
        self.0.insert(token, sender);
        Ok(receiver)
    }

    pub(crate) fn send(&mut self, token: SessionToken, frame: ProviderFrame) {
        let Some(stream) = self.0.get(&token) else {
            return;
        };
        if stream.try_send(frame).is_err() {
            // The consumer does not read, or is gone: it may attach a new stream.
            self.0.remove(&token);
        }
    }

    pub(crate) fn remove(&mut self, token: SessionToken) {
        self.0.remove(&token);
    }
}
