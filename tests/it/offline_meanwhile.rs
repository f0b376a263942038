//! `sweep -f` while others work on the database: what it waits for, and what makes it plan anew.

use std::time::Duration;

use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::engine::{DatabaseTarget, Engine};
use retention_operator::policy::claims::LedgerMode;
use rstest::rstest;
use serde_json::{Value, json};
use sqlx::Executor;

use crate::offline::file;
use crate::operator::tables::{rule, slow};
use crate::support::operator::{Operator, offline};
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::wait::eventually;

/// Row 1 to 2000, all expired, in a partition; and beside it a table with more of them.
async fn parts() -> TestDatabase {
    let database = Postgres::shared().database("parts").await;
    database
        .execute(
            "CREATE TABLE logs (id int, at timestamptz) PARTITION BY RANGE (id);
             CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM (1) TO (2001);
             INSERT INTO logs SELECT n, now() - interval '90 days' FROM generate_series(1, 2000) n;
             CREATE TABLE beside AS SELECT n + 2000 AS id, now() - interval '90 days' AS at FROM generate_series(1, 100) n; ANALYZE",
        )
        .await;
    database
}

const ATTACH: &str = "ALTER TABLE logs ATTACH PARTITION beside FOR VALUES FROM (2001) TO (3001)";

/// A sweep that has begun.
async fn begun(database: &TestDatabase, spec: Value) -> Operator {
    let file = file(spec);
    let arguments = ["sweep", "-f", file.to_str().unwrap(), "-o", "json"];
    let sweep = Operator::start(&arguments, &[("DATABASE_URL", &database.url)]);
    eventually(Duration::from_secs(30), "some rows to go", async || {
        let left: i64 = database.scalar("SELECT count(*) FROM logs_1").await;
        if left < 1900 {
            Ok(())
        } else {
            Err((left, sweep.stderr()))
        }
    })
    .await;
    sweep
}

#[tokio::test]
async fn rows_of_a_partition_that_comes_under_way_go_in_the_same_sweep() {
    let database = parts().await;
    let mut sweep = begun(&database, json!({"pace": slow(1000)})).await;

    database.execute(ATTACH).await;
    let ended = sweep.wait(Duration::from_secs(60));

    let left: i64 = database.scalar("SELECT count(*) FROM logs").await;
    let report: Value = serde_json::from_str(&sweep.stdout()).unwrap();
    assert_eq!(ended.code(), Some(0), "{}", sweep.stderr());
    assert_eq!(left, 0);
    assert_eq!(report["status"]["lastSweep"]["rowsDeleted"], 2100);
    assert_eq!(report["status"]["lastSweep"]["outcome"], "Succeeded");
}

#[tokio::test]
async fn a_partition_that_comes_under_way_and_is_held_ends_the_sweep_and_what_it_did_is_told() {
    let database = parts().await;
    let holds = json!([{"name": "case", "table": "beside", "reason": "litigation"}]);
    let mut sweep = begun(&database, json!({"pace": slow(1000), "holds": holds})).await;

    database.execute(ATTACH).await;
    let ended = sweep.wait(Duration::from_secs(60));

    let held: i64 = database.scalar("SELECT count(*) FROM beside").await;
    let report: Value = serde_json::from_str(&sweep.stdout()).unwrap();
    assert_eq!(ended.code(), Some(1), "{}", sweep.stderr());
    assert_eq!(held, 100);
    assert_eq!(report["status"]["lastSweep"]["rowsDeleted"], 2000);
    assert_eq!(report["status"]["lastSweep"]["outcome"], "Partial");
}

/// What goes is what was there when the partition left, beside that which had gone from it: the archive knows how many.
#[rstest]
#[case::dropped("DROP TABLE logs_1")]
#[case::detached("ALTER TABLE logs DETACH PARTITION logs_1")]
#[case::detached_concurrently("ALTER TABLE logs DETACH PARTITION logs_1 CONCURRENTLY")]
#[tokio::test]
async fn a_partition_that_leaves_under_way_keeps_its_rows_and_the_others_are_swept(
    #[case] change: &str,
    #[values(false, true)] archives: bool,
) {
    let database = parts().await;
    database.execute(ATTACH).await;
    let mut logs = rule("logs", "logs");
    if archives {
        logs["action"] = json!("Archive");
        logs["archive"] = json!({"table": {"name": "attic"}});
    }
    let mut sweep = begun(&database, json!({"pace": slow(1000), "rules": [logs]})).await;

    // A service that writes through the table makes a detach that is concurrent wait.
    let mut service = database.connect().await;
    service
        .execute("BEGIN; INSERT INTO logs VALUES (2050, now())")
        .await
        .unwrap();
    let changed = async {
        let mut owner = database.connect().await;
        owner
            .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(change.to_owned())))
            .await
            .unwrap();
    };
    let committed = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        service.execute("COMMIT").await.unwrap();
    };
    tokio::join!(changed, committed);
    let ended = sweep.wait(Duration::from_secs(60));

    let report: Value = serde_json::from_str(&sweep.stdout()).unwrap();
    assert_eq!(ended.code(), Some(0), "{}", sweep.stderr());
    let sweep = &report["status"]["lastSweep"];
    assert_eq!(sweep["outcome"], "Succeeded", "{report}");
    let left: i64 = database.scalar("SELECT count(*) FROM logs").await;
    assert_eq!(left, 1, "the service's row");
    let gone = sweep["rowsDeleted"].as_i64().unwrap();
    if !change.starts_with("DROP") {
        let kept: i64 = database.scalar("SELECT count(*) FROM logs_1").await;
        assert!(kept > 0);
        assert_eq!(gone, 2_100 - kept);
    }
    if archives {
        let archived: i64 = database.scalar("SELECT count(*) FROM attic").await;
        let different: i64 = database
            .scalar("SELECT count(DISTINCT id) FROM attic")
            .await;
        assert_eq!((archived, different), (gone, gone));
    }
}

