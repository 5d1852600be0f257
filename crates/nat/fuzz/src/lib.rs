//! The fuzz bodies of the crate above, by name: its parsers are private, so the bodies live beside them and are replayed by its
//! tests. It refuses bodies of its own.

/// Runs a body.
///
/// # Panics
/// What the fuzzer looks for, and a name that no body has.
pub fn run(target: &str, bytes: &[u8]) {
    let found = wayfare_nat::fuzzed::TARGETS.iter();
    let (_, body) = found
        .copied()
        .find(|(name, _)| *name == target)
        .expect("the door is named after its body");
    body(bytes);
}
