//! The long game: two endpoints, a network that does what the input says, and noise.
//! It refuses to look inside: what counts is that no packet comes out twice or altered, that strangers hear nothing,
//! that timers neither stick nor pile up, and that both ends work together again in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use wayfare_tunnel::{DropReason, OVERHEAD, PeerId, Received, Sealed};

use super::Ending;
use super::script::Script;
use super::world::{ELSEWHERE, HERE, Pair, THERE, address, transmits};

/// Steps per input, so that one input costs milliseconds at most.
const STEPS: usize = 64;
/// Datagrams that the network holds; the oldest are lost beyond it.
const HELD: usize = 64;

struct Game {
    pair: Pair,
    /// Datagrams under way, and whether up.
    held: Vec<(bool, Vec<u8>)>,
    /// By number: whether the packet went up, and whether it came out.
    packets: BTreeMap<u32, (bool, bool)>,
    arrived: usize,
}

/// Any sequence of datagrams, genuine, changed, repeated, reordered, lost or invented, and of time.
pub fn datagrams(bytes: &[u8]) -> Ending {
    let mut script = Script::new(bytes);
    let mut game = Game {
        pair: Pair::new(),
        held: Vec::new(),
        packets: BTreeMap::new(),
        arrived: 0,
    };
    if script.byte() & 1 != 0 {
        game.pair.handshake();
    }
    for _ in 0..STEPS {
        if script.is_over() {
            break;
        }
        game.step(&mut script);
        game.collect();
    }
    let arrived = game.arrived;
    game.end_well();
    Ending::accepted_if(arrived > 0)
}

impl Game {
    fn step(&mut self, script: &mut Script<'_>) {
        let how = script.byte();
        let up = how & 0x80 != 0;
        match how & 7 {
            0 => self.send(up),
            1 | 2 => self.deliver(script, false),
            3 => self.deliver(script, true),
            4 => {
                // Milliseconds or seconds, up to four minutes.
                let unit = if how & 8 == 0 { 1 } else { 1_000 };
                self.pass(Duration::from_millis(u64::from(script.byte()) * unit));
            }
            5 => {
                let (end, peer) = if up {
                    (&mut self.pair.consumer, self.pair.exit)
                } else {
                    (&mut self.pair.provider, self.pair.guest)
                };
                end.initiate(peer, self.pair.now);
            }
            6 => {
                let end = if up {
                    &mut self.pair.provider
                } else {
                    &mut self.pair.consumer
                };
                end.set_under_load(how & 8 != 0);
            }
            _ => self.noise(script, up),
        }
    }

    /// A numbered packet.
    fn send(&mut self, up: bool) {
        let number = self.packets.len() as u32;
        let mut packet = [0; 28];
        packet[..4].copy_from_slice(&[0x45, 0, 0, 28]);
        let (consumer, world) = ([10, 8, 0, 2], [1, 1, 1, 1]);
        let (source, destination) = if up {
            (consumer, world)
        } else {
            (world, consumer)
        };
        packet[12..16].copy_from_slice(&source);
        packet[16..20].copy_from_slice(&destination);
        packet[24..].copy_from_slice(&number.to_be_bytes());
        let mut datagram = vec![0; packet.len() + 15 + OVERHEAD];
        let from = if up {
            &mut self.pair.consumer
        } else {
            &mut self.pair.provider
        };
        match from.seal(&packet, self.pair.now, &mut datagram) {
            Sealed::Datagram { len, .. } => {
                datagram.truncate(len);
                self.packets.insert(number, (up, false));
                self.held.push((up, datagram));
            }
            Sealed::Queued { .. } => {
                self.packets.insert(number, (up, false));
            }
            Sealed::Dropped(why) => assert_eq!(why, DropReason::NoEndpoint),
        }
    }

    /// One of the datagrams under way, from wherever; changed, if `altered`; kept under way, if it is to come twice.
    fn deliver(&mut self, script: &mut Script<'_>, altered: bool) {
        let (which, from, keep) = (script.byte(), script.byte(), script.byte() & 1 != 0);
        if self.held.is_empty() {
            return;
        }
        let at = usize::from(which) % self.held.len();
        let (up, mut datagram) = if keep {
            self.held[at].clone()
        } else {
            self.held.remove(at)
        };
        if altered {
            let edits = script.byte() % 4;
            script.edit(&mut datagram, edits);
        }
        self.receive(up, from, &mut datagram);
    }

