//! Times in usage logs, of which no policy states the encoding.
//!
//! Rules never guess a unit. A log need not be told: evidence counts between two times of today only, and there no value means one of
//! them in two encodings. What could be read in two ways, or in none, proves nothing.

use jiff::{Span, Timestamp, tz::TimeZone};

use super::Logged;
use crate::policy::{
    encoding::{EncodedCutoff, Encoding, Storage, decode},
    plausible::PLAUSIBLE_FROM,
};

/// 2100: no entry of a log is of a later time. Numbers from [`PLAUSIBLE_FROM`] until then mean a time in one unit only.
const PLAUSIBLE_UNTIL: Timestamp = Timestamp::constant(4_102_444_800, 0);
/// The julian day of 1970 began at noon before it.
const JULIAN_1970: f64 = 2_440_587.5;
const SECONDS_A_DAY: f64 = 86_400.0;

/// When an entry was written, by its value; times without a zone are UTC. `None`: it is of no encoding, or of more than one.
#[must_use]
pub fn logged_at(storage: Storage, value: &str) -> Option<Timestamp> {
    let value = value.trim();
    let mut readings = Encoding::ALL
        .into_iter()
        .filter(|encoding| encoding.fits(storage))
        .filter_map(|encoding| reading(encoding, storage, value));
    let only = readings.next()?;
    readings.next().is_none().then_some(only)
}

fn reading(encoding: Encoding, storage: Storage, value: &str) -> Option<Timestamp> {
    // A day is one from its beginning on, and so is a minute: evidence is rather too old than too young.
    let begun = match (encoding, value.len()) {
        (Encoding::Iso8601, 10) => Some(format!("{value}T00:00:00Z")),
        (Encoding::Iso8601, 16) => Some(format!("{value}:00Z")),
        _ => None,
    };
    let value = begun.as_deref().unwrap_or(value);
    let at = instant(decode(encoding, storage, value, &TimeZone::UTC)?)?;
    is_plausible(at).then_some(at)
}

/// When an entry was written whose time is a julian day, as functions of SQLite count them. No unit since 1970 makes a plausible time of
/// such a number.
#[must_use]
pub fn julian_day(value: &str) -> Option<Timestamp> {
    let days: f64 = value.parse().ok()?;
    let at = instant((days - JULIAN_1970) * SECONDS_A_DAY)?;
    is_plausible(at).then_some(at)
}

/// To the millisecond.
fn instant(seconds: f64) -> Option<Timestamp> {
    if !seconds.is_finite() {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "casts of too large numbers saturate, and are no timestamps"
    )]
    Timestamp::from_millisecond((seconds * 1e3) as i64).ok()
}

fn is_plausible(at: Timestamp) -> bool {
    (PLAUSIBLE_FROM..PLAUSIBLE_UNTIL).contains(&at)
}

/// From and up to which values of an index entries of some time are looked for. It may hold others: each one is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Window<T> {
    /// The first.
    pub from: T,
    /// The first that is too late.
    pub until: T,
}

/// From when on entries count: a day earlier than asked for.
#[must_use]
pub fn begin(now: Timestamp, days: u32) -> Timestamp {
    let hours = i64::from(days.saturating_add(1).min(36_500)) * 24;
    now.checked_sub(Span::new().hours(hours))
        .unwrap_or(PLAUSIBLE_FROM)
        .max(PLAUSIBLE_FROM)
}

/// Where numbers stand in an index: seconds, milliseconds and microseconds since 1970, and fourteen digits.
#[must_use]
pub fn numbers(from: Timestamp, now: Timestamp) -> Vec<Window<i64>> {
    let place = |encoding, at| match EncodedCutoff::new(encoding, at, &TimeZone::UTC) {
        EncodedCutoff::Number(cutoff) => Some(cutoff.first_whole()),
        EncodedCutoff::Compact(digits) => digits.parse().ok(),
        _ => None,
    };
    [
        Encoding::EpochSeconds,
        Encoding::EpochMillis,
        Encoding::EpochMicros,
        Encoding::Compact14,
    ]
    .into_iter()
    .filter_map(|encoding| {
        Some(Window {
            from: place(encoding, from)?,
            until: place(encoding, now)?.saturating_add(1),
        })
    })
    .collect()
}

/// Where julian days stand in an index.
#[must_use]
pub fn julian_days(from: Timestamp, now: Timestamp) -> Window<f64> {
    let day = |at: Timestamp| at.as_duration().as_secs_f64() / SECONDS_A_DAY + JULIAN_1970;
    Window {
        from: day(from),
        until: day(now).next_up(),
    }
}

