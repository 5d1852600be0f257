//! `bench budget`: where a byte's processor time goes. One stream over the bare cable, one through
//! our tunnel with `perf` looking on, the bare cipher; then every sample counts for one stage, and
//! a stage's share of the machine's time is told in nanoseconds a byte. With `--svg FILE` the same
//! samples are drawn as a flame graph.
//!
//! The programs are built with frame pointers, so that stacks are whole. It refuses to judge:
//! samples say where time goes, not how much a bar allows.

mod stage;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::latency::Echo;
use super::link::{Link, RIGHT};
use super::pair::{Pair, Sides};
use super::program::{self, Program};
use super::spread::rounded;
use super::streams::{self, Server, Shape, Stream};
use crate::cli::{Given, Outcome};
use crate::demo::{close_report, in_lab};
use crate::lab::{Lab, pause};
use crate::need;
use crate::process::{capture, command, output};
use crate::progress::{out, step};
use crate::report::{Bar, Report};

use stage::{Samples, Stage};

/// What the report tells of a run that did not come to its end.
const CHECKS: &[&str] = &["machine_ns_per_byte", "left_behind"];

/// Samples a second on each processor; not a divisor of what the kernel does by the clock.
const RATE: &str = "997";

/// Before the first sample, and after the last one: streams begin and end.
const EDGE: Duration = Duration::from_secs(1);

/// For reading, folding and drawing the samples of a run.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs it.
///
/// # Errors
/// When a tool is missing or the streams do not run, or [`crate::interrupt::Interrupted`].
pub(in crate::bench) fn run(given: &Given) -> anyhow::Result<Outcome> {
    let seconds = given.number("--seconds", 8)?;
    ensure!((4..=60).contains(&seconds), "--seconds takes 4 to 60");
    need::need(&["ip", "wg", "iperf3", "perf", "inferno-flamegraph"])?;
    let ours = match given.value("--programs") {
        Some(folder) => Program::Wayfare.file(Some(folder))?,
        None => Some(program::with_frame_pointers()?),
    };
    let ours = ours.context("our program has no file")?;
    let swarm = program::swarm(given.value("--programs"))?;
    let svg = given.value("--svg").map(std::path::absolute).transpose()?;
    let begun = Instant::now();
    let mut report = Report::begin("bench budget");
    let told = in_lab(given, &mut report, |lab, report| {
        let cipher = program::seal_and_open(&swarm)?;
        let bench = Bench { lab, seconds };
        let (cable, ours, folded) = bench.streams(&ours)?;
        tell(report, cipher, &cable, &ours, &Samples::read(&folded))?;
        if let Some(svg) = &svg {
            draw(lab, &folded, svg)?;
            step(&format!("flame graph: {}", svg.display()));
        }
        Ok(Vec::new())
    });
    close_report(given, report, CHECKS, told, begun)
}

struct Bench<'a> {
    lab: &'a Lab,
    seconds: u64,
}

impl Bench<'_> {
    /// The stream over the cable, the one through our tunnel, and its folded samples.
    fn streams(&self, ours: &Path) -> anyhow::Result<(Stream, Stream, String)> {
        let link = Link::build(self.lab)?;
        let sides = Sides::new(self.lab, &link, ["l", "r"])?;
        let shape = Shape {
            streams: 1,
            reverse: false,
        };
        let (left, right) = (&sides.left.at, &sides.right.at);
        let _server = Server::start(right, "iperf3")?;
        step("one stream over the cable");
        let cable = streams::run(left, RIGHT, shape, self.seconds, &[])?;
        let _echo = Echo::start(right)?;
        let pair = Pair::start(Program::Wayfare, Some(ours), &sides, self.lab)?;
        step("one stream through the tunnel, with samples");
        let file = self.lab.folder().join("perf.data");
        let (stream, sampled) = thread::scope(|scope| {
            let sampled = scope.spawn(|| sample(&file, self.seconds));
            let processes = pair.processes();
            let stream = streams::run(left, pair.to, shape, self.seconds, &processes);
            (stream, sampled.join())
        });
        sampled.map_err(|_| anyhow::anyhow!("the thread of `perf` panicked"))??;
        let stream = stream?;
        pair.stop()?;
        step("folding the samples");
        Ok((cable, stream, fold(self.lab, &file)?))
    }
}

