//! One try to open a pipe: when its connections are begun, and which of two pipes is used.
//!
//! TCP's own handshake tells how far the relay is, and so how long its plain answer may take; only when that is late does it
//! go on with TLS, and only then, or after [`OPEN_AFTER`], is QUIC begun. It refuses to know what becomes of the pipe.

use std::fmt::Display;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use tokio::sync::Notify;
use tokio::time::{timeout, timeout_at};
use wayfare_identity::NodeAddress;
use wayfare_transport::{
    Clock, Pipe, PipeError, PipeKind, QuicEndpoint, QuicIdentity, SharedSocket, dial_pipe,
};

use crate::provider::sleep_until;

/// The question is asked again after this: one lost packet must not cost a pipe.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(60);
/// A TCP connection is begun after this without an answer: a relay that is nearer costs not even that.
const CONNECT_AFTER: Duration = Duration::from_millis(10);
/// A pipe in QUIC is begun after this in any case: TCP may be what does not pass.
pub(super) const OPEN_AFTER: Duration = Duration::from_millis(100);
/// How much later than TCP's the plain answer may come before TLS begins: an eighth of TCP's round trip, and this for a busy
/// machine. It has a round trip more to come before a pipe stands. So much sooner is QUIC begun: if it passes, it answers
/// before TLS does.
const AIR: Duration = Duration::from_millis(5);
/// But no more than this: a lost packet makes TCP's round trip a second longer.
const MOST_AIR: Duration = Duration::from_millis(40);
/// What a pipe in QUIC that answers may take to find out what the path carries: two round trips, and this; altogether at most
/// [`MOST_WIDENING`].
const WIDENING: Duration = Duration::from_millis(20);
const MOST_WIDENING: Duration = Duration::from_millis(300);

/// What a pipe is made with.
#[derive(Clone)]
pub(super) struct Ours {
    pub(super) socket: SharedSocket,
    pub(super) endpoint: QuicEndpoint,
    pub(super) identity: QuicIdentity,
}

/// What of one try is not done before when.
///
/// A relay at a round trip of r that answers the first question does so at r, and TCP's answer comes at r + 10 ms: no byte of
/// TLS or QUIC leaves. When the first question or its answer is lost, the second is answered at r + 60 ms. TLS begins after
/// that question, [`AIR`] and an eighth of r later, and stands a round trip after it has begun; QUIC begins with it at the
/// earliest and takes two. So the answer comes before a pipe stands, and that is left. Only when TCP is not answered
/// within 90 ms is QUIC begun in vain, as to any relay farther away.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// TCP.
    pub(super) connect_at: Instant,
    /// TLS.
    shake_at: Instant,
    /// QUIC, if TCP has not been answered by then.
    open_at: Instant,
}

impl Schedule {
    /// When the relay is asked over plain UDP now, and again after [`ASK_AGAIN`].
    pub(super) fn beside_a_question(now: Instant) -> Self {
        Self {
            connect_at: now + CONNECT_AFTER,
            shake_at: now + ASK_AGAIN,
            open_at: now + OPEN_AFTER,
        }
    }

    /// When nobody waits for a plain answer.
    pub(super) fn at(when: Instant) -> Self {
        Self {
            connect_at: when,
            shake_at: when,
            open_at: when,
        }
    }
}

