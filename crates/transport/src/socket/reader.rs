//! The background task that reads the shared socket while no tunnel receiver leads, and sorts
//! what it reads into the two queues.
//!
//! One reader keeps each peer's datagrams in order. It refuses to wait for a slow consumer: what
//! does not fit is dropped and counted.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::inner::Inner;
use super::intake::{Landing, Metas};
use super::sorting::Source;

/// Failures in a row after which the socket counts as broken. Passing trouble (no memory) ends
/// sooner; a dead descriptor would otherwise spin for ever.
pub(super) const PATIENCE: usize = 64;

pub(super) async fn run(inner: Arc<Inner>) {
    let mut landing = Landing::default();
    let mut metas = Metas::default();
    let mut failures = 0;
    let cause = loop {
        let read = poll_fn(|cx| {
            inner
                .turn
                .background(cx, |cx| poll_pass(&inner, cx, &mut landing, &mut metas))
        });
        match read.await {
            Ok(()) => {
                failures = 0;
                inner.wake();
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => {
                inner.counters.receive_errors.add(1);
                failures += 1;
                if failures == PATIENCE {
                    break e;
                }
                tokio::task::yield_now().await;
            }
        }
    };
    inner.break_off(&cause);
}

fn poll_pass(
    inner: &Inner,
    cx: &mut Context<'_>,
    landing: &mut Landing,
    metas: &mut Metas,
) -> Poll<io::Result<()>> {
    // The poll form takes part in tokio's cooperative budget: a flood cannot keep the thread.
    ready!(inner.port.io.poll_recv_ready(cx))?;
    Poll::Ready(landing.pass(inner, &inner.port, Source::Everybody, metas))
}
