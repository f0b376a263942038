//! `bloated-index`: a B-tree has at least twice the pages that it would have if it were built anew. Deleted entries leave room that only
//! keys of the same range fill again; a scan reads it, and the cache holds it.
//!
//! It is an estimate (see [`btree`](crate::policy::hygiene::btree)). An index that grew by inserts in no order is a third larger than a new
//! one, which is no bloat. Where the estimate rests on how many different keys a sample saw, it is a remark only.

use std::collections::{BTreeMap, HashMap};

use crate::policy::hygiene::{
    Advice, Check, Context, Facts, Finding, Severity,
    btree::{Estimate, estimate},
    facts::{Btree, Index},
    indexes::{Indexes, PAGE, about, is_sound, size},
    sql_name,
};

/// Half its pages: a rebuild halves it. Below that it soon grows back.
const BLOATED: f64 = 0.5;
/// Pages that a rebuild must win (10 MiB), or it is not worth its write-ahead log.
const WORTH: u64 = 1280;
/// From that many pages on (100 MiB) it is a warning.
const LARGE: u64 = 12_800;
/// So many statements are printed; those for further parts look the same.
const STATEMENTS: usize = 20;
/// Smaller indexes are not looked at.
pub(in crate::policy::hygiene) const SMALLEST: u64 = WORTH;

/// One tree that is bloated.
struct Bloated<'a> {
    index: &'a Index,
    tree: &'a Btree,
    estimate: Estimate,
}

impl Bloated<'_> {
    fn won(&self) -> u64 {
        self.estimate.pages.saturating_sub(self.estimate.needed)
    }

    fn is_certain(&self) -> bool {
        self.estimate.bloat_at_least() >= BLOATED
    }
}

pub(super) fn check(facts: &Facts, _: &Context, findings: &mut Vec<Finding>) {
    let indexes: HashMap<u32, &Index> = facts
        .indexes
        .iter()
        .map(|index| (index.id, index))
        .collect();
    // Parts of one partitioned index are one finding.
    let mut found: BTreeMap<u32, Vec<Bloated<'_>>> = BTreeMap::new();
    for tree in &facts.btrees {
        let Some(index) = indexes.get(&tree.index).filter(|index| is_sound(index)) else {
            continue;
        };
        let rows = facts.tables.get(&index.table).and_then(|table| table.rows);
        let Some(estimate) = estimate(index, tree, rows) else {
            continue;
        };
        let bloated = Bloated {
            index,
            tree,
            estimate,
        };
        if bloated.estimate.bloat() < BLOATED || bloated.won() < WORTH {
            continue;
        }
        let mut whole = *index;
        while let Some(above) = whole.attached_to.and_then(|id| indexes.get(&id)) {
            whole = above;
        }
        found.entry(whole.id).or_default().push(bloated);
    }
    let all = Indexes::new(facts);
    for (whole, mut parts) in found {
        parts.sort_by(|one, other| {
            (other.won(), &one.index.schema, &one.index.name).cmp(&(
                one.won(),
                &other.index.schema,
                &other.index.name,
            ))
        });
        if let Some(whole) = indexes.get(&whole) {
            findings.extend(finding(facts, &all, whole, &parts));
        }
    }
}

