//! A process that stopped for a while, and another that took over meanwhile: what the first one remembers is not written over
//! what the second one did.

use serde_json::json;

use super::rig::{LATER, Rig, SOON, is};
use super::tables::{Reference, fill, rule, slow};
use crate::support::wait::eventually;

const ROWS: i64 = 20_000;

#[tokio::test]
async fn a_process_that_wakes_up_after_its_successor_finished_does_not_take_the_status_back() {
    let mut rig = Rig::start("successor").await;
    fill(&rig.database, "logs", ROWS).await;
    let reference = Reference::of(&rig.database, "logs").await;
    rig.apply(
        "logs",
        json!({"mode": "Enforce", "pace": slow(1_000), "rules": [rule("logs", "logs")]}),
    )
    .await;
    rig.request_sweep("logs").await;
    rig.status("logs", SOON, "to sweep", |it| is(it, "Sweeping", "True"))
        .await;
    eventually(SOON, "some rows to be gone", async || {
        let rows: i64 = rig.database.scalar("SELECT count(*) FROM logs").await;
        if rows < ROWS - 500 { Ok(()) } else { Err(rows) }
    })
    .await;
    rig.operator.signal("STOP");

    let mut successor = rig.another();
    let done = rig
        .status("logs", LATER, "the successor to complete it", |it| {
            it["lastSweep"]["outcome"] == "Succeeded"
                && it["unfinishedSweep"].is_null()
                && it["currentSweep"].is_null()
        })
        .await;
    let expired = reference
        .delete(&format!(
            "at < '{}'",
            done["rules"][0]["cutoff"].as_str().unwrap()
        ))
        .await;
    reference.assert_equal().await;
    successor.terminate();
    successor.wait(SOON);
    let done = rig.get("logs").await["status"].take();
    rig.operator.signal("CONT");
    eventually(LATER, "the first one to notice", async || {
        let logs = rig.logs();
        if logs.contains("somebody else wrote the status") {
            Ok(())
        } else {
            Err(logs)
        }
    })
    .await;

    // It reads what there is, and works on from there.
    rig.annotate(
        "logs",
        "audit-requested-at",
        &jiff::Timestamp::now().to_string(),
    )
    .await;
    let after = rig
        .status("logs", SOON, "to be audited", |it| {
            it["lastHandledAuditRequest"].is_string()
        })
        .await;
    assert_eq!(after["lastSweep"], done["lastSweep"]);
    assert_eq!(after["totals"], done["totals"]);
    assert!(after["unfinishedSweep"].is_null(), "{after}");
    let said = after["totals"]["rowsDeleted"].as_i64().unwrap();
    assert!(said <= expired && said > 0, "{said} of {expired}");
}
