//! What the kernel knows of the socket's receive queue, asked for by a call with no safe form.
//!
//! It refuses to be asked per packet: it is a system call of its own.

#![allow(unsafe_code)] // getsockopt(SO_MEMINFO)

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Figures of `linux/sock_diag.h`: nine of them, `SK_MEMINFO_VARS`.
const FIGURES: usize = 9;
/// `SK_MEMINFO_RMEM_ALLOC`.
const CHARGED: usize = 0;
/// `SK_MEMINFO_DROPS`.
const DROPPED: usize = 8;

/// The kernel's side of receiving.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReceiveQueue {
    /// Memory charged for unread datagrams, bytes.
    pub(super) charged: u64,
    /// Datagrams dropped since the socket was opened, modulo 2^32.
    pub(super) dropped: u64,
}

/// # Errors
/// The kernel is older than 4.12.
pub(super) fn receive_queue(socket: BorrowedFd<'_>) -> io::Result<ReceiveQueue> {
    let mut figures = [0u32; FIGURES];
    let mut length = size_of_val(&figures) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `figures`, and the length it
    // wrote; both live on our stack for the call, and any bytes are valid u32s.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            figures.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ReceiveQueue {
        charged: u64::from(figures[CHARGED]),
        dropped: u64::from(figures[DROPPED]),
    })
}
