//! What a stored value means, for estimates and for people. Engines say the same in SQL, where it decides which rows go.

use jiff::{civil, tz::TimeZone};

use super::{CROCKFORD, Encoding, Storage};

/// The last instant that a value may mean, in seconds since 1970; values without a zone are in `zone`. `None`: the value is
/// unreadable, and never expires.
///
/// It is before a cutoff where the value has expired. A date means its last microsecond, since the day in which a cutoff falls
/// is not over; a time without seconds that of its minute. In the hours around a clock's change a value may be taken to have
/// expired that the comparison of texts still keeps.
#[must_use]
pub fn decode(encoding: Encoding, storage: Storage, value: &str, zone: &TimeZone) -> Option<f64> {
    match encoding {
        Encoding::EpochSeconds => Some(epoch(storage, value)?),
        Encoding::EpochMillis => Some(epoch(storage, value)? / 1e3),
        Encoding::EpochMicros => Some(epoch(storage, value)? / 1e6),
        Encoding::UuidV7 => seconds(uuid_millis(value.as_bytes())?),
        Encoding::Ulid => seconds(ulid_millis(value.as_bytes())?),
        Encoding::Iso8601 => iso8601(value.as_bytes(), zone),
        Encoding::Compact14 => compact14(storage, value.as_bytes(), zone),
    }
}

/// Digits that a text may have before its point, and after it.
const EPOCH_DIGITS: std::ops::RangeInclusive<usize> = 1..=18;

fn epoch(storage: Storage, value: &str) -> Option<f64> {
    if matches!(storage, Storage::Text | Storage::Any) {
        let (whole, fraction) = match value.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (value, None),
        };
        let digits = |text: &str| {
            EPOCH_DIGITS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !digits(whole) || !fraction.is_none_or(digits) {
            return None;
        }
    }
    let number: f64 = value.parse().ok()?;
    (number.is_finite() && number > 0.0).then_some(number)
}

fn seconds(millis: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "48 bits")]
    (millis > 0).then_some(millis as f64 / 1e3)
}

