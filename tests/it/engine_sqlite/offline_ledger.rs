//! The ledger as the offline verbs use it on SQLite: what needs it, two policies on one file, a killed sweep, the switch.

use std::fs;
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::Database;
use super::offline::{database, file, rows, rule, verb, with};
use crate::support::operator::{Ended, Operator};
use crate::support::wait::eventually;

fn said(ended: &Ended) -> String {
    format!("{}{}", ended.stdout, ended.stderr)
}

async fn has_ledger(database: &Database) -> bool {
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'retention_operator%'";
    database.scalar(tables).await > 0
}

/// The same policy under another name.
fn other(spec: &Value) -> String {
    let file = file(spec.clone());
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replace(
            r#""name":"logs","namespace""#,
            r#""name":"other","namespace""#,
        ),
    )
    .unwrap();
    file.to_str().unwrap().to_owned()
}

#[rstest]
#[case::existing_by_default(json!({"secretRef": {"name": "db"}}))]
#[case::existing(json!({"secretRef": {"name": "db"}, "ledger": "Existing"}))]
#[case::off(json!({"secretRef": {"name": "db"}, "ledger": "Off"}))]
#[tokio::test]
async fn a_sweep_without_a_ledger_is_refused_with_what_to_write(#[case] settings: Value) {
    let database = database().await;
    let before = fs::read(&database.path).unwrap();

    let ended = verb(&database.url(), "sweep", json!({"database": settings}), &[]);

    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(said(&ended).contains("LedgerRequired"), "{ended:?}");
    assert!(said(&ended).contains("Auto"), "{ended:?}");
    assert_eq!(fs::read(&database.path).unwrap(), before);
}

#[tokio::test]
async fn an_audit_policy_needs_none() {
    let database = database().await;
    let spec = json!({"mode": "Audit", "database": {"secretRef": {"name": "db"}}});

    let ended = verb(&database.url(), "audit", spec, &[]);

    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn audit_and_plan_make_none_and_the_sweep_does() {
    let database = database().await;

    let audit = verb(&database.url(), "audit", json!({}), &[]);
    let plan = verb(&database.url(), "plan", json!({}), &[]);
    let before = has_ledger(&database).await;
    let sweep = verb(&database.url(), "sweep", json!({}), &["-o", "json"]);
    let existing = json!({"database": {"secretRef": {"name": "db"}}});
    let again = verb(&database.url(), "sweep", existing, &["-o", "json"]);

    assert_eq!((audit.code, plan.code), (Some(0), Some(0)), "{plan:?}");
    assert!(!before);
    assert_eq!(sweep.code, Some(0), "{sweep:?}");
    assert_eq!(again.code, Some(0), "{again:?}");
    let report: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(report["status"]["totals"]["rowsDeleted"], 10_000);
    assert_eq!(report["status"]["lastSweep"]["rowsDeleted"], 0);
}

#[tokio::test]
async fn a_second_policy_does_not_get_a_table_that_a_first_one_has() {
    let database = database().await;
    let spec = with(json!({"where": "id <= 100"}));
    let first = verb(&database.url(), "sweep", spec.clone(), &[]);

    let second =
        crate::support::operator::offline(&database.url(), &["sweep", "-f", &other(&json!({}))]);

    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(said(&second).contains("TableClaimed"), "{second:?}");
    assert!(said(&second).contains("shop/logs"), "{second:?}");
    assert_eq!(rows(&database).await, 19_950);
}

#[tokio::test]
async fn a_hold_of_one_policy_binds_the_rules_of_another_and_its_removal_needs_an_approval() {
    let database = database().await;
    database.execute(&super::filled("more", 10)).await;
    let on_more = |holds: Value| {
        let mut rule = rule();
        rule["table"] = json!("more");
        json!({"rules": [rule], "holds": holds})
    };
    let held = json!([{"name": "case", "table": "logs", "where": "id <= 100"}]);
    let holder = |spec: &Value| {
        crate::support::operator::offline(&database.url(), &["sweep", "-f", &other(spec)])
    };
    assert_eq!(holder(&on_more(held)).code, Some(0));

    let bound = verb(&database.url(), "sweep", json!({}), &[]);
    let after_bound = rows(&database).await;
    assert_eq!(holder(&on_more(json!([]))).code, Some(0));
    let blocked = verb(&database.url(), "sweep", json!({}), &["-o", "json"]);
    let report: Value = serde_json::from_str(&blocked.stdout).unwrap();
    let hash = report["planHash"].as_str().unwrap();
    let approved = verb(&database.url(), "sweep", json!({}), &["--approve", hash]);

    assert_eq!(bound.code, Some(0), "{bound:?}");
    assert_eq!(after_bound, 10_050);
    assert_eq!(blocked.code, Some(3), "{blocked:?}");
    assert_eq!(approved.code, Some(0), "{approved:?}");
    assert_eq!(rows(&database).await, 10_000);
    let approvals = "SELECT count(*) FROM retention_operator_approval";
    assert_eq!(database.scalar(approvals).await, 1);
}

#[tokio::test]
async fn a_paused_database_is_not_swept() {
    let database = database().await;
    verb(
        &database.url(),
        "sweep",
        with(json!({"where": "id = 2"})),
        &[],
    );
    database
        .execute("UPDATE retention_operator_control SET paused = true, reason = 'month end'")
        .await;

    let paused = verb(&database.url(), "sweep", json!({}), &[]);

    assert_ne!(paused.code, Some(0), "{paused:?}");
    assert!(said(&paused).contains("month end"), "{paused:?}");
    assert_eq!(rows(&database).await, 19_999);
}

#[tokio::test]
async fn limits_hold_over_a_sigkill() {
    let database = Database::new(&super::filled("logs", 200_000)).await;
    let mut spec = with(json!({"limits": {"maxRows": 100_000, "maxPercent": 100}}));
    spec["pace"] = json!({"maxDuty": 5});
    let file = file(spec.clone());
    let arguments = ["sweep", "-f", file.to_str().unwrap()];
    let mut sweep = Operator::start(&arguments, &[("DATABASE_URL", &database.url())]);
    let taken = "SELECT coalesce(sum(rows_deleted), 0) FROM retention_operator_sweep_rule";
    eventually(Duration::from_secs(30), "some rows to go", async || {
        let mut own = database.connect().await;
        let rows: Result<i64, sqlx::Error> = sqlx::query_scalar(taken).fetch_one(&mut own).await;
        match rows {
            Ok(rows) if rows > 0 => Ok(()),
            other => Err((other, sweep.stderr())),
        }
    })
    .await;
    sweep.kill9();
    // Fewer rows than the limit are left; together with those that are gone they are more.
    database
        .execute(
            "UPDATE retention_operator_lease SET beat = '2024-01-01T00:00:00.000Z';
             INSERT INTO logs (at) SELECT 5 FROM logs LIMIT 1000",
        )
        .await;
    let before = database.scalar(taken).await;

    let again = verb(&database.url(), "sweep", spec, &[]);

    assert_eq!(again.code, Some(3), "{again:?}");
    assert!(again.stderr.contains("going on with sweep"), "{again:?}");
    assert_eq!(database.scalar(taken).await, before);
    assert_eq!(201_000 - rows(&database).await, before);
}

#[tokio::test]
async fn grants_says_that_there_are_none() {
    let database = database().await;

    for more in [&[][..], &["--revoke"]] {
        let ended = verb(&database.url(), "grants", json!({}), more);

        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
        assert!(
            ended.stdout.starts_with("-- SQLite has no roles"),
            "{ended:?}"
        );
    }
}
