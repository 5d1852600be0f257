//! The Unix socket: its permissions, its stale predecessors, its removal, and who may speak.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use futures::{Stream, stream};
use tokio::net::{UnixListener, UnixStream};

use crate::ServeError;
use crate::wire::Origin;

/// A socket at a path of ours; the path goes with it.
#[derive(Debug)]
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

impl ControlSocket {
    /// Makes the socket under another name, restricts it, and only then gives it its name: nobody can connect in between.
    pub(super) async fn bind(path: &Path) -> Result<Self, ServeError> {
        let failed = |cause: io::Error| ServeError::Socket {
            path: path.to_owned(),
            cause,
        };
        match std::fs::symlink_metadata(path) {
            Err(_) => {}
            Ok(found) if !found.file_type().is_socket() => {
                return Err(ServeError::NotASocket(path.to_owned()));
            }
            // A socket that nobody listens on was left by a crash; the rename below replaces it.
            Ok(_) if UnixStream::connect(path).await.is_ok() => {
                return Err(ServeError::InUse(path.to_owned()));
            }
            Ok(_) => {}
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let making = path.with_file_name(name);
        // Left by a crashed process that had our number; if it is not there, all the better.
        let _ = std::fs::remove_file(&making);
        let listener = UnixListener::bind(&making).map_err(failed)?;
        let made = std::fs::set_permissions(&making, PermissionsExt::from_mode(0o600))
            .and_then(|()| std::fs::metadata(&making))
            .and_then(|meta| std::fs::rename(&making, path).map(|()| meta.uid()));
        match made {
            Ok(owner) => Ok(Self {
                listener,
                path: path.to_owned(),
                owner,
            }),
            Err(cause) => {
                let _ = std::fs::remove_file(&making);
                Err(failed(cause))
            }
        }
    }

    /// Connections of the socket's owner and of root. The permissions say the same; this also holds when somebody changes them.
    pub(super) fn accepted(&self) -> impl Stream<Item = (UnixStream, Origin)> + Send + '_ {
        stream::unfold(self, |socket| async move {
            loop {
                match socket.listener.accept().await {
                    Ok((connection, _)) if socket.may_speak(&connection) => {
                        return Some(((connection, Origin(None)), socket));
                    }
                    Ok(_) => tracing::warn!(
                        "a connection of another user to the control socket was refused"
                    ),
                    Err(cause) => {
                        tracing::warn!(%cause, "a control connection could not be accepted");
                        tokio::time::sleep(crate::serve::ACCEPT_PAUSE).await;
                    }
                }
            }
        })
    }

    fn may_speak(&self, connection: &UnixStream) -> bool {
        connection
            .peer_cred()
            .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == self.owner)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Gone already means that somebody cleaned up before us.
        let _ = std::fs::remove_file(&self.path);
    }
}