/// Where UUIDs of version 7 stand in an index.
#[must_use]
pub fn uuids(from: Timestamp, now: Timestamp) -> Option<Window<String>> {
    identifiers(Encoding::UuidV7, from, now)
}

fn identifiers(encoding: Encoding, from: Timestamp, now: Timestamp) -> Option<Window<String>> {
    let place = |at| match EncodedCutoff::new(encoding, at, &TimeZone::UTC) {
        EncodedCutoff::Uuid(text) | EncodedCutoff::Ulid(text) => Some(text),
        _ => None,
    };
    let next = now.checked_add(Span::new().milliseconds(1)).ok()?;
    Some(Window {
        from: place(from)?,
        until: place(next)?,
    })
}

/// Where texts stand in an index that orders them by their bytes: dates and times, digits, identifiers in capitals and in small letters.
#[must_use]
pub fn texts(from: Timestamp, now: Timestamp) -> Vec<Window<String>> {
    let day = |at: Timestamp, days| {
        let date = at.to_zoned(TimeZone::UTC).date();
        date.saturating_add(Span::new().days(days))
    };
    let mut windows = vec![
        // Clocks of zones are up to a day behind or ahead.
        Window {
            from: day(from, -1).to_string(),
            until: day(now, 2).to_string(),
        },
        Window {
            from: day(from, -1).strftime("%Y%m%d").to_string(),
            until: day(now, 2).strftime("%Y%m%d").to_string(),
        },
        // The first ten digits are the same in all units.
        Window {
            from: from.as_second().to_string(),
            until: now.as_second().saturating_add(1).to_string(),
        },
    ];
    for encoding in [Encoding::UuidV7, Encoding::Ulid] {
        if let Some(window) = identifiers(encoding, from, now) {
            for spell in [str::to_ascii_lowercase, str::to_ascii_uppercase] {
                windows.push(Window {
                    from: spell(&window.from),
                    until: spell(&window.until),
                });
            }
        }
    }
    windows
}

/// An entry at one end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// When it was written, if that can be read.
    pub at: Option<Timestamp>,
    /// It names the thing that is looked for.
    pub names_it: bool,
}

