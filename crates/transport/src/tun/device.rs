//! The Linux TUN device: `/dev/net/tun`, one bare IP packet per read and write.
//!
//! It sets the MTU, the queue length and the link up, which belong to the device; it refuses to
//! set addresses and routes. The device disappears with its last descriptor, also after a crash.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tokio::io::unix::AsyncFd;

use super::error::TunError;
use super::{Tun, sys};

const DOOR: &str = "/dev/net/tun";
/// Misc device 10, minor 200 (Linux `Documentation/admin-guide/devices.txt`).
const DOOR_NUMBER: (u64, u64) = (10, 200);
/// Packets the kernel holds for us: 25 ms at 1 Gb/s of 1,420-byte packets. Its own default, 500,
/// overflows during one scheduling delay.
const QUEUE_PACKETS: libc::c_int = 2048;
/// Every IPv4 host accepts 576 bytes (RFC 791); an IP packet has at most 65,535.
const MTU_RANGE: std::ops::RangeInclusive<usize> = 576..=65_535;

/// A TUN device of the kernel.
#[derive(Debug)]
pub struct TunDevice {
    file: AsyncFd<File>,
    name: String,
    mtu: usize,
}

impl TunDevice {
    /// Creates the device `name`, or one after a pattern such as `wayfare%d`, in the network
    /// namespace of the calling thread, with `mtu` bytes, and sets it up.
    ///
    /// A persistent TUN device of that name that nobody uses is taken over.
    ///
    /// # Errors
    /// [`TunError`] names the missing privilege, driver or free name and what to do about it.
    pub fn create(name: &str, mtu: usize) -> Result<Self, TunError> {
        check_name(name)?;
        let wanted = checked_mtu(mtu)?;
        let file = open_door()?;
        let name =
            sys::attach(&file, name).map_err(|source| TunError::os("create", name, source))?;
        let os = |step| {
            let name = &name;
            move |source| TunError::os(step, name, source)
        };
        if sys::mtu(&name).map_err(os("read the MTU of"))? != wanted {
            sys::set_mtu(&name, wanted).map_err(os("set the MTU of"))?;
        }
        if let Err(e) = sys::set_queue_length(&name, QUEUE_PACKETS) {
            // Costs throughput under bursts, nothing else.
            tracing::debug!(error = %e, "TUN queue length left at the kernel's default");
        }
        sys::bring_up(&name).map_err(os("set up"))?;
        Self::adopt(file, name, mtu)
    }

    /// Takes over a TUN device that somebody else opened (a VPN service of the operating system,
    /// a privileged parent). It must have no packet information and no offload headers.
    ///
    /// # Errors
    /// [`TunError::NotATun`] for any other descriptor.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, TunError> {
        let file = File::from(fd);
        let not = |why: String| TunError::NotATun { why };
        let (name, flags) = sys::attached(&file).map_err(|e| not(e.to_string()))?;
        if flags & libc::IFF_TUN == 0 {
            return Err(not(format!("{name:?} is an Ethernet (TAP) device")));
        }
        if flags & libc::IFF_NO_PI == 0 || flags & libc::IFF_VNET_HDR != 0 {
            return Err(not(format!("{name:?} puts headers before its packets")));
        }
        let mtu =
            sys::mtu(&name).map_err(|source| TunError::os("read the MTU of", &name, source))?;
        let mtu = usize::try_from(mtu).map_err(|_| not(format!("{name:?} has MTU {mtu}")))?;
        set_nonblocking(&file).map_err(|source| TunError::os("configure", &name, source))?;
        Self::adopt(file, name, mtu)
    }

    /// Gives the descriptor away, for example to an unprivileged child; the device lives on in it.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.file.into_inner().into()
    }

    fn adopt(file: File, name: String, mtu: usize) -> Result<Self, TunError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(TunError::NoRuntime);
        }
        match sys::watch(file) {
            Ok(file) => Ok(Self { file, name, mtu }),
            Err(source) => Err(TunError::os("watch", &name, source)),
        }
    }
}

impl Tun for TunDevice {
    fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if buffer.len() < self.mtu {
            // The kernel would silently cut the packet.
            let why = "the buffer is smaller than the device's MTU";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        loop {
            let mut ready = ready!(self.file.poll_read_ready(cx))?;
            if let Ok(done) = ready.try_io(|file| file.get_ref().read(buffer)) {
                return Poll::Ready(done);
            }
        }
    }

    fn poll_send(&self, cx: &mut Context<'_>, packet: &[u8]) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.file.poll_write_ready(cx))?;
            // The kernel takes a packet whole or not at all.
            if let Ok(done) = ready.try_io(|file| file.get_ref().write(packet)) {
                return Poll::Ready(done.map(drop));
            }
        }
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// Opens the driver, making its device node first where only that is missing (minimal images).
fn open_door() -> Result<File, TunError> {
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

fn set_nonblocking(file: &File) -> io::Result<()> {
    let set = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    fcntl(file, FcntlArg::F_SETFL(set | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The kernel's rule (`dev_valid_name`) plus its pattern rule: one `%d` and no other `%`.
fn check_name(name: &str) -> Result<(), TunError> {
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

fn checked_mtu(mtu: usize) -> Result<libc::c_int, TunError> {
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
