//! Holds of policies that cannot tell of them by an audit: suspended, waiting for a session, or of a version that cannot be read.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::rig::{Rig, SOON, condition, is};
use super::tables::{fill, held_logs, rule, slow};
use crate::support::wait::eventually;

fn database(patch: &Value) -> Value {
    let mut database = json!({"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}});
    for (key, value) in patch.as_object().unwrap() {
        database[key] = value.clone();
    }
    database
}

async fn rows(rig: &Rig) -> i64 {
    rig.database.scalar("SELECT count(*) FROM logs").await
}

/// Waits until the sweep of policy `logs` has taken some rows.
async fn under_way(rig: &Rig) {
    eventually(SOON, "some rows to go", async || {
        let rows = rows(rig).await;
        if rows < 19_500 { Ok(()) } else { Err(rows) }
    })
    .await;
}

/// Waits until the sweep of policy `logs` has stopped, and asserts that it stays so with most rows there.
async fn stopped_for_good(rig: &Rig) -> Value {
    let status = rig
        .status("logs", SOON, "to stop", |it| it["currentSweep"].is_null())
        .await;
    let before = rows(rig).await;
    assert!(before > 12_000, "{before}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rows(rig).await, before);
    status
}

#[rstest]
#[case::its_policy_is_suspended_in_the_same_edit(json!({}), true)]
#[case::its_policy_is_suspended_and_there_is_a_ledger(json!({"ledger": "Auto"}), true)]
#[case::the_sweep_has_the_only_session(json!({"maxConnections": 1}), false)]
#[case::the_sweep_has_the_only_session_and_a_ledger(json!({"maxConnections": 1, "ledger": "Auto"}), false)]
#[tokio::test]
async fn a_hold_stops_a_running_sweep_although_no_audit_tells_of_it(
    #[case] patch: Value,
    #[case] suspended: bool,
) {
    let rig = Rig::start("untold").await;
    fill(&rig.database, "logs", 20_000).await;
    let legal = json!({"database": database(&patch), "rules": []});
    rig.apply("legal", legal.clone()).await;
    rig.apply(
        "logs",
        json!({"mode": "Enforce", "database": database(&patch), "rules": [rule("logs", "logs")], "pace": slow(1_000)}),
    )
    .await;
    for name in ["legal", "logs"] {
        rig.status(name, SOON, "to be audited", |it| is(it, "Ready", "True"))
            .await;
    }
    rig.request_sweep("logs").await;
    under_way(&rig).await;

    let mut held = legal;
    held["suspend"] = json!(suspended);
    held["holds"] = json!([{"name": "all", "table": "logs"}]);
    rig.apply("legal", held).await;

    stopped_for_good(&rig).await;
}

#[tokio::test]
async fn a_hold_of_a_policy_whose_database_nobody_has_seen_binds_where_its_table_is() {
    let rig = Rig::start("unseen").await;
    fill(&rig.database, "logs", 2_000).await;
    let holds = json!([
        {"name": "case", "table": "logs", "where": "id % 10 = 3"},
        {"name": "elsewhere", "table": "a_table_of_another_database"},
    ]);
    rig.apply(
        "legal",
        json!({"suspend": true, "database": database(&json!({})), "rules": [], "holds": holds}),
    )
    .await;
    rig.apply(
        "logs",
        json!({"mode": "Enforce", "database": database(&json!({})), "rules": [rule("logs", "logs")]}),
    )
    .await;
    rig.status("logs", SOON, "to be audited", |it| is(it, "Ready", "True"))
        .await;

    rig.request_sweep("logs").await;
    let swept = rig.swept("logs", None).await;

    let held = held_logs(&rig.database).await;
    assert_eq!(swept["lastSweep"]["outcome"], "Succeeded", "{swept}");
    assert_eq!(rows(&rig).await, 1_160 + held, "{swept}");
}

#[tokio::test]
async fn the_holds_of_a_policy_that_cannot_be_read_any_more_stop_the_rules_on_its_database() {
    let rig = Rig::start("unread").await;
    fill(&rig.database, "logs", 20_000).await;
    rig.apply(
        "legal",
        json!({"rules": [], "holds": [{"name": "case", "table": "logs", "where": "id < 7"}]}),
    )
    .await;
    rig.apply(
        "logs",
        json!({"mode": "Enforce", "rules": [rule("logs", "logs")], "pace": slow(1_000)}),
    )
    .await;
    for name in ["legal", "logs"] {
        rig.status(name, SOON, "to be audited", |it| is(it, "Ready", "True"))
            .await;
    }
    rig.request_sweep("logs").await;
    under_way(&rig).await;

    // The API server takes an offset that no clock has, and the operator does not: as with anything of a newer version.
    let odd = json!({"status": {"lastAuditTime": "2026-11-22T00:00:00+99:99"}}).to_string();
    rig.plane.kubectl_ok(&[
        "--namespace",
        &rig.namespace,
        "patch",
        "retentionpolicies",
        "legal",
        "--subresource=status",
        "--type=merge",
        "--patch",
        &odd,
    ]);
    rig.event("legal InvalidObject").await;
    stopped_for_good(&rig).await;
    let now = jiff::Timestamp::now().to_string();
    rig.annotate("logs", "audit-requested-at", &now).await;

    let status = rig
        .status("logs", SOON, "to name what stops it", |it| {
            it["rules"][0]["reason"] == "HoldUnresolved"
        })
        .await;
    let (_, _, why) = condition(&status, "Ready").unwrap();
    assert!(
        why.contains(&format!("policy {}/legal", rig.namespace)),
        "{why}"
    );
}
