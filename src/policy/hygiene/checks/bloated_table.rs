//! `bloated-table`: a table whose file is much larger than its rows need, by the widths and NULLs that ANALYZE saw (see
//! [`bloat`](crate::policy::hygiene::bloat)). Every scan reads the empty room, every backup carries it.
//!
//! Room that a fill factor leaves on purpose is no waste. Partitions are counted as their sum; one that is bloated among others that are
//! not is found by itself. Where the statistics are older than
//! half of the table, or the role may not see them, nothing is said.

use std::cmp::Reverse;

use crate::policy::hygiene::{
    Advice, Check, Context, Facts, Finding, Severity,
    bloat::{self, Bloat},
    facts::{BLOCK, Table},
    sql_name,
    tree::Trees,
    words,
};

/// New rows fill room of this share and size by themselves; and the estimate may be 10 points off.
const WORTH_KNOWING: (f64, u64) = (0.30, 16 << 20);
/// Half of what every scan and backup reads is nothing, and enough of it to be felt.
const WORTH_A_WARNING: (f64, u64) = (0.50, 256 << 20);
/// So many statements are printed; those for further partitions look the same.
const STATEMENTS: usize = 20;
/// Statistics tell nothing of a table that was mostly written after them.
const STALE: f64 = 0.5;

/// One table that holds rows: all of it, and its long values alone.
struct Leaf<'a> {
    table: &'a Table,
    both: Bloat,
    long: u64,
}

pub(super) fn check(facts: &Facts, _: &Context, findings: &mut Vec<Finding>) {
    let trees = Trees::of(facts);
    for head in trees.tops() {
        let holders = trees.holders(head);
        let mut leaves: Vec<Leaf<'_>> = holders
            .iter()
            .filter_map(|table| {
                let (rows, toast) = of_leaf(facts, table)?;
                Some(Leaf {
                    table,
                    both: rows.with(toast),
                    long: toast.wasted_bytes(),
                })
            })
            .collect();
        // The worst first; of equal ones that of the first name.
        leaves.sort_by_key(|leaf| Reverse(leaf.both.wasted_bytes()));
        let sum = leaves
            .iter()
            .fold(Bloat::default(), |sum, leaf| sum.with(leaf.both));
        if let Some(severity) = severity(sum) {
            findings.push(finding(head, severity, sum, &leaves, holders.len()));
            continue;
        }
        // One that differs from its siblings is lost in their sum.
        for leaf in leaves.iter().filter(|_| holders.len() > 1) {
            if let Some(severity) = severity(leaf.both) {
                let alone = std::slice::from_ref(leaf);
                findings.push(finding(leaf.table, severity, leaf.both, alone, 1));
            }
        }
    }
}

fn severity(bloat: Bloat) -> Option<Severity> {
    let is = |(share, bytes): (f64, u64)| bloat.share() >= share && bloat.wasted_bytes() >= bytes;
    match (is(WORTH_A_WARNING), is(WORTH_KNOWING)) {
        (true, _) => Some(Severity::Warning),
        (false, true) => Some(Severity::Info),
        (false, false) => None,
    }
}

