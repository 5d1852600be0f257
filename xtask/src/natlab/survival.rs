//! Downloads that survive: one file through the tunnel, its checksum known, and in the middle of it
//! something happens to the way. It refuses to help the product along: no program is restarted,
//! and a session that had to be replaced counts as missed.

mod events;
mod judge;
mod origin;
mod scenario;
mod scene;
mod watch;

use std::time::Instant;

use anyhow::{Context as _, ensure};

use crate::cli::{Given, Outcome};
use crate::demo::programs::Programs;
use crate::demo::{close_report, in_lab};
use crate::interrupt::Interrupted;
use crate::lab::{Lab, Leftovers};
use crate::process::last_lines;
use crate::progress::step;
use crate::report::Report;

use super::delay::Way;
use super::probe;
use super::services::Services;
use super::trial::{Ground, Road, reason};
use super::world::World;

use origin::Origin;
use scenario::{SCENARIOS, Scenario};

/// Runs `natlab --survive`.
///
/// # Errors
/// When a part does not work at all, or on a signal.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    let scenarios = chosen(&given.rest)?;
    let programs = Programs::at_hand(given.value("--programs"))?;
    let mut report = Report::begin("natlab --survive");
    let begun = Instant::now();
    let told = in_lab(given, &mut report, |lab, report| {
        all(lab, &programs, &scenarios, report)
    });
    let names = judge::names(&scenarios);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    close_report(given, report, &names, told, begun)
}

pub use origin::run as origin;

fn all(
    lab: &Lab,
    programs: &Programs,
    scenarios: &[Scenario],
    report: &mut Report,
) -> anyhow::Result<Vec<Leftovers>> {
    let world = World::build(lab)?;
    let mut server = probe::serve(&world)?;
    let services = Services::start(lab, &world, programs)?;
    ensure!(
        services.relays.is_some(),
        "these programs know no relays; there is nothing to survive on"
    );
    let mut origin = Origin::start(&world, lab.folder())?;
    let mut road = Road::default();
    road.lay(&world, &Way::usual())?;
    let mut ground = Ground {
        lab,
        world,
        services,
        road,
    };
    for scenario in scenarios {
        step(&format!("{}: {}", scenario.name, scenario.story));
        let told = match scene::play(&mut ground, &origin, scenario) {
            Ok(told) => Ok(told),
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                let why = reason(&format!("{error:#}"));
                step(&format!("{} has no result: {why}", scenario.name));
                server.must_live()?;
                origin.must_live()?;
                Err(last_lines(&why, 4))
            }
        };
        judge::add(report, scenario, told.as_ref().map_err(String::as_str));
        ground.services.must_live()?;
    }
    Ok(Vec::new())
}

/// The scenarios of these names, several to a word with commas; every one when none is named.
fn chosen(words: &[String]) -> anyhow::Result<Vec<Scenario>> {
    let names: Vec<&str> = words.iter().flat_map(|word| word.split(',')).collect();
    if names.is_empty() {
        return Ok(SCENARIOS.to_vec());
    }
    let find = |name: &&str| {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == *name);
        found.copied().with_context(|| {
            let all: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            format!("`{name}` is none of {}", all.join(", "))
        })
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_named_and_none_means_all() {
        let chosen = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            chosen(&words).map(|all| all.iter().map(|one| one.name).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&[]).unwrap().len(), SCENARIOS.len());
        let some = chosen(&["silence,nat-reboot", "relay-killed"]).unwrap();
        assert_eq!(some, ["silence", "nat-reboot", "relay-killed"]);
        let error = chosen(&["flood"]).unwrap_err().to_string();
        assert!(error.contains("relay-to-direct"), "{error}");
    }
}
