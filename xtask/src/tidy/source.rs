//! A Rust file as the rules see it: its text, and the same text with comments, strings and
//! character literals blanked, line for line. It refuses to parse: a scanner is enough for these
//! rules, and a mistake of it is seen as a false alarm, not as silence.

use std::ops::RangeInclusive;

/// One Rust file.
#[derive(Debug)]
pub(super) struct Source {
    /// Relative to the root.
    pub(super) path: String,
    pub(super) text: String,
    /// As long as `text` in lines, with everything that is no code made blank.
    pub(super) code: String,
    /// Lines, from 1, inside `#[cfg(test)]` items.
    tests: Vec<RangeInclusive<usize>>,
}

/// A function found in the code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// Line of its `fn`, from 1.
    pub(super) line: usize,
    /// Lines from its `fn` to its closing brace.
    pub(super) lines: usize,
}

impl Source {
    pub(super) fn new(path: &str, text: String) -> Self {
        let code = blank(&text);
        let mut source = Self {
            path: path.to_owned(),
            text,
            code,
            tests: Vec::new(),
        };
        source.tests = source.test_items();
        source
    }

    /// The room of a file under `crates/`, if any.
    pub(super) fn room(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }

    /// Whether this line belongs to tests: a test file, or inside `#[cfg(test)]`.
    pub(super) fn is_test(&self, line: usize) -> bool {
        self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
            || self.tests.iter().any(|lines| lines.contains(&line))
    }

    /// Places, as (line, offset in the code), of `word` standing by itself: not a part of a longer
    /// identifier or path segment.
    pub(super) fn places(&self, word: &str) -> Vec<(usize, usize)> {
        let whole = |at: usize| {
            let before = self.code[..at].chars().next_back();
            let after = self.code[at + word.len()..].chars().next();
            let starts = word.starts_with(is_name);
            let ends = word.ends_with(is_name);
            let longer_before = starts && before.is_some_and(is_name);
            let longer_after = ends && after.is_some_and(is_name);
            !longer_before && !longer_after
        };
        let places = self.code.match_indices(word).map(|(at, _)| at);
        places
            .filter(|at| whole(*at))
            .map(|at| (self.line(at), at))
            .collect()
    }

    /// The identifier that follows the word at `at`, if the next thing is one.
    pub(super) fn name_after(&self, at: usize, word: &str) -> Option<&str> {
        let rest = self.code[at + word.len()..].trim_start();
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let name = &rest[..end];
        name.starts_with(|c: char| c.is_alphabetic() || c == '_')
            .then_some(name)
    }

    /// Whether anything but blanks stands before `at` on its line.
    pub(super) fn is_indented(&self, at: usize) -> bool {
        let start = self.code[..at].rfind('\n').map_or(0, |newline| newline + 1);
        self.code[start..at].starts_with(' ')
    }

    /// Every function with a body.
    pub(super) fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for (line, at) in self.places("fn") {
            let Some(name) = self.name_after(at, "fn") else {
                continue;
            };
            let Some(open) = self.body(at) else { continue };
            let last = self.line(self.closing(open));
            functions.push(Function {
                name: name.to_owned(),
                line,
                lines: last - line + 1,
            });
        }
        functions
    }

    fn test_items(&self) -> Vec<RangeInclusive<usize>> {
        let marks = ["#[cfg(test)]", "#![cfg(test)]", "#[cfg(all(test"];
        let mut items = Vec::new();
        for at in marks.iter().flat_map(|mark| self.code.match_indices(mark)) {
            let (at, mark) = at;
            let first = self.line(at);
            if mark.starts_with("#!") {
                items.push(first..=usize::MAX);
            } else if let Some(open) = self.body(at + mark.len()) {
                items.push(first..=self.line(self.closing(open)));
            }
        }
        items
    }

    /// The `{` that opens the body of the item that begins at `at`; none when a `;` ends it first.
    fn body(&self, at: usize) -> Option<usize> {
        let mut nested = 0_usize;
        for (offset, byte) in self.code[at..].bytes().enumerate() {
            match byte {
                b'(' | b'[' => nested += 1,
                b')' | b']' => nested = nested.saturating_sub(1),
                b'{' if nested == 0 => return Some(at + offset),
                b';' if nested == 0 => return None,
                _ => {}
            }
        }
        None
    }

    /// The `}` that closes the `{` at `open`, or the end of the file.
    fn closing(&self, open: usize) -> usize {
        let mut nested = 0_usize;
        for (offset, byte) in self.code[open..].bytes().enumerate() {
            match byte {
                b'{' => nested += 1,
                b'}' => nested -= 1,
                _ => {}
            }
            if nested == 0 {
                return open + offset;
            }
        }
        self.code.len()
    }

    fn line(&self, at: usize) -> usize {
        self.code[..at]
            .bytes()
            .filter(|byte| *byte == b'\n')
            .count()
            + 1
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Blanks comments, strings and character literals, keeping every newline.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
            continue;
        }
        code.extend(
            chars[at..end]
                .iter()
                .map(|c| if *c == '\n' { '\n' } else { ' ' }),
        );
        at = end;
    }
    code
}

