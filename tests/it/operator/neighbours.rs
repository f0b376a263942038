//! Several policies on one database: whose table it is, and whose holds bind whom.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::rig::{LATER, Rig, SOON, condition, is};
use super::tables::{fill, held_logs, rule, slow};
use crate::support::wait::eventually;

fn database(ledger: &str) -> Value {
    json!({"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}, "ledger": ledger})
}

fn enforced(ledger: &str, name: &str) -> Value {
    json!({"mode": "Enforce", "database": database(ledger), "rules": [rule(name, "logs")], "audit": {"interval": "1m"}})
}

async fn rows(rig: &Rig) -> i64 {
    rig.database.scalar("SELECT count(*) FROM logs").await
}

fn refused(status: &Value) -> Option<&str> {
    status["rules"][0]["reason"].as_str()
}

#[rstest]
#[case::by_the_ledger("Auto")]
#[case::by_the_watch("Existing")]
#[tokio::test]
async fn of_two_policies_on_one_table_the_first_owns_it_and_its_end_frees_it(#[case] ledger: &str) {
    let rig = Rig::start("claims").await;
    fill(&rig.database, "logs", 2_000).await;
    rig.apply("first", enforced(ledger, "one")).await;
    rig.status("first", SOON, "to be audited", |it| is(it, "Ready", "True"))
        .await;
    // The creation has whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    rig.apply("second", enforced(ledger, "two")).await;

    let second = rig
        .status("second", SOON, "to be refused", |it| {
            refused(it) == Some("TableClaimed")
        })
        .await;
    rig.request_sweep("second").await;
    rig.event("SweepSkipped").await;

    let owner = format!("{}/first", rig.namespace);
    let message = second["rules"][0]["message"].as_str().unwrap();
    assert!(message.contains(&owner), "{message}");
    assert!(is(&second, "Stalled", "True"), "{second}");
    assert_eq!(rows(&rig).await, 2_000);
    rig.request_sweep("first").await;
    rig.swept("first", None).await;
    assert_eq!(rows(&rig).await, 1_160);

    rig.delete("first").await;
    let now = jiff::Timestamp::now().to_string();
    rig.annotate("second", "audit-requested-at", &now).await;
    rig.status("second", LATER, "to have the table", |it| {
        is(it, "Ready", "True")
    })
    .await;
}

#[rstest]
#[case::by_the_ledger("Auto", true)]
#[case::by_the_watch("Existing", false)]
#[tokio::test]
async fn a_hold_of_one_policy_binds_the_others_and_outlives_it_in_the_ledger(
    #[case] ledger: &str,
    #[case] outlives: bool,
) {
    let rig = Rig::start("holds").await;
    fill(&rig.database, "logs", 2_000).await;
    let holds =
        json!([{"name": "case", "table": "logs", "where": "id % 10 = 3", "reason": "litigation"}]);
    rig.apply(
        "legal",
        json!({"database": database(ledger), "rules": [], "holds": holds}),
    )
    .await;
    rig.status("legal", SOON, "to be audited", |it| is(it, "Ready", "True"))
        .await;
    rig.apply("logs", enforced(ledger, "logs")).await;
    rig.status("logs", SOON, "to be audited", |it| is(it, "Ready", "True"))
        .await;

    rig.request_sweep("logs").await;
    let swept = rig.swept("logs", None).await;

    let held = held_logs(&rig.database).await;
    assert_eq!(rows(&rig).await, 1_160 + held, "{swept}");

    if outlives {
        rig.delete("legal").await;
        let id = swept["lastSweep"]["id"].as_str().unwrap();
        rig.request_sweep("logs").await;
        let blocked = rig.swept("logs", Some(id)).await;
        assert_eq!(blocked["lastSweep"]["outcome"], "Blocked", "{blocked}");
        assert_eq!(rows(&rig).await, 1_160 + held);
        let (_, _, why) = condition(&blocked, "ApprovalRequired").unwrap();
        assert!(why.contains("hold case of policy"), "{why}");
        let hash = blocked["pendingApproval"]["planHash"].as_str().unwrap();
        let id = blocked["lastSweep"]["id"].as_str().unwrap();
        rig.annotate("logs", "approved-plan", hash).await;
        let approved = rig.swept("logs", Some(id)).await;
        assert_eq!(approved["lastSweep"]["outcome"], "Succeeded", "{approved}");
        assert_eq!(rows(&rig).await, 1_160);
        let recorded: String = rig
            .database
            .scalar("SELECT plan_hash FROM retention_operator.approval")
            .await;
        assert_eq!(recorded, hash);
    }
}

#[rstest]
#[case::by_the_ledger("Auto")]
#[case::by_the_watch("Existing")]
#[tokio::test]
async fn a_hold_that_another_policy_places_under_way_binds_the_running_sweep(#[case] ledger: &str) {
    let rig = Rig::start("under-way").await;
    fill(&rig.database, "logs", 20_000).await;
    let mut spec = enforced(ledger, "logs");
    spec["pace"] = slow(1_000);
    rig.apply("logs", spec).await;
    rig.status("logs", SOON, "to be audited", |it| is(it, "Ready", "True"))
        .await;
    rig.request_sweep("logs").await;
    eventually(SOON, "some rows to go", async || {
        let rows = rows(&rig).await;
        if rows < 19_500 { Ok(()) } else { Err(rows) }
    })
    .await;

    let holds = json!([{"name": "all", "table": "logs"}]);
    rig.apply(
        "legal",
        json!({"database": database(ledger), "rules": [], "holds": holds}),
    )
    .await;
    rig.status("legal", SOON, "to be audited", |it| is(it, "Ready", "True"))
        .await;
    rig.status("logs", SOON, "to stop", |it| it["currentSweep"].is_null())
        .await;

    let before = rows(&rig).await;
    assert!(before > 12_000, "{before}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rows(&rig).await, before);
}

#[tokio::test]
async fn a_paused_database_makes_a_running_sweep_wait_and_says_so() {
    let rig = Rig::start("paused").await;
    fill(&rig.database, "logs", 20_000).await;
    let mut spec = enforced("Auto", "logs");
    spec["pace"] = slow(2_000);
    rig.apply("logs", spec).await;
    rig.status("logs", SOON, "to be audited", |it| is(it, "Ready", "True"))
        .await;
    rig.request_sweep("logs").await;
    eventually(SOON, "some rows to go", async || {
        let rows = rows(&rig).await;
        if rows < 19_500 { Ok(()) } else { Err(rows) }
    })
    .await;

    rig.database
        .execute("UPDATE retention_operator.control SET paused = true, reason = 'black friday'")
        .await;
    rig.status("logs", SOON, "to wait", |it| {
        it["currentSweep"]["throttledBy"] == "Paused"
    })
    .await;
    assert!(rows(&rig).await > 11_600);
    rig.database
        .execute("UPDATE retention_operator.control SET paused = false")
        .await;
    let swept = rig.swept("logs", None).await;

    assert_eq!(swept["lastSweep"]["outcome"], "Succeeded", "{swept}");
    assert_eq!(rows(&rig).await, 11_600);
}

#[tokio::test]
async fn totals_survive_the_policy_and_a_sigkill_leaves_nothing_unknown() {
    let mut rig = Rig::start("totals").await;
    fill(&rig.database, "logs", 20_000).await;
    let mut spec = enforced("Auto", "logs");
    spec["pace"] = slow(2_000);
    rig.apply("logs", spec.clone()).await;
    rig.status("logs", SOON, "to be audited", |it| is(it, "Ready", "True"))
        .await;
    rig.request_sweep("logs").await;
    eventually(SOON, "some rows to go", async || {
        let rows = rows(&rig).await;
        if rows < 19_000 { Ok(()) } else { Err(rows) }
    })
    .await;

    rig.kill_and_restart();
    let swept = rig.swept("logs", None).await;

    let gone = 20_000 - rows(&rig).await;
    assert_eq!(gone, 8_400);
    assert_eq!(swept["lastSweep"]["rowsDeleted"], gone, "{swept}");
    assert_eq!(swept["totals"]["rowsDeleted"], gone, "{swept}");
    assert_eq!(swept["rules"][0]["rowsDeleted"], gone, "{swept}");
    rig.delete("logs").await;
    rig.apply("logs", spec).await;
    let anew = rig
        .status("logs", SOON, "to be audited", |it| is(it, "Ready", "True"))
        .await;
    assert_eq!(anew["totals"]["rowsDeleted"], gone, "{anew}");
}
