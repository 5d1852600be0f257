//! `lab`: the smallest laboratory, held open for a person. It refuses to do anything in it.

use std::time::Duration;

use super::{End, Lab, pause};
use crate::cli::{Given, Outcome};
use crate::progress::{say, step};

/// Long enough for a day's trying; a wait without end would outlive its terminal.
const HOLD: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs the subcommand.
///
/// # Errors
/// Without root, or [`crate::interrupt::Interrupted`], which is how it is meant to end.
pub fn run(_: &Given) -> anyhow::Result<Outcome> {
    let lab = Lab::open()?;
    step(&format!("opened {}", lab.name()));
    let left = lab.namespace("left")?;
    step("made left");
    let right = lab.namespace("right")?;
    step("made right");
    lab.cable(
        &End {
            at: &left,
            interface: "eth0",
            addresses: &["10.77.0.1/24", "fd77::1/64"],
        },
        &End {
            at: &right,
            interface: "eth0",
            addresses: &["10.77.0.2/24", "fd77::2/64"],
        },
    )?;
    step("cabled");
    let _sleeper = right.spawn("sleeper", "sleep", [HOLD.as_secs().to_string()])?;
    step("holding; Ctrl-C ends it");
    say(&format!("  ip netns exec {} ping 10.77.0.2", left.name()));
    pause(HOLD)?;
    let left = lab.close()?;
    Ok(Outcome::from_held(left.count() == 0))
}
