//! What the checks find in a SQLite file, in its own words: it has no autovacuum, no concurrent builds, and no sizes of tables.

use super::{Advice, Check, Facts, Finding, Severity, sql_name};

/// The checks that mean something there.
const CHECKS: [Check; 7] = [
    Check::DuplicateIndex,
    Check::RedundantIndex,
    Check::ForeignKeyWithoutIndex,
    Check::NoPrimaryKey,
    Check::EmptyTable,
    Check::NeverAnalyzed,
    Check::IntegerExhaustion,
];

/// The finding as it is true of a file; `None`: it is not.
pub(super) fn reworded(facts: &Facts, mut finding: Finding) -> Option<Finding> {
    if !CHECKS.contains(&finding.check) {
        return None;
    }
    let table = facts
        .tables
        .values()
        .find(|table| table.object() == finding.object)
        .map(|table| sql_name(&table.schema, &table.name));
    match finding.check {
        Check::DuplicateIndex | Check::RedundantIndex => {
            finding.evidence = begin(&finding.evidence, "; ");
            finding.estimated_bytes = None;
            finding.advice.text = begin(&finding.advice.text, "; ");
        }
        Check::ForeignKeyWithoutIndex => {
            finding.evidence = format!(
                "{} reads the whole table, for each row, where foreign keys are enforced",
                begin(&finding.evidence, ", or an UPDATE")
            );
            finding.severity = Severity::Info;
            "build the index; all other writers wait meanwhile"
                .clone_into(&mut finding.advice.text);
        }
        Check::NoPrimaryKey => {
            finding.severity = Severity::Info;
            "no primary key is declared: a hidden rowid tells rows apart, and VACUUM may give out other ones"
                .clone_into(&mut finding.evidence);
            finding.advice = Advice::words(
                "SQLite adds no primary key to a table that exists: make a new table with INTEGER PRIMARY KEY, copy the rows, and rename",
            );
        }
        Check::EmptyTable => {
            "it has no row".clone_into(&mut finding.evidence);
            finding.advice = Advice {
                text: "where nobody plans to use it: keep its definition (.schema), then drop it"
                    .to_owned(),
                apply: table.map(|name| format!("DROP TABLE {name};")),
                undo: None,
            };
        }
        Check::NeverAnalyzed => {
            "ANALYZE never counted its rows (sqlite_stat1), and there are a thousand or more"
                .clone_into(&mut finding.evidence);
            finding.advice = Advice {
                text: "let the application run PRAGMA optimize before it closes a connection; or analyse it once".to_owned(),
                apply: table.map(|name| format!("ANALYZE {name};")),
                undo: None,
            };
        }
        _ => {}
    }
    let advice = &mut finding.advice;
    if [&advice.apply, &advice.undo]
        .into_iter()
        .flatten()
        .any(|sql| sql.contains("CONSTRAINT"))
    {
        // What a constraint made goes only with its table.
        *advice = Advice::words(
            "it belongs to a constraint of the table's definition: leave the constraint out when the table is made anew",
        );
    }
    for sql in [&mut advice.apply, &mut advice.undo].into_iter().flatten() {
        *sql = sql
            .replace("INDEX CONCURRENTLY ", "INDEX ")
            // An index is in the file of its table: only its own name takes a schema.
            .replace(" ON \"main\".", " ON ");
    }
    Some(finding)
}

/// What stands before a mark.
fn begin(text: &str, mark: &str) -> String {
    text.split_once(mark)
        .map_or(text, |(begin, _)| begin)
        .to_owned()
}
