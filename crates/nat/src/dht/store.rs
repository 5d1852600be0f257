//! The records that this node keeps for others. It refuses more than its bounds: bytes in all, records of a topic, records of an
//! owner. What is full makes room out of the most crowded network, never for a newcomer out of that network.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use super::limits::Network;
use super::words::{ANSWER_BYTES, ANSWER_VALUES};
use super::{Admitted, Topic};

/// What is around a record in memory, bytes; generous.
const OVERHEAD: usize = 320;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes in all, with what is around them.
    pub(crate) bytes: usize,
    /// Records of a topic.
    pub(crate) of_topic: usize,
    /// Records of an owner, in all topics.
    pub(crate) of_owner: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            bytes: 32 << 20,
            of_topic: 4_096,
            // 16 nodes of one provider, each under two topics.
            of_owner: 32,
        }
    }
}

/// Why a record is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unkept {
    /// Its time is over.
    Expired,
    /// A later one is there.
    Stale,
    /// The owner has its share.
    Quota,
    /// No place, and no network has more than its own.
    Full,
}

/// Owner and slot.
type Place = ([u8; 32], [u8; 32]);

#[derive(Debug)]
struct Kept {
    value: Vec<u8>,
    sequence: u64,
    expires_at: u64,
    from: Network,
    /// Orders what is equal otherwise; nobody outside can aim for it.
    tie: u64,
}

#[derive(Debug, Default)]
struct Shelf {
    records: HashMap<Place, Kept>,
    crowds: BTreeMap<Network, usize>,
}

#[derive(Debug)]
pub(crate) struct Store {
    bounds: Bounds,
    shelves: HashMap<Topic, Shelf>,
    owned: HashMap<[u8; 32], usize>,
    crowds: BTreeMap<Network, usize>,
    bytes: usize,
    chance: RandomState,
}

