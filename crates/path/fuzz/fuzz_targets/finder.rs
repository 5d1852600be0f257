//! libFuzzer's door to the body `finder`. It refuses to do anything else.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    wayfare_path_fuzz::bodies::finder(bytes);
});
