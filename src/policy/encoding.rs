//! Times that a number or a text holds: how a cutoff is written in the column's own encoding, and what a value means.
//!
//! Units and formats are never guessed: a policy states its encoding. A value that is not of that encoding is unreadable, and
//! an unreadable value never expires.

mod decode;

use jiff::{Timestamp, civil, tz::TimeZone};

pub use self::decode::decode;
pub use crate::api::Encoding;

use super::cutoff::{Cutoff, first_unexpired};

/// How a column stores its values, as far as encodings are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Whole numbers.
    Integer,
    /// Numbers with decimals, exact.
    Decimal,
    /// Binary fractions.
    Float,
    /// Characters.
    Text,
    /// The database's own UUID type.
    Uuid,
    /// Bytes.
    Bytes,
    /// No type at all: each value has its own (SQLite).
    Any,
}

impl Encoding {
    /// All of them, in the order of the schema.
    pub const ALL: [Self; 7] = [
        Self::EpochSeconds,
        Self::EpochMillis,
        Self::EpochMicros,
        Self::UuidV7,
        Self::Ulid,
        Self::Iso8601,
        Self::Compact14,
    ];

    /// As the policy spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EpochSeconds => "EpochSeconds",
            Self::EpochMillis => "EpochMillis",
            Self::EpochMicros => "EpochMicros",
            Self::UuidV7 => "UuidV7",
            Self::Ulid => "Ulid",
            Self::Iso8601 => "Iso8601",
            Self::Compact14 => "Compact14",
        }
    }

    /// Whether a column that stores its values so can hold this encoding.
    #[must_use]
    pub fn fits(self, storage: Storage) -> bool {
        match self {
            Self::EpochSeconds | Self::EpochMillis | Self::EpochMicros => {
                !matches!(storage, Storage::Uuid | Storage::Bytes)
            }
            Self::UuidV7 => matches!(storage, Storage::Uuid | Storage::Text | Storage::Any),
            Self::Ulid | Self::Iso8601 => matches!(storage, Storage::Text | Storage::Any),
            Self::Compact14 => {
                matches!(storage, Storage::Text | Storage::Integer | Storage::Any)
            }
        }
    }

    /// Values carry no zone of their own, or may carry none: `columnTimeZone` applies.
    #[must_use]
    pub fn is_local(self) -> bool {
        matches!(self, Self::Iso8601 | Self::Compact14)
    }
}

/// A cutoff as the values of an encoding are written. A value has expired when it is readable and less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncodedCutoff {
    /// For epochs.
    Number(EpochCutoff),
    /// For UUIDs of version 7: the smallest that is not expired, lower case with hyphens. Compared bytewise.
    Uuid(String),
    /// For ULIDs: the smallest that is not expired, upper case. Compared bytewise.
    Ulid(String),
    /// For ISO 8601.
    Iso(IsoCutoff),
    /// For fourteen digits: the smallest that is not expired. Compared bytewise.
    Compact(String),
}

/// A cutoff among numbers since 1970. Values of 0 and less are unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochCutoff {
    /// The cutoff in microseconds since 1970, at least 0.
    pub micros: i64,
    /// Microseconds in one unit of the column: 1,000,000, 1,000 or 1.
    pub unit: i64,
}

impl EpochCutoff {
    /// The smallest whole number of units that is not expired.
    #[must_use]
    pub fn first_whole(self) -> i64 {
        self.micros / self.unit + i64::from(self.micros % self.unit != 0)
    }

