//! Two policies on one database: whose a table is, and what binds the other.

use rstest::rstest;
use serde_json::{Value, json};

use super::{database, held, holder, report, rows, sweep, verb};
use crate::operator::tables::rule;
use crate::support::postgres::Postgres;

#[tokio::test]
async fn a_second_policy_does_not_get_a_table_that_a_first_one_has() {
    let database = database().await;
    database
        .execute(
            "CREATE TABLE parts (at timestamptz) PARTITION BY RANGE (at); CREATE TABLE part PARTITION OF parts DEFAULT;
             INSERT INTO parts SELECT now() - interval '90 days' FROM generate_series(1, 10)",
        )
        .await;
    let both = json!({"rules": [rule("logs", "logs"), rule("parts", "parts")]});
    assert_eq!(sweep(&database, "first", both, &[]).code, Some(0));
    database
        .execute("INSERT INTO parts SELECT now() - interval '90 days' FROM generate_series(1, 10)")
        .await;
    let mine = json!({"rules": [rule("mine", "logs"), rule("part", "part")]});

    let swept = sweep(&database, "second", mine.clone(), &["-o", "json"]);
    let audited = verb(&database.url, "audit", "second", mine.clone(), &[]);
    let planned = verb(&database.url, "plan", "second", mine.clone(), &[]);

    assert_eq!(swept.code, Some(1), "{swept:?}");
    for rule in report(&swept)["status"]["rules"].as_array().unwrap() {
        assert_eq!(rule["reason"], "TableClaimed", "{rule}");
        assert!(
            rule["message"].as_str().unwrap().contains("shop/first"),
            "{rule}"
        );
    }
    assert!(audited.stdout.contains("TableClaimed"), "{audited:?}");
    assert!(planned.stdout.contains("TableClaimed"), "{planned:?}");
    let left: i64 = database.scalar("SELECT count(*) FROM parts").await;
    assert_eq!(left, 10);

    // The first one gives the table back.
    let other = json!({"rules": [rule("parts", "parts")]});
    assert_eq!(sweep(&database, "first", other, &[]).code, Some(0));
    let mine = json!({"rules": [rule("mine", "logs")]});
    assert_eq!(sweep(&database, "second", mine, &[]).code, Some(0));
}

#[tokio::test]
async fn a_hold_of_one_policy_binds_the_rules_of_another() {
    let database = database().await;
    let held_rows =
        "SELECT count(*) FROM logs WHERE id % 10 = 3 AND at < now() - interval '30 days'";
    let before: i64 = database.scalar(held_rows).await;
    assert_eq!(holder(&database, held("id % 10 = 3")).await.code, Some(0));

    let swept = sweep(&database, "logs", json!({}), &["-o", "json"]);

    assert_eq!(swept.code, Some(0), "{swept:?}");
    let after: i64 = database.scalar(held_rows).await;
    assert!(before > 500 && before == after, "{before} {after}");
    assert_eq!(rows(&database).await, 20_000 - 8_400 + before);
}

#[tokio::test]
async fn a_hold_that_was_removed_needs_an_approval() {
    let database = database().await;
    holder(&database, held("id % 10 = 3")).await;
    sweep(&database, "logs", json!({}), &[]);
    let kept = rows(&database).await;
    holder(&database, json!([])).await;

    let planned = verb(&database.url, "plan", "logs", json!({}), &["-o", "json"]);
    let blocked = sweep(&database, "logs", json!({}), &["-o", "json"]);

    assert_eq!(planned.code, Some(3), "{planned:?}");
    assert_eq!(blocked.code, Some(3), "{blocked:?}");
    assert_eq!(rows(&database).await, kept);
    let message = report(&blocked)["status"]["lastSweep"]["message"].clone();
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("case-4711 of policy shop/holder was removed"),
        "{message}"
    );

    let hash = report(&blocked)["planHash"].as_str().unwrap().to_owned();
    let approved = sweep(&database, "logs", json!({}), &["--approve", &hash]);
    assert_eq!(approved.code, Some(0), "{approved:?}");
    assert_eq!(rows(&database).await, 20_000 - 8_400);
    let recorded: String = database
        .scalar(
            "SELECT string_agg(plan_hash || ' ' || policy, ',') FROM retention_operator.approval",
        )
        .await;
    assert_eq!(recorded, format!("{hash} shop/logs"));
    let after = sweep(&database, "logs", json!({}), &[]);
    assert_eq!(after.code, Some(0), "the question was answered: {after:?}");
}

