//! libFuzzer's door to the body `offer`. It refuses to do anything else.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    wayfare_path_fuzz::bodies::offer(bytes);
});
