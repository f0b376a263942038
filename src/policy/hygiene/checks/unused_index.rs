//! `unused-index`: no query has used the index for `audit.unusedAfter`, as far as every sample over that time shows. Unknown is not
//! unused.
//!
//! Left out is whatever is there for another reason than being read: primary keys, unique and exclusion constraints, replica
//! identities, indexes that serve a foreign key (deletes in the referred table use them, which may be rare), that `CLUSTER` orders by,
//! parts of partitioned indexes, and what begins with the time column of a rule: without it a sweep that looks for the few rows
//! that have expired reads the whole table. A partitioned index is unused when all its parts are.

use std::collections::{HashMap, HashSet};

use super::{duplicate_index, redundant_index};
use crate::policy::{
    hygiene::{
        Advice, Check, Context, Facts, Finding, RuledColumn, Severity,
        facts::Index,
        indexes::{Indexes, is_sound, referring, serves, size},
    },
    usage::Usage,
};

/// Pages (10 MiB) from which on an unused index is more than a remark.
const LARGE: u64 = 1280;

pub(super) fn check(facts: &Facts, context: &Context, findings: &mut Vec<Finding>) {
    let indexes = Indexes::new(facts);
    for (index, usage) in candidates(facts, &indexes) {
        let Usage::Unused { since, days } = usage else {
            continue;
        };
        let Some(object) = index.object(facts) else {
            continue;
        };
        if days < context.unused_after_days || serves_the_policy(&indexes, index, context) {
            continue;
        }
        let bytes = indexes.bytes(index);
        let parts = match indexes.attached(index.id).len() {
            0 => String::new(),
            parts => format!(" of any of its {parts} parts"),
        };
        let evidence = format!(
            "no scan{parts} since {}, by samples of the server's counters; {} by the catalog",
            since.strftime("%Y-%m-%d"),
            size(bytes)
        );
        let severity = if indexes.pages(index) >= LARGE {
            Severity::Warning
        } else {
            Severity::Info
        };
        let advice = advice(&indexes, index);
        findings.push(
            Finding::new(Check::UnusedIndex, severity, object, evidence, advice).winning(bytes),
        );
    }
}

/// The policy's sweeps or audits read by it, or by one of its parts: what they read is taken off the counters.
fn serves_the_policy(indexes: &Indexes<'_>, index: &Index, context: &Context) -> bool {
    let is_read = |id: u32| {
        let by_rule = |ruled: &RuledColumn| ruled.indexes.contains(&id);
        context.ruled.iter().any(by_rule) || context.log_indexes.contains(&id)
    };
    let mut parts = indexes.attached(index.id).iter();
    is_read(index.id) || parts.any(|part| serves_the_policy(indexes, part, context))
}

fn advice(indexes: &Indexes<'_>, index: &Index) -> Advice {
    let mut text = "drop it, if replicas and rare jobs do not use it either".to_owned();
    if index.expressions().is_some() {
        text.push_str(
            "; the planner also takes statistics from its expressions: before the drop, CREATE STATISTICS … ON (expression) and ANALYZE keep them",
        );
    }
    if indexes.is_partitioned(index) {
        text.push_str("; a partitioned index goes with those of all partitions, under a short exclusive lock of each");
    }
    Advice::run(text, indexes.drop_sql(index), indexes.restore_sql(index))
}

/// Indexes that are there to be read only, and that nobody reads.
pub(super) fn candidates<'a>(facts: &'a Facts, indexes: &Indexes<'a>) -> Vec<(&'a Index, Usage)> {
    let mut found = Vec::new();
    let mut needed = None;
    for index in facts.indexes.iter().filter(|index| is_for_reading(index)) {
        let usage = indexes.usage(index);
        if usage.unused_days().is_none() {
            continue;
        }
        let needed = needed.get_or_insert_with(|| Needed::of(facts, indexes));
        if !needed.0.contains(&index.id) {
            found.push((index, usage));
        }
    }
    found
}

