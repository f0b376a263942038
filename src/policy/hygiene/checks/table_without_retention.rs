//! `table-without-retention`: a large table into which rows only go, with old ones among them by the histogram of a time column,
//! that no rule of the policy bounds. Proposes the rule, for audit first.
//!
//! Left alone: tables whose rows are updated or deleted (they hold things and not events, or somebody trims them already), tables
//! that others refer to, tables without an old row, tables into which a rule archives. Where the counters were lost nothing is said.

use std::collections::HashSet;

use crate::policy::hygiene::{
    Advice, Check, Context, Facts, Finding, Severity,
    facts::{BLOCK, Kind, Table, Times},
    object,
    tree::Trees,
    words,
};

/// Below both a table may well keep all that it has.
const ROWS: f64 = 1_000_000.0;
const PAGES: u64 = (1 << 30) / BLOCK;
/// Rows that are older than this are old.
const OLD_SECONDS: f64 = 365.0 * 86_400.0;
/// That many of them are more than a few that were entered with a wrong date.
const OLD_SHARE: f64 = 0.05;
/// Of a hundred inserted rows so many may be updated, and so many deleted.
const UPDATED: u64 = 10;
const DELETED: u64 = 1;
/// Times far in the future are no times of events.
const AHEAD_SECONDS: f64 = 2.0 * 86_400.0;
/// Words in the names of columns that say when a row came, the best first.
const CAME: [&str; 9] = [
    "created",
    "inserted",
    "occurred",
    "logged",
    "recorded",
    "received",
    "event",
    "timestamp",
    "time",
];

pub(super) fn check(facts: &Facts, context: &Context, findings: &mut Vec<Finding>) {
    let Some(now) = facts.now else {
        return;
    };
    let now = now.as_duration().as_secs_f64();
    let trees = Trees::of(facts);
    let referred: HashSet<u32> = facts
        .foreign_keys
        .iter()
        .filter(|key| key.table != key.referred)
        .map(|key| key.referred)
        .collect();
    let of_policy = context.ruled.iter().map(|ruled| ruled.table);
    let ruled: HashSet<u32> = of_policy
        .chain(context.archives.iter().copied())
        .filter_map(|table| facts.tables.get(&table))
        .flat_map(|table| {
            let family = trees.family(table);
            family
                .into_iter()
                .flat_map(|member| trees.parts(member))
                .map(|part| part.id)
                .collect::<Vec<_>>()
        })
        .collect();
    for head in trees.tops() {
        let parts: Vec<&Table> = trees
            .family(head)
            .into_iter()
            .flat_map(|member| trees.parts(member))
            .collect();
        let is_out = |part: &&Table| ruled.contains(&part.id) || referred.contains(&part.id);
        if head.kind == Kind::Materialized || parts.iter().any(is_out) {
            continue;
        }
        let leaves = trees.holders(head);
        if is_large(&leaves)
            && only_grows(&leaves)
            && let Some(column) = time_column(facts, &leaves, now)
        {
            findings.push(finding(head, &leaves, &column));
        }
    }
}

fn is_large(leaves: &[&Table]) -> bool {
    let rows: f64 = leaves.iter().filter_map(|leaf| leaf.rows).sum();
    let pages: u64 = leaves.iter().map(|leaf| leaf.pages).sum();
    rows >= ROWS || pages >= PAGES
}

fn only_grows(leaves: &[&Table]) -> bool {
    let (mut inserted, mut updated, mut deleted) = (0_u64, 0_u64, 0_u64);
    for leaf in leaves {
        inserted += leaf.detail.counters.inserted;
        updated += leaf.detail.counters.updated;
        deleted += leaf.detail.counters.deleted;
    }
    inserted > 0
        && updated.saturating_mul(100) <= inserted.saturating_mul(UPDATED)
        && deleted.saturating_mul(100) <= inserted.saturating_mul(DELETED)
}

/// A column by which rows are old.
struct OldBy {
    name: String,
    oldest: f64,
    share: f64,
}

/// The column that says best when a row came, if some rows came long ago.
fn time_column(facts: &Facts, leaves: &[&Table], now: f64) -> Option<OldBy> {
    let known: Vec<(f64, &[Times])> = leaves
        .iter()
        .filter_map(|leaf| Some((leaf.rows?, facts.times.get(&leaf.id)?.as_slice())))
        .collect();
    let (_, columns) = known.first()?;
    let mut candidates: Vec<OldBy> = columns
        .iter()
        .filter_map(|times| old_by(&times.column, &known, now))
        .collect();
    candidates.sort_by_key(|candidate| rank(&candidate.name));
    candidates.into_iter().next()
}

