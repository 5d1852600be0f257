//! What a doctor found, told alike by every binary.
//!
//! Refuses to look at anything itself.

use serde::Serialize;

use crate::{Failure, Kind, Output};

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What it is.
    pub what: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was seen, and what to do about it.
    pub said: String,
}

/// Shows all findings.
///
/// # Errors
/// Something is not as it should be.
pub fn tell_findings(findings: &[Finding], output: Output) -> Result<(), Failure> {
    output.show(&findings, |all| {
        let line = |f: &Finding| {
            format!(
                "{} {:<24} {}",
                if f.ok { "ok  " } else { "FAIL" },
                f.what,
                f.said
            )
        };
        all.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    let broken = findings.iter().filter(|finding| !finding.ok).count();
    if broken == 0 {
        return Ok(());
    }
    let cause = format!("{broken} of {} checks failed", findings.len());
    Err(Failure::new(Kind::Other, cause).next("mend what is marked FAIL, from the top"))
}
