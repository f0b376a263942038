use rstest::rstest;

use super::{Database, Encoding};
use crate::engine::{Counted, Engine};

/// What becomes of a value at the cutoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Goes,
    Stays,
    /// It is of no meaning, and would stay at any cutoff.
    Unreadable,
}
use Fate::{Goes, Stays, Unreadable};

/// Each value in a column of each declared type.
async fn check(
    encoding: Encoding,
    cutoff: &str,
    zone: &str,
    declared: &[&str],
    cases: &[(&str, Fate)],
) {
    for declared in declared {
        let values: Vec<String> = cases
            .iter()
            .enumerate()
            .map(|(id, (value, _))| format!("({id}, {value})"))
            .collect();
        let database = Database::new(&format!(
            "CREATE TABLE x (id INTEGER PRIMARY KEY, v {declared}); INSERT INTO x VALUES {}",
            values.join(", ")
        ))
        .await;
        let mut plan = database.plan("x", "v", encoding, cutoff).await;
        plan.column_zone = jiff::tz::TimeZone::get(zone).unwrap();
        let going: Vec<i64> = (0_i64..)
            .zip(cases)
            .filter(|(_, (_, fate))| *fate == Goes)
            .map(|(id, _)| id)
            .collect();
        let unreadable = cases
            .iter()
            .filter(|(value, fate)| *fate == Unreadable && *value != "NULL");
        let counted = Counted {
            expired: going.len() as u64,
            unreadable: Some(unreadable.count() as u64),
            ..Counted::default()
        };
        assert_eq!(
            database.engine.count_expired(&plan).await.unwrap(),
            counted,
            "{encoding:?} {declared}"
        );

        database.sweep(&plan).await.unwrap();

        let left = database.ids("SELECT id FROM x").await;
        for (id, (value, fate)) in (0_i64..).zip(cases) {
            let stayed = left.contains(&id);
            assert_eq!(stayed, *fate != Goes, "{encoding:?} {declared}: {value}");
        }

        // At the end of all time everything goes that can be read.
        plan.cutoff =
            crate::policy::cutoff::Cutoff::Instant("9999-12-30T00:00:00Z".parse().unwrap());
        database.sweep(&plan).await.unwrap();

        let left = database.ids("SELECT id FROM x").await;
        for (id, (value, fate)) in (0_i64..).zip(cases) {
            let stayed = left.contains(&id);
            assert_eq!(
                stayed,
                *fate == Unreadable,
                "{encoding:?} {declared} at last: {value}"
            );
        }
    }
}

#[rstest]
#[case::seconds(Encoding::EpochSeconds, "2023-11-14T22:13:20.25Z", &[
    ("1", Goes), ("1700000000", Goes), ("1700000001", Stays), ("0", Unreadable), ("-1", Unreadable),
    ("1700000000.2499", Goes), ("1700000000.25", Stays), ("1700000000.26", Stays), ("0.0", Unreadable), ("0.5", Goes),
    ("9e999", Unreadable), ("-9e999", Unreadable), ("NULL", Unreadable),
    ("'1700000000'", Goes), ("'1700000000.24'", Goes), ("'1700000000.2499999999'", Goes), ("'0.001'", Goes),
    ("'000000000000000001'", Goes), ("'1700000000.25'", Stays), ("'1700000000.250'", Stays), ("'1700000000.3'", Stays),
    ("'1700000001'", Stays), ("'0'", Unreadable), ("'0.000'", Unreadable), ("''", Unreadable), ("'+1'", Unreadable),
    ("'-1'", Unreadable), ("' 1'", Unreadable), ("'1 '", Unreadable), ("'1e9'", Unreadable), ("'0x1'", Unreadable),
    ("'1.'", Unreadable), ("'.1'", Unreadable), ("'1.2.3'", Unreadable), ("'1,5'", Unreadable), ("'١'", Unreadable),
    ("'1234567890123456789'", Unreadable), ("'1.1234567890123456789'", Unreadable), ("'Infinity'", Unreadable),
    ("'now'", Unreadable), ("'1' || char(0) || '2'", Unreadable), ("'1' || char(0)", Unreadable),
    ("x'31'", Unreadable), ("x''", Unreadable), ("CAST(x'ff31' AS TEXT)", Unreadable),
])]
#[case::millis(Encoding::EpochMillis, "2023-11-14T22:13:20.25Z", &[
    ("1700000000249", Goes), ("1700000000250", Stays), ("1700000000249.99", Goes), ("'1700000000249.9'", Goes),
    ("'1700000000250.0'", Stays), ("0", Unreadable),
])]
#[case::micros(Encoding::EpochMicros, "2023-11-14T22:13:20.25Z", &[
    ("1700000000249999", Goes), ("1700000000250000", Stays), ("'1700000000249999.5'", Goes), ("'1700000000250000'", Stays),
    ("-1700000000249999", Unreadable),
])]
#[tokio::test]
async fn numbers_since_1970(
    #[case] encoding: Encoding,
    #[case] cutoff: &str,
    #[case] cases: &[(&str, Fate)],
) {
    check(
        encoding,
        cutoff,
        "UTC",
        &["", "TEXT COLLATE NOCASE", "BLOB"],
        cases,
    )
    .await;
}

