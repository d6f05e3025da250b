#![no_main]

#[path = "../checks/mod.rs"]
#[allow(dead_code)] // Each target uses one of them.
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::tenants::check(bytes));
