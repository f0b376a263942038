//! `invalid-index`: an index that was left unfinished, as a broken `CREATE INDEX CONCURRENTLY` leaves it. Writes may still pay
//! for it, no query uses it. One that is being built right now is not counted, nor one whose partitions are incomplete while
//! the partitioned index is the one at fault.

use crate::policy::hygiene::{Advice, Check, Context, Facts, Finding, Severity, sql_name};

pub(super) fn check(facts: &Facts, _: &Context, findings: &mut Vec<Finding>) {
    for index in &facts.indexes {
        if index.valid || index.being_built {
            continue;
        }
        let Some(name) = index.object(facts) else {
            continue;
        };
        let evidence = format!(
            "the catalog marks it as not valid; writes {} it, no query uses it",
            if index.ready {
                "maintain"
            } else {
                "do not maintain"
            }
        );
        let quoted = sql_name(&index.schema, &index.name);
        let advice = Advice::run(
            "drop it, or rebuild it without blocking writes",
            format!("REINDEX INDEX CONCURRENTLY {quoted};"),
            None,
        );
        findings.push(Finding::new(
            Check::InvalidIndex,
            Severity::Warning,
            name,
            evidence,
            advice,
        ));
    }
}