/// The pipe that is used, if any stands.
pub(super) async fn open(ours: Ours, relay: NodeAddress, schedule: Schedule) -> Option<Pipe> {
    let dial = |kind| {
        let with = (&ours.socket, &ours.endpoint, &ours.identity);
        dial_pipe(kind, with, relay.at, relay.node.0)
    };
    let (late, answers) = (Notify::new(), AtomicBool::new(false));
    let tls = async {
        sleep_until(Some(schedule.connect_at)).await;
        let begun = Clock::now();
        let dialed = dial(PipeKind::Tls).await?;
        let connected = Clock::now();
        let round_trip = connected.saturating_duration_since(begun);
        let late_at = connected.max(schedule.shake_at);
        sleep_until(Some(late_at)).await;
        tracing::debug!(%relay, ?round_trip, "a relay answers TCP and not plain UDP: pipes are opened");
        late.notify_one();
        sleep_until(Some(late_at + (round_trip / 8 + AIR).min(MOST_AIR))).await;
        Ok::<_, PipeError>((dialed.open().await?, round_trip))
    };
    let quic = async {
        let began = pin!(late.notified());
        if timeout_at(schedule.open_at.into(), began).await.is_err() {
            tracing::debug!(%relay, "a relay does not answer: a pipe in QUIC is opened");
        }
        let dialed = dial(PipeKind::Quic).await?;
        answers.store(true, Relaxed);
        dialed.open().await
    };
    choose(quic, &answers, tls)
        .await
        .inspect_err(|error| tracing::debug!(%error, "no pipe leads to a relay"))
        .ok()
}

/// The first that stands; but one in QUIC, which loses what is late instead of holding up what follows, is waited for when TLS
/// stands and it `answers`, for it takes a round trip more.
async fn choose<P, E: Display>(
    quic: impl Future<Output = Result<P, E>>,
    answers: &AtomicBool,
    tls: impl Future<Output = Result<(P, Duration), E>>,
) -> Result<P, E> {
    let (mut quic, tls) = (pin!(quic), pin!(tls));
    let other = |error: E| tracing::debug!(%error, "one of two pipes cannot be opened");
    let (pipe, round_trip) = match select(quic.as_mut(), tls).await {
        Either::Left((Ok(pipe), _)) => return Ok(pipe),
        Either::Left((Err(error), tls)) => {
            other(error);
            return tls.await.map(|(pipe, _)| pipe);
        }
        Either::Right((Err(error), quic)) => {
            other(error);
            return quic.await;
        }
        Either::Right((Ok(stands), _)) => stands,
    };
    if answers.load(Relaxed) {
        let widening = (round_trip * 2 + WIDENING).min(MOST_WIDENING);
        match timeout(widening, quic).await {
            Ok(Ok(better)) => return Ok(better),
            Ok(Err(error)) => other(error),
            Err(_) => tracing::debug!("a pipe in QUIC does not stand in time"),
        }
    }
    Ok(pipe)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::future::{pending, ready};

    use super::*;

    const FAR: Duration = Duration::from_secs(1);
    type Opened = Result<&'static str, &'static str>;

    async fn choice(
        quic: impl Future<Output = Opened>,
        answers: bool,
        tls: Result<(&'static str, Duration), &'static str>,
    ) -> Opened {
        choose(quic, &AtomicBool::new(answers), ready(tls)).await
    }

    async fn soon(what: Opened) -> Opened {
        tokio::task::yield_now().await;
        what
    }

    #[tokio::test]
    async fn quic_is_waited_for_if_it_answers_and_tls_is_used_if_not() {
        let tls = Ok(("tls", FAR));
        assert_eq!(choice(pending(), false, tls).await, Ok("tls"));
        assert_eq!(choice(soon(Ok("quic")), false, tls).await, Ok("tls"));
        assert_eq!(choice(soon(Ok("quic")), true, tls).await, Ok("quic"));
        // But not for ever.
        let begun = Clock::now();
        assert_eq!(choice(pending(), true, tls).await, Ok("tls"));
        let took = Clock::now().saturating_duration_since(begun);
        assert!(took >= MOST_WIDENING && took < FAR, "{took:?}");
    }

    #[tokio::test]
    async fn the_other_is_used_when_one_fails() {
        let tls = Ok(("tls", FAR));
        assert_eq!(choice(soon(Err("no")), true, tls).await, Ok("tls"));
        assert_eq!(choice(ready(Err("no")), true, tls).await, Ok("tls"));
        assert_eq!(choice(soon(Ok("quic")), true, Err("no")).await, Ok("quic"));
        assert_eq!(choice(ready(Err("no")), true, Err("nor")).await, Err("nor"));
    }
}
