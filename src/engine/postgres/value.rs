//! The cutoff, bound as the server's own binary type: no text is parsed, and no time zone can be misread. That of an encoded
//! column is bound as text, in the words of the encoding.

use jiff::{Timestamp, civil, tz::TimeZone};
use sqlx::{
    Postgres, Type,
    encode::{Encode, IsNull},
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgTypeInfo, types::Oid},
};

use crate::policy::{
    cutoff::Cutoff,
    encoding::{EncodedCutoff, IsoCutoff, encoded},
    plan::RulePlan,
    table::TimeDomain,
};

const TEXT: Oid = Oid(25);
const DATE: Oid = Oid(1082);
const TIMESTAMP: Oid = Oid(1114);
const TIMESTAMPTZ: Oid = Oid(1184);

/// Seconds from 1970, the epoch of this crate, to 2000, that of PostgreSQL's binary formats.
const EPOCH_SECONDS: i64 = 946_684_800;
/// Before the first timestamp and the first date (4714 BC) lies only `-infinity`, which is below any cutoff.
const FIRST_MICROSECOND: i64 = -211_813_488_000_000_000;
const FIRST_DAY: i32 = -2_451_545;

/// A cutoff, bound in its column's domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BoundCutoff {
    /// Microseconds since 2000-01-01 UTC.
    Instant(i64),
    /// Microseconds since 2000-01-01 on the wall clock.
    Local(i64),
    /// Days since 2000-01-01.
    Date(i32),
    /// As the encoding writes it.
    Text(ShortText),
}

/// A text of at most 64 bytes, all of them ASCII: two times with fractions and what separates them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShortText {
    bytes: [u8; 64],
    length: usize,
}

impl ShortText {
    /// A longer text, which no encoding makes, becomes the empty one, before which nothing lies.
    fn new(text: &str) -> Self {
        let mut bytes = [0; 64];
        match bytes.get_mut(..text.len()) {
            Some(part) if text.is_ascii() => {
                part.copy_from_slice(text.as_bytes());
                Self {
                    bytes,
                    length: text.len(),
                }
            }
            _ => Self { bytes, length: 0 },
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl BoundCutoff {
    /// The cutoff of a plan.
    pub(super) fn of(plan: &RulePlan) -> Self {
        let Some(encoding) = plan.encoding else {
            return Self::new(&plan.cutoff);
        };
        Self::encoded(&encoded(encoding, &plan.cutoff, &plan.column_zone))
    }

    fn encoded(cutoff: &EncodedCutoff) -> Self {
        let text = match cutoff {
            EncodedCutoff::Number(cutoff) => cutoff.decimal(),
            EncodedCutoff::Uuid(text)
            | EncodedCutoff::Ulid(text)
            | EncodedCutoff::Compact(text) => text.clone(),
            EncodedCutoff::Iso(IsoCutoff { utc, local }) => {
                format!("{}|{}", iso_text(*local), iso_text(*utc))
            }
        };
        Self::Text(ShortText::new(&text))
    }

    pub(super) fn new(cutoff: &Cutoff) -> Self {
        match *cutoff {
            Cutoff::Instant(instant) => Self::Instant(microseconds(instant)),
            Cutoff::Local(local) => Self::Local(
                TimeZone::UTC
                    .to_timestamp(local)
                    .map_or(FIRST_MICROSECOND, microseconds),
            ),
            Cutoff::Date(date) => Self::Date(days(date)),
        }
    }

    /// The column's values are of the same domain.
    pub(super) const fn fits(self, domain: Option<TimeDomain>) -> bool {
        matches!(
            (self, domain),
            (Self::Instant(_), Some(TimeDomain::Instant))
                | (Self::Local(_), Some(TimeDomain::Local))
                | (Self::Date(_), Some(TimeDomain::Date))
        )
    }

    /// The type's name in the system catalog.
    pub(super) const fn type_name(self) -> &'static str {
        match self {
            Self::Instant(_) => "timestamptz",
            Self::Local(_) => "timestamp",
            Self::Date(_) => "date",
            Self::Text(_) => "text",
        }
    }
}

/// Characters of a time with microseconds.
const ISO_LENGTH: usize = 26;
/// The local times of every offset around it are of year 1 or later; before that nothing has expired.
const FIRST_ISO: civil::DateTime = civil::DateTime::constant(1, 1, 2, 0, 0, 0, 0);

fn iso_text(time: civil::DateTime) -> String {
    if time < FIRST_ISO {
        String::new()
    } else {
        let mut text = time.to_string();
        text.truncate(ISO_LENGTH);
        text
    }
}

/// Whole microseconds, rounded down: a cutoff that moves earlier takes no row too soon.
fn microseconds(instant: Timestamp) -> i64 {
    let micros = instant.as_nanosecond().div_euclid(1_000) - i128::from(EPOCH_SECONDS) * 1_000_000;
    i64::try_from(micros).map_or(FIRST_MICROSECOND, |micros| micros.max(FIRST_MICROSECOND))
}

fn days(date: civil::Date) -> i32 {
    let start = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0));
    let seconds = start.map_or(i64::MIN / 2, Timestamp::as_second) - EPOCH_SECONDS;
    i32::try_from(seconds.div_euclid(86_400)).map_or(FIRST_DAY, |day| day.max(FIRST_DAY))
}