fn old_by(name: &str, known: &[(f64, &[Times])], now: f64) -> Option<OldBy> {
    let (mut all, mut old, mut oldest) = (0.0, 0.0, f64::INFINITY);
    for (rows, columns) in known {
        let times = columns.iter().find(|times| times.column == name)?;
        let statistics = &times.statistics;
        if statistics.newest()? > now + AHEAD_SECONDS {
            return None;
        }
        all += rows;
        old += rows * statistics.expired_fraction(now - OLD_SECONDS);
        oldest = oldest.min(statistics.oldest()?);
    }
    let share = if all > 0.0 { old / all } else { 0.0 };
    (share >= OLD_SHARE).then(|| OldBy {
        name: name.to_owned(),
        oldest,
        share,
    })
}

fn rank(name: &str) -> usize {
    let name = name.to_lowercase();
    CAME.iter()
        .position(|word| name.contains(word))
        .unwrap_or(CAME.len())
}

fn finding(head: &Table, leaves: &[&Table], column: &OldBy) -> Finding {
    let rows: f64 = leaves.iter().filter_map(|leaf| leaf.rows).sum();
    let pages: u64 = leaves.iter().map(|leaf| leaf.pages).sum();
    let since = words::day_of(column.oldest)
        .map(|day| format!(", the oldest of {day}"))
        .unwrap_or_default();
    let evidence = format!(
        "{} in {} (catalog), inserted and hardly ever updated or deleted (counters); some {} % are older than a year by {}{since} (histogram)",
        words::rows(rows),
        words::bytes(pages * BLOCK),
        tens(column.share),
        column.name
    );
    Finding::new(
        Check::TableWithoutRetention,
        Severity::Info,
        head.object(),
        evidence,
        Advice {
            text: "ask its owner how long rows are needed, and let a rule count first: mode Audit deletes nothing".to_owned(),
            apply: Some(rule(head, &column.name)),
            undo: None,
        },
    )
}

/// In steps of ten, so that the evidence does not change with every day.
fn tens(share: f64) -> u8 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 100"
    )]
    let tens = (share.clamp(0.0, 1.0) * 10.0).round() as u8;
    tens.max(1) * 10
}

fn rule(head: &Table, column: &str) -> String {
    let table = object(&head.schema, &head.name);
    format!(
        "rules:\n  - name: {}\n    mode: Audit\n    table: {}\n    column: {}\n    expireAfter: 365d\n    action: Delete\n",
        label(&head.name),
        scalar(&table),
        scalar(column)
    )
}

/// A DNS label made of a table's name.
fn label(name: &str) -> String {
    let mut label: String = name
        .to_lowercase()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .take(52)
        .collect();
    label = label.trim_matches('-').to_owned();
    if label.is_empty() {
        "old-rows".to_owned()
    } else {
        label
    }
}

