//! Whatever text a policy holds as `where`: it is refused, or what is printed of it is one expression over quoted columns.
#![no_main]

use libfuzzer_sys::fuzz_target;
use retention_operator::{engine::postgres::print_predicate, policy::predicate::Predicate};

#[path = "../oracle.rs"]
mod oracle;

fuzz_target!(|source: &str| {
    let Ok(predicate) = Predicate::parse(source) else { return };
    let Ok(printed) = print_predicate(&predicate) else { return };
    if let Err(escape) = oracle::columns(&printed) {
        panic!("{source:?} was printed as {printed:?}, which holds {escape}");
    }
});
