//! The part of `integer-exhaustion` that no sequence tells: unique whole numbers which an application gives out itself. How far
//! these are is known by the statistics only, a little too low.
//!
//! Only numbers that are given out one after the other come to an end. Hashes, random numbers and codes lie anywhere in the
//! type's range from the first row on: they are sparse, and left out.

use super::integer_exhaustion::AROUND;
use crate::policy::hygiene::{
    Advice, Check, Facts, Finding,
    facts::{IntegerKey, Table},
    figures, part, sql_name,
};

/// Rows per number between the smallest and the largest one, from which on they were given out one after the other.
const DENSE: f64 = 0.2;

pub(super) fn check(facts: &Facts, findings: &mut Vec<Finding>) {
    for key in &facts.integer_keys {
        let Some(table) = facts.tables.get(&key.table) else {
            continue;
        };
        findings.extend(finding(table, key));
    }
}

fn finding(table: &Table, key: &IntegerKey) -> Option<Finding> {
    if key.low < 0 || key.high <= key.low || key.max <= 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a share needs no 53 bits")]
    let span = (key.high - key.low) as f64;
    if table.rows.unwrap_or(0.0) / span < DENSE {
        return None;
    }
    let percent = u8::try_from(i128::from(key.high) * 100 / i128::from(key.max)).unwrap_or(100);
    let severity = super::integer_exhaustion::severity(percent)?;
    let left = u64::try_from(key.max - key.high).unwrap_or(0);
    let left = match left {
        0 => "none is left".to_owned(),
        left => format!("about {} are left at most", figures::about(left)),
    };
    let age = table
        .detail
        .analyzed_at
        .map_or_else(String::new, |at| format!(" of {}", figures::day(at)));
    let evidence = format!(
        "at least {percent} % of the numbers that the column's type holds are used, {left}: by the histogram of its statistics{age}; no sequence feeds the column"
    );
    let name = crate::policy::table::quoted(&key.column);
    let advice = Advice::run(
        format!(
            "widen the column, and the columns that refer to it: the statement rewrites the table and locks it meanwhile; {AROUND}; where that takes \
             too long, add a bigint column, fill it in batches beside a trigger, and change the two over; whatever gives the numbers out has \
             to know the wider type, too"
        ),
        format!(
            "ALTER TABLE {} ALTER COLUMN {name} TYPE bigint;",
            sql_name(&table.schema, &table.name)
        ),
        None,
    );
    Some(Finding::new(
        Check::IntegerExhaustion,
        severity,
        part(&table.schema, &table.name, &key.column),
        evidence,
        advice,
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::policy::hygiene::Severity;

    const INT2: i64 = i16::MAX as i64;
    const INT4: i64 = i32::MAX as i64;

    fn found(rows: f64, max: i64, low: i64, high: i64) -> Vec<Finding> {
        let mut facts = Facts::default();
        let mut table = Table {
            id: 1,
            schema: "public".to_owned(),
            name: "orders".to_owned(),
            rows: Some(rows),
            ..Table::default()
        };
        table.detail.analyzed_at = Some("2026-11-20T10:00:00Z".parse().unwrap());
        facts.tables.insert(1, table);
        facts.integer_keys.push(IntegerKey {
            table: 1,
            column: "number".to_owned(),
            max,
            low,
            high,
        });
        let mut findings = Vec::new();
        check(&facts, &mut findings);
        findings
    }

    #[rstest]
    #[case::far_from_the_end(20_000.0, INT2, 1, 20_000, None)]
    #[case::on_the_way(25_000.0, INT2, 1, 25_000, Some(Severity::Warning))]
    #[case::near_the_end(30_000.0, INT2, 1, 30_000, Some(Severity::Critical))]
    #[case::the_old_ones_are_deleted(
        400_000_000.0,
        INT4,
        1_600_000_000,
        2_000_000_000,
        Some(Severity::Critical)
    )]
    #[case::codes_anywhere(5_000.0, INT4, 1, 2_100_000_000, None)]
    #[case::hashes_around_nought(2e9, INT4, -2_100_000_000, 2_100_000_000, None)]
    #[case::one_value(1e9, INT4, 2_100_000_000, 2_100_000_000, None)]
    fn numbers_that_were_given_out_one_after_the_other_run_out(
        #[case] rows: f64,
        #[case] max: i64,
        #[case] low: i64,
        #[case] high: i64,
        #[case] severity: Option<Severity>,
    ) {
        let findings = found(rows, max, low, high);

        let severities: Vec<Severity> = findings.iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, Vec::from_iter(severity));
    }

    #[test]
    fn the_evidence_says_that_it_is_the_statistics_and_of_which_day() {
        let findings = found(30_000.0, INT2, 1, 30_000);

        assert_eq!(findings[0].id, "integer-exhaustion:public.orders.number");
        assert_eq!(
            findings[0].evidence,
            "at least 91 % of the numbers that the column's type holds are used, about 2700 are left at most: by the histogram of its statistics of 2026-11-20; no sequence feeds the column"
        );
    }
}
