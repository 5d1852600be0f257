//! The origin: a web server that sends one file at the rate that the visitor's path names, in small
//! pieces and never faster, whatever was held up before. It refuses to answer anything else.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::cli::{Given, Outcome};
use crate::demo::network::SERVICES;
use crate::demo::stage::make_file;
use crate::interrupt;
use crate::lab::{Background, wait_for};
use crate::process::LOOK;
use crate::progress::out;

use super::super::world::World;
use super::scenario::FILE;

/// Where it listens: the web server has port 80.
const PORT: u16 = 81;

/// For it to listen.
const UP: Duration = Duration::from_secs(10);

/// Pieces a second.
const PIECES: u64 = 40;

/// A visitor who takes nothing for this long is gone; longer than any download.
const PATIENCE: Duration = Duration::from_secs(150);

/// A request line and its headers are smaller.
const REQUEST: u64 = 16 << 10;

/// A running origin and what it has.
#[derive(Debug)]
pub(super) struct Origin {
    running: Background,
    /// SHA-256 of the file, in hex.
    pub(super) sha256: String,
    /// Where downloads go.
    pub(super) folder: PathBuf,
}

impl Origin {
    /// Makes the file and starts beside the web server.
    pub(super) fn start(world: &World, lab: &Path) -> anyhow::Result<Self> {
        let folder = lab.join("origin");
        std::fs::create_dir(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let (file, sha256) = make_file(&folder, FILE)?;
        let listen = format!("{SERVICES}:{PORT}");
        let args = ["natlab-origin", &listen, &file.to_string_lossy()];
        let mut running = world.services.spawn("origin", world.workshop(), args)?;
        wait_for("the origin", UP, || {
            running.must_live()?;
            Ok(running.said().contains("listening").then_some(()))
        })?;
        Ok(Self {
            running,
            sha256,
            folder,
        })
    }

    /// An error once it is no more.
    pub(super) fn must_live(&mut self) -> anyhow::Result<()> {
        self.running.must_live()
    }

    /// The file at so many bytes a second.
    pub(super) fn url(&self, rate: u64) -> String {
        format!("http://{SERVICES}:{PORT}/{rate}")
    }
}

/// Runs the hidden subcommand, `natlab-origin LISTEN FILE`, until a signal comes.
///
/// # Errors
/// When it cannot listen.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    let [listen, file] = given.rest.as_slice() else {
        anyhow::bail!("natlab-origin takes LISTEN FILE");
    };
    let file = PathBuf::from(file);
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot bind {listen}"))?;
    std::thread::spawn(move || {
        for visitor in listener.incoming().flatten() {
            let file = file.clone();
            // A visitor who hangs up half way is no concern of ours.
            std::thread::spawn(move || drop(serve(&visitor, &file)));
        }
    });
    out("listening");
    while interrupt::check().is_ok() {
        std::thread::sleep(LOOK);
    }
    Ok(Outcome::Passed)
}

fn serve(mut visitor: &TcpStream, file: &Path) -> std::io::Result<()> {
    visitor.set_read_timeout(Some(PATIENCE))?;
    visitor.set_write_timeout(Some(PATIENCE))?;
    visitor.set_nodelay(true)?;
    let mut asked = BufReader::new(visitor.take(REQUEST));
    let mut first = String::new();
    asked.read_line(&mut first)?;
    let (mut line, mut from) = (String::new(), None);
    while asked.read_line(&mut line)? > 0 && !line.trim().is_empty() {
        from = beginning(&line).or(from);
        line.clear();
    }
    let path = first.strip_prefix("GET /").unwrap_or_default();
    let rate: u64 = match path.split(' ').next().unwrap_or_default().parse() {
        Ok(rate) if rate >= PIECES => rate,
        Ok(_) | Err(_) => return visitor.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n"),
    };
    let mut file = File::open(file)?;
    let whole = file.metadata()?.len();
    let begin = from.unwrap_or(0).min(whole);
    file.seek(SeekFrom::Start(begin))?;
    let status = match from {
        None => "200 OK".to_owned(),
        Some(_) => format!(
            "206 Partial Content\r\nContent-Range: bytes {begin}-{}/{whole}",
            whole.saturating_sub(1)
        ),
    };
    let length = whole - begin;
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    visitor.write_all(head.as_bytes())?;
    let mut piece = vec![0; usize::try_from(rate / PIECES).unwrap_or(usize::MAX)];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        visitor.write_all(&piece[..read])?;
        std::thread::sleep(Duration::from_secs(1) / u32::try_from(PIECES).unwrap_or(1));
    }
}

/// `Range: bytes=N-` → N.
fn beginning(header: &str) -> Option<u64> {
    let (name, value) = header.split_once(':')?;
    let range = value.trim().strip_prefix("bytes=")?.strip_suffix('-')?;
    range
        .parse()
        .ok()
        .filter(|_| name.eq_ignore_ascii_case("range"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn asked(path: &str, file: &Path) -> (String, Duration) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut visitor = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        visitor
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .unwrap();
        let (server, _) = listener.accept().unwrap();
        let begun = Instant::now();
        serve(&server, file).unwrap();
        drop(server);
        let mut text = String::new();
        visitor.read_to_string(&mut text).unwrap();
        (text, begun.elapsed())
    }

    #[test]
    fn who_was_cut_off_goes_on_where_he_was() {
        for (header, begin) in [
            ("Range: bytes=12-\r\n", Some(12)),
            ("range: bytes=0-\r\n", Some(0)),
            ("Range: bytes=1-2\r\n", None),
            ("Accept: bytes=1-\r\n", None),
        ] {
            assert_eq!(beginning(header), begin, "{header}");
        }
    }

    #[test]
    fn the_file_comes_whole_and_no_faster_than_asked() {
        let file = std::env::temp_dir().join(format!("wf-origin-{}", std::process::id()));
        std::fs::write(&file, "x".repeat(4_000)).unwrap();
        let (text, took) = asked("/20000", &file);
        assert!(text.ends_with(&"x".repeat(4_000)) && text.contains("Content-Length: 4000\r\n"));
        assert!(took >= Duration::from_millis(180), "{took:?}");
        for path in ["/", "/fast", "/1"] {
            assert!(asked(path, &file).0.starts_with("HTTP/1.1 404"), "{path}");
        }
        std::fs::remove_file(&file).unwrap();
    }
}
