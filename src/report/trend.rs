//! Whether a database gets better: what a ledger remembers of its days, compared with today.

use jiff::{SignedDuration, Timestamp};

use crate::engine::ledger::{DayPoint, TrendPoint};

/// The stretch that is looked at first.
const MONTH: SignedDuration = SignedDuration::from_hours(31 * 24);
/// From here on the whole history is another stretch.
const LONGER: SignedDuration = SignedDuration::from_hours(62 * 24);

/// What changed since a day, in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Since when.
    pub since: Timestamp,
    /// The database then.
    pub before: DayPoint,
    /// The database now.
    pub now: DayPoint,
}

/// What changed over the last month, and since the beginning where that is much longer ago. `points` are in the order of time.
#[must_use]
pub fn changes(points: &[TrendPoint], now: Timestamp, today: DayPoint) -> Vec<Change> {
    let change = |point: &TrendPoint| Change {
        since: point.taken,
        before: point.day,
        now: today,
    };
    let age = |point: &TrendPoint| now.duration_since(point.taken);
    // What was seen today is what is compared with.
    let past = || {
        points
            .iter()
            .filter(|point| age(point) >= SignedDuration::from_hours(12))
    };
    let month = past().find(|point| age(point) <= MONTH);
    let first = past().next().filter(|point| age(point) >= LONGER);
    month.into_iter().chain(first).map(change).collect()
}

impl Change {
    /// In one line.
    #[must_use]
    pub fn in_words(&self) -> String {
        let (before, now) = (self.before, self.now);
        let mut parts = vec![format!(
            "size {}",
            percent(before.size_bytes, now.size_bytes)
        )];
        if let (Some(before), Some(now)) = (before.expired_rows, now.expired_rows) {
            parts.push(format!("expired rows {}", numbers(before, now)));
        }
        if let (Some(before), Some(now)) = (before.dead_rows, now.dead_rows) {
            parts.push(format!("dead rows {}", numbers(before, now)));
        }
        let all = |day: DayPoint| day.findings.iter().sum::<i64>();
        let mut findings = format!("findings {}", numbers(all(before), all(now)));
        let grave = before.findings[0].max(now.findings[0]);
        if grave > 0 {
            findings.push_str(&format!(
                " (critical {})",
                numbers(before.findings[0], now.findings[0])
            ));
        }
        parts.push(findings);
        let day = self.since.strftime("%Y-%m-%d");
        format!("since {day}: {}", parts.join(", "))
    }
}

fn numbers(before: i64, now: i64) -> String {
    if before == now {
        format!("{now} as before")
    } else {
        format!("{before} → {now}")
    }
}

fn percent(before: i64, now: i64) -> String {
    if before <= 0 {
        return format!("{now} bytes");
    }
    let change = (i128::from(now) - i128::from(before)) * 100;
    // To the nearest whole number.
    let half = i128::from(before) / 2;
    let rounded = (change + if change < 0 { -half } else { half }) / i128::from(before);
    match rounded {
        0 => "as before".to_owned(),
        less if less < 0 => format!("−{} %", -less),
        more => format!("+{more} %"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn day(size: i64, findings: [i64; 3]) -> DayPoint {
        DayPoint {
            size_bytes: size,
            expired_rows: Some(size),
            dead_rows: Some(10),
            findings,
        }
    }

    fn point(days_ago: i64, size: i64, findings: [i64; 3]) -> TrendPoint {
        TrendPoint {
            taken: now() - SignedDuration::from_hours(24 * days_ago),
            day: day(size, findings),
        }
    }

    #[test]
    fn the_last_month_is_compared_with_today() {
        let points = [
            point(40, 3_000, [3, 3, 3]),
            point(30, 1_000, [1, 5, 3]),
            point(10, 900, [0, 5, 3]),
        ];

        let changes = changes(&points, now(), day(880, [0, 2, 2]));

        assert_eq!(changes.len(), 1);
        assert_eq!(
            changes[0].in_words(),
            "since 2026-10-25: size −12 %, expired rows 1000 → 880, dead rows 10 as before, findings 9 → 4 (critical 1 → 0)"
        );
    }

    #[test]
    fn a_history_of_a_year_is_compared_as_well() {
        let points = [point(365, 2_000, [0, 0, 9]), point(20, 1_000, [0, 0, 5])];

        let since: Vec<String> = changes(&points, now(), day(1_000, [0, 0, 5]))
            .iter()
            .map(Change::in_words)
            .collect();

        assert_eq!(
            since,
            [
                "since 2026-11-04: size as before, expired rows 1000 as before, dead rows 10 as before, findings 5 as before",
                "since 2025-11-24: size −50 %, expired rows 2000 → 1000, dead rows 10 as before, findings 9 → 5",
            ]
        );
    }

    #[test]
    fn what_was_not_known_once_is_not_compared() {
        let before = DayPoint {
            expired_rows: None,
            dead_rows: None,
            ..day(1_000, [0, 0, 5])
        };
        let point = TrendPoint {
            day: before,
            ..point(20, 0, [0, 0, 0])
        };

        let changes = changes(&[point], now(), day(1_000, [0, 0, 5]));

        assert_eq!(
            changes[0].in_words(),
            "since 2026-11-04: size as before, findings 5 as before"
        );
    }

    #[test]
    fn the_point_of_today_is_no_past() {
        let today = TrendPoint {
            taken: now() - SignedDuration::from_hours(2),
            day: day(500, [0, 0, 0]),
        };

        assert!(changes(&[today], now(), day(880, [0, 2, 2])).is_empty());
    }

    #[rstest]
    #[case(1_000, 1_004, "as before")]
    #[case(1_000, 1_005, "+1 %")]
    #[case(1_000, 995, "−1 %")]
    #[case(1_000, 0, "−100 %")]
    #[case(0, 5, "5 bytes")]
    #[case(1, i64::MAX, "+922337203685477580600 %")]
    fn sizes_change_by_whole_percent(#[case] before: i64, #[case] now: i64, #[case] words: &str) {
        assert_eq!(percent(before, now), words);
    }
}
