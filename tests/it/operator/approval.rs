//! An approval lets one plan go on: once, on the tables and the database that were asked about, and at the time of the answer.

use serde_json::{Value, json};

use super::rig::{Rig, SOON};
use super::tables::{fill, rule};
use crate::support::postgres::{Postgres, TestDatabase};

/// 20,000 rows, of which 8,400 have expired.
const ROWS: i64 = 20_000;

async fn count(database: &TestDatabase) -> i64 {
    database.scalar("SELECT count(*) FROM logs").await
}

fn spec() -> Value {
    let mut logs = rule("logs", "logs");
    logs["limits"] = json!({"maxRows": 100});
    json!({"mode": "Enforce", "rules": [logs]})
}

/// A policy whose sweep is blocked, and the status that asks. Nobody looks at the database any more.
async fn blocked(prefix: &str) -> (Rig, Value) {
    let rig = Rig::start(prefix).await;
    fill(&rig.database, "logs", ROWS).await;
    rig.apply("logs", spec()).await;
    rig.request_sweep("logs").await;
    let status = rig.swept("logs", None).await;
    assert_eq!(status["lastSweep"]["outcome"], "Blocked", "{status}");
    rig.status("logs", SOON, "to be audited", |it| {
        it["rules"][0]["tableId"].is_number()
    })
    .await;
    rig.disconnected().await;
    (rig, status)
}

fn asked(status: &Value) -> String {
    let hash = status["pendingApproval"]["planHash"].as_str();
    hash.unwrap_or_else(|| panic!("{status}")).to_owned()
}

fn last(status: &Value) -> Option<&str> {
    status["lastSweep"]["id"].as_str()
}

#[tokio::test]
async fn an_approval_is_good_once() {
    let (rig, status) = blocked("approved-once").await;
    let hash = asked(&status);
    rig.annotate("logs", "approved-plan", &hash).await;
    let done = rig.swept("logs", last(&status)).await;
    assert_eq!(done["lastSweep"]["rowsDeleted"], 8400, "{done}");

    // As many rows as before expire, and the annotation is still there.
    rig.database
        .execute(
            "INSERT INTO logs SELECT -n, now() - interval '40 days', 'more' FROM generate_series(1, 8400) AS n; ANALYZE logs",
        )
        .await;
    rig.request_sweep("logs").await;
    let again = rig.swept("logs", last(&done)).await;

    assert_eq!(again["lastSweep"]["outcome"], "Blocked", "{again}");
    assert_eq!(again["pendingApproval"]["rules"][0]["rows"], 8400);
    assert_ne!(asked(&again), hash, "it is another question");
    rig.disconnected().await;
    assert_eq!(count(&rig.database).await, ROWS);
}

#[tokio::test]
async fn an_approval_is_not_one_of_a_table_that_was_made_anew_under_the_name() {
    let (rig, status) = blocked("approved-anew").await;
    rig.database.execute("DROP TABLE logs").await;
    fill(&rig.database, "logs", ROWS).await;

    rig.annotate("logs", "approved-plan", &asked(&status)).await;
    let swept = rig.swept("logs", last(&status)).await;

    assert_eq!(swept["lastSweep"]["outcome"], "Blocked", "{swept}");
    assert_ne!(asked(&swept), asked(&status));
    assert_eq!(count(&rig.database).await, ROWS);
}

#[tokio::test]
async fn an_approval_does_not_follow_the_secret_to_another_database() {
    let (rig, status) = blocked("approved-moved").await;
    let other = Postgres::shared().database("approval_other").await;
    fill(&other, "logs", ROWS).await;
    rig.secret("db", &[("url", &other.url)]).await;

    rig.annotate("logs", "approved-plan", &asked(&status)).await;
    let swept = rig.swept("logs", last(&status)).await;

    let sweep = &swept["lastSweep"];
    assert_eq!(sweep["outcome"], "Skipped", "{sweep}");
    let message = sweep["message"].as_str().unwrap_or_default();
    assert!(message.contains("belongs to database"), "{message}");
    assert!(swept["unfinishedSweep"].is_null(), "{swept}");
    assert_eq!(
        (count(&rig.database).await, count(&other).await),
        (ROWS, ROWS)
    );
}

#[tokio::test]
async fn an_approval_of_a_suspended_policy_is_refused_and_not_kept_for_later() {
    let (rig, status) = blocked("approved-late").await;
    let hash = asked(&status);
    rig.patch("logs", json!({"spec": {"suspend": true}})).await;

    rig.annotate("logs", "approved-plan", &hash).await;
    rig.event("logs RequestRefused: retention-operator.io/approved-plan is not acted on: the policy is suspended")
        .await;
    rig.patch("logs", json!({"spec": {"suspend": false}})).await;
    let anew = rig
        .status("logs", SOON, "to ask anew", |it| {
            let asked = it["pendingApproval"]["planHash"].as_str();
            asked.is_some_and(|asked| asked != hash)
        })
        .await;
    assert_eq!(count(&rig.database).await, ROWS);

    rig.annotate("logs", "approved-plan", &asked(&anew)).await;
    let done = rig.swept("logs", last(&status)).await;
    assert_eq!(done["lastSweep"]["rowsDeleted"], 8400, "{done}");
}

#[tokio::test]
async fn an_approval_outlasts_a_login_that_is_refused_for_a_while() {
    let (rig, status) = blocked("approved-login").await;
    let wrong = rig
        .database
        .url
        .replace("postgres:postgres@", "postgres:wrong@");
    assert_ne!(wrong, rig.database.url);
    rig.secret("db", &[("url", &wrong)]).await;
    rig.annotate("logs", "approved-plan", &asked(&status)).await;
    let failed = rig.swept("logs", last(&status)).await;
    assert_eq!(failed["lastSweep"]["outcome"], "Failed", "{failed}");
    assert!(failed["unfinishedSweep"].is_object(), "{failed}");

    rig.secret("db", &[("url", &rig.database.url)]).await;
    let done = rig
        .status("logs", super::rig::LATER, "to be swept as approved", |it| {
            it["lastSweep"]["rowsDeleted"] == 8400
        })
        .await;

    assert_eq!(done["lastSweep"]["id"], failed["lastSweep"]["id"]);
    assert_eq!(count(&rig.database).await, ROWS - 8400);
}

#[tokio::test]
async fn an_approval_of_nothing_is_said() {
    let (rig, status) = blocked("approved-nothing").await;

    rig.annotate("logs", "approved-plan", "0123456789abcdef-8400")
        .await;

    let note = format!(
        "logs RequestRefused: retention-operator.io/approved-plan is not acted on: \"0123456789abcdef-8400\" names no plan that waits for it; status.pendingApproval.planHash is {}",
        asked(&status)
    );
    rig.event(&note).await;
    assert_eq!(count(&rig.database).await, ROWS);
}
