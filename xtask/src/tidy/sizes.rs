//! Headers and sizes. It refuses to count anything but lines.

use super::Violation;
use super::source::Source;

const FILE_SOFT: usize = 400;
const FILE_HARD: usize = 800;
const MAIN_HARD: usize = 120;
const FUNCTION_SOFT: usize = 60;
const FUNCTION_HARD: usize = 120;

/// The first line is a `//!`.
pub(super) fn header(source: &Source) -> Vec<Violation> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    let message = "the first line is no `//!`: say what the file is and what it refuses to do";
    vec![Violation::new(
        &source.path,
        1,
        "header",
        message.to_owned(),
    )]
}

/// Lines of a file.
pub(super) fn files(source: &Source) -> Vec<Violation> {
    let lines = source.text.lines().count();
    let is_main = source.path.ends_with("src/main.rs");
    let hard = if is_main { MAIN_HARD } else { FILE_HARD };
    let told = |limit| format!("{lines} lines, the limit is {limit}");
    if lines > hard {
        return vec![Violation::new(
            &source.path,
            hard + 1,
            "file-size",
            told(hard),
        )];
    }
    if lines > FILE_SOFT {
        let message = format!("{lines} lines: look for the second story");
        return vec![Violation::warning(
            &source.path,
            FILE_SOFT + 1,
            "file-size",
            message,
        )];
    }
    Vec::new()
}

/// Lines of each function, from `fn` to its closing brace.
pub(super) fn functions(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for function in source.functions() {
        let (name, lines) = (&function.name, function.lines);
        let message = format!("`{name}` has {lines} lines, the limit is {FUNCTION_HARD}");
        let (path, line) = (&source.path, function.line);
        if lines > FUNCTION_HARD {
            found.push(Violation::new(path, line, "function-size", message));
        } else if lines > FUNCTION_SOFT {
            found.push(Violation::warning(path, line, "function-size", message));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_lines(path: &str, lines: usize) -> Source {
        Source::new(path, "//! x\n".repeat(lines))
    }

    #[test]
    fn headers_are_on_the_first_line() {
        assert!(header(&of_lines("a.rs", 1)).is_empty());
        for text in ["use a;\n//! late", "", "\n//! late", "// not inner"] {
            assert_eq!(
                header(&Source::new("a.rs", text.to_owned())).len(),
                1,
                "{text}"
            );
        }
    }

    #[test]
    fn files_warn_then_fail() {
        for (path, lines, judged) in [
            ("a.rs", FILE_SOFT, None),
            ("a.rs", FILE_SOFT + 1, Some(true)),
            ("a.rs", FILE_HARD, Some(true)),
            ("a.rs", FILE_HARD + 1, Some(false)),
            ("x/src/main.rs", MAIN_HARD, None),
            ("x/src/main.rs", MAIN_HARD + 1, Some(false)),
        ] {
            let found = files(&of_lines(path, lines));
            let warned = found.first().map(|violation| violation.warning);
            assert_eq!(warned, judged, "{path} with {lines}");
        }
    }

    #[test]
    fn functions_warn_then_fail() {
        for (lines, judged) in [
            (FUNCTION_SOFT, None),
            (FUNCTION_SOFT + 1, Some(true)),
            (FUNCTION_HARD + 1, Some(false)),
        ] {
            let text = format!("fn f() {{\n{}}}\n", "a();\n".repeat(lines - 2));
            let found = functions(&Source::new("a.rs", text));
            let warned = found.first().map(|violation| violation.warning);
            assert_eq!(warned, judged, "{lines}");
        }
    }
}
