//! What an audit says, and that it leaves no trace.

use std::fs;

use rstest::rstest;
use serde_json::{Value, json};
use sqlx::Row;

use super::rig::{Rig, SOON, condition, is, no_operator_session};
use crate::support::operator::offline;
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::process::{run_dir, unique};

const ROWS: i64 = 200_000;

/// A table of [`ROWS`] rows of which 42 % are older than 30 days, in the order of their time or in none.
///
/// The sample is larger than the default one: its error must stay under the bound not only most of the time.
async fn fill(database: &TestDatabase, table: &str, order: &str) {
    database
        .execute(&format!(
            "CREATE TABLE {table} (id bigint, at timestamptz, note text) WITH (autovacuum_enabled = false);
             INSERT INTO {table}
             SELECT n, now() - interval '30 days' * n / ({ROWS} * 0.58), 'a note of row ' || n
             FROM generate_series(1, {ROWS}) AS n ORDER BY {order};
             ALTER TABLE {table} ALTER at SET STATISTICS 300;
             ANALYZE {table}"
        ))
        .await;
}

fn rule(name: &str, table: &str) -> Value {
    json!({"name": name, "table": table, "column": "at", "expireAfter": "30d", "action": "Delete"})
}

#[tokio::test]
async fn an_audit_says_what_is_expired_and_of_which_database() {
    let rig = Rig::start("audit").await;
    fill(&rig.database, "ordered_logs", "n DESC").await;
    fill(&rig.database, "random_logs", "random()").await;
    let reader = rig
        .database
        .role(
            "reader",
            "s3cret",
            "GRANT SELECT ON ordered_logs, random_logs TO {role}",
        )
        .await;
    rig.secret("reader-db", &[("uri", &reader.url)]).await;
    let rules = json!([
        rule("ordered", "ordered_logs"),
        rule("random", "public.random_logs")
    ]);

    rig.apply("owner", json!({"rules": rules})).await;
    rig.apply(
        "reader",
        json!({"rules": rules, "database": {"secretRef": {"name": "reader-db"}}}),
    )
    .await;
    let ready = |status: &Value| is(status, "Ready", "True") && is(status, "Compliant", "False");
    let owner = rig.status("owner", SOON, "to be audited", ready).await;
    let reader = rig.status("reader", SOON, "to be audited", ready).await;

    for status in [&owner, &reader] {
        assert_eq!(
            condition(status, "Compliant").unwrap(),
            (
                "False",
                "ExpiredRows",
                "2 of 2 rules hold rows past their age"
            )
        );
        assert_eq!(
            condition(status, "Ready").unwrap(),
            ("True", "Reconciled", "2 rules, audit only")
        );
        for (index, table) in ["public.ordered_logs", "public.random_logs"]
            .iter()
            .enumerate()
        {
            let rule = &status["rules"][index];
            assert_eq!(rule["table"], *table);
            let cutoff = rule["cutoff"].as_str().unwrap();
            let expired: i64 = rig
                .database
                .scalar(&format!(
                    "SELECT count(*) FROM {table} WHERE at < '{cutoff}'"
                ))
                .await;
            let estimate = rule["expiredRows"]["value"].as_i64().unwrap();
            assert!(
                (estimate - expired).abs() <= ROWS / 100,
                "{table}: {estimate} instead of {expired}"
            );
            assert_eq!(rule["expiredRows"]["method"], "Histogram");
            assert_eq!(rule["expiredRows"]["exact"], false);
            assert!(rule["expiredRows"]["asOf"].is_string());
            assert_eq!(rule["rows"]["value"], ROWS);
            assert_eq!(rule["rows"]["method"], "Catalog");
            assert!(rule["oldest"]["value"].as_str().unwrap() < cutoff);
            assert!(rule["newest"]["value"].as_str().unwrap() > cutoff);
            assert!(rule["sizeBytes"].as_i64().unwrap() > ROWS * 30);
        }
        let sum: i64 = [0, 1]
            .map(|index: usize| {
                status["rules"][index]["expiredRows"]["value"]
                    .as_i64()
                    .unwrap()
            })
            .iter()
            .sum();
        assert_eq!(status["expiredRows"], sum);
        let database = &status["database"];
        assert_eq!(database["engine"], "PostgreSQL");
        assert_eq!(database["name"], rig.database.name);
        assert_eq!(database["tables"], 2);
        assert!(database["sizeBytes"].as_i64().unwrap() > 2 * ROWS * 30);
        let version: String = rig.database.scalar("SHOW server_version").await;
        let seen = database["version"].as_str().unwrap();
        assert!(version.starts_with(seen), "{seen} instead of {version}");
        assert!(status["lastSweep"].is_null() && status["nextSweepTime"].is_null());
    }
    assert_eq!(
        owner["database"]["identity"],
        reader["database"]["identity"]
    );
    // A role that cannot write is the stronger promise, and the status says which one holds.
    assert_ne!(
        owner["database"]["auditPromise"],
        reader["database"]["auditPromise"]
    );
}

#[rstest]
#[case::plain("CREATE INDEX ON logs (at)")]
#[case::as_the_service_uses_it("ALTER TABLE logs ADD PRIMARY KEY (id)")]
#[tokio::test]
async fn audits_do_not_move_the_counters_of_the_services_tables(#[case] index: &str) {
    let database = Postgres::shared().database("counters").await;
    fill(&database, "logs", "random()").await;
    database.execute(&format!("{index}; ANALYZE logs")).await;
    let policy = run_dir().join(unique("counters", '-'));
    let text = json!({
        "apiVersion": "retention-operator.io/v1alpha1", "kind": "RetentionPolicy",
        "metadata": {"name": "counters"},
        "spec": {
            "database": {"secretRef": {"name": "db"}},
            "rules": [{"name": "logs", "table": "logs", "column": "at", "expireAfter": "30d",
                       "where": "note LIKE 'a%'", "action": "Delete"}],
            "holds": [{"name": "case", "table": "logs", "where": "id = 7"}],
        },
    });
    fs::write(&policy, text.to_string()).unwrap();
    let arguments = ["audit", "-f", policy.to_str().unwrap()];
    // The sessions that filled the table have flushed what they counted once they are gone.
    let mut session = database.connect().await;
    let alone = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'";
    crate::support::wait::eventually(SOON, "to be alone", async || {
        let row = sqlx::query(alone).fetch_one(&mut session).await.unwrap();
        if row.get::<bool, _>(0) {
            Ok(())
        } else {
            Err("others")
        }
    })
    .await;
    let mut counters = async || {
        let query =
            "SELECT row_to_json(t)::text || row_to_json(io)::text FROM pg_stat_user_tables t
                     JOIN pg_statio_user_tables io USING (relid) WHERE t.relname = 'logs'";
        let row = sqlx::query(query).fetch_one(&mut session).await.unwrap();
        row.get::<String, _>(0)
    };
    let before = counters().await;

    for _ in 0..20 {
        let ended = offline(&database.url, &arguments);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    no_operator_session(&database).await;

    assert_eq!(counters().await, before);
    assert!(before.contains("\"heap_blks_hit\":"), "{before}");
}
