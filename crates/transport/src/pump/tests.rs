//! The pump between a real socket and a device in memory, through a plane that seals by adding one to every byte.

#![allow(clippy::unwrap_used)]

mod crowd;

use std::time::Duration;

use super::*;
use crate::Clock;
use crate::socket::SocketOptions;
use crate::tun::{ChannelTun, TunExt};

const FRAMING: Framing = Framing {
    head: 4,
    tail: 4,
    multiple: 4,
    mtu: 1_400,
};
/// What the shared socket takes for a tunnel message.
const HEAD: [u8; 4] = [4, 0, 0, 0];

/// Sends everything to one address; drops packets whose first byte is 0xff.
#[derive(Debug)]
struct Shift {
    to: SocketAddr,
}

impl Plane for Shift {
    fn seal(&mut self, frame: Frame<'_>, _now: Instant) -> Option<SocketAddr> {
        let (head, rest) = frame.bytes.split_at_mut(FRAMING.head);
        if rest[0] == 0xff {
            return None;
        }
        head.copy_from_slice(&HEAD);
        let tail = rest.len() - FRAMING.tail;
        rest[tail..].copy_from_slice(&u32::try_from(frame.packet).unwrap().to_be_bytes());
        Some(self.to)
    }

    fn open<'a>(
        &mut self,
        _from: SocketAddr,
        datagram: &'a mut [u8],
        _now: Instant,
    ) -> Option<&'a [u8]> {
        let (rest, tail) = datagram.split_last_chunk::<4>()?;
        let packet = u32::from_be_bytes(*tail) as usize;
        rest.get(FRAMING.head..FRAMING.head + packet)
    }
}

fn end() -> (SharedSocket, TunnelReceiver) {
    SharedSocket::bind(([127, 0, 0, 1], 0).into(), SocketOptions::default()).unwrap()
}

/// A pump that runs until its device's other end is dropped.
fn run(
    pump: (SharedSocket, TunnelReceiver),
    tun: ChannelTun,
    to: SocketAddr,
) -> tokio::task::JoinHandle<PumpStats> {
    let mut pump = Pump::new(pump.0, pump.1, Arc::new(tun), FRAMING);
    tokio::spawn(async move {
        let mut plane = Shift { to };
        while pump.ready().await.is_ok() {
            pump.work(&mut plane, Clock::now());
        }
        pump.stats()
    })
}