/// The end of the comment or literal that begins at `at`; `at` itself when none does.
fn skip(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    match (chars[at], next) {
        ('/', Some('/')) => end_of_line(chars, at),
        ('/', Some('*')) => end_of_comment(chars, at),
        ('"', _) => end_of_string(chars, at),
        ('\'', _) => end_of_char(chars, at),
        ('r', Some('"' | '#')) if begins_word(chars, at) => end_of_raw(chars, at),
        _ => at,
    }
}

/// Whether no identifier runs into `at`, other than the `b` or `c` of a byte or C string.
fn begins_word(chars: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|at| chars[at]);
    match before(1) {
        Some('b' | 'c') => !before(2).is_some_and(is_name),
        Some(c) => !is_name(c),
        None => true,
    }
}

fn end_of_line(chars: &[char], at: usize) -> usize {
    let rest = chars[at..].iter().position(|c| *c == '\n');
    rest.map_or(chars.len(), |length| at + length)
}

fn end_of_comment(chars: &[char], at: usize) -> usize {
    let mut nested = 0_usize;
    let mut at = at;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => nested += 1,
            ('*', '/') => nested -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if nested == 0 {
            return at;
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], at: usize) -> usize {
    let mut at = at + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// A character literal, as opposed to a lifetime: `'x'`, `'\n'`, `'\u{1F600}'`.
fn end_of_char(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), Some(_)) => {
            let rest = chars[(at + 3).min(chars.len())..]
                .iter()
                .position(|c| *c == '\'');
            rest.map_or(chars.len(), |length| at + 3 + length + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

/// A raw string; a raw identifier (`r#type`) is none and is left alone.
fn end_of_raw(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return at;
    }
    let mut close = open + 1;
    while close < chars.len() {
        let trailing = chars[close + 1..].iter().take(hashes);
        if chars[close] == '"' && trailing.filter(|c| **c == '#').count() == hashes {
            return close + 1 + hashes;
        }
        close += 1;
    }
    chars.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        let blanked = blank(text);
        blanked.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_no_code_is_blank() {
        for (text, left) in [
            ("a // b\nc", "a c"),
            ("a /* b /* c */ d */ e", "a e"),
            ("f(\"x // \\\" y\") g", "f( ) g"),
            ("r#\"a \" b\"# c", "c"),
            ("br\"a\\\" b", "b b"),
            ("'\\'' 'x' '\"' &'a str", "&'a str"),
            ("r#type x", "r#type x"),
            ("'\\u{41}' y", "y"),
            ("for\"s\" z", "for z"),
        ] {
            assert_eq!(code(text), left, "{text}");
        }
    }

    #[test]
    fn lines_stay_where_they_are() {
        let source = Source::new("a.rs", "/* 1\n2 */ let x = \"\n\";\nfn f() {}\n".to_owned());
        assert_eq!(source.code.lines().count(), source.text.lines().count());
        assert_eq!(source.functions()[0].line, 4);
    }

    #[test]
    fn words_are_whole() {
        let source = Source::new("a.rs", "grand::x; rand::y; fs::z; offs::w".to_owned());
        assert_eq!(source.places("rand::").len(), 1);
        assert_eq!(source.places("fs::").len(), 1);
    }

    #[test]
    fn functions_are_measured_to_their_brace() {
        let text = "trait T { fn g(); }\nfn f(a: [u8; 3]) -> u8 {\n  if a { 1 } else { 2 }\n}\n";
        let source = Source::new("a.rs", text.to_owned());
        let expected = Function {
            name: "f".to_owned(),
            line: 2,
            lines: 3,
        };
        assert_eq!(source.functions(), [expected]);
    }

    #[test]
    fn tests_are_told_from_the_rest() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n";
        let source = Source::new("crates/x/src/a.rs", text.to_owned());
        let tests: Vec<usize> = (1..=6).filter(|line| source.is_test(*line)).collect();
        assert_eq!(tests, [2, 3, 4, 5]);
        assert!(Source::new("crates/x/tests/a.rs", String::new()).is_test(1));
        let declared = "#[cfg(test)]\nmod tests;\nfn c() {}\n".to_owned();
        assert!(!Source::new("crates/x/src/a.rs", declared).is_test(3));
    }
}
