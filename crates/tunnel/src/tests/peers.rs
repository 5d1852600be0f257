//! Peers come and go: refused with a reason, removed without a trace.

use super::*;

#[test]
fn removing_a_peer_forgets_all_of_it() {
    let mut pair = Pair::established();
    let datagram = seal(&mut pair.consumer, &packet(OUT.0, OUT.1, 60), pair.now);
    assert!(pair.provider.remove_peer(pair.guest));
    assert!(!pair.provider.remove_peer(pair.guest));
    assert_eq!(
        receive(&mut pair.provider, address(1), &datagram, pair.now),
        Got::Dropped(DropReason::UnknownIndex)
    );
    assert_eq!(pair.provider.poll_timeout(), None);
    let mut buffer = [0; 200];
    let sealed = pair
        .provider
        .seal(&packet(BACK.0, BACK.1, 60), pair.now, &mut buffer);
    assert_eq!(sealed, Sealed::Dropped(DropReason::NoRoute));
    let mut again = PeerConfig::new(pair.consumer.public_key());
    again.allowed_ips = vec!["10.8.0.2/32".parse().unwrap()];
    assert_ne!(
        pair.provider.add_peer(again).unwrap(),
        pair.guest,
        "handles are not reused"
    );
}

#[test]
fn a_peer_is_refused_with_the_reason_and_nothing_changes() {
    use crate::AddPeerError;
    let config = EndpointConfig {
        max_peers: 2,
        max_allowed_ips: 3,
        ..EndpointConfig::default()
    };
    let mut pair = Pair::with(config, |_| {});
    let own = PeerConfig::new(pair.provider.public_key());
    assert_eq!(pair.provider.add_peer(own), Err(AddPeerError::OwnKey));
    let known = PeerConfig::new(pair.consumer.public_key());
    assert_eq!(
        pair.provider.add_peer(known),
        Err(AddPeerError::DuplicateKey(pair.guest))
    );
    let mut other = PeerConfig::new(StaticSecret::from_bytes([9; 32]).public());
    other.allowed_ips = vec![
        "10.8.0.3/32".parse().unwrap(),
        "10.8.0.2/32".parse().unwrap(),
    ];
    let taken = AddPeerError::AllowedIpTaken {
        prefix: "10.8.0.2/32".parse().unwrap(),
        owner: pair.guest,
    };
    assert_eq!(pair.provider.add_peer(other.clone()), Err(taken));
    assert_eq!(
        pair.provider.peer_for("10.8.0.3".parse().unwrap()),
        None,
        "all or nothing"
    );
    other.allowed_ips = vec!["10.9.0.0/16".parse().unwrap(); 4];
    assert_eq!(
        pair.provider.add_peer(other.clone()),
        Err(AddPeerError::TooManyAllowedIps(3))
    );
    other.allowed_ips.truncate(1);
    let id = pair.provider.add_peer(other).unwrap();
    let third = PeerConfig::new(StaticSecret::from_bytes([10; 32]).public());
    assert_eq!(
        pair.provider.add_peer(third),
        Err(AddPeerError::TooManyPeers(2))
    );
    let change = pair
        .provider
        .set_allowed_ips(id, vec!["10.8.0.2/32".parse().unwrap()]);
    assert_eq!(change, Err(taken));
    assert_eq!(
        pair.provider.peer_for("10.9.1.1".parse().unwrap()),
        Some(id),
        "the old ones stay"
    );
    pair.provider
        .set_allowed_ips(id, vec!["10.10.0.0/16".parse().unwrap()])
        .unwrap();
    assert_eq!(pair.provider.peer_for("10.9.1.1".parse().unwrap()), None);
}