fn is_for_reading(index: &Index) -> bool {
    is_sound(index)
        && !index.primary
        && !index.unique
        && !index.exclusion
        && index.constraint.is_none()
        && !index.replica_identity
        && !index.referred
        && !index.clustered
        && index.attached_to.is_none()
}

/// Indexes that have to stay, or have another finding, and the partitioned ones to which these are attached.
struct Needed(HashSet<u32>);

impl Needed {
    /// Those that serve a foreign key, those that are duplicates or redundant themselves, and those that stay in the place of one that may
    /// be in use: of two that find the same rows the server uses one, so that the other counts no scan.
    fn of(facts: &Facts, indexes: &Indexes<'_>) -> Self {
        let mut needed = HashSet::new();
        for key in &facts.foreign_keys {
            for (table, columns) in referring(facts, key) {
                let of_table = indexes.of(table).iter();
                let serving = of_table.filter(|index| serves(index, key, columns));
                needed.extend(serving.map(|index| index.id));
            }
        }
        let duplicates = duplicate_index::pairs(indexes).into_iter();
        for (index, keeper) in duplicates.chain(redundant_index::pairs(indexes)) {
            needed.insert(index.id);
            if indexes.usage(index).unused_days().is_none() {
                needed.insert(keeper.id);
            }
        }
        let parents: HashMap<u32, u32> = facts
            .indexes
            .iter()
            .filter_map(|index| Some((index.id, index.attached_to?)))
            .collect();
        let attached: Vec<u32> = needed.iter().copied().collect();
        for mut index in attached {
            while let Some(parent) = parents.get(&index).filter(|parent| needed.insert(**parent)) {
                index = *parent;
            }
        }
        Self(needed)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::policy::hygiene::{
        checks::samples::{self, index},
        facts::ForeignKey,
    };

    fn unused(days: u32) -> Usage {
        Usage::Unused {
            since: "2026-08-01T00:00:00Z".parse::<Timestamp>().unwrap(),
            days,
        }
    }

    fn unused_index() -> Index {
        Index {
            usage: unused(100),
            pages: 2000,
            definition: samples::made_by("CREATE INDEX t_a ON public.t USING btree (a)"),
            ..index(1, "t_a", &[1])
        }
    }

    fn found_in(facts: &Facts) -> Vec<Finding> {
        let mut findings = Vec::new();
        let context = Context {
            unused_after_days: 90,
            ..Context::default()
        };
        check(facts, &context, &mut findings);
        findings
    }

    #[test]
    fn an_index_that_nobody_reads_is_found_with_what_makes_it_again() {
        let findings = found_in(&samples::with(vec![unused_index()]));

        let finding = &findings[0];
        assert_eq!(finding.id, "unused-index:public.t.t_a");
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(
            finding.evidence,
            "no scan since 2026-08-01, by samples of the server's counters; 16 MiB by the catalog"
        );
        assert_eq!(finding.estimated_bytes, Some(2000 * 8192));
        assert_eq!(
            finding.advice.undo.as_deref(),
            Some(r#"CREATE INDEX CONCURRENTLY "t_a" ON "public"."t" USING btree (a);"#)
        );
    }

    #[test]
    fn used_unknown_and_not_long_enough_are_not_unused() {
        for usage in [
            Usage::Used { last: None },
            Usage::Unknown("the counters were reset"),
            Usage::default(),
            unused(89),
        ] {
            let index = Index {
                usage: usage.clone(),
                ..unused_index()
            };
            assert_eq!(found_in(&samples::with(vec![index])), [], "{usage:?}");
        }
    }

    #[test]
    fn what_is_there_for_another_reason_is_left_alone() {
        type Change = fn(&mut Index);
        let changes: [(&str, Change); 9] = [
            ("a primary key", |index| index.primary = true),
            ("unique", |index| index.unique = true),
            ("an exclusion constraint", |index| index.exclusion = true),
            ("a constraint", |index| index.constraint = Some("c".into())),
            ("the replica identity", |index| {
                index.replica_identity = true
            }),
            ("referred to", |index| index.referred = true),
            ("what CLUSTER orders by", |index| index.clustered = true),
            ("a part", |index| index.attached_to = Some(7)),
            ("not valid", |index| index.valid = false),
        ];
        for (name, change) in changes {
            let mut index = unused_index();
            change(&mut index);
            assert_eq!(found_in(&samples::with(vec![index])), [], "{name}");
        }
    }

    fn found_beside(facts: &Facts, context: Context) -> Vec<Finding> {
        let mut findings = Vec::new();
        let context = Context {
            unused_after_days: 90,
            ..context
        };
        check(facts, &context, &mut findings);
        findings
    }

    #[test]
    fn an_index_by_which_audits_read_a_usage_log_is_left_alone() {
        let context = Context {
            log_indexes: vec![1],
            ..Context::default()
        };

        let findings = found_beside(&samples::with(vec![unused_index()]), context);

        assert_eq!(findings, []);
    }

    #[test]
    fn a_partitioned_index_whose_part_serves_a_rule_is_left_alone() {
        let mut facts = samples::partitioned(&["p_a"], &[1]);
        facts.indexes[1].usage = unused(200);
        facts.indexes[2].usage = unused(95);
        let context = Context {
            ruled: vec![RuledColumn {
                table: samples::PARTITION,
                indexes: vec![facts.indexes[1].id],
                ..RuledColumn::default()
            }],
            ..Context::default()
        };

        assert_eq!(found_beside(&facts, context), []);
    }

    /// Whoever follows a report line by line must not lose both.
    #[test]
    fn what_stays_in_the_place_of_a_duplicate_or_a_redundant_index_is_left_alone() {
        let used = |id, name: &str, columns: &[i16]| Index {
            usage: Usage::Used { last: None },
            ..index(id, name, columns)
        };

        let same = samples::with(vec![unused_index(), used(2, "t_a2", &[1])]);
        let longer = samples::with(vec![
            Index {
                usage: unused(100),
                ..index(1, "t_ab", &[1, 2])
            },
            used(2, "t_a", &[1]),
        ]);
        let other = samples::with(vec![unused_index(), used(2, "t_b", &[2])]);

        let neither = samples::with(vec![
            unused_index(),
            Index {
                usage: unused(100),
                ..index(2, "t_ab", &[1, 2])
            },
        ]);

        assert_eq!(found_in(&same), []);
        assert_eq!(found_in(&longer), []);
        let found: Vec<String> = found_in(&neither).into_iter().map(|it| it.id).collect();
        assert_eq!(found, ["unused-index:public.t.t_ab"]);
        assert_eq!(found_in(&other).len(), 1);
    }

    #[test]
    fn an_index_that_serves_a_foreign_key_is_left_alone() {
        let mut facts = samples::with(vec![unused_index()]);
        facts.foreign_keys.push(ForeignKey {
            table: samples::TABLE,
            columns: vec![1],
            collations: vec![0],
            ..ForeignKey::default()
        });

        assert_eq!(found_in(&facts), []);
    }

    #[test]
    fn statistics_of_expressions_are_spoken_of() {
        let expression = Index {
            rare: samples::expressions("lower"),
            ..unused_index()
        };

        let findings = found_in(&samples::with(vec![expression]));

        assert!(findings[0].advice.text.contains("CREATE STATISTICS"));
    }

    #[test]
    fn a_partitioned_index_is_unused_when_all_its_parts_are() {
        let mut facts = samples::partitioned(&["p_a"], &[1]);
        facts.indexes[1].usage = unused(200);
        facts.indexes[2].usage = unused(95);

        let findings = found_in(&facts);

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].id, "unused-index:public.p.p_a");
        assert!(
            findings[0]
                .evidence
                .starts_with("no scan of any of its 2 parts since")
        );

        facts.indexes[2].usage = Usage::Used { last: None };
        assert_eq!(found_in(&facts), []);
        facts.indexes[2].usage = Usage::Unknown("first seen");
        assert_eq!(found_in(&facts), []);
    }
}
