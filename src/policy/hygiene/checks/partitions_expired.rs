//! `partitions-expired`: whole partitions of a rule's table lie before its cutoff. To let go of a partition is one entry in the
//! catalog, to delete its rows is as much work as it has rows.
//!
//! Rests on the bounds of partitions by ranges of the rule's own column. Left alone: rules with `where` or holds (not all of the
//! partition is theirs to take), partitions whose bound is the cutoff or later, the default partition.

use std::collections::BTreeSet;

use crate::policy::{
    hygiene::{
        Advice, Check, Context, Facts, Finding, RuledColumn, Severity,
        facts::{BLOCK, Table},
        sql_name,
        tree::Trees,
        words,
    },
    table::quoted,
};

/// So many statements are printed; those for further partitions look the same.
const STATEMENTS: usize = 20;

pub(super) fn check(facts: &Facts, context: &Context, findings: &mut Vec<Finding>) {
    let trees = Trees::of(facts);
    for ruled in &context.ruled {
        let (Some(cutoff), false) = (ruled.cutoff, ruled.narrowed) else {
            continue;
        };
        let Some(table) = facts.tables.get(&ruled.table) else {
            continue;
        };
        let expired: Vec<&Table> = trees
            .parts(table)
            .into_iter()
            .filter(|part| part.id != table.id && is_expired(part, &ruled.column, cutoff))
            .collect();
        // What lies below an expired partition goes with it.
        let whole: Vec<&Table> = expired
            .iter()
            .copied()
            .filter(|part| {
                !expired
                    .iter()
                    .any(|other| Some(other.id) == part.partition_of)
            })
            .collect();
        if !whole.is_empty() {
            findings.push(finding(facts, &trees, ruled, table, &whole));
        }
    }
}

/// Every time that it may hold is before the cutoff.
fn is_expired(part: &Table, column: &str, cutoff: f64) -> bool {
    part.detail.bound.as_ref().is_some_and(|bound| {
        // Behind another column the bound itself may be in it.
        let is_before = if bound.alone {
            bound.upper <= cutoff
        } else {
            bound.upper < cutoff
        };
        bound.column == column && is_before
    })
}

fn finding(
    facts: &Facts,
    trees: &Trees<'_>,
    ruled: &RuledColumn,
    table: &Table,
    whole: &[&Table],
) -> Finding {
    let pages: u64 = whole
        .iter()
        .flat_map(|part| trees.leaves(part))
        .map(|leaf| leaf.pages)
        .sum();
    let bytes = pages * BLOCK;
    let names: Vec<String> = whole.iter().map(|part| part.object()).collect();
    let evidence = format!(
        "{} {} wholly before the cutoff of rule {}, by the bounds in the catalog: {}; {}",
        whole.len(),
        if whole.len() == 1 {
            "partition lies"
        } else {
            "partitions lie"
        },
        ruled.rule,
        words::some(&names, 3),
        words::bytes(bytes)
    );
    let (mut apply, mut undo) = (Vec::new(), Vec::new());
    for part in whole.iter().take(STATEMENTS) {
        let (Some(bound), Some(parent)) = (
            &part.detail.bound,
            part.partition_of
                .and_then(|parent| facts.tables.get(&parent)),
        ) else {
            continue;
        };
        let parent = sql_name(&parent.schema, &parent.name);
        let name = sql_name(&part.schema, &part.name);
        // The server does not let go of a partition beside a default one without a short lock on all.
        let concurrently = if bound.beside_default {
            ""
        } else {
            " CONCURRENTLY"
        };
        apply.push(format!(
            "ALTER TABLE {parent} DETACH PARTITION {name}{concurrently};"
        ));
        undo.push(format!(
            "ALTER TABLE {parent} ATTACH PARTITION {name} {};",
            bound.text
        ));
        if let (Some(check), false) = (&bound.detached_check, bound.beside_default) {
            undo.push(format!(
                "ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {};",
                quoted(check)
            ));
        }
    }
    let referring = referring(facts, table, whole);
    let first = if referring.is_empty() {
        String::new()
    } else {
        format!(
            ". The server refuses while rows of {} refer to theirs: those have to go first",
            words::some(&referring, 3)
        )
    };
    let severity = if pages > 0 {
        Severity::Warning
    } else {
        Severity::Info
    };
    Finding::new(
        Check::PartitionsExpired,
        severity,
        table.object(),
        evidence,
        Advice::run(
            format!(
                "let the rule do it where this version can: partitions: Drop (or Detach) in rule {}. By hand: detach them, and DROP TABLE what nobody missed. Detached rows are not in {} any more{first}",
                ruled.rule,
                quoted(&table.name)
            ),
            apply.join("\n"),
            Some(undo.join("\n")),
        ),
    )
    .winning(bytes)
}