/// What a log says in which no use was found that counts. `column` names its times, `forms` what they may be written as.
#[must_use]
pub fn without_use(entries: &[Sampled], column: &str, forms: &str) -> Logged {
    let is_unreadable = |entry: &&Sampled| entry.at.is_none();
    if entries.iter().filter(is_unreadable).count() == entries.len() && !entries.is_empty() {
        return Logged::Unreadable(format!(
            "{column} holds no times that can be read: write {forms}"
        ));
    }
    if entries
        .iter()
        .filter(is_unreadable)
        .any(|entry| entry.names_it)
    {
        return Logged::Unreadable(format!(
            "{column} holds values that are no times, in entries that name the table; they prove nothing: write {forms}"
        ));
    }
    Logged::NotFound
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[rstest]
    #[case(Storage::Integer, "1769860800", Some("2026-01-31T12:00:00Z"))]
    #[case(Storage::Integer, "1769860800250", Some("2026-01-31T12:00:00.25Z"))]
    #[case(Storage::Integer, "1769860800250000", Some("2026-01-31T12:00:00.25Z"))]
    #[case(Storage::Integer, "20260131120000", Some("2026-01-31T12:00:00Z"))]
    #[case(Storage::Float, "1769860800.25", Some("2026-01-31T12:00:00.25Z"))]
    #[case(Storage::Float, "1.76986080025e+12", Some("2026-01-31T12:00:00.25Z"))]
    #[case(Storage::Text, "2026-01-31T12:00:00Z", Some("2026-01-31T12:00:00Z"))]
    #[case(Storage::Text, "2026-01-31 12:00:00", Some("2026-01-31T12:00:00Z"))]
    #[case(Storage::Text, "2026-01-31 12:00", Some("2026-01-31T12:00:00Z"))]
    #[case(
        Storage::Text,
        "2026-01-31T12:00:00.250+02:00",
        Some("2026-01-31T10:00:00.25Z")
    )]
    #[case(Storage::Text, "2026-01-31", Some("2026-01-31T00:00:00Z"))]
    #[case(Storage::Text, "20260131120000", Some("2026-01-31T12:00:00Z"))]
    #[case(Storage::Text, "1769860800", Some("2026-01-31T12:00:00Z"))]
    #[case(Storage::Text, "1769860800250000", Some("2026-01-31T12:00:00.25Z"))]
    #[case(
        Storage::Text,
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        Some("2016-07-30T23:54:10.259Z")
    )]
    #[case(
        Storage::Uuid,
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        Some("2022-02-22T19:22:22Z")
    )]
    // Nanoseconds, counters, times of 1970: of no unit that rules know.
    #[case(Storage::Integer, "1769860800250000000", None)]
    #[case(Storage::Integer, "7", None)]
    #[case(Storage::Integer, "0", None)]
    #[case(Storage::Integer, "-1769860800", None)]
    #[case(Storage::Float, "NaN", None)]
    #[case(Storage::Float, "Infinity", None)]
    #[case(Storage::Float, "2461072.0", None)]
    #[case(Storage::Text, "31.01.2026", None)]
    #[case(Storage::Text, "", None)]
    #[case(Storage::Uuid, "017f22e2-79b0-4cc3-98c4-dc0c0c07398f", None)]
    fn an_entry_is_read_in_the_only_encoding_that_makes_a_time_of_it(
        #[case] storage: Storage,
        #[case] value: &str,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(logged_at(storage, value), expected.map(at));
    }

    #[rstest]
    #[case("2461072.0", Some("2026-01-31T12:00:00Z"))]
    #[case("2461071.5", Some("2026-01-31T00:00:00Z"))]
    #[case("1769860800", None)]
    #[case("7", None)]
    #[case("Inf", None)]
    fn a_julian_day_is_a_time(#[case] value: &str, #[case] expected: Option<&str>) {
        assert_eq!(julian_day(value), expected.map(at));
    }

    #[test]
    fn what_was_seen_decides_what_is_said_of_a_log_without_a_use() {
        let entry = |readable: bool, names_it| Sampled {
            at: readable.then(|| at("2020-01-01T00:00:00Z")),
            names_it,
        };
        let says = |entries: &[Sampled]| match without_use(entries, "column at", "seconds") {
            Logged::Unreadable(why) => why,
            other => format!("{other:?}"),
        };
        assert_eq!(says(&[]), "NotFound");
        assert_eq!(says(&[entry(true, true), entry(false, false)]), "NotFound");
        assert_eq!(
            says(&[entry(false, false)]),
            "column at holds no times that can be read: write seconds"
        );
        assert!(says(&[entry(true, false), entry(false, true)]).contains("they prove nothing"));
    }

    proptest! {
        #[test]
        fn no_number_is_a_time_in_two_ways(value in prop_oneof![
            any::<i64>(),
            2_000_000..3_000_000_i64,
            0..5_000_000_000_i64,
            0..5_000_000_000_000_i64,
            0..5_000_000_000_000_000_i64,
            19_800_101_000_000..21_000_101_000_000_i64,
        ]) {
            let text = value.to_string();
            for storage in [Storage::Integer, Storage::Text] {
                let read = Encoding::ALL.into_iter().filter(|encoding| {
                    encoding.fits(storage) && reading(*encoding, storage, &text).is_some()
                });
                let all = read.count() + usize::from(julian_day(&text).is_some());
                prop_assert!(all <= 1, "{text} has {all} readings");
            }
        }

        #[test]
        fn what_is_read_as_a_time_of_the_days_that_count_is_looked_for(
            ago in 0..90 * 86_400_i64,
            now in 1_600_000_000..3_900_000_000_i64,
        ) {
            let (then, now) = (now - ago, Timestamp::from_second(now).unwrap());
            let from = begin(now, 90);
            let date = Timestamp::from_second(then).unwrap();
            let windows = texts(from, now);
            let holds = |text: String| windows.iter().any(|window| (&window.from..&window.until).contains(&&text));
            for format in ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d", "%Y%m%d%H%M%S"] {
                let text = date.strftime(format).to_string();
                prop_assert!(logged_at(Storage::Text, &text).is_some(), "{text}");
                prop_assert!(holds(text));
            }
            for unit in [1, 1_000, 1_000_000] {
                let value = then * unit;
                prop_assert_eq!(logged_at(Storage::Integer, &value.to_string()), Some(date));
                prop_assert!(numbers(from, now).iter().any(|window| (window.from..window.until).contains(&value)));
                prop_assert!(holds(value.to_string()));
            }
            #[expect(clippy::cast_precision_loss, reason = "ten digits")]
            let day = then as f64 / SECONDS_A_DAY + JULIAN_1970;
            let window = julian_days(from, now);
            prop_assert!((window.from..window.until).contains(&day));
        }
    }
}