#[tokio::test]
async fn packets_of_every_size_cross_in_order_and_dropped_ones_leave_no_gap_in_the_rest() {
    let (left, right) = (end(), end());
    let (to_right, to_left) = (right.0.local_addr(), left.0.local_addr());
    let (near, near_device) = ChannelTun::pair(512, 1_400);
    let (far, far_device) = ChannelTun::pair(512, 1_400);
    let pumps = [
        run(left, near_device, to_right),
        run(right, far_device, to_left),
    ];
    // Sizes run as a super-packet's would: equal ones, then a shorter one, then others.
    let sizes = [1_400, 1_400, 1_400, 900, 40, 40, 1_400, 33, 1_399];
    let count = 2_000;
    let packet = move |number: usize| {
        let mut packet = vec![(number % 251) as u8; sizes[number % sizes.len()]];
        packet[1..5].copy_from_slice(&u32::try_from(number).unwrap().to_be_bytes());
        // Every seventh is not for sale.
        packet[0] = if number.is_multiple_of(7) { 0xff } else { 0x45 };
        packet
    };
    let sender = tokio::spawn(async move {
        for number in 0..count {
            near.send(&packet(number)).await.unwrap();
            if number % 64 == 63 {
                // No more than fits into the receiver's buffers, so that nothing may be lost.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        near
    });
    let mut buffer = [0; 1_400];
    for number in (0..count).filter(|number| number % 7 != 0) {
        let received = tokio::time::timeout(Duration::from_secs(10), far.recv(&mut buffer));
        let length = received.await.unwrap().unwrap();
        assert_eq!(buffer[..length], packet(number)[..], "{number}");
    }
    // And back.
    far.send(&packet(1)).await.unwrap();
    let near = sender.await.unwrap();
    let length = near.recv(&mut buffer).await.unwrap();
    assert_eq!(buffer[..length], packet(1)[..]);
    drop((near, far));
    for pump in pumps {
        assert_eq!(pump.await.unwrap(), PumpStats::default());
    }
}

#[tokio::test]
async fn what_nobody_can_receive_is_counted_and_the_rest_goes_on() {
    let (left, right) = (end(), end());
    let port = left.0.local_addr().port();
    let (near, near_device) = ChannelTun::pair(8, 1_400);
    // Port 0 is nobody's.
    let pump = run(left, near_device, ([127, 0, 0, 1], 0).into());
    for _ in 0..3 {
        near.send(&[0x45; 40]).await.unwrap();
    }
    let mut inbound = HEAD.to_vec();
    inbound.extend([7; 40]);
    inbound.extend(40u32.to_be_bytes());
    right
        .0
        .send(([127, 0, 0, 1], port).into(), &inbound)
        .await
        .unwrap();
    let mut buffer = [0; 1_400];
    let length = near.recv(&mut buffer).await.unwrap();
    assert_eq!(buffer[..length], [7; 40]);
    drop(near);
    assert_eq!(pump.await.unwrap().socket_refused, 3);
}

/// Keeps every packet back, both ways, until it is asked again.
#[derive(Debug)]
struct Detour {
    straight: Shift,
    out: std::collections::VecDeque<Vec<u8>>,
    inward: std::collections::VecDeque<Vec<u8>>,
}

impl Plane for Detour {
    fn seal(&mut self, frame: Frame<'_>, _now: Instant) -> Option<SocketAddr> {
        let packet = &frame.bytes[FRAMING.head..][..frame.packet];
        self.out.push_back(packet.to_vec());
        None
    }

    fn open<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Option<&'a [u8]> {
        let packet = self.straight.open(from, datagram, now)?;
        self.inward.push_back(packet.to_vec());
        None
    }

    fn release_outbound(&mut self, into: &mut [u8], _now: Instant) -> Option<Released> {
        let packet = self.out.pop_front()?;
        into[..packet.len()].copy_from_slice(&packet);
        Some(Released {
            len: packet.len(),
            mark: u32::from(packet[0]),
        })
    }

    fn seal_released(&mut self, frame: Frame<'_>, mark: u32, now: Instant) -> Option<SocketAddr> {
        assert_eq!(mark, u32::from(frame.bytes[FRAMING.head]));
        self.straight.seal(frame, now)
    }

    fn release_inbound(&mut self, into: &mut [u8], _now: Instant) -> Option<usize> {
        let packet = self.inward.pop_front()?;
        into[..packet.len()].copy_from_slice(&packet);
        Some(packet.len())
    }
}

#[tokio::test]
async fn packets_that_wait_in_the_plane_leave_later_in_order() {
    let (left, right) = (end(), end());
    let to = right.0.local_addr();
    let (near, near_device) = ChannelTun::pair(64, 1_400);
    let mut pump = Pump::new(left.0, left.1, Arc::new(near_device), FRAMING);
    let mut plane = Detour {
        straight: Shift { to },
        out: Default::default(),
        inward: Default::default(),
    };
    let pump = tokio::spawn(async move {
        while pump.ready().await.is_ok() {
            pump.work(&mut plane, Clock::now());
        }
    });
    let (far, far_device) = ChannelTun::pair(64, 1_400);
    let other = run(right, far_device, to);
    let mut buffer = [0; 1_400];
    for number in 0..50u8 {
        near.send(&[number; 100]).await.unwrap();
    }
    for number in 0..50u8 {
        let length = far.recv(&mut buffer).await.unwrap();
        assert_eq!(buffer[..length], [number; 100]);
    }
    drop((near, far));
    pump.await.unwrap();
    other.await.unwrap();
}
