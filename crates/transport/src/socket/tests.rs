//! A kernel that refuses to segment, brought about on a real socket.

#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)] // SO_NO_CHECK has no safe form

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use super::*;

#[tokio::test]
async fn a_kernel_that_refuses_to_segment_gets_single_datagrams() {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (sender, _unused) = SharedSocket::bind(any, SocketOptions::default()).unwrap();
    let (receiver, mut tunnel) = SharedSocket::bind(any, SocketOptions::default()).unwrap();
    // Linux answers EINVAL to UDP_SEGMENT on a socket that sends no checksums.
    let on: libc::c_int = 1;
    // SAFETY: the option reads one int, which lives on our stack for the call.
    let outcome = unsafe {
        libc::setsockopt(
            sender.inner.io.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            std::ptr::from_ref(&on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(outcome, 0);
    let mut buffer = vec![7; 20 * 1000 + 10];
    buffer
        .chunks_mut(1000)
        .for_each(|message| message[..4].copy_from_slice(&[4, 0, 0, 0]));
    let mut batch = Batch::new();
    for refused in [1, 1] {
        sender
            .send_segments(receiver.local_addr(), &buffer, 1000)
            .await
            .unwrap();
        let mut sizes = Vec::new();
        while sizes.len() < 21 {
            tunnel.recv(&mut batch).await.unwrap();
            sizes.extend(batch.iter().map(|(_, datagram)| datagram.len()));
        }
        assert_eq!(sizes[..20], [1000; 20]);
        assert_eq!(sizes[20], 10);
        // Refused once, then remembered.
        assert_eq!(sender.stats().segmentation_refused, refused);
    }
}
