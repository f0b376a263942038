//! The blast-radius cap: how much one sweep of one rule may take.

/// What a small decision says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing stands against it.
    Go,
    /// Not now.
    Wait {
        /// Why, for status.
        reason: String,
    },
    /// Not without somebody's approval or change.
    Block {
        /// Why, for status.
        reason: String,
    },
}

/// A rule's limits with the defaults filled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Rows a sweep may take at most; `None`: no cap.
    pub max_rows: Option<u64>,
    /// Percent of the rows at the sweep's start that it may take at most, 1 to 100; `None`: the default (50 for tables over 10,000 rows).
    pub max_percent: Option<u8>,
}

/// Percent of a big table's rows that a sweep may take where the policy does not say.
pub const DEFAULT_MAX_PERCENT: u8 = 50;

/// Tables up to this many rows have no default percentage.
pub const DEFAULT_PERCENT_ABOVE_ROWS: u64 = 10_000;

/// Which of the limits is the narrowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binding {
    None,
    MaxRows,
    MaxPercent(u8),
    DefaultPercent,
    Approval,
}

/// Limits applied to one sweep of one rule, over all its resumptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Rows that may be taken in all; `None`: no cap.
    pub rows: Option<u64>,
    rows_at_start: u64,
    binding: Binding,
}

impl Limits {
    /// Rows that a sweep may take in all of a table that has `rows_at_start` rows.
    #[must_use]
    pub fn allowance(&self, rows_at_start: u64) -> Allowance {
        let by_percent = match self.max_percent {
            // All of the rows are allowed to go: that the catalog knows fewer than there are must not block it.
            Some(100..) => None,
            Some(percent) => Some((percent, Binding::MaxPercent(percent))),
            None if rows_at_start > DEFAULT_PERCENT_ABOVE_ROWS => {
                Some((DEFAULT_MAX_PERCENT, Binding::DefaultPercent))
            }
            None => None,
        }
        .map(|(percent, binding)| (percent_of(percent, rows_at_start), binding));
        let by_rows = self.max_rows.map(|rows| (rows, Binding::MaxRows));
        let narrowest = match (by_rows, by_percent) {
            (Some(rows), Some(percent)) if percent.0 < rows.0 => Some(percent),
            (Some(rows), _) => Some(rows),
            (None, percent) => percent,
        };
        Allowance {
            rows: narrowest.map(|(rows, _)| rows),
            rows_at_start,
            binding: narrowest.map_or(Binding::None, |(_, binding)| binding),
        }
    }
}

impl Limits {
    /// The same for a table of which no more is known than that it has `rows` rows or more: what may be taken of every such table.
    #[must_use]
    pub fn allowance_of_at_least(&self, rows: u64) -> Allowance {
        // Whether the default percentage holds at all is not known of what may be a small table. Of one that is just big enough …
        let rows = match self.max_percent {
            None => rows.max(DEFAULT_PERCENT_ABOVE_ROWS + 1),
            Some(_) => rows,
        };
        self.allowance(rows)
    }
}

/// `percent` of `rows`, rounded down; `percent` is at most 100.
fn percent_of(percent: u8, rows: u64) -> u64 {
    let part = u128::from(rows) * u128::from(percent) / 100;
    u64::try_from(part).unwrap_or(u64::MAX)
}

impl Allowance {
    /// No cap.
    #[must_use]
    pub fn unlimited() -> Self {
        Self {
            rows: None,
            rows_at_start: 0,
            binding: Binding::None,
        }
    }

    /// What an approval allows, in place of the limits.
    #[must_use]
    pub fn approved(rows: u64, rows_at_start: u64) -> Self {
        Self {
            rows: Some(rows),
            rows_at_start,
            binding: Binding::Approval,
        }
    }

    /// May a sweep that has taken `done` rows (and is expected to, or does) take `next` more?
    #[must_use]
    pub fn admits(&self, done: u64, next: u64) -> Verdict {
        let total = u128::from(done) + u128::from(next);
        match self.rows {
            Some(rows) if total > u128::from(rows) => Verdict::Block {
                reason: self.reason(total, rows),
            },
            _ => Verdict::Go,
        }
    }

    /// The percentage that `rows` are of the rows at the sweep's start, for status; `None` for an empty table.
    #[must_use]
    pub fn percent(&self, rows: u64) -> Option<u64> {
        let percent = (u128::from(rows) * 100).checked_div(u128::from(self.rows_at_start))?;
        Some(u64::try_from(percent).unwrap_or(u64::MAX))
    }

