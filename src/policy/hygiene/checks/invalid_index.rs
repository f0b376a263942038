//! `invalid-index`: an index that was left unfinished. Writes may still pay for it, no query uses it.
//!
//! One that is being built, rebuilt or dropped right now is not counted. Of a partitioned index and its parts only the one at fault
//! is: the partitioned one where partitions lack theirs, the part where that is unfinished itself.

use crate::policy::hygiene::{
    Advice, Check, Context, Facts, Finding, Severity,
    facts::{Index, Table},
    indexes::{Indexes, size},
    sql_name,
    statements::{Made, Names, constraint_definition, definition_tail},
};

/// So many partitions are named, and get their statements.
const SHOWN: usize = 20;

pub(super) fn check(facts: &Facts, _: &Context, findings: &mut Vec<Finding>) {
    let indexes = Indexes::new(facts);
    for index in &facts.indexes {
        if index.valid || index.being_built {
            continue;
        }
        let Some(object) = index.object(facts) else {
            continue;
        };
        let (evidence, advice) = if indexes.is_partitioned(index) {
            match partitioned(facts, &indexes, index) {
                Some(found) => found,
                None => continue,
            }
        } else {
            (evidence(&indexes, index), advice(&indexes, index))
        };
        let finding = Finding::new(
            Check::InvalidIndex,
            Severity::Warning,
            object,
            evidence,
            advice,
        );
        findings.push(if indexes.is_partitioned(index) {
            finding
        } else {
            finding.winning(indexes.bytes(index))
        });
    }
}

/// Partitioned indexes that partitions lack.
pub(super) fn incomplete(facts: &Facts, indexes: &Indexes<'_>) -> Vec<u32> {
    let invalid = facts.indexes.iter().filter(|index| !index.valid);
    invalid
        .filter(|index| indexes.is_partitioned(index))
        .map(|index| index.id)
        .collect()
}

/// What `REINDEX CONCURRENTLY` calls the new and the old index while it works.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leftover {
    New,
    Old,
}

fn leftover(name: &str) -> Option<Leftover> {
    let name = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    if name.ends_with("_ccnew") {
        Some(Leftover::New)
    } else if name.ends_with("_ccold") {
        Some(Leftover::Old)
    } else {
        None
    }
}

fn evidence(indexes: &Indexes<'_>, index: &Index) -> String {
    let from = if index.dropping {
        "a DROP INDEX CONCURRENTLY that did not end"
    } else {
        match leftover(&index.name) {
            Some(Leftover::New) => "a REINDEX CONCURRENTLY that failed",
            Some(Leftover::Old) => {
                "a REINDEX CONCURRENTLY that was broken off after the new index took its place"
            }
            None => "a CREATE INDEX CONCURRENTLY that failed, by the look of it",
        }
    };
    let writes = if index.ready {
        "writes maintain it"
    } else {
        "writes do not maintain it"
    };
    format!(
        "the catalog marks it as not valid, left by {from}; {writes}, no query uses it; {}",
        size(indexes.bytes(index))
    )
}

fn advice(indexes: &Indexes<'_>, index: &Index) -> Advice {
    let name = sql_name(&index.schema, &index.name);
    if index.constraint.is_some() {
        return Advice::run(
            "rebuild it: a constraint rests on it",
            format!("REINDEX INDEX CONCURRENTLY {name};"),
            None,
        );
    }
    if index.dropping {
        return Advice::run("drop it once more", indexes.drop_sql(index), None);
    }
    match leftover(&index.name) {
        Some(Leftover::New) => Advice::run(
            "drop it: the index that was to be rebuilt is still there. If it is unique, rows may break it: look for them first",
            indexes.drop_sql(index),
            None,
        ),
        Some(Leftover::Old) => Advice::run(
            "drop it: the new index is in its place",
            indexes.drop_sql(index),
            None,
        ),
        None if index.unique => Advice::run(
            "remove the rows that are there twice, then rebuild it, or drop it",
            format!("REINDEX INDEX CONCURRENTLY {name};"),
            None,
        ),
        None => Advice::run(
            "rebuild it without blocking writes, or drop it",
            format!("REINDEX INDEX CONCURRENTLY {name};"),
            None,
        ),
    }
}

/// `None`: the fault is with a part, which is found by itself.
fn partitioned(facts: &Facts, indexes: &Indexes<'_>, index: &Index) -> Option<(String, Advice)> {
    let parts = indexes.attached(index.id);
    let partitions = indexes.partitions(index.table);
    let missing: Vec<&Table> = partitions
        .iter()
        .copied()
        .filter(|partition| !parts.iter().any(|part| part.table == partition.id))
        .collect();
    if missing.is_empty() {
        if parts.iter().any(|part| !part.valid) {
            return None;
        }
        let evidence = format!(
            "the catalog marks it as not valid, though all {} partitions have theirs",
            partitions.len()
        );
        let text = "drop it and create it anew, or attach the index of one partition once more: that makes the server look again";
        return Some((evidence, Advice::words(text)));
    }
    let names: Vec<String> = missing
        .iter()
        .take(SHOWN)
        .map(|table| table.object())
        .collect();
    let more = match missing.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let evidence = format!(
        "{} of {} partitions have no index that belongs to it: {}{more}; a new partition gets one, and the planner finds these only partly indexed",
        missing.len(),
        partitions.len(),
        names.join(", ")
    );
    let text = "create the index on each of these partitions and attach it; with the last one the partitioned index becomes valid";
    let advice = match completion(facts, indexes, index, &missing) {
        Some(apply) => Advice::run(text, apply, None),
        None => Advice::words(text),
    };
    Some((evidence, advice))
}