impl Store {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            shelves: HashMap::new(),
            owned: HashMap::new(),
            crowds: BTreeMap::new(),
            bytes: 0,
            chance: RandomState::new(),
        }
    }

    /// Keeps an admitted record that came from a network. One that is there already counts as kept.
    pub(crate) fn keep(
        &mut self,
        topic: Topic,
        admitted: Admitted,
        value: Vec<u8>,
        from: Network,
        now: u64,
    ) -> Result<(), Unkept> {
        if admitted.expires_at <= now {
            return Err(Unkept::Expired);
        }
        let place = (admitted.owner, admitted.slot);
        let shelf = self.shelves.get(&topic);
        let known = shelf.and_then(|shelf| shelf.records.get(&place));
        let known = known.map(|kept| (kept.sequence, kept.value == value));
        match known {
            // Where it came from first stays: nobody moves another's record into its own crowd.
            Some((sequence, true)) if sequence == admitted.sequence => return Ok(()),
            Some((sequence, _)) if sequence >= admitted.sequence => return Err(Unkept::Stale),
            Some(_) => self.remove(topic, place),
            None => {}
        }
        let owned = self.owned.get(&admitted.owner).copied().unwrap_or_default();
        if owned >= self.bounds.of_owner {
            return Err(Unkept::Quota);
        }
        self.make_room(topic, from, value.len() + OVERHEAD)?;
        let kept = Kept {
            sequence: admitted.sequence,
            expires_at: admitted.expires_at,
            from,
            tie: self.chance.hash_one((topic, place)),
            value,
        };
        self.bytes += kept.value.len() + OVERHEAD;
        *self.owned.entry(admitted.owner).or_default() += 1;
        *self.crowds.entry(from).or_default() += 1;
        let shelf = self.shelves.entry(topic).or_default();
        *shelf.crowds.entry(from).or_default() += 1;
        shelf.records.insert(place, kept);
        Ok(())
    }

    /// Evicts until one more record of a topic fits.
    fn make_room(&mut self, topic: Topic, newcomer: Network, bytes: usize) -> Result<(), Unkept> {
        let shelf = self.shelves.get(&topic);
        if let Some(shelf) = shelf.filter(|shelf| shelf.records.len() >= self.bounds.of_topic) {
            let crowd = most_crowded(&shelf.crowds, newcomer).ok_or(Unkept::Full)?;
            let victim = shelf.of(crowd).ok_or(Unkept::Full)?;
            self.remove(topic, victim);
        }
        // A record has at most 4 KiB and at least none: a dozen of the least make room for one of the largest.
        for _ in 0..16 {
            if self.bytes + bytes <= self.bounds.bytes {
                return Ok(());
            }
            let crowd = most_crowded(&self.crowds, newcomer).ok_or(Unkept::Full)?;
            let mut shelves = self.shelves.iter();
            let victim = shelves.find_map(|(topic, shelf)| Some((*topic, shelf.of(crowd)?)));
            let (topic, victim) = victim.ok_or(Unkept::Full)?;
            self.remove(topic, victim);
        }
        Err(Unkept::Full)
    }

    fn remove(&mut self, topic: Topic, place: Place) {
        let Some(shelf) = self.shelves.get_mut(&topic) else {
            return;
        };
        let Some(kept) = shelf.records.remove(&place) else {
            return;
        };
        self.bytes -= kept.value.len() + OVERHEAD;
        one_less(&mut shelf.crowds, kept.from);
        one_less(&mut self.crowds, kept.from);
        if let Some(owned) = self.owned.get_mut(&place.0) {
            *owned -= 1;
            if *owned == 0 {
                self.owned.remove(&place.0);
            }
        }
        if shelf.records.is_empty() {
            self.shelves.remove(&topic);
        }
    }

    /// What is in force under a topic, as much as an answer holds: of each network one, then of each a second, and so on.
    pub(crate) fn find(&self, topic: Topic, now: u64) -> Vec<Vec<u8>> {
        let Some(shelf) = self.shelves.get(&topic) else {
            return Vec::new();
        };
        let in_force = shelf.records.values().filter(|kept| kept.expires_at > now);
        let mut sorted: Vec<&Kept> = in_force.collect();
        sorted.sort_unstable_by_key(|kept| kept.tie);
        let mut seen: HashMap<Network, usize> = HashMap::new();
        let mut rounds: Vec<(usize, &Kept)> = sorted
            .into_iter()
            .map(|kept| {
                let round = seen.entry(kept.from).or_default();
                *round += 1;
                (*round, kept)
            })
            .collect();
        rounds.sort_by_key(|(round, _)| *round);
        let mut room = ANSWER_BYTES;
        let fits = |(_, kept): &(usize, &Kept)| {
            let fits = kept.value.len() <= room;
            room -= if fits { kept.value.len() } else { room };
            fits
        };
        let answer = rounds.into_iter().take(ANSWER_VALUES).take_while(fits);
        answer.map(|(_, kept)| kept.value.clone()).collect()
    }

    /// Forgets what is over.
    pub(crate) fn expire(&mut self, now: u64) {
        let mut over = Vec::new();
        for (topic, shelf) in &self.shelves {
            let of_shelf = shelf.records.iter();
            let gone = of_shelf.filter(|(_, kept)| kept.expires_at <= now);
            over.extend(gone.map(|(place, _)| (*topic, *place)));
        }
        for (topic, place) in over {
            self.remove(topic, place);
        }
    }

    /// Bytes in memory, with what is around them.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Shelf {
    fn of(&self, network: Network) -> Option<Place> {
        let mut records = self.records.iter();
        let of_network = records.find(|(_, kept)| kept.from == network);
        of_network.map(|(place, _)| *place)
    }
}

/// The network with the most records, if it has more than the newcomer's.
fn most_crowded(crowds: &BTreeMap<Network, usize>, newcomer: Network) -> Option<Network> {
    let own = crowds.get(&newcomer).copied().unwrap_or_default();
    let others = crowds
        .iter()
        .filter(|(network, _)| **network != Network::Own);
    let (network, most) = others.max_by_key(|(_, count)| **count)?;
    (*most > own).then_some(*network)
}

