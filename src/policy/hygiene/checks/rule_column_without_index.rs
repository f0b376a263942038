//! `rule-column-without-index`: a large table with few expired rows, whose time column leads no index. To count what has expired
//! the whole table is read, at each sweep.
//!
//! Left alone: tables of which much has expired (to read them from end to end is the best way then), tables that are soon read, and
//! columns that lead an index of which all rows are part (BRIN too: times follow the order on disk).

use crate::policy::{
    hygiene::{
        Advice, Check, Context, Facts, Finding, RuledColumn, Severity,
        facts::{BLOCK, Kind, Table},
        part, sql_name,
        statements::Names,
        tree::Trees,
        words,
    },
    table::quoted,
};

/// A smaller table is read in some seconds.
const PAGES: u64 = (1 << 30) / BLOCK;
/// Above it an index would visit most pages, too.
const EXPIRED: f64 = 0.05;

pub(super) fn check(facts: &Facts, context: &Context, findings: &mut Vec<Finding>) {
    let trees = Trees::of(facts);
    for ruled in &context.ruled {
        let (Some(table), Some(expired)) = (facts.tables.get(&ruled.table), ruled.expired) else {
            continue;
        };
        let leaves: Vec<&Table> = trees
            .family(table)
            .into_iter()
            .flat_map(|member| trees.leaves(member))
            .collect();
        let pages: u64 = leaves.iter().map(|leaf| leaf.pages).sum();
        if pages < PAGES || expired > EXPIRED {
            continue;
        }
        let bare: Vec<&Table> = leaves
            .into_iter()
            .filter(|leaf| leaf.pages > 0 && leads(facts, leaf, &ruled.column) == Some(false))
            .collect();
        if !bare.is_empty() {
            findings.push(finding(facts, ruled, table, &bare, pages));
        }
    }
}

/// The column leads an index of the leaf; `None`: the leaf's columns are not known.
fn leads(facts: &Facts, leaf: &Table, column: &str) -> Option<bool> {
    let columns = facts.columns.get(&leaf.id)?;
    let number = columns
        .iter()
        .find(|known| known.name == column && !known.dropped)?
        .number;
    Some(facts.indexes.iter().any(|index| {
        index.table == leaf.id
            && index.valid
            && index.predicate.is_none()
            && matches!(&*index.method, "btree" | "brin")
            && index.keys.first().is_some_and(|key| key.column == number)
    }))
}

fn finding(
    facts: &Facts,
    ruled: &RuledColumn,
    table: &Table,
    bare: &[&Table],
    pages: u64,
) -> Finding {
    let mut evidence = format!(
        "no index leads with {} in {} (pages of the catalog); at most 5 % of the rows have expired (statistics), and to count them all of it is read",
        ruled.column,
        words::bytes(pages * BLOCK)
    );
    if table.kind == Kind::Partitioned {
        evidence.push_str(&format!("; {} partitions have none", bare.len()));
    }
    let index = Names::new(facts).free(
        &table.schema,
        &format!("{}_{}_idx", table.name, ruled.column),
    );
    let name = sql_name(&table.schema, &table.name);
    let (concurrently, text) = if table.kind == Kind::Partitioned {
        (
            "",
            "an index lets counts of expired rows, and the service's own queries by age, find them. On a partitioned table it locks out writes while it is built: build one CONCURRENTLY on each partition before, and it takes those",
        )
    } else {
        (
            " CONCURRENTLY",
            "an index lets counts of expired rows, and the service's own queries by age, find them. A sweep itself still walks the table page by page. Where rows lie in the order of their times, USING brin is much smaller",
        )
    };
    Finding::new(
        Check::RuleColumnWithoutIndex,
        Severity::Info,
        part(&table.schema, &table.name, &ruled.column),
        evidence,
        Advice::run(
            text,
            format!(
                "CREATE INDEX{concurrently} {} ON {name} ({});",
                quoted(&index),
                quoted(&ruled.column)
            ),
            Some(format!(
                "DROP INDEX{concurrently} {};",
                sql_name(&table.schema, &index)
            )),
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::{
        checks::made_up::*,
        facts::{Column, Index, IndexKey},
    };

    fn large(mut table: Table) -> Table {
        table.pages = 200_000;
        table
    }

    fn facts() -> Facts {
        let mut facts = tables([large(table(1, "t"))]);
        facts.columns.insert(
            1,
            vec![Column {
                number: 3,
                name: "at".to_owned(),
                ..Column::default()
            }],
        );
        facts
    }

    fn index(column: i16, method: &str) -> Index {
        Index {
            table: 1,
            valid: true,
            method: method.into(),
            keys: [
                IndexKey {
                    column,
                    ..IndexKey::default()
                },
                IndexKey::default(),
            ]
            .into(),
            ..Index::default()
        }
    }

    fn rule(expired: Option<f64>) -> Context {
        Context {
            ruled: vec![RuledColumn {
                rule: "r".to_owned(),
                table: 1,
                column: "at".to_owned(),
                expired,
                ..RuledColumn::default()
            }],
            ..Context::default()
        }
    }

    #[test]
    fn few_expired_rows_in_a_large_table_want_an_index() {
        let findings = run(check, &facts(), &rule(Some(0.01)));

        assert_eq!(ids(&findings), ["rule-column-without-index:public.t.at"]);
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(r#"CREATE INDEX CONCURRENTLY "t_at_idx" ON "public"."t" ("at");"#)
        );
        assert_eq!(
            findings[0].advice.undo.as_deref(),
            Some(r#"DROP INDEX CONCURRENTLY "public"."t_at_idx";"#)
        );
    }

    #[test]
    fn an_index_that_the_column_leads_is_enough_and_one_that_it_follows_in_is_not() {
        for method in ["btree", "brin"] {
            let mut good = facts();
            good.indexes = vec![index(3, method)];
            assert_eq!(run(check, &good, &rule(Some(0.01))), []);
        }
        let mut second = facts();
        second.indexes = vec![index(2, "btree"), index(3, "hash")];
        assert_eq!(run(check, &second, &rule(Some(0.01))).len(), 1);
        let mut partial = facts();
        partial.indexes = vec![Index {
            predicate: Some("at > 0".into()),
            ..index(3, "btree")
        }];
        assert_eq!(run(check, &partial, &rule(Some(0.01))).len(), 1);
    }

    #[test]
    fn where_much_has_expired_or_nobody_knows_or_the_table_is_small_none_is_wanted() {
        assert_eq!(run(check, &facts(), &rule(Some(0.5))), []);
        assert_eq!(run(check, &facts(), &rule(None)), []);
        let mut small = facts();
        small.tables.get_mut(&1).unwrap().pages = 10_000;
        assert_eq!(run(check, &small, &rule(Some(0.01))), []);
    }

    #[test]
    fn a_table_of_no_rule_is_left_alone() {
        assert_eq!(run(check, &facts(), &Context::default()), []);
    }
}
