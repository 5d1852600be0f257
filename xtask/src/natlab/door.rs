//! Doors: addresses at which a service is reached that listens elsewhere. Chain, Hermes and index
//! listen with IPv4 on ports of their own; out there they would be behind port 443, with IPv6 too.
//! It refuses to look at what passes.

use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;

use crate::cli::{Given, Outcome};
use crate::interrupt;
use crate::process::LOOK;
use crate::progress::out;

/// Connections at a time, two threads each.
const GUESTS: usize = 256;

/// Runs the hidden subcommand, `natlab-door LISTEN=TARGET…`, until a signal comes.
///
/// # Errors
/// When an address is taken or none.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    let guests = Arc::new(AtomicUsize::new(0));
    for word in &given.rest {
        let (listen, target) = word.split_once('=').context("LISTEN=TARGET")?;
        let target: SocketAddr = target.parse().context("the target is no address")?;
        let listener =
            TcpListener::bind(listen).with_context(|| format!("cannot bind {listen}"))?;
        let guests = Arc::clone(&guests);
        std::thread::spawn(move || welcome(&listener, target, &guests));
    }
    out("open");
    while interrupt::check().is_ok() {
        std::thread::sleep(LOOK);
    }
    Ok(Outcome::Passed)
}

fn welcome(listener: &TcpListener, target: SocketAddr, guests: &Arc<AtomicUsize>) {
    for guest in listener.incoming().flatten() {
        if guests.fetch_add(1, Ordering::Relaxed) >= GUESTS {
            guests.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let guests = Arc::clone(guests);
        std::thread::spawn(move || {
            // Who hangs up half way is no concern of ours.
            let _ = lead(&guest, target);
            guests.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn lead(guest: &TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let service = TcpStream::connect(target)?;
    for stream in [guest, &service] {
        stream.set_nodelay(true)?;
    }
    std::thread::scope(|scope| {
        let back = scope.spawn(|| one_way(&service, guest));
        let there = one_way(guest, &service);
        back.join().unwrap_or(Ok(())).and(there)
    })
}

fn one_way(mut from: &TcpStream, mut to: &TcpStream) -> std::io::Result<()> {
    let copied = copy(&mut from, &mut to).map(drop);
    // The end of one direction is told; the other may go on.
    let _ = to.shutdown(Shutdown::Write);
    if copied.is_err() {
        let _ = from.shutdown(Shutdown::Both);
    }
    copied
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn both_directions_pass_and_end() {
        let service = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = service.local_addr().unwrap();
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = door.local_addr().unwrap();
        std::thread::spawn(move || welcome(&door, target, &Arc::default()));
        let mut guest = TcpStream::connect(at).unwrap();
        guest.write_all(b"ask").unwrap();
        guest.shutdown(Shutdown::Write).unwrap();
        let (mut served, _) = service.accept().unwrap();
        let mut asked = String::new();
        served.read_to_string(&mut asked).unwrap();
        served.write_all(b"answer").unwrap();
        drop(served);
        let mut answer = String::new();
        guest.read_to_string(&mut answer).unwrap();
        assert_eq!((asked.as_str(), answer.as_str()), ("ask", "answer"));
    }
}
