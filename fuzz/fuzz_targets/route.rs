#![no_main]
//! libFuzzer's way into `ringway_fuzz::route`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringway_fuzz::route::run(bytes));
