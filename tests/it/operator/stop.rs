//! What stops a running sweep: at its next chunk, with everything that it did accounted for.

use serde_json::{Value, json};

use super::rig::{LATER, Rig, SOON, condition, is};
use super::tables::{Reference, fill, rule, slow};
use crate::support::wait::eventually;

const ROWS: i64 = 20_000;
const EXPIRED: i64 = 8400;

async fn rows(rig: &Rig) -> i64 {
    rig.database.scalar("SELECT count(*) FROM logs").await
}

fn spec(rows_per_second: u32) -> Value {
    json!({"mode": "Enforce", "pace": slow(rows_per_second), "rules": [rule("logs", "logs")]})
}

/// An operator that is in the middle of a slow sweep, the sweep's id, and a copy of its table.
async fn sweeping(prefix: &str) -> (Rig, String, Reference) {
    let rig = Rig::start(prefix).await;
    fill(&rig.database, "logs", ROWS).await;
    let reference = Reference::of(&rig.database, "logs").await;
    rig.apply("logs", spec(500)).await;
    rig.request_sweep("logs").await;
    rig.status("logs", SOON, "to sweep", |it| is(it, "Sweeping", "True"))
        .await;
    eventually(SOON, "some rows to be gone", async || {
        let rows = rows(&rig).await;
        if rows < ROWS - 200 { Ok(()) } else { Err(rows) }
    })
    .await;
    let current = rig
        .status("logs", SOON, "the sweep's id", |it| {
            it["currentSweep"]["id"].is_string()
        })
        .await;
    let id = current["currentSweep"]["id"].as_str().unwrap().to_owned();
    (rig, id, reference)
}

/// Waits for the stop, and asserts that the status knows of every row that is gone. Returns the status.
async fn stopped(rig: &Rig, id: &str, why: &str) -> Value {
    let status = rig
        .status("logs", SOON, "to stop", |it| {
            it["lastSweep"]["id"] == id && it["currentSweep"].is_null()
        })
        .await;
    rig.disconnected().await;
    let gone = ROWS - rows(rig).await;
    let sweep = &status["lastSweep"];
    assert!((200..EXPIRED).contains(&gone), "{gone}");
    assert_eq!(sweep["rowsDeleted"], gone);
    assert_eq!(status["totals"]["rowsDeleted"], gone);
    assert_eq!(sweep["outcome"], "Partial");
    assert!(sweep["message"].as_str().unwrap().contains(why), "{sweep}");
    assert_eq!(status["unfinishedSweep"]["id"], id);
    assert!(condition(&status, "Sweeping").is_none());
    status
}

/// Waits for the end of the resumed sweep, and asserts that it was the same one and took exactly the expired rows.
async fn completed(rig: &Rig, id: &str, reference: &Reference) {
    let status = rig
        .status("logs", LATER, "to complete", |it| {
            it["lastSweep"]["outcome"] == "Succeeded"
        })
        .await;
    assert_eq!(status["lastSweep"]["id"], id);
    let cutoff = status["rules"][0]["cutoff"].as_str().unwrap();
    let expired = reference.delete(&format!("at < '{cutoff}'")).await;
    reference.assert_equal().await;
    assert_eq!(status["lastSweep"]["rowsDeleted"], expired);
    assert_eq!(status["totals"]["rowsDeleted"], expired);
    assert!(status["unfinishedSweep"].is_null());
}