/// The statements that complete a partitioned index.
fn completion(
    facts: &Facts,
    indexes: &Indexes<'_>,
    index: &Index,
    missing: &[&Table],
) -> Option<String> {
    let table = facts.tables.get(&index.table)?;
    let wished = |partition: &Table| match index.name.strip_prefix(&format!("{}_", table.name)) {
        Some(rest) => format!("{}_{rest}", partition.name),
        None => format!("{}_{}", partition.name, index.name),
    };
    let constraint = match index.constraint {
        Some(_) => Some(constraint_definition(index)?),
        None => None,
    };
    let made = Made {
        wished: &wished,
        tail: definition_tail(index, table)?,
        unique: index.unique,
        constraint,
        may_exist: false,
    };
    let parent = sql_name(&index.schema, &index.name);
    let mut names = Names::new(facts);
    let mut lines = Vec::new();
    let mut shown = 0;
    for partition in missing {
        shown += 1;
        indexes.build(&made, partition, Some(&parent), &mut names, &mut lines);
        if lines.len() > 2 * SHOWN {
            break;
        }
    }
    if missing.len() > shown {
        lines.push(format!("-- and so on for {} more", missing.len() - shown));
    }
    Some(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::checks::samples::{self, index};

    fn found_in(facts: &Facts) -> Vec<Finding> {
        let mut findings = Vec::new();
        check(facts, &Context::default(), &mut findings);
        findings
    }

    fn broken(name: &str) -> Index {
        Index {
            valid: false,
            ..index(1, name, &[1])
        }
    }

    #[test]
    fn a_valid_index_and_one_that_is_being_built_are_left_alone() {
        let building = Index {
            being_built: true,
            ..broken("t_b")
        };

        let findings = found_in(&samples::with(vec![index(2, "t_a", &[1]), building]));

        assert_eq!(findings, []);
    }

    #[test]
    fn a_failed_build_is_to_be_rebuilt() {
        let findings = found_in(&samples::with(vec![broken("t_a")]));

        assert_eq!(findings[0].id, "invalid-index:public.t.t_a");
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(r#"REINDEX INDEX CONCURRENTLY "public"."t_a";"#)
        );
    }

    #[test]
    fn what_a_concurrent_rebuild_left_is_to_be_dropped() {
        for name in ["t_a_ccnew", "t_a_ccnew3", "t_a_ccold", "t_a_ccold12"] {
            let findings = found_in(&samples::with(vec![broken(name)]));

            assert_eq!(
                findings[0].advice.apply,
                Some(format!(r#"DROP INDEX CONCURRENTLY "public"."{name}";"#)),
            );
            assert!(findings[0].evidence.contains("REINDEX CONCURRENTLY"));
        }
    }

    #[test]
    fn an_index_whose_name_only_looks_like_a_leftover_is_one_only_when_it_is_invalid() {
        let valid = index(1, "t_a_ccnew", &[1]);

        assert_eq!(found_in(&samples::with(vec![valid])), []);
    }

    #[test]
    fn an_interrupted_drop_is_to_be_finished() {
        let half = Index {
            dropping: true,
            ready: false,
            ..broken("t_a")
        };

        let findings = found_in(&samples::with(vec![half]));

        assert!(findings[0].evidence.contains("DROP INDEX CONCURRENTLY"));
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(r#"DROP INDEX CONCURRENTLY "public"."t_a";"#)
        );
    }

    #[test]
    fn a_partitioned_index_names_the_partitions_that_lack_theirs() {
        let mut facts = samples::partitioned(&["p_a"], &[1]);
        facts.indexes.retain(|index| &*index.name != "p_a_2");
        facts.indexes[0].valid = false;
        facts.indexes[0].definition =
            samples::made_by("CREATE INDEX p_a ON ONLY public.p USING btree (a)");

        let findings = found_in(&facts);

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].id, "invalid-index:public.p.p_a");
        assert!(
            findings[0]
                .evidence
                .starts_with("1 of 2 partitions have no index that belongs to it: public.p_2;"),
            "{}",
            findings[0].evidence
        );
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(
                "CREATE INDEX CONCURRENTLY \"p_2_a\" ON \"public\".\"p_2\" USING btree (a);\n\
                 ALTER INDEX \"public\".\"p_a\" ATTACH PARTITION \"public\".\"p_2_a\";"
            )
        );
    }

    #[test]
    fn of_a_partitioned_index_with_an_unfinished_part_only_the_part_is_found() {
        let mut facts = samples::partitioned(&["p_a"], &[1]);
        facts.indexes[0].valid = false;
        facts.indexes[1].valid = false;

        let findings = found_in(&facts);

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].id, "invalid-index:public.p_1.p_a_1");
    }
}
