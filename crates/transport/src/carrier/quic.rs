//! A pipe inside the datagrams of a QUIC connection. It shares the UDP port with everything else, and
//! shows an observer a handshake for `h3` and packets that he cannot read.
//!
//! It refuses paths on which QUIC's own first packets would not fit inside.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, SendDatagramError};
use tokio::time::{sleep, timeout};

use super::PipeError;
use crate::quic::{DATAGRAM_BUFFER, LEAST_PAYLOAD, remote_address};
use crate::socket::{Carried, Carrier, SharedSocket};

/// What may wait in a connection, bytes: as much for each pipe, since nobody tells when it has left.
const ROOM: usize = 512 << 10;
/// What must fit inside: QUIC's smallest first packet, behind the head of a relay frame.
const LEAST_ROOM: usize = LEAST_PAYLOAD as usize + 8;
/// A connection begins with packets of 1,200 bytes and finds out within round trips that the path carries more.
const WIDENING: Duration = Duration::from_secs(3);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Datagrams of one connection.
#[derive(Debug)]
struct Datagrams(Connection);

impl Carrier for Datagrams {
    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        // When the connection's own buffer is full it drops the oldest; ours is smaller and drops the newest.
        let queued = DATAGRAM_BUFFER.saturating_sub(self.0.datagram_send_buffer_space());
        if queued + datagram.len() > ROOM {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let sent = self.0.send_datagram(Bytes::copy_from_slice(datagram));
        sent.map_err(|error| match error {
            // The path became narrower since it was asked.
            SendDatagramError::TooLarge => io::ErrorKind::WouldBlock.into(),
            SendDatagramError::ConnectionLost(_)
            | SendDatagramError::UnsupportedByPeer
            | SendDatagramError::Disabled => io::Error::new(io::ErrorKind::BrokenPipe, error),
        })
    }

    fn most(&self) -> usize {
        self.0.max_datagram_size().unwrap_or(0)
    }
}

/// Waits until a connection is wide enough for a pipe.
pub(super) async fn widen(connection: &Connection) -> Result<(), PipeError> {
    let room = || connection.max_datagram_size().unwrap_or(0);
    let widened = timeout(WIDENING, async {
        while room() < LEAST_ROOM {
            sleep(LOOK).await;
        }
    });
    widened.await.map_err(|_| PipeError::Narrow {
        relay: remote_address(connection),
        room: room(),
    })
}

/// The virtual address of `connection`.
pub(super) fn lay(socket: &SharedSocket, connection: &Connection) -> Result<Carried, PipeError> {
    let datagrams = Datagrams(connection.clone());
    let carried = socket.open_carried(std::sync::Arc::new(datagrams));
    carried.map_err(PipeError::Socket)
}

/// Takes in what arrives until the connection is lost, and says when the first does.
pub(super) async fn carry(connection: &Connection, carried: &Carried, heard: impl FnOnce()) {
    let mut heard = Some(heard);
    loop {
        match connection.read_datagram().await {
            Ok(datagram) => {
                if let Some(heard) = heard.take() {
                    heard();
                }
                carried.deliver(&datagram);
            }
            Err(why) => {
                tracing::debug!(%why, "a pipe inside QUIC ends");
                return;
            }
        }
    }
}
