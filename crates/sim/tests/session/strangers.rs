//! Two consumers at one exit are strangers: neither reads, nor writes in the name of, nor pays for the other.

use wayfare_session::{ConsumerFrame, RefusalCode, SessionToken};
use wayfare_sim::session_world::Setting;

use super::support::{PACKET, SECOND, connected, exchange, millis, seeds};

fn two() -> Setting {
    Setting {
        consumers: 2,
        ..Setting::default()
    }
}

#[test]
fn datagrams_for_one_mean_nothing_to_the_other() {
    seeds(5, |seed| {
        let mut world = connected(two(), seed);
        world.eavesdrop(0, 1);
        assert_eq!(exchange(&mut world, 0, 50, millis(5)), 50);
        assert_eq!(world.consumer(0).received().len(), 50);
        assert!(world.consumer(1).received().is_empty());
        // Its own still come.
        assert_eq!(exchange(&mut world, 1, 50, millis(5)), 50);
        assert_eq!(world.consumer(1).received().len(), 50);
        let (one, other) = (world.served(0).unwrap(), world.served(1).unwrap());
        assert_eq!(one.usage.up, other.usage.up);
        assert_eq!(one.usage.down, other.usage.down);
    });
}

#[test]
fn a_source_address_of_somebody_else_does_not_leave_the_exit() {
    let mut world = connected(two(), 1);
    let victim = world.consumer(1).network().unwrap();
    let before = world.served(0).unwrap().usage;
    let sources = [
        victim.consumer_v4.into(),
        victim.consumer_v6.unwrap().into(),
        // The exit itself, an address that nobody has, the internet.
        "10.80.0.1".parse().unwrap(),
        "fd00:80::1".parse().unwrap(),
        "10.80.0.77".parse().unwrap(),
        "203.0.113.7".parse().unwrap(),
        "0.0.0.0".parse().unwrap(),
        "::".parse().unwrap(),
    ];
    for source in sources {
        world.send_up_from(0, source, PACKET).unwrap().unwrap();
        world.run_for(millis(10)).unwrap();
    }
    assert!(world.internet(0).is_empty());
    let after = world.served(0).unwrap().usage;
    assert_eq!((after.up, after.down), (before.up, before.down));
    assert_eq!(world.served(1).unwrap().usage.up, 0);
    // The control: its own address does.
    world.send_up(0, PACKET).unwrap().unwrap();
    world.run_for(millis(10)).unwrap();
    assert_eq!(world.internet(0).len(), 1);
}

#[test]
fn packets_for_nobody_are_nobodys() {
    let mut world = connected(two(), 1);
    for nobody in [
        "10.80.0.1",
        "10.80.0.200",
        "8.8.8.8",
        "fd00:80::99",
        "2001:db8::1",
    ] {
        assert!(
            !world
                .send_down_to(0, nobody.parse().unwrap(), PACKET)
                .unwrap()
        );
    }
    world.run_for(SECOND).unwrap();
    for consumer in 0..2 {
        assert!(world.consumer(consumer).received().is_empty());
        assert_eq!(world.served(consumer).unwrap().usage.down, 0);
    }
}

#[test]
fn one_that_does_not_pay_does_not_stop_the_other() {
    seeds(5, |seed| {
        let mut world = connected(two(), seed);
        world.set_paying(0, false);
        for _ in 0..300 {
            exchange(&mut world, 0, 1, millis(1));
            assert_eq!(exchange(&mut world, 1, 1, millis(4)), 1);
        }
        assert_eq!(world.internet(1).len(), 300);
        assert!(world.internet(0).len() < 100);
        assert_eq!(world.served(0).unwrap().paid, world.consumer(0).signed());
    });
}

#[test]
fn frames_under_an_unknown_token_are_refused_and_change_nothing() {
    let mut world = connected(two(), 1);
    let before = (world.served(0), world.served(1), world.exit_persists());
    let stranger = SessionToken([0x5a; 32]);
    for frame in [
        ConsumerFrame::Attach(stranger),
        // The token counts under which a frame came, not the one inside.
        ConsumerFrame::Attach(world.consumer(0).token().unwrap()),
        ConsumerFrame::Usage(wayfare_payment::Usage::default()),
        ConsumerFrame::KeepAlive,
        ConsumerFrame::Close,
    ] {
        let refusal = world.frame(stranger, frame).unwrap().unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Unknown);
    }
    let after = (world.served(0), world.served(1), world.exit_persists());
    assert_eq!(before, after);
}
