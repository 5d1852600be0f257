//! The calls of the socket that have no safe form: what waits in its receive queue, the sending of
//! several messages at once, and of one that passes a few hops only.
//!
//! It refuses to judge what it is given: addresses and lengths have been checked.

#![allow(unsafe_code)] // getsockopt(SO_MEMINFO), sendmmsg and sendmsg

use std::array;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use socket2::SockAddr;

use super::outgoing::{AT_ONCE, Piece};

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

/// A system call of its own: not for every packet.
///
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

/// The one control message there is: into datagrams of which length to cut.
#[repr(C)]
#[derive(Clone, Copy)]
struct Segmentation {
    // The kernel looks for the value right behind the header, whose size is a multiple of its
    // alignment.
    header: libc::cmsghdr,
    length: u16,
}

const LENGTH: u32 = size_of::<u16>() as u32;

/// One `sendmmsg`, of at most [`AT_ONCE`] pieces. Says how many the kernel took, at least one if
/// there is one.
///
/// # Errors
/// What the kernel says of the first piece; `WouldBlock` if its buffer is full.
pub(super) fn send_many(socket: BorrowedFd<'_>, pieces: &[Piece<'_>]) -> io::Result<usize> {
    let pieces = &pieces[..pieces.len().min(AT_ONCE)];
    let names: [SockAddr; AT_ONCE] =
        array::from_fn(|index| pieces.get(index).map_or(Piece::NONE.to, |p| p.to).into());
    // SAFETY: integers, pointers and arrays of them, for which zero is a value.
    let (mut parts, mut controls, mut headers): (
        [libc::iovec; AT_ONCE],
        [Segmentation; AT_ONCE],
        [libc::mmsghdr; AT_ONCE],
    ) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
    for (index, piece) in pieces.iter().enumerate() {
        parts[index] = libc::iovec {
            iov_base: piece.bytes.as_ptr().cast_mut().cast(),
            iov_len: piece.bytes.len(),
        };
        let message = &mut headers[index].msg_hdr;
        message.msg_name = names[index].as_ptr().cast_mut().cast();
        message.msg_namelen = names[index].len();
        message.msg_iov = &raw mut parts[index];
        message.msg_iovlen = 1;
        if piece.bytes.len() > piece.segment {
            let control = &mut controls[index];
            control.header.cmsg_level = libc::SOL_UDP;
            control.header.cmsg_type = libc::UDP_SEGMENT;
            // SAFETY: arithmetic on a number.
            control.header.cmsg_len = unsafe { libc::CMSG_LEN(LENGTH) } as _;
            control.length = piece.segment as u16;
            message.msg_control = ptr::from_mut(control).cast();
            message.msg_controllen = size_of::<Segmentation>() as _;
        }
    }
    loop {
        // SAFETY: the first `pieces.len()` headers are filled in above. What they point to, names,
        // parts, controls and the bytes of the pieces, is initialised, as long as they say, lives
        // until the call returns and is only read; of the headers the kernel writes `msg_len`.
        let count = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                pieces.len() as libc::c_uint,
                0,
            )
        };
        if let Ok(count) = usize::try_from(count) {
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// How many hops one datagram may pass.
#[repr(C)]
#[derive(Clone, Copy)]
struct Hops {
    // As above.
    header: libc::cmsghdr,
    count: libc::c_int,
}

/// Sends one datagram whose time to live is `ttl`, 1 to 255, whatever the socket's is. `to` as the
/// socket's family writes it; an IPv4 address in IPv6 spelling takes the IPv4 option (ip(7)).
///
/// # Errors
/// What the kernel says; `WouldBlock` if its buffer is full.
pub(super) fn send_ttl(
    socket: BorrowedFd<'_>,
    to: SocketAddr,
    datagram: &[u8],
    ttl: u8,
) -> io::Result<()> {
    let (level, option) = if super::canonical(to).is_ipv4() {
        (libc::IPPROTO_IP, libc::IP_TTL)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)
    };
    let name = SockAddr::from(to);
    let mut part = libc::iovec {
        iov_base: datagram.as_ptr().cast_mut().cast(),
        iov_len: datagram.len(),
    };
    // SAFETY: integers and pointers, for which zero is a value.
    let (mut control, mut message): (Hops, libc::msghdr) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    control.header.cmsg_level = level;
    control.header.cmsg_type = option;
    // SAFETY: arithmetic on a number.
    control.header.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<libc::c_int>() as u32) } as _;
    control.count = libc::c_int::from(ttl);
    message.msg_name = name.as_ptr().cast_mut().cast();
    message.msg_namelen = name.len();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Hops>() as _;
    loop {
        // SAFETY: what the message points to, name, part, control and datagram, is initialised, as
        // long as it says, lives until the call returns and is only read.
        let outcome = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
        if outcome >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
