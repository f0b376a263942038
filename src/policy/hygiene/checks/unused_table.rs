//! `unused-table`: nobody has read or written the table for as long as the policy says, over samples without a gap.
//!
//! A partition alone is never called unused, as old ones rest by design: only a whole tree is, when all of it was seen and none of
//! it was used. Where the samples cannot tell, nothing is said. A table into which a rule archives rests by design, too.

use jiff::Timestamp;

use crate::policy::{
    hygiene::{
        Advice, Check, Context, Facts, Finding, Severity,
        facts::{BLOCK, Kind, Table},
        sql_name,
        statements::{Names, cut},
        tree::Trees,
        words,
    },
    table::quoted,
    usage::Usage,
};

/// Below it a table costs nothing that anybody would notice.
const WORTH_A_WARNING: u64 = 1024 * 1024;
/// What is put behind the name.
const UNUSED: &str = "_unused";

pub(super) fn check(facts: &Facts, context: &Context, findings: &mut Vec<Finding>) {
    let trees = Trees::of(facts);
    // An heir rests as a partition does: it is judged with its parent.
    for head in trees.tops() {
        let parts = || {
            let family = trees.family(head).into_iter();
            family.flat_map(|member| trees.parts(member))
        };
        // The server counts holders of rows only; a usage log may name what is above them.
        let is_used = |part: &Table| matches!(part.usage, Usage::Used { .. });
        if parts().any(|part| is_used(part) || context.archives.contains(&part.id)) {
            continue;
        }
        let holders = trees.holders(head);
        let Some((since, days)) = unused(&holders) else {
            continue;
        };
        if days < context.unused_after_days || !trees.is_whole(head) {
            continue;
        }
        findings.push(finding(facts, head, &holders, since));
    }
}

/// Since when none of the tables was used, and for how many days at least; `None`: one was, or nothing is known of one.
fn unused(holders: &[&Table]) -> Option<(Timestamp, u32)> {
    let mut latest: Option<(Timestamp, u32)> = None;
    for holder in holders {
        let Usage::Unused { since, days } = &holder.usage else {
            return None;
        };
        latest = Some(match latest {
            Some((other, least)) => (other.max(*since), least.min(*days)),
            None => (*since, *days),
        });
    }
    latest
}

fn finding(facts: &Facts, head: &Table, holders: &[&Table], since: Timestamp) -> Finding {
    let bytes = bytes(facts, holders);
    let mut evidence = format!(
        "not read or written since {}, by counters sampled without a gap; {} with indexes (pages of the catalog)",
        words::day(since),
        words::bytes(bytes)
    );
    if holders.len() > 1 {
        evidence.push_str(&format!("; all of its {} parts", holders.len()));
    }
    let statements = facts.statements.as_ref();
    if let Some(told) = statements.and_then(|told| told.evidence(head.id)) {
        evidence.push_str("; ");
        evidence.push_str(&told);
    }
    let severity = if bytes >= WORTH_A_WARNING {
        Severity::Warning
    } else {
        Severity::Info
    };
    Finding::new(
        Check::UnusedTable,
        severity,
        head.object(),
        evidence,
        rename(facts, head),
    )
    .winning(bytes)
}

/// What depends on a table by its name fails at once and is as soon set right; a drop is neither.
fn rename(facts: &Facts, table: &Table) -> Advice {
    let kind = match table.kind {
        Kind::Materialized => "MATERIALIZED VIEW",
        Kind::Table | Kind::Partitioned => "TABLE",
    };
    let name = Names::new(facts).free(&table.schema, &cut(&table.name, UNUSED));
    Advice::run(
        "rename it and see who misses it; after some weeks take a dump of it and drop it. Reports of a month's or a year's end use a table rarely",
        format!(
            "ALTER {kind} {} RENAME TO {};",
            sql_name(&table.schema, &table.name),
            quoted(&name)
        ),
        Some(format!(
            "ALTER {kind} {} RENAME TO {};",
            sql_name(&table.schema, &name),
            quoted(&table.name)
        )),
    )
}

