#![no_main]
//! libFuzzer's way into `ringway_fuzz::canary`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringway_fuzz::canary::run(bytes));
