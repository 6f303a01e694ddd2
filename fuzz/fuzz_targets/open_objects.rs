#![no_main]
//! libFuzzer's way into `ringway_fuzz::open_objects`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringway_fuzz::open_objects::run(bytes));
