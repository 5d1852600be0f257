//! One request to the kernel over rtnetlink: how large a super-packet of an interface may get.
//!
//! It refuses to know any other request; addresses and routes are `host`'s.

use std::io::{self, Read};

use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

/// Attributes of `linux/if_link.h`.
const IFLA_GSO_MAX_SEGS: u16 = 40;
const IFLA_GSO_MAX_SIZE: u16 = 41;
const IFLA_GSO_IPV4_MAX_SIZE: u16 = 63;

/// `struct nlmsghdr`, `struct ifinfomsg`, and three attributes of four bytes.
const LENGTH: usize = 16 + 16 + 3 * 8;
/// An answer: `struct nlmsghdr`, the error, and the request once more.
const ANSWER: usize = 16 + 4 + LENGTH;

/// Sets what the kernel puts together for the interface `name` at most: `segments` packets of `bytes` bytes in all.
pub(super) fn limit_super_packets(name: &str, segments: u32, bytes: u32) -> io::Result<()> {
    let index = if_nametoindex(name)?;
    let socket = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW,
        Some(Protocol::from(libc::NETLINK_ROUTE)),
    )?;
    socket.send(&request(index, segments, bytes))?;
    // The kernel has answered before `send` returns.
    socket.set_nonblocking(true)?;
    let mut answer = [0; ANSWER];
    let length = (&socket).read(&mut answer)?;
    outcome(&answer[..length])
}

fn request(index: u32, segments: u32, bytes: u32) -> [u8; LENGTH] {
    let mut message = [0; LENGTH];
    let mut at = 0;
    let mut put = |field: &[u8]| {
        message[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    };
    put(&(LENGTH as u32).to_ne_bytes());
    put(&libc::RTM_NEWLINK.to_ne_bytes());
    put(&((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    put(&1u32.to_ne_bytes()); // sequence
    put(&0u32.to_ne_bytes()); // to and from the kernel
    put(&[0; 4]); // any family, any type
    put(&index.to_ne_bytes());
    put(&[0; 8]); // flags, none of which change
    for (attribute, value) in [
        (IFLA_GSO_MAX_SEGS, segments),
        (IFLA_GSO_MAX_SIZE, bytes),
        (IFLA_GSO_IPV4_MAX_SIZE, bytes),
    ] {
        put(&8u16.to_ne_bytes());
        put(&attribute.to_ne_bytes());
        put(&value.to_ne_bytes());
    }
    message
}

fn outcome(answer: &[u8]) -> io::Result<()> {
    let strange = || io::Error::other("an answer that is not one");
    let kind = answer.get(4..).and_then(<[u8]>::first_chunk);
    if kind.is_none_or(|kind| u16::from_ne_bytes(*kind) != libc::NLMSG_ERROR as u16) {
        return Err(strange());
    }
    let code = answer.get(16..).and_then(<[u8]>::first_chunk);
    match i32::from_ne_bytes(*code.ok_or_else(strange)?) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}
