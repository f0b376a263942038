use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn berlin(cron: &str) -> Schedule {
    Schedule::new(cron, TimeZone::get("Europe/Berlin").unwrap(), None).unwrap()
}

/// The next ticks after `from`.
fn ticks(schedule: &Schedule, from: &str, count: usize) -> Vec<String> {
    let mut now = at(from);
    (0..count)
        .map(|_| {
            now = schedule.next_after(now).unwrap();
            now.to_string()
        })
        .collect()
}

#[test]
fn cron_counts_in_its_zone() {
    assert_eq!(
        ticks(&berlin("0 3 * * *"), "2026-07-01T00:00:00Z", 2),
        ["2026-07-01T01:00:00Z", "2026-07-02T01:00:00Z"]
    );
    assert_eq!(
        ticks(&berlin("0 3 * * *"), "2026-11-22T02:00:00Z", 1),
        ["2026-11-23T02:00:00Z"],
        "the tick itself is not after itself"
    );
}

#[test]
fn a_tick_in_the_skipped_hour_runs_once_at_its_end() {
    assert_eq!(
        ticks(&berlin("30 2 * * *"), "2026-03-28T00:00:00Z", 3),
        [
            "2026-03-28T01:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-30T00:30:00Z"
        ]
    );
    assert_eq!(
        ticks(&berlin("0,30 2 * * *"), "2026-03-29T00:00:00Z", 2),
        ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]
    );
}

#[test]
fn a_tick_in_the_repeated_hour_runs_once() {
    assert_eq!(
        ticks(&berlin("30 2 * * *"), "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    assert_eq!(
        ticks(&berlin("0 * * * *"), "2026-10-24T23:30:00Z", 3),
        [
            "2026-10-25T00:00:00Z",
            "2026-10-25T02:00:00Z",
            "2026-10-25T03:00:00Z"
        ],
        "an hourly one too"
    );
}

#[test]
fn a_skipped_day_has_one_tick() {
    let apia = Schedule::new("0 3 * * *", TimeZone::get("Pacific/Apia").unwrap(), None).unwrap();
    assert_eq!(
        ticks(&apia, "2011-12-29T00:00:00Z", 3),
        [
            "2011-12-29T13:00:00Z",
            "2011-12-30T10:00:00Z",
            "2011-12-30T13:00:00Z"
        ]
    );
}

#[rstest]
// The spring tick at its gap's end, seen from the tick on.
#[case("30 2 * * *", "2026-03-29T00:59:59Z", "2026-03-28T01:30:00Z")]
#[case("30 2 * * *", "2026-03-29T01:00:00Z", "2026-03-29T01:00:00Z")]
#[case("30 2 * * *", "2026-03-29T01:20:00Z", "2026-03-29T01:00:00Z")]
#[case("30 2 * * *", "2026-03-29T12:00:00Z", "2026-03-29T01:00:00Z")]
// The autumn tick in the first pass only, seen from the second pass too.
#[case("30 2 * * *", "2026-10-25T00:29:59Z", "2026-10-24T00:30:00Z")]
#[case("30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-25T00:30:00Z")]
#[case("30 2 * * *", "2026-10-25T01:10:00Z", "2026-10-25T00:30:00Z")]
#[case("30 2 * * *", "2026-10-25T01:45:00Z", "2026-10-25T00:30:00Z")]
#[case("0 3 * * *", "2026-11-23T01:59:59.9Z", "2026-11-22T02:00:00Z")]
#[case("0 3 * * *", "2026-11-23T02:00:00.1Z", "2026-11-23T02:00:00Z")]
fn the_last_tick_is_at_or_before(#[case] cron: &str, #[case] now: &str, #[case] tick: &str) {
    assert_eq!(berlin(cron).last_at(at(now)), Some(at(tick)));
}

#[rstest]
#[case("99 3 * * *", "is not cron")]
#[case("0 25 * * *", "is not cron")]
#[case("0 0 31 2 *", "never fires")]
#[case("0 0 31 4,6,9,11 *", "never fires")]
#[case("0 0 0 0 0", "is not cron")]
#[case("", "has 0 fields")]
#[case("0 3 * *", "has 4 fields")]
#[case("0 0 3 * * *", "has 6 fields")]
#[case("@daily", "has 1 fields")]
#[case("every day at three sharp", "is not cron")]
#[case("TZ=UTC 3 * * *", "is not cron")]
fn what_is_not_cron_or_never_fires_is_refused(#[case] cron: &str, #[case] says: &str) {
    let error = Schedule::new(cron, TimeZone::UTC, None)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("schedule.cron") && error.contains(says),
        "{error}"
    );
}

#[test]
fn a_leap_day_fires() {
    let schedule = Schedule::new("0 0 29 2 *", TimeZone::UTC, None).unwrap();
    assert_eq!(
        ticks(&schedule, "2026-01-01T00:00:00Z", 1),
        ["2028-02-29T00:00:00Z"]
    );
    assert_eq!(
        schedule.last_at(at("2026-01-01T00:00:00Z")),
        Some(at("2024-02-29T00:00:00Z"))
    );
}

