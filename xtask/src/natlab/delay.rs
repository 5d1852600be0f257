//! Time and loss on the way. The kernel may have no `netem`, so the router in the middle hands every
//! packet's handle to a queue (`NFQUEUE`), and a program of ours gives it back after its time. The
//! packet itself stays in the kernel, whole trains of segments as one. Loss is the kernel's.
//! It refuses to reorder: what comes first leaves first.

mod netlink;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::cli::{Given, Outcome};
use crate::interrupt;
use crate::lab::{Background, Lab, Namespace, wait_for};
use crate::process::SHORT;
use crate::progress::out;
use crate::report::{Bar, Report};

use super::kind::Kind;
use super::world::{PLACES, World};
use netlink::Queue;

/// For the program to be ready.
const UP: Duration = Duration::from_secs(10);

/// Packets that one queue may hold: 200 ms of 1 Gb/s in segments of 1,400 bytes, and as much again.
/// A handle takes 24 bytes here, so 1 MiB at most.
const HELD: usize = 40_000;

/// How long a blocked wait takes no notice of a signal.
const NOTICE: Duration = Duration::from_millis(200);

/// Each queue's number, its time, and the pairs of places whose packets go through it.
type Queues = BTreeMap<u16, (Duration, Vec<(usize, usize)>)>;

/// What the way does to packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// From each place to the middle, in the order of [`PLACES`].
    pub to_middle: [Duration; 4],
    /// Packets lost of a thousand that leave a home or arrive there.
    pub loss: u32,
}

impl Way {
    /// 100 ms from home to home and back, 140 ms from home to home by the relay and back.
    pub fn usual() -> Self {
        Self {
            to_middle: [20, 30, 10, 10].map(Duration::from_millis),
            loss: 0,
        }
    }

    /// The usual way, with this much time from one home to the other.
    pub fn long(between: Duration) -> Self {
        let mut way = Self::usual();
        (way.to_middle[0], way.to_middle[1]) = (between * 2 / 5, between * 3 / 5);
        way
    }

    /// No time at all.
    pub fn short() -> Self {
        Self {
            to_middle: [Duration::ZERO; 4],
            loss: 0,
        }
    }

    /// The time of each pair of places, by the number of its queue.
    fn queues(&self) -> Queues {
        let mut by_time: BTreeMap<Duration, Vec<(usize, usize)>> = BTreeMap::new();
        for from in 0..PLACES.len() {
            for to in 0..PLACES.len() {
                let time = self.to_middle[from] + self.to_middle[to];
                if from != to && !time.is_zero() {
                    by_time.entry(time).or_default().push((from, to));
                }
            }
        }
        (1..).zip(by_time).collect()
    }
}

/// A way in force, until it is dropped.
#[derive(Debug)]
pub struct Line {
    running: Option<Background>,
}

impl Line {
    /// Puts the way in force in the router.
    ///
    /// # Errors
    /// When the kernel has no queues, or the program does not come up.
    pub fn lay(world: &World, way: &Way) -> anyhow::Result<Self> {
        let queues = way.queues();
        let mut running = None;
        if !queues.is_empty() {
            let mut args = vec!["natlab-delay".to_owned()];
            args.extend(
                queues
                    .iter()
                    .map(|(number, (time, _))| format!("{number}={}", time.as_micros())),
            );
            let log = format!("delay-{}", crate::progress::elapsed().as_millis());
            let mut program = world.router.spawn(&log, world.workshop(), args)?;
            wait_for("the delay line", UP, || {
                program.must_live()?;
                Ok(program.said().contains("delaying").then_some(()))
            })?;
            running = Some(program);
        }
        let text = rules(&queues);
        for restore in ["iptables-nft-restore", "ip6tables-nft-restore"] {
            load(world, restore, &text)?;
        }
        let mut loss = String::from("table inet loss\ndelete table inet loss\n");
        if way.loss > 0 {
            loss.push_str("table inet loss {\nchain forward {\n");
            loss.push_str("type filter hook forward priority mangle - 5;\n");
            for end in ["iifname", "oifname"] {
                for home in ["a*", "b*"] {
                    let chance = format!("numgen random mod 1000 < {}", way.loss);
                    let _ = writeln!(loss, "{end} \"{home}\" {chance} drop");
                }
            }
            loss.push_str("}\n}\n");
        }
        world.router.nft(&loss)?;
        Ok(Self { running })
    }

