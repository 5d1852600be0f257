//! The ledger of a Hermes that is stopped: audit, backup, restore.

use std::path::Path;

use serde_json::json;
use wayfare_cli::{Failure, Kind, Next, Output, Settings};
use wayfare_hermes::{Audit, Depth, restore_backup};

use crate::run::is_running;
use crate::settings::{config, failure, operator, site, socket};

/// `wayfare-hermes check`.
pub(crate) async fn check(quick: bool, settings: &Settings, output: Output) -> Result<(), Failure> {
    if is_running(&socket(settings)?).await {
        return Err(Failure::new(Kind::Busy, "the Hermes is running and holds its ledger")
            .next("stop it first, or check a backup"));
    }
    let audit = Audit {
        issuer: config(settings)?.issuer,
        operator: operator(settings)?.address(),
        depth: if quick { Depth::Sums } else { Depth::Signatures },
    };
    let ledger = site(settings)?.ledger().map_err(failure)?;
    let report =
        wayfare_hermes::check(&ledger, audit).await.or_fail(Kind::Storage, "restore the newest backup")?;
    let findings: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    let shown = json!({
        "consumers": report.consumers, "providers": report.providers, "agreements": report.agreements,
        "receipts": report.receipts, "promised": report.promised, "findings": findings,
    });
    output.show(&shown, |_| {
        let sums = format!("{} receipts, {} promised", report.receipts, report.promised);
        if findings.is_empty() { format!("{sums}: every invariant holds") } else { format!("{sums}\n{}", findings.join("\n")) }
    });
    if findings.is_empty() { Ok(()) } else { Err(Failure::new(Kind::Storage, format!("{} findings", findings.len()))) }
}

/// `wayfare-hermes backup`.
pub(crate) fn backup(to: &Path, settings: &Settings, output: Output) -> Result<(), Failure> {
    let ledger = site(settings)?.ledger().map_err(failure)?;
    ledger.backup(to).or_fail(Kind::Storage, "choose a directory that does not exist yet")?;
    output.show(&json!({"backup": to}), |_| format!("copied to {}", to.display()));
    Ok(())
}

/// `wayfare-hermes restore`.
pub(crate) fn restore(from: &Path, settings: &Settings, output: Output) -> Result<(), Failure> {
    let to = site(settings)?.ledger;
    restore_backup(from, &to).map_err(failure)?;
    output.show(&json!({"restored": to}), |_| format!("restored to {}", to.display()));
    Ok(())
}
