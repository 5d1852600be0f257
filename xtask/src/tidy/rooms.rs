//! The sans-IO line and the place of `unsafe`, by the words of the code. It refuses to trust a
//! comment: only code counts, and tests of the thinking rooms may read files and begin a clock.

use super::Violation;
use super::source::Source;
use super::table::THINKING;

/// What a thinking room does not say, with what it says instead.
const BANNED: &[(&str, &str)] = &[
    ("async", "no futures: emit an output and take an input"),
    (".await", "no futures: emit an output and take an input"),
    ("Instant::now", "`now` is an argument"),
    ("SystemTime::now", "`now` is an argument"),
    (".elapsed()", "`now` is an argument: subtract from it"),
    ("UNIX_EPOCH.", "wall time is an argument"),
    ("std::fs", "no files"),
    ("std::env", "no environment"),
    ("std::thread", "no threads"),
    ("std::process", "no processes"),
    ("fs::", "no files"),
    ("File::", "no files"),
    ("env::", "no environment"),
    ("thread::", "no threads"),
    ("process::", "no processes"),
    ("stdin()", "no streams"),
    ("stdout()", "no streams"),
    ("stderr()", "no streams"),
    ("print!", "no streams"),
    ("println!", "no streams"),
    ("eprint!", "no streams"),
    ("eprintln!", "no streams"),
    ("UdpSocket", "no sockets"),
    ("TcpStream", "no sockets"),
    ("TcpListener", "no sockets"),
    ("UnixStream", "no sockets"),
    ("tokio::", "no runtime"),
    ("rand::", "`seed` is an argument"),
    ("getrandom", "`seed` is an argument"),
    ("OsRng", "`seed` is an argument"),
    ("SystemRandom", "`seed` is an argument"),
    ("thread_rng", "`seed` is an argument"),
    (
        "RandomState",
        "`seed` is an argument, and order is visible: use a BTreeMap",
    ),
    ("tracing_subscriber", "no log subscriber"),
];

/// What tests of a thinking room may say after all: they read vectors, tell their seed, and an
/// `Instant` can only begin with the clock.
const TESTS_MAY: &[&str] = &[
    "std::fs",
    "std::env",
    "fs::",
    "File::",
    "env::",
    "Instant::now",
    "print!",
    "println!",
    "eprint!",
    "eprintln!",
];

/// Rooms that may hold `unsafe`.
const UNSAFE_ROOMS: &[&str] = &["transport", "ffi"];

/// Lines above an `unsafe` in which its `SAFETY:` is looked for.
const SAFETY_ABOVE: usize = 6;

/// The thinking rooms call no clock, chance, async or IO.
pub(super) fn sans_io(source: &Source) -> Vec<Violation> {
    let Some(room) = source.room().filter(|room| THINKING.contains(room)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (word, instead) in BANNED {
        for (line, _) in source.places(word) {
            if source.is_test(line) && TESTS_MAY.contains(word) {
                continue;
            }
            let message = format!("`{word}` in `{room}`: {instead}");
            found.push(Violation::new(&source.path, line, "sans-io", message));
        }
    }
    found
}

/// `unsafe` stays in its two rooms, each with its reason.
pub(super) fn no_unsafe(source: &Source) -> Vec<Violation> {
    let allowed = source
        .room()
        .is_some_and(|room| UNSAFE_ROOMS.contains(&room));
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (line, at) in source.places("unsafe") {
        if !allowed {
            let message = "`unsafe` belongs in transport and ffi only".to_owned();
            found.push(Violation::new(&source.path, line, "unsafe", message));
            continue;
        }
        let next = source.code[at + "unsafe".len()..].trim_start();
        let does = next.starts_with('{') || next.starts_with("impl");
        let near = &lines[line.saturating_sub(SAFETY_ABOVE + 1)..line];
        if does && !near.iter().any(|text| text.contains("SAFETY:")) {
            let message = "say in a `// SAFETY:` why this is sound".to_owned();
            found.push(Violation::new(&source.path, line, "unsafe", message));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::new(path, text.to_owned())
    }

    #[test]
    fn every_banned_word_is_seen_below_the_line_and_only_there() {
        for (word, _) in BANNED {
            let text = format!("fn f() {{ x {word} y }}");
            let text = text.replace("x .", "x.");
            assert!(
                !sans_io(&source("crates/tunnel/src/a.rs", &text)).is_empty(),
                "{word}"
            );
            assert!(
                sans_io(&source("crates/transport/src/a.rs", &text)).is_empty(),
                "{word}"
            );
        }
    }

    #[test]
    fn likenesses_are_no_false_alarm() {
        let text = "// Instant::now\nuse std::time::Instant; use std::net::SocketAddr;
            fn f(now: Instant, brand: Brand) { offs::g(); env!(\"X\"); let s = \"async\"; }";
        assert_eq!(sans_io(&source("crates/session/src/a.rs", text)), []);
    }

    #[test]
    fn tests_may_read_vectors_but_not_sleep() {
        let text = "#[cfg(test)]\nmod tests { fn v() { fs::read(x); Instant::now(); } }";
        assert_eq!(sans_io(&source("crates/payment/src/a.rs", text)), []);
        let text = "#[cfg(test)]\nmod tests { fn v() { thread::sleep(x); } }";
        assert_eq!(sans_io(&source("crates/payment/src/a.rs", text)).len(), 1);
    }

    #[test]
    fn unsafe_has_two_rooms_and_a_reason() {
        let bare = "fn f() { unsafe { g() } }";
        let told = "// SAFETY: g has no conditions\nfn f() { unsafe { g() } }";
        for (path, text, count) in [
            ("crates/transport/src/a.rs", told, 0),
            ("crates/transport/src/a.rs", bare, 1),
            ("crates/tunnel/src/a.rs", told, 1),
            ("bins/consumer/src/main.rs", told, 1),
            ("crates/tunnel/src/a.rs", "#![forbid(unsafe_code)]", 0),
        ] {
            assert_eq!(
                no_unsafe(&source(path, text)).len(),
                count,
                "{path}: {text}"
            );
        }
    }
}
