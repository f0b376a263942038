//! `foreign-key-without-index`: a DELETE in the referred table, or a change of its key, reads the whole referring table, for each row.
//!
//! An index serves a foreign key when its first column is one of the key's: the rest is filtered. It may be partial where it leaves out
//! rows that refer to nothing (`WHERE column IS NOT NULL`). Of a partitioned referring table each partition is looked at, and what all
//! of them lack is found once.

use std::collections::HashMap;

use crate::policy::{
    hygiene::{
        Advice, Check, Context, Facts, Finding, Severity,
        facts::{ForeignKey, Kind, Table},
        indexes::{Indexes, PAGE, about, is_sound, referring, serves, size},
        sql_name,
        statements::{Made, Names},
    },
    table::quoted,
};

/// From that many pages on (10 MiB) reading all of them for each row is felt. Smaller tables grow, so they are worth a remark.
const LARGE: u64 = 1280;
/// So many partitions are named, and get their statements.
const SHOWN: usize = 20;

pub(super) fn check(facts: &Facts, _: &Context, findings: &mut Vec<Finding>) {
    let indexes = Indexes::new(facts);
    let mut names = Names::new(facts);
    let mut alike: HashMap<(u32, &[i16]), usize> = HashMap::new();
    for key in &facts.foreign_keys {
        *alike
            .entry((key.table, key.columns.as_slice()))
            .or_default() += 1;
    }
    for key in facts.foreign_keys.iter().filter(|key| !key.not_enforced) {
        let (Some(table), Some(referred)) = (
            facts.tables.get(&key.table),
            facts.tables.get(&key.referred),
        ) else {
            continue;
        };
        let tables = referring(facts, key);
        let lacking: Vec<(&Table, &[i16])> = tables
            .iter()
            .filter(|(id, columns)| {
                !indexes
                    .of(*id)
                    .iter()
                    .any(|index| serves(index, key, columns))
            })
            .filter_map(|(id, columns)| Some((facts.tables.get(id)?, *columns)))
            .collect();
        if lacking.is_empty() {
            continue;
        }
        let object = crate::policy::hygiene::part(&table.schema, &table.name, &key.name);
        let pages: u64 = lacking.iter().map(|(table, _)| table.pages).sum();
        let severity = if pages >= LARGE {
            Severity::Warning
        } else {
            Severity::Info
        };
        let evidence = evidence(&indexes, key, referred, &lacking, tables.len());
        let lacking: Vec<&Table> = lacking.into_iter().map(|(table, _)| table).collect();
        // Several keys of the same columns are found one by one, and served by one index.
        let may_exist = alike.get(&(key.table, key.columns.as_slice())) > Some(&1);
        let wanted = Wanted {
            key,
            table,
            lacking: &lacking,
            of: tables.len(),
            may_exist,
        };
        let advice = advice(&indexes, &mut names, &wanted);
        findings.push(Finding::new(
            Check::ForeignKeyWithoutIndex,
            severity,
            object,
            evidence,
            advice,
        ));
    }
}

fn evidence(
    indexes: &Indexes<'_>,
    key: &ForeignKey,
    referred: &Table,
    lacking: &[(&Table, &[i16])],
    tables: usize,
) -> String {
    let pages: u64 = lacking.iter().map(|(table, _)| table.pages).sum();
    let rows: Option<f64> = lacking.iter().map(|(table, _)| table.rows).sum();
    let rows = rows.map_or_else(
        || "a number of rows that was never estimated".to_owned(),
        |rows| format!("about {} rows", about(rows)),
    );
    let mut evidence = format!(
        "no index begins with {}; a DELETE in {}, or an UPDATE of its key, reads {rows}, {} by the catalog",
        any_of(&key.column_names),
        referred.object(),
        size(pages.saturating_mul(PAGE))
    );
    if lacking.len() < tables {
        let names: Vec<String> = lacking
            .iter()
            .take(SHOWN)
            .map(|(table, _)| table.object())
            .collect();
        evidence.push_str(&format!(
            "; {} of {tables} partitions lack one: {}{}",
            lacking.len(),
            names.join(", "),
            if lacking.len() > SHOWN { ", …" } else { "" }
        ));
    }
    if let [(table, columns)] = lacking
        && let Some((name, why)) = nearly(indexes, key, table, columns)
    {
        evidence.push_str(&format!("; {name} {why}"));
    }
    evidence
}

fn any_of(columns: &[String]) -> String {
    match columns {
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
        [] => String::new(),
    }
}

/// An index that would serve the key but for one thing.
fn nearly<'a>(
    indexes: &Indexes<'a>,
    key: &ForeignKey,
    table: &Table,
    columns: &[i16],
) -> Option<(&'a str, &'static str)> {
    let begins = indexes.of(table.id).iter().filter(|index| {
        let first = index.keys.first();
        first.is_some_and(|first| columns.contains(&first.column))
    });
    let mut nearly: Vec<_> = begins
        .map(|index| {
            let mut whole = (*index).clone();
            whole.predicate = None;
            let why = if !is_sound(index) {
                "does, but is not valid"
            } else if &*index.method == "brin" {
                "leads to blocks only, not to rows"
            } else if serves(&whole, key, columns) {
                "does, but holds only a part of the rows"
            } else {
                "does, but compares texts by another collation"
            };
            (&*index.name, why)
        })
        .collect();
    nearly.sort_unstable();
    nearly.into_iter().next()
}

