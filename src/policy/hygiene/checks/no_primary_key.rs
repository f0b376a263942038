//! `no-primary-key`: nothing tells one row of a table from another. Rows can then not be changed one by one, replicas and
//! repacking tools cannot follow, duplicates go unseen.
//!
//! A table with another unique key that is total (never NULL, no predicate, no expression) ranks lower. Partitions and heirs are
//! counted with the table at the top; one that differs from its siblings is noticed.

use std::collections::HashSet;

use super::duplicate_index;
use crate::policy::hygiene::{
    Advice, Check, Context, Facts, Finding, Severity,
    facts::{Index, Kind, Table, TotalKey},
    indexes::Indexes,
    sql_name,
    tree::Trees,
    words,
};
use crate::policy::table::quoted;

pub(super) fn check(facts: &Facts, _: &Context, findings: &mut Vec<Finding>) {
    let trees = Trees::of(facts);
    let keys = Keys::of(facts);
    let indexes = Indexes::new(facts);
    let duplicates = duplicate_index::pairs(&indexes);
    let duplicates: HashSet<u32> = duplicates.iter().map(|(index, _)| index.id).collect();
    let is_duplicate = |key: &TotalKey| {
        let mut of_table = indexes.of(key.table).iter();
        of_table.any(|index| *index.name == *key.name && duplicates.contains(&index.id))
    };
    for head in trees.heads() {
        if head.kind == Kind::Materialized || keys.primary.contains(&head.id) {
            continue;
        }
        let parent = head.inherits.and_then(|parent| facts.tables.get(&parent));
        if parent.is_some_and(|parent| !keys.has(parent)) {
            continue;
        }
        if let Some(key) = keys.lasting(head, is_duplicate) {
            findings.push(other_key(facts, head, key));
        } else if head.kind == Kind::Partitioned {
            partitioned(head, &trees, &keys, findings);
        } else {
            findings.push(none(head, trees.family(head).len() - 1, "inherit from it"));
        }
    }
}

/// Which tables have a key.
struct Keys<'a> {
    primary: HashSet<u32>,
    total: &'a [TotalKey],
}

impl<'a> Keys<'a> {
    fn of(facts: &'a Facts) -> Self {
        let primary = facts.indexes.iter().filter(|index| index.primary);
        Self {
            primary: primary.map(|index| index.table).collect(),
            total: &facts.total_keys,
        }
    }

    fn total(&self, table: &Table) -> impl Iterator<Item = &'a TotalKey> {
        self.total.iter().filter(move |key| key.table == table.id)
    }

    /// The first of them that another check does not want dropped.
    fn lasting(
        &self,
        table: &Table,
        is_duplicate: impl Fn(&TotalKey) -> bool,
    ) -> Option<&'a TotalKey> {
        self.total(table)
            .min_by_key(|key| (is_duplicate(key), &key.name))
    }

    fn has(&self, table: &Table) -> bool {
        self.primary.contains(&table.id) || self.total(table).next().is_some()
    }
}

fn partitioned(head: &Table, trees: &Trees<'_>, keys: &Keys<'_>, findings: &mut Vec<Finding>) {
    let leaves = trees.leaves(head);
    let (with, without): (Vec<&Table>, Vec<&Table>) =
        leaves.iter().copied().partition(|leaf| keys.has(leaf));
    if with.is_empty() {
        findings.push(none(head, leaves.len(), "are its partitions"));
        return;
    }
    findings.push(Finding::new(
        Check::NoPrimaryKey,
        Severity::Info,
        head.object(),
        format!(
            "no primary key of its own; {} of its {} partitions have a key each",
            with.len(),
            leaves.len()
        ),
        Advice::words(
            "a key that holds over all partitions has the partition key among its columns: ADD PRIMARY KEY on the partitioned table takes over the partitions' keys where they fit",
        ),
    ));
    for leaf in without {
        let mut finding = none(leaf, 0, "");
        finding
            .evidence
            .push_str("; its sibling partitions have one");
        findings.push(finding);
    }
}

