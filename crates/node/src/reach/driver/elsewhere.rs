//! Our addresses in both families: a relay sees one of them, that from which our connection comes, and is shown that we receive at
//! the other one, too, so that it can tell peers so. It refuses to show a relay what another one has sent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wayfare_identity::{NodeAddress, NodeId};
use wayfare_nat::Elsewhere;
use wayfare_path::Observed;

use super::Driver;

/// A relay believes it for ten minutes.
const SHOW_EVERY: Duration = Duration::from_secs(240);
/// Addresses that are remembered: those of 64 relays.
const MOST: usize = 128;

/// What relays sent to where they see us, by relay and family.
#[derive(Default)]
pub(super) struct Elsewheres(BTreeMap<(NodeId, bool), Noted>);

struct Noted {
    also: Elsewhere,
    shown: Option<Instant>,
}

impl Elsewheres {
    /// What a relay that is connected to there can be shown.
    pub(super) fn of(&self, relay: NodeAddress) -> Option<Elsewhere> {
        let noted = self.0.get(&(relay.node, !relay.at.is_ipv6()));
        noted.map(|noted| noted.also)
    }

    fn note(&mut self, relay: NodeId, also: Elsewhere) {
        let family = (relay, also.at.is_ipv6());
        let moved = |noted: &Noted| noted.also.at != also.at;
        let shown = match self.0.get(&family) {
            Some(noted) if !moved(noted) => noted.shown,
            Some(_) => None,
            None if self.0.len() >= MOST => return,
            None => None,
        };
        self.0.insert(family, Noted { also, shown });
    }

    /// What this relay is to be shown now: nothing as long as it has seen us in one family only.
    fn due(&mut self, relay: NodeId, now: Instant) -> Vec<Elsewhere> {
        let families = [(relay, false), (relay, true)];
        if families.iter().any(|family| !self.0.contains_key(family)) {
            return Vec::new();
        }
        let mut due = Vec::new();
        for family in families {
            if let Some(noted) = self.0.get_mut(&family)
                && noted.shown.is_none_or(|shown| now >= shown + SHOW_EVERY)
            {
                noted.shown = Some(now);
                due.push(noted.also);
            }
        }
        due
    }

    fn forget_shown(&mut self, relay: NodeId) {
        let of_relay = self.0.iter_mut().filter(|((node, _), _)| *node == relay);
        of_relay.for_each(|(_, noted)| noted.shown = None);
    }
}

impl Driver {
    /// A relay sent this to where it sees us.
    pub(super) async fn note_elsewhere(
        &mut self,
        relay: NodeId,
        observed: &Observed,
        now: Instant,
    ) {
        let Observed { seen, cookie, .. } = *observed;
        self.elsewhere.note(relay, Elsewhere { at: seen, cookie });
        self.show_elsewhere(relay, now).await;
    }

    /// A relay is connected anew, and may know nothing.
    pub(super) async fn show_again(&mut self, relay: NodeId, now: Instant) {
        self.elsewhere.forget_shown(relay);
        self.show_elsewhere(relay, now).await;
    }

    async fn show_elsewhere(&mut self, relay: NodeId, now: Instant) {
        for also in self.elsewhere.due(relay, now) {
            self.swarm.also(relay, also).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use wayfare_transport::Clock;

    const RELAY: NodeId = NodeId([1; 32]);

    fn also(at: &str) -> Elsewhere {
        Elsewhere {
            at: at.parse().unwrap(),
            cookie: [1; 8],
        }
    }

    #[test]
    fn both_families_are_shown_once_both_are_known_and_again_in_time() {
        let now = Clock::now();
        let mut elsewheres = Elsewheres::default();
        let (four, six) = (also("192.0.2.1:7"), also("[2001:db8::1]:7"));
        elsewheres.note(RELAY, four);
        assert_eq!(elsewheres.due(RELAY, now), []);
        elsewheres.note(RELAY, six);
        assert_eq!(elsewheres.due(RELAY, now), [four, six]);
        elsewheres.note(RELAY, six);
        assert_eq!(elsewheres.due(RELAY, now), []);
        let moved = also("[2001:db8::2]:7");
        elsewheres.note(RELAY, moved);
        assert_eq!(elsewheres.due(RELAY, now), [moved]);
        assert_eq!(elsewheres.due(RELAY, now + SHOW_EVERY), [four, moved]);
        elsewheres.forget_shown(RELAY);
        assert_eq!(elsewheres.due(RELAY, now + SHOW_EVERY), [four, moved]);
        let at = |at: &str| NodeAddress {
            node: RELAY,
            at: at.parse().unwrap(),
        };
        assert_eq!(elsewheres.of(at("198.51.100.1:443")), Some(moved));
        assert_eq!(elsewheres.of(at("[2001:db8::9]:443")), Some(four));
    }

    #[test]
    fn many_relays_fill_no_memory() {
        let mut elsewheres = Elsewheres::default();
        for number in 0..=255 {
            elsewheres.note(NodeId([number; 32]), also("192.0.2.1:7"));
        }
        assert_eq!(elsewheres.0.len(), MOST);
    }
}
