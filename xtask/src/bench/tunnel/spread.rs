//! Medians and spreads of a handful of values. It refuses means: one bad round of five would
//! carry through to the figure.

use std::fmt;

/// Some values, told by their middle and their ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::bench) struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub(in crate::bench) median: f64,
    pub(in crate::bench) low: f64,
    pub(in crate::bench) high: f64,
    /// How many.
    pub(in crate::bench) count: usize,
}

impl Spread {
    /// Of these values; none when there is none.
    pub(in crate::bench) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        Some(Self {
            median: middle(&sorted),
            low,
            high,
            count: sorted.len(),
        })
    }

    /// How far half of the values lie from the median, as a part of it: the median absolute
    /// deviation over the median. None for fewer than three values, of which it says nothing.
    pub(in crate::bench) fn unrest(values: &[f64]) -> Option<f64> {
        let median = Self::of(values).filter(|spread| spread.count >= 3)?.median;
        let away: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
        Self::of(&away).map(|away| away.median / median)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            low, high, count, ..
        } = self;
        write!(f, "{} .. {} in {count}", rounded(*low), rounded(*high))
    }
}

/// Three digits that say something.
pub(in crate::bench) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10_f64.powi(3 - value.abs().log10().ceil() as i32);
    (value * scale).round() / scale
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        return sorted[half];
    }
    f64::midpoint(sorted[half - 1], sorted[half])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_value_of_five_moves_nothing() {
        let spread = Spread::of(&[5.0, 4.0, 100.0, 6.0, 5.0]).unwrap();
        assert_eq!((spread.median, spread.low, spread.high), (5.0, 4.0, 100.0));
        assert_eq!(Spread::unrest(&[5.0, 4.0, 100.0, 6.0, 5.0]), Some(0.2));
        assert_eq!(Spread::of(&[1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn two_values_have_no_unrest() {
        assert_eq!(Spread::unrest(&[1.0, 2.0]), None);
        assert_eq!(Spread::unrest(&[1.0, 1.0, 1.0]), Some(0.0));
    }

    #[test]
    fn figures_are_told_with_three_digits() {
        for (value, told) in [
            (1234.5, 1230.0),
            (0.012_345, 0.0123),
            (9.999, 10.0),
            (0.0, 0.0),
            (-2.344, -2.34),
        ] {
            assert!((rounded(value) - told).abs() < 1e-9, "{value}");
        }
    }
}
