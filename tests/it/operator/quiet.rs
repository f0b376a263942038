//! Between two changes of anything the operator writes nothing.

use std::time::Duration;

use serde_json::json;

use super::rig::{Rig, SOON, is};
use super::tables::{fill, rule};
use crate::support::wait::eventually;

#[tokio::test]
async fn an_idle_minute_leaves_no_trace_in_the_api_server() {
    let rig = Rig::start("quiet").await;
    for table in ["logs", "mails", "calls", "done"] {
        fill(&rig.database, table, 1000).await;
        // What autovacuum learns meanwhile is news.
        rig.database
            .execute(&format!(
                "ALTER TABLE {table} SET (autovacuum_enabled = false)"
            ))
            .await;
    }
    let hourly = json!({"interval": "1h"});
    let logs = json!([rule("logs", "logs")]);
    rig.apply("hourly", json!({"audit": hourly, "rules": logs}))
        .await;
    // Its audits find nothing new: only times move.
    rig.apply(
        "busy",
        json!({"audit": {"interval": "10s"}, "rules": [rule("mails", "mails")]}),
    )
    .await;
    rig.apply(
        "scheduled",
        json!({"mode": "Enforce", "audit": hourly, "rules": [rule("calls", "calls")], "schedule": {"cron": "0 0 29 2 *", "window": "4h"}}),
    )
    .await;
    rig.apply("suspended", json!({"suspend": true, "rules": logs}))
        .await;
    rig.apply(
        "refused",
        json!({"audit": {"interval": "10s"}, "rules": [rule("nothing", "nothing")]}),
    )
    .await;
    rig.apply(
        "swept",
        json!({"mode": "Enforce", "audit": hourly, "rules": [rule("done", "done")]}),
    )
    .await;
    rig.request_sweep("swept").await;
    rig.swept("swept", None).await;
    let names = [
        "hourly",
        "busy",
        "scheduled",
        "suspended",
        "refused",
        "swept",
    ];
    for name in names {
        let ready = if name == "refused" { "False" } else { "True" };
        rig.status(name, SOON, "to be settled", |it| {
            is(it, "Ready", ready)
                && it["conditions"].as_array().is_some_and(|all| {
                    all.iter()
                        .all(|condition| condition["reason"] != "Progressing")
                })
        })
        .await;
    }
    let audits = async || rig.metric("retention_operator_audits_total", "").await;
    let seen = async || {
        let mut versions = Vec::new();
        for name in names {
            let policy = rig.get(name).await;
            versions.push(
                policy["metadata"]["resourceVersion"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            );
        }
        (versions, rig.events().await)
    };
    // Two more audits of the busy ones: whatever the first ones learnt is told by now.
    let before = audits().await;
    eventually(Duration::from_secs(60), "more audits", async || {
        let audits = audits().await;
        if audits >= before + 2.0 {
            Ok(())
        } else {
            Err(audits)
        }
    })
    .await;
    let settled = seen().await;
    let (writes, audited) = (
        rig.metric("retention_operator_status_writes_total", "")
            .await,
        audits().await,
    );

    // A stretch of time is what is looked at here; no condition stands for it.
    tokio::time::sleep(Duration::from_secs(60)).await;

    assert_eq!(seen().await, settled);
    let writes = rig
        .metric("retention_operator_status_writes_total", "")
        .await
        - writes;
    assert!(writes < 0.5, "{writes} status writes");
    let audited = audits().await - audited;
    assert!((8.0..=14.0).contains(&audited), "{audited} audits");
    let looks = rig.metric("retention_operator_reconciles_total", "").await;
    assert!(
        looks < 150.0,
        "{looks} looks at six policies in two minutes"
    );
}
