#![no_main]
//! libFuzzer's way into `ringway_fuzz::sealed`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringway_fuzz::sealed::run(bytes));
