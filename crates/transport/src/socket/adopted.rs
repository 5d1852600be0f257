//! Sockets that hole punching won: one peer is reached through each, under its real address.
//!
//! When a hole opens on another port than the shared socket's, that port's socket joins: what is
//! for the peer leaves through it, and what it receives from the peer is sorted as the shared
//! socket's own. It refuses everything the adopted socket receives from anybody else.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use socket2::SockRef;
use tokio::task::AbortHandle;

use super::inner::Inner;
use super::intake::{Landing, Metas};
use super::open::{self, SocketOptions};
use super::port::Port;
use super::reader::PATIENCE;
use super::sorting::Source;
use super::{SharedSocket, canonical, is_virtual};

/// A third of the shared socket's receive buffer: one peer's traffic. 64 adopted sockets may be
/// charged 64 x 2 x 4 MiB by the kernel, if nobody reads them.
const RECEIVE_BUFFER: usize = 4 << 20;

/// An adopted socket, in use as long as this value lives. It does not keep the shared one open.
#[derive(Debug)]
pub struct Adopted {
    remote: SocketAddr,
    local: SocketAddr,
    inner: Weak<Inner>,
    reader: AbortHandle,
}

impl Adopted {
    /// Who is reached through it.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// What it is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        self.reader.abort();
        if let Some(inner) = self.inner.upgrade() {
            inner.detours.release(self.remote);
        }
    }
}

impl SharedSocket {
    /// The firewall mark of what the shared socket sends.
    pub(crate) fn mark(&self) -> Option<u32> {
        let mark = getsockopt(&self.inner.port.io, sockopt::Mark).ok();
        mark.filter(|mark| *mark != 0)
    }

    /// A TCP socket that leaves by the same way as the shared one: with its firewall mark, and, if it
    /// is bound to one address of `to`'s family, from there.
    pub(crate) fn tcp_companion(&self, to: SocketAddr) -> io::Result<tokio::net::TcpSocket> {
        let socket = match to {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        if let Some(mark) = self.mark() {
            setsockopt(&socket, sockopt::Mark, &mark)?;
        }
        let from = canonical(self.local_addr()).ip();
        if !from.is_unspecified() && from.is_ipv4() == to.is_ipv4() {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        Ok(socket)
    }

    /// Another IPv4 socket, on a port of the kernel's choice and with this one's firewall mark:
    /// one of many that may be adopted.
    ///
    /// # Errors
    /// What the kernel says, for example that too many files are open.
    pub fn companion(&self) -> io::Result<std::net::UdpSocket> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        if let Ok(mark @ 1..) = getsockopt(&self.inner.port.io, sockopt::Mark) {
            setsockopt(&socket, sockopt::Mark, &mark)?;
        }
        Ok(socket)
    }

    /// From now on datagrams to `remote`, a real address, leave through `socket`, and what that
    /// receives from `remote` is received as the shared socket's own. A full send buffer of an
    /// adopted socket loses datagrams, and counts them. It gets the shared socket's firewall mark.
    ///
    /// # Errors
    /// `InvalidInput` for a virtual address or one that `socket` cannot reach, `AlreadyExists` if
    /// `remote` is served by an adopted socket, `QuotaExceeded` when 64 are adopted, otherwise what
    /// the kernel says.
    pub fn adopt(&self, socket: std::net::UdpSocket, remote: SocketAddr) -> io::Result<Adopted> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let remote = canonical(remote);
        if is_virtual(remote) {
            let why = "what is adopted is a socket for a real address";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let wire = self.inner.port.wire(remote)?;
        if let Ok(mark @ 1..) = getsockopt(&self.inner.port.io, sockopt::Mark) {
            setsockopt(&socket, sockopt::Mark, &mark)?;
        }
        let options = SocketOptions {
            receive_buffer: RECEIVE_BUFFER,
            ..SocketOptions::default()
        };
        open::size_buffers(&SockRef::from(&socket), options);
        let port = Arc::new(Port::new(socket)?);
        port.wire(remote)?;
        self.inner.detours.adopt(remote, Arc::clone(&port))?;
        let local = port.local;
        let inner = Arc::downgrade(&self.inner);
        let source = Source::Only { remote, wire };
        let reader = runtime.spawn(read(Weak::clone(&inner), port, source));
        Ok(Adopted {
            remote,
            local,
            inner,
            reader: reader.abort_handle(),
        })
    }
}

/// Reads an adopted socket until the shared one is gone, or its own descriptor is broken.
async fn read(inner: Weak<Inner>, port: Arc<Port>, source: Source) {
    let mut landing = Landing::default();
    let mut metas = Metas::default();
    let mut failures = 0;
    while failures < PATIENCE {
        // The poll form takes part in tokio's cooperative budget: a flood cannot keep the thread.
        if poll_fn(|cx| port.io.poll_recv_ready(cx)).await.is_err() {
            return;
        }
        let Some(inner) = inner.upgrade() else {
            return;
        };
        match landing.pass(&inner, &port, source, &mut metas) {
            Ok(()) => {
                failures = 0;
                inner.wake();
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                inner.counters.receive_errors.add(1);
                failures += 1;
                drop(inner);
                tokio::task::yield_now().await;
            }
        }
    }
    tracing::warn!("an adopted UDP socket failed; its peer is no longer heard through it");
}
