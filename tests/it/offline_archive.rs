//! Archives in a table of the same database, through the offline verbs: what plan and audit say, and what SIGKILL leaves.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::operator::tables::{fill, rule, slow};
use crate::support::operator::{Ended, Operator, offline};
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::process::{kills, run_dir, unique};

const ROWS: i64 = 20_000;
/// 42 % of them.
const EXPIRED: i64 = 8_400;

fn file(mode: &str, pace: Option<Value>) -> PathBuf {
    let mut logs = rule("logs", "logs");
    logs["action"] = json!("Archive");
    logs["archive"] = json!({"table": {"name": "attic.logs"}});
    let mut policy = json!({
        "apiVersion": "retention-operator.io/v1alpha1",
        "kind": "RetentionPolicy",
        "metadata": {"name": "logs", "namespace": "shop"},
        "spec": {"mode": mode, "database": {"secretRef": {"name": "db"}}, "rules": [logs]},
    });
    if let Some(pace) = pace {
        policy["spec"]["pace"] = pace;
    }
    let file = run_dir().join(unique("policy", '-')).with_extension("yaml");
    fs::write(&file, policy.to_string()).unwrap();
    file
}

fn verb(database: &TestDatabase, verb: &str, mode: &str, more: &[&str]) -> Ended {
    let file = file(mode, None);
    let arguments = [&[verb, "-f", file.to_str().unwrap()], more].concat();
    offline(&database.url, &arguments)
}

async fn database() -> TestDatabase {
    let database = Postgres::shared().database("attic").await;
    fill(&database, "logs", ROWS).await;
    database.execute("CREATE TABLE before AS TABLE logs").await;
    database
}

async fn has_archive(database: &TestDatabase) -> bool {
    database
        .scalar("SELECT to_regclass('attic.logs') IS NOT NULL")
        .await
}

/// Rows of the table and its archive that are not as before, and rows that are in both.
async fn assert_nothing_lost(database: &TestDatabase) {
    let differing: i64 = database
        .scalar(
            "WITH now AS (TABLE logs UNION ALL SELECT id, at, note FROM attic.logs)
             SELECT count(*) FROM ((TABLE now EXCEPT ALL TABLE before) UNION ALL (TABLE before EXCEPT ALL TABLE now)) AS d",
        )
        .await;
    assert_eq!(differing, 0, "rows lost or doubled");
}

#[tokio::test]
async fn a_look_says_what_a_sweep_would_create_and_creates_nothing() {
    let database = database().await;

    let plan = verb(&database, "plan", "Enforce", &[]);
    let json = verb(&database, "plan", "Enforce", &["-o", "json"]);
    let audit = verb(&database, "audit", "Audit", &[]);

    assert_eq!(plan.code, Some(0), "{plan:?}");
    assert!(
        plan.stdout
            .contains("into table attic.logs, which the sweep creates: CREATE SCHEMA"),
        "{plan:?}"
    );
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    let archive = json["rules"][0]["archive"].as_str().unwrap();
    assert!(archive.contains("CREATE TABLE"), "{json}");
    assert_eq!(audit.code, Some(2), "{audit:?}");
    assert!(!has_archive(&database).await);
}

#[tokio::test]
async fn a_sweep_moves_the_rows_and_reports_them_as_archived() {
    let database = database().await;

    let swept = verb(&database, "sweep", "Enforce", &["-o", "json"]);
    let plan = verb(&database, "plan", "Enforce", &[]);

    assert_eq!(swept.code, Some(0), "{swept:?}");
    let status = serde_json::from_str::<Value>(&swept.stdout).unwrap()["status"].clone();
    for rows in [
        &status["lastSweep"]["rowsArchived"],
        &status["lastSweep"]["rowsDeleted"],
        &status["totals"]["rowsArchived"],
        &status["totals"]["rowsDeleted"],
        &status["rules"][0]["rowsArchived"],
    ] {
        assert_eq!(*rows, EXPIRED, "{status}");
    }
    assert!(
        plan.stdout.contains("attic.logs, which is there"),
        "{plan:?}"
    );
    assert_nothing_lost(&database).await;
    let id = status["lastSweep"]["id"].as_str().unwrap();
    let of_it: i64 = database
        .scalar(&format!(
            "SELECT count(*) FROM attic.logs WHERE retention_sweep_id = '{id}'"
        ))
        .await;
    assert_eq!(of_it, EXPIRED);
}

#[tokio::test]
async fn an_archive_that_does_not_fit_refuses_the_rule_with_the_alter_to_run() {
    let database = database().await;
    database
        .execute("CREATE SCHEMA attic; CREATE TABLE attic.logs (id bigint, at timestamptz)")
        .await;

    let swept = verb(&database, "sweep", "Enforce", &[]);
    let audit = verb(&database, "audit", "Audit", &[]);

    assert_eq!(swept.code, Some(1), "{swept:?}");
    for part in [
        "ArchiveMismatch",
        r#"ALTER TABLE "attic"."logs" ADD COLUMN "note" text"#,
    ] {
        assert!(swept.stdout.contains(part), "{swept:?}");
    }
    assert_eq!(audit.code, Some(2), "an audit still counts: {audit:?}");
    let left: i64 = database.scalar("SELECT count(*) FROM logs").await;
    assert_eq!(left, ROWS);
}

#[tokio::test]
async fn after_sigkill_at_random_moments_no_row_is_lost_and_none_is_there_twice() {
    let database = database().await;
    let kills = kills(10);
    let rate = u32::try_from(EXPIRED).unwrap() * 2 / (kills + 2);
    let slow = file("Enforce", Some(slow(rate)));
    let arguments = ["sweep", "-f", slow.to_str().unwrap()];
    let mut moved = Vec::new();
    for _ in 0..kills {
        let mut sweep = Operator::start(&arguments, &[("DATABASE_URL", &database.url)]);
        tokio::time::sleep(Duration::from_micros(fastrand::u64(50_000..500_000))).await;
        sweep.kill9();
        if has_archive(&database).await {
            assert_nothing_lost(&database).await;
            moved.push(
                database
                    .scalar::<i64>("SELECT count(*) FROM attic.logs")
                    .await,
            );
        }
    }

    let last = verb(&database, "sweep", "Enforce", &[]);

    assert_eq!(last.code, Some(0), "{last:?}");
    assert!(
        moved.iter().any(|rows| (1..EXPIRED).contains(rows)),
        "no kill came in the middle: {moved:?}"
    );
    assert_nothing_lost(&database).await;
    let archived: i64 = database
        .scalar("SELECT count(DISTINCT id) FROM attic.logs")
        .await;
    assert_eq!(archived, EXPIRED);
}