#[tokio::test]
async fn numbers_in_columns_that_make_numbers_of_texts() {
    let cases = [
        ("1", Goes),
        ("'1699999999'", Goes),
        ("'1700000000'", Stays),
        ("'0'", Unreadable),
        ("'-7'", Unreadable),
        ("'n/a'", Unreadable),
        ("x'31'", Unreadable),
        ("9e999", Unreadable),
    ];
    let declared = ["INTEGER", "BIGINT", "REAL", "NUMERIC(10, 2)", "DATETIME"];
    check(
        Encoding::EpochSeconds,
        "2023-11-14T22:13:20Z",
        "UTC",
        &declared,
        &cases,
    )
    .await;
}

/// Declared types say little of what a column holds.
const DECLARED: [&str; 5] = ["", "TEXT COLLATE NOCASE", "BLOB", "DATETIME", "INTEGER"];

#[tokio::test]
async fn uuids_of_version_7() {
    let cases = [
        ("'017f22e2-79af-7cc3-98c4-dc0c0c07398f'", Goes),
        ("'017F22E2-79AF-7CC3-B8C4-DC0C0C07398F'", Goes),
        ("'017f22e2-79af-7fff-bfff-ffffffffffff'", Goes),
        ("'017f22e2-79b0-7000-8000-000000000000'", Stays),
        ("'017F22E2-79B0-7CC3-98C4-DC0C0C07398F'", Stays),
        ("'00000000-0001-7000-8000-000000000000'", Goes),
        ("'00000000-0000-7cc3-98c4-dc0c0c07398f'", Unreadable),
        ("'017f22e2-79af-4cc3-98c4-dc0c0c07398f'", Unreadable),
        ("'017f22e2-79af-7cc3-c8c4-dc0c0c07398f'", Unreadable),
        ("'017f22e279af7cc398c4dc0c0c07398f'", Unreadable),
        ("'{017f22e2-79af-7cc3-98c4-dc0c0c07398f}'", Unreadable),
        ("'017f22e2-79af-7cc3-98c4-dc0c0c07398g'", Unreadable),
        ("'017f22e2-79af-7cc3-98c4-dc0c0c07398f '", Unreadable),
        ("'017f22e2+79af-7cc3-98c4-dc0c0c07398f'", Unreadable),
        (
            "'017f22e2-79af-7cc3-98c4-dc0c0c07398f' || char(0)",
            Unreadable,
        ),
        ("x'017f22e279af7cc398c4dc0c0c07398f'", Unreadable),
        (
            "CAST('017f22e2-79af-7cc3-98c4-dc0c0c07398f' AS BLOB)",
            Unreadable,
        ),
        ("1", Unreadable),
        ("NULL", Unreadable),
    ];
    check(
        Encoding::UuidV7,
        "2022-02-22T19:22:22Z",
        "UTC",
        &DECLARED,
        &cases,
    )
    .await;
}

