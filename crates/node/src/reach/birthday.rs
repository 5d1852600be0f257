//! The many sockets of a birthday punch, until one of them wins and joins the shared socket. It refuses to guess: the finder
//! says what leaves through which.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wayfare_path::{PROBE_LEN, Socket};
use wayfare_transport::{Adopted, SharedSocket};

/// A received probe and the socket on which it came.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) link: Option<u64>,
    pub(super) from: SocketAddr,
    pub(super) on: Socket,
    pub(super) bytes: Vec<u8>,
}

/// The extra sockets of one link.
pub(super) struct Extras {
    link: u64,
    heard: mpsc::Sender<Heard>,
    shared: SharedSocket,
    sockets: Vec<Arc<tokio::net::UdpSocket>>,
    readers: JoinSet<()>,
    adopted: Option<Winner>,
}

/// The socket that was adopted, and for whom.
struct Winner {
    number: u16,
    remote: SocketAddr,
    _adopted: Adopted,
}

/// What every socket but one of a birthday punch sends with.
const USUAL_TTL: u32 = 64;

impl Extras {
    pub(super) fn new(link: u64, heard: mpsc::Sender<Heard>, shared: SharedSocket) -> Self {
        Self {
            link,
            heard,
            shared,
            sockets: Vec::new(),
            readers: JoinSet::new(),
            adopted: None,
        }
    }

    /// Opens so many sockets, or as many as the system gives; says how many.
    pub(super) fn open(&mut self, count: u16) -> u16 {
        self.close();
        for number in 0..count {
            match open_one(&self.shared) {
                Ok(socket) => {
                    let socket = Arc::new(socket);
                    self.sockets.push(Arc::clone(&socket));
                    let (link, heard) = (self.link, self.heard.clone());
                    self.readers.spawn(read(socket, number, link, heard));
                }
                Err(error) => {
                    tracing::debug!(%error, opened = number, "no more sockets to guess with");
                    return number;
                }
            }
        }
        count
    }

    /// Closes those that did not win.
    pub(super) fn close(&mut self) {
        self.readers.abort_all();
        self.sockets.clear();
    }

    /// Lets a winner join the shared socket, for this peer.
    pub(super) fn adopt(&mut self, number: u16, remote: SocketAddr) {
        let known = self.adopted.as_ref();
        if known.is_some_and(|won| won.number == number && won.remote == remote) {
            return;
        }
        let Some(socket) = self.sockets.get(usize::from(number)) else {
            return;
        };
        // One at a time: an address is served by one socket.
        self.adopted = None;
        match duplicate(socket).and_then(|socket| self.shared.adopt(socket, remote)) {
            Ok(adopted) => {
                self.adopted = Some(Winner {
                    number,
                    remote,
                    _adopted: adopted,
                });
            }
            Err(error) => tracing::warn!(%error, "a punched socket cannot be used"),
        }
    }

    /// On which of the sockets a datagram came that the shared socket received.
    pub(super) fn received_on(&self, from: SocketAddr) -> Socket {
        match &self.adopted {
            Some(won) if won.remote == from => Socket::Extra(won.number),
            _ => Socket::Main,
        }
    }

    pub(super) fn send(
        &self,
        number: u16,
        to: SocketAddr,
        datagram: &[u8],
        ttl: Option<u8>,
    ) -> io::Result<()> {
        if self
            .adopted
            .as_ref()
            .is_some_and(|won| won.number == number && won.remote == to)
        {
            return self.shared.try_send(to, datagram);
        }
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let socket = self.sockets.get(usize::from(number)).ok_or_else(gone)?;
        if let Some(ttl) = ttl {
            socket.set_ttl(u32::from(ttl))?;
        }
        let sent = socket.try_send_to(datagram, to);
        if ttl.is_some() {
            socket.set_ttl(USUAL_TTL)?;
        }
        sent.map(drop)
    }
}

fn open_one(shared: &SharedSocket) -> io::Result<tokio::net::UdpSocket> {
    let socket = shared.companion()?;
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket)
}

fn duplicate(socket: &tokio::net::UdpSocket) -> io::Result<UdpSocket> {
    use std::os::fd::AsFd;
    Ok(UdpSocket::from(socket.as_fd().try_clone_to_owned()?))
}

async fn read(
    socket: Arc<tokio::net::UdpSocket>,
    number: u16,
    link: u64,
    heard: mpsc::Sender<Heard>,
) {
    let mut bytes = [0; PROBE_LEN + 1];
    while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
        let probe = Heard {
            link: Some(link),
            from,
            on: Socket::Extra(number),
            bytes: bytes[..length].to_vec(),
        };
        // Bounded: what the driver does not keep up with is lost as on any socket.
        if heard.try_send(probe).is_err() {
            tracing::trace!("a probe is lost");
        }
    }
}