impl Type<Postgres> for BoundCutoff {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        [DATE, TIMESTAMP, TIMESTAMPTZ, TEXT]
            .iter()
            .any(|oid| *ty == PgTypeInfo::with_oid(*oid))
    }
}

impl Encode<'_, Postgres> for BoundCutoff {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        match self {
            Self::Instant(micros) | Self::Local(micros) => {
                buf.extend_from_slice(&micros.to_be_bytes());
            }
            Self::Date(days) => buf.extend_from_slice(&days.to_be_bytes()),
            Self::Text(text) => buf.extend_from_slice(text.as_bytes()),
        }
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(match self {
            Self::Instant(_) => TIMESTAMPTZ,
            Self::Local(_) => TIMESTAMP,
            Self::Date(_) => DATE,
            Self::Text(_) => TEXT,
        }))
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;
    use crate::policy::encoding::Encoding;

    fn iso(cutoff: &str, zone: &str) -> BoundCutoff {
        let encoded = EncodedCutoff::new(
            Encoding::Iso8601,
            cutoff.parse().unwrap(),
            &TimeZone::get(zone).unwrap(),
        );
        BoundCutoff::encoded(&encoded)
    }

    #[test]
    fn the_cutoff_of_texts_is_bound_as_two_texts() {
        assert_eq!(
            iso("2026-11-22T08:30:10.5Z", "Europe/Berlin"),
            BoundCutoff::Text(ShortText::new(
                "2026-11-22T09:30:10.5|2026-11-22T08:30:10.5"
            ))
        );
        assert_eq!(
            iso("2026-11-22T08:30:10.123456789Z", "UTC"),
            BoundCutoff::Text(ShortText::new(
                "2026-11-22T08:30:10.123456|2026-11-22T08:30:10.123456"
            ))
        );
    }

    #[test]
    fn before_the_calendar_of_texts_nothing_lies() {
        assert_eq!(
            iso("0001-01-01T23:00:00Z", "UTC"),
            BoundCutoff::Text(ShortText::new("|"))
        );
        assert_eq!(
            iso("-000001-06-01T00:00:00Z", "America/Los_Angeles"),
            BoundCutoff::Text(ShortText::new("|"))
        );
    }

    #[test]
    fn a_text_that_no_encoding_makes_is_bound_as_nothing() {
        assert_eq!(ShortText::new(&"9".repeat(65)).as_bytes(), b"");
        assert_eq!(ShortText::new("é").as_bytes(), b"");
        assert_eq!(ShortText::new("").as_bytes(), b"");
        assert_eq!(ShortText::new(&"9".repeat(64)).as_bytes(), [b'9'; 64]);
    }

    #[test]
    fn the_postgres_epoch_is_zero_in_every_domain() {
        let instant: Timestamp = "2000-01-01T00:00:00Z".parse().unwrap();

        assert_eq!(
            BoundCutoff::new(&Cutoff::Instant(instant)),
            BoundCutoff::Instant(0)
        );
        assert_eq!(
            BoundCutoff::new(&Cutoff::Local(date(2000, 1, 1).at(0, 0, 0, 0))),
            BoundCutoff::Local(0)
        );
        assert_eq!(
            BoundCutoff::new(&Cutoff::Date(date(2000, 1, 1))),
            BoundCutoff::Date(0)
        );
    }

    #[test]
    fn a_cutoff_between_two_microseconds_moves_to_the_earlier_one() {
        let after: Timestamp = "2000-01-01T00:00:00.0000019Z".parse().unwrap();
        let before: Timestamp = "1999-12-31T23:59:59.9999981Z".parse().unwrap();

        assert_eq!(
            BoundCutoff::new(&Cutoff::Instant(after)),
            BoundCutoff::Instant(1)
        );
        assert_eq!(
            BoundCutoff::new(&Cutoff::Instant(before)),
            BoundCutoff::Instant(-2)
        );
    }

    #[test]
    fn a_cutoff_before_the_servers_calendar_is_its_first_moment() {
        assert_eq!(
            BoundCutoff::new(&Cutoff::Local(civil::DateTime::MIN)),
            BoundCutoff::Local(FIRST_MICROSECOND)
        );
        assert_eq!(
            BoundCutoff::new(&Cutoff::Date(civil::Date::MIN)),
            BoundCutoff::Date(FIRST_DAY)
        );
    }

    #[test]
    fn a_date_counts_days_since_2000() {
        assert_eq!(
            BoundCutoff::new(&Cutoff::Date(date(2024, 2, 29))),
            BoundCutoff::Date(8_825)
        );
        assert_eq!(
            BoundCutoff::new(&Cutoff::Date(date(1999, 12, 31))),
            BoundCutoff::Date(-1)
        );
    }
}
