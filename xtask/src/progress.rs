//! What a person sees while the workshop works: steps with the time since the start, and tables.
//! It refuses to fail: a closed terminal must not stop a clean-up half way.

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

static START: OnceLock<Instant> = OnceLock::new();

/// Time since the first step.
pub fn elapsed() -> Duration {
    START.get_or_init(Instant::now).elapsed()
}

/// Announces a step on stderr: `[  12.3 s] text`.
pub fn step(text: &str) {
    say(&format!("[{:>7.1} s] {text}", elapsed().as_secs_f64()));
}

/// One line on stderr.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// One line on stdout: results, as opposed to progress.
pub fn out(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Rows under a heading, columns aligned; cells that start with a digit or a sign are flush right.
/// Rows may be shorter than the heading.
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        longest.max(heading[column].chars().count())
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    let head: Vec<String> = heading.iter().map(|cell| (*cell).to_owned()).collect();
    let mut lines = vec![line(&head, &widths), rule.join("  ")];
    lines.extend(rows.iter().map(|row| line(row, &widths)));
    lines.join("\n")
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| {
        if cell.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '−')) {
            format!("{cell:>width$}")
        } else {
            format!("{cell:<width$}")
        }
    });
    let joined: Vec<String> = cells.collect();
    joined.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_left_numbers_right() {
        let rows = vec![
            vec!["consumer".to_owned(), "5".to_owned()],
            vec!["hermes".to_owned(), "1200".to_owned()],
        ];
        let shown = table(&["who", "before"], &rows);
        assert_eq!(
            shown,
            "who       before\n────────  ──────\nconsumer       5\nhermes      1200"
        );
    }

    #[test]
    fn short_rows_are_allowed() {
        let shown = table(&["a", "b"], &[vec!["x".to_owned()]]);
        assert!(shown.ends_with("\nx"));
    }
}
