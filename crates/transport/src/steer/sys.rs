//! The calls of steering that have no safe form: loading an eBPF program and giving it to a
//! device. Each function is one request; no policy here.

#![allow(unsafe_code)] // bpf(2) and ioctl

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::program::Instruction;

/// Numbers of `linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;

/// The fields of `union bpf_attr` for loading a program, up to the last one we set. The kernel
/// takes the missing ones for zero.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// Loads a socket filter: a program that sees a packet and answers with a number.
///
/// # Errors
/// `EPERM` without the privilege; `EINVAL` or `EACCES` if the kernel does not like the program.
pub(super) fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    // It calls no function of the kernel, so the kernel does not ask for a particular licence.
    let license = c"MIT";
    let request = Load {
        kind: BPF_PROG_TYPE_SOCKET_FILTER,
        instructions: program.len() as u32,
        program: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // SAFETY: the kernel reads `size_of::<Load>()` bytes of `request`, the `instructions` of 8
    // bytes each that `program` points to, and a string that ends with zero; all three live until
    // the call returns, and nothing is written.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const request,
            size_of::<Load>(),
        )
    };
    let fd = RawFd::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets `program` choose the queue for each packet that leaves through the TUN device behind
/// `device`. The device keeps the program alive.
pub(super) fn steer(device: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let program: libc::c_int = program.as_raw_fd();
    // SAFETY: TUNSETSTEERINGEBPF reads one int, which lives on our stack for the call.
    let outcome = unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            libc::TUNSETSTEERINGEBPF,
            &raw const program,
        )
    };
    match outcome {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
