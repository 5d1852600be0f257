//! libFuzzer's door to the body `topic`. It refuses to do anything else.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    wayfare_nat_fuzz::run("topic", bytes);
});