    fn noise(&mut self, script: &mut Script<'_>, up: bool) {
        let len = script.byte();
        let mut datagram = script.slice(usize::from(len)).to_vec();
        let got = self.receive(up, ELSEWHERE, &mut datagram);
        assert!(!got, "noise that authenticates");
    }

    /// Hands a datagram over and returns whether anything but a refusal came of it.
    fn receive(&mut self, up: bool, from: u8, datagram: &mut [u8]) -> bool {
        let asked = datagram.len();
        let peer = peer_of(&self.pair, up);
        let to = if up {
            &mut self.pair.provider
        } else {
            &mut self.pair.consumer
        };
        let (before, waiting) = (to.peer_stats(peer), to.poll_timeout());
        let got = to.handle_datagram(address(from), datagram, self.pair.now);
        if let Received::Packet { peer: of, packet } = got {
            assert_eq!((of, packet.len()), (peer, 28));
            let number = u32::from_be_bytes(packet[24..].try_into().expect("28 − 24 = 4"));
            let entry = self.packets.get_mut(&number).expect("it was sent");
            assert_eq!(*entry, (up, false), "packet {number} came twice, or back");
            entry.1 = true;
            self.arrived += 1;
            return true;
        }
        let Received::Dropped(why) = got else {
            return true;
        };
        // Refused: nothing changed and nobody was answered, save by a cookie.
        assert_eq!(
            (to.peer_stats(peer), to.poll_timeout()),
            (before, waiting),
            "{why:?}"
        );
        let sent = transmits(to);
        if why == DropReason::CookieDemanded {
            assert_eq!(sent.len(), 1);
            assert!(sent[0].payload.len() < asked && sent[0].to == address(from));
        } else {
            assert_eq!(sent, [], "{why:?}");
        }
        self.held
            .extend(sent.into_iter().map(|sent| (!up, sent.payload)));
        false
    }

    /// Lets time pass, obeying every deadline.
    fn pass(&mut self, time: Duration) {
        let until = self.pair.now + time;
        for _ in 0..500 {
            let ends = [
                self.pair.consumer.poll_timeout(),
                self.pair.provider.poll_timeout(),
            ];
            let next = ends.into_iter().flatten().min();
            let Some(next) = next.filter(|next| next.at <= until) else {
                self.pair.now = until;
                return;
            };
            self.pair.now = self.pair.now.max(next.at);
            self.pair.consumer.handle_timeout(self.pair.now);
            self.pair.provider.handle_timeout(self.pair.now);
            for end in [&self.pair.consumer, &self.pair.provider] {
                let later = end
                    .poll_timeout()
                    .is_none_or(|next| next.at > self.pair.now);
                assert!(
                    later,
                    "a deadline that sticks would spin a driver: {next:?}"
                );
            }
            self.collect();
        }
        panic!("more than 500 deadlines in {time:?}");
    }

    /// What both ends want to send is under way.
    fn collect(&mut self) {
        for up in [true, false] {
            let end = if up {
                &mut self.pair.consumer
            } else {
                &mut self.pair.provider
            };
            let sent = transmits(end);
            assert!(sent.len() <= 64 + 4, "bounded by the configuration");
            self.held
                .extend(sent.into_iter().map(|sent| (up, sent.payload)));
            let told = std::iter::from_fn(|| end.poll_event()).count();
            assert!(told <= 64, "bounded by the configuration");
        }
        let excess = self.held.len().saturating_sub(HELD);
        self.held.drain(..excess);
    }

    /// On an honest network, after any retry and any load, both ends have keys and use them.
    fn end_well(mut self) {
        let pair = &mut self.pair;
        pair.consumer.set_under_load(false);
        pair.provider.set_under_load(false);
        pair.consumer.set_endpoint(pair.exit, address(THERE));
        pair.provider.set_endpoint(pair.guest, address(HERE));
        self.held.clear();
        self.pass(Duration::from_secs(120));
        self.pair.handshake();
        self.held.clear();
        let before = self.arrived;
        for up in [true, false] {
            self.send(up);
            let (up, mut datagram) = self.held.pop().expect("there are keys");
            let from = if up { HERE } else { THERE };
            assert!(self.receive(up, from, &mut datagram));
        }
        assert_eq!(self.arrived, before + 2);
    }
}

/// Who the sender is to the receiver.
fn peer_of(pair: &Pair, up: bool) -> PeerId {
    if up { pair.guest } else { pair.exit }
}
