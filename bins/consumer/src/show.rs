//! What a running daemon answers over its socket.

use wayfare_cli::{Failure, Kind, Output, Settings};
use wayfare_node::{DaemonError, LocalDaemon};

use crate::settings::socket;

fn daemon(settings: &Settings) -> Result<LocalDaemon, Failure> {
    Ok(LocalDaemon::at(&socket(settings)?))
}

fn absent(error: DaemonError) -> Failure {
    match error {
        DaemonError::Absent(cause) => Failure::new(
            Kind::Unreachable,
            format!("no session is running here: {cause}"),
        )
        .next("start one with `wayfare up`; if one runs, give its --set state_dir=…"),
        DaemonError::Refused(why) => {
            Failure::new(Kind::Refused, why).next("`wayfare status` tells how it stands")
        }
    }
}

/// `wayfare status`.
pub(crate) async fn status(settings: &Settings, output: Output) -> Result<(), Failure> {
    let status = daemon(settings)?.status().await.map_err(absent)?;
    output.show(&status, |status| {
        let outcome = status.path.as_ref().map(|path| match &*path.outcome {
            "" => path.kind,
            outcome => outcome,
        });
        match outcome {
            Some(outcome) => format!("{}\nthe way to the provider: {outcome}", status.summary),
            None => status.summary.clone(),
        }
    });
    Ok(())
}

/// `wayfare sessions`.
pub(crate) async fn sessions(settings: &Settings, output: Output) -> Result<(), Failure> {
    let sessions = daemon(settings)?.sessions().await.map_err(absent)?;
    output.show(&sessions, |sessions| {
        let line = |s: &wayfare_node::SessionShown| {
            format!(
                "{} with {}: {} up, {} down, {} paid",
                s.state, s.peer, s.up, s.down, s.paid
            )
        };
        sessions.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

/// `wayfare down`.
pub(crate) async fn down(settings: &Settings, output: Output) -> Result<(), Failure> {
    daemon(settings)?.down().await.map_err(absent)?;
    output.show(&serde_json::json!({"event": "stopping"}), |_| {
        "stopping after the last payment".into()
    });
    Ok(())
}