#[tokio::test]
async fn an_approval_of_before_a_hold_was_removed_does_not_let_its_rows_go() {
    let database = database().await;
    holder(&database, held("id % 10 = 3")).await;
    let mut logs = rule("logs", "logs");
    logs["limits"] = json!({"maxRows": 100});
    let spec = json!({"rules": [logs]});
    let limited = sweep(&database, "logs", spec.clone(), &["-o", "json"]);
    let before = report(&limited)["planHash"].as_str().unwrap().to_owned();
    holder(&database, json!([])).await;

    let refused = sweep(&database, "logs", spec.clone(), &["--approve", &before]);

    assert_eq!(limited.code, Some(3), "{limited:?}");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("is not the plan that is blocked now"),
        "{refused:?}"
    );
    assert_eq!(rows(&database).await, 20_000);
    let planned = verb(&database.url, "plan", "logs", spec.clone(), &["-o", "json"]);
    let now = report(&planned)["planHash"].as_str().unwrap().to_owned();
    let approved = sweep(&database, "logs", spec, &["--approve", &now]);
    assert_eq!(approved.code, Some(0), "{approved:?}");
    assert_eq!(rows(&database).await, 20_000 - 8_400);
}

#[rstest]
#[case::whole_table(json!([{"name": "all", "table": "logs"}]), 0, "")]
#[case::dropped_table(json!([{"name": "lost", "table": "other"}]), 1, "hold lost of policy shop/holder: table other does not exist")]
#[tokio::test]
async fn what_another_policy_holds_is_never_guessed(
    #[case] holds: Value,
    #[case] code: i32,
    #[case] says: &str,
) {
    let database = database().await;
    holder(&database, holds).await;
    database.execute("DROP TABLE other").await;

    let swept = sweep(&database, "logs", json!({}), &[]);

    assert_eq!(rows(&database).await, 20_000, "{swept:?}");
    assert_eq!(swept.code, Some(code), "{swept:?}");
    assert!(swept.stdout.contains(says), "{swept:?}");
}

#[tokio::test]
async fn a_hold_of_another_policy_binds_what_would_go_along() {
    let database = database().await;
    database
        .execute(
            "CREATE TABLE child (log bigint REFERENCES logs ON DELETE CASCADE, name text); CREATE INDEX ON child (log);
             INSERT INTO child SELECT id, 'held' FROM logs WHERE at < now() - interval '31 days' ORDER BY id LIMIT 10; ANALYZE child",
        )
        .await;
    let holds = json!([{"name": "case", "table": "child", "where": "name = 'held'"}]);
    holder(&database, holds).await;
    let mut logs = rule("logs", "logs");
    logs["dependents"] = json!("Cascade");
    let spec = json!({"rules": [logs]});

    let swept = sweep(&database, "logs", spec.clone(), &[]);
    let kept = rows(&database).await;
    holder(&database, json!([])).await;
    let blocked = sweep(&database, "logs", spec, &[]);

    assert_eq!(kept, 11_600 + 10, "{swept:?}");
    assert_eq!(blocked.code, Some(3), "the hold was removed: {blocked:?}");
}

/// A chunk whose rows come back in part, as one of them cannot be set, is entered with what went in the end.
#[tokio::test]
async fn the_ledger_counts_rows_that_go_along_once_where_some_came_back_first() {
    let database = Postgres::shared().database("halves").await;
    database
        .execute(
            "CREATE TABLE logs (id int PRIMARY KEY, at timestamptz); INSERT INTO logs SELECT n, now() - interval '90 days' FROM generate_series(1, 500) n;
             CREATE TABLE item (log int REFERENCES logs ON DELETE CASCADE); INSERT INTO item SELECT id FROM logs, generate_series(1, 3);
             CREATE INDEX ON item (log);
             CREATE TABLE child (log int UNIQUE REFERENCES logs ON DELETE SET NULL); INSERT INTO child SELECT id FROM logs;
             CREATE TABLE stone (child int REFERENCES child (log)); INSERT INTO stone VALUES (7), (250)",
        )
        .await;
    let mut logs = rule("logs", "logs");
    logs["dependents"] = json!("Cascade");

    let ended = sweep(&database, "shop", json!({"rules": [logs]}), &["-o", "json"]);

    let status = &report(&ended)["status"]["lastSweep"];
    assert_eq!(status["rowsDeleted"], 4 * 498, "{ended:?}");
    let entered: i64 = database
        .scalar("SELECT sum(rows_deleted)::int8 FROM retention_operator.sweep_rule")
        .await;
    let left: i64 = database.scalar("SELECT count(*) FROM item").await;
    assert_eq!((entered, left), (4 * 498, 6));
}