    /// An error once the delay line is no more.
    ///
    /// # Errors
    /// As said.
    pub fn must_live(&mut self) -> anyhow::Result<()> {
        self.running.as_mut().map_or(Ok(()), Background::must_live)
    }
}

/// One way, as asked for between homes on the usual way, and what it may be off, in milliseconds.
const ASKED: (f64, f64) = (50.0, 3.0);

/// Measures the line itself: 50 ms asked, what it carries, and what it loses when asked to.
///
/// # Errors
/// When nothing passes at all.
pub fn measured(lab: &Lab, world: &World, report: &mut Report) -> anyhow::Result<()> {
    let public: Kind = "pub".parse()?;
    let (a, b) = (world.home(lab, 1, &public)?, world.home(lab, 2, &public)?);
    let to = b.outside.context("a public host has an address")?;
    let to = to.to_string();
    let mut line = Line::lay(world, &Way::usual())?;
    idle(&a.host, &to, report)?;
    loaded(&a.host, &b.host, &to, report)?;
    line.must_live()?;
    drop(line);
    let lossy = Way {
        loss: 20,
        ..Way::short()
    };
    let _line = Line::lay(world, &lossy)?;
    let args = ["-q", "-c", "3000", "-i", "0.001", &to];
    let said = a.host.capture("ping", &args, SHORT)?;
    // A round trip meets four chances: out of one home, into the other, and back.
    let bar = Bar::Within(5.5, 10.5);
    let note = "2 % at each of four places";
    report.number("loss_percent", lost(&said.stdout), "%", &bar, note);
    Ok(())
}

fn idle(from: &Namespace, to: &str, report: &mut Report) -> anyhow::Result<()> {
    let said = from.output("ping", &["-c", "21", "-i", "0.05", to])?;
    // The first one asks for neighbours, too.
    let mut times: Vec<f64> = times(&said).iter().skip(1).map(|rtt| rtt / 2.0).collect();
    times.sort_by(f64::total_cmp);
    let (asked, off) = ASKED;
    let (median, worst) = (times.get(times.len() / 2), times.last());
    let note = "one way, half of a round trip";
    let bar = Bar::Within(asked - off, asked + off);
    report.number("delay_ms", median.copied(), "ms", &bar, note);
    report.number("delay_worst_ms", worst.copied(), "ms", &Bar::Measured, note);
    Ok(())
}

fn loaded(from: &Namespace, at: &Namespace, to: &str, report: &mut Report) -> anyhow::Result<()> {
    let mut server = at.spawn("iperf3-server", "iperf3", ["-s", "-1", "--forceflush"])?;
    wait_for("iperf3 to listen", UP, || {
        server.must_live()?;
        Ok(server.said().contains("listening").then_some(()))
    })?;
    let args = ["-c", to, "-t", "6", "-O", "2", "-P", "4", "-J"];
    let said = from.output("iperf3", &args)?;
    let told: serde_json::Value = serde_json::from_str(&said).context("iperf3 said no JSON")?;
    let end = &told["end"];
    let bits = end["sum_received"]["bits_per_second"].as_f64();
    let note = "TCP at 100 ms, 4 streams";
    let bar = Bar::AtLeast(300.0);
    report.number(
        "delay_mbps",
        bits.map(|bits| bits / 1e6),
        "Mb/s",
        &bar,
        note,
    );
    let streams = end["streams"].as_array().into_iter().flatten();
    let rtts = streams.filter_map(|stream| stream["sender"]["min_rtt"].as_f64());
    let least = rtts.min_by(f64::total_cmp).map(|micros| micros / 2_000.0);
    // Nothing may slip past the line, however much there is.
    let bar = Bar::AtLeast(ASKED.0 - ASKED.1);
    report.number(
        "delay_least_ms",
        least,
        "ms",
        &bar,
        "one way, under that load",
    );
    Ok(())
}

/// The round trips that `ping` tells, in milliseconds.
fn times(said: &str) -> Vec<f64> {
    let words = said.split_whitespace();
    words
        .filter_map(|word| word.strip_prefix("time=")?.parse().ok())
        .collect()
}

fn lost(said: &str) -> Option<f64> {
    let before = said.split("% packet loss").next()?;
    before.rsplit(' ').next()?.parse().ok()
}

