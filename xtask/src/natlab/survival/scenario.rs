//! What happens to downloads, as a table: two homes, how fast the file comes, and what befalls the
//! way when. It refuses to know how anything is done.

use std::time::Duration;

/// Something that befalls the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// No UDP passes between the two homes any more.
    Block,
    /// It passes again.
    Lift,
    /// The consumer's computer has another address in its network.
    MoveConsumer,
    /// The same for the provider's.
    MoveProvider,
    /// The provider's computer has a new address beside the old one, which only old flows use.
    RenumberProvider,
    /// The consumer's uplink has IPv4 again.
    GainV4,
    /// It has IPv4 no more.
    LoseV4,
    /// It has IPv6 again.
    GainV6,
    /// It has IPv6 no more.
    LoseV6,
    /// The consumer's box forgets everything, and gives out other ports.
    RebootConsumerBox,
    /// The provider's box does.
    RebootProviderBox,
    /// The relay that carries the download is killed.
    KillRelay,
}

/// One download.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    /// As typed, and with underscores in the report.
    pub(super) name: &'static str,
    /// What happens, for a person.
    pub(super) story: &'static str,
    /// The kinds of the consumer's home and the provider's.
    pub(super) homes: [&'static str; 2],
    /// Before anybody connects.
    pub(super) prelude: &'static [Event],
    /// Whether the path is to be direct before the first event; the download waits for that.
    pub(super) before: bool,
    /// Whether it is to be direct when the download ends.
    pub(super) after: bool,
    /// Seconds that nothing is sent for before the download.
    pub(super) rest: u64,
    /// Bytes a second that the origin sends.
    pub(super) rate: u64,
    /// Whether the downloader may go on where it was cut off, with another connection: where the
    /// exit's own address or its box's memory goes, what it had open outside goes with it, and who
    /// only receives would never notice.
    pub(super) resumes: bool,
    /// Each event, at this many seconds into the download.
    pub(super) events: &'static [(u64, Event)],
    /// Seconds from the connect to the end of everything.
    pub(super) limit: u64,
}

/// Bytes of the file.
pub(super) const FILE: u64 = 32 << 20;

/// Bytes a second with which the file lasts 16 s.
const USUAL: u64 = 2 << 20;

/// With this it lasts 73 s, for what may take the minute between two looks for a better path.
const SLOW: u64 = 450 << 10;

/// Longest time without a byte that a download may have, in milliseconds.
pub(super) const STALL: f64 = 10_000.0;

/// What most have in common.
const PLAIN: Scenario = Scenario {
    name: "",
    story: "",
    homes: ["prr", "prr"],
    prelude: &[],
    before: true,
    after: true,
    rest: 0,
    rate: USUAL,
    resumes: false,
    events: &[],
    limit: 90,
};

/// All of them.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "relay-to-direct",
        story: "no UDP passes between the homes at first, and then it does",
        prelude: &[Event::Block],
        before: false,
        rate: SLOW,
        events: &[(4, Event::Lift)],
        ..PLAIN
    },
    Scenario {
        name: "direct-to-relay",
        story: "no UDP passes between the homes any more",
        after: false,
        events: &[(4, Event::Block)],
        ..PLAIN
    },
    Scenario {
        name: "consumer-address",
        story: "the consumer's computer gets another address",
        events: &[(4, Event::MoveConsumer)],
        ..PLAIN
    },
    Scenario {
        name: "consumer-address-public",
        story: "the same, with a provider that was simply dialed",
        homes: ["prr", "pub"],
        events: &[(4, Event::MoveConsumer)],
        ..PLAIN
    },
    Scenario {
        name: "provider-address",
        story: "the provider's network is renumbered: new packets leave from a new address",
        events: &[(4, Event::RenumberProvider)],
        ..PLAIN
    },
    Scenario {
        name: "provider-address-lost",
        story: "the provider's computer gets another address and loses the old one",
        resumes: true,
        events: &[(4, Event::MoveProvider)],
        ..PLAIN
    },
    Scenario {
        name: "uplink-switch",
        story: "the consumer's uplink goes from IPv4 to IPv6 and back",
        homes: ["pr:fw6", "fc:v6"],
        prelude: &[Event::LoseV6],
        events: &[
            (3, Event::GainV6),
            (5, Event::LoseV4),
            (10, Event::GainV4),
            (12, Event::LoseV6),
        ],
        rate: USUAL * 3 / 4,
        ..PLAIN
    },
    Scenario {
        name: "uplink-switch-walled",
        story: "the same, with firewalls that let in only who was asked, on both sides",
        homes: ["pr:fw6", "pr:fw6"],
        prelude: &[Event::LoseV6],
        events: &[
            (3, Event::GainV6),
            (5, Event::LoseV4),
            (10, Event::GainV4),
            (12, Event::LoseV6),
        ],
        rate: USUAL * 3 / 4,
        ..PLAIN
    },
    Scenario {
        name: "nat-reboot",
        story: "the consumer's box forgets everything",
        events: &[(4, Event::RebootConsumerBox)],
        ..PLAIN
    },
    Scenario {
        name: "nat-reboot-provider",
        story: "the provider's box forgets everything, the exit's own connections with it",
        resumes: true,
        events: &[(4, Event::RebootProviderBox)],
        ..PLAIN
    },
    Scenario {
        name: "silence",
        story: "60 s without a packet, behind boxes that forget after 20 s",
        homes: ["prr:timeout=20", "prr:timeout=20"],
        rest: 60,
        limit: 120,
        ..PLAIN
    },
    Scenario {
        name: "relay-killed",
        story: "the relay in use is killed, another one is there",
        homes: ["sym", "sym"],
        before: false,
        after: false,
        events: &[(4, Event::KillRelay)],
        ..PLAIN
    },
];

impl Scenario {
    /// How long the file takes undisturbed.
    pub(super) fn undisturbed(&self) -> Duration {
        Duration::from_secs_f64(FILE as f64 / self.rate as f64)
    }

    /// The name in the report: of the check that tells whether the file arrived whole.
    pub(super) fn check(&self) -> String {
        format!("survive_{}", self.name.replace('-', "_"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::kind::{Kind, V6};
    use super::*;

    #[test]
    fn every_home_exists_and_every_event_falls_into_the_download() {
        for scenario in SCENARIOS {
            let name = scenario.name;
            for home in scenario.homes {
                home.parse::<Kind>().unwrap();
            }
            let lasts = scenario.undisturbed().as_secs();
            assert!(lasts + scenario.rest < scenario.limit, "{name}");
            for (at, _) in scenario.events {
                assert!((1..lasts).contains(at), "{name}");
            }
            let ordered = scenario.events.is_sorted_by_key(|(at, _)| *at);
            assert!(ordered, "{name}");
        }
    }

    #[test]
    fn families_come_and_go_where_there_are_two() {
        for scenario in SCENARIOS {
            let families = [Event::GainV4, Event::LoseV4, Event::GainV6, Event::LoseV6];
            let switches = |(_, event): &(u64, Event)| families.contains(event);
            if scenario.events.iter().any(switches) {
                for home in scenario.homes {
                    let kind: Kind = home.parse().unwrap();
                    assert_ne!(kind.v6, V6::None, "{}", scenario.name);
                }
            }
        }
    }

    #[test]
    fn names_are_unlike() {
        let mut names: Vec<String> = SCENARIOS.iter().map(Scenario::check).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
        assert!(names.contains(&"survive_relay_to_direct".to_owned()));
    }
}
