//! The driver's door, `/dev/net/tun`, and what may be asked at it.
//!
//! It opens and checks; it makes no device.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::error::TunError;

const DOOR: &str = "/dev/net/tun";
/// Misc device 10, minor 200 (Linux `Documentation/admin-guide/devices.txt`).
const DOOR_NUMBER: (u64, u64) = (10, 200);
/// Every IPv4 host accepts 576 bytes (RFC 791); an IP packet has at most 65,535.
const MTU_RANGE: std::ops::RangeInclusive<usize> = 576..=65_535;

/// Opens the driver, making its device node first where only that is missing (minimal images).
pub(super) fn open_door() -> Result<File, TunError> {
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(DOOR)
    };
    let outcome = open().or_else(|missing| {
        if missing.kind() != io::ErrorKind::NotFound || make_node(Path::new(DOOR)).is_err() {
            return Err(missing);
        }
        open()
    });
    outcome.map_err(|source| match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => TunError::os("open", DOOR, source),
        _ => TunError::NoDriver { source },
    })
}

fn make_node(at: &Path) -> io::Result<()> {
    if let Some(folder) = at.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let (major, minor) = DOOR_NUMBER;
    let everybody = Mode::from_bits_truncate(0o666);
    Ok(mknod(at, SFlag::S_IFCHR, everybody, makedev(major, minor))?)
}

pub(super) fn set_nonblocking(file: &File) -> io::Result<()> {
    let set = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    fcntl(file, FcntlArg::F_SETFL(set | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The kernel's rule (`dev_valid_name`) plus its pattern rule: one `%d` and no other `%`.
pub(super) fn check_name(name: &str) -> Result<(), TunError> {
    let pattern_free = name.replacen("%d", "", 1);
    let fits = (1..libc::IFNAMSIZ).contains(&name.len()) && name != "." && name != "..";
    let printable = pattern_free
        .chars()
        .all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%'));
    if fits && printable {
        Ok(())
    } else {
        Err(TunError::BadName {
            name: name.to_owned(),
        })
    }
}

pub(super) fn checked_mtu(mtu: usize) -> Result<libc::c_int, TunError> {
    let wanted = libc::c_int::try_from(mtu)
        .ok()
        .filter(|_| MTU_RANGE.contains(&mtu));
    wanted.ok_or(TunError::BadMtu { mtu })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_the_kernel_would_refuse_are_refused_first() {
        for good in ["wf0", "wf%d", "a", "fifteen-letters"] {
            check_name(good).unwrap();
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "a:b",
            "%d%d",
            "%s",
            "sixteen-letters!",
            "ä\0",
        ] {
            assert!(
                matches!(check_name(bad), Err(TunError::BadName { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_missing_device_node_is_made_with_folder_and_number() {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let folder = tempfile::tempdir().unwrap();
        let node = folder.path().join("net/tun");
        make_node(&node).unwrap();
        let made = std::fs::metadata(&node).unwrap();
        assert!(made.file_type().is_char_device());
        assert_eq!(made.rdev(), makedev(10, 200));
    }
}