    /// The cutoff in units, exact, as decimal digits: `1700000000.25`.
    #[must_use]
    pub fn decimal(self) -> String {
        let (whole, rest) = (self.micros / self.unit, self.micros % self.unit);
        let width = self.unit.ilog10() as usize;
        if rest == 0 {
            return whole.to_string();
        }
        let digits = format!("{rest:0width$}");
        format!("{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// A cutoff among texts of ISO 8601. All are compared bytewise with a value whose separator was made a `T`: fractions end with
/// their last digit that is not 0, so that a longer text of the same time is greater.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsoCutoff {
    /// For values in UTC; for one with an offset the offset has to be added.
    pub utc: civil::DateTime,
    /// For values without a zone.
    pub local: civil::DateTime,
}

impl EncodedCutoff {
    /// `cutoff` in an encoding; values without a zone are in `column_zone`.
    #[must_use]
    pub fn new(encoding: Encoding, cutoff: Timestamp, column_zone: &TimeZone) -> Self {
        let micros = micros(cutoff).max(0);
        let epoch = |unit| Self::Number(EpochCutoff { micros, unit });
        match encoding {
            Encoding::EpochSeconds => epoch(1_000_000),
            Encoding::EpochMillis => epoch(1_000),
            Encoding::EpochMicros => epoch(1),
            Encoding::UuidV7 => Self::Uuid(first_uuid(first_millis(micros))),
            Encoding::Ulid => Self::Ulid(first_ulid(first_millis(micros))),
            Encoding::Iso8601 => Self::Iso(IsoCutoff {
                utc: TimeZone::UTC.to_datetime(cutoff),
                local: first_unexpired(cutoff, column_zone),
            }),
            Encoding::Compact14 => {
                let local = first_unexpired(cutoff, column_zone);
                let whole = local
                    .with()
                    .subsec_nanosecond(0)
                    .build()
                    .unwrap_or(civil::DateTime::MIN);
                let first = if local.subsec_nanosecond() == 0 {
                    whole
                } else {
                    whole
                        .checked_add(jiff::SignedDuration::from_secs(1))
                        .unwrap_or(whole)
                };
                Self::Compact(compact(first))
            }
        }
    }
}

/// `YYYYMMDDHHMMSS`; before year 1 there is nothing.
fn compact(local: civil::DateTime) -> String {
    if local.year() < 1 {
        return "00000000000000".to_owned();
    }
    local.strftime("%Y%m%d%H%M%S").to_string()
}

fn micros(instant: Timestamp) -> i64 {
    i64::try_from(instant.as_nanosecond().div_euclid(1_000)).unwrap_or(0)
}

/// The first millisecond that is not before `micros`.
fn first_millis(micros: i64) -> u64 {
    u64::try_from(micros.div_euclid(1_000) + i64::from(micros.rem_euclid(1_000) != 0)).unwrap_or(0)
}

/// The smallest UUID of a millisecond.
fn first_uuid(millis: u64) -> String {
    let hex = format!("{:012x}", millis & 0xffff_ffff_ffff);
    let (high, low) = hex.split_at(8);
    format!("{high}-{low}-0000-0000-000000000000")
}

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The smallest ULID of a millisecond.
fn first_ulid(millis: u64) -> String {
    let time = (0..10).rev().map(|place| {
        let digit = (millis >> (5 * place)) & 31;
        // Five bits are less than 32.
        char::from(*CROCKFORD.get(digit as usize).unwrap_or(&b'0'))
    });
    time.chain(std::iter::repeat_n('0', 16)).collect()
}

/// Converts a plan's cutoff, which for encoded columns is always an instant.
#[must_use]
pub fn encoded(encoding: Encoding, cutoff: &Cutoff, column_zone: &TimeZone) -> EncodedCutoff {
    let instant = match cutoff {
        Cutoff::Instant(instant) => *instant,
        // Not made by `resolve`; before everything, so that nothing goes.
        Cutoff::Local(_) | Cutoff::Date(_) => Timestamp::MIN,
    };
    EncodedCutoff::new(encoding, instant, column_zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn utc(encoding: Encoding, cutoff: &str) -> EncodedCutoff {
        EncodedCutoff::new(encoding, at(cutoff), &TimeZone::UTC)
    }

    #[test]
    fn an_epoch_is_exact_in_every_unit() {
        let EncodedCutoff::Number(seconds) = utc(Encoding::EpochSeconds, "2023-11-14T22:13:20.25Z")
        else {
            panic!("a number");
        };
        assert_eq!(seconds.decimal(), "1700000000.25");
        assert_eq!(seconds.first_whole(), 1_700_000_001);
        let EncodedCutoff::Number(millis) = utc(Encoding::EpochMillis, "2023-11-14T22:13:20Z")
        else {
            panic!("a number");
        };
        assert_eq!(
            (millis.decimal().as_str(), millis.first_whole()),
            ("1700000000000", 1_700_000_000_000)
        );
    }

    #[test]
    fn identifiers_begin_with_their_millisecond() {
        // The example of RFC 9562, appendix A.6: 0x017F22E279B0 is 2022-02-22T19:22:22Z.
        assert_eq!(
            utc(Encoding::UuidV7, "2022-02-22T19:22:22Z"),
            EncodedCutoff::Uuid("017f22e2-79b0-0000-0000-000000000000".into())
        );
        assert_eq!(
            utc(Encoding::UuidV7, "2022-02-22T19:22:22.0000001Z"),
            utc(Encoding::UuidV7, "2022-02-22T19:22:22Z"),
        );
        assert_eq!(
            utc(Encoding::UuidV7, "2022-02-22T19:22:22.000001Z"),
            utc(Encoding::UuidV7, "2022-02-22T19:22:22.001Z"),
        );
        // 01ARZ3NDEKTSV4RRFFQ69G5FAV of the ULID specification is of 2016-07-30T23:54:10.259Z.
        assert_eq!(
            utc(Encoding::Ulid, "2016-07-30T23:54:10.259Z"),
            EncodedCutoff::Ulid("01ARZ3NDEK0000000000000000".into())
        );
    }

    #[test]
    fn before_1970_no_number_has_expired() {
        let EncodedCutoff::Number(cutoff) = utc(Encoding::EpochSeconds, "1960-01-01T00:00:00Z")
        else {
            panic!("a number");
        };
        assert_eq!(cutoff.first_whole(), 0);
    }

    #[test]
    fn texts_without_a_zone_are_in_the_columns_zone() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(
            EncodedCutoff::new(Encoding::Compact14, at("2026-11-22T08:30:00.5Z"), &berlin),
            EncodedCutoff::Compact("20261122093001".into())
        );
        let EncodedCutoff::Iso(iso) =
            EncodedCutoff::new(Encoding::Iso8601, at("2026-11-22T08:30:00Z"), &berlin)
        else {
            panic!("texts");
        };
        assert_eq!(iso.utc, civil::date(2026, 11, 22).at(8, 30, 0, 0));
        assert_eq!(iso.local, civil::date(2026, 11, 22).at(9, 30, 0, 0));
    }
}
