//! The crew: the threads of all lanes but the first.
//! It refuses to leave one behind: whatever ends the first lane ends them all, and waits until they have.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wayfare_transport::{LaneSocket, Tun, TunDevice};

use super::exchange::Post;
use super::{Berth, LaneTotals};
use crate::WireGuardError;

/// Dropping it ends the threads and waits for them: at most for one turn of each.
#[derive(Debug, Default)]
pub(super) struct Crew {
    stop: CancellationToken,
    threads: Vec<JoinHandle<Result<LaneTotals, WireGuardError>>>,
}

impl Crew {
    pub(super) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Ends when any of the lanes does.
    pub(super) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Starts the thread of a lane and waits until it carries packets.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) async fn hire(
        &mut self,
        berth: Berth,
        socket: LaneSocket,
        device: Arc<TunDevice>,
        inbox: mpsc::Receiver<Post>,
    ) -> Result<(), WireGuardError> {
        let (ready, is_ready) = oneshot::channel();
        let stop = self.stop.clone();
        let name = format!("lane-{}", berth.lane.number());
        let thread = Builder::new().name(name).spawn(move || {
            // Whatever this lane ends for, even a panic, it does not end alone.
            let all = stop.clone().drop_guard();
            let outcome = work(berth, socket, &device, inbox, ready, &stop);
            drop(all);
            outcome
        });
        self.threads.push(thread.map_err(WireGuardError::Thread)?);
        if is_ready.await.is_ok() {
            return Ok(());
        }
        // It ended before it was ready, and says why.
        let ended = self.threads.pop().map(join);
        Err(match ended {
            Some(Err(why)) => why,
            Some(Ok(_)) | None => WireGuardError::Lane,
        })
    }

    /// Ends all, and gathers what they have carried after the `first` lane's, or the first error.
    ///
    /// # Errors
    /// Of any lane.
    pub(super) fn disband(
        mut self,
        first: Result<LaneTotals, WireGuardError>,
    ) -> Result<Vec<LaneTotals>, WireGuardError> {
        self.stop.cancel();
        let others: Vec<_> = self.threads.drain(..).map(join).collect();
        std::iter::once(first).chain(others).collect()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            if let Err(error) = join(thread) {
                tracing::debug!(%error, "a lane ended");
            }
        }
    }
}

fn join(
    thread: JoinHandle<Result<LaneTotals, WireGuardError>>,
) -> Result<LaneTotals, WireGuardError> {
    thread.join().unwrap_or(Err(WireGuardError::Lane))
}

fn work(
    berth: Berth,
    socket: LaneSocket,
    device: &TunDevice,
    inbox: mpsc::Receiver<Post>,
    ready: oneshot::Sender<()>,
    stop: &CancellationToken,
) -> Result<LaneTotals, WireGuardError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(WireGuardError::Thread)?;
    runtime.block_on(async {
        let queue: Arc<dyn Tun> = Arc::new(device.another_queue()?);
        let (socket, receiver) = socket.open()?;
        let lane = berth.prepare(socket, receiver, queue)?;
        // Nobody listens if the first lane has ended meanwhile; then `stop` says so too.
        let _ = ready.send(());
        lane.run(stop, Some(inbox)).await
    })
}