/// Text as YAML reads it back: quoted where it has anything but letters, digits, `_` and dots between them.
fn scalar(text: &str) -> String {
    let plain = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    // Words that YAML takes for something else have no dot in them.
    if text.split('.').all(plain) && (text.contains('.') || text.len() > 5) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{
        estimate::ColumnStatistics,
        hygiene::{RuledColumn, checks::made_up::*, facts::ForeignKey},
    };

    const DAY: f64 = 86_400.0;

    fn log(mut table: Table) -> Table {
        table.rows = Some(5_000_000.0);
        table.pages = 50_000;
        table.detail.counters.inserted = 1_000_000;
        table
    }

    fn now(facts: &Facts) -> f64 {
        facts.now.unwrap().as_duration().as_secs_f64()
    }

    /// From so many days ago to so many days ago.
    fn times(facts: &Facts, column: &str, from: f64, to: f64) -> Times {
        let now = now(facts);
        Times {
            column: column.to_owned(),
            statistics: ColumnStatistics {
                histogram: vec![now - from * DAY, now - to * DAY],
                ..ColumnStatistics::default()
            },
        }
    }

    fn facts() -> Facts {
        let mut facts = tables([log(table(1, "access_log"))]);
        let columns = vec![
            times(&facts, "seen", 1_000.0, 0.0),
            times(&facts, "created_at", 1_000.0, 0.0),
        ];
        facts.times.insert(1, columns);
        facts
    }

    fn found(facts: &Facts) -> Vec<String> {
        run(check, facts, &Context::default())
            .into_iter()
            .map(|finding| finding.object)
            .collect()
    }

    #[test]
    fn a_large_log_with_old_rows_gets_a_rule_proposed() {
        let findings = run(check, &facts(), &Context::default());

        assert_eq!(
            ids(&findings),
            ["table-without-retention:public.access_log"]
        );
        assert_eq!(
            findings[0].evidence,
            "about 5,000,000 rows in 390 MiB (catalog), inserted and hardly ever updated or deleted (counters); some 60 % are older than a year by created_at, the oldest of 2024-02-27 (histogram)"
        );
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(
                "rules:\n  - name: access-log\n    mode: Audit\n    table: public.access_log\n    column: created_at\n    expireAfter: 365d\n    action: Delete\n"
            )
        );
    }

    #[test]
    fn the_evidence_is_the_same_on_the_next_day() {
        let before = facts();
        let mut after = before.clone();
        after.now = Some("2026-11-24T12:00:00Z".parse().unwrap());

        assert_eq!(
            run(check, &before, &Context::default()),
            run(check, &after, &Context::default())
        );
    }

    #[test]
    fn a_table_with_a_rule_has_one_already() {
        let context = Context {
            ruled: vec![RuledColumn {
                table: 1,
                ..RuledColumn::default()
            }],
            ..Context::default()
        };

        assert_eq!(run(check, &facts(), &context), []);
    }

    #[test]
    fn a_table_into_which_a_rule_archives_is_kept_on_purpose() {
        let context = Context {
            archives: vec![1],
            ..Context::default()
        };

        assert_eq!(run(check, &facts(), &context), []);
    }

    #[test]
    fn a_rule_on_a_partition_or_on_the_parent_counts() {
        let mut facts = tables([parent(1, "p"), log(partition(2, "p1", 1))]);
        let columns = vec![times(&facts, "at", 1_000.0, 0.0)];
        facts.times.insert(2, columns);
        assert_eq!(found(&facts), ["public.p"]);

        for ruled in [1, 2] {
            let context = Context {
                ruled: vec![RuledColumn {
                    table: ruled,
                    ..RuledColumn::default()
                }],
                ..Context::default()
            };
            assert_eq!(run(check, &facts, &context), []);
        }
    }

    #[test]
    fn what_is_updated_or_trimmed_or_not_counted_is_left_alone() {
        for (inserted, updated, deleted) in [(100, 50, 0), (100, 0, 50), (0, 0, 0)] {
            let mut facts = facts();
            let counters = &mut facts.tables.get_mut(&1).unwrap().detail.counters;
            counters.inserted = inserted;
            counters.updated = updated;
            counters.deleted = deleted;

            assert!(found(&facts).is_empty());
        }
    }

    #[test]
    fn a_small_table_one_without_old_rows_and_one_that_others_refer_to_are_left_alone() {
        let mut small = facts();
        small.tables.get_mut(&1).unwrap().rows = Some(999_999.0);
        assert!(found(&small).is_empty());

        let mut young = facts();
        let columns = vec![times(&young, "created_at", 300.0, 0.0)];
        young.times.insert(1, columns);
        assert!(found(&young).is_empty());

        let mut referred = facts();
        referred.foreign_keys = vec![ForeignKey {
            table: 2,
            referred: 1,
            ..ForeignKey::default()
        }];
        assert!(found(&referred).is_empty());
    }

    #[test]
    fn a_time_of_expiry_is_no_time_of_coming() {
        let mut facts = facts();
        let columns = vec![times(&facts, "valid_until", 1_000.0, -300.0)];
        facts.times.insert(1, columns);

        assert!(found(&facts).is_empty());
    }

    #[test]
    fn odd_names_are_quoted_for_yaml() {
        assert_eq!(scalar("public.t"), "public.t");
        assert_eq!(scalar("on"), "'on'");
        assert_eq!(scalar(r#"public."a.b""#), r#"'public."a.b"'"#);
        assert_eq!(scalar("it's"), "'it''s'");
        assert_eq!(label("Odd \"Table\""), "odd--table");
        assert_eq!(label("__"), "old-rows");
    }
}
