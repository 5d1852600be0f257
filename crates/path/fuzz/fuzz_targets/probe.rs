//! libFuzzer's door to the body `probe`. It refuses to do anything else.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    wayfare_path_fuzz::bodies::probe(bytes);
});
