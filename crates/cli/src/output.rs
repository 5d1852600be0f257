//! Text for people, JSON lines for programs: the same facts.

use std::io::Write;

use serde::Serialize;

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// One JSON document per result instead of text.
    pub json: bool,
}

impl Output {
    /// Prints one result: `value` as JSON, or the lines that `text` makes of it.
    pub fn show<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) {
        let line = if self.json {
            serde_json::to_string(value)
                .unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
        } else {
            text(value)
        };
        // A reader that went away (a closed pipe) is no failure of ours.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}
