//! Giving a mapping back, on a thread of its own, so that it works while a program ends. It refuses to be waited for longer than
//! half a second: the router forgets by itself.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use socket2::SockRef;

use super::upnp::Upnp;

/// How long whoever ends may wait for a router.
const PATIENCE: Duration = Duration::from_millis(500);
/// Tries to give back by datagram, and how long each waits: within the patience.
const TRIES: usize = 3;
const EACH: Duration = Duration::from_millis(150);

/// What gives one mapping back.
#[derive(Debug)]
pub(super) enum Undo {
    /// PCP or NAT-PMP.
    Question {
        to: SocketAddrV4,
        mark: Option<u32>,
        bytes: Vec<u8>,
    },
    Upnp {
        upnp: Box<Upnp>,
        port: u16,
    },
}

impl Undo {
    /// Begins, and waits for nothing.
    pub(super) fn in_background(self) {
        drop(self.begin());
    }

    /// Blocks until it is done, or no longer worth waiting for.
    fn within_patience(self) {
        // Nothing is sent: it ends when the thread does.
        let _ = self.begin().recv_timeout(PATIENCE);
    }

    fn begin(self) -> Receiver<()> {
        let (done, ended) = sync_channel(0);
        let work = move || {
            self.run();
            drop(done);
        };
        let thread = std::thread::Builder::new().name("wayfare-unmap".into());
        if let Err(error) = thread.spawn(work) {
            tracing::debug!(%error, "a mapping was not given back");
        }
        ended
    }

    fn run(self) {
        match self {
            Self::Question { to, mark, bytes } => {
                if let Err(error) = say(to, mark, &bytes) {
                    tracing::debug!(%error, "a mapping was not given back");
                }
            }
            Self::Upnp { upnp, port } => {
                if let Err(error) = remove(&upnp, port) {
                    tracing::debug!(%error, "a mapping was not given back");
                }
            }
        }
    }
}

fn say(to: SocketAddrV4, mark: Option<u32>, bytes: &[u8]) -> std::io::Result<()> {
    let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
    if let Some(mark) = mark {
        SockRef::from(&socket).set_mark(mark)?;
    }
    socket.connect(to)?;
    socket.set_read_timeout(Some(EACH))?;
    for _ in 0..TRIES {
        socket.send(bytes)?;
        // Any answer is an answer: there is nothing more that we could do.
        if socket.recv(&mut [0; 64]).is_ok() {
            break;
        }
    }
    Ok(())
}

/// A runtime of its own: the program's may be gone.
fn remove(upnp: &Upnp, port: u16) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let removed = runtime.block_on(upnp.remove(port));
    removed.map_err(std::io::Error::other)
}

/// A mapping that we have; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Held(Option<Undo>);

impl Held {
    pub(super) fn new(undo: Undo) -> Self {
        Self(Some(undo))
    }

    /// The router has forgotten it, or has been told something newer.
    pub(super) fn forget(mut self) {
        self.0 = None;
    }

    /// Gives it back without blocking the task.
    pub(super) async fn give_back(mut self) {
        if let Some(undo) = self.0.take() {
            // If the runtime ends meanwhile, the thread goes on.
            let _ = tokio::task::spawn_blocking(|| undo.within_patience()).await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(undo) = self.0.take() {
            undo.within_patience();
        }
    }
}