/// Samples the whole machine while the stream is at its rate.
fn sample(file: &Path, seconds: u64) -> anyhow::Result<()> {
    pause(EDGE)?;
    let time = (Duration::from_secs(seconds) - 2 * EDGE)
        .as_secs()
        .to_string();
    let file = file.to_string_lossy();
    let words = ["record", "-q", "-a", "-g", "-F", RATE, "-o", &file];
    let words = words.into_iter().chain(["--", "sleep", &time]);
    output(
        &mut command("perf", words),
        Duration::from_secs(seconds) + PATIENCE,
    )?;
    Ok(())
}

/// One line for each stack: `program;outermost;…;innermost count`, the kernel's own marked.
fn fold(lab: &Lab, file: &Path) -> anyhow::Result<String> {
    let script = lab.folder().join("perf.script");
    let shell = "perf script -i \"$1\" -F comm,pid,time,event,ip,sym,dso > \"$2\"";
    let names = [file, &script].map(|path| path.to_string_lossy().into_owned());
    let words = ["-c", shell, "sh", &names[0], &names[1]];
    let said = capture(&mut command("sh", words), PATIENCE)?;
    ensure!(
        said.status.success(),
        "`perf script` failed: {}",
        said.stderr
    );
    let words = ["--kernel", &names[1]];
    output(&mut command("inferno-collapse-perf", words), PATIENCE)
}

/// Draws the stream's two ends and ours; what else the machine did is nobody's business.
fn draw(lab: &Lab, folded: &str, svg: &Path) -> anyhow::Result<()> {
    let file: PathBuf = lab.folder().join("folded");
    std::fs::write(&file, stage::of_the_stream(folded))
        .context("cannot write the folded samples")?;
    let file = file.to_string_lossy();
    let title = "One TCP stream through the tunnel, both ends on one machine";
    let words = ["--title", title, "--hash", "--minwidth", "0.2", &file];
    let drawn = output(&mut command("inferno-flamegraph", words), PATIENCE)?;
    std::fs::write(svg, drawn).with_context(|| format!("cannot write {}", svg.display()))
}

/// The table, and a check for each of its lines.
fn tell(
    report: &mut Report,
    cipher: f64,
    cable: &Stream,
    ours: &Stream,
    samples: &Samples,
) -> anyhow::Result<()> {
    let busy = samples.busy();
    ensure!(busy > 0, "there is no sample of anything");
    let mut table = String::from("\n| stage | ns/byte | share |\n|---|---:|---:|\n");
    for stage in Stage::ALL {
        let share = samples.of(stage) as f64 / busy as f64;
        let cost = share * ours.spent.machine;
        let line = format!(
            "| {} | {cost:.2} | {:.1} % |\n",
            stage.words(),
            share * 100.0
        );
        table += &line;
        report.number(
            stage.name(),
            Some(rounded(cost)),
            "ns/byte",
            &Bar::Measured,
            stage.words(),
        );
    }
    out(&format!("{table}\n"));
    let figures = [
        (
            "machine_ns_per_byte",
            ours.spent.machine,
            "all stages together",
        ),
        (
            "own_ns_per_byte",
            ours.spent.processes,
            "both tunnel processes",
        ),
        (
            "cipher_ns_per_byte",
            cipher,
            "sealing and opening, nothing else",
        ),
        (
            "cable_ns_per_byte",
            cable.spent.machine,
            "the same stream without a tunnel",
        ),
    ];
    for (name, value, note) in figures {
        report.number(name, Some(rounded(value)), "ns/byte", &Bar::Measured, note);
    }
    let rates = [("tunnel_gbps", ours.gbps), ("cable_gbps", cable.gbps)];
    for (name, value) in rates {
        report.number(name, Some(rounded(value)), "Gb/s", &Bar::Measured, "");
    }
    let idle = samples.of(Stage::Idle) as f64 / (busy + samples.of(Stage::Idle)) as f64;
    report.number(
        "idle",
        Some(rounded(idle)),
        "of all cores",
        &Bar::Measured,
        "",
    );
    Ok(())
}