#[rstest]
#[case("2026-11-23T02:00:00Z", Some("2026-11-23T06:00:00Z"))]
#[case("2026-11-23T05:59:59Z", Some("2026-11-23T06:00:00Z"))]
#[case("2026-11-23T06:00:00Z", None)]
#[case("2026-11-24T01:59:59Z", None)]
fn a_window_is_open_after_its_tick(#[case] now: &str, #[case] end: Option<&str>) {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let window = duration("schedule.window", "4h").unwrap();
    let schedule = Schedule::new("0 3 * * *", zone, Some(window)).unwrap();
    assert_eq!(schedule.open_until(at(now)), end.map(at));
}

#[test]
fn windows_longer_than_the_interval_never_close() {
    let schedule =
        Schedule::new("0 * * * *", TimeZone::UTC, Some(Duration::from_secs(7200))).unwrap();
    assert_eq!(
        schedule.open_until(at("2026-11-23T02:59:59Z")),
        Some(at("2026-11-23T04:00:00Z"))
    );
}

#[test]
fn without_a_window_nothing_ends_the_work() {
    assert_eq!(
        berlin("0 3 * * *").open_until(at("2026-11-23T02:00:00Z")),
        Some(Timestamp::MAX)
    );
}

#[rstest]
#[case("Europe/Berlln", "did you mean `Europe/Berlin`?")]
#[case("europe/berlinn", "did you mean `Europe/Berlin`?")]
#[case("America/LosAngeles", "did you mean `America/Los_Angeles`?")]
#[case("CET+1", "spec.timeZone: there is no time zone `CET+1`")]
#[case("+01:00", "such as `Europe/Berlin`")]
#[case("", "such as `Europe/Berlin`")]
#[case("localtime", "such as `Europe/Berlin`")]
#[case("right/Europe/Berlin", "such as `Europe/Berlin`")]
#[case("../Europe/Berlin", "there is no time zone")]
#[case("/etc/passwd", "there is no time zone")]
fn a_wrong_zone_is_refused_with_a_hint(#[case] name: &str, #[case] says: &str) {
    let error = time_zone("spec.timeZone", name).unwrap_err().to_string();
    assert!(error.contains(says), "{error}");
}

#[test]
fn zones_are_found_by_name() {
    for name in ["UTC", "Europe/Berlin", "Etc/GMT+3", "Africa/Casablanca"] {
        assert!(time_zone("spec.timeZone", name).is_ok(), "{name}");
    }
}

#[rstest]
#[case("20ms", Duration::from_millis(20))]
#[case("30s", Duration::from_secs(30))]
#[case("15m", Duration::from_secs(900))]
#[case("4h", Duration::from_secs(14_400))]
#[case("90d", Duration::from_secs(7_776_000))]
fn durations_have_one_number_and_one_unit(#[case] text: &str, #[case] expected: Duration) {
    assert_eq!(duration("schedule.window", text), Ok(expected));
}

#[rstest]
fn other_durations_are_refused(
    #[values(
        "",
        "4",
        "0s",
        "04h",
        "1h30m",
        "1.5h",
        "-4h",
        " 4h",
        "4 h",
        "4H",
        "4w",
        "h",
        "99999999999999999999ms",
        "999999999d"
    )]
    text: &str,
) {
    let error = duration("schedule.window", text).unwrap_err().to_string();
    assert!(error.starts_with("schedule.window: "), "{error}");
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    let cron = proptest::sample::select(vec![
        "0 3 * * *",
        "30 2 * * *",
        "15,45 1-3 * * *",
        "0 0 * * *",
        "59 23 * * 0",
        "0 2 1 * *",
        "*/20 * * * *",
        "0 */2 * * 1-5",
        "30 2 29 3 *",
        "0 1 25 10 *",
    ]);
    let zone = proptest::sample::select(vec![
        "Europe/Berlin",
        "America/Los_Angeles",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "America/Havana",
        "Pacific/Apia",
        "Asia/Beirut",
        "UTC",
    ]);
    (cron, zone)
        .prop_map(|(cron, zone)| Schedule::new(cron, TimeZone::get(zone).unwrap(), None).unwrap())
}

/// Any minute of 2011 to 2030, half of them around the changes of the clock.
fn any_instant() -> impl Strategy<Value = (bool, i64, i64)> {
    (
        any::<bool>(),
        1_300_000_000_i64..1_893_456_000,
        -180_i64..240,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn next_and_last_agree(schedule in any_schedule(), (near_change, seconds, minutes) in any_instant()) {
        let anywhere = Timestamp::from_second(seconds).unwrap();
        let change = near_change.then(|| schedule.zone.following(anywhere).next()).flatten();
        let now = change.map_or(anywhere, |change| change.timestamp() + SignedDuration::from_mins(minutes));

        let next = schedule.next_after(now).unwrap();
        let last = schedule.last_at(now).unwrap();

        prop_assert!(last <= now && now < next);
        prop_assert_eq!(schedule.last_at(next), Some(next), "a tick is its own last tick");
        prop_assert_eq!(schedule.next_after(last), Some(next), "no tick lies between {} and {}", last, next);
        let just_before = next - SignedDuration::from_secs(1);
        prop_assert_eq!(schedule.last_at(just_before), Some(last), "nor is another one last just before {}", next);
    }

    #[test]
    fn no_cron_text_panics(cron in "[0-9*/,LW#? -]{0,16}|\\PC{0,12}") {
        if let Ok(schedule) = Schedule::new(&cron, TimeZone::UTC, None) {
            prop_assert!(schedule.next_after(Timestamp::UNIX_EPOCH).is_some());
        }
    }
}
