//! `constant-column`: a column that holds one value in every row, or NULL in every row, as far as ANALYZE saw. It may be left over
//! from something that is gone, or wait for something that never came.
//!
//! Left alone: small tables, old statistics, columns that a table is divided by, of keys, that refer to another table or are computed;
//! columns with one value and NULLs (they say yes or nothing); columns that were added with a default and that rows from before
//! take no room for; partitions that differ from each other.

use std::collections::HashSet;

use crate::policy::hygiene::{
    Advice, Check, Context, Facts, Finding, Severity,
    facts::{Column, Kind, Table},
    part,
    tree::Trees,
    words,
};

/// A smaller table may be young, and has nothing to win.
const ROWS: f64 = 10_000.0;
/// The statistics may have missed so many of the rows.
const STALE: f64 = 0.1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Constant {
    Null,
    Value(Option<i64>),
}

pub(super) fn check(facts: &Facts, context: &Context, findings: &mut Vec<Finding>) {
    let trees = Trees::of(facts);
    let ruled: HashSet<(u32, &str)> = context
        .ruled
        .iter()
        .map(|ruled| (ruled.table, ruled.column.as_str()))
        .collect();
    for head in trees.tops() {
        if head.kind == Kind::Materialized {
            continue;
        }
        let parts: Vec<&Table> = trees
            .family(head)
            .into_iter()
            .flat_map(|member| trees.parts(member))
            .collect();
        let leaves: Vec<&Table> = trees
            .holders(head)
            .into_iter()
            .filter(|leaf| leaf.pages > 0 || leaf.rows.is_none())
            .collect();
        let rows: f64 = leaves.iter().filter_map(|leaf| leaf.rows).sum();
        let (Some(first), true) = (leaves.first(), rows >= ROWS) else {
            continue;
        };
        if !leaves.iter().all(|leaf| is_fresh(leaf)) {
            continue;
        }
        let taken = taken(facts, &parts);
        for column in facts.columns.get(&first.id).into_iter().flatten() {
            let Some(constant) = constant(column) else {
                continue;
            };
            let everywhere = leaves
                .iter()
                .all(|leaf| same(facts, leaf, &column.name, constant));
            let is_ruled = parts
                .iter()
                .any(|part| ruled.contains(&(part.id, column.name.as_str())));
            // Of several leaves without a value to compare nothing is known.
            let is_comparable = leaves.len() == 1 || constant != Constant::Value(None);
            if everywhere && is_comparable && !is_ruled && !taken.contains(column.name.as_str()) {
                findings.push(finding(head, first, column, constant, rows));
            }
        }
    }
}

fn is_fresh(leaf: &Table) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "compared with a tenth only")]
    let modified = leaf.detail.counters.modified as f64;
    leaf.detail.analyzed_at.is_some() && leaf.rows.is_some_and(|rows| modified <= STALE * rows)
}

fn constant(column: &Column) -> Option<Constant> {
    let sample = column
        .sample
        .filter(|_| !column.dropped && !column.added && !column.generated)?;
    if sample.null_fraction >= 1.0 {
        Some(Constant::Null)
    } else if sample.null_fraction <= 0.0 && (sample.distinct - 1.0).abs() < f64::EPSILON {
        Some(Constant::Value(sample.value))
    } else {
        None
    }
}

fn same(facts: &Facts, leaf: &Table, name: &str, wanted: Constant) -> bool {
    let columns = facts.columns.get(&leaf.id);
    let column = columns
        .into_iter()
        .flatten()
        .find(|column| column.name == name && !column.dropped);
    column.and_then(constant) == Some(wanted)
}

/// Names of columns that have a part in what the tables are: of keys, of references, of the division into partitions.
fn taken<'a>(facts: &'a Facts, parts: &[&Table]) -> HashSet<&'a str> {
    let ids: HashSet<u32> = parts.iter().map(|part| part.id).collect();
    let divided = parts
        .iter()
        .filter_map(|part| facts.partition_keys.get(&part.id))
        .flatten();
    let referring = facts
        .foreign_keys
        .iter()
        .filter(|key| ids.contains(&key.table))
        .flat_map(|key| &key.column_names);
    let unique = facts
        .indexes
        .iter()
        .filter(|index| index.unique && ids.contains(&index.table));
    let of_keys = unique.flat_map(|index| {
        let columns = facts.columns.get(&index.table).into_iter().flatten();
        columns
            .filter(|column| index.keys.iter().any(|key| key.column == column.number))
            .map(|column| &column.name)
    });
    divided
        .chain(referring)
        .chain(of_keys)
        .map(String::as_str)
        .collect()
}

