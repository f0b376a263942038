//! What a row holds that its column's type would not hold elsewhere: such a row stays, whether it is asked for in a `where` or a hold.

use rstest::rstest;
use sqlx::{
    AssertSqlSafe, Connection, Row,
    sqlite::{SqliteConnectOptions, SqliteConnection},
};

use super::{Database, filter};
use crate::{
    engine::{Counted, Engine, EngineError, sqlite::print_predicate},
    policy::{encoding::Encoding, predicate::Predicate},
};

/// What becomes of a row with one column `v`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    /// The condition is true: a `where` takes the row, a hold keeps it.
    True,
    /// It is false or NULL: a `where` leaves the row, a hold lets it go.
    NotTrue,
    /// A `where` leaves the row, and a hold keeps it.
    Doubtful,
}

use Judged::{Doubtful, NotTrue, True};

async fn judge(declared: &str, value: &str, condition: &str) -> Result<Judged, EngineError> {
    let predicate = Predicate::parse(condition).unwrap();
    let columns = [("v".to_owned(), declared.to_owned())];
    let [taken, let_go] = print_predicate(&predicate, &columns)?;
    let mut memory =
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(":memory:"))
            .await
            .unwrap();
    let made = format!(
        "CREATE TABLE x (id INTEGER PRIMARY KEY, v {declared}); INSERT INTO x VALUES (1, {value})"
    );
    sqlx::raw_sql(AssertSqlSafe(made))
        .execute(&mut memory)
        .await
        .unwrap();
    let asked = format!("SELECT {taken}, {let_go} FROM x AS \"t\"");
    let row = sqlx::query(AssertSqlSafe(asked))
        .fetch_one(&mut memory)
        .await
        .unwrap_or_else(|error| panic!("{condition} printed as {taken} and {let_go}: {error}"));
    Ok(match (row.get::<i64, _>(0), row.get::<i64, _>(1)) {
        (1, 0) => True,
        (0, 1) => NotTrue,
        (0, 0) => Doubtful,
        both => panic!("{condition} of {value}: {both:?}"),
    })
}

