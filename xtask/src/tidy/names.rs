//! Names that say nothing, or say it twice. It refuses to judge taste beyond its two lists.

use super::Violation;
use super::source::Source;

/// No module or file is called one of these.
const EMPTY_MODULES: &[&str] = &[
    "core", "common", "types", "util", "utils", "helper", "helpers",
];

/// No type's name ends in one of these words.
const EMPTY_ENDINGS: &[&str] = &["Manager", "Helper", "Util", "Utils", "Data", "Info"];

/// Files, modules, types and functions of one file.
pub(super) fn check(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut break_rule = |line, message| {
        found.push(Violation::new(&source.path, line, "names", message));
    };
    let file = source.path.rsplit('/').next().unwrap_or_default();
    let stem = file.trim_end_matches(".rs");
    if file == "mod.rs" {
        break_rule(1, "`foo.rs` beside `foo/`, never `mod.rs`".to_owned());
    }
    if EMPTY_MODULES.contains(&stem) {
        break_rule(1, format!("a file called `{stem}` says nothing"));
    }
    for (line, at) in source.places("mod") {
        let name = source.name_after(at, "mod");
        if let Some(name) = name.filter(|name| EMPTY_MODULES.contains(name)) {
            break_rule(line, format!("a module called `{name}` says nothing"));
        }
    }
    for keyword in ["struct", "enum", "trait", "union", "type"] {
        for (line, at) in source.places(keyword) {
            // An indented `type` is an associated type, often of a foreign trait.
            if keyword == "type" && source.is_indented(at) {
                continue;
            }
            let name = source.name_after(at, keyword).unwrap_or_default();
            if EMPTY_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
                break_rule(line, format!("`{name}`: name what it does or holds"));
            }
        }
    }
    for (line, at) in source.places("fn") {
        if let Some(name) = source
            .name_after(at, "fn")
            .filter(|name| name.starts_with("get_"))
        {
            break_rule(line, format!("`{name}`: drop the `get_`"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&Source::new(path, text.to_owned())).len()
    }

    #[test]
    fn nouns_of_the_field_pass() {
        let text = "mod channel; struct Promise; enum Settlement {} trait Ledger {} fn amount() {}
            struct Database; fn getter() {} fn budget_left() {}
            impl Body for Stream { type Data = Bytes; }";
        assert_eq!(count("crates/payment/src/channel.rs", text), 0);
    }

    #[test]
    fn empty_names_fail() {
        for text in [
            "mod utils;",
            "pub(crate) mod common { }",
            "struct PeerManager;",
            "pub struct SessionInfo { }",
            "enum Data {}",
            "trait ConnectHelper {}",
            "type PeerData = u8;",
            "fn get_peer() {}",
        ] {
            assert_eq!(count("a.rs", text), 1, "{text}");
        }
    }

    #[test]
    fn files_are_named_too() {
        for path in ["a/src/mod.rs", "a/src/utils.rs", "a/src/types.rs"] {
            assert_eq!(count(path, ""), 1, "{path}");
        }
    }

    #[test]
    fn comments_and_strings_may_say_what_they_like() {
        assert_eq!(
            count("a.rs", "// struct PeerManager\nlet x = \"fn get_x()\";"),
            0
        );
    }
}
