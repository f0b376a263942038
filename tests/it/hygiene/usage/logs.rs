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
