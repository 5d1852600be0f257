//! A hundred real swarms on loopback: what one brings another finds, whoever dies, lies or floods.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod liar;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use libp2p_identity::PeerId;
use libp2p_kad::KBucketKey;
use wayfare_identity::{NodeAddress, NodeKey};

use self::liar::Lie;
use super::lookup::Target;
use super::{Admitted, DhtConfig, DhtError, Records, Topic};
use crate::address::peer_id;
use crate::ground::plain::PlainGround;
use crate::{Swarm, SwarmConfig};

const SEEN_BY_ALL: Topic = Topic([42; 32]);
const ENOUGH: Duration = Duration::from_millis(2_500);
const LIMIT: Duration = Duration::from_secs(5);

/// Records of this test: a word, the topic, owner, sequence and time.
#[derive(Debug, Default)]
struct TestRecords(AtomicU64);

impl TestRecords {
    fn later() -> u64 {
        600
    }
}

fn record(topic: Topic, owner: u32, sequence: u64, expires_at: u64) -> Vec<u8> {
    postcard::to_stdvec(&("record", topic, owner, sequence, expires_at)).unwrap()
}

impl Records for TestRecords {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn admit(&self, topic: &Topic, value: &[u8]) -> Option<Admitted> {
        let (word, of, owner, sequence, expires_at): (&str, Topic, u32, u64, u64) =
            postcard::from_bytes(value).ok()?;
        let mut id = [0; 32];
        id[..4].copy_from_slice(&owner.to_be_bytes());
        let admitted = Admitted {
            owner: id,
            slot: topic.0,
            sequence,
            expires_at,
        };
        (word == "record" && of == *topic && expires_at > self.now()).then_some(admitted)
    }
}

fn key(number: u32) -> NodeKey {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    NodeKey::from_seed(seed)
}

/// Of 200 numbers those whose keys are closest to the topic of the test.
fn closest_keys(many: usize) -> Vec<u32> {
    let target = Target::Topic(SEEN_BY_ALL).key(PeerId::random());
    let mut numbers: Vec<u32> = (500..700).collect();
    numbers.sort_by_key(|number| {
        let peer = peer_id(key(*number).id()).unwrap();
        KBucketKey::from(peer).distance(&target)
    });
    numbers.truncate(many);
    numbers
}

struct TestNode {
    swarm: Swarm,
    ground: PlainGround,
    address: NodeAddress,
    records: Arc<TestRecords>,
}

/// A busy computer may need a second try.
async fn joins(node: &TestNode, seeds: &[NodeAddress]) {
    for _ in 0..4 {
        if node.swarm.bootstrap(seeds.to_vec()).await.is_ok() {
            return;
        }
    }
    panic!("{} joins nobody", node.address);
}

/// Each in a network of its own.
fn ip(number: u32) -> [u8; 4] {
    let [.., a, b] = number.to_be_bytes();
    [127, a + 1, b, 1]
}

