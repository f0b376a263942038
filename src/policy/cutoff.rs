//! The cutoff: rows whose time is before it are expired.

use jiff::{Span, Timestamp, civil, tz::Offset, tz::TimeZone};

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

/// The age reaches back before the calendar begins, or a stored cutoff cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CutoffError(pub String);

/// `now` minus `age`, calendar units in `zone`, rounded down to microseconds (databases keep no more).
///
/// # Errors
/// When the result is before year 1.
pub fn cutoff_instant(
    now: Timestamp,
    age: &Age,
    zone: &TimeZone,
) -> Result<Timestamp, CutoffError> {
    let reaches_back = || CutoffError(format!("{age} before {now} is before year 1"));
    let span = Span::new()
        .try_years(age.years)
        .and_then(|span| span.try_months(age.months))
        .and_then(|span| span.try_weeks(age.weeks))
        .and_then(|span| span.try_days(age.days))
        .and_then(|span| span.try_hours(age.hours))
        .map_err(|_| reaches_back())?;
    let then = now
        .to_zoned(zone.clone())
        .checked_sub(span)
        .map_err(|_| reaches_back())?
        .timestamp();
    let then = floor_to_microseconds(then);
    // The day before year 1 is left out too, so that no zone's local date of the cutoff has a negative year.
    if Offset::UTC.to_datetime(then) < civil::date(1, 1, 2).at(0, 0, 0, 0) {
        return Err(reaches_back());
    }
    Ok(then)
}

impl Cutoff {
    /// `instant` in a column's domain, rounded down to microseconds; values without a zone are in `column_zone`. A local value
    /// that can mean two instants is read as the later one, and one that a clock change skipped as the later of its readings:
    /// nothing goes early. A date has expired when every time of that date has.
    #[must_use]
    pub fn in_domain(instant: Timestamp, domain: TimeDomain, column_zone: &TimeZone) -> Self {
        let instant = floor_to_microseconds(instant);
        match domain {
            TimeDomain::Instant => Self::Instant(instant),
            TimeDomain::Local => Self::Local(first_unexpired(instant, column_zone)),
            TimeDomain::Date => Self::Date(first_unexpired(instant, column_zone).date()),
        }
    }

    /// Seconds since 1970 for comparison with statistics; local times and dates as if they were UTC.
    #[must_use]
    pub fn epoch_seconds(&self) -> f64 {
        let as_utc = |local: civil::DateTime| {
            Offset::UTC
                .to_timestamp(local)
                .unwrap_or(if local.year() < 0 {
                    Timestamp::MIN
                } else {
                    Timestamp::MAX
                })
        };
        match self {
            Self::Instant(instant) => *instant,
            Self::Local(local) => as_utc(*local),
            Self::Date(date) => as_utc(date.at(0, 0, 0, 0)),
        }
        .as_duration()
        .as_secs_f64()
    }
}

/// The earliest local time that may mean `cutoff` or a later instant: everything before it has surely expired.
///
/// Around a change of the clock the mapping from local times to instants is neither single-valued nor monotone. So every
/// stretch between two changes is looked at on its own, and each gap too, whose times are read with the offset from before it.
pub(crate) fn first_unexpired(cutoff: Timestamp, zone: &TimeZone) -> civil::DateTime {
    let mut earliest = zone.to_offset(cutoff).to_datetime(cutoff);
    for change in changes_around(cutoff, zone) {
        let Ok(just_before) = change.checked_sub(jiff::SignedDuration::from_nanos(1)) else {
            continue;
        };
        let before = zone.to_offset(just_before);
        let after = zone.to_offset(change);
        if change > cutoff {
            earliest = earliest.min(after.to_datetime(change));
        } else {
            let gap = before.duration_until(after);
            if cutoff.duration_since(change) < gap {
                earliest = earliest.min(before.to_datetime(cutoff));
            }
        }
    }
    earliest
}

/// Changes of `zone`'s clock within three days of `instant`: no clock was ever moved by more than a day.
fn changes_around(instant: Timestamp, zone: &TimeZone) -> Vec<Timestamp> {
    let reach = jiff::SignedDuration::from_hours(72);
    let earlier = zone
        .preceding(instant)
        .map(|change| change.timestamp())
        .take_while(|change| instant.duration_since(*change) <= reach);
    let later = zone
        .following(instant)
        .map(|change| change.timestamp())
        .take_while(|change| change.duration_since(instant) <= reach);
    // Both searches leave out a change at the very instant.
    earlier
        .chain(later)
        .chain(std::iter::once(instant))
        .collect()
}

fn floor_to_microseconds(instant: Timestamp) -> Timestamp {
    let microseconds = instant.as_nanosecond().div_euclid(1000);
    i64::try_from(microseconds)
        .ok()
        .and_then(|microseconds| Timestamp::from_microsecond(microseconds).ok())
        .unwrap_or(instant)
}

impl std::fmt::Display for Cutoff {
    /// RFC 3339 for an instant, ISO 8601 without an offset for a local time, `YYYY-MM-DD` for a date: also the text that is bound in SQL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Instant(instant) => instant.fmt(f),
            Self::Local(local) => local.fmt(f),
            Self::Date(date) => date.fmt(f),
        }
    }
}

impl std::str::FromStr for Cutoff {
    type Err = CutoffError;

    /// Reads what `Display` wrote: a resumed sweep keeps its cutoff.
    fn from_str(text: &str) -> Result<Self, CutoffError> {
        let parsed = if text.ends_with('Z') {
            text.parse().map(Self::Instant)
        } else if text.contains('T') {
            text.parse().map(Self::Local)
        } else {
            text.parse().map(Self::Date)
        };
        parsed.map_err(|error| CutoffError(format!("`{text}` is not a cutoff: {error}")))
    }
}

#[cfg(test)]
mod tests;
