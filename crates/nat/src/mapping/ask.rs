//! Questions to a router over UDP, asked again until the answer comes. It refuses to take any other datagram for it.

use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::Refusal;

/// How long each attempt waits: a home's router answers within milliseconds, a busy one within a second. RFC 6886 begins so too.
const WAITS: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1_000),
];
/// Datagrams that are looked at for one attempt: more are a flood.
const MOST_HEARD: usize = 64;
/// Longer than any message of PCP or NAT-PMP.
const LONGEST: usize = 1_200;

/// Sends `question` until `heard` finds the answer in a datagram. The socket is connected, so that only the router is heard.
pub(super) async fn ask<T>(
    line: &UdpSocket,
    question: &[u8],
    mut heard: impl FnMut(&[u8]) -> Option<Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let mut datagram = [0; LONGEST];
    for wait in WAITS {
        line.send(question).await.map_err(|_| Refusal::Silent)?;
        let until = Instant::now() + wait;
        for _ in 0..MOST_HEARD {
            match timeout_at(until, line.recv(&mut datagram)).await {
                Err(_) => break,
                // The router has no such door.
                Ok(Err(_)) => return Err(Refusal::Silent),
                Ok(Ok(len)) => {
                    if let Some(answer) = heard(&datagram[..len]) {
                        return answer;
                    }
                }
            }
        }
        // After a flood the next attempt begins when it would have.
        tokio::time::sleep_until(until).await;
    }
    Err(Refusal::Silent)
}
