//! Usage logs: a table of accesses as evidence of use.

use retention_operator::policy::check::CheckedPolicy;
use retention_operator::policy::usage::Usage;
use serde_json::json;

use super::{SCHEMA, audited_by, of_rule, policy};
use crate::support::postgres::Postgres;

const LOG: &str = "\
CREATE TABLE access_log (at timestamptz NOT NULL, table_name text NOT NULL);
INSERT INTO access_log VALUES (now() - interval '2 days', 't'), (now() - interval '1 day', 'other'), ('infinity', 't')";

fn with_log() -> CheckedPolicy {
    policy(
        "Off",
        json!({"usage": {"table": "access_log", "column": "at", "object": "table_name"}}),
    )
}

#[tokio::test]
async fn a_usage_log_is_evidence_of_use() {
    let database = Postgres::shared().database("usage_log").await;
    database.execute(SCHEMA).await;
    database.execute(LOG).await;
    database.execute("CREATE INDEX ON access_log (at)").await;

    let report = audited_by(&database.url, &with_log()).await;

    let Usage::Used { last: Some(last) } = of_rule(&report).usage else {
        panic!("{:?}", of_rule(&report));
    };
    let age = jiff::Timestamp::now().duration_since(last).as_hours();
    assert!((47..=49).contains(&age), "{age}");
}

#[tokio::test]
async fn a_usage_log_that_cannot_be_read_cheaply_says_why_and_stops_nothing() {
    let database = Postgres::shared().database("usage_log_bad").await;
    database.execute(SCHEMA).await;
    let cases = [
        ("SELECT 1", "does not exist"),
        (
            "CREATE VIEW access_log AS SELECT now() AS at, 't' AS table_name",
            "is a view",
        ),
        (
            "DROP VIEW access_log; CREATE TABLE access_log (at timestamptz, object text)",
            "no column table_name",
        ),
        (
            "DROP TABLE access_log; CREATE TABLE access_log (at text, table_name text)",
            "is of type text",
        ),
        (
            "DROP TABLE access_log; CREATE TABLE access_log (at timestamptz, table_name text)",
            "no index of public.access_log begins with at",
        ),
    ];
    for (change, message) in cases {
        database.execute(change).await;

        let report = audited_by(&database.url, &with_log()).await;

        let note = of_rule(&report).note.as_deref().unwrap_or_default();
        assert!(note.contains(message), "{change}: {note}");
        assert!(!matches!(
            of_rule(&report).usage,
            Usage::Used { last: Some(_) }
        ));
    }
}

/// `{s}`: seconds since 1970.
const ENCODED: [(&str, &str); 8] = [
    ("bigint", "{s}"),
    ("int", "{s}"),
    ("bigint", "{s} * 1000::int8"),
    ("bigint", "{s} * 1000000::int8"),
    (
        "bigint",
        "to_char(to_timestamp({s}) AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS')::int8",
    ),
    ("numeric", "{s} + 0.25"),
    ("double precision", "{s} * 1000.0"),
    (
        "uuid",
        "(lpad(to_hex({s} * 1000::int8), 12, '0') || '7cc398c4dc0c0c07398f')::uuid",
    ),
];

#[tokio::test]
async fn the_times_of_a_usage_log_are_read_in_the_encodings_that_rules_know() {
    let database = Postgres::shared().database("usage_log_encoded").await;
    database.execute(SCHEMA).await;
    for (declared, value) in ENCODED {
        let then = jiff::Timestamp::now().as_second() - 2 * 86_400;
        let log = |seconds: i64| {
            format!(
                "DROP TABLE IF EXISTS access_log; CREATE TABLE access_log (at {declared}, table_name text);
                 CREATE INDEX ON access_log (at);
                 INSERT INTO access_log SELECT {}, CASE n WHEN 1 THEN 't' ELSE 'other' END FROM generate_series(1, 1000) n",
                value.replace("{s}", &format!("({seconds} - n)"))
            )
        };

        database.execute(&log(then)).await;
        let recent = audited_by(&database.url, &with_log()).await;
        database.execute(&log(then - 200 * 86_400)).await;
        let old = audited_by(&database.url, &with_log()).await;

        let Usage::Used { last: Some(last) } = of_rule(&recent).usage else {
            panic!("{declared} {value}: {:?}", of_rule(&recent));
        };
        assert!(
            (last.as_second() - then).abs() <= 2,
            "{declared} {value}: {last}"
        );
        let old = of_rule(&old);
        assert!(
            !matches!(old.usage, Usage::Used { .. }),
            "{declared} {value}: {old:?}"
        );
        let note = old.note.as_deref().unwrap_or_default();
        assert!(!note.contains("usage log"), "{declared} {value}: {note}");
    }
}

#[tokio::test]
async fn numbers_of_no_known_unit_prove_nothing_and_are_said() {
    let database = Postgres::shared().database("usage_log_units").await;
    database.execute(SCHEMA).await;
    let cases = [
        (
            "bigint",
            "1790000000000000000, 't'",
            "holds no times that can be read",
        ),
        ("bigint", "7, 'other'", "holds no times that can be read"),
        ("numeric", "'NaN', 't'", "holds no times that can be read"),
        (
            "uuid",
            "'017f22e2-79b0-4cc3-98c4-dc0c0c07398f', 't'",
            "write UUIDs of version 7",
        ),
        (
            "bigint",
            "1700000000, 'other'), (7, 't'",
            "they prove nothing",
        ),
        (
            "real",
            "1700000000, 't'",
            "is of type real: it must be a timestamp, a date, a number since 1970",
        ),
    ];
    for (declared, values, message) in cases {
        database
            .execute(&format!(
                "DROP TABLE IF EXISTS access_log; CREATE TABLE access_log (at {declared}, table_name text);
                 CREATE INDEX ON access_log (at); INSERT INTO access_log VALUES ({values})"
            ))
            .await;

        let report = audited_by(&database.url, &with_log()).await;

        let note = of_rule(&report).note.as_deref().unwrap_or_default();
        assert!(note.contains(message), "{declared} {values}: {note}");
        assert!(!matches!(of_rule(&report).usage, Usage::Used { .. }));
    }
}
