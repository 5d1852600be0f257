//! The command line's side of the local control socket.

use std::path::Path;

use wayfare_api::ApiError;
use wayfare_api::control::ControlClient;

use crate::shown::{EarningShown, SessionShown, SettledShown, StatusShown};

/// A daemon on this machine.
#[derive(Debug)]
pub struct LocalDaemon {
    client: ControlClient,
}

/// Why a daemon did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DaemonError {
    /// Nobody answers on the socket.
    #[error("{0}")]
    Absent(String),
    /// It said no.
    #[error("{0}")]
    Refused(String),
}

impl From<ApiError> for DaemonError {
    fn from(error: ApiError) -> Self {
        match error.refusal() {
            Some(refusal) => Self::Refused(refusal.message.clone()),
            None => Self::Absent(error.to_string()),
        }
    }
}

impl LocalDaemon {
    /// The daemon that listens on a socket. Nothing is connected yet.
    #[must_use]
    pub fn at(socket: &Path) -> Self {
        Self {
            client: ControlClient::connect_unix(socket),
        }
    }

    /// How it stands.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub async fn status(&self) -> Result<StatusShown, DaemonError> {
        let mut status = StatusShown::from(self.client.status().await?);
        // A consumer has one session; a provider's ways are as many as its consumers.
        if status.role == "consumer" {
            let sessions = self.sessions().await?;
            status.path = sessions.into_iter().find_map(|session| session.path);
        }
        Ok(status)
    }

    /// Its sessions.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub async fn sessions(&self) -> Result<Vec<SessionShown>, DaemonError> {
        Ok(self
            .client
            .sessions()
            .await?
            .sessions
            .iter()
            .map(SessionShown::from)
            .collect())
    }

    /// Ends it, after the last payments.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub async fn down(&self) -> Result<(), DaemonError> {
        Ok(self.client.down().await?)
    }

    /// Closes its sessions; returns how many there are.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub async fn drain(&self) -> Result<u32, DaemonError> {
        Ok(self.client.drain(0).await?)
    }

    /// A provider's earnings.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub async fn earnings(&self) -> Result<Vec<EarningShown>, DaemonError> {
        Ok(self
            .client
            .earnings()
            .await?
            .iter()
            .map(EarningShown::from)
            .collect())
    }

    /// Cashes a provider's promises.
    ///
    /// # Errors
    /// [`DaemonError::Refused`] also when there is nothing to cash.
    pub async fn settle(&self) -> Result<SettledShown, DaemonError> {
        let settled = self.client.settle(None).await?;
        let first = settled.first().map(SettledShown::from);
        first.ok_or_else(|| DaemonError::Refused("there is nothing to settle".into()))
    }
}