fn start(number: u32, serves: bool) -> TestNode {
    let key = key(number);
    let (ground, at, incoming) = PlainGround::open(&key, ip(number));
    let address = NodeAddress { node: key.id(), at };
    let records = Arc::new(TestRecords::default());
    let config = SwarmConfig {
        key,
        relay: None,
        dht: Some(DhtConfig {
            records: Arc::clone(&records) as Arc<dyn Records>,
            serves,
            seeds: Vec::new(),
        }),
    };
    let (swarm, _) = Swarm::start(config, Arc::new(ground.clone()), incoming).unwrap();
    TestNode {
        swarm,
        ground,
        address,
        records,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_finds_in_five_seconds_though_a_fifth_is_dead_and_a_tenth_lies() {
    const LIES: [Lie; 5] = [
        Lie::Nothing,
        Lie::Junk,
        Lie::Fakes,
        Lie::Ghosts,
        Lie::Silence,
    ];
    let begun = Instant::now();
    let mut nodes: Vec<TestNode> = (0..90).map(|number| start(number, true)).collect();
    let seeds: Vec<NodeAddress> = nodes[..3].iter().map(|node| node.address).collect();
    for some in nodes.chunks(30) {
        join_all(some.iter().map(|node| joins(node, &seeds))).await;
    }
    let victims: Vec<NodeAddress> = nodes[..60].iter().map(|node| node.address).collect();
    // They chose keys that put them closer to the topic than nearly everybody else.
    let heard = Arc::new(AtomicUsize::new(0));
    for (at, number) in closest_keys(10).into_iter().enumerate() {
        let lie = LIES[at % LIES.len()];
        liar::start(&key(number), ip(number), lie, &victims, Arc::clone(&heard));
    }
    println!("100 nodes joined after {:?}", begun.elapsed());

    let provider = start(1_000, false);
    joins(&provider, &seeds).await;
    let offered = record(SEEN_BY_ALL, 1, 1, TestRecords::later());
    let published = Instant::now();
    let mut kept = 0;
    // A busy computer may need another try; providers bring their records again and again.
    for _ in 0..6 {
        let now = provider.swarm.publish(SEEN_BY_ALL, offered.clone()).await;
        println!("{now:?} nodes keep it after {:?}", published.elapsed());
        kept = kept.max(now.unwrap_or(0));
        if kept >= 10 {
            break;
        }
    }
    assert!(kept >= 10);

    // A first contact is among the dead.
    let dead: Vec<TestNode> = nodes.drain(2..22).collect();
    for dead in &dead {
        dead.ground.die();
    }
    let bereaved = start(1_002, false);
    let bereaved = bereaved.swarm.bootstrap(vec![dead[0].address]);
    let finding = async {
        let mut found = Vec::new();
        for number in 0..3 {
            found = found_by(start(1_010 + number, false), &seeds).await;
            if found.contains(&offered) {
                break;
            }
        }
        found
    };
    let (silent, found) = tokio::join!(bereaved, finding);
    // The dead are dead.
    assert_eq!(silent, Err(DhtError::Silent(1)));
    assert!(found.contains(&offered));
    // On a busy computer a liar may not be known to anybody yet when the first have found what they wanted.
    for number in 0..8 {
        if heard.load(Ordering::Relaxed) > 0 {
            return;
        }
        found_by(start(1_020 + number, false), &seeds).await;
    }
    assert!(heard.load(Ordering::Relaxed) > 0, "no liar was asked");
}

/// What a fresh node finds that joins meanwhile.
async fn found_by(consumer: TestNode, seeds: &[NodeAddress]) -> Vec<Vec<u8>> {
    let asked = Instant::now();
    let joining = consumer.swarm.bootstrap(seeds.to_vec());
    let finding = async {
        tokio::task::yield_now().await;
        let found = consumer.swarm.find(SEEN_BY_ALL, ENOUGH, LIMIT).await;
        (found, asked.elapsed())
    };
    let (_, (found, took)) = tokio::join!(joining, finding);
    let found = found.unwrap_or_default();
    println!(
        "{} records found by a fresh node after {took:?}, the bar is {LIMIT:?}",
        found.len()
    );
    assert!(took < 2 * LIMIT, "{took:?}");
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_identity_leaves_room_and_what_is_over_is_gone() {
    let nodes: Vec<TestNode> = (200..212).map(|number| start(number, true)).collect();
    let seeds = vec![nodes[0].address];
    join_all(nodes[1..].iter().map(|node| joins(node, &seeds))).await;
    let honest = start(300, false);
    joins(&honest, &seeds).await;
    let offered = record(SEEN_BY_ALL, 1, 1, 100);
    assert!(
        honest
            .swarm
            .publish(SEEN_BY_ALL, offered.clone())
            .await
            .unwrap()
            >= 8
    );

    let flooding = start(301, false);
    joins(&flooding, &seeds).await;
    let mut refused = 0;
    for number in 0..80u8 {
        let topic = Topic([number; 32]);
        let kept = flooding.swarm.publish(topic, record(topic, 2, 1, 100));
        refused += u32::from(matches!(kept.await, Err(DhtError::Unkept(_))));
    }
    // An identity has 32 places at a node.
    assert_eq!(refused, 80 - 32);
    let found = honest.swarm.find(SEEN_BY_ALL, ENOUGH, LIMIT).await.unwrap();
    assert!(found.contains(&offered));
    let junk = flooding.swarm.publish(SEEN_BY_ALL, b"junk".to_vec()).await;
    assert_eq!(junk, Err(DhtError::Unfit));

    for node in nodes.iter().chain([&honest, &flooding]) {
        node.records.0.store(100, Ordering::Relaxed);
    }
    let found = honest.swarm.find(SEEN_BY_ALL, ENOUGH, LIMIT).await;
    assert_eq!(found, Ok(Vec::new()));
    let late = honest.swarm.publish(SEEN_BY_ALL, offered).await;
    assert_eq!(late, Err(DhtError::Unfit));
}

#[tokio::test]
async fn whoever_knows_nobody_says_so() {
    let alone = start(400, false);
    let found = alone.swarm.find(SEEN_BY_ALL, ENOUGH, LIMIT).await;
    assert_eq!(found, Err(DhtError::Alone));
    let nobody = NodeAddress {
        node: key(401).id(),
        at: ([127, 7, 7, 7], 7).into(),
    };
    let joining = alone.swarm.bootstrap(vec![nobody]);
    let finding = alone.swarm.find(SEEN_BY_ALL, ENOUGH, LIMIT);
    let (joined, found) = tokio::join!(biased; joining, finding);
    assert_eq!(joined, Err(DhtError::Silent(1)));
    assert_eq!(found, Err(DhtError::Silent(1)));
}
