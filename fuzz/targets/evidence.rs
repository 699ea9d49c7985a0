#![no_main]

#[allow(dead_code)]
#[path = "../../tests/support/parsers.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::evidence(bytes));
