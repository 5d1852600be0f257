//! Ports mapped at a home's router: at `miniupnpd` in each language, and at routers that lie. Needs root.

#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "of the namespaces a part is used here")]

#[path = "mapping/home.rs"]
mod home;
#[path = "../../transport/tests/wireguard/netns.rs"]
mod netns;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use home::{GATEWAY, HOST, Home, Puppet};
use tokio::sync::watch;
use tokio::time::timeout;
use wayfare_nat::{Mapper, MapperConfig, Protocol, Refusal, RouterAnswers};

const PUBLIC: Ipv4Addr = Ipv4Addr::new(11, 0, 1, 2);
const PATIENCE: Duration = Duration::from_secs(10);
const NONCE: [u8; 12] = *b"of this test";

fn config(socket: &UdpSocket, protocols: &[Protocol]) -> MapperConfig {
    MapperConfig {
        protocols: protocols.to_vec(),
        ..MapperConfig::new(socket.local_addr().unwrap().port(), NONCE)
    }
}

async fn mapped(now: &mut watch::Receiver<Option<SocketAddr>>) -> SocketAddr {
    let at = timeout(PATIENCE, now.wait_for(Option::is_some)).await;
    at.expect("the port is mapped in time").unwrap().unwrap()
}

async fn unmapped(now: &mut watch::Receiver<Option<SocketAddr>>) {
    let gone = timeout(PATIENCE, now.wait_for(Option::is_none)).await;
    gone.expect("the mapping is given up in time").unwrap();
}

/// From nothing to a mapping that forwards, and back.
fn maps_and_gives_back(protocol: Protocol) {
    let home = Home::new(PUBLIC);
    home.start_router();
    let socket = home.socket();
    home.run(|| async {
        let (tell, mut now) = watch::channel(None);
        let mapper = Mapper::start(config(&socket, &[protocol]), tell);
        let at = mapped(&mut now).await;
        assert_eq!(
            at,
            SocketAddr::new(PUBLIC.into(), socket.local_addr().unwrap().port())
        );
        assert!(home.reaches(at, &socket), "it forwards");
        assert_eq!(home.forwarded(), 1);
        mapper.stop().await;
        assert_eq!(home.forwarded(), 0, "what was mapped is given back");
        assert_eq!(*now.borrow(), None);
    });
}

#[test]
fn pcp_maps_and_gives_back() {
    maps_and_gives_back(Protocol::Pcp);
}

#[test]
fn nat_pmp_maps_and_gives_back() {
    maps_and_gives_back(Protocol::NatPmp);
}

#[test]
fn upnp_maps_and_gives_back() {
    maps_and_gives_back(Protocol::Upnp);
}

#[test]
fn of_all_languages_one_mapping_is_made_and_dropping_gives_it_back() {
    let home = Home::new(PUBLIC);
    home.start_router();
    let socket = home.socket();
    home.run(|| async {
        let (tell, mut now) = watch::channel(None);
        let mapper = Mapper::start(config(&socket, &Protocol::ALL), tell);
        let at = mapped(&mut now).await;
        assert!(home.reaches(at, &socket));
        assert_eq!(home.forwarded(), 1);
        drop(mapper);
        // The task has gone when its end of the channel has.
        let gone = async { while now.changed().await.is_ok() {} };
        timeout(PATIENCE, gone).await.unwrap();
        assert_eq!(home.forwarded(), 0);
    });
}

/// A mapping of two seconds lives for as long as it is wanted.
fn is_renewed(protocol: Protocol) {
    let home = Home::new(PUBLIC);
    home.start_router();
    let socket = home.socket();
    home.run(|| async {
        let (tell, mut now) = watch::channel(None);
        let config = MapperConfig {
            lifetime: Duration::from_secs(2),
            ..config(&socket, &[protocol])
        };
        let mapper = Mapper::start(config, tell);
        let at = mapped(&mut now).await;
        // Nothing tells that a router has not forgotten: its time must pass.
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        assert!(home.reaches(at, &socket), "it is renewed");
        assert!(!now.has_changed().unwrap(), "nobody notices");
        mapper.stop().await;
        assert_eq!(home.forwarded(), 0);
    });
}