fn one_less(crowds: &mut BTreeMap<Network, usize>, network: Network) {
    if let Some(count) = crowds.get_mut(&network) {
        *count -= 1;
        if *count == 0 {
            crowds.remove(&network);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TOPIC: Topic = Topic([1; 32]);
    const NOW: u64 = 1_000;

    fn from(network: u16) -> Network {
        let [a, b] = network.to_be_bytes();
        Network::V4([10, a, b])
    }

    fn number(number: u32) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes
    }

    fn record(owner: u32, slot: u32, sequence: u64) -> (Admitted, Vec<u8>) {
        let admitted = Admitted {
            owner: number(owner),
            slot: number(slot),
            sequence,
            expires_at: NOW + 600,
        };
        let value = format!("{owner} {slot} {sequence} {}", "x".repeat(400));
        (admitted, value.into_bytes())
    }

    fn keep(store: &mut Store, network: u16, owner: u32, slot: u32) -> Result<(), Unkept> {
        let (admitted, value) = record(owner, slot, 1);
        store.keep(TOPIC, admitted, value, from(network), NOW)
    }

    #[test]
    fn a_later_record_replaces_and_an_earlier_one_does_not_come_back() {
        let mut store = Store::new(Bounds::default());
        for (sequence, outcome) in [
            (2, Ok(())),
            (2, Ok(())),
            (1, Err(Unkept::Stale)),
            (3, Ok(())),
            (2, Err(Unkept::Stale)),
        ] {
            let (admitted, value) = record(1, 1, sequence);
            let kept = store.keep(TOPIC, admitted, value, from(1), NOW);
            assert_eq!(kept, outcome, "{sequence}");
        }
        assert_eq!(store.find(TOPIC, NOW), [record(1, 1, 3).1]);
        assert_eq!(store.find(Topic([2; 32]), NOW), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn what_is_over_is_neither_taken_nor_told_nor_kept() {
        let mut store = Store::new(Bounds::default());
        keep(&mut store, 1, 1, 1).unwrap();
        let (admitted, value) = record(2, 1, 1);
        let late = store.keep(TOPIC, admitted, value, from(1), admitted.expires_at);
        assert_eq!(late, Err(Unkept::Expired));
        assert_eq!(store.find(TOPIC, NOW + 599).len(), 1);
        assert_eq!(store.find(TOPIC, NOW + 600).len(), 0);
        store.expire(NOW + 599);
        assert!(store.bytes() > 0);
        store.expire(NOW + 600);
        assert_eq!(store.bytes(), 0);
        assert!(store.shelves.is_empty() && store.owned.is_empty() && store.crowds.is_empty());
    }

    #[test]
    fn one_identity_floods_and_keeps_its_share() {
        let mut store = Store::new(Bounds::default());
        keep(&mut store, 2, 0, 0).unwrap();
        let kept = (0..10_000).filter(|slot| keep(&mut store, 1, 7, *slot).is_ok());
        assert_eq!(kept.count(), Bounds::default().of_owner);
        assert!(store.find(TOPIC, NOW).contains(&record(0, 0, 1).1));
    }

    #[test]
    fn many_identities_of_one_network_push_nobody_out() {
        let mut store = Store::new(Bounds::default());
        for honest in 0..50 {
            keep(&mut store, 100 + honest, u32::from(honest), 0).unwrap();
        }
        for fake in 1_000..20_000 {
            let _ = keep(&mut store, 1, fake, 0);
        }
        for honest in 50..60 {
            keep(&mut store, 100 + honest, u32::from(honest), 0).unwrap();
        }
        assert_eq!(keep(&mut store, 1, 999, 0), Err(Unkept::Full));
        assert!(store.bytes() <= Bounds::default().bytes);
        let found = store.find(TOPIC, NOW);
        for honest in 0..60 {
            assert!(found.contains(&record(honest, 0, 1).1), "{honest}");
        }
        assert!(found.len() <= ANSWER_VALUES);
    }

    #[test]
    fn the_memory_is_bounded_over_all_topics() {
        let bounds = Bounds {
            bytes: 100_000,
            ..Bounds::default()
        };
        let mut store = Store::new(bounds);
        let (admitted, value) = record(0, 0, 1);
        let topic = Topic([9; 32]);
        store.keep(topic, admitted, value, from(2), NOW).unwrap();
        for fake in 1..5_000 {
            let (admitted, value) = record(fake, 0, 1);
            let topic = Topic(number(fake));
            let _ = store.keep(topic, admitted, value, from(1), NOW);
            assert!(store.bytes() <= bounds.bytes);
        }
        assert_eq!(store.find(topic, NOW).len(), 1);
        keep(&mut store, 3, 1, 1).unwrap();
    }
}