/// A ledger comes under way, which is a reason to plan anew, and says that all sweeps are paused.
#[tokio::test]
async fn a_sweep_that_cannot_be_planned_anew_tells_what_it_did_and_why_it_ended() {
    let database = parts().await;
    let engine = PostgresEngine::new(DatabaseTarget {
        url: database.url.clone().into(),
        tls_mode: None,
        tls_ca_pem: None,
        application_name: "retention-operator/test".to_owned(),
        lock_timeout: Duration::from_millis(100),
        statement_timeout: Duration::from_secs(30),
        max_connections: 1,
        allow_local_files: false,
    })
    .unwrap();
    engine.ledger(LedgerMode::Auto, true).await.unwrap();
    database
        .execute("UPDATE retention_operator.control SET paused = true; ALTER SCHEMA retention_operator RENAME TO aside")
        .await;
    let mut sweep = begun(&database, json!({"pace": slow(500)})).await;

    database
        .execute("ALTER SCHEMA aside RENAME TO retention_operator")
        .await;
    let ended = sweep.wait(Duration::from_secs(60));

    let gone: i64 = database.scalar("SELECT 2000 - count(*) FROM logs").await;
    let report: Value = serde_json::from_str(&sweep.stdout()).unwrap();
    assert_eq!(ended.code(), Some(1), "{}", sweep.stderr());
    assert!(sweep.stderr().contains("paused"), "{}", sweep.stderr());
    assert!(gone < 2000);
    assert_eq!(report["status"]["lastSweep"]["rowsDeleted"], gone);
    assert_eq!(report["status"]["lastSweep"]["outcome"], "Partial");
}

/// Somebody makes a partition with expired rows whenever a sweep looks.
#[tokio::test]
async fn partitions_that_come_all_the_time_do_not_keep_a_sweep_for_ever() {
    let database = Postgres::shared().database("always").await;
    database
        .execute(
            "CREATE TABLE logs (id int, at timestamptz) PARTITION BY RANGE (id);
             CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM (1) TO (2); INSERT INTO logs VALUES (1, now() - interval '90 days')",
        )
        .await;
    let file = file(json!({}));
    let arguments = ["sweep", "-f", file.to_str().unwrap(), "-o", "json"];
    let mut sweep = Operator::start(&arguments, &[("DATABASE_URL", &database.url)]);
    let mut service = database.connect().await;
    let mut made = 1;

    let ended = loop {
        if let Some(ended) = sweep.exited() {
            break ended;
        }
        made += 1;
        let part = format!(
            "BEGIN; CREATE TABLE logs_{made} PARTITION OF logs FOR VALUES FROM ({made}) TO ({made} + 1);
             INSERT INTO logs VALUES ({made}, now() - interval '90 days'); COMMIT"
        );
        service
            .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(part)))
            .await
            .unwrap();
        assert!(made < 20_000, "it does not end");
    };

    assert!(ended.code().is_some(), "{}", sweep.stderr());
}

#[tokio::test]
async fn what_a_sweep_waits_for_is_told_once_where_there_is_no_terminal() {
    let database = parts().await;
    let table: i64 = database.scalar("SELECT 'logs'::regclass::oid::int8").await;
    let mut other = database.connect().await;
    let fence = format!("SELECT pg_advisory_lock((x'72657465'::int8 << 32) | {table})");
    other
        .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(fence)))
        .await
        .unwrap();
    let file = file(json!({}));
    let arguments = ["sweep", "-f", file.to_str().unwrap(), "-o", "json"];
    let mut sweep = Operator::start(&arguments, &[("DATABASE_URL", &database.url)]);

    eventually(Duration::from_secs(30), "a word of it", async || {
        let said = sweep.stderr();
        if said.contains("logs: waiting: swept_elsewhere") {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
    // It is tried again after a second, and after two.
    tokio::time::sleep(Duration::from_secs(2)).await;
    other
        .execute("SELECT pg_advisory_unlock_all()")
        .await
        .unwrap();
    let ended = sweep.wait(Duration::from_secs(60));

    assert_eq!(ended.code(), Some(0), "{}", sweep.stderr());
    assert_eq!(
        sweep.stderr().matches("waiting:").count(),
        1,
        "{}",
        sweep.stderr()
    );
}

#[tokio::test]
async fn a_plan_calls_unexpired_rows_that_go_along_rows_of_the_same_table() {
    let database = Postgres::shared().database("sametable").await;
    database
        .execute(
            "CREATE TABLE logs (id int PRIMARY KEY, up int REFERENCES logs ON DELETE CASCADE, at timestamptz);
             INSERT INTO logs VALUES (1, NULL, now() - interval '90 days'), (2, 1, now())",
        )
        .await;
    let mut logs = rule("logs", "logs");
    logs["dependents"] = json!("Cascade");
    let file = file(json!({"rules": [logs]}));

    let plan = offline(&database.url, &["plan", "-f", file.to_str().unwrap()]);

    assert!(
        plan.stdout
            .contains("and 1 of the same table, which have not expired, with them"),
        "{plan:?}"
    );
}
