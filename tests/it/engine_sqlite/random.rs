//! For random tables, values and rules: the rows that are left are those that one plain DELETE leaves, and of those whose `where` or
//! hold nobody can decide each one.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use retention_operator::engine::Engine;
use retention_operator::policy::encoding::{Encoding, Storage, decode};
use retention_operator::policy::predicate::Predicate;

use super::Database;

/// A shape of table: its columns and what follows them.
fn shapes() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "(id INTEGER PRIMARY KEY, at, name, n)",
        "(id INTEGER, at INTEGER, name TEXT, n INTEGER)",
        "(id TEXT PRIMARY KEY, at REAL, name TEXT COLLATE NOCASE, n NUMERIC)",
        "(id INTEGER PRIMARY KEY, at, name, n) WITHOUT ROWID",
        "(name TEXT COLLATE NOCASE, id, at BLOB, n REAL, PRIMARY KEY (name, id)) WITHOUT ROWID",
        "(id, at NUMERIC, name VARCHAR(10), n, PRIMARY KEY (id DESC)) WITHOUT ROWID",
    ])
}

/// Values as SQL spells them; half of those that are times have expired.
fn times() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (1_i64..3_408_134_400).prop_map(|n| n.to_string()),
        2 => (1_i64..3_408_134_400, 0_u32..1000).prop_map(|(n, f)| format!("{n}.{f:03}")),
        2 => (1_i64..3_408_134_400).prop_map(|n| format!("'{n}'")),
        1 => (1_i64..3_408_134_400, "[0-9.eE +-]{0,4}").prop_map(|(n, tail)| format!("'{n}{tail}'")),
        1 => prop::sample::select(vec!["NULL", "0", "-5", "''", "'n/a'", "x'31'", "9e999", "1704067200", "1704067199.999"])
            .prop_map(str::to_owned),
    ]
}

fn numbers() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (-5_i64..5).prop_map(|n| n.to_string()),
        1 => Just("NULL".to_owned()),
        1 => Just("'x'".to_owned()),
        1 => Just("2.5".to_owned()),
    ]
}

/// The policy's words, and SQLite's own for the same.
fn filters() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop::sample::select(vec![
        ("n = 1", "n = 1"),
        ("n <> 1 OR n IS NULL", "n <> 1 OR n IS NULL"),
        ("n > 0", "typeof(n) IN ('integer', 'real') AND n > 0"),
        (
            "NOT (n BETWEEN -1 AND 1)",
            "typeof(n) IN ('integer', 'real') AND NOT (n BETWEEN -1 AND 1)",
        ),
        ("name LIKE 'a%'", "name GLOB 'a*'"),
        ("name ILIKE '%B%'", "name LIKE '%B%'"),
        ("name IN ('a', 'b', 'ab')", "name IN ('a', 'b', 'ab')"),
        (
            "name || 'x' = 'ax' AND n IS NOT NULL",
            "name || 'x' = 'ax' AND n IS NOT NULL",
        ),
        ("coalesce(n, 7) = 7", "ifnull(n, 7) = 7"),
        ("length(name) = 2", "length(name) = 2"),
    ])
}

type Case = (
    &'static str,
    Vec<(String, String, String)>,
    Option<(&'static str, &'static str)>,
    Option<(&'static str, &'static str)>,
);

fn cases() -> impl Strategy<Value = Case> {
    (
        shapes(),
        prop::collection::vec((times(), "[abAB]{1,2}", numbers()), 0..60),
        prop::option::of(filters()),
        prop::option::of(filters()),
    )
}

/// Written down once more, by other means: what has expired at 1,704,067,200.
const EXPIRED: &str = "(typeof(at) IN ('integer', 'real') AND at > 0 AND at < 1704067200)
    OR (typeof(at) = 'text' AND at NOT GLOB '*[^0-9.]*' AND at GLOB '[0-9]*' AND at NOT GLOB '*.*.*' AND at NOT GLOB '*.'
        AND CAST(at AS REAL) > 0 AND CAST(at AS REAL) < 1704067200)";

