//! `duplicate-index`: two indexes of a table hold the same entries in the same order, and one enforces all that the other does.
//! Every write pays twice.
//!
//! Compared are access method, columns, operator classes, collations, order, expressions, predicate, included columns and parameters. A
//! partial index is no duplicate of a whole one. Of indexes that partitions inherited only the partitioned one is spoken of.

use std::{cmp::Reverse, collections::HashMap};

use crate::policy::hygiene::{
    Advice, Check, Context, Facts, Finding, Severity,
    facts::Index,
    indexes::{Indexes, are_alike, enforces_no_less, held, is_sound, size},
};

pub(super) fn check(facts: &Facts, _: &Context, findings: &mut Vec<Finding>) {
    let indexes = Indexes::new(facts);
    for (index, keeper) in pairs(&indexes) {
        let Some(object) = index.object(facts) else {
            continue;
        };
        let bytes = indexes.bytes(index);
        let evidence = format!(
            "{} has the same definition as {}{}; {} by the catalog",
            index.name,
            keeper.name,
            enforced(keeper),
            size(bytes)
        );
        let (severity, advice) = advice(facts, &indexes, index, keeper);
        findings.push(
            Finding::new(Check::DuplicateIndex, severity, object, evidence, advice).winning(bytes),
        );
    }
}

fn enforced(keeper: &Index) -> &'static str {
    if keeper.primary {
        " (the primary key)"
    } else if keeper.unique {
        " (unique)"
    } else if keeper.exclusion {
        " (an exclusion constraint)"
    } else {
        ""
    }
}

fn advice(
    facts: &Facts,
    indexes: &Indexes<'_>,
    index: &Index,
    keeper: &Index,
) -> (Severity, Advice) {
    if let Some(reason) = held(facts, index) {
        let advice = Advice::words(format!(
            "it cannot be dropped as it is: {reason}; move that to {} first",
            keeper.name
        ));
        return (Severity::Info, advice);
    }
    let mut text = format!("drop it: {} does the same", keeper.name);
    if index.clustered {
        text.push_str(
            "; CLUSTER knows the table by it: mark the other one with ALTER TABLE … CLUSTER ON",
        );
    }
    if indexes.is_partitioned(index) {
        text.push_str("; a partitioned index goes with those of all partitions, under a short exclusive lock of each");
    }
    let advice = Advice::run(text, indexes.drop_sql(index), indexes.restore_sql(index));
    (Severity::Warning, advice)
}

/// Each index that another one of its table makes needless, with that one. The same pair whatever numbers the server gives.
pub(super) fn pairs<'a>(indexes: &Indexes<'a>) -> Vec<(&'a Index, &'a Index)> {
    let mut pairs = Vec::new();
    for table in indexes.tables() {
        // Alike indexes have the same columns: only those need be compared with each other.
        let mut groups: HashMap<Vec<i16>, Vec<&'a Index>> = HashMap::new();
        for index in table.iter().filter(|index| is_sound(index)) {
            let columns = index.keys.iter().map(|key| key.column).collect();
            groups.entry(columns).or_default().push(index);
        }
        for mut group in groups.into_values().filter(|group| group.len() > 1) {
            group.sort_by_key(|index| worth(index));
            let mut kept: Vec<&Index> = Vec::new();
            for index in group {
                let keeper = kept
                    .iter()
                    .find(|keeper| are_alike(keeper, index) && enforces_no_less(keeper, index));
                match keeper {
                    // What a partition inherited goes with its parent's alone.
                    Some(keeper) if index.attached_to.is_none() => pairs.push((index, *keeper)),
                    Some(_) => {}
                    None => kept.push(index),
                }
            }
        }
    }
    pairs
}