fn none(table: &Table, others: usize, relation: &str) -> Finding {
    let mut evidence =
        "no primary key, and no other unique key whose columns are all NOT NULL (catalog)"
            .to_owned();
    if let Some(rows) = table.rows.filter(|rows| *rows > 0.0) {
        evidence.push_str(&format!("; {}", words::rows(rows)));
    }
    if others > 0 {
        evidence.push_str(&format!("; {others} tables {relation}"));
    }
    Finding::new(
        Check::NoPrimaryKey,
        Severity::Warning,
        table.object(),
        evidence,
        Advice::words(format!(
            "find the columns that tell rows apart, build CREATE UNIQUE INDEX CONCURRENTLY over them, set them NOT NULL and ALTER TABLE {} ADD PRIMARY KEY USING INDEX it; where there are none, add an identity column in a quiet hour: that rewrites the table",
            sql_name(&table.schema, &table.name)
        )),
    )
}

fn other_key(facts: &Facts, table: &Table, key: &TotalKey) -> Finding {
    let evidence = format!(
        "no primary key; unique key {} ({}) tells rows apart, its columns are NOT NULL",
        key.name,
        key.columns.join(", ")
    );
    let advice = key_advice(facts, table, key);
    Finding::new(
        Check::NoPrimaryKey,
        Severity::Info,
        table.object(),
        evidence,
        advice,
    )
}

/// The index itself becomes the primary key where the server takes it; else it can at least be the replica identity.
fn key_advice(facts: &Facts, table: &Table, key: &TotalKey) -> Advice {
    let name = sql_name(&table.schema, &table.name);
    let index_name = quoted(&key.name);
    match convertible(facts, key) {
        Some(index) if table.kind == Kind::Table => {
            let text = "make the unique index the primary key: a short lock, nothing is rebuilt";
            let apply = format!("ALTER TABLE {name} ADD PRIMARY KEY USING INDEX {index_name};");
            if index.referred {
                let text = format!(
                    "{text}. There is no way back as long as foreign keys rely on the index"
                );
                return Advice::run(text, apply, None);
            }
            let undo = Indexes::new(facts)
                .restore_sql(index)
                .map(|again| format!("ALTER TABLE {name} DROP CONSTRAINT {index_name};\n{again}"));
            Advice::run(text, apply, undo)
        }
        _ if key.immediate && table.kind == Kind::Table => Advice::words(format!(
            "the unique key does what a primary key would, except for tools that look for one: ALTER TABLE {name} REPLICA IDENTITY USING INDEX {index_name} lets \
             subscribers tell rows apart by it; a primary key over the same columns would build a second index"
        )),
        _ => Advice::words(
            "the unique key does what a primary key would, except for tools that look for one",
        ),
    }
}

/// The index of the key, if it can become a primary key as it is.
fn convertible<'a>(facts: &'a Facts, key: &TotalKey) -> Option<&'a Index> {
    let index = facts.indexes.iter().find(|index| index.id == key.index)?;
    let is_convertible = key.is_plain
        && index.constraint.is_none()
        && &*index.method == "btree"
        && index.included().is_empty()
        && index.keys.iter().all(|key| key.options == 0);
    is_convertible.then_some(index)
}

