//! `empty-table`: a table that holds nothing, and into which nothing was written since the counters count.
//!
//! The catalog's zeros alone prove nothing (a table that was just created and one that was just loaded have the same), so the size
//! of its file is asked. Left alone: partitions (the sum of all of them counts), parents of tables with rows, tables that a foreign
//! key of another table refers to, queues that are empty because they work, unlogged tables, tables of the policy's rules, and those into
//! which they archive.

use std::collections::HashSet;

use crate::policy::hygiene::{
    Advice, Check, Context, Facts, Finding, Severity,
    facts::{Kind, Table},
    sql_name,
    tree::Trees,
    words,
};

pub(super) fn check(facts: &Facts, context: &Context, findings: &mut Vec<Finding>) {
    // A standby's counters do not tell a queue from a table that nobody uses.
    if facts.in_recovery {
        return;
    }
    let trees = Trees::of(facts);
    let needed: HashSet<u32> = facts
        .foreign_keys
        .iter()
        .filter(|key| key.table != key.referred)
        .map(|key| key.referred)
        .chain(context.ruled.iter().map(|ruled| ruled.table))
        .chain(context.archives.iter().copied())
        .collect();
    for head in trees.tops() {
        let family = trees.family(head);
        let parts: Vec<&Table> = family
            .iter()
            .flat_map(|member| trees.parts(member))
            .collect();
        if head.kind == Kind::Materialized
            || parts.iter().any(|part| needed.contains(&part.id))
            || !trees.is_whole(head)
        {
            continue;
        }
        let holders: Vec<&&Table> = parts
            .iter()
            .filter(|part| part.kind != Kind::Partitioned)
            .collect();
        if holders.iter().all(|holder| is_empty(holder)) {
            findings.push(finding(facts, head, holders.len()));
        }
    }
}

/// Its file has no page, and nobody wrote into it as far as the counters remember.
fn is_empty(table: &Table) -> bool {
    let counters = table.detail.counters;
    // A crash empties an unlogged table and its counters at once.
    !table.detail.unlogged
        && table.detail.file_pages == Some(0)
        && counters.inserted == 0
        && counters.updated == 0
        && counters.deleted == 0
}

fn finding(facts: &Facts, head: &Table, holders: usize) -> Finding {
    let since = facts.counting_since.map_or_else(
        || "(when that was is not known: a crash begins them anew)".to_owned(),
        |since| format!("({})", words::day(since)),
    );
    let what = match (head.kind, holders) {
        (Kind::Partitioned, 0) => "it has no partitions".to_owned(),
        (Kind::Partitioned, holders) => {
            format!("the files of all {holders} partitions have 0 pages")
        }
        _ => "its file has 0 pages".to_owned(),
    };
    Finding::new(
        Check::EmptyTable,
        Severity::Info,
        head.object(),
        format!(
            "{what} (exact), nothing was written since the server's counters began {since}; a table that was created a short while ago looks the same"
        ),
        Advice::run(
            "where nobody plans to use it: keep its definition (pg_dump --schema-only), then drop it; without CASCADE the server refuses while something depends on it",
            format!("DROP TABLE {};", sql_name(&head.schema, &head.name)),
            None,
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::{RuledColumn, checks::made_up::*, facts::ForeignKey};

    fn empty(mut table: Table) -> Table {
        table.detail.file_pages = Some(0);
        table
    }

    fn found(facts: &Facts) -> Vec<String> {
        run(check, facts, &Context::default())
            .into_iter()
            .map(|finding| finding.object)
            .collect()
    }

    #[test]
    fn a_table_without_a_page_is_found() {
        let facts = tables([empty(table(1, "nothing")), table(2, "full")]);

        assert_eq!(found(&facts), ["public.nothing"]);
    }

    #[test]
    fn what_the_catalog_calls_empty_is_not_without_a_look_at_its_file() {
        let facts = tables([Table {
            rows: Some(0.0),
            ..table(1, "t")
        }]);

        assert!(found(&facts).is_empty());
    }

    #[test]
    fn an_unlogged_table_may_have_been_emptied_by_a_crash() {
        let mut cache = empty(table(1, "cache"));
        cache.detail.unlogged = true;

        assert!(found(&tables([cache])).is_empty());
    }

    #[test]
    fn a_queue_through_which_rows_went_is_in_use() {
        let mut queue = empty(table(1, "queue"));
        queue.detail.counters.inserted = 5;
        queue.detail.counters.deleted = 5;

        assert!(found(&tables([queue])).is_empty());
    }

    #[test]
    fn a_table_that_another_one_refers_to_is_needed_and_one_that_refers_to_itself_is_not() {
        let key = |table, referred| ForeignKey {
            table,
            referred,
            ..ForeignKey::default()
        };
        let mut facts = tables([empty(table(1, "kinds")), table(2, "things")]);
        facts.foreign_keys = vec![key(2, 1)];
        assert!(found(&facts).is_empty());

        facts.foreign_keys = vec![key(1, 1)];
        assert_eq!(found(&facts), ["public.kinds"]);
    }

    #[test]
    fn partitions_count_as_their_sum() {
        let mut facts = tables([
            parent(1, "p"),
            empty(partition(2, "p1", 1)),
            partition(3, "p2", 1),
        ]);
        assert!(found(&facts).is_empty());

        facts.tables.insert(3, empty(partition(3, "p2", 1)));
        assert_eq!(found(&facts), ["public.p"]);
    }

    #[test]
    fn a_parent_whose_heirs_hold_the_rows_is_not_empty() {
        let heir = Table {
            inherits: Some(1),
            ..table(2, "old1")
        };
        let mut old = empty(table(1, "old"));
        old.detail.has_children = true;
        assert!(found(&tables([old.clone(), heir])).is_empty());
        // The heir is known as that of another parent.
        assert!(found(&tables([old])).is_empty());
    }

    #[test]
    fn on_a_standby_nothing_is_said() {
        let mut facts = tables([empty(table(1, "t"))]);
        facts.in_recovery = true;

        assert!(found(&facts).is_empty());
    }

    #[test]
    fn the_table_of_a_rule_may_be_empty() {
        let facts = tables([empty(table(1, "t"))]);
        let context = Context {
            ruled: vec![RuledColumn {
                table: 1,
                ..RuledColumn::default()
            }],
            ..Context::default()
        };

        assert_eq!(run(check, &facts, &context), []);
    }
}