#[rstest]
// Numbers.
#[case("INTEGER", "'1000 EUR'", "v > 100", Doubtful)]
#[case("INTEGER", "'n/a'", "v <> 5", Doubtful)]
#[case("INTEGER", "'n/a'", "v NOT IN (5)", Doubtful)]
#[case("INTEGER", "'n/a'", "v IS DISTINCT FROM 5", Doubtful)]
#[case("INTEGER", "'n/a'", "v = 5 OR v IS NOT NULL", Doubtful)]
#[case("INTEGER", "'n/a'", "coalesce(v, 1) > 0", Doubtful)]
#[case("INTEGER", "'n/a'", "least(v, 7) = 7", Doubtful)]
#[case("INTEGER", "'n/a'", "nullif(v, 5) IS NULL", Doubtful)]
#[case("INTEGER", "'n/a'", "v BETWEEN 1 AND 5", Doubtful)]
#[case("INTEGER", "'n/a'", "v IS NULL", NotTrue)]
#[case("INTEGER", "NULL", "v > 100", NotTrue)]
#[case("INTEGER", "x'31'", "v = 1", Doubtful)]
#[case("INTEGER", "10.5", "v % 5 = 0", Doubtful)]
#[case("INTEGER", "10", "v % 5 = 0", True)]
#[case("INTEGER", "10", "v % (v - 10) = 0", Doubtful)]
#[case("INTEGER", "10", "coalesce(v / (v - 10), 0) < 3", Doubtful)]
#[case("INTEGER", "0", "v <> 0 AND 10 / v > 3", Doubtful)]
#[case("INTEGER", "9223372036854775807", "v + 1 > 5", Doubtful)]
#[case("INTEGER", "-9223372036854775808", "- v > 5", Doubtful)]
#[case("", "'1000'", "v > 100", Doubtful)]
#[case("", "'1000'", "(v > 100) IS NOT TRUE", Doubtful)]
#[case("", "'1000'", "(v > 100) IS UNKNOWN", Doubtful)]
#[case("", "'7'", "v = 7", Doubtful)]
#[case("", "7", "v = '7'", Doubtful)]
#[case("", "7", "v = 7", True)]
#[case("DATETIME", "1704067200", "v >= '2023-01-01 00:00:00'", Doubtful)]
#[case("DATETIME", "1704067200", "v >= 1700000000", True)]
#[case("DATETIME", "'2024-01-01 00:00:00'", "v >= 1700000000", Doubtful)]
// Fractions.
#[case("NUMERIC(10, 2)", "1.15", "v * 100 = 115", Doubtful)]
#[case("NUMERIC(10, 2)", "1.15", "v * 100 < 115", Doubtful)]
#[case("NUMERIC(10, 2)", "9.95", "v * 100 >= 995", Doubtful)]
#[case("NUMERIC(10, 2)", "0.1", "v + 0.2 = 0.3", Doubtful)]
#[case("NUMERIC(10, 2)", "0.1", "v + 0.2 - 0.3 = 0", Doubtful)]
#[case("NUMERIC(10, 2)", "0.1", "(v + 1000000 - 1000000) * 10 <> 1", Doubtful)]
#[case("NUMERIC(10, 2)", "0.1", "abs(v + 0.2 - 0.3) > 0", Doubtful)]
#[case("NUMERIC(10, 2)", "0.1", "v + 0.2 IN (1, 0.3)", Doubtful)]
#[case("NUMERIC(10, 2)", "0.1", "v + 0.2 IS DISTINCT FROM 0.3", Doubtful)]
#[case("NUMERIC(10, 2)", "0.1", "nullif(v + 0.2, 0.3) IS NOT NULL", Doubtful)]
#[case("NUMERIC(10, 2)", "0.1", "coalesce(v + 0.2, 1) = 0.3", Doubtful)]
#[case("NUMERIC(10, 2)", "0.1", "v + 0.2 BETWEEN 0.3 AND 1", Doubtful)]
#[case("NUMERIC(10, 2)", "0.1", "v + 0.2 < 0.31", True)]
#[case("NUMERIC(10, 2)", "9.95", "v * 100 > 994", True)]
#[case("NUMERIC(10, 2)", "5", "v * 2 = 10", True)]
#[case("NUMERIC(10, 2)", "1.15", "v = 1.15", True)]
#[case("REAL", "9e999", "v - v = 0", Doubtful)]
#[case("REAL", "1e200", "NOT (v * v < v * v * 10)", Doubtful)]
// Truth.
#[case("BOOLEAN", "'tr'", "v", True)]
#[case("BOOLEAN", "'fals'", "NOT v", True)]
#[case("BOOLEAN", "'TRUE' || char(10)", "v", True)]
#[case("BOOLEAN", "char(11) || 'of'", "v IS FALSE", True)]
#[case("BOOLEAN", "'Y es'", "v", Doubtful)]
#[case("BOOLEAN", "'x'", "v IS NOT TRUE", Doubtful)]
#[case("BOOLEAN", "'x'", "v IS UNKNOWN", Doubtful)]
#[case("BOOLEAN", "'x'", "coalesce(v, FALSE) IS FALSE", Doubtful)]
#[case("BOOLEAN", "x'74'", "v IS NOT TRUE", Doubtful)]
#[case("BOOLEAN", "-1", "v <> TRUE", Doubtful)]
#[case("BOOLEAN", "-1", "v = TRUE", Doubtful)]
#[case("INTEGER", "2", "v = TRUE", Doubtful)]
#[case("INTEGER", "2", "v = FALSE", Doubtful)]
#[case("BOOLEAN", "-1", "(1 > 0) = v", Doubtful)]
// Documents.
#[case("BLOB", "x'4c176e1768'", "v ->> 'n' = 'h'", Doubtful)]
#[case("BLOB", "x'4c176e1768'", "v ->> 'n' IS NULL", Doubtful)]
#[case(
    "BLOB",
    "CAST('{\"n\": \"h\"}' AS BLOB)",
    "v ->> 'n' IS NULL",
    Doubtful
)]
#[case("TEXT", "'{n: \"h\"}'", "v ->> 'n' IS NULL", Doubtful)]
#[case("TEXT", "'{\"n\": 1, \"n\": 2}'", "v ->> 'n' = '2'", Doubtful)]
#[case(
    "TEXT",
    "'{\"a\": {\"n\": 1, \"n\": 2}}'",
    "v -> 'a' ->> 'n' = '2'",
    Doubtful
)]
#[case(
    "TEXT",
    "'{\"a\": {}, \"a\": {\"n\": 2}}'",
    "v -> 'a' ->> 'n' = '2'",
    Doubtful
)]
#[case("TEXT", "'{\"n\": 1, \"n\": null}'", "v -> 'n' IS NULL", Doubtful)]
#[case("TEXT", "'{\"o\": {\"k\": \"x\"}}'", "v ->> 'o' LIKE '%x%'", Doubtful)]
#[case("TEXT", "'{\"o\": [1]}'", "v ->> 'o' IS NULL", NotTrue)]
#[case("TEXT", "'{\"n\": 1e2}'", "v ->> 'n' = '100'", Doubtful)]
#[case("TEXT", "'{\"n\": -0}'", "v ->> 'n' = '0'", Doubtful)]
#[case("TEXT", "'{\"n\": 1.50}'", "v ->> 'n' = '1.50'", True)]
#[case("TEXT", "'{\"n\": null}'", "v ->> 'n' IS NULL", True)]
#[case("TEXT", "'{\"n\": null}'", "v -> 'n' IS NULL", NotTrue)]
#[case("TEXT", "'{\"b\": 1}'", "v -> 'n' IS NULL", True)]
#[case("JSON", "'5'", "v ->> 'n' IS NULL", True)]
#[case("TEXT", "'{\"\\u00e4\": \"h\"}'", "v ->> 'ä' = 'h'", True)]
// Texts.
#[case("TEXT", "CAST('hold' AS BLOB)", "v = 'hold'", Doubtful)]
#[case("TEXT", "CAST('hold' AS BLOB)", "v LIKE 'h%'", Doubtful)]
#[case("TEXT", "'a' || char(0) || 'b'", "v LIKE 'a%b'", Doubtful)]
#[case("TEXT", "'a' || char(0) || 'b'", "length(v) = 1", Doubtful)]
#[case("CHAR(5)", "'ab   '", "v = 'ab'", Doubtful)]
#[case("CHAR(5)", "'ab   '", "length(v) <> 2", Doubtful)]
#[case("VARCHAR(5)", "'ab   '", "v = 'ab'", NotTrue)]
#[case("TEXT", "'İstanbul'", "lower(v) = 'istanbul'", Doubtful)]
#[case("TEXT", "'İstanbul'", "lower(v) <> 'istanbul'", Doubtful)]
#[case("TEXT", "'İstanbul'", "v ILIKE 'istanbul'", Doubtful)]
#[case("TEXT", "char(8490) || 'elvin'", "lower(v) LIKE 'kel%'", Doubtful)]
#[case("TEXT", "'straße'", "upper(v) = 'STRASSE'", Doubtful)]
#[case("TEXT", "'München'", "lower(v) = 'berlin'", NotTrue)]
#[case("TEXT", "'{\"n\": \"\\u0130\"}'", "lower(v ->> 'n') = 'i'", Doubtful)]
#[case(
    "TEXT",
    "'{\"n\": \"\\u00c4\", \"m\": \"\\u00e4\"}'",
    "lower(v ->> 'n') <> lower(v ->> 'm')",
    Doubtful
)]
#[case("", "7", "v || '' = '7'", Doubtful)]
#[case("", "7", "v LIKE '7'", Doubtful)]
#[case("INTEGER", "7", "v || '' = '7'", True)]
#[case("INTEGER", "7.5", "v || '' = '7'", Doubtful)]
// Dates, times and UUIDs.
#[case("DATE", "'2024-01-31'", "v >= '2024-01-01'", True)]
#[case("DATE", "'2024-01-31 00:00:00'", "v <= '2024-01-31'", Doubtful)]
#[case("DATE", "20240131", "v <= '2024-01-31'", Doubtful)]
#[case("TIMESTAMP", "'2024-01-31'", "v <= '2024-01-31 00:00:00'", Doubtful)]
#[case(
    "DATETIME",
    "'2024-01-01 12:00:00'",
    "v < '2024-01-01T00:00:00'",
    Doubtful
)]
#[case("DATETIME", "'2024-01-01T12:00:00'", "v > '2024-01-01T00:00:00'", True)]
#[case(
    "DATETIME",
    "'2024-01-01 12:00:00.5'",
    "v > '2024-01-01 12:00:00'",
    Doubtful
)]
#[case(
    "DATE",
    "'31.01.2024'",
    "coalesce(v, '2024-01-31') > '2024-01-01'",
    Doubtful
)]
#[case(
    "UUID",
    "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
    "v = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
    True
)]
#[case(
    "UUID",
    "x'a0eebc999c0b4ef8bb6d6bb9bd380a11'",
    "v <> 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
    Doubtful
)]
#[case("UUID", "'a0eebc999c0b4ef8bb6d6bb9bd380a11'", "v IS NULL", NotTrue)]
#[tokio::test]
async fn a_value_that_its_type_would_not_have_elsewhere_is_in_doubt(
    #[case] declared: &str,
    #[case] value: &str,
    #[case] condition: &str,
    #[case] expected: Judged,
) {
    let judged = judge(declared, value, condition).await.unwrap();

    assert_eq!(judged, expected, "{declared} {value}: {condition}");
}

