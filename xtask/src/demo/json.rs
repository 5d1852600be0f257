//! Fields of the programs' JSON, or an error that names the field and shows what there was. It
//! refuses to make up a value for a missing one.

use anyhow::{Context as _, anyhow};
use serde_json::Value;

/// A text.
///
/// # Errors
/// When it is missing or something else.
pub fn text(value: &Value, name: &str) -> anyhow::Result<String> {
    let text = value[name].as_str().map(str::to_owned);
    text.with_context(|| format!("no text `{name}` in {value}"))
}

/// An amount in smallest units: a decimal string, below 2^127 here.
///
/// # Errors
/// When it is missing or something else.
pub fn amount(value: &Value, name: &str) -> anyhow::Result<i128> {
    let text = text(value, name)?;
    text.parse()
        .map_err(|_| anyhow!("`{name}` is no amount in {value}"))
}

/// A number.
///
/// # Errors
/// When it is missing or something else.
pub fn number(value: &Value, name: &str) -> anyhow::Result<f64> {
    let number = value[name].as_f64();
    number.with_context(|| format!("no number `{name}` in {value}"))
}

/// The documents in `text`, one a line; lines that are none are logs.
pub fn documents(text: &str) -> Vec<Value> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().filter(|line| line.starts_with('{'));
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn missing_fields_are_named() {
        let value = json!({"a": "12", "b": 3});
        assert_eq!(amount(&value, "a").unwrap(), 12);
        assert!((number(&value, "b").unwrap() - 3.0).abs() < f64::EPSILON);
        for error in [
            text(&value, "b").unwrap_err(),
            amount(&value, "c").unwrap_err(),
            number(&value, "a").unwrap_err(),
        ] {
            assert!(error.to_string().contains("\"a\":\"12\""), "{error}");
        }
    }

    #[test]
    fn half_lines_and_logs_are_no_documents() {
        let said = "2026 INFO x\n{\"event\":\"a\"}\n{broken\n{\"event\":\"b\"}\n{\"event\":";
        assert_eq!(documents(said).len(), 2);
    }
}