fn finding(head: &Table, leaf: &Table, column: &Column, constant: Constant, rows: f64) -> Finding {
    let what = match constant {
        Constant::Null => "NULL",
        Constant::Value(_) => "the same value",
    };
    let mut evidence = format!(
        "{what} in every row of the sample that ANALYZE took of {}",
        words::rows(rows)
    );
    if let Some(at) = leaf.detail.analyzed_at {
        evidence.push_str(&format!(" on {}", words::day(at)));
    }
    evidence.push_str("; rare other values may be missing in a sample");
    if let (Constant::Value(_), Some(sample)) = (constant, column.sample) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "no table is that large"
        )]
        let bytes = (rows * sample.width).max(0.0) as u64;
        evidence.push_str(&format!("; its values take {}", words::bytes(bytes)));
    }
    Finding::new(
        Check::ConstantColumn,
        Severity::Info,
        part(&head.schema, &head.name, &column.name),
        evidence,
        Advice::words(
            "ask whether anything still writes it: if not, take it out of the code, then drop the column (rows give its room back as they are rewritten). A mark for what happens seldom, such as a time of deletion, looks the same: suppress the finding then",
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::{
        RuledColumn,
        checks::made_up::*,
        facts::{ForeignKey, Index, IndexKey, Sample},
    };

    fn filled(mut table: Table) -> Table {
        table.rows = Some(50_000.0);
        table.pages = 500;
        table.detail.analyzed_at = Some("2026-11-20T03:00:00Z".parse().unwrap());
        table
    }

    fn column(number: i16, name: &str, null_fraction: f64, distinct: f64) -> Column {
        Column {
            number,
            name: name.to_owned(),
            sample: Some(Sample {
                null_fraction,
                distinct,
                width: 4.0,
                value: Some(7),
            }),
            ..Column::default()
        }
    }

    fn facts() -> Facts {
        let mut facts = tables([filled(table(1, "t"))]);
        facts.columns.insert(
            1,
            vec![
                column(1, "same", 0.0, 1.0),
                column(2, "null", 1.0, 0.0),
                column(3, "flag", 0.5, 1.0),
                column(4, "id", 0.0, -1.0),
            ],
        );
        facts
    }

    fn found(facts: &Facts) -> Vec<String> {
        run(check, facts, &Context::default())
            .into_iter()
            .map(|finding| finding.object)
            .collect()
    }

    #[test]
    fn one_value_and_only_nulls_are_found_and_a_mark_in_some_rows_is_not() {
        assert_eq!(found(&facts()), ["public.t.null", "public.t.same"]);
    }

    #[test]
    fn of_a_small_table_or_an_old_sample_nothing_is_said() {
        let mut small = facts();
        small.tables.get_mut(&1).unwrap().rows = Some(9_999.0);
        assert!(found(&small).is_empty());

        let mut old = facts();
        old.tables.get_mut(&1).unwrap().detail.counters.modified = 6_000;
        assert!(found(&old).is_empty());

        let mut unknown = facts();
        unknown.tables.get_mut(&1).unwrap().detail.analyzed_at = None;
        assert!(found(&unknown).is_empty());
    }

    #[test]
    fn columns_with_a_part_to_play_are_left_alone() {
        let mut of_key = facts();
        of_key.indexes = vec![Index {
            table: 1,
            unique: true,
            keys: [IndexKey {
                column: 1,
                ..IndexKey::default()
            }]
            .into(),
            ..Index::default()
        }];
        assert_eq!(found(&of_key), ["public.t.null"]);

        let mut reference = facts();
        reference.foreign_keys = vec![ForeignKey {
            table: 1,
            column_names: vec!["same".to_owned(), "null".to_owned()],
            ..ForeignKey::default()
        }];
        assert!(found(&reference).is_empty());

        let mut computed = facts();
        for column in computed.columns.get_mut(&1).unwrap() {
            column.generated = true;
        }
        assert!(found(&computed).is_empty());

        let mut added = facts();
        for column in added.columns.get_mut(&1).unwrap() {
            column.added = true;
        }
        assert!(found(&added).is_empty());
    }

    #[test]
    fn the_column_of_a_rule_is_left_to_its_rule() {
        let context = Context {
            ruled: vec![RuledColumn {
                table: 1,
                column: "null".to_owned(),
                ..RuledColumn::default()
            }],
            ..Context::default()
        };

        assert_eq!(
            ids(&run(check, &facts(), &context)),
            ["constant-column:public.t.same"]
        );
    }

    #[test]
    fn partitions_must_agree_and_are_counted_once() {
        let leaf = |value| {
            vec![Column {
                sample: Some(Sample {
                    distinct: 1.0,
                    value: Some(value),
                    ..Sample::default()
                }),
                ..column(1, "same", 0.0, 1.0)
            }]
        };
        let mut facts = tables([
            parent(1, "p"),
            filled(partition(2, "p1", 1)),
            filled(partition(3, "p2", 1)),
        ]);
        facts.columns.insert(2, leaf(7));
        facts.columns.insert(3, leaf(7));
        assert_eq!(found(&facts), ["public.p.same"]);

        facts.columns.insert(3, leaf(8));
        assert!(found(&facts).is_empty());

        facts.columns.insert(3, leaf(7));
        facts.partition_keys.insert(1, vec!["same".to_owned()]);
        assert!(found(&facts).is_empty());

        facts.partition_keys.clear();
        facts.columns.remove(&3);
        assert!(found(&facts).is_empty());
    }
}