#[rstest]
#[case("TEXT", "v -> 'n' = '1'", "take `->>`")]
#[case("TEXT", "v -> 'n' IN ('1', '2')", "take `->>`")]
#[case("TEXT", "coalesce(v -> 'n', '1') = '1'", "take `->>`")]
#[case("ANY", "coalesce(v, '0') = '5'", "keeps a text of digits")]
#[case("ANY", "greatest(v, '4') = '5'", "keeps a text of digits")]
#[case("STRING", "v LIKE '00%'", "keeps a text of digits")]
#[case("STRING", "lower(v) = '007'", "keeps a text of digits")]
#[case("STRING", "length(v) = 3", "keeps a text of digits")]
#[case("STRING", "v || 'x' = '007x'", "keeps a text of digits")]
#[case("DECIMAL(10, 2)", "v || '' = '90.00'", "keeps a text of digits")]
#[case("BOOLEAN", "v || '' = 'true'", "keeps a text of digits")]
#[case("INTEGER", "v LIKE '12%'", "keeps a text of digits")]
#[case("INTEGER", "coalesce(v, 0) LIKE '12%'", "keeps a text of digits")]
#[case("INTEGER", "length(v + 1) = 2", "is no text")]
#[case("INTEGER", "v > 'inf'", "'inf' is no number")]
#[case("REAL", "v > '-infinity'", "is no number")]
#[case("INTEGER", "v = 'x'", "'x' is no number")]
#[case("", "v IN (v = 1, 5)", "cannot stand beside each other")]
#[case("", "v BETWEEN (v = 1) AND 5", "cannot stand beside each other")]
#[case("BOOLEAN", "v = 5", "not compared with a number")]
#[case("BOOLEAN", "v + 1 > 5", "a truth value cannot be calculated with")]
#[case("REAL", "v % 5 = 0", "whole numbers only")]
#[case("DECIMAL(10, 2)", "v % 5 > 0", "whole numbers only")]
#[case("", "v % 5 > 0", "whole numbers only")]
#[case("REAL", "1 / (v + 0.5) > 0", "divide by a column or a product")]
#[case("DATE", "v >= '20240101'", "'2024-01-31'")]
#[case("DATE", "v >= '2024-01-01 00:00:00'", "'2024-01-31'")]
#[case("DATE", "v = '2024-02-30'", "'2024-01-31'")]
#[case("DATE", "lower(v) = '2024-01-01'", "keeps a text of digits")]
#[case("TIMESTAMP", "v >= '2024-01-01'", "'2024-01-31 00:00:00'")]
#[case("TIMESTAMP", "v >= '2024-01-01 00:00:00+02'", "'2024-01-31 00:00:00'")]
#[case("TIMESTAMP", "v IN ('2024-01-01 00:00:00', '2024-01-01T00:00:00')", "")]
#[case("UUID", "v = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "lower case")]
#[case("UUID", "v = 'a0eebc999c0b4ef8bb6d6bb9bd380a11'", "lower case")]
#[case("CHAR(5)", "v = 'ab '", "ends with a blank")]
#[case("CHAR(5)", "v <> 'ab '", "ends with a blank")]
#[case("CHAR(5)", "v NOT IN ('x', 'ab ')", "ends with a blank")]
#[tokio::test]
async fn what_the_declared_type_makes_undecidable_of_every_row_is_refused_or_in_doubt(
    #[case] declared: &str,
    #[case] condition: &str,
    #[case] says: &str,
) {
    match judge(declared, "'5'", condition).await {
        Err(error) => assert!(error.to_string().contains(says), "{error}"),
        Ok(judged) => assert!(says.is_empty() && judged != True, "{condition}: {judged:?}"),
    }
}