async fn check((shape, rows, filter, hold): Case) {
    let values: Vec<String> = rows
        .iter()
        .enumerate()
        .map(|(id, (at, name, n))| format!("({id}, {at}, '{name}', {n})"))
        .collect();
    let insert = if values.is_empty() {
        String::new()
    } else {
        format!(
            "INSERT INTO logs (id, at, name, n) VALUES {};",
            values.join(", ")
        )
    };
    let database = Database::new(&format!("CREATE TABLE logs {shape}; {insert}")).await;
    let mut plan = database.plan("logs").await;
    plan.filter = filter.map(|(text, _)| Predicate::parse(text).unwrap());
    plan.holds = hold
        .iter()
        .map(|(text, _)| Predicate::parse(text).unwrap())
        .collect();
    let filter = filter.map_or("1", |(_, sql)| sql);
    let hold = hold.map_or("0", |(_, sql)| sql);
    let left = "SELECT hex(quote(id) || quote(at) || quote(name) || quote(n)) FROM logs";
    let goes = format!("ifnull({EXPIRED}, 0) AND ifnull({filter}, 0) AND NOT ifnull({hold}, 0)");
    let rows = async |which: String| {
        database
            .texts(&format!("{left} WHERE {which} ORDER BY 1"))
            .await
    };
    let stays = rows(format!("NOT ({goes})")).await;
    // A text among numbers: PostgreSQL would not have taken it in.
    let may_stay = rows(format!("NOT ({goes}) OR typeof(n) = 'text'")).await;

    if let Err(error) = database.engine().check_plan(&plan).await {
        // A number beside a column that is declared to hold texts, and its like.
        assert_eq!(error.category(), "predicate", "{error}");
        return;
    }
    let counted = database
        .engine()
        .count_expired(&plan)
        .await
        .unwrap()
        .expired;
    let (gone, _) = database.sweep(&plan).await.unwrap();

    let is = database.texts(&format!("{left} ORDER BY 1")).await;
    assert!(
        stays.iter().all(|row| is.contains(row)),
        "{is:?}, not {stays:?}"
    );
    assert!(
        is.iter().all(|row| may_stay.contains(row)),
        "{is:?}, not {may_stay:?}"
    );
    assert_eq!(gone, counted);
    assert_eq!(gone as usize, values.len() - is.len());
}

#[test]
fn what_is_left_is_what_one_delete_leaves() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config::with_cases(150));
    runner
        .run(&cases(), |case| {
            runtime.block_on(check(case));
            Ok(())
        })
        .unwrap();
}

/// Texts near to what encodings look like.
fn texts() -> impl Strategy<Value = (Encoding, String)> {
    prop_oneof![
        ("[0-9]{1,20}", "|\\.[0-9]{0,20}|[ e+-]")
            .prop_map(|(a, b)| (Encoding::EpochSeconds, a + &b)),
        ("(01[0-9a-f]{6}|0{8})-?[0-9a-f]{4}-?[67][0-9a-f]{3}-[789abc][0-9a-fA-FG]{3}-[0-9a-f]{11,12}")
            .prop_map(|text| (Encoding::UuidV7, text)),
        ("0[01][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{8}[0-9A-HJKMNP-TV-ZUIL]{15,17}|0{10}[0-9A-Z]{16}")
            .prop_map(|text| (Encoding::Ulid, text)),
        ("(19|20|99)[0-9]{2}[01][0-9][0-3][0-9][0-2][0-9][0-6][0-9][0-6][0-9][0-9]?")
            .prop_map(|text| (Encoding::Compact14, text)),
        (
            "(19|20|00)[0-9]{2}-[01][0-9]-[0-3][0-9]",
            "|[T t][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\\.[0-9]{0,10})?)?(|Z|z|[+-][0-2][0-9](:?[0-6][0-9])?)",
        )
            .prop_map(|(date, time)| (Encoding::Iso8601, date + &time)),
    ]
}

async fn check_text(encoding: Encoding, texts: &[String]) {
    let values: Vec<String> = texts
        .iter()
        .enumerate()
        .map(|(id, text)| format!("({id}, '{text}')"))
        .collect();
    let database = Database::new(&format!(
        "CREATE TABLE logs (id INTEGER PRIMARY KEY, at); INSERT INTO logs VALUES {}",
        values.join(", ")
    ))
    .await;
    let mut plan = database.plan("logs").await;
    plan.encoding = Some(encoding);
    let cutoff: f64 = 1_704_067_200.0;
    let decoded: Vec<Option<f64>> = texts
        .iter()
        .map(|text| decode(encoding, Storage::Any, text, &jiff::tz::TimeZone::UTC))
        .collect();
    let unreadable = decoded.iter().filter(|value| value.is_none()).count() as u64;
    let stays: Vec<i64> = (0_i64..)
        .zip(&decoded)
        .filter(|(_, value)| !value.is_some_and(|value| value < cutoff))
        .map(|(id, _)| id)
        .collect();

    let counted = database.engine().count_expired(&plan).await.unwrap();
    database.sweep(&plan).await.unwrap();

    assert_eq!(
        counted.unreadable,
        Some(unreadable),
        "{encoding:?} {texts:?}"
    );
    assert_eq!(
        database.ids("SELECT id FROM logs").await,
        stays,
        "{encoding:?} {texts:?}"
    );
}

#[test]
fn sql_reads_texts_as_the_policy_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config::with_cases(12));
    runner
        .run(&prop::collection::vec(texts(), 400), |cases| {
            for encoding in Encoding::ALL {
                let texts: Vec<String> = cases
                    .iter()
                    .filter(|(of, _)| *of == encoding)
                    .map(|(_, text)| text.clone())
                    .collect();
                if !texts.is_empty() {
                    runtime.block_on(check_text(encoding, &texts));
                }
            }
            Ok(())
        })
        .unwrap();
}