/// The index that is wanted.
struct Wanted<'w> {
    key: &'w ForeignKey,
    table: &'w Table,
    /// Tables with rows that lack it, and how many there are.
    lacking: &'w [&'w Table],
    of: usize,
    /// Another key wants the same one.
    may_exist: bool,
}

fn advice(indexes: &Indexes<'_>, names: &mut Names<'_>, wanted: &Wanted<'_>) -> Advice {
    let Wanted {
        key,
        table,
        lacking,
        of: tables,
        may_exist,
    } = *wanted;
    names.begin_anew();
    let columns: Vec<String> = key.column_names.iter().map(|name| quoted(name)).collect();
    let tail = format!("({})", columns.join(", "));
    let wished = |table: &Table| format!("{}_{}_idx", table.name, key.column_names.join("_"));
    let made = Made {
        wished: &wished,
        tail: &tail,
        unique: false,
        constraint: None,
        may_exist,
    };
    let exists = if may_exist { "IF EXISTS " } else { "" };
    let mut apply = Vec::new();
    if table.kind != Kind::Partitioned || lacking.len() < tables {
        let mut undo = Vec::new();
        for table in lacking.iter().take(SHOWN) {
            let name = indexes.build(&made, table, None, names, &mut apply);
            undo.push(format!(
                "DROP INDEX CONCURRENTLY {exists}{};",
                sql_name(&table.schema, &name)
            ));
        }
        let text = "create an index, unless rows of the referred table are never deleted and its key never changes; with a column that is mostly \
                    NULL a partial one will do (WHERE … IS NOT NULL)";
        return Advice::run(text, apply.join("\n"), Some(undo.join("\n")));
    }
    // The parts are built one by one, and concurrently, which the partitioned index itself cannot be.
    let (parent, text) = if lacking.len() <= SHOWN {
        (
            indexes.build(&made, table, None, names, &mut apply),
            "create the index of the partitioned table, then those of its partitions without blocking writes, and attach them",
        )
    } else {
        let parent = names.free(&table.schema, &wished(table));
        apply.push(format!(
            "CREATE INDEX {}{} ON ONLY {} {tail};",
            if may_exist { "IF NOT EXISTS " } else { "" },
            quoted(&parent),
            sql_name(&table.schema, &table.name)
        ));
        (
            parent,
            "create the index of the partitioned table; until each partition has its own, the finding invalid-index prints the statements for them",
        )
    };
    let undo = format!("DROP INDEX {exists}{};", sql_name(&table.schema, &parent));
    Advice::run(text, apply.join("\n"), Some(undo))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::{
        checks::samples::{self, index, keys_of, table},
        facts::{ForeignKeyPart, Index, Rare},
    };

    /// `public.t (columns)` refers to `public.parent`; the columns are called a, b, c.
    fn referring_by(columns: &[i16], indexes: Vec<Index>) -> Facts {
        let mut facts = samples::with(indexes);
        facts.tables.insert(1, table(1, "parent"));
        facts.foreign_keys.push(ForeignKey {
            name: "t_fk".to_owned(),
            table: samples::TABLE,
            columns: columns.to_vec(),
            column_names: columns
                .iter()
                .map(|column| ["", "a", "b", "c"][usize::try_from(*column).unwrap()].to_owned())
                .collect(),
            collations: vec![0; columns.len()],
            referred: 1,
            ..ForeignKey::default()
        });
        facts
    }

    fn found_in(facts: &Facts) -> Vec<Finding> {
        let mut findings = Vec::new();
        check(facts, &Context::default(), &mut findings);
        findings
    }

    #[test]
    fn without_any_index_it_is_found_with_the_index_to_create() {
        let mut facts = referring_by(&[1, 2], vec![]);
        let table = facts.tables.get_mut(&samples::TABLE).unwrap();
        (table.pages, table.rows) = (12_800, Some(1_234_567.0));

        let findings = found_in(&facts);

        let finding = &findings[0];
        assert_eq!(finding.id, "foreign-key-without-index:public.t.t_fk");
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(
            finding.evidence,
            "no index begins with a or b; a DELETE in public.parent, or an UPDATE of its key, reads about 1,200,000 rows, 100 MiB by the catalog"
        );
        assert_eq!(
            finding.advice.apply.as_deref(),
            Some(r#"CREATE INDEX CONCURRENTLY "t_a_b_idx" ON "public"."t" ("a", "b");"#)
        );
        assert_eq!(
            finding.advice.undo.as_deref(),
            Some(r#"DROP INDEX CONCURRENTLY "public"."t_a_b_idx";"#)
        );
    }

    #[test]
    fn a_small_table_is_a_remark() {
        assert_eq!(
            found_in(&referring_by(&[1], vec![]))[0].severity,
            Severity::Info
        );
    }

    #[test]
    fn an_index_that_begins_with_any_of_its_columns_serves_it() {
        for columns in [&[1, 2][..], &[2, 1], &[1], &[2], &[1, 3], &[2, 3, 1]] {
            let facts = referring_by(&[1, 2], vec![index(1, "t_i", columns)]);
            assert_eq!(found_in(&facts), [], "{columns:?}");
        }
        let facts = referring_by(&[1, 2], vec![index(1, "t_i", &[3, 1, 2])]);
        assert_eq!(found_in(&facts).len(), 1);
    }

    #[test]
    fn a_partial_index_serves_it_when_it_leaves_out_only_rows_that_refer_to_nothing() {
        let partial = |not_null: Option<Vec<i16>>| Index {
            predicate: Some("1".into()),
            rare: Rare {
                not_null,
                ..Rare::default()
            }
            .boxed(),
            ..index(1, "t_i", &[1])
        };

        assert_eq!(
            found_in(&referring_by(&[1], vec![partial(Some(vec![1]))])),
            []
        );
        let both = referring_by(&[1, 2], vec![partial(Some(vec![1, 2]))]);
        assert_eq!(found_in(&both), []);
        let other = found_in(&referring_by(&[1], vec![partial(Some(vec![3]))]));
        assert_eq!(other.len(), 1);
        let open = found_in(&referring_by(&[1], vec![partial(None)]));
        assert!(
            open[0]
                .evidence
                .ends_with("t_i does, but holds only a part of the rows")
        );
    }

    #[test]
    fn an_unfinished_index_and_one_of_another_collation_serve_nothing() {
        let invalid = Index {
            valid: false,
            ..index(1, "t_i", &[1])
        };
        let found = found_in(&referring_by(&[1], vec![invalid]));
        assert!(found[0].evidence.ends_with("t_i does, but is not valid"));

        let mut other = index(1, "t_i", &[1]);
        keys_of(&mut other)[0].collation = 950;
        let mut facts = referring_by(&[1], vec![other]);
        facts.foreign_keys[0].collations = vec![100];
        let found = found_in(&facts);
        assert!(found[0].evidence.ends_with("another collation"));
    }

    #[test]
    fn the_name_of_the_new_index_is_one_that_is_free() {
        let facts = referring_by(&[1], vec![index(1, "t_a_idx", &[3])]);

        let apply = found_in(&facts)[0].advice.apply.clone().unwrap();

        assert!(apply.contains(r#""t_a_idx1" ON"#), "{apply}");
    }

    /// `public.p` refers by its first column; in its second partition that is the column 7.
    fn partitioned(indexes: Vec<Index>) -> Facts {
        let mut facts = samples::partitioned(&[], &[]);
        facts.tables.insert(1, table(1, "parent"));
        facts.indexes = indexes;
        facts.foreign_keys.push(ForeignKey {
            name: "p_fk".to_owned(),
            table: samples::PARENT,
            columns: vec![1],
            column_names: vec!["a".to_owned()],
            collations: vec![0],
            referred: 1,
            parts: [1, 7]
                .into_iter()
                .zip(samples::PARTITION..)
                .map(|(column, table)| ForeignKeyPart {
                    table,
                    columns: vec![column],
                })
                .collect(),
            ..ForeignKey::default()
        });
        facts
    }

    fn on_partition(number: u32, column: i16) -> Index {
        Index {
            table: samples::PARTITION + number,
            ..index(500 + number, &format!("own_{number}"), &[column])
        }
    }

    #[test]
    fn what_all_partitions_lack_is_found_once() {
        let findings = found_in(&partitioned(vec![]));

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].id, "foreign-key-without-index:public.p.p_fk");
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(
                "CREATE INDEX \"p_a_idx\" ON ONLY \"public\".\"p\" (\"a\");\n\
                 CREATE INDEX CONCURRENTLY \"p_1_a_idx\" ON \"public\".\"p_1\" (\"a\");\n\
                 ALTER INDEX \"public\".\"p_a_idx\" ATTACH PARTITION \"public\".\"p_1_a_idx\";\n\
                 CREATE INDEX CONCURRENTLY \"p_2_a_idx\" ON \"public\".\"p_2\" (\"a\");\n\
                 ALTER INDEX \"public\".\"p_a_idx\" ATTACH PARTITION \"public\".\"p_2_a_idx\";"
            )
        );
    }

    #[test]
    fn indexes_of_the_partitions_serve_it_by_the_columns_numbers_there() {
        assert_eq!(
            found_in(&partitioned(vec![on_partition(0, 1), on_partition(1, 7)])),
            []
        );
    }

    #[test]
    fn the_partition_that_differs_is_named() {
        let findings = found_in(&partitioned(vec![on_partition(0, 1), on_partition(1, 1)]));

        assert!(
            findings[0]
                .evidence
                .ends_with("1 of 2 partitions lack one: public.p_2"),
            "{}",
            findings[0].evidence
        );
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(r#"CREATE INDEX CONCURRENTLY "p_2_a_idx" ON "public"."p_2" ("a");"#)
        );
    }
}