fn bytes(facts: &Facts, holders: &[&Table]) -> u64 {
    let ids: std::collections::HashSet<u32> = holders.iter().map(|table| table.id).collect();
    let heap: u64 = holders
        .iter()
        .map(|table| table.pages + table.detail.toast.as_ref().map_or(0, |toast| toast.pages))
        .sum();
    let indexes: u64 = facts
        .indexes
        .iter()
        .filter(|index| ids.contains(&index.table))
        .map(|index| index.pages)
        .sum();
    (heap + indexes) * BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::checks::made_up::*;

    fn unused_for(days: u32) -> Usage {
        Usage::Unused {
            since: "2026-05-01T10:00:00Z".parse().unwrap(),
            days,
        }
    }

    fn context() -> Context {
        Context {
            unused_after_days: 90,
            ..Context::default()
        }
    }

    fn used(table: Table, usage: Usage) -> Table {
        Table {
            usage,
            pages: 1_280,
            ..table
        }
    }

    #[test]
    fn a_table_that_rested_long_enough_is_found_with_a_way_back() {
        let facts = tables([used(table(1, "old"), unused_for(120))]);

        let findings = run(check, &facts, &context());

        assert_eq!(ids(&findings), ["unused-table:public.old"]);
        assert_eq!(findings[0].severity, Severity::Warning);
        assert_eq!(findings[0].estimated_bytes, Some(10 * 1024 * 1024));
        assert_eq!(
            findings[0].evidence,
            "not read or written since 2026-05-01, by counters sampled without a gap; 10 MiB with indexes (pages of the catalog)"
        );
        assert_eq!(
            findings[0].advice.undo.as_deref(),
            Some(r#"ALTER TABLE "public"."old_unused" RENAME TO "old";"#)
        );
    }

    #[test]
    fn what_was_used_what_rested_too_shortly_and_what_nobody_knows_is_left_alone() {
        let facts = tables([
            used(table(1, "used"), Usage::Used { last: None }),
            used(table(2, "young"), unused_for(89)),
            used(table(3, "unknown"), Usage::Unknown("the server crashed")),
        ]);

        assert_eq!(run(check, &facts, &context()), []);
    }

    #[test]
    fn an_old_partition_is_not_unused_while_a_sibling_is_in_use() {
        let facts = tables([
            parent(1, "p"),
            used(partition(2, "p1", 1), unused_for(500)),
            used(partition(3, "p2", 1), Usage::Used { last: None }),
        ]);

        assert_eq!(run(check, &facts, &context()), []);
    }

    #[test]
    fn a_tree_of_which_nothing_was_used_is_one_finding() {
        let facts = tables([
            parent(1, "p"),
            used(partition(2, "p1", 1), unused_for(500)),
            used(partition(3, "p2", 1), unused_for(100)),
        ]);

        let findings = run(check, &facts, &context());

        assert_eq!(ids(&findings), ["unused-table:public.p"]);
        assert_eq!(findings[0].estimated_bytes, Some(20 * 1024 * 1024));
    }

    #[test]
    fn a_tree_of_which_a_usage_log_knows_a_use_is_not_unused() {
        let known = Usage::Used { last: None };
        let facts = tables([
            used(parent(1, "p"), known.clone()),
            used(partition(2, "p1", 1), unused_for(500)),
        ]);
        assert_eq!(run(check, &facts, &context()), []);

        // The log was read for a level in between.
        let facts = tables([
            parent(1, "p"),
            used(
                Table {
                    kind: Kind::Partitioned,
                    ..partition(2, "p1", 1)
                },
                known,
            ),
            used(partition(3, "p1a", 2), unused_for(500)),
        ]);
        assert_eq!(run(check, &facts, &context()), []);
    }

    #[test]
    fn a_table_into_which_a_rule_archives_is_not_unused() {
        let facts = tables([
            used(table(1, "old_orders"), unused_for(120)),
            parent(2, "p"),
            used(partition(3, "p1", 2), unused_for(120)),
        ]);
        let context = Context {
            archives: vec![1, 2],
            ..context()
        };

        assert_eq!(run(check, &facts, &context), []);
    }

    #[test]
    fn a_tree_with_foreign_partitions_is_not_judged() {
        let mut whole = parent(1, "p");
        whole.detail.foreign_children = true;
        let facts = tables([whole, used(partition(2, "p1", 1), unused_for(500))]);

        assert_eq!(run(check, &facts, &context()), []);
    }

    #[test]
    fn an_heir_is_judged_with_its_parent() {
        let heir = Table {
            inherits: Some(1),
            ..used(table(2, "old1"), unused_for(500))
        };
        let facts = tables([used(table(1, "old"), Usage::Used { last: None }), heir]);

        assert_eq!(run(check, &facts, &context()), []);
    }
}
