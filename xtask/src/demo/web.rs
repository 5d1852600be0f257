//! The laboratory's web server: a page, a file, an endless answer, and the address it sees the
//! visitor at. It is a subcommand of its own because it has to run inside a namespace. It refuses
//! to be a web server for anybody else: GET, five paths, nothing kept.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use crate::cli::{Given, Outcome};
use crate::interrupt;
use crate::process::LOOK;

/// What `/page` answers.
pub const PAGE: &str = "Here is the internet.\n";

/// `/part` answers the beginning of the file, this fraction of it.
const PART: u64 = 8;

/// Visitors at a time; one thread each.
const VISITORS: usize = 64;

/// A request line and its headers are smaller.
const REQUEST: u64 = 16 << 10;

/// A visitor that neither asks nor reads for this long is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the hidden subcommand until it is ended.
///
/// # Errors
/// When it cannot listen.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    let listen = given.value("--listen").context("web needs --listen")?;
    let file = PathBuf::from(given.value("--file").context("web needs --file")?);
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot bind {listen}"))?;
    std::thread::spawn(end_when_asked);
    crate::progress::out("listening");
    let visitors = Arc::new(AtomicUsize::new(0));
    for visitor in listener.incoming() {
        let Ok(visitor) = visitor else { continue };
        if visitors.load(Ordering::Relaxed) >= VISITORS {
            continue;
        }
        visitors.fetch_add(1, Ordering::Relaxed);
        let (visitors, file) = (Arc::clone(&visitors), file.clone());
        std::thread::spawn(move || {
            // A visitor who hangs up half way is no concern of ours.
            let _ = serve(&visitor, &file);
            visitors.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(Outcome::Passed)
}

/// Waiting for a visitor heeds no signal.
fn end_when_asked() {
    while interrupt::check().is_ok() {
        std::thread::sleep(LOOK);
    }
    std::process::exit(0);
}

fn serve(mut visitor: &TcpStream, file: &Path) -> std::io::Result<()> {
    visitor.set_read_timeout(Some(PATIENCE))?;
    visitor.set_write_timeout(Some(PATIENCE))?;
    let mut asked = BufReader::new(visitor.take(REQUEST));
    let mut first = String::new();
    asked.read_line(&mut first)?;
    let mut line = String::new();
    while asked.read_line(&mut line)? > 0 && !line.trim().is_empty() {
        line.clear();
    }
    let mut words = first.split_whitespace();
    match (words.next(), words.next()) {
        (Some("GET"), Some("/ip")) => answer(
            visitor,
            "200 OK",
            &format!("{}\n", visitor.peer_addr()?.ip()),
        ),
        (Some("GET"), Some("/page")) => answer(visitor, "200 OK", PAGE),
        (Some("GET"), Some("/file")) => {
            let mut file = File::open(file)?;
            head(visitor, "200 OK", Some(file.metadata()?.len()))?;
            std::io::copy(&mut file, &mut visitor).map(drop)
        }
        (Some("GET"), Some("/part")) => {
            let file = File::open(file)?;
            let length = file.metadata()?.len() / PART;
            head(visitor, "200 OK", Some(length))?;
            std::io::copy(&mut file.take(length), &mut visitor).map(drop)
        }
        (Some("GET"), Some("/endless")) => {
            head(visitor, "200 OK", None)?;
            std::io::copy(&mut std::io::repeat(b'.'), &mut visitor).map(drop)
        }
        _ => answer(visitor, "404 Not Found", "There is no such page.\n"),
    }
}

fn answer(mut visitor: &TcpStream, status: &str, text: &str) -> std::io::Result<()> {
    head(visitor, status, Some(text.len() as u64))?;
    visitor.write_all(text.as_bytes())
}

fn head(mut visitor: &TcpStream, status: &str, length: Option<u64>) -> std::io::Result<()> {
    let length = length.map_or(String::new(), |length| {
        format!("Content-Length: {length}\r\n")
    });
    let head = format!("HTTP/1.1 {status}\r\n{length}Connection: close\r\n\r\n");
    visitor.write_all(head.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, file: &Path) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut visitor = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        visitor
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .unwrap();
        let (server, _) = listener.accept().unwrap();
        serve(&server, file).unwrap();
        drop(server);
        let mut text = String::new();
        visitor.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn pages_files_and_addresses_are_answered() {
        let file = std::env::temp_dir().join(format!("wf-web-{}", std::process::id()));
        std::fs::write(&file, "the file").unwrap();
        assert!(asked("/ip", &file).ends_with("\r\n\r\n127.0.0.1\n"));
        assert!(asked("/page", &file).ends_with(PAGE));
        let whole = asked("/file", &file);
        assert!(whole.contains("Content-Length: 8\r\n") && whole.ends_with("the file"));
        assert!(asked("/part", &file).ends_with("\r\n\r\nt"));
        assert!(asked("/else", &file).starts_with("HTTP/1.1 404"));
        std::fs::remove_file(&file).unwrap();
    }
}
