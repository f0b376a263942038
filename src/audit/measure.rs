//! Numbers that say how they were got.

use jiff::Timestamp;

use crate::{
    engine::{LeafStatistics, TableStatistics},
    policy::{cutoff::Cutoff, plan::RulePlan, table::TimeDomain},
};

/// How a number was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The catalog's estimate of the last ANALYZE or VACUUM.
    Catalog,
    /// The time column's histogram, most common values and null fraction.
    Histogram,
    /// The same, for a rule with `where` or holds, which the statistics do not know: at most this many.
    UpperBound,
    /// Counted.
    Count,
    /// Counted at the end of the last sweep, and what the histogram says has expired since.
    CountAndHistogram,
    /// The same, for a rule with `where` or holds: at most this many.
    CountAndUpperBound,
}

impl Method {
    /// As status spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Catalog => "Catalog",
            Self::Histogram => "Histogram",
            Self::UpperBound => "UpperBound",
            Self::Count => "Count",
            Self::CountAndHistogram => "CountAndHistogram",
            Self::CountAndUpperBound => "CountAndUpperBound",
        }
    }
}

/// A number of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Rows.
    pub value: i64,
    /// How it was got.
    pub method: Method,
    /// Whether it is exact as of `as_of`.
    pub exact: bool,
    /// When it was true; `None`: unknown.
    pub as_of: Option<Timestamp>,
}

/// A value of the time column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredInstant {
    /// RFC 3339, or without an offset for a column without one.
    pub value: String,
    /// How it was got.
    pub method: Method,
    /// When it was true.
    pub as_of: Option<Timestamp>,
}

/// Rows of a table; `None`: it was never analysed.
pub(super) fn rows(plan: &RulePlan, statistics: &TableStatistics) -> Option<Measured> {
    Some(Measured {
        value: rounded(plan.table.rows()?),
        method: Method::Catalog,
        exact: plan.table.leaves.iter().all(|leaf| leaf.pages == 0),
        as_of: as_of(statistics),
    })
}

/// Rows that the plan would take, as the statistics know them; `None`: they know nothing.
#[must_use]
pub fn expired(plan: &RulePlan, statistics: &TableStatistics) -> Option<Measured> {
    before(plan.cutoff, plan, statistics)
}

/// Rows of the table that are before `cutoff` and that the rule may take; `None`: the role may not see the statistics, or
/// there are none.
pub(super) fn before(
    cutoff: Cutoff,
    plan: &RulePlan,
    statistics: &TableStatistics,
) -> Option<Measured> {
    let value = all_before(cutoff, statistics);
    Some(Measured {
        value: if plan.held_by.is_some() {
            0
        } else {
            rounded(value?)
        },
        method: if plan.is_narrowed() {
            Method::UpperBound
        } else {
            Method::Histogram
        },
        exact: statistics.leaves.is_empty(),
        as_of: as_of(statistics),
    })
}

fn all_before(cutoff: Cutoff, statistics: &TableStatistics) -> Option<f64> {
    let cutoff = cutoff.epoch_seconds();
    let leaves = statistics.leaves.iter();
    leaves.map(|leaf| expired_in_leaf(leaf, cutoff)).sum()
}

/// What was counted before the cutoff `from`, and what lies between it and the plan's own cutoff as the statistics know them;
/// `None`: nothing, or they know nothing of it.
pub(super) fn counted_since(
    counted: i64,
    from: Cutoff,
    plan: &RulePlan,
    statistics: &TableStatistics,
) -> Option<Measured> {
    let same_domain = std::mem::discriminant(&from) == std::mem::discriminant(&plan.cutoff);
    if !same_domain || plan.held_by.is_some() {
        return None;
    }
    let since = all_before(plan.cutoff, statistics)? - all_before(from, statistics)?;
    let since = rounded(since);
    (since > 0).then(|| Measured {
        value: counted.saturating_add(since),
        method: if plan.is_narrowed() {
            Method::CountAndUpperBound
        } else {
            Method::CountAndHistogram
        },
        exact: false,
        as_of: as_of(statistics),
    })
}

