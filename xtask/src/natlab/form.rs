//! How much is asked of a cell, and how strictly it is judged. It refuses to let the short form
//! promise what a busy build machine cannot measure: that form judges what was reached and by which
//! way, never how long it took.

use super::cell::{Cell, Class};

/// Runs of a cell, where nobody says how many.
const RUNS: u64 = 20;

/// The same in the short form: a second one shows that the first left nothing behind.
const SHORT_RUNS: u64 = 2;

/// Runs of a cell that measure throughput, too, where there is a bar for it: it is a property of the
/// path, not of the attempt.
const STREAMED: u64 = 3;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    runs: u64,
    /// Whether it is the build machine's.
    pub short: bool,
}

impl Form {
    /// The whole matrix' form or the short one, with so many runs of a cell or the usual number.
    pub fn new(short: bool, runs: Option<u64>) -> Self {
        let usual = if short { SHORT_RUNS } else { RUNS };
        Self {
            runs: runs.unwrap_or(usual),
            short,
        }
    }

    /// Runs of this cell. Where chance decides there are twice as many in the whole matrix: of 20, a
    /// single miss could not be told from three in a hundred.
    pub fn runs_of(self, cell: &Cell) -> u64 {
        match cell.class() {
            Class::Birthday if self.runs >= RUNS => self.runs * 2,
            _ => self.runs,
        }
    }

    /// How many of them measure throughput.
    pub fn streams_of(self, cell: &Cell) -> u64 {
        match (self.short, cell.bars().mbps) {
            (true, _) => 0,
            (false, Some(_)) => STREAMED,
            // Nothing is held to it; once is enough to be told.
            (false, None) => 1,
        }
    }

    /// Least share of a cell's runs that end up direct.
    pub fn direct_bar(self, cell: &Cell) -> f64 {
        let bar = cell.bars().direct;
        match cell.class() {
            // Two runs are no statistics.
            Class::Predicted | Class::Birthday if self.short => bar.min(0.5),
            _ => bar,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(name: &str) -> Cell {
        name.parse().unwrap()
    }

    #[test]
    fn chance_is_asked_more_often() {
        let whole = Form::new(false, None);
        assert_eq!(whole.runs_of(&cell("pr:pr")), 20);
        assert_eq!(whole.runs_of(&cell("pr:sym")), 40);
        assert_eq!(Form::new(false, Some(3)).runs_of(&cell("pr:sym")), 3);
        assert_eq!(Form::new(true, None).runs_of(&cell("pr:sym")), 2);
    }

    #[test]
    fn throughput_is_measured_where_it_is_judged_and_never_in_the_short_form() {
        let whole = Form::new(false, None);
        assert_eq!(whole.streams_of(&cell("sym:sym")), 3);
        assert_eq!(whole.streams_of(&cell("pr:pr")), 1);
        assert_eq!(Form::new(true, None).streams_of(&cell("sym:sym")), 0);
    }

    #[test]
    fn the_short_form_forgives_chance_and_nothing_else() {
        let (short, whole) = (Form::new(true, None), Form::new(false, None));
        for (name, at_short, at_whole) in [
            ("pr:pr", 1.0, 1.0),
            ("sym:upnp:adm", 1.0, 1.0),
            ("pr:sym", 0.5, 0.97),
            ("pr:symseq", 0.5, 0.98),
            ("sym:sym", 0.0, 0.0),
        ] {
            let bars = [short, whole].map(|form| form.direct_bar(&cell(name)));
            assert_eq!(bars, [at_short, at_whole], "{name}");
        }
    }
}
