//! Kernel settings under `/proc/sys`, read and written by path.
//!
//! Refuses to remember anything: what a setting was before is the journal's business. Keys are written with
//! slashes (`net/ipv4/ip_forward`), because interface names may contain dots.

use std::io::ErrorKind;
use std::path::Path;

use crate::HostError;

const ROOT: &str = "/proc/sys";

/// The value of a setting, trimmed; `None` when the kernel or the interface does not have it.
pub(crate) fn read(key: &str) -> Result<Option<String>, HostError> {
    match std::fs::read_to_string(Path::new(ROOT).join(key)) {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(HostError::Sysctl {
            key: key.to_owned(),
            source,
        }),
    }
}

/// Writes a setting.
pub(crate) fn write(key: &str, value: &str) -> Result<(), HostError> {
    std::fs::write(Path::new(ROOT).join(key), value).map_err(|source| match source.kind() {
        ErrorKind::PermissionDenied => HostError::MissingPrivilege {
            action: format!("writing the kernel setting {key}"),
        },
        _ => HostError::Sysctl {
            key: key.to_owned(),
            source,
        },
    })
}

/// All interfaces (and `all`, `default`) that have settings in `net/<family>/conf`, in name order.
pub(crate) fn interfaces(family: &str) -> Result<Vec<String>, HostError> {
    let key = format!("net/{family}/conf");
    let entries = match std::fs::read_dir(Path::new(ROOT).join(&key)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(HostError::Sysctl { key, source }),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// Whether the kernel has IPv6 at all (`ipv6.disable=1` takes the whole tree away).
pub(crate) fn has_ipv6() -> bool {
    Path::new(ROOT).join("net/ipv6/conf").exists()
}