#[tokio::test]
async fn suspending_stops_it_until_the_policy_goes_on() {
    let (rig, id, reference) = sweeping("suspend").await;

    let mut suspended = spec(500);
    suspended["suspend"] = json!(true);
    rig.apply("logs", suspended).await;
    stopped(&rig, &id, "the policy was suspended").await;
    let status = rig
        .status("logs", SOON, "to be suspended", |it| {
            it["observedGeneration"] == 2
                && condition(it, "Ready").is_some_and(|it| it.1 == "Suspended")
        })
        .await;
    assert!(is(&status, "Ready", "True"));
    let left = rows(&rig).await;
    rig.request_sweep("logs").await;
    rig.event("RequestRefused: retention-operator.io/sweep-requested-at is not acted on: the policy is suspended")
        .await;
    rig.annotate(
        "logs",
        "audit-requested-at",
        &jiff::Timestamp::now().to_string(),
    )
    .await;
    rig.event("RequestRefused: retention-operator.io/audit-requested-at is not acted on: the policy is suspended")
        .await;
    assert_eq!(rows(&rig).await, left);

    rig.apply("logs", spec(20_000)).await;
    completed(&rig, &id, &reference).await;
}

#[tokio::test]
async fn a_changed_spec_takes_over_at_the_next_chunk() {
    let (rig, id, _) = sweeping("change").await;

    // Another pace, and fewer rows: what was expired only under the old spec stays.
    let mut changed = spec(20_000);
    changed["rules"][0]["where"] = json!("id % 2 = 0");
    rig.apply("logs", changed).await;
    let status = rig
        .status("logs", LATER, "to complete", |it| {
            it["observedGeneration"] == 2 && it["lastSweep"]["outcome"] == "Succeeded"
        })
        .await;

    assert_eq!(status["lastSweep"]["id"], id.as_str());
    let odd: i64 = rig
        .database
        .scalar("SELECT count(*) FROM logs WHERE at < now() - interval '30 days' AND id % 2 = 1")
        .await;
    let even: i64 = rig
        .database
        .scalar("SELECT count(*) FROM logs WHERE at < now() - interval '30 days' AND id % 2 = 0")
        .await;
    assert!((1..4200).contains(&odd), "{odd}");
    assert_eq!(even, 0);
    assert_eq!(status["lastSweep"]["rowsDeleted"], ROWS - rows(&rig).await);
    assert_eq!(status["totals"]["rowsDeleted"], ROWS - rows(&rig).await);
    let survivors: i64 = rig
        .database
        .scalar("SELECT count(*) FROM logs WHERE at >= now() - interval '30 days'")
        .await;
    assert!(
        (ROWS - EXPIRED - 1..=ROWS - EXPIRED).contains(&survivors),
        "{survivors}"
    );
    rig.event("SweepResumed").await;
}

#[tokio::test]
async fn deleting_the_policy_ends_it() {
    let (rig, ..) = sweeping("delete").await;

    rig.delete("logs").await;
    rig.disconnected().await;

    let left = rows(&rig).await;
    assert!((ROWS - EXPIRED + 1..ROWS).contains(&left), "{left}");
    // The operator has seen later writes than that one, and a policy of the same name is another one.
    rig.apply("logs", json!({"rules": [rule("logs", "logs")]}))
        .await;
    let status = rig
        .status("logs", SOON, "to be audited anew", |it| {
            is(it, "Ready", "True")
        })
        .await;
    assert!(status["lastSweep"].is_null() && status["unfinishedSweep"].is_null());
    assert_eq!(rows(&rig).await, left);
    let running = rig.metric("retention_operator_sweeps_running", "").await;
    assert!(running.abs() < 0.5, "{running}");
}

#[tokio::test]
async fn sigterm_ends_it_cleanly_and_the_next_process_goes_on() {
    let (mut rig, id, reference) = sweeping("sigterm").await;

    rig.operator.terminate();
    let ended = rig.operator.wait(SOON);
    assert_eq!(ended.code(), Some(0), "{}", rig.logs());
    let status = stopped(&rig, &id, "the process was asked to end").await;
    // Nothing is reserved any more: the next process knows exactly what is done.
    let rule = &status["unfinishedSweep"]["rules"][0];
    assert_eq!(rule["rowsReserved"], rule["rowsDone"]);

    rig.replace();
    completed(&rig, &id, &reference).await;
}
