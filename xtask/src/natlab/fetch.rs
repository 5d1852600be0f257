//! An answer without end, fetched for a while: how fast it comes once the stream is up to speed. A
//! new session's credit grows with what it has paid, so the beginning tells of payments, the end of
//! the path. It refuses to keep a byte.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::cli::{Given, Outcome};
use crate::interrupt;
use crate::progress::out;

/// For a connection, and for each further byte.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is read at once.
const BUFFER: usize = 256 << 10;

/// The last part of the time, by which the path is judged.
const END: u32 = 4;

/// How a stream went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Megabits a second over the whole time.
    pub whole_mbps: f64,
    /// Megabits a second over the last quarter of it.
    pub end_mbps: f64,
}

/// Runs the hidden subcommand, `natlab-fetch ADDRESS PATH SECONDS`.
///
/// # Errors
/// When nothing answers, or the answer ends.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    let [address, path, seconds] = given.rest.as_slice() else {
        anyhow::bail!("natlab-fetch takes ADDRESS PATH SECONDS");
    };
    let address: SocketAddr = address.parse().context("ADDRESS is no address")?;
    let time = Duration::from_secs(seconds.parse().context("SECONDS is no number")?);
    let stream = fetch(address, path, time)?;
    out(&serde_json::to_string(&stream)?);
    Ok(Outcome::Passed)
}

fn fetch(address: SocketAddr, path: &str, time: Duration) -> anyhow::Result<Stream> {
    let mut server = TcpStream::connect_timeout(&address, PATIENCE).context("no connection")?;
    server.set_read_timeout(Some(PATIENCE))?;
    server.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
    let mut buffer = vec![0; BUFFER];
    let (mut whole, mut end) = (0_u64, 0_u64);
    let begun = Instant::now();
    let quarter = time / END;
    while begun.elapsed() < time {
        interrupt::check()?;
        let read = server
            .read(&mut buffer)
            .context("the stream stands still")?;
        ensure!(read > 0, "the answer ended");
        whole += read as u64;
        if begun.elapsed() >= time - quarter {
            end += read as u64;
        }
    }
    let mbps = |bytes: u64, time: Duration| bytes as f64 * 8.0 / 1e6 / time.as_secs_f64();
    Ok(Stream {
        whole_mbps: mbps(whole, time),
        end_mbps: mbps(end, quarter),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_that_goes_on_is_measured_and_one_that_ends_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut endless, _) = listener.accept().unwrap();
            while endless.write_all(&[0; 4096]).is_ok() {}
            drop(listener.accept().unwrap());
        });
        let time = Duration::from_millis(200);
        let stream = fetch(address, "/endless", time).unwrap();
        assert!(stream.whole_mbps > 0.0 && stream.end_mbps > 0.0);
        assert!(fetch(address, "/short", time).is_err());
        server.join().unwrap();
    }
}
