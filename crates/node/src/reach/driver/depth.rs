//! How deep this node lies behind routers, measured once in each network. It refuses to measure where nobody is called.

use std::future::pending;
use std::net::SocketAddr;

use futures::future::BoxFuture;
use wayfare_transport::{canonical, is_virtual, router_depth};

/// The measurement of the network that we are in.
#[derive(Default)]
pub(super) struct Depths {
    begun: bool,
    running: Option<BoxFuture<'static, Option<u8>>>,
}

impl Depths {
    /// Looks how deep we lie, on the way to somebody on the internet; once, until it is forgotten.
    pub(super) fn measure(&mut self, towards: SocketAddr) {
        let towards = canonical(towards);
        if !self.begun && towards.is_ipv4() && !is_virtual(towards) {
            self.begun = true;
            self.running = Some(Box::pin(router_depth(towards)));
        }
    }

    /// This is another network.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// What came of it; waits for ever while nothing is measured. It may be dropped and asked again.
    pub(super) async fn next(&mut self) -> Option<u8> {
        let Some(running) = &mut self.running else {
            return pending().await;
        };
        let depth = running.await;
        self.running = None;
        tracing::debug!(?depth, "how deep this node lies behind routers");
        depth
    }
}
