//! The ioctls behind a TUN device. Each function is one request; no policy here.

#![allow(unsafe_code)] // ioctl has no safe form for these requests

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Makes the TUN device `name` (or one after the pattern `name%d`) speak through `file`, without
/// packet information, and with the given further flags. Returns the name the kernel gave.
pub(super) fn attach(file: &File, name: &str, further: libc::c_int) -> io::Result<String> {
    let mut request = named(name);
    request.ifr_ifru.ifru_flags = flags(libc::IFF_TUN | libc::IFF_NO_PI | further);
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives on our stack.
    unsafe { ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request)? };
    Ok(name_of(&request))
}

/// Registers `file` with the event loop of the current runtime.
pub(super) fn watch(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a File owns its descriptor and always returns the same one; AsyncFd owns the File
    // and this crate never replaces it through a mutable reference.
    let watched =
        unsafe { AsyncFd::register_with_interest(file, Interest::READABLE | Interest::WRITABLE) };
    watched.map_err(io::Error::from)
}

/// Name and flags of the device behind `file`.
pub(super) fn attached(file: &File) -> io::Result<(String, libc::c_int)> {
    let mut request = named("");
    // SAFETY: TUNGETIFF writes one ifreq, which lives on our stack.
    unsafe { ioctl(file.as_raw_fd(), libc::TUNGETIFF, &mut request)? };
    // SAFETY: TUNGETIFF has filled the flags of the union.
    let set = unsafe { request.ifr_ifru.ifru_flags };
    Ok((name_of(&request), libc::c_int::from(set.cast_unsigned())))
}

/// Sets the length of the vnet header before each packet of the device behind `file`.
pub(super) fn set_vnet_header(file: &File, length: libc::c_int) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one int, which lives on our stack for the call.
    let outcome =
        unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const length) };
    done(outcome)
}

/// Tells the kernel which work on packets (`TUN_F_*`) it may leave to the reader of `file`.
pub(super) fn set_offload(file: &File, work: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes a plain number and no pointer.
    let outcome = unsafe {
        libc::ioctl(
            file.as_raw_fd(),
            libc::TUNSETOFFLOAD,
            libc::c_ulong::from(work),
        )
    };
    done(outcome)
}

/// The MTU in bytes.
pub(super) fn mtu(name: &str) -> io::Result<libc::c_int> {
    let mut request = named(name);
    ask(libc::SIOCGIFMTU, &mut request)?;
    // SAFETY: SIOCGIFMTU has filled the MTU of the union.
    Ok(unsafe { request.ifr_ifru.ifru_mtu })
}

pub(super) fn set_mtu(name: &str, mtu: libc::c_int) -> io::Result<()> {
    let mut request = named(name);
    request.ifr_ifru.ifru_mtu = mtu;
    ask(libc::SIOCSIFMTU, &mut request)
}

/// The kernel's `ifr_qlen` is an int at the place libc calls `ifru_metric`.
pub(super) fn set_queue_length(name: &str, packets: libc::c_int) -> io::Result<()> {
    let mut request = named(name);
    request.ifr_ifru.ifru_metric = packets;
    ask(libc::SIOCSIFTXQLEN, &mut request)
}

/// Sets the interface up unless it is.
pub(super) fn bring_up(name: &str) -> io::Result<()> {
    let mut request = named(name);
    ask(libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has filled the flags of the union.
    let set = unsafe { request.ifr_ifru.ifru_flags };
    let up = flags(libc::IFF_UP);
    if set & up != 0 {
        return Ok(());
    }
    request.ifr_ifru.ifru_flags = set | up;
    ask(libc::SIOCSIFFLAGS, &mut request)
}

/// Interface requests go to any socket of the network namespace.
fn ask(code: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)
        .or_else(|_| Socket::new(Domain::IPV6, Type::DGRAM, None))?;
    // SAFETY: all the SIOC requests of this file read or write the one ifreq they are given.
    unsafe { ioctl(socket.as_raw_fd(), code, request) }
}

/// # Safety
/// `code` must be a request that reads or writes exactly one `ifreq`.
unsafe fn ioctl(fd: RawFd, code: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: the pointer is valid for the call, and the caller vouches for the request.
    done(unsafe { libc::ioctl(fd, code, std::ptr::from_mut(request)) })
}

fn done(outcome: libc::c_int) -> io::Result<()> {
    match outcome {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The caller has checked that `name` leaves room for the final zero byte.
fn named(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is plain old data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    request
}

fn name_of(request: &libc::ifreq) -> String {
    let bytes: Vec<u8> = request
        .ifr_name
        .iter()
        .take_while(|c| **c != 0)
        .map(|c| *c as u8)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Interface flags are 16 bits wide; those used here fit.
fn flags(set: libc::c_int) -> libc::c_short {
    set as libc::c_short
}
