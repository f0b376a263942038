use jiff::{SignedDuration, ToSpan as _, civil::DateTime, tz};
use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn local(instant: &str, zone_name: &str) -> String {
    let instant: Timestamp = instant.parse().unwrap();
    Cutoff::in_domain(instant, TimeDomain::Local, &zone(zone_name)).to_string()
}

/// The latest instant that `local` may mean: in a fold the second pass, in a gap the offset from before it.
fn latest_meaning(local: DateTime, zone: &TimeZone) -> Timestamp {
    match zone.to_ambiguous_timestamp(local).offset() {
        tz::AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).unwrap(),
        tz::AmbiguousOffset::Fold { before, after }
        | tz::AmbiguousOffset::Gap { before, after } => before
            .to_timestamp(local)
            .unwrap()
            .max(after.to_timestamp(local).unwrap()),
    }
}

#[rstest]
#[case("2026-03-31T12:00:00Z", "1mo", "UTC", "2026-02-28T12:00:00Z")]
#[case("2024-02-29T00:00:00Z", "1y", "UTC", "2023-02-28T00:00:00Z")]
// A day back over the spring change is 23 hours, 24 hours are 24 hours.
#[case("2026-03-29T10:00:00Z", "1d", "Europe/Berlin", "2026-03-28T11:00:00Z")]
#[case("2026-03-29T10:00:00Z", "24h", "Europe/Berlin", "2026-03-28T10:00:00Z")]
#[case("2026-11-22T09:30:00Z", "0s", "Europe/Berlin", "2026-11-22T09:30:00Z")]
#[case(
    "2026-11-22T09:30:00.123456789Z",
    "1h",
    "UTC",
    "2026-11-22T08:30:00.123456Z"
)]
#[case(
    "1960-01-01T00:00:00.0000019Z",
    "0s",
    "UTC",
    "1960-01-01T00:00:00.000001Z"
)]
fn calendar_units_count_in_the_zone(
    #[case] now: &str,
    #[case] age: &str,
    #[case] zone_name: &str,
    #[case] expected: &str,
) {
    let now: Timestamp = now.parse().unwrap();
    let cutoff = cutoff_instant(now, &age.parse().unwrap(), &zone(zone_name)).unwrap();
    assert_eq!(cutoff.to_string(), expected);
}

#[test]
fn an_age_before_year_1_is_refused() {
    let now: Timestamp = "0999-01-01T00:00:00Z".parse().unwrap();
    let age: Age = "1000y".parse().unwrap();
    let error = cutoff_instant(now, &age, &TimeZone::UTC).unwrap_err();
    assert!(error.to_string().contains("before year 1"), "{error}");
}

#[rstest]
// Berlin, autumn: 02:00–03:00 twice, at 00:00Z–02:00Z. In the first pass everything of the fold may still come again.
#[case("2026-10-24T23:59:59Z", "Europe/Berlin", "2026-10-25T01:59:59")]
#[case("2026-10-25T00:00:00Z", "Europe/Berlin", "2026-10-25T02:00:00")]
#[case("2026-10-25T00:30:00Z", "Europe/Berlin", "2026-10-25T02:00:00")]
#[case("2026-10-25T01:00:00Z", "Europe/Berlin", "2026-10-25T02:00:00")]
#[case("2026-10-25T01:30:00Z", "Europe/Berlin", "2026-10-25T02:30:00")]
#[case("2026-10-25T02:00:00Z", "Europe/Berlin", "2026-10-25T03:00:00")]
// Berlin, spring: 02:00–03:00 is skipped at 01:00Z; 02:30 may mean 01:30Z.
#[case("2026-03-29T00:59:59Z", "Europe/Berlin", "2026-03-29T01:59:59")]
#[case("2026-03-29T01:00:00Z", "Europe/Berlin", "2026-03-29T02:00:00")]
#[case("2026-03-29T01:30:00Z", "Europe/Berlin", "2026-03-29T02:30:00")]
#[case("2026-03-29T02:00:00Z", "Europe/Berlin", "2026-03-29T04:00:00")]
// Apia skipped 2011-12-30 at 10:00Z.
#[case("2011-12-30T09:59:59Z", "Pacific/Apia", "2011-12-29T23:59:59")]
#[case("2011-12-30T12:00:00Z", "Pacific/Apia", "2011-12-30T02:00:00")]
#[case("2011-12-31T10:00:00Z", "Pacific/Apia", "2012-01-01T00:00:00")]
fn nothing_goes_early_around_a_change_of_the_clock(
    #[case] instant: &str,
    #[case] zone_name: &str,
    #[case] expected: &str,
) {
    assert_eq!(local(instant, zone_name), expected);
}

#[rstest]
#[case("2026-11-22T22:59:59Z", "Europe/Berlin", "2026-11-22")]
#[case("2026-11-22T23:00:00Z", "Europe/Berlin", "2026-11-23")]
#[case("2026-11-22T07:59:59Z", "America/Los_Angeles", "2026-11-21")]
// St John's put its clock back at 00:01 to 23:01 of the day before: that day was not over at 00:00:30.
#[case("2006-10-29T02:30:30Z", "America/St_Johns", "2006-10-28")]
#[case("2006-10-29T03:30:00Z", "America/St_Johns", "2006-10-29")]
fn the_day_of_the_cutoff_is_not_over(
    #[case] instant: &str,
    #[case] zone_name: &str,
    #[case] expected: &str,
) {
    let instant: Timestamp = instant.parse().unwrap();
    let cutoff = Cutoff::in_domain(instant, TimeDomain::Date, &zone(zone_name));
    assert_eq!(cutoff.to_string(), expected);
}