#[tokio::test]
async fn ulids() {
    let cases = [
        ("'01ARZ3NDEJTSV4RRFFQ69G5FAV'", Goes),
        ("'01arz3ndejtsv4rrffq69g5fav'", Goes),
        ("'01ARZ3NDEJZZZZZZZZZZZZZZZZ'", Goes),
        ("'01ARZ3NDEK0000000000000000'", Stays),
        ("'01ARZ3NDEKTSV4RRFFQ69G5FAV'", Stays),
        ("'0000000001TSV4RRFFQ69G5FAV'", Goes),
        ("'0000000000TSV4RRFFQ69G5FAV'", Unreadable),
        ("'81ARZ3NDEJTSV4RRFFQ69G5FAV'", Unreadable),
        ("'01ARZ3NDEJTSV4RRFFQ69G5FAU'", Unreadable),
        ("'01ARZ3NDEJTSV4RRFFQ69G5FA'", Unreadable),
        ("'01ARZ3NDEJTSV4RRFFQ69G5FAV0'", Unreadable),
        ("'O1ARZ3NDEJTSV4RRFFQ69G5FAV'", Unreadable),
        ("'01ARZ3NDEJTSV4RRFFQ69G5FAİ'", Unreadable),
        ("x'01'", Unreadable),
        ("NULL", Unreadable),
    ];
    check(
        Encoding::Ulid,
        "2016-07-30T23:54:10.259Z",
        "UTC",
        &DECLARED,
        &cases,
    )
    .await;
}

#[tokio::test]
async fn fourteen_digits() {
    // 09:30:00.5 in Berlin: the whole second 09:30:00 is over, 09:30:01 is not.
    let cases = [
        ("20261122093000", Goes),
        ("'20261122093000'", Goes),
        ("20261122093001", Stays),
        ("'20261122093001'", Stays),
        ("10000101000000", Goes),
        ("20240229235959", Goes),
        ("0", Unreadable),
        ("-20240229235959", Unreadable),
        ("2024022923595", Unreadable),
        ("202402292359590", Unreadable),
        ("20230229000000", Unreadable),
        ("20230431000000", Unreadable),
        ("20231301000000", Unreadable),
        ("20230001000000", Unreadable),
        ("20230100000000", Unreadable),
        ("20230132000000", Unreadable),
        ("20230101240000", Unreadable),
        ("20230101006000", Unreadable),
        ("20230101000060", Unreadable),
        ("'2023-01-01 00:'", Unreadable),
        ("'19000229000000'", Unreadable),
        ("'20230101000000' || char(0)", Unreadable),
        ("20230101000000.5", Unreadable),
        ("x'3230323330313031303030303030'", Unreadable),
        ("NULL", Unreadable),
    ];
    check(
        Encoding::Compact14,
        "2026-11-22T08:30:00.5Z",
        "Europe/Berlin",
        &DECLARED,
        &cases,
    )
    .await;
    let early = [
        ("'00010101000000'", Goes),
        ("'09991231235959'", Goes),
        ("'00000101000000'", Unreadable),
        ("'20230101000000 '", Unreadable),
        ("' 0230101000000'", Unreadable),
    ];
    check(
        Encoding::Compact14,
        "2026-11-22T08:30:00.5Z",
        "UTC",
        &["", "TEXT"],
        &early,
    )
    .await;
}

