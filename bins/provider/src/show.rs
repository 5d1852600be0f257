//! What a running provider answers over its socket.

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
            format!("no provider is running here: {cause}"),
        )
        .next("start one with `wayfare-provider run`; if one runs, give its --set state_dir=…"),
        DaemonError::Refused(why) => {
            Failure::new(Kind::Refused, why).next("`wayfare-provider earnings` tells what there is")
        }
    }
}

/// `status`.
pub(crate) async fn status(settings: &Settings, output: Output) -> Result<(), Failure> {
    let status = daemon(settings)?.status().await.map_err(absent)?;
    output.show(&status, |status| status.summary.clone());
    Ok(())
}

/// `sessions`.
pub(crate) async fn sessions(settings: &Settings, output: Output) -> Result<(), Failure> {
    let sessions = daemon(settings)?.sessions().await.map_err(absent)?;
    output.show(&sessions, |sessions| {
        let line = |s: &wayfare_node::SessionShown| {
            format!(
                "{} with {}: {} up, {} down, {} paid",
                s.state, s.peer, s.up, s.down, s.paid
            )
        };
        match sessions.as_slice() {
            [] => "no session".into(),
            all => all.iter().map(line).collect::<Vec<_>>().join("\n"),
        }
    });
    Ok(())
}

/// `earnings`.
pub(crate) async fn earnings(settings: &Settings, output: Output) -> Result<(), Failure> {
    let earned = daemon(settings)?.earnings().await.map_err(absent)?;
    output.show(&earned, |all| {
        let line = |e: &wayfare_node::EarningShown| {
            format!(
                "through {}: {} promised, {} settled, {} to settle",
                e.hermes, e.promised, e.settled, e.unsettled
            )
        };
        all.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

/// `settle`.
pub(crate) async fn settle(settings: &Settings, output: Output) -> Result<(), Failure> {
    let settled = daemon(settings)?.settle().await.map_err(absent)?;
    output.show(&settled, |s| match &s.transaction {
        Some(transaction) => format!(
            "settled up to {} with {transaction} for {} gas",
            s.total, s.gas
        ),
        None => format!("was already settled up to {}", s.total),
    });
    Ok(())
}

/// `drain`.
pub(crate) async fn drain(settings: &Settings, output: Output) -> Result<(), Failure> {
    let sessions = daemon(settings)?.drain().await.map_err(absent)?;
    output.show(&serde_json::json!({"draining": sessions}), |_| {
        format!("{sessions} sessions are closing")
    });
    Ok(())
}
