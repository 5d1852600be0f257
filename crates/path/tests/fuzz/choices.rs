//! A fuzzer's bytes, read as choices. It refuses to run dry: past the end everything is zero, so any input is a script.

use std::net::SocketAddr;

use wayfare_path::{
    Candidate, CandidateKind, Capabilities, Description, Ephemeral, NatClass, Probe,
};

/// The rest of an input.
#[derive(Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// Exactly `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self.0.split_at(N.min(self.0.len()));
        self.0 = tail;
        let mut filled = [0; N];
        filled[..head.len()].copy_from_slice(head);
        filled
    }

    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// A message as it arrives: changed in up to seven places, and perhaps cut or continued.
    pub fn changed(&mut self, genuine: &[u8]) -> Vec<u8> {
        let mut message = genuine.to_vec();
        let choice = self.byte();
        for _ in 0..choice & 7 {
            let (place, change) = (usize::from(self.short()), self.byte());
            let len = message.len();
            message[place % len] ^= change;
        }
        if choice & 8 != 0 {
            let len = usize::from(self.short()) % message.len();
            message.truncate(len);
        }
        if choice & 16 != 0 {
            let more = self.array::<4>();
            message.extend(more);
        }
        message
    }

    pub fn address(&mut self) -> SocketAddr {
        let choice = self.byte();
        let port = self.short();
        if choice & 1 != 0 {
            SocketAddr::from((self.array::<16>(), port))
        } else {
            SocketAddr::from((self.array::<4>(), port))
        }
    }

    pub fn description(&mut self) -> Description {
        let count = self.byte() % 40;
        let candidates = (0..count).map(|_| {
            let kinds = CandidateKind::ALL;
            let kind = kinds[usize::from(self.byte()) % kinds.len()];
            Candidate::new(kind, self.address())
        });
        let candidates = candidates.collect();
        let nat = match self.byte() % 6 {
            0 => NatClass::Unknown,
            1 => NatClass::Open,
            2 => NatClass::EndpointIndependent,
            3 => NatClass::Sequential {
                delta: i16::from_le_bytes(self.array()),
                last_port: self.short(),
            },
            4 => NatClass::Random,
            _ => NatClass::UdpBlocked,
        };
        let depth = self.byte();
        let ephemeral = Ephemeral::from_seed(self.array()).public();
        Description::new(ephemeral, candidates, nat)
            .with_depth((depth != 0).then_some(depth))
            .with_capabilities(Capabilities::BIRTHDAY)
    }

    pub fn probe(&mut self) -> Probe {
        let choice = self.byte();
        let transaction = if choice & 8 != 0 {
            u64::from_le_bytes(self.array())
        } else {
            u64::from(self.byte())
        };
        if choice & 1 != 0 {
            // What is sealed of an address of IPv4 in IPv6 is the address of IPv4.
            let seen = self.address();
            let seen = SocketAddr::new(seen.ip().to_canonical(), seen.port());
            Probe::Pong { transaction, seen }
        } else {
            Probe::Ping {
                transaction,
                wish: choice & 2 != 0,
                again: choice & 4 != 0,
                round: self.byte(),
            }
        }
    }
}