/// The indexes that the advice makes primary keys.
pub(super) fn converted(facts: &Facts) -> Vec<u32> {
    let keys = facts.total_keys.iter();
    keys.filter_map(|key| convertible(facts, key))
        .map(|index| index.id)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::checks::{made_up::*, samples};

    fn primary(table: u32) -> Index {
        Index {
            id: table + 1_000,
            table,
            name: "pk".into(),
            primary: true,
            unique: true,
            valid: true,
            ..Index::default()
        }
    }

    fn total(table: u32) -> TotalKey {
        TotalKey {
            table,
            index: 500,
            name: "t_a".to_owned(),
            columns: vec!["a".to_owned()],
            immediate: true,
            is_plain: true,
        }
    }

    fn found(facts: &Facts) -> Vec<(String, Severity)> {
        run(check, facts, &Context::default())
            .into_iter()
            .map(|finding| (finding.object, finding.severity))
            .collect()
    }

    #[test]
    fn a_table_without_any_key_is_found_and_one_with_a_primary_key_is_not() {
        let mut facts = tables([table(1, "bare"), table(2, "good")]);
        facts.indexes = vec![primary(2)];

        assert_eq!(
            found(&facts),
            [("public.bare".to_owned(), Severity::Warning)]
        );
    }

    #[test]
    fn another_total_key_ranks_lower_and_can_become_the_primary_one() {
        let mut facts = tables([table(1, "t")]);
        facts.total_keys = vec![total(1)];
        facts.indexes = vec![Index {
            id: 500,
            table: 1,
            name: "t_a".into(),
            method: "btree".into(),
            unique: true,
            valid: true,
            definition: samples::made_by("CREATE UNIQUE INDEX t_a ON public.t USING btree (a)"),
            ..Index::default()
        }];

        let findings = run(check, &facts, &Context::default());

        assert_eq!(findings[0].severity, Severity::Info);
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(r#"ALTER TABLE "public"."t" ADD PRIMARY KEY USING INDEX "t_a";"#)
        );
        assert!(findings[0].advice.undo.is_some());
    }

    #[test]
    fn of_two_equal_keys_the_one_that_stays_becomes_the_primary_one() {
        let unique = |id, name: &str| Index {
            unique: true,
            table: 1,
            ..samples::index(id, name, &[1])
        };
        let mut facts = tables([table(1, "t")]);
        facts.total_keys = ["t_a", "t_a2"]
            .map(|name| TotalKey {
                name: name.to_owned(),
                ..total(1)
            })
            .into();
        facts.indexes = vec![
            unique(500, "t_a"),
            Index {
                replica_identity: true,
                ..unique(501, "t_a2")
            },
        ];

        let findings = run(check, &facts, &Context::default());

        assert!(
            findings[0].evidence.contains("unique key t_a2"),
            "{}",
            findings[0].evidence
        );
    }

    #[test]
    fn the_index_of_a_constraint_stays_what_it_is() {
        let mut facts = tables([table(1, "t")]);
        facts.total_keys = vec![total(1)];

        let findings = run(check, &facts, &Context::default());

        let advice = &findings[0].advice;
        assert_eq!((&advice.apply, &advice.undo), (&None, &None));
        assert!(
            advice
                .text
                .contains(r#"ALTER TABLE "public"."t" REPLICA IDENTITY USING INDEX "t_a""#),
            "{}",
            advice.text
        );
    }

    #[test]
    fn partitions_are_counted_with_their_table() {
        let facts = tables([parent(1, "p"), partition(2, "p1", 1), partition(3, "p2", 1)]);

        assert_eq!(found(&facts), [("public.p".to_owned(), Severity::Warning)]);
    }

    #[test]
    fn the_partition_whose_siblings_have_a_key_is_noticed() {
        let mut facts = tables([
            parent(1, "p"),
            partition(2, "p1", 1),
            partition(3, "p2", 1),
            partition(4, "p3", 1),
        ]);
        facts.indexes = vec![primary(2), primary(4)];

        assert_eq!(
            found(&facts),
            [
                ("public.p".to_owned(), Severity::Info),
                ("public.p2".to_owned(), Severity::Warning)
            ]
        );
    }

    #[test]
    fn heirs_are_counted_with_their_parent_unless_it_has_a_key() {
        let heir = |id, name| Table {
            inherits: Some(1),
            ..table(id, name)
        };
        let mut facts = tables([table(1, "old"), heir(2, "old1"), heir(3, "old2")]);
        assert_eq!(
            found(&facts),
            [("public.old".to_owned(), Severity::Warning)]
        );

        facts.indexes = vec![primary(1), primary(2)];
        assert_eq!(
            found(&facts),
            [("public.old2".to_owned(), Severity::Warning)]
        );
    }

    #[test]
    fn a_materialized_view_needs_no_key() {
        let facts = tables([Table {
            kind: Kind::Materialized,
            ..table(1, "m")
        }]);

        assert_eq!(found(&facts), []);
    }
}