/// Which of the same indexes stays: the first in this order. Names decide last, because sizes, numbers and use change.
fn worth(index: &Index) -> (Reverse<[bool; 7]>, &str) {
    let marks = [
        index.primary,
        index.replica_identity,
        index.referred,
        index.constraint.is_some(),
        index.unique,
        index.attached_to.is_some(),
        index.clustered,
    ];
    (Reverse(marks), &index.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::{
        checks::samples::{self, index, keys_of},
        facts::{Definition, ForeignKey, IndexKey, Rare},
    };

    fn found(indexes: Vec<Index>) -> Vec<Finding> {
        let mut findings = Vec::new();
        check(&samples::with(indexes), &Context::default(), &mut findings);
        findings
    }

    fn ids(indexes: Vec<Index>) -> Vec<String> {
        found(indexes).into_iter().map(|found| found.id).collect()
    }

    #[test]
    fn of_two_equal_indexes_the_later_name_is_the_duplicate() {
        let mut findings = found(vec![
            Index {
                pages: 200,
                definition: samples::made_by("CREATE INDEX t_a2 ON public.t USING btree (a)"),
                ..index(2, "t_a2", &[1])
            },
            index(3, "t_a1", &[1]),
        ]);

        let finding = findings.pop().unwrap();
        assert!(findings.is_empty());
        assert_eq!(finding.id, "duplicate-index:public.t.t_a2");
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(finding.estimated_bytes, Some(200 * 8192));
        assert_eq!(
            finding.advice.apply.as_deref(),
            Some(r#"DROP INDEX CONCURRENTLY "public"."t_a2";"#)
        );
        assert_eq!(
            finding.advice.undo.as_deref(),
            Some(r#"CREATE INDEX CONCURRENTLY "t_a2" ON "public"."t" USING btree (a);"#)
        );
    }

    #[test]
    fn a_plain_index_on_the_primary_key_is_the_duplicate_whatever_its_name() {
        let primary = Index {
            primary: true,
            unique: true,
            constraint: Some("t_pkey".into()),
            ..index(1, "t_pkey", &[1])
        };

        assert_eq!(
            ids(vec![index(2, "a_first", &[1]), primary]),
            ["duplicate-index:public.t.a_first"]
        );
    }

    #[test]
    fn read_backwards_it_is_the_same_index() {
        let mut backwards = index(2, "t_a_desc", &[1]);
        keys_of(&mut backwards)[0].options = 3;

        assert_eq!(ids(vec![index(1, "t_a", &[1]), backwards]).len(), 1);
    }

    #[test]
    fn whatever_differs_makes_another_index() {
        type Change = fn(&mut Index);
        let changes: [(&str, Change); 9] = [
            ("a partial index", |index| {
                index.predicate = Some("1".into())
            }),
            ("an operator class", |index| {
                keys_of(index)[0].operator_class = 7
            }),
            ("a collation", |index| keys_of(index)[0].collation = 7),
            ("NULLs first", |index| keys_of(index)[0].options = 2),
            ("a direction of one column", |index| {
                keys_of(index)[1].options = 3
            }),
            ("included columns", |index| {
                index.rare = Rare {
                    included: vec![3],
                    ..Rare::default()
                }
                .boxed();
            }),
            ("the access method", |index| index.method = "hash".into()),
            ("the order of columns", |index| keys_of(index).reverse()),
            ("not valid", |index| index.valid = false),
        ];
        for (name, change) in changes {
            let mut other = index(2, "t_other", &[1, 2]);
            change(&mut other);
            let found = ids(vec![index(1, "t_ab", &[1, 2]), other]);
            assert!(found.is_empty(), "{name}: {found:?}");
        }
    }

    #[test]
    fn parameters_make_another_index_only_where_they_change_what_it_finds() {
        let brin = |id, name, pages: &str| Index {
            method: "brin".into(),
            rare: Rare {
                parameters: Some(format!("{{pages_per_range={pages}}}")),
                ..Rare::default()
            }
            .boxed(),
            ..index(id, name, &[1])
        };

        assert!(ids(vec![brin(1, "a", "32"), brin(2, "b", "128")]).is_empty());
        assert_eq!(ids(vec![brin(1, "a", "32"), brin(2, "b", "32")]).len(), 1);
    }

    #[test]
    fn expressions_are_compared_and_not_only_counted() {
        let lower = |id, name, expression: &str| Index {
            rare: samples::expressions(expression),
            ..index(id, name, &[0])
        };

        assert!(ids(vec![lower(1, "a", "lower"), lower(2, "b", "upper")]).is_empty());
        assert_eq!(
            ids(vec![lower(1, "a", "lower"), lower(2, "b", "lower")]),
            ["duplicate-index:public.t.b"]
        );
    }

    #[test]
    fn two_unique_indexes_that_mean_different_things_both_stay() {
        let unique = |id, name| Index {
            unique: true,
            ..index(id, name, &[1])
        };
        let deferrable = Index {
            deferrable: true,
            ..unique(2, "b")
        };
        let no_nulls = Index {
            nulls_not_distinct: true,
            ..unique(3, "c")
        };

        assert!(ids(vec![unique(1, "a"), deferrable, no_nulls]).is_empty());
    }

    #[test]
    fn an_exclusion_constraint_is_no_duplicate_of_anything() {
        let exclusion = |id, name: &str| Index {
            method: "gist".into(),
            exclusion: true,
            constraint: Some(name.into()),
            ..index(id, name, &[1])
        };

        assert!(ids(vec![exclusion(1, "a"), exclusion(2, "b")]).is_empty());
    }

    #[test]
    fn a_unique_index_that_a_foreign_key_relies_on_is_not_proposed_to_be_dropped() {
        let primary = Index {
            primary: true,
            unique: true,
            constraint: Some("t_pkey".into()),
            ..index(1, "t_pkey", &[1])
        };
        let referred = Index {
            unique: true,
            referred: true,
            ..index(2, "t_id_key", &[1])
        };
        let mut facts = samples::with(vec![primary, referred]);
        facts.foreign_keys.push(ForeignKey {
            name: "child_fk".to_owned(),
            table: samples::TABLE,
            referred: samples::TABLE,
            relies_on: 2,
            ..ForeignKey::default()
        });
        let mut findings = Vec::new();

        check(&facts, &Context::default(), &mut findings);

        let finding = &findings[0];
        assert_eq!(finding.severity, Severity::Info);
        assert_eq!(finding.advice.apply, None);
        assert_eq!(
            finding.advice.text,
            "it cannot be dropped as it is: the foreign key public.t.child_fk relies on it; move that to t_pkey first"
        );
    }

    #[test]
    fn the_replica_identity_stays_and_its_duplicate_goes() {
        let unique = |id, name| Index {
            unique: true,
            ..index(id, name, &[1])
        };
        let identity = Index {
            replica_identity: true,
            ..unique(2, "z_identity")
        };

        assert_eq!(
            ids(vec![unique(1, "a"), identity]),
            ["duplicate-index:public.t.a"]
        );
    }

    #[test]
    fn a_duplicate_constraint_is_dropped_by_its_name() {
        let unique = |id, name: &str| Index {
            unique: true,
            constraint: Some(name.into()),
            definition: Some(Box::new(Definition {
                statement: format!(
                    "CREATE UNIQUE INDEX {name} ON public.t USING btree (a) WITH (fillfactor='70')"
                ),
                constraint: Some(format!("UNIQUE USING INDEX {name}")),
                marks: vec!["COMMENT ON INDEX public.t_a_key1 IS 'x';".to_owned()],
            })),
            ..index(id, name, &[1])
        };

        let findings = found(vec![unique(1, "t_a_key"), unique(2, "t_a_key1")]);

        let advice = &findings[0].advice;
        assert_eq!(
            advice.apply.as_deref(),
            Some(r#"ALTER TABLE "public"."t" DROP CONSTRAINT "t_a_key1";"#)
        );
        assert_eq!(
            advice.undo.as_deref(),
            Some(
                "CREATE UNIQUE INDEX CONCURRENTLY \"t_a_key1\" ON \"public\".\"t\" USING btree (a) WITH (fillfactor='70');\n\
                 ALTER TABLE \"public\".\"t\" ADD CONSTRAINT \"t_a_key1\" UNIQUE USING INDEX t_a_key1;\n\
                 COMMENT ON INDEX public.t_a_key1 IS 'x';"
            )
        );
    }

    #[test]
    fn what_partitions_inherit_is_found_once_and_at_the_partitioned_table() {
        let facts = samples::partitioned(&["p_a", "p_b"], &[1]);
        let mut findings = Vec::new();

        check(&facts, &Context::default(), &mut findings);

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].id, "duplicate-index:public.p.p_b");
        assert_eq!(findings[0].estimated_bytes, Some(2 * 10 * 8192));
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(r#"DROP INDEX "public"."p_b";"#)
        );
    }

    #[test]
    fn an_index_that_a_partition_has_for_itself_yields_to_the_inherited_one() {
        let mut facts = samples::partitioned(&["p_a"], &[1]);
        facts.indexes.push(Index {
            table: samples::PARTITION,
            ..index(90, "a_own", &[1])
        });
        let mut findings = Vec::new();

        check(&facts, &Context::default(), &mut findings);

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].id, "duplicate-index:public.p_1.a_own");
    }

    #[test]
    fn three_equal_indexes_make_two_findings_that_name_the_same_one() {
        let findings = found(vec![
            index(1, "c", &[1]),
            index(2, "a", &[1]),
            index(3, "b", &[1]),
        ]);

        assert_eq!(findings.len(), 2);
        assert!(
            findings
                .iter()
                .all(|found| found.evidence.contains("same definition as a;"))
        );
    }

    #[test]
    fn keys_are_what_is_compared_and_not_their_count() {
        let one = Index {
            keys: [IndexKey {
                column: 2,
                ..IndexKey::default()
            }]
            .into(),
            ..index(2, "b", &[1])
        };

        assert!(ids(vec![index(1, "a", &[1]), one]).is_empty());
    }
}
