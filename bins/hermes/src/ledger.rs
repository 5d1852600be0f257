//! The ledger of a Hermes that is stopped: audit, backup, restore.

use std::path::Path;

use serde_json::json;
use wayfare_cli::{Failure, Kind, Next, Output, Settings};
use wayfare_hermes::{Audit, Depth, Site, restore_backup};

use crate::run::is_running;
use crate::settings::{config, failure, operator, site, socket};

/// `wayfare-hermes check`.
pub(crate) async fn check(quick: bool, settings: &Settings, output: Output) -> Result<(), Failure> {
    if is_running(&socket(settings)?).await {
        return Err(
            Failure::new(Kind::Busy, "the Hermes is running and holds its ledger")
                .next("stop it first, or check a backup"),
        );
    }
    let audit = Audit {
        issuer: config(settings)?.issuer,
        operator: operator(settings)?.address(),
        depth: if quick {
            Depth::Sums
        } else {
            Depth::Signatures
        },
    };
    let ledger = existing(settings)?.ledger().map_err(failure)?;
    let report = wayfare_hermes::check(&ledger, audit)
        .await
        .or_fail(Kind::Storage, "restore the newest backup")?;
    let findings: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    let shown = json!({
        "consumers": report.consumers, "providers": report.providers, "agreements": report.agreements,
        "receipts": report.receipts, "promised": report.promised, "findings": findings,
    });
    output.show(&shown, |_| {
        let sums = format!("{} receipts, {} promised", report.receipts, report.promised);
        if findings.is_empty() {
            format!("{sums}: every invariant holds")
        } else {
            format!("{sums}\n{}", findings.join("\n"))
        }
    });
    if findings.is_empty() {
        return Ok(());
    }
    Err(
        Failure::new(Kind::Storage, format!("{} findings", findings.len()))
            .next("do not start it on this ledger; compare with the newest backup"),
    )
}

/// `wayfare-hermes backup`.
pub(crate) fn backup(to: &Path, settings: &Settings, output: Output) -> Result<(), Failure> {
    if to.exists() {
        return Err(
            Failure::new(Kind::Busy, format!("{} is already there", to.display()))
                .next("choose a directory that does not exist yet; nothing was written"),
        );
    }
    let ledger = existing(settings)?.ledger().map_err(failure)?;
    ledger.backup(to).or_fail(
        Kind::Storage,
        "check that its parent directory exists and may be written",
    )?;
    output.show(&json!({"backup": to}), |_| {
        format!("copied to {}", to.display())
    });
    Ok(())
}

/// `wayfare-hermes restore`.
pub(crate) fn restore(from: &Path, settings: &Settings, output: Output) -> Result<(), Failure> {
    let to = site(settings)?.ledger;
    if to.exists() {
        return Err(Failure::new(
            Kind::Busy,
            format!("a ledger is already in {}", to.display()),
        )
        .next(
            "move it away first; never run a Hermes on an old copy while a newer ledger exists",
        ));
    }
    restore_backup(from, &to).map_err(failure)?;
    output.show(&json!({"restored": to}), |_| {
        format!("restored to {}", to.display())
    });
    Ok(())
}

/// The site, if a ledger is there: opening one that is not would make an empty one, which proves nothing.
fn existing(settings: &Settings) -> Result<Site, Failure> {
    let site = site(settings)?;
    if site.ledger.exists() {
        return Ok(site);
    }
    Err(Failure::new(
        Kind::Storage,
        format!("there is no ledger in {}", site.ledger.display()),
    )
    .next("give the --set state_dir=… of a Hermes that has run"))
}
