//! TCP from the provider's side to the consumers': a source that never tires, and a sink with one
//! stream for each consumer, which counts them all over the same stretch of time. It refuses to
//! look at what arrives.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::plan;

/// What is written and read at once.
const PIECE: usize = 128 << 10;

/// For all streams to be connected.
const PATIENCE: Duration = Duration::from_secs(60);

/// Until streams have found their rates and their shares.
const RAMP: Duration = Duration::from_secs(3);

/// Sends to everybody, with this congestion control.
pub(crate) async fn source(at: SocketAddr, congestion: &str) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    // Streams that are accepted inherit it.
    setsockopt(&socket, sockopt::TcpCongestion, &congestion.into())
        .with_context(|| format!("there is no congestion control {congestion}"))?;
    let listener: TcpListener = socket.listen(4_096)?;
    println!("listening");
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept")?;
        spawn_local(pour(stream));
    }
}

async fn pour(mut stream: TcpStream) {
    thread_local! {
        static PIECES: &'static [u8] = vec![0x5a; PIECE].leak();
    }
    let piece = PIECES.with(|piece| *piece);
    while stream.write_all(piece).await.is_ok() {}
}

/// Receives by `count` streams for `seconds`, and tells what each got as JSON.
pub(crate) async fn sink(count: u16, to: SocketAddr, seconds: u64) -> anyhow::Result<String> {
    let mut connecting = JoinSet::new();
    for number in 0..count {
        connecting.spawn_local(timeout(PATIENCE, connect(number, to)));
    }
    let scratch = Rc::new(RefCell::new(vec![0; PIECE]));
    let mut counters: Vec<Rc<Cell<u64>>> = Vec::new();
    while let Some(connected) = connecting.join_next().await {
        let stream = connected?.context("a stream was not connected in time")??;
        let counter = Rc::new(Cell::new(0));
        counters.push(Rc::clone(&counter));
        spawn_local(drain(stream, counter, Rc::clone(&scratch)));
    }
    sleep(RAMP).await;
    let counts = || counters.iter().map(|counter| counter.get());
    let (begun, before) = (Instant::now(), counts().collect::<Vec<u64>>());
    sleep(Duration::from_secs(seconds)).await;
    let took = begun.elapsed().as_secs_f64();
    let got: Vec<u64> = counts()
        .zip(before)
        .map(|(now, before)| now - before)
        .collect();
    ensure!(got.iter().any(|bytes| *bytes > 0), "nothing arrived");
    let all: u64 = counts().sum();
    Ok(format!(
        "{{\"seconds\": {took}, \"bytes\": {got:?}, \"all\": {all}}}"
    ))
}

async fn connect(number: u16, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((plan::inner(number), 0).into())?;
    let stream = socket.connect(to).await;
    stream.with_context(|| format!("consumer {number} cannot connect"))
}

async fn drain(stream: TcpStream, counter: Rc<Cell<u64>>, scratch: Rc<RefCell<Vec<u8>>>) {
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut scratch.borrow_mut()) {
            Ok(0) => return,
            Ok(bytes) => counter.set(counter.get() + bytes as u64),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
