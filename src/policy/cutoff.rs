//! The cutoff: rows whose time is before it are expired.

use jiff::{Timestamp, civil, tz::TimeZone};

use super::{age::Age, table::TimeDomain};

/// A cutoff in the column's own domain: the cutoff is converted, never the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cutoff {
    /// For instants.
    Instant(Timestamp),
    /// For wall-clock times without a zone.
    Local(civil::DateTime),
    /// For dates: a date is expired when it is before this one.
    Date(civil::Date),
}

/// The age reaches back before the calendar begins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CutoffError(pub String);

/// `now` minus `age`, calendar units in `zone`.
///
/// # Errors
/// When the result is outside the calendar.
pub fn cutoff_instant(
    now: Timestamp,
    age: &Age,
    zone: &TimeZone,
) -> Result<Timestamp, CutoffError> {
    let _ = (now, age, zone);
    todo!()
}

impl Cutoff {
    /// `instant` in a column's domain; values without a zone are in `column_zone`. A local value that can mean two
    /// instants is read as the later one: nothing goes early.
    #[must_use]
    pub fn in_domain(instant: Timestamp, domain: TimeDomain, column_zone: &TimeZone) -> Self {
        let _ = (instant, domain, column_zone);
        todo!()
    }

    /// Seconds since 1970 for comparison with statistics; local times and dates as if they were UTC.
    #[must_use]
    pub fn epoch_seconds(&self) -> f64 {
        todo!()
    }
}

impl std::fmt::Display for Cutoff {
    /// RFC 3339 for an instant, ISO 8601 without an offset for a local time, `YYYY-MM-DD` for a date: also the text that is bound in SQL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _ = f;
        todo!()
    }
}

impl std::str::FromStr for Cutoff {
    type Err = CutoffError;

    /// Reads what `Display` wrote: a resumed sweep keeps its cutoff.
    fn from_str(text: &str) -> Result<Self, CutoffError> {
        let _ = text;
        todo!()
    }
}
