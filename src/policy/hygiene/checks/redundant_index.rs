//! `redundant-index`: another B-tree of the table begins with the same columns, so that every search of the shorter one can use
//! the longer one. Writes pay for both.
//!
//! Never one that enforces something (unique, constraints), nor one whose predicate differs: a partial index is small, and that
//! is what it is for.

use std::collections::HashSet;

use super::duplicate_index;
use crate::policy::hygiene::{
    Advice, Check, Context, Facts, Finding, Severity,
    facts::Index,
    indexes::{Indexes, covers, is_sound, size},
};

/// Below that what is won is not worth a warning: 128 pages are 1 MiB.
const SMALL: u64 = 128;
/// A longer index that is so many times larger costs the searches of the shorter one more pages of the cache.
const MUCH_LARGER: u64 = 4;

pub(super) fn check(facts: &Facts, _: &Context, findings: &mut Vec<Finding>) {
    let indexes = Indexes::new(facts);
    for (index, longer) in pairs(&indexes) {
        let Some(object) = index.object(facts) else {
            continue;
        };
        let (pages, longer_pages) = (indexes.pages(index), indexes.pages(longer));
        let bytes = indexes.bytes(index);
        let evidence = format!(
            "{} begins with the same columns; {} against {} by the catalog",
            longer.name,
            size(bytes),
            size(indexes.bytes(longer))
        );
        let much_larger = longer_pages > pages.saturating_mul(MUCH_LARGER);
        let severity = if pages < SMALL || much_larger || index.clustered {
            Severity::Info
        } else {
            Severity::Warning
        };
        let mut text = format!("drop it: {} finds the same rows", longer.name);
        if much_larger && pages >= SMALL {
            text.push_str(", but is much larger: searches that read many entries become slower");
        }
        if index.clustered {
            text.push_str(
                "; CLUSTER knows the table by it: mark the other one with ALTER TABLE … CLUSTER ON",
            );
        }
        if indexes.is_partitioned(index) {
            text.push_str("; a partitioned index goes with those of all partitions, under a short exclusive lock of each");
        }
        let advice = Advice::run(text, indexes.drop_sql(index), indexes.restore_sql(index));
        findings.push(
            Finding::new(Check::RedundantIndex, severity, object, evidence, advice).winning(bytes),
        );
    }
}

/// Each index of which a longer one holds all, with that longer one. The longer one stays: it is neither a duplicate nor
/// redundant itself.
pub(super) fn pairs<'a>(indexes: &Indexes<'a>) -> Vec<(&'a Index, &'a Index)> {
    let duplicates: HashSet<u32> = duplicate_index::pairs(indexes)
        .into_iter()
        .map(|(index, _)| index.id)
        .collect();
    let mut pairs = Vec::new();
    for table in indexes.tables() {
        let table: Vec<&'a Index> = table
            .iter()
            .copied()
            .filter(|index| is_sound(index) && !duplicates.contains(&index.id))
            .collect();
        for index in table.iter().filter(|index| may_go(index)) {
            let longest = table
                .iter()
                .filter(|longer| covers(longer, index))
                .filter(|longer| {
                    !may_go(longer) || !table.iter().any(|longest| covers(longest, longer))
                })
                // The shortest of those that stay; names decide, so that the finding does not change.
                .min_by_key(|longer| (longer.keys.len() + longer.included().len(), &longer.name));
            if let Some(longer) = longest {
                pairs.push((*index, *longer));
            }
        }
    }
    pairs
}