/// Rows whose value is not of the plan's encoding. Of a rule with `where` not all of them need be its own.
pub(super) fn unreadable(plan: &RulePlan, statistics: &TableStatistics) -> Option<Measured> {
    plan.encoding?;
    let value: Option<f64> = statistics
        .leaves
        .iter()
        .map(|leaf| match leaf.rows? {
            0.0 => Some(0.0),
            rows => Some(rows * leaf.column.as_ref()?.unreadable_fraction),
        })
        .sum();
    Some(Measured {
        value: rounded(value?),
        method: if plan.filter.is_some() {
            Method::UpperBound
        } else {
            Method::Histogram
        },
        exact: statistics.leaves.is_empty(),
        as_of: as_of(statistics),
    })
}

fn expired_in_leaf(leaf: &LeafStatistics, cutoff: f64) -> Option<f64> {
    let rows = leaf.rows?;
    if rows == 0.0 {
        return Some(0.0);
    }
    Some(rows * leaf.column.as_ref()?.expired_fraction(cutoff))
}

/// The newest value that the statistics have seen, in seconds since 1970; `None` also where they do not cover the whole table.
pub(super) fn newest(statistics: &TableStatistics) -> Option<f64> {
    let all = statistics
        .leaves
        .iter()
        .all(|leaf| leaf.rows == Some(0.0) || leaf.column.is_some());
    statistics
        .leaves
        .iter()
        .filter(|_| all)
        .filter_map(|leaf| leaf.column.as_ref()?.newest())
        .reduce(f64::max)
}

/// The statistics have seen a value between two times, in seconds since 1970.
pub(super) fn knows_between(statistics: &TableStatistics, from: f64, until: f64) -> bool {
    statistics
        .leaves
        .iter()
        .filter_map(|leaf| leaf.column.as_ref())
        .any(|column| column.knows_between(from, until))
}

/// The oldest and the newest value that the statistics have seen.
pub(super) fn ends(
    plan: &RulePlan,
    statistics: &TableStatistics,
) -> (Option<MeasuredInstant>, Option<MeasuredInstant>) {
    let columns = || {
        statistics
            .leaves
            .iter()
            .filter_map(|leaf| leaf.column.as_ref())
    };
    let domain = match plan.encoding {
        Some(_) => Some(TimeDomain::Instant),
        None => plan
            .table
            .column(&plan.column)
            .and_then(|column| column.time_domain),
    };
    let measured = |value: Option<f64>| {
        Some(MeasuredInstant {
            value: in_words(value?, domain?)?,
            method: Method::Histogram,
            as_of: as_of(statistics),
        })
    };
    (
        measured(
            columns()
                .filter_map(|column| column.oldest())
                .reduce(f64::min),
        ),
        measured(
            columns()
                .filter_map(|column| column.newest())
                .reduce(f64::max),
        ),
    )
}

fn in_words(epoch: f64, domain: TimeDomain) -> Option<String> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole seconds of a calendar fit; from_second checks the range"
    )]
    let instant = Timestamp::from_second(epoch.floor() as i64).ok()?;
    let local = instant.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    Some(
        match domain {
            TimeDomain::Instant => Cutoff::Instant(instant),
            TimeDomain::Local => Cutoff::Local(local),
            TimeDomain::Date => Cutoff::Date(local.date()),
        }
        .to_string(),
    )
}

/// Statistics are as old as the oldest part of them.
fn as_of(statistics: &TableStatistics) -> Option<Timestamp> {
    let times: Option<Vec<Timestamp>> = statistics
        .leaves
        .iter()
        .map(|leaf| leaf.analyzed_at)
        .collect();
    times?.into_iter().min()
}

fn rounded(rows: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "clamped to what fits")]
    let rows = rows.clamp(0.0, 9e18).round() as i64;
    rows
}