/// The queues, as `iptables-restore` reads them. nft's own `queue` is missing in some kernels.
fn rules(queues: &Queues) -> String {
    let mut text = String::from("*mangle\n:FORWARD ACCEPT\n-F FORWARD\n");
    // A cable is called after its place, most with a number.
    let name = |place: usize| format!("{}+", PLACES[place]);
    for (number, (_, pairs)) in queues {
        for (from, to) in pairs {
            let _ = writeln!(
                text,
                "-A FORWARD -i {} -o {} -j NFQUEUE --queue-num {number} --queue-bypass",
                name(*from),
                name(*to)
            );
        }
    }
    text.push_str("COMMIT\n");
    text
}

fn load(world: &World, restore: &str, text: &str) -> anyhow::Result<()> {
    let script = format!("{restore} <<'END'\n{text}END\n");
    world.router.output("sh", &["-c", &script]).map(drop)
}

/// Runs the hidden subcommand, `natlab-delay QUEUE=MICROSECONDS…`, until a signal comes.
///
/// # Errors
/// When a queue cannot be had.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    if given.rest.is_empty() {
        bail!("natlab-delay takes QUEUE=MICROSECONDS");
    }
    for word in &given.rest {
        let (number, time) = word.split_once('=').context("QUEUE=MICROSECONDS")?;
        let time = Duration::from_micros(time.parse().context("no microseconds")?);
        let queue = Queue::bind(number.parse().context("no queue number")?, HELD)?;
        let queue = Arc::new(queue);
        let (sender, receiver) = sync_channel(HELD);
        let reading = Arc::clone(&queue);
        std::thread::spawn(move || read(&reading, time, &sender));
        std::thread::spawn(move || release(&queue, &receiver));
    }
    out("delaying");
    while interrupt::check().is_ok() {
        std::thread::sleep(NOTICE);
    }
    Ok(Outcome::Passed)
}

/// A packet's handle, and when it is to go on.
type Held = (u32, Instant);

fn read(queue: &Queue, time: Duration, sender: &SyncSender<Held>) {
    let mut buffer = vec![0; netlink::MESSAGE];
    loop {
        // What the kernel could not tell us it has dropped itself, as a full queue does.
        let Ok(packets) = queue.receive(&mut buffer) else {
            continue;
        };
        let due = Instant::now() + time;
        for packet in packets {
            if sender.send((packet, due)).is_err() {
                return;
            }
        }
    }
}

/// Gives packets back when their time has come, all that are due with one word.
fn release(queue: &Queue, receiver: &Receiver<Held>) {
    let mut next: Option<Held> = None;
    loop {
        let (mut packet, due) = match next.take() {
            Some(held) => held,
            None => match receiver.recv_timeout(NOTICE) {
                Ok(held) => held,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            },
        };
        if let Some(left) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(left);
        }
        let now = Instant::now();
        while let Ok(held) = receiver.try_recv() {
            if held.1 > now {
                next = Some(held);
                break;
            }
            packet = held.0;
        }
        queue.accept_up_to(packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_the_same_time_share_a_queue() {
        let queues = Way::usual().queues();
        let times: Vec<u128> = queues.values().map(|(time, _)| time.as_millis()).collect();
        assert_eq!(times, [20, 30, 40, 50]);
        let pairs: usize = queues.values().map(|(_, pairs)| pairs.len()).sum();
        assert_eq!(pairs, 12);
        assert!(Way::short().queues().is_empty());
    }

    #[test]
    fn a_long_way_is_as_long_as_asked() {
        let way = Way::long(Duration::from_millis(200));
        assert_eq!(
            way.to_middle[0] + way.to_middle[1],
            Duration::from_millis(200)
        );
    }

    #[test]
    fn ping_is_read() {
        let said = "64 bytes: icmp_seq=1 ttl=63 time=100.4 ms\n64 bytes: time=99.6 ms\n\n\
            3000 packets transmitted, 2763 received, 7.9% packet loss, time 3s\n";
        assert_eq!(times(said), [100.4, 99.6]);
        assert_eq!(lost(said), Some(7.9));
        assert_eq!(lost("nothing"), None);
    }

    #[test]
    fn every_pair_has_its_rule() {
        let text = rules(&Way::usual().queues());
        assert!(text.starts_with("*mangle\n") && text.ends_with("COMMIT\n"));
        assert!(text.contains("-i a+ -o b+ -j NFQUEUE --queue-num 4"));
        assert!(text.contains("-i srv+ -o relay+ -j NFQUEUE --queue-num 1"));
        assert_eq!(
            text.lines().filter(|line| line.starts_with("-A")).count(),
            12
        );
    }
}