#[test]
fn seconds_since_1970_treat_local_times_as_utc() {
    let read = |text: &str| text.parse::<Cutoff>().unwrap().epoch_seconds();
    assert_eq!(read("1970-01-02T00:00:00.5Z"), 86_400.5);
    assert_eq!(read("1970-01-02T00:00:00"), 86_400.0);
    assert_eq!(read("1969-12-31"), -86_400.0);
}

#[test]
fn what_is_not_a_cutoff_is_refused() {
    for text in ["", "yesterday", "2026-13-01", "2026-01-01T00:00:00+01:00x"] {
        assert!(text.parse::<Cutoff>().is_err(), "{text}");
    }
}

const ZONES: [&str; 10] = [
    "Europe/Berlin",
    "America/Los_Angeles",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Pacific/Kwajalein",
    "Europe/Dublin",
    "UTC",
];

/// An instant anywhere, or within a day and a half of a change of the zone's clock.
fn instant_in(zone: TimeZone) -> impl Strategy<Value = (TimeZone, Timestamp)> {
    let span = -2_000_000_000_i64..4_000_000_000;
    (span, -129_600_i64..129_600, any::<bool>(), 0..2_i64).prop_map(
        move |(seconds, distance, near_change, half)| {
            let anywhere = Timestamp::from_second(seconds).unwrap();
            let change = near_change
                .then(|| zone.following(anywhere).next())
                .flatten();
            let instant = change.map_or(anywhere, |change| {
                change.timestamp() + SignedDuration::from_secs(distance / 60 * 60)
            });
            (
                zone.clone(),
                instant + SignedDuration::from_millis(half * 500),
            )
        },
    )
}

fn any_instant() -> impl Strategy<Value = (TimeZone, Timestamp)> {
    proptest::sample::select(ZONES.to_vec()).prop_flat_map(|name| instant_in(zone(name)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_local_value_before_the_cutoff_has_surely_passed(
        (zone, instant) in any_instant(), minutes in 0_i64..4_000,
    ) {
        let Cutoff::Local(first) = Cutoff::in_domain(instant, TimeDomain::Local, &zone) else {
            panic!("another domain");
        };
        // The nearest value before the cutoff, and one up to three days before it.
        for before in [first - 1.microsecond(), first - minutes.minutes() - 1.microsecond()] {
            prop_assert!(
                latest_meaning(before, &zone) < instant,
                "{before} may mean {}, the cutoff is {instant}", latest_meaning(before, &zone)
            );
        }
    }

    #[test]
    fn the_cutoff_is_the_first_local_value_that_may_not_have_passed((zone, instant) in any_instant()) {
        let Cutoff::Local(first) = Cutoff::in_domain(instant, TimeDomain::Local, &zone) else {
            panic!("another domain");
        };
        prop_assert!(latest_meaning(first, &zone) >= instant);
    }

    #[test]
    fn away_from_changes_the_cutoff_is_the_plain_local_time((zone, instant) in any_instant()) {
        let day = SignedDuration::from_hours(25);
        let quiet = zone
            .following(instant - day)
            .next()
            .is_none_or(|change| change.timestamp() > instant + day);
        prop_assume!(quiet);
        let plain = zone.to_datetime(instant);
        prop_assert_eq!(Cutoff::in_domain(instant, TimeDomain::Local, &zone), Cutoff::Local(plain));
        prop_assert_eq!(Cutoff::in_domain(instant, TimeDomain::Date, &zone), Cutoff::Date(plain.date()));
    }

    #[test]
    fn every_time_of_an_expired_date_has_passed((zone, instant) in any_instant()) {
        let Cutoff::Date(first) = Cutoff::in_domain(instant, TimeDomain::Date, &zone) else {
            panic!("another domain");
        };
        let last = first.at(0, 0, 0, 0) - 1.nanosecond();
        prop_assert!(latest_meaning(last, &zone) < instant);
    }

    #[test]
    fn what_is_displayed_is_read_back((zone, instant) in any_instant(), nanos in 0_i64..1_000_000_000) {
        let instant = instant + SignedDuration::from_nanos(nanos);
        for domain in [TimeDomain::Instant, TimeDomain::Local, TimeDomain::Date] {
            let cutoff = Cutoff::in_domain(instant, domain, &zone);
            prop_assert_eq!(cutoff.to_string().parse::<Cutoff>(), Ok(cutoff));
        }
    }

    #[test]
    fn the_cutoff_is_never_rounded_up(seconds in -4_000_000_000_i64..4_000_000_000, nanos in 0_i64..1_000_000_000) {
        let instant = Timestamp::from_second(seconds).unwrap() + SignedDuration::from_nanos(nanos);
        let Cutoff::Instant(rounded) = Cutoff::in_domain(instant, TimeDomain::Instant, &TimeZone::UTC) else {
            panic!("another domain");
        };
        prop_assert!(rounded <= instant);
        prop_assert!(instant.duration_since(rounded) < SignedDuration::from_micros(1));
        prop_assert_eq!(rounded.subsec_nanosecond() % 1000, 0);
    }
}
