#![no_main]
//! libFuzzer's way into `ringway_fuzz::config`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringway_fuzz::config::run(bytes));