fn may_go(index: &Index) -> bool {
    !index.unique
        && !index.exclusion
        && index.constraint.is_none()
        && !index.replica_identity
        && index.attached_to.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::{
        checks::samples::{self, index, keys_of},
        facts::Rare,
    };

    fn found_in(facts: &Facts) -> Vec<Finding> {
        let mut findings = Vec::new();
        check(facts, &Context::default(), &mut findings);
        findings
    }

    fn ids(indexes: Vec<Index>) -> Vec<String> {
        let findings = found_in(&samples::with(indexes));
        findings.into_iter().map(|found| found.id).collect()
    }

    #[test]
    fn the_beginning_of_a_longer_index_is_redundant() {
        let short = Index {
            pages: 1000,
            ..index(1, "t_a", &[1])
        };
        let long = Index {
            pages: 1500,
            ..index(2, "t_ab", &[1, 2])
        };

        let findings = found_in(&samples::with(vec![short, long]));

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].id, "redundant-index:public.t.t_a");
        assert_eq!(findings[0].severity, Severity::Warning);
        assert_eq!(
            findings[0].evidence,
            "t_ab begins with the same columns; 7.8 MiB against 12 MiB by the catalog"
        );
        assert_eq!(findings[0].estimated_bytes, Some(1000 * 8192));
    }

    #[test]
    fn a_much_larger_index_makes_it_a_remark_only() {
        let short = Index {
            pages: 1000,
            ..index(1, "t_a", &[1])
        };
        let long = Index {
            pages: 5000,
            ..index(2, "t_abc", &[1, 2, 3])
        };

        let findings = found_in(&samples::with(vec![short, long]));

        assert_eq!(findings[0].severity, Severity::Info);
        assert!(findings[0].advice.text.contains("much larger"));
    }

    #[test]
    fn an_index_that_enforces_something_is_never_redundant() {
        let long = || index(9, "t_ab", &[1, 2]);
        let unique = Index {
            unique: true,
            ..index(1, "t_a", &[1])
        };
        let exclusion = Index {
            exclusion: true,
            constraint: Some("t_a".into()),
            ..index(1, "t_a", &[1])
        };

        assert!(ids(vec![unique, long()]).is_empty());
        assert!(ids(vec![exclusion, long()]).is_empty());
    }

    #[test]
    fn whatever_a_search_could_miss_keeps_it() {
        type Change = fn(&mut Index);
        let changes: [(&str, Change); 8] = [
            ("another first column", |long| keys_of(long).reverse()),
            ("a partial longer one", |long| {
                long.predicate = Some("1".into())
            }),
            ("an operator class", |long| {
                keys_of(long)[0].operator_class = 7
            }),
            ("a collation", |long| keys_of(long)[0].collation = 7),
            ("NULLs first", |long| keys_of(long)[0].options = 2),
            ("a hash", |long| long.method = "hash".into()),
            ("unfinished", |long| long.valid = false),
            ("half dropped", |long| long.dropping = true),
        ];
        for (name, change) in changes {
            let mut long = index(2, "t_ab", &[1, 2]);
            change(&mut long);
            let found = ids(vec![index(1, "t_a", &[1]), long]);
            assert!(found.is_empty(), "{name}: {found:?}");
        }
    }

    #[test]
    fn a_partial_index_is_not_redundant_beside_a_whole_one() {
        let partial = Index {
            predicate: Some("1".into()),
            ..index(1, "t_a_open", &[1])
        };

        assert!(ids(vec![partial, index(2, "t_ab", &[1, 2])]).is_empty());
    }

    #[test]
    fn included_columns_must_be_in_the_longer_one_too() {
        let short = |included: &[i16]| Index {
            rare: Rare {
                included: included.to_vec(),
                ..Rare::default()
            }
            .boxed(),
            ..index(1, "t_a", &[1])
        };

        assert_eq!(ids(vec![short(&[2]), index(2, "t_ab", &[1, 2])]).len(), 1);
        assert!(ids(vec![short(&[3]), index(2, "t_ab", &[1, 2])]).is_empty());
        let wider = Index {
            rare: Rare {
                included: vec![2, 3],
                ..Rare::default()
            }
            .boxed(),
            ..index(2, "t_a_more", &[1])
        };
        assert_eq!(
            ids(vec![short(&[2]), wider]),
            ["redundant-index:public.t.t_a"]
        );
    }

    #[test]
    fn an_expression_is_redundant_only_before_plain_columns() {
        let short = Index {
            rare: samples::expressions("lower"),
            ..index(1, "t_lower", &[0])
        };
        let long = Index {
            rare: samples::expressions("lower"),
            ..index(2, "t_lower_a", &[0, 1])
        };
        let other = Index {
            rare: samples::expressions("upper"),
            ..long.clone()
        };

        assert_eq!(
            ids(vec![short.clone(), long]),
            ["redundant-index:public.t.t_lower"]
        );
        assert!(ids(vec![short, other]).is_empty());
    }

    #[test]
    fn of_a_chain_the_longest_stays_and_is_named() {
        let findings = found_in(&samples::with(vec![
            index(1, "t_a", &[1]),
            index(2, "t_ab", &[1, 2]),
            index(3, "t_abc", &[1, 2, 3]),
        ]));

        assert_eq!(findings.len(), 2);
        assert!(
            findings
                .iter()
                .all(|found| found.evidence.starts_with("t_abc "))
        );
    }

    #[test]
    fn a_duplicate_is_not_redundant_too() {
        let found = ids(vec![
            index(1, "t_a", &[1]),
            index(2, "t_a2", &[1]),
            index(3, "t_ab", &[1, 2]),
        ]);

        assert_eq!(found, ["redundant-index:public.t.t_a"]);
    }

    #[test]
    fn what_partitions_inherit_is_found_once() {
        let mut facts = samples::partitioned(&["p_a"], &[1]);
        let longer = samples::partitioned(&["unused", "p_ab"], &[1, 2]);
        let longer = longer.indexes.into_iter();
        facts
            .indexes
            .extend(longer.filter(|index| index.name.starts_with("p_ab")));

        let findings = found_in(&facts);

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].id, "redundant-index:public.p.p_a");
    }
}