#[test]
fn pcp_is_renewed() {
    is_renewed(Protocol::Pcp);
}

#[test]
fn nat_pmp_is_renewed() {
    is_renewed(Protocol::NatPmp);
}

#[test]
fn upnp_is_renewed() {
    is_renewed(Protocol::Upnp);
}

#[test]
fn a_router_that_begins_anew_is_asked_anew() {
    let home = Home::new(PUBLIC);
    home.start_router();
    let socket = home.socket();
    home.run(|| async {
        let (tell, mut now) = watch::channel(None);
        let mapper = Mapper::start(config(&socket, &[Protocol::Pcp]), tell);
        let at = mapped(&mut now).await;
        home.cut_power();
        assert_eq!(home.forwarded(), 0);
        assert!(!home.reaches(at, &socket));
        home.start_router();
        // It calls out that it knows nothing; the next look would be within a minute.
        let mut looks = 0;
        while home.forwarded() == 0 {
            looks += 1;
            assert!(looks < 200, "it is not asked again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(home.reaches(at, &socket));
        mapper.stop().await;
    });
}

#[test]
fn a_move_to_another_network_is_a_new_mapping() {
    let home = Home::new(PUBLIC);
    home.start_router();
    let socket = home.socket();
    home.run(|| async {
        let (tell, mut now) = watch::channel(None);
        let mapper = Mapper::start(config(&socket, &[Protocol::Pcp]), tell);
        mapped(&mut now).await;
        home.host.ip("route del default");
        mapper.network_changed();
        unmapped(&mut now).await;
        home.host.ip(&format!("route add default via {GATEWAY}"));
        mapper.network_changed();
        let at = mapped(&mut now).await;
        assert!(home.reaches(at, &socket));
        mapper.stop().await;
    });
}

#[test]
fn a_router_behind_another_one_maps_nothing() {
    let home = Home::new(Ipv4Addr::new(100, 64, 0, 2));
    home.start_router();
    home.run(|| async {
        let answers = RouterAnswers::ask().await;
        assert!(!answers.forwards(), "{answers}");
        let refuses = |said: &Result<_, _>| matches!(said, Err(Refusal::Refused(_)));
        assert!(
            answers.said.iter().any(|(_, said)| refuses(said)),
            "{answers}"
        );
    });
}

#[test]
fn a_doctor_is_told_what_the_router_speaks() {
    let home = Home::new(PUBLIC);
    home.start_router();
    home.run(|| async {
        let answers = RouterAnswers::ask().await;
        assert!(answers.forwards());
        assert_eq!(answers.to_string(), "PCP yes, NAT-PMP yes, UPnP yes");
        assert_eq!(home.forwarded(), 0);
        home.host.ip("route del default");
        let answers = RouterAnswers::ask().await;
        assert!(!answers.forwards() && answers.said.is_empty());
    });
}

/// A reply to a MAP of PCP: granted, at this address outside.
fn granted(question: &[u8], lifetime: u32, outside: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(outside) = outside else {
        panic!("it is of IPv4");
    };
    let mut reply = question.to_vec();
    reply[1] |= 0x80;
    reply[4..8].copy_from_slice(&lifetime.to_be_bytes());
    reply[8..24].fill(0);
    if reply.len() >= 60 {
        reply[42..44].copy_from_slice(&outside.port().to_be_bytes());
        reply[44..60].copy_from_slice(&outside.ip().to_ipv6_mapped().octets());
    }
    reply
}

#[test]
fn lies_are_not_believed() {
    let home = Home::new(PUBLIC);
    let socket = home.socket();
    let port = socket.local_addr().unwrap().port();
    let truth = SocketAddr::new(PUBLIC.into(), port);
    let lie: SocketAddr = "11.0.9.9:999".parse().unwrap();
    let other_port = home
        .router
        .enter(|| UdpSocket::bind((GATEWAY, 5_399)).unwrap());
    let puppet = Puppet::start(&home, move |question, from, line| {
        let send = |bytes: &[u8]| {
            line.send_to(bytes, from).unwrap();
        };
        let gives_back = question[4..8] == [0; 4];
        if question[1] == 1 && !gives_back {
            let lying = granted(question, 7_200, lie);
            other_port.send_to(&lying, from).unwrap();
            for (at, value) in [(24, 0xee), (36, 6), (40, 0xee), (1, 0x82), (1, 1)] {
                let mut lying = lying.clone();
                lying[at] = value;
                send(&lying);
            }
            send(&lying[..59]);
            send(&[2, 0x81, 0]);
            send(&[]);
        }
        send(&granted(question, 7_200, truth));
        !(question[1] == 1 && gives_back)
    });
    home.run(|| async {
        let (tell, mut now) = watch::channel(None);
        let mapper = Mapper::start(config(&socket, &[Protocol::Pcp]), tell);
        assert_eq!(mapped(&mut now).await, truth);
        mapper.stop().await;
    });
    puppet.ended();
}

#[test]
fn a_private_address_outside_is_given_back_and_no_candidate() {
    let home = Home::new(PUBLIC);
    let socket = home.socket();
    let puppet = Puppet::start(&home, move |question, from, line| {
        let lifetime = u32::from_be_bytes(question[4..8].try_into().unwrap());
        let outside = "192.168.7.7:4000".parse().unwrap();
        line.send_to(&granted(question, lifetime, outside), from)
            .unwrap();
        // Until it is given back.
        !(question[1] == 1 && lifetime == 0)
    });
    home.run(|| async {
        let (tell, now) = watch::channel(None);
        let mapper = Mapper::start(config(&socket, &[Protocol::Pcp]), tell);
        let ended = tokio::task::spawn_blocking(|| puppet.ended());
        timeout(PATIENCE, ended).await.unwrap().unwrap();
        assert!(!now.has_changed().unwrap());
        mapper.stop().await;
        assert!(!now.has_changed().unwrap_or(false));
    });
}

#[test]
fn nobody_but_the_gateway_begins_anew() {
    let home = Home::new(PUBLIC);
    let socket = home.socket();
    let truth: SocketAddr = "11.0.1.2:7000".parse().unwrap();
    let (asked, mut maps) = watch::channel(0);
    let puppet = Puppet::start(&home, move |question, from, line| {
        let lifetime = u32::from_be_bytes(question[4..8].try_into().unwrap());
        let mut reply = granted(question, lifetime, truth);
        reply[8..12].copy_from_slice(&9_000u32.to_be_bytes());
        if question[1] == 1 && lifetime > 0 {
            asked.send_modify(|maps| *maps += 1);
        }
        line.send_to(&reply, from).unwrap();
        !(question[1] == 1 && lifetime == 0)
    });
    // Out of the gateway, yet not of its server.
    let stranger = home
        .router
        .enter(|| UdpSocket::bind((GATEWAY, 5_398)).unwrap());
    let announcement = |epoch: u32| {
        let mut bytes = [0; 24];
        bytes[..2].copy_from_slice(&[2, 0x80]);
        bytes[8..12].copy_from_slice(&epoch.to_be_bytes());
        bytes
    };
    home.run(|| async {
        let (tell, mut now) = watch::channel(None);
        let mapper = Mapper::start(config(&socket, &[Protocol::Pcp]), tell);
        mapped(&mut now).await;
        assert_eq!(*maps.borrow_and_update(), 1);
        stranger.send_to(&announcement(1), (HOST, 5_350)).unwrap();
        let again = timeout(Duration::from_millis(300), maps.changed()).await;
        assert!(again.is_err(), "a stranger is not heard");
        let from_gateway = puppet.line.send_to(&announcement(1), (HOST, 5_350));
        from_gateway.unwrap();
        let again = timeout(PATIENCE, maps.changed()).await;
        assert!(again.is_ok(), "the gateway is");
        mapper.stop().await;
    });
    puppet.ended();
}
