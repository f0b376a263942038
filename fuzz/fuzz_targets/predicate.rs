//! Whatever text a policy holds as `where`: it is refused, or what each engine prints of it is one expression over quoted columns.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use retention_operator::{engine, policy::predicate::Predicate};

#[path = "../judges/postgres.rs"]
mod postgres;
#[path = "../judges/run.rs"]
mod run;
#[path = "../judges/sqlite.rs"]
mod sqlite;

/// What columns declare, in turn.
const TYPES: &[&str] = &["TEXT", "INTEGER", "", "NUMERIC", "BOOLEAN", "BLOB", "TEXT COLLATE NOCASE", "JSON", "REAL", "DATE", "TIMESTAMP", "UUID", "CHAR(3)"];

fuzz_target!(|source: &str| {
    let Ok(predicate) = Predicate::parse(source) else { return };
    let Ok(printed) = engine::postgres::print_predicate(&predicate) else { return };
    let names = match postgres::columns(&printed) {
        Ok(names) => names,
        Err(escape) => panic!("{source:?} was printed for PostgreSQL as {printed:?}, which holds {escape}"),
    };
    // SQLite does not tell names apart by their case, and has no table without columns.
    let mut seen = BTreeSet::new();
    let names: Vec<&String> = names.iter().filter(|name| seen.insert(name.to_ascii_lowercase())).collect();
    // Which types they have differs from text to text.
    for shift in [source.len(), source.len() / 8] {
        let mut columns: Vec<(String, String)> = names
            .iter()
            .enumerate()
            .map(|(n, name)| ((*name).clone(), TYPES[(n + shift) % TYPES.len()].to_owned()))
            .collect();
        if columns.is_empty() {
            columns.push(("none".to_owned(), String::new()));
        }
        let Ok(printed) = engine::sqlite::print_predicate(&predicate, &columns) else { continue };
        for printed in printed {
            judge_sqlite(source, &printed, &columns, &seen);
        }
    }
});

fn judge_sqlite(source: &str, printed: &str, columns: &[(String, String)], seen: &BTreeSet<String>) {
    let read = match sqlite::columns(printed) {
        Ok(read) => read,
        Err(escape) => panic!("{source:?} was printed for SQLite as {printed:?}, which holds {escape}"),
    };
    let read: BTreeSet<String> = read.iter().map(|name| name.to_ascii_lowercase()).collect();
    assert_eq!(read, *seen, "{source:?} was printed for SQLite as {printed:?}");
    if let Err(refusal) = run::expression(printed, columns) {
        panic!("{source:?} was printed for SQLite as {printed:?}, with which it does not agree: {refusal}");
    }
}