fn finding(at: &Table, severity: Severity, sum: Bloat, leaves: &[Leaf<'_>], of: usize) -> Finding {
    let mut evidence = format!(
        "{:.0} % of {} hold no row: {}, estimated from the pages and rows of the catalog and the widths of the statistics",
        sum.share() * 100.0,
        words::bytes(sum.pages * BLOCK),
        words::bytes(sum.wasted_bytes())
    );
    let days = leaves
        .iter()
        .filter_map(|leaf| leaf.table.detail.analyzed_at);
    match days.min() {
        Some(oldest) => evidence.push_str(&format!(" of {}", words::day(oldest))),
        None => evidence.push_str(", whose age is not known"),
    }
    let worst = leaves.first();
    if let (Some(worst), true) = (worst, of > 1) {
        evidence.push_str(&format!("; most of it in {}", worst.table.object()));
    }
    let long: u64 = leaves.iter().map(|leaf| leaf.long).sum();
    let toast = worst.and_then(|worst| worst.table.detail.toast.as_ref());
    if let Some(toast) = toast.filter(|_| long >= WORTH_KNOWING.1) {
        evidence.push_str(&format!(
            "; at least {} of it among the long values (pg_toast.{})",
            words::bytes(long),
            toast.name
        ));
    }
    let worth = leaves
        .iter()
        .filter(|leaf| leaf.both.share() >= WORTH_KNOWING.0)
        .take(STATEMENTS);
    let statements: Vec<String> = worth
        .map(|leaf| {
            let name = sql_name(&leaf.table.schema, &leaf.table.name);
            format!("VACUUM (FULL, ANALYZE) {name};")
        })
        .collect();
    Finding::new(
        Check::BloatedTable,
        severity,
        at.object(),
        evidence,
        Advice::run(
            "where the table grows again, VACUUM alone lets new rows use the room. To give it back: a rule with optimize: {vacuum: Full}, or by hand in a quiet hour (nobody can use the table meanwhile, and both copies take room), or pg_repack, which only locks it shortly. There is nothing to undo",
            statements.join("\n"),
            None,
        ),
    )
    .winning(sum.wasted_bytes())
}

/// Rows and long values of a leaf; `None`: nothing can be said.
fn of_leaf(facts: &Facts, leaf: &Table) -> Option<(Bloat, Bloat)> {
    let columns = facts.columns.get(&leaf.id)?;
    let rows = bloat::of_rows(leaf, columns)?;
    #[expect(clippy::cast_precision_loss, reason = "compared with a half only")]
    let modified = leaf.detail.counters.modified as f64;
    let known = leaf.rows.unwrap_or(0.0);
    // Rows that were deleted since leave the widths of the others as they were.
    if modified > STALE * known && leaf.detail.counters.inserted > leaf.detail.counters.deleted {
        return None;
    }
    Some((rows, bloat::of_toast(leaf).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::{
        checks::made_up::*,
        facts::{Column, Sample, Toast},
    };

    const FULL_PAGE: f64 = 226.0;

    /// A table with one number a row.
    fn numbers(mut table: Table, pages: u64, rows: f64) -> Table {
        table.pages = pages;
        table.rows = Some(rows);
        table.detail.attributes = 1;
        table.detail.analyzed_at = Some("2026-11-20T03:00:00Z".parse().unwrap());
        table
    }

    fn with_statistics<const N: usize>(tables_: [Table; N]) -> Facts {
        let mut facts = tables(tables_);
        let number = Column {
            length: Some(8),
            alignment: 8,
            sample: Some(Sample {
                width: 8.0,
                ..Sample::default()
            }),
            ..Column::default()
        };
        for id in facts.tables.keys() {
            facts.columns.insert(*id, vec![number.clone()]);
        }
        facts
    }

    fn found(facts: &Facts) -> Vec<(String, Severity, Option<u64>)> {
        run(check, facts, &Context::default())
            .into_iter()
            .map(|finding| (finding.object, finding.severity, finding.estimated_bytes))
            .collect()
    }

    #[test]
    fn a_table_that_is_mostly_empty_is_found_with_what_could_be_won() {
        let facts = with_statistics([numbers(table(1, "t"), 100_000, 10_000.0 * FULL_PAGE)]);

        assert_eq!(
            found(&facts),
            [(
                "public.t".to_owned(),
                Severity::Warning,
                Some(90_000 * BLOCK)
            )]
        );
        assert_eq!(
            run(check, &facts, &Context::default())[0].evidence,
            "90 % of 781 MiB hold no row: 703 MiB, estimated from the pages and rows of the catalog and the widths of the statistics of 2026-11-20"
        );
    }

    #[test]
    fn a_full_table_a_small_one_and_one_that_is_a_little_empty_are_not() {
        let facts = with_statistics([
            numbers(table(1, "full"), 100_000, 100_000.0 * FULL_PAGE),
            numbers(table(2, "small"), 1_000, 10.0 * FULL_PAGE),
            numbers(table(3, "little"), 100_000, 75_000.0 * FULL_PAGE),
        ]);

        assert_eq!(found(&facts), []);
    }

    #[test]
    fn room_left_by_a_fill_factor_is_no_waste() {
        let mut loose = numbers(table(1, "t"), 100_000, 50_000.0 * 225.0);
        loose.detail.fill_factor = Some(50);

        assert_eq!(found(&with_statistics([loose])), []);
    }

    #[test]
    fn partitions_are_one_finding_that_names_the_worst() {
        let facts = with_statistics([
            parent(1, "p"),
            numbers(partition(2, "p1", 1), 5_000, 5_000.0 * FULL_PAGE),
            numbers(partition(3, "p2", 1), 5_000, 100.0 * FULL_PAGE),
        ]);

        let findings = run(check, &facts, &Context::default());

        assert_eq!(ids(&findings), ["bloated-table:public.p"]);
        assert!(findings[0].evidence.ends_with("most of it in public.p2"));
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(r#"VACUUM (FULL, ANALYZE) "public"."p2";"#)
        );
    }

    #[test]
    fn a_bloated_partition_among_full_ones_is_found_by_itself() {
        let facts = with_statistics([
            parent(1, "p"),
            numbers(partition(2, "p1", 1), 50_000, 50_000.0 * FULL_PAGE),
            numbers(partition(3, "p2", 1), 5_000, 100.0 * FULL_PAGE),
        ]);

        let findings = run(check, &facts, &Context::default());

        assert_eq!(ids(&findings), ["bloated-table:public.p2"]);
        assert!(!findings[0].evidence.contains("most of it"));
    }

    #[test]
    fn empty_room_among_the_long_values_is_named() {
        let mut long = numbers(table(1, "t"), 100, 100.0 * FULL_PAGE);
        long.detail.toast = Some(Toast {
            name: "pg_toast_1".to_owned(),
            pages: 10_000,
            chunks: Some(4_000.0),
        });

        let findings = run(check, &with_statistics([long]), &Context::default());

        assert!(
            findings[0]
                .evidence
                .ends_with("at least 70 MiB of it among the long values (pg_toast.pg_toast_1)"),
            "{}",
            findings[0].evidence
        );
    }

    #[test]
    fn old_statistics_of_a_table_that_grew_say_nothing() {
        let mut grown = numbers(table(1, "t"), 100_000, 10.0 * FULL_PAGE);
        grown.detail.counters.inserted = 1_000_000;
        grown.detail.counters.modified = 1_000_000;

        assert_eq!(found(&with_statistics([grown])), []);
    }

    #[test]
    fn without_statistics_nothing_is_said() {
        let facts = tables([numbers(table(1, "t"), 100_000, 1.0)]);

        assert_eq!(found(&facts), []);
    }
}
