//! Seal and open of one packet, and one whole handshake.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark is where time comes from"
)]

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use wayfare_tunnel::{
    Endpoint, EndpointConfig, OVERHEAD, PeerConfig, PeerId, Received, Sealed, StaticSecret,
};

fn main() {
    divan::main();
}

struct Pair {
    consumer: Endpoint,
    provider: Endpoint,
    exit: PeerId,
    here: SocketAddr,
    there: SocketAddr,
    now: Instant,
}

fn endpoint(key: u8, now: Instant) -> Endpoint {
    let secret = StaticSecret::from_bytes([key; 32]);
    Endpoint::new(
        secret,
        [key + 1; 32],
        now,
        SystemTime::now(),
        EndpointConfig::default(),
    )
}

fn pair() -> Pair {
    let now = Instant::now();
    let (mut consumer, mut provider) = (endpoint(1, now), endpoint(3, now));
    let here: SocketAddr = ([192, 0, 2, 1], 1_000).into();
    let there: SocketAddr = ([192, 0, 2, 2], 51_820).into();
    let everything = "0.0.0.0/0".parse().expect("a constant prefix");
    let mut exit = PeerConfig::new(provider.public_key());
    exit.allowed_ips = vec![everything];
    exit.endpoint = Some(there);
    let exit = consumer.add_peer(exit).expect("the first peer");
    let mut one = PeerConfig::new(consumer.public_key());
    one.allowed_ips = vec![everything];
    provider.add_peer(one).expect("the first peer");
    Pair {
        consumer,
        provider,
        exit,
        here,
        there,
        now,
    }
}

/// Carries handshake messages until both sides are silent.
fn connect(pair: &mut Pair) {
    pair.consumer.initiate(pair.exit, pair.now);
    for _ in 0..4 {
        while let Some(mut message) = pair.consumer.poll_transmit() {
            pair.provider
                .handle_datagram(pair.here, &mut message.payload, pair.now);
        }
        while let Some(mut message) = pair.provider.poll_transmit() {
            pair.consumer
                .handle_datagram(pair.there, &mut message.payload, pair.now);
        }
    }
}

fn packet(length: usize) -> Vec<u8> {
    let mut packet = vec![0; length];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&u16::try_from(length).expect("a small packet").to_be_bytes());
    packet[12..16].copy_from_slice(&[10, 8, 0, 2]);
    packet[16..20].copy_from_slice(&[1, 1, 1, 1]);
    packet
}

#[divan::bench(args = [64, 1_420])]
fn seal(bencher: Bencher<'_, '_>, length: usize) {
    let mut pair = pair();
    connect(&mut pair);
    let packet = packet(length);
    let mut into = vec![0; length + OVERHEAD + 16];
    bencher.counter(BytesCount::new(length)).bench_local(|| {
        match pair
            .consumer
            .seal_to(pair.exit, black_box(&packet), pair.now, &mut into)
        {
            Sealed::Datagram { len, .. } => len,
            other => panic!("{other:?}"),
        }
    });
}

#[divan::bench(args = [64, 1_420])]
fn seal_and_open(bencher: Bencher<'_, '_>, length: usize) {
    let mut pair = pair();
    connect(&mut pair);
    let packet = packet(length);
    let mut into = vec![0; length + OVERHEAD + 16];
    bencher.counter(BytesCount::new(length)).bench_local(|| {
        let Sealed::Datagram { len, .. } =
            pair.consumer
                .seal_to(pair.exit, black_box(&packet), pair.now, &mut into)
        else {
            panic!("not sealed")
        };
        match pair
            .provider
            .handle_datagram(pair.here, &mut into[..len], pair.now)
        {
            Received::Packet { packet, .. } => packet.len(),
            other => panic!("{other:?}"),
        }
    });
}

#[divan::bench]
fn handshake(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(pair).bench_local_values(|mut pair| {
        connect(&mut pair);
        pair
    });
}