/// Of every type, with values of every storage class, and conditions of every kind.
#[tokio::test]
async fn a_value_of_another_kind_is_in_doubt_of_a_condition_and_of_its_opposite() {
    // Of what kinds a value may be: n(umber), t(ext), b(oolean), d(ate), j(son).
    let types = [
        ("INTEGER", "nb"),
        ("BIGINT", "nb"),
        ("REAL", "n"),
        ("DECIMAL(10, 2)", "n"),
        ("BOOLEAN", "b"),
        ("TEXT", "tjb"),
        ("VARCHAR(9)", "tjb"),
        ("CHAR(9)", "tj"),
        ("", "ntbj"),
        ("BLOB", "ntbj"),
        // Epochs, and whatever else somebody keeps there.
        ("DATE", "dn"),
        ("JSON", "jnt"),
    ];
    let values = [
        ("0", "nbj"),
        ("1", "nbj"),
        ("7", "nj"),
        ("'open'", "t"),
        ("'yes'", "tb"),
        ("'2024-01-31'", "td"),
        ("'{\"a\": \"x\"}'", "tj"),
        ("x'00ff'", ""),
        ("x'7b7d'", ""),
    ];
    // What they read `v` as.
    let conditions = [
        ("v > 3", 'n'),
        ("v = 7", 'n'),
        ("v IN (1, 7)", 'n'),
        ("v BETWEEN 1 AND 5", 'n'),
        ("v + 1 > 3", 'n'),
        ("abs(v) > 3", 'n'),
        ("coalesce(v, 5) > 3", 'n'),
        ("greatest(v, 5) > 6", 'n'),
        ("nullif(v, 5) > 6", 'n'),
        ("v IS DISTINCT FROM 7", 'n'),
        ("v = 'open'", 't'),
        ("v > 'a'", 't'),
        ("v LIKE 'o%'", 't'),
        ("lower(v) = 'open'", 't'),
        ("length(v) = 4", 't'),
        ("trim(v) = 'open'", 't'),
        ("v", 'b'),
        ("v = TRUE", 'b'),
        ("coalesce(v, TRUE)", 'b'),
        ("v IS TRUE", 'b'),
        ("v < '2024-06-01'", 'd'),
        ("v IN ('2024-01-31')", 'd'),
        ("v ->> 'a' = 'x'", 'j'),
        ("v ->> 'a' IS NULL", 'j'),
    ];
    let mut seen = [0; 3];
    let mut decided = Vec::new();
    for (declared, kinds) in types {
        for (value, is) in values {
            for (condition, read) in conditions {
                // Texts that are compared with a date are texts.
                let read = if read == 'd' && kinds.contains('t') {
                    't'
                } else {
                    read
                };
                let Ok(judged) = judge(declared, value, condition).await else {
                    seen[0] += 1;
                    continue;
                };
                let not = judge(declared, value, &format!("NOT ({condition})"))
                    .await
                    .unwrap();
                // A column of texts keeps a number as a text; of an invented type it may have been one.
                let is = if declared == "JSON" || kinds.contains('t') && !kinds.contains('n') {
                    format!("{is}t")
                } else {
                    is.to_owned()
                };
                // Whatever a column declares, truth values may be kept in it.
                if (kinds.contains(read) || read == 'b') && is.contains(read) {
                    seen[1] += 1;
                    continue;
                }
                seen[2] += 1;
                if [judged, not] != [Doubtful, Doubtful] {
                    decided.push(format!(
                        "{declared} {value}: {condition} is {judged:?}, its opposite {not:?}"
                    ));
                }
            }
        }
    }
    assert!(decided.is_empty(), "{}", decided.join("\n"));
    assert!(seen[1] > 150 && seen[2] > 400, "{seen:?}");
}