/// Tables whose foreign keys refer to these partitions, or to the table above them.
fn referring(facts: &Facts, table: &Table, whole: &[&Table]) -> Vec<String> {
    let is_theirs = |id| id == table.id || whole.iter().any(|part| part.id == id);
    let keys = facts.foreign_keys.iter();
    let tables: BTreeSet<String> = keys
        .filter(|key| is_theirs(key.referred))
        .filter_map(|key| Some(facts.tables.get(&key.table)?.object()))
        .collect();
    tables.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::{
        checks::made_up::*,
        facts::{Bound, ForeignKey},
    };

    fn bounded(mut table: Table, upper: f64) -> Table {
        table.pages = 128;
        table.detail.bound = Some(Box::new(Bound {
            column: "at".to_owned(),
            alone: true,
            upper,
            text: "FOR VALUES FROM ('a') TO ('b')".to_owned(),
            beside_default: false,
            detached_check: None,
        }));
        table
    }

    fn ruled(cutoff: f64) -> RuledColumn {
        RuledColumn {
            rule: "r".to_owned(),
            table: 1,
            column: "at".to_owned(),
            cutoff: Some(cutoff),
            ..RuledColumn::default()
        }
    }

    fn context(ruled: RuledColumn) -> Context {
        Context {
            ruled: vec![ruled],
            ..Context::default()
        }
    }

    fn facts() -> Facts {
        tables([
            parent(1, "p"),
            bounded(partition(2, "p1", 1), 100.0),
            bounded(partition(3, "p2", 1), 200.0),
            partition(4, "p_default", 1),
        ])
    }

    #[test]
    fn partitions_before_the_cutoff_are_found_with_the_way_to_let_go_and_back() {
        let findings = run(check, &facts(), &context(ruled(150.0)));

        assert_eq!(ids(&findings), ["partitions-expired:public.p"]);
        assert_eq!(findings[0].severity, Severity::Warning);
        assert_eq!(findings[0].estimated_bytes, Some(1 << 20));
        assert_eq!(
            findings[0].evidence,
            "1 partition lies wholly before the cutoff of rule r, by the bounds in the catalog: public.p1; 1.0 MiB"
        );
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(r#"ALTER TABLE "public"."p" DETACH PARTITION "public"."p1" CONCURRENTLY;"#)
        );
        assert_eq!(
            findings[0].advice.undo.as_deref(),
            Some(
                r#"ALTER TABLE "public"."p" ATTACH PARTITION "public"."p1" FOR VALUES FROM ('a') TO ('b');"#
            )
        );
    }

    #[test]
    fn tables_that_refer_to_the_partitions_are_named() {
        let mut facts = facts();
        facts.tables.insert(9, table(9, "notes"));
        facts.foreign_keys.push(ForeignKey {
            table: 9,
            referred: 1,
            ..ForeignKey::default()
        });

        let findings = run(check, &facts, &context(ruled(150.0)));

        let text = &findings[0].advice.text;
        assert!(text.contains("while rows of public.notes refer"), "{text}");
    }

    #[test]
    fn a_bound_at_the_cutoff_is_before_it_only_when_no_other_column_follows() {
        assert_eq!(run(check, &facts(), &context(ruled(99.9))), []);
        assert_eq!(run(check, &facts(), &context(ruled(100.0))).len(), 1);

        let mut behind = facts();
        for table in behind.tables.values_mut() {
            if let Some(bound) = &mut table.detail.bound {
                bound.alone = false;
            }
        }
        assert_eq!(run(check, &behind, &context(ruled(100.0))), []);
        assert_eq!(run(check, &behind, &context(ruled(100.1))).len(), 1);
    }

    #[test]
    fn a_narrowed_rule_a_rule_by_another_column_and_one_without_a_cutoff_take_no_partition() {
        for ruled in [
            RuledColumn {
                narrowed: true,
                ..ruled(150.0)
            },
            RuledColumn {
                column: "other".to_owned(),
                ..ruled(150.0)
            },
            RuledColumn {
                cutoff: None,
                ..ruled(150.0)
            },
        ] {
            assert_eq!(run(check, &facts(), &context(ruled)), []);
        }
    }

    #[test]
    fn what_lies_below_an_expired_partition_is_not_counted_again() {
        let mut facts = facts();
        let mut p1 = bounded(partition(2, "p1", 1), 100.0);
        p1.kind = crate::policy::hygiene::facts::Kind::Partitioned;
        p1.pages = 0;
        facts.tables.insert(2, p1);
        facts
            .tables
            .insert(5, bounded(partition(5, "p1a", 2), 100.0));

        let findings = run(check, &facts, &context(ruled(150.0)));

        assert!(findings[0].evidence.starts_with("1 partition lies"));
        assert_eq!(findings[0].estimated_bytes, Some(1 << 20));
    }
}