    fn reason(&self, total: u128, allowed: u64) -> String {
        let share = match (total * 100).checked_div(u128::from(self.rows_at_start)) {
            Some(0) => format!("less than 1 % of {}", self.rows_at_start),
            Some(percent) => format!("{percent} % of {}", self.rows_at_start),
            None => "more than the table held".to_owned(),
        };
        let limit = match self.binding {
            Binding::None | Binding::MaxRows => "maxRows".to_owned(),
            Binding::MaxPercent(percent) => format!("maxPercent: {percent}"),
            Binding::Approval => "the approved plan and 10 %".to_owned(),
            Binding::DefaultPercent => format!(
                "maxPercent: {DEFAULT_MAX_PERCENT}, the default for tables over {DEFAULT_PERCENT_ABOVE_ROWS} rows"
            ),
        };
        format!("{total} rows would be {share}; the limit is {allowed} rows ({limit})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(None, None, 10_000, None)]
    #[case(None, None, 10_001, Some(5_000))]
    #[case(Some(7), None, 10_000, Some(7))]
    #[case(Some(1_000_000), None, 20_000, Some(10_000))]
    #[case(Some(1_000), None, 20_000, Some(1_000))]
    #[case(None, Some(80), 20_000, Some(16_000))]
    #[case(None, Some(33), 10, Some(3))]
    #[case(Some(2), Some(33), 10, Some(2))]
    #[case(None, Some(100), 0, None)]
    #[case(None, Some(100), u64::MAX, None)]
    #[case(None, Some(99), 0, Some(0))]
    #[case(Some(5), Some(100), 20_000, Some(5))]
    fn the_narrowest_limit_counts(
        #[case] max_rows: Option<u64>,
        #[case] max_percent: Option<u8>,
        #[case] rows_at_start: u64,
        #[case] allowed: Option<u64>,
    ) {
        let limits = Limits {
            max_rows,
            max_percent,
        };
        assert_eq!(limits.allowance(rows_at_start).rows, allowed);
    }

    fn blocked(limits: Limits, rows_at_start: u64, rows: u64) -> String {
        match limits.allowance(rows_at_start).admits(0, rows) {
            Verdict::Block { reason } => reason,
            verdict => panic!("{verdict:?}"),
        }
    }

    #[test]
    fn the_reason_names_the_limit_that_binds() {
        let by_rows = Limits {
            max_rows: Some(500_000),
            max_percent: None,
        };
        assert_eq!(
            blocked(by_rows, 5_000_000, 2_120_031),
            "2120031 rows would be 42 % of 5000000; the limit is 500000 rows (maxRows)"
        );
        let by_percent = Limits {
            max_rows: Some(500_000),
            max_percent: Some(1),
        };
        assert_eq!(
            blocked(by_percent, 5_000_000, 60_000),
            "60000 rows would be 1 % of 5000000; the limit is 50000 rows (maxPercent: 1)"
        );
        assert_eq!(
            blocked(Limits::default(), 20_000, 10_001),
            "10001 rows would be 50 % of 20000; the limit is 10000 rows (maxPercent: 50, the default for tables over 10000 rows)"
        );
        let tiny = Limits {
            max_rows: Some(1),
            max_percent: None,
        };
        assert!(blocked(tiny, 1_000_000, 2).contains("less than 1 % of 1000000"));
        assert!(blocked(tiny, 0, 2).contains("more than the table held"));
    }

    #[test]
    fn rows_taken_before_a_restart_count() {
        let allowance = Limits {
            max_rows: Some(10),
            max_percent: None,
        }
        .allowance(100);
        assert_eq!(allowance.admits(9, 1), Verdict::Go);
        assert!(matches!(allowance.admits(9, 2), Verdict::Block { .. }));
        assert!(matches!(
            allowance.admits(u64::MAX, u64::MAX),
            Verdict::Block { .. }
        ));
    }

    #[rstest]
    #[case(None, None, 0, Some(5_000))]
    #[case(None, None, 30_000, Some(15_000))]
    #[case(Some(100), None, 0, Some(100))]
    #[case(None, Some(20), 0, Some(0))]
    #[case(None, Some(20), 1_000, Some(200))]
    #[case(None, Some(100), 0, None)]
    fn of_a_table_that_may_be_larger_than_known_so_much_may_go_in_any_case(
        #[case] max_rows: Option<u64>,
        #[case] max_percent: Option<u8>,
        #[case] at_least: u64,
        #[case] allowed: Option<u64>,
    ) {
        let limits = Limits {
            max_rows,
            max_percent,
        };
        assert_eq!(limits.allowance_of_at_least(at_least).rows, allowed);
    }

    #[test]
    fn percentages_are_of_the_rows_at_the_start() {
        assert_eq!(
            Limits::default().allowance(5_000_000).percent(2_120_031),
            Some(42)
        );
        assert_eq!(Limits::default().allowance(0).percent(1), None);
    }

    proptest! {
        #[test]
        fn no_larger_table_may_give_less(
            max_rows in proptest::option::of(any::<u64>()),
            max_percent in proptest::option::of(1u8..=100),
            at_least: u64, more: u64,
        ) {
            let limits = Limits { max_rows, max_percent };
            let known = limits.allowance_of_at_least(at_least).rows.unwrap_or(u64::MAX);
            let real = limits.allowance(at_least.saturating_add(more)).rows.unwrap_or(u64::MAX);
            prop_assert!(known <= real, "{known} > {real}");
        }

        #[test]
        fn exactly_the_allowed_rows_are_admitted(
            max_rows in proptest::option::of(any::<u64>()),
            max_percent in proptest::option::of(1u8..=100),
            rows_at_start: u64, done: u64, next: u64,
        ) {
            let allowance = Limits { max_rows, max_percent }.allowance(rows_at_start);
            let within = allowance.rows.is_none_or(|rows| u128::from(done) + u128::from(next) <= u128::from(rows));
            prop_assert_eq!(allowance.admits(done, next) == Verdict::Go, within);
        }
    }
}