/// Of 1970 and undecided, unless it says otherwise.
const ROWS: &str = "\
CREATE TABLE x (id INTEGER PRIMARY KEY, at, amount INTEGER, owner INTEGER);
INSERT INTO x VALUES (1, 1000, 200, 1), (2, 1000, 5, 1), (3, 1000, 200, 99),
  (4, 1000, '200 EUR', 1), (5, 1000, 200, 'n/a'), (6, 1000, 'n/a', 'n/a'), (7, 1000, 'n/a', 99), (8, 1000, 5, 'n/a'),
  (9, 1750000000, 'n/a', 1), (10, 'n/a', 'n/a', 1), (11, 'n/a', 200, 99), (12, NULL, 'n/a', 1)";

#[rstest]
#[case::both(Some("amount > 100"), &["owner = 99"], 1, 1, 3)]
#[case::a_where(Some("amount > 100"), &[], 3, 1, 3)]
#[case::a_hold(None, &["owner = 99"], 3, 2, 3)]
#[case::two_holds(None, &["owner = 99", "amount > 100"], 1, 2, 3)]
#[case::nothing_to_doubt(Some("id > 1"), &["id = 3"], 6, 2, 0)]
#[case::none(None, &[], 8, 2, 0)]
#[tokio::test]
async fn expired_rows_that_stay_as_nobody_knows_are_counted(
    #[case] condition: Option<&str>,
    #[case] holds: &[&str],
    #[case] expired: u64,
    #[case] unreadable: u64,
    #[case] undecided: u64,
) {
    let database = Database::new(ROWS).await;
    let mut plan = database
        .plan("x", "at", Encoding::EpochSeconds, "2024-01-01T00:00:00Z")
        .await;
    plan.filter = condition.map(filter);
    plan.holds = holds.iter().map(|hold| filter(hold)).collect();

    let before = database.engine.count_expired(&plan).await.unwrap();
    let swept = database.sweep(&plan).await.unwrap();
    let after = database.engine.count_expired(&plan).await.unwrap();

    let counted = |expired| Counted {
        expired,
        unreadable: Some(unreadable + undecided),
        undecided,
        attached: 0,
    };
    assert_eq!(before, counted(expired));
    assert_eq!(swept, expired);
    assert_eq!(after, counted(0));
}
