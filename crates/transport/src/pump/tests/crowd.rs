//! A crowd at the pump: many sessions with more than leaves at once. The plane is a line for each, served in turn.

use std::collections::{BTreeMap, VecDeque};

use super::*;

/// One session's packets begin with its number and their own.
fn packet(session: u8, number: u32) -> Vec<u8> {
    let mut packet = vec![session; 1_400];
    packet[1..5].copy_from_slice(&number.to_be_bytes());
    packet
}

/// Sends session `n`'s packets to the `n`th address.
#[derive(Debug, Default)]
struct Lines {
    to: Vec<SocketAddr>,
    lines: BTreeMap<u8, VecDeque<Vec<u8>>>,
    held: bool,
    /// Packets that were held, and that passed.
    waited: usize,
    passed: usize,
}

impl Plane for Lines {
    fn seal(&mut self, frame: Frame<'_>, now: Instant) -> Option<SocketAddr> {
        let packet = &frame.bytes[FRAMING.head..][..frame.packet];
        let waits = self.lines.values().any(|line| !line.is_empty());
        if self.held || waits {
            self.waited += 1;
            let line = self.lines.entry(packet[0]).or_default();
            line.push_back(packet.to_vec());
            return None;
        }
        self.passed += 1;
        let session = u32::from(packet[0]);
        self.seal_released(frame, session, now)
    }

    fn open<'a>(&mut self, _: SocketAddr, _: &'a mut [u8], _: Instant) -> Option<&'a [u8]> {
        None
    }

    fn hold_outbound(&mut self, hold: bool, _now: Instant) -> bool {
        self.held = hold;
        true
    }

    fn release_outbound(&mut self, into: &mut [u8], _now: Instant) -> Option<Released> {
        assert!(!self.held, "released while it was asked to hold");
        // Whoever has most; a whole line in one train.
        let longest = self.lines.iter_mut().max_by_key(|(_, line)| line.len());
        let (session, line) = longest?;
        let packet = line.front()?;
        into.get_mut(..packet.len())?.copy_from_slice(packet);
        let len = packet.len();
        line.pop_front();
        Some(Released {
            len,
            mark: u32::from(*session),
        })
    }

    fn seal_released(&mut self, frame: Frame<'_>, mark: u32, _now: Instant) -> Option<SocketAddr> {
        let to = self.to[mark as usize];
        Shift { to }.seal(frame, Clock::now())
    }
}

/// A device that gives what it has as fast as it is asked.
#[derive(Debug)]
struct Full(std::sync::Mutex<VecDeque<Vec<u8>>>);

impl crate::tun::Tun for Full {
    fn poll_recv(&self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(packet) = self.0.lock().unwrap().pop_front() else {
            return Poll::Pending;
        };
        buffer[..packet.len()].copy_from_slice(&packet);
        Poll::Ready(Ok(packet.len()))
    }

    fn poll_send(&self, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn mtu(&self) -> usize {
        1_400
    }

    fn name(&self) -> &str {
        "full"
    }
}

/// Pumps `packets` through until nothing is left; what each of `sessions` sockets got, in order, and the plane.
async fn pumped(packets: Vec<Vec<u8>>, sessions: u8) -> (Vec<Vec<u32>>, Lines) {
    let ends: Vec<_> = (0..sessions).map(|_| end()).collect();
    let mut plane = Lines {
        to: ends.iter().map(|end| end.0.local_addr()).collect(),
        ..Lines::default()
    };
    let count = packets.len();
    let device = Full(std::sync::Mutex::new(packets.into()));
    let near = end();
    let mut pump = Pump::new(near.0, near.1, Arc::new(device), FRAMING);
    let mut turns = 0;
    while plane.passed + plane.waited < count || plane.lines.values().any(|line| !line.is_empty()) {
        pump.ready().await.unwrap();
        pump.work(&mut plane, Clock::now());
        turns += 1;
        assert!(turns < 10_000, "it makes no progress");
    }
    assert!(!plane.held, "the crowd is over");
    let mut got = Vec::new();
    for (session, (_socket, mut receiver)) in ends.into_iter().enumerate() {
        let (mut numbers, mut batch) = (Vec::new(), Batch::new());
        let wanted = plane.to.len();
        while numbers.len() < count / wanted {
            let received = tokio::time::timeout(Duration::from_secs(5), receiver.recv(&mut batch));
            received.await.expect("some packets were lost").unwrap();
            for (_, datagram) in batch.iter() {
                let packet = &datagram[FRAMING.head..];
                assert_eq!(usize::from(packet[0]), session);
                numbers.push(u32::from_be_bytes(packet[1..5].try_into().unwrap()));
            }
        }
        got.push(numbers);
    }
    (got, plane)
}

#[tokio::test]
async fn a_crowd_is_held_and_each_session_keeps_its_order() {
    const SESSIONS: u8 = 20;
    // By turns, two packets each; a pause of one session alone in the middle, so that the crowd ends and begins again.
    let mut packets = Vec::new();
    for burst in 0..60 {
        for session in 0..SESSIONS {
            packets.extend((0..2).map(|one| packet(session, burst * 2 + one)));
        }
    }
    let (got, plane) = pumped(packets, SESSIONS).await;
    assert!(plane.passed > 0, "the first turn is nobody's crowd");
    assert!(
        plane.waited > plane.passed,
        "{} {}",
        plane.waited,
        plane.passed
    );
    for numbers in got {
        assert_eq!(numbers, (0..120).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn one_hog_is_no_crowd() {
    let packets = (0..1_500).map(|number| packet(0, number)).collect();
    let (got, plane) = pumped(packets, 1).await;
    assert_eq!((plane.passed, plane.waited), (1_500, 0));
    assert_eq!(got[0], (0..1_500).collect::<Vec<_>>());
}
