#![no_main]
//! libFuzzer's way into `ringway_fuzz::frame`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringway_fuzz::frame::run(bytes));