#[rstest]
// The values are cut at 09:30:00.25 in Berlin, 08:30:00.25 in UTC.
#[case::dates(&[
    ("'2026-11-21'", Goes), ("'2026-11-22'", Stays), ("'2026-11-23'", Stays), ("'0001-01-01'", Goes), ("'2024-02-29'", Goes),
    ("'2023-02-29'", Unreadable), ("'2023-02-30'", Unreadable), ("'2023-04-31'", Unreadable), ("'2023-13-01'", Unreadable),
    ("'2023-00-01'", Unreadable), ("'2023-01-00'", Unreadable), ("'2023-01-32'", Unreadable), ("'0000-01-01'", Unreadable),
    ("'2023-1-01'", Unreadable), ("'20230101'", Unreadable), ("'2023-01'", Unreadable), ("'2023'", Unreadable),
    ("'10000-01-01'", Unreadable), ("'-2023-01-01'", Unreadable), ("' 2023-01-01'", Unreadable), ("'2023-01-01 '", Unreadable),
    ("'2023-01-01' || char(10)", Unreadable), ("'2023-01-01' || char(0)", Unreadable), ("'2023-01-01Z'", Unreadable),
    ("'２０２３-01-01'", Unreadable), ("'now'", Unreadable), ("''", Unreadable), ("NULL", Unreadable), ("0", Unreadable),
    ("2460000.5", Unreadable), ("x'323032332d30312d3031'", Unreadable),
])]
#[case::without_a_zone(&[
    ("'2026-11-22T09:30:00'", Goes), ("'2026-11-22 09:30:00'", Goes), ("'2026-11-22T09:30:00.2'", Goes),
    ("'2026-11-22T09:30:00.249999999'", Goes), ("'2026-11-22T09:30:00.25'", Stays), ("'2026-11-22T09:30:00.250'", Stays),
    ("'2026-11-22T09:30:00.3'", Stays), ("'2026-11-22T09:30:01'", Stays), ("'2026-11-22T09:30:00.000'", Goes),
    ("'2026-11-22T09:29'", Goes), ("'2026-11-22T09:30'", Stays), ("'2026-11-22 09:29'", Goes),
    ("'2026-11-22t09:29:00'", Unreadable), ("'2026-11-22  09:29:00'", Unreadable), ("'2026-11-22T24:00:00'", Unreadable),
    ("'2026-11-22T09:60'", Unreadable), ("'2026-11-22T09:29:60'", Unreadable), ("'2026-11-22T09'", Unreadable),
    ("'2026-11-22T'", Unreadable), ("'2026-11-22T09:29:'", Unreadable), ("'2026-11-22T09:29:0'", Unreadable),
    ("'2026-11-22T09:29:00.'", Unreadable), ("'2026-11-22T09:29:00,5'", Unreadable),
    ("'2026-11-22T09:29:00.1234567890'", Unreadable), ("'2026-11-22T09:29.5'", Unreadable),
    ("'2023-02-29T09:29:00'", Unreadable), ("'2026-11-22T9:29:00'", Unreadable),
])]
#[case::with_an_offset(&[
    ("'2026-11-22T08:30:00Z'", Goes), ("'2026-11-22 08:30:00.24z'", Goes), ("'2026-11-22T08:30:00.25Z'", Stays),
    ("'2026-11-22T08:30:01Z'", Stays), ("'2026-11-22T08:29Z'", Goes), ("'2026-11-22T08:30Z'", Stays),
    ("'2026-11-22T09:30:00+01:00'", Goes), ("'2026-11-22T09:30:00.25+01:00'", Stays), ("'2026-11-22T09:30:00+0100'", Goes),
    ("'2026-11-22T09:30:00+01'", Goes), ("'2026-11-22T09:30:00.3+01'", Stays), ("'2026-11-22T05:00:00-03:30'", Goes),
    ("'2026-11-22T05:00:00.25-0330'", Stays), ("'2026-11-22T05:01:00-03:30'", Stays), ("'2026-11-22T08:30:00-00:00'", Goes),
    ("'2026-11-23T08:29:00+23:59'", Goes), ("'2026-11-23T08:29:01+23:59'", Stays), ("'2026-11-21T08:31:00-23:59'", Goes),
    ("'2026-11-21T08:31:01-23:59'", Stays), ("'2026-11-22T09:29+01:00'", Goes), ("'2026-11-22T09:30+01:00'", Stays),
    ("'2026-11-22T08:29:00+24:00'", Unreadable), ("'2026-11-22T08:29:00+02:60'", Unreadable),
    ("'2026-11-22T08:29:00+2'", Unreadable), ("'2026-11-22T08:29:00 +02:00'", Unreadable),
    ("'2026-11-22T08:29:00ZZ'", Unreadable), ("'2026-11-22T08:29:00+02:00:00'", Unreadable),
    ("'2026-11-22T08:29:00[UTC]'", Unreadable), ("'2026-11-22T08:29:00 UTC'", Unreadable),
    ("'2026-11-22T08:29:00.Z'", Unreadable), ("'2026-11-22T08:29:00.5+1:00'", Unreadable),
    ("'2026-11-22T08:29:00' || char(0) || 'Z'", Unreadable),
])]
#[tokio::test]
async fn texts_of_iso_8601(#[case] cases: &[(&str, Fate)]) {
    let cutoff = "2026-11-22T08:30:00.25Z";
    check(Encoding::Iso8601, cutoff, "Europe/Berlin", &DECLARED, cases).await;
}

#[tokio::test]
async fn a_time_that_can_mean_two_instants_is_read_as_the_later_one() {
    // On 2026-10-25 Berlin's clock goes from 03:00 back to 02:00, at 01:00 UTC. At 00:30 UTC it shows 02:30 for the first time.
    let cases = [
        ("'2026-10-25T01:59:59'", Goes),
        ("'2026-10-25T02:00:00'", Stays),
        ("'2026-10-25T02:29:59'", Stays),
        ("'2026-10-25T00:29:59Z'", Goes),
    ];
    check(
        Encoding::Iso8601,
        "2026-10-25T00:30:00Z",
        "Europe/Berlin",
        &["TEXT"],
        &cases,
    )
    .await;
}