/// The worst part first.
fn finding(
    facts: &Facts,
    indexes: &Indexes<'_>,
    whole: &Index,
    parts: &[Bloated<'_>],
) -> Option<Finding> {
    let object = whole.object(facts)?;
    let worst = parts.first()?;
    let won: u64 = parts.iter().map(Bloated::won).sum();
    let certain = parts.iter().all(Bloated::is_certain);
    let severity = if certain && won >= LARGE {
        Severity::Warning
    } else {
        Severity::Info
    };
    let seen = worst.tree.seen.map_or_else(
        || "at an unknown time".to_owned(),
        |seen| format!("on {}", seen.strftime("%Y-%m-%d")),
    );
    let mut evidence = format!(
        "about {:.0} % of {} are not needed: estimated from about {} entries and the statistics of its columns, last taken {seen}{}",
        worst.estimate.bloat() * 100.0,
        size(worst.estimate.pages.saturating_mul(PAGE)),
        about(worst.tree.entries),
        if worst.is_certain() {
            String::new()
        } else {
            format!(
                "; if there are many more different keys than a sample saw, only {:.0} %",
                worst.estimate.bloat_at_least() * 100.0
            )
        }
    );
    if worst.index.id != whole.id {
        evidence = format!(
            "{} of its {} parts, the worst is {}: {evidence}",
            parts.len(),
            indexes.leaf_parts(whole),
            sql_name(&worst.index.schema, &worst.index.name)
        );
    }
    Some(
        Finding::new(
            Check::BloatedIndex,
            severity,
            object,
            evidence,
            advice(parts, certain),
        )
        .winning(won.saturating_mul(PAGE)),
    )
}

fn advice(parts: &[Bloated<'_>], certain: bool) -> Advice {
    if parts.iter().any(|part| part.index.exclusion) {
        return Advice::words(
            "rebuild it with REINDEX INDEX: that blocks writes, because an exclusion constraint cannot be rebuilt concurrently",
        );
    }
    let text = if certain {
        "rebuild it without blocking writes; it needs room for a second copy"
    } else {
        "measure it first: SELECT avg_leaf_density FROM pgstatindex(…) of the extension pgstattuple reads it whole; then rebuild it without blocking writes"
    };
    let statements: Vec<String> = parts
        .iter()
        .take(STATEMENTS)
        .map(|part| {
            let name = sql_name(&part.index.schema, &part.index.name);
            format!("REINDEX INDEX CONCURRENTLY {name};")
        })
        .collect();
    Advice::run(text, statements.join("\n"), None)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::policy::hygiene::{
        checks::samples::{self, index},
        facts::BtreeColumn,
    };

    /// An index of so many pages over 10,000,000 bigints, which need about 27,450.
    fn facts(pages: u64, distinct: f64) -> Facts {
        let mut facts = samples::with(vec![Index {
            pages,
            ..index(1, "t_a", &[1])
        }]);
        facts.tables.get_mut(&samples::TABLE).unwrap().rows = Some(1e7);
        facts.btrees.push(Btree {
            index: 1,
            entries: 1e7,
            fillfactor: 90,
            deduplicates: true,
            columns: vec![BtreeColumn {
                width: 8.0,
                fixed: true,
                alignment: 8,
                distinct,
                ..BtreeColumn::default()
            }],
            different_keys: None,
            seen: Some("2026-11-20T10:00:00Z".parse::<Timestamp>().unwrap()),
        });
        facts
    }

    fn found_in(facts: &Facts) -> Vec<Finding> {
        let mut findings = Vec::new();
        check(facts, &Context::default(), &mut findings);
        findings
    }

    #[test]
    fn an_index_of_three_times_its_pages_is_to_be_rebuilt() {
        let findings = found_in(&facts(82_000, -1.0));

        let finding = &findings[0];
        assert_eq!(finding.id, "bloated-index:public.t.t_a");
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(
            finding.evidence,
            "about 67 % of 641 MiB are not needed: estimated from about 10,000,000 entries and the statistics of its columns, last taken on 2026-11-20"
        );
        assert_eq!(
            finding.advice.apply.as_deref(),
            Some(r#"REINDEX INDEX CONCURRENTLY "public"."t_a";"#)
        );
    }

    #[test]
    fn a_third_more_than_needed_is_how_an_index_grows() {
        assert_eq!(found_in(&facts(40_000, -1.0)), []);
    }

    #[test]
    fn an_estimate_that_rests_on_a_guess_is_a_remark() {
        let findings = found_in(&facts(40_000, 500_000.0));

        assert_eq!(findings[0].severity, Severity::Info);
        assert!(
            findings[0].evidence.contains("only"),
            "{}",
            findings[0].evidence
        );
        assert!(findings[0].advice.text.starts_with("measure it first"));
    }

    #[test]
    fn few_different_keys_are_no_guess() {
        let findings = found_in(&facts(40_000, 5.0));

        assert_eq!(findings[0].severity, Severity::Warning);
    }

    #[test]
    fn parts_of_a_partitioned_index_are_one_finding_that_names_the_worst() {
        let tree = facts(82_000, -1.0).btrees.remove(0);
        let mut facts = samples::partitioned(&["p_a"], &[1]);
        let parts: Vec<u32> = facts.indexes.iter().skip(1).map(|part| part.id).collect();
        for (id, pages) in parts.iter().zip([82_000, 90_000]) {
            facts.indexes.iter_mut().for_each(|index| {
                if index.id == *id {
                    index.pages = pages;
                }
            });
            facts.btrees.push(Btree {
                index: *id,
                ..tree.clone()
            });
        }
        for table in facts.tables.values_mut() {
            table.rows = Some(1e7);
        }

        let findings = found_in(&facts);

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].id, "bloated-index:public.p.p_a");
        assert!(
            findings[0]
                .evidence
                .starts_with(r#"2 of its 2 parts, the worst is "public"."p_a_2": about"#),
            "{}",
            findings[0].evidence
        );
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(
                "REINDEX INDEX CONCURRENTLY \"public\".\"p_a_2\";\n\
                 REINDEX INDEX CONCURRENTLY \"public\".\"p_a_1\";"
            )
        );
    }

    #[test]
    fn an_index_that_is_not_valid_or_whose_table_was_never_analysed_is_left_alone() {
        let mut invalid = facts(82_000, -1.0);
        invalid.indexes[0].valid = false;
        assert_eq!(found_in(&invalid), []);

        let mut unknown = facts(82_000, -1.0);
        unknown.tables.get_mut(&samples::TABLE).unwrap().rows = None;
        assert_eq!(found_in(&unknown), []);
    }
}
