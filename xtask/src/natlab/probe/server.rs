//! The prober's other end: tells everybody where it sees them, from whichever of its addresses they
//! ask for. It refuses to remember anybody.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::cli::Outcome;
use crate::interrupt;
use crate::process::LOOK;
use crate::progress::out;

use super::{PROBED, TCP, udp4, udp6};

/// A question is shorter.
const QUESTION: usize = 256;

/// No answer is asked for later than this.
const LATEST: Duration = Duration::from_secs(60);

/// Sockets of one family: `[address][port]`.
type Sockets = Arc<[[UdpSocket; 2]; 2]>;

/// Answers until a signal comes.
///
/// # Errors
/// When an address is taken.
pub(super) fn run() -> anyhow::Result<Outcome> {
    for family in [udp4(), udp6()] {
        let sockets: Sockets = Arc::new(bound(family)?);
        for (host, port) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let sockets = Arc::clone(&sockets);
            std::thread::spawn(move || answer(&sockets, host, port));
        }
    }
    for port in TCP {
        let listener = TcpListener::bind((PROBED[0], port)).context("cannot listen")?;
        // That a connection comes about is all that anybody wants to know.
        std::thread::spawn(move || listener.incoming().for_each(drop));
    }
    out("listening");
    while interrupt::check().is_ok() {
        std::thread::sleep(LOOK);
    }
    Ok(Outcome::Passed)
}

fn bound(addresses: [[SocketAddr; 2]; 2]) -> anyhow::Result<[[UdpSocket; 2]; 2]> {
    let bind = |address: SocketAddr| {
        UdpSocket::bind(address).with_context(|| format!("cannot bind {address}"))
    };
    let [one, other] = addresses;
    Ok([
        [bind(one[0])?, bind(one[1])?],
        [bind(other[0])?, bind(other[1])?],
    ])
}

fn answer(sockets: &Sockets, host: usize, port: usize) {
    let mut question = [0; QUESTION];
    loop {
        let Ok((length, from)) = sockets[host][port].recv_from(&mut question) else {
            // An ICMP error of an earlier answer.
            continue;
        };
        let text = String::from_utf8_lossy(&question[..length]);
        let Some((token, flags)) = asked(&text) else {
            continue;
        };
        let host = host ^ usize::from(flags.contains('i'));
        let port = port ^ usize::from(flags.contains('p'));
        let told = format!("got {token} {from}");
        if let Some(seconds) = flags.strip_prefix('+').and_then(|text| text.parse().ok()) {
            answer_later(
                sockets,
                (host, port),
                told,
                from,
                Duration::from_secs(seconds),
            );
            continue;
        }
        let mut to = from;
        if let Some(port) = flags.strip_prefix('@').and_then(|port| port.parse().ok()) {
            to.set_port(port);
        }
        let _ = sockets[host][port].send_to(told.as_bytes(), to);
    }
}

/// An answer after this time, if that is short: a look holds few threads.
fn answer_later(
    sockets: &Sockets,
    (host, port): (usize, usize),
    told: String,
    to: SocketAddr,
    time: Duration,
) {
    if time > LATEST {
        return;
    }
    let sockets = Arc::clone(sockets);
    std::thread::spawn(move || {
        std::thread::sleep(time);
        let _ = sockets[host][port].send_to(told.as_bytes(), to);
    });
}

fn asked(text: &str) -> Option<(&str, &str)> {
    let mut words = text.strip_prefix("ask ")?.split_whitespace();
    Some((words.next()?, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_questions_are_questions() {
        assert_eq!(asked("ask 7 ip"), Some(("7", "ip")));
        for other in ["", "ask", "ask 7", "got 7 -", "hairpin 7"] {
            assert_eq!(asked(other), None, "{other}");
        }
    }
}
