//! A road's figures held to their bars. It refuses to let anything pass that a user would notice:
//! one lost datagram is one too many.

use crate::bench::tunnel::program::Program;
use crate::report::{Bar, Report};

use super::datagrams::Tally;
use super::road::Travelled;
use super::{First, Plan, transfer};

/// The longest time without a datagram, in seconds.
const STALL: f64 = 1.0;

/// What of the offered bytes must have arrived by the end of a stream: some are on their way.
const CARRIED: f64 = 0.95;

const NONE: Bar = Bar::Exactly(0.0);

const DATAGRAMS: &str = "datagrams";

/// The figures of one peer, in their order.
const FIGURES: [&str; 7] = [
    "lost",
    "rekeys",
    "stalled_s",
    "tcp_carried",
    "tcp_retransmits",
    "late",
    "twice",
];

/// The names of everything that a run tells.
pub(super) fn names(plan: &Plan) -> Vec<String> {
    let of = |peer: &Program| FIGURES.map(|figure| name(figure, *peer));
    let figures = plan.peers.iter().flat_map(of);
    figures.chain(["left_behind".to_owned()]).collect()
}

fn name(figure: &str, peer: Program) -> String {
    format!("{figure}_{}", peer.name())
}

/// Adds the figures of one road.
pub(super) fn judge(report: &mut Report, plan: &Plan, road: &Travelled) {
    let mut add = |figure: &str, value: f64, unit: &str, bar: Bar, note: &str| {
        report.number(&name(figure, road.peer), Some(value), unit, &bar, note);
    };
    let [there, back] = &road.datagrams;
    let sum = |figure: fn(&Tally) -> u64| (figure(there) + figure(back)) as f64;
    let note = lost(plan, road);
    add("lost", sum(Tally::lost), DATAGRAMS, NONE, &note);

    let first = match road.first {
        First::Ours => "ours sent first",
        First::Theirs => "theirs sent first",
    };
    let [ours, theirs] = road.begun;
    let note = format!("{first}; handshakes begun: {ours} by ours, {theirs} by theirs");
    let bar = Bar::AtLeast((plan.minutes / 2) as f64);
    add("rekeys", road.rekeys as f64, "rekeys", bar, &note);

    let gap = there.gap.max(back.gap);
    let note = format!("it ended {:.1} s after the beginning", gap.1.as_secs_f64());
    let stalled = gap.0.as_secs_f64();
    add("stalled_s", stalled, "s", Bar::AtMost(STALL), &note);

    let [from, to] = road.carried.parts;
    let offer = transfer::MBPS;
    let note = format!("of {offer} Mb/s each way: {from:.4} from ours, {to:.4} to ours");
    let bar = Bar::AtLeast(CARRIED);
    add("tcp_carried", from.min(to), "of the offer", bar, &note);

    let [ours, theirs] = road.carried.again;
    let note = format!("{ours} by ours, {theirs} by theirs; {}", dropped(road));
    let bar = Bar::Measured;
    add("tcp_retransmits", ours + theirs, "segments", bar, &note);

    let note = "after one that was sent later";
    add("late", sum(|one| one.late), DATAGRAMS, Bar::Measured, note);
    let note = "or of another length than sent";
    let twice = sum(|one| one.twice + one.strange);
    add("twice", twice, DATAGRAMS, NONE, note);
}

fn lost(plan: &Plan, road: &Travelled) -> String {
    let [there, back] = &road.datagrams;
    let ours = if plan.alone { "the peer" } else { "ours" };
    let mut words = format!("of {} from {ours} and {} to it", there.sent, back.sent);
    for (way, tally) in [("from", there), ("to", back)] {
        if tally.lost() > 0 {
            words += &format!("; {} {way} it: {}", tally.lost(), tally.told());
        }
    }
    if there.lost() + back.lost() > 0 {
        words += &format!("; {}", dropped(road));
    }
    words
}

/// Of both kinds of traffic together.
fn dropped(road: &Travelled) -> String {
    let [left, right] = road.losses;
    format!(
        "the kernel dropped for full queues: at ours {} of the device and {} of sockets, at theirs {} and {}",
        left.device, left.socket, right.device, right.socket
    )
}

#[cfg(test)]
mod tests {
    use super::super::losses::Losses;
    use super::super::transfer::Carried;
    use super::*;
    use crate::cli::Given;

    fn judged(there: &[u64], rekeys: u64) -> (Vec<String>, Vec<String>) {
        let plan = Plan::read(&Given::of(&[("--peers", "gotatun")])).unwrap();
        let road = Travelled {
            peer: Program::Gotatun,
            first: First::Theirs,
            datagrams: [Tally::of(there, 3), Tally::of(&[0, 1], 2)],
            carried: Carried {
                parts: [1.0, 0.99],
                again: [1.0, 0.0],
            },
            rekeys,
            begun: [1, 15],
            losses: [Losses::default(); 2],
        };
        let mut report = Report::begin("soak");
        judge(&mut report, &plan, &road);
        let all: Vec<String> = report.checks.iter().map(|one| one.name.clone()).collect();
        assert_eq!(
            all[..],
            names(&plan)[..all.len()],
            "what is told is promised"
        );
        let missed = report.missed().map(|one| one.name.clone()).collect();
        let notes = report.checks.iter().map(|one| one.note.clone()).collect();
        (missed, notes)
    }

    #[test]
    fn a_whole_road_meets_every_bar() {
        let (missed, notes) = judged(&[0, 1, 2], 15);
        assert_eq!(missed, Vec::<String>::new());
        assert_eq!(notes[0], "of 3 from ours and 2 to it");
    }

    #[test]
    fn one_lost_datagram_is_one_too_many() {
        let (missed, notes) = judged(&[0, 2], 15);
        assert_eq!(missed, ["lost_gotatun"]);
        assert!(notes[0].contains("1 from it: 1 at 0.0 s; the kernel dropped"));
    }

    #[test]
    fn a_rekey_too_few_and_a_repetition_are_told() {
        let (missed, _) = judged(&[0, 1, 1, 2], 14);
        assert_eq!(missed, ["rekeys_gotatun", "twice_gotatun"]);
    }
}