fn uuid_millis(value: &[u8]) -> Option<u64> {
    if value.len() != 36 {
        return None;
    }
    let mut millis = 0;
    for (place, byte) in value.iter().copied().enumerate() {
        if matches!(place, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = char::from(byte).to_digit(16)?;
        match place {
            0..=12 => millis = millis << 4 | u64::from(digit),
            14 if digit != 7 => return None,
            19 if !(8..=11).contains(&digit) => return None,
            _ => {}
        }
    }
    Some(millis)
}

fn ulid_millis(value: &[u8]) -> Option<u64> {
    if value.len() != 26 {
        return None;
    }
    let mut millis = 0;
    for (place, byte) in value.iter().enumerate() {
        let letter = byte.to_ascii_uppercase();
        let digit = CROCKFORD.iter().position(|known| *known == letter)?;
        if place == 0 && digit > 7 {
            return None;
        }
        if place < 10 {
            millis = millis << 5 | u64::try_from(digit).ok()?;
        }
    }
    Some(millis)
}

fn compact14(storage: Storage, value: &[u8], zone: &TimeZone) -> Option<f64> {
    if value.len() != 14 {
        return None;
    }
    let date = date(number(&value[..4])?, &value[4..6], &value[6..8])?;
    if storage == Storage::Integer && date.year() < 1_000 {
        return None;
    }
    let time = time(&value[8..10], &value[10..12], &value[12..], 0)?;
    Some(last_reading(date.to_datetime(time), zone))
}

/// A local time's last microsecond, where its text leaves some of it open.
const LAST_NANOSECOND: i32 = 999_999_000;

fn iso8601(value: &[u8], zone: &TimeZone) -> Option<f64> {
    let (day, rest) = value.split_at_checked(10)?;
    if day[4] != b'-' || day[7] != b'-' {
        return None;
    }
    let date = date(number(&day[..4])?, &day[5..7], &day[8..])?;
    if rest.is_empty() {
        return Some(last_reading(date.at(23, 59, 59, LAST_NANOSECOND), zone));
    }
    let (minute, rest) = rest.split_at_checked(6)?;
    if !matches!(minute[0], b'T' | b' ') || minute[3] != b':' {
        return None;
    }
    let (hours, minutes) = (&minute[1..3], &minute[4..]);
    let (time, rest) = match rest.strip_prefix(b":") {
        Some(rest) => {
            let (seconds, rest) = rest.split_at_checked(2)?;
            let (nanoseconds, rest) = fraction(rest)?;
            (time(hours, minutes, seconds, nanoseconds)?, rest)
        }
        None => (time(hours, minutes, b"59", LAST_NANOSECOND)?, rest),
    };
    let local = date.to_datetime(time);
    match rest {
        [] => Some(last_reading(local, zone)),
        [b'Z' | b'z'] => Some(as_utc(local)),
        _ => Some(as_utc(local) - f64::from(offset_minutes(rest)?) * 60.0),
    }
}

/// `.` and one to nine digits, or nothing: nanoseconds, and what follows.
fn fraction(rest: &[u8]) -> Option<(i32, &[u8])> {
    let Some(rest) = rest.strip_prefix(b".") else {
        return Some((0, rest));
    };
    let length = rest
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(rest.len());
    if !(1..=9).contains(&length) {
        return None;
    }
    let (digits, rest) = rest.split_at(length);
    let scale = 10_i32.pow(u32::try_from(9 - length).ok()?);
    Some((number(digits)?.checked_mul(scale)?, rest))
}

/// `±HH`, `±HHMM` or `±HH:MM`.
fn offset_minutes(text: &[u8]) -> Option<i32> {
    let (sign, hours, minutes) = match *text {
        [sign, a, b] => (sign, [a, b], [b'0', b'0']),
        [sign, a, b, c, d] | [sign, a, b, b':', c, d] => (sign, [a, b], [c, d]),
        _ => return None,
    };
    let (hours, minutes) = (number(&hours)?, number(&minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    match sign {
        b'+' => Some(hours * 60 + minutes),
        b'-' => Some(-(hours * 60 + minutes)),
        _ => None,
    }
}

fn date(year: i32, month: &[u8], day: &[u8]) -> Option<civil::Date> {
    if year < 1 {
        return None;
    }
    civil::Date::new(
        i16::try_from(year).ok()?,
        i8::try_from(number(month)?).ok()?,
        i8::try_from(number(day)?).ok()?,
    )
    .ok()
}

fn time(hours: &[u8], minutes: &[u8], seconds: &[u8], nanoseconds: i32) -> Option<civil::Time> {
    let part = |digits| i8::try_from(number(digits)?).ok();
    civil::Time::new(part(hours)?, part(minutes)?, part(seconds)?, nanoseconds).ok()
}

/// At most nine digits.
fn number(digits: &[u8]) -> Option<i32> {
    digits.iter().try_fold(0_i32, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + i32::from(byte - b'0'))
    })
}

/// The later of the instants that a local time can mean.
fn last_reading(local: civil::DateTime, zone: &TimeZone) -> f64 {
    zone.to_ambiguous_timestamp(local)
        .later()
        // At the calendar's very end.
        .map_or_else(|_| as_utc(local), |instant| instant.as_duration().as_secs_f64())
}

fn as_utc(local: civil::DateTime) -> f64 {
    let since = local.duration_since(civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
    since.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::super::{EncodedCutoff, IsoCutoff};
    use super::*;

    fn seconds_at(instant: &str) -> f64 {
        let instant: Timestamp = instant.parse().unwrap();
        instant.as_duration().as_secs_f64()
    }

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    #[rstest]
    #[case(
        Encoding::EpochSeconds,
        Storage::Integer,
        "1700000000",
        "2023-11-14T22:13:20Z"
    )]
    #[case(
        Encoding::EpochSeconds,
        Storage::Float,
        "1.7e+09",
        "2023-11-14T22:13:20Z"
    )]
    #[case(
        Encoding::EpochSeconds,
        Storage::Text,
        "1700000000.25",
        "2023-11-14T22:13:20.25Z"
    )]
    #[case(
        Encoding::EpochMillis,
        Storage::Decimal,
        "1700000000250.0",
        "2023-11-14T22:13:20.25Z"
    )]
    #[case(
        Encoding::EpochMicros,
        Storage::Integer,
        "1",
        "1970-01-01T00:00:00.000001Z"
    )]
    #[case(
        Encoding::UuidV7,
        Storage::Text,
        "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
        "2022-02-22T19:22:22Z"
    )]
    #[case(
        Encoding::Ulid,
        Storage::Text,
        "01arz3ndektsv4rrffq69g5fav",
        "2016-07-30T23:54:10.259Z"
    )]
    #[case(
        Encoding::Compact14,
        Storage::Text,
        "20261122093000",
        "2026-11-22T08:30:00Z"
    )]
    #[case(
        Encoding::Compact14,
        Storage::Integer,
        "20261122093000",
        "2026-11-22T08:30:00Z"
    )]
    #[case::twice_that_night(
        Encoding::Compact14,
        Storage::Text,
        "20261025023000",
        "2026-10-25T01:30:00Z"
    )]
    #[case::skipped_that_night(
        Encoding::Iso8601,
        Storage::Text,
        "2026-03-29T02:30:00",
        "2026-03-29T01:30:00Z"
    )]
    #[case(
        Encoding::Iso8601,
        Storage::Text,
        "2026-11-22",
        "2026-11-22T22:59:59.999999Z"
    )]
    #[case(
        Encoding::Iso8601,
        Storage::Text,
        "2026-11-22T09:30",
        "2026-11-22T08:30:59.999999Z"
    )]
    #[case(
        Encoding::Iso8601,
        Storage::Text,
        "2026-11-22 09:30:01.5",
        "2026-11-22T08:30:01.5Z"
    )]
    #[case(
        Encoding::Iso8601,
        Storage::Text,
        "2026-11-22T09:30:01.123456789z",
        "2026-11-22T09:30:01.123456789Z"
    )]
    #[case(
        Encoding::Iso8601,
        Storage::Text,
        "2026-11-22T09:30:01+02",
        "2026-11-22T07:30:01Z"
    )]
    #[case(
        Encoding::Iso8601,
        Storage::Text,
        "2026-11-22T09:30:01-0330",
        "2026-11-22T13:00:01Z"
    )]
    #[case(
        Encoding::Iso8601,
        Storage::Text,
        "2024-02-29T00:00:00-00:00",
        "2024-02-29T00:00:00Z"
    )]
    fn a_value_means_an_instant(
        #[case] encoding: Encoding,
        #[case] storage: Storage,
        #[case] value: &str,
        #[case] instant: &str,
    ) {
        let decoded = decode(encoding, storage, value, &berlin()).unwrap();
        assert!((decoded - seconds_at(instant)).abs() < 1e-6, "{decoded}");
    }

    #[test]
    fn the_calendars_last_day_is_readable() {
        assert!(
            decode(
                Encoding::Iso8601,
                Storage::Text,
                "9999-12-31T23:59:59Z",
                &berlin()
            )
            .is_some()
        );
        assert!(decode(Encoding::Iso8601, Storage::Text, "9999-12-31", &berlin()).is_some());
        assert!(decode(Encoding::Iso8601, Storage::Text, "0001-01-01", &berlin()).is_some());
    }

    #[rstest]
    #[case(Encoding::EpochSeconds, Storage::Integer, &["0", "-1"])]
    #[case(Encoding::EpochSeconds, Storage::Float, &["NaN", "Infinity", "-Infinity", "0"])]
    #[case(Encoding::EpochSeconds, Storage::Text, &["", "0", "0.0", "+1", "-1", " 1", "1 ", "1e9", "0x1", "1.", ".1", "1.2.3", "1,5", "١", "NaN", "1234567890123456789"])]
    #[case(Encoding::UuidV7, Storage::Text, &[
        "", "017f22e2-79b0-4cc3-98c4-dc0c0c07398f", "017f22e2-79b0-7cc3-c8c4-dc0c0c07398f", "017f22e279b07cc398c4dc0c0c07398f",
        "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}", "017f22e2-79b0-7cc3-98c4-dc0c0c07398g", "00000000-0000-7cc3-98c4-dc0c0c07398f",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f ", "017f22e2+79b0-7cc3-98c4-dc0c0c07398f",
    ])]
    #[case(Encoding::Ulid, Storage::Text, &[
        "", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAU", "01ARZ3NDEKTSV4RRFFQ69G5FA", "01ARZ3NDEKTSV4RRFFQ69G5FAV0",
        "0000000000TSV4RRFFQ69G5FAV", "O1ARZ3NDEKTSV4RRFFQ69G5FAV",
    ])]
    #[case(Encoding::Compact14, Storage::Text, &[
        "", "00000101000000", "20260229000000", "20261301000000", "20260001000000", "20260132000000", "20260431000000", "20260101240000",
        "20260101006000", "20260101000060", "2026010100000", "202601010000000", "2026-01-01 00:", "19000229000000",
    ])]
    #[case::as_a_number(Encoding::Compact14, Storage::Integer, &["0", "1711010101010", "-20260101000000", "20260229000000"])]
    #[case(Encoding::Iso8601, Storage::Text, &[
        "", "2026", "2026-11", "2026-1-01", "20261122", "2026-11-22T", "2026-11-22T09", "2026-11-22T09:30:", "2026-11-22T09:30:01.",
        "2026-11-22T09:30:01.1234567890", "2026-11-22T09:30:01,5", "2026-11-22t09:30:01", "2026-11-22  09:30:01", "2026-11-22T24:00:00",
        "2026-11-22T09:60", "2026-11-22T09:30:60", "2026-02-29", "0000-01-01", "10000-01-01", "-2026-01-01", "2026-11-22Z",
        "2026-11-22T09:30:01+24:00", "2026-11-22T09:30:01+02:60", "2026-11-22T09:30:01+2", "2026-11-22T09:30:01 +02:00",
        "2026-11-22T09:30:01ZZ", "2026-11-22T09:30:01+02:00:00", "2026-11-22T09:30:01[UTC]", " 2026-11-22", "2026-11-22 ",
        "2026-11-22\n", "2026-11-22 BC", "infinity", "now", "tomorrow", "2026-11-22T09:30:01 UTC", "２０２６-11-22",
    ])]
    fn what_is_not_of_the_encoding_is_unreadable(
        #[case] encoding: Encoding,
        #[case] storage: Storage,
        #[case] values: &[&str],
    ) {
        for value in values {
            assert_eq!(
                decode(encoding, storage, value, &TimeZone::UTC),
                None,
                "{value:?}"
            );
        }
    }

    /// What engines ask, on readable values.
    fn expired(cutoff: &EncodedCutoff, value: &str) -> bool {
        match cutoff {
            EncodedCutoff::Number(cutoff) => {
                value.parse::<i128>().unwrap() < i128::from(cutoff.first_whole())
            }
            EncodedCutoff::Uuid(cutoff) => value.to_ascii_lowercase() < *cutoff,
            EncodedCutoff::Ulid(cutoff) => value.to_ascii_uppercase() < *cutoff,
            EncodedCutoff::Compact(cutoff) => *value < **cutoff,
            EncodedCutoff::Iso(IsoCutoff { utc, local }) => {
                let (cutoff, value) = match value.strip_suffix('Z') {
                    Some(value) => (utc.to_string(), value),
                    None => (local.to_string(), value),
                };
                let open = if value.len() < 19 {
                    value.len()
                } else {
                    cutoff.len()
                };
                *value.replace(' ', "T") < cutoff[..open]
            }
        }
    }

    fn written(encoding: Encoding, instant: Timestamp, zone: &TimeZone, form: u8) -> String {
        let millis = u64::try_from(instant.as_millisecond()).unwrap();
        let local = instant.to_zoned(zone.clone()).datetime();
        match encoding {
            Encoding::EpochSeconds => instant.as_second().to_string(),
            Encoding::EpochMillis => millis.to_string(),
            Encoding::EpochMicros => instant.as_microsecond().to_string(),
            Encoding::UuidV7 => format!(
                "{:08x}-{:04x}-7cc3-98c4-dc0c0c07398f",
                millis >> 16,
                millis & 0xffff
            ),
            Encoding::Ulid => format!(
                "{}SV4RRFFQ69G5FAVX",
                &super::super::first_ulid(millis)[..10]
            ),
            Encoding::Compact14 => local.strftime("%Y%m%d%H%M%S").to_string(),
            Encoding::Iso8601 => match form % 4 {
                0 => local.date().to_string(),
                1 => local.strftime("%Y-%m-%d %H:%M").to_string(),
                2 => local.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string(),
                _ => instant.to_string(),
            },
        }
    }

    fn encodings() -> impl Strategy<Value = Encoding> {
        prop::sample::select(Encoding::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn a_value_has_expired_where_its_last_instant_is_before_the_cutoff(
            encoding in encodings(),
            at in 1_000_000_000_000..2_000_000_000_000_000_i64,
            apart in prop_oneof![-3_000_000..3_000_000_i64, -200_000_000_000..200_000_000_000_i64],
            form in any::<u8>(),
        ) {
            let cutoff = Timestamp::from_microsecond(at).unwrap();
            let instant = Timestamp::from_microsecond(at + apart).unwrap();
            // An offset that never changes: the comparison of texts is then neither early nor late.
            let zone = TimeZone::fixed(jiff::tz::offset(-5));
            let value = written(encoding, instant, &zone, form);
            let last = decode(encoding, Storage::Text, &value, &zone).unwrap();
            prop_assert_eq!(
                expired(&EncodedCutoff::new(encoding, cutoff, &zone), &value),
                // Less than half a microsecond is how binary fractions are rounded.
                last + 4e-7 < cutoff.as_duration().as_secs_f64(),
                "{} {}", value, cutoff
            );
        }

        #[test]
        fn nothing_goes_early_when_clocks_change(
            encoding in encodings(),
            // Around both changes of 2026.
            at in prop::sample::select(vec![1_774_746_000_000_000_i64, 1_792_890_000_000_000]),
            before in -90_000_000_000..90_000_000_000_i64,
            apart in -10_000_000_000..10_000_000_000_i64,
            form in any::<u8>(),
        ) {
            let cutoff = Timestamp::from_microsecond(at + before).unwrap();
            let instant = Timestamp::from_microsecond(at + before + apart).unwrap();
            let value = written(encoding, instant, &berlin(), form);
            if expired(&EncodedCutoff::new(encoding, cutoff, &berlin()), &value) {
                prop_assert!(instant < cutoff, "{value} went at {cutoff}");
                let last = decode(encoding, Storage::Text, &value, &berlin()).unwrap();
                prop_assert!(last < cutoff.as_duration().as_secs_f64());
            }
        }

        #[test]
        fn no_text_breaks_it(encoding in encodings(), value in "\\PC{0,40}|[0-9T:.Z+-]{0,36}") {
            for storage in [Storage::Text, Storage::Integer, Storage::Float] {
                let _ = decode(encoding, storage, &value, &TimeZone::UTC);
            }
        }
    }
}
