//! What stalls goes on by itself once somebody has set it right.

use serde_json::json;

use super::rig::{Rig, SOON, condition, is};
use super::tables::rule;

#[tokio::test]
async fn what_waits_for_somebody_is_looked_at_again_at_the_audits_interval() {
    let rig = Rig::start("repaired").await;
    rig.database
        .execute("CREATE TABLE logs (id int, at timestamptz); CREATE TABLE mails (id int, at timestamptz); ANALYZE")
        .await;
    let often = json!({"interval": "10s"});
    let late = json!({"secretRef": {"name": "late"}});
    rig.apply(
        "secret",
        json!({"audit": often, "database": late, "rules": [rule("mails", "mails")]}),
    )
    .await;
    rig.apply(
        "table",
        json!({"audit": often, "rules": [rule("orders", "orders"), rule("logs", "logs")]}),
    )
    .await;
    rig.status("secret", SOON, "to stall", |it| {
        condition(it, "Stalled").is_some_and(|it| it.1 == "SecretNotFound")
    })
    .await;
    let stalled = rig
        .status("table", SOON, "to stall", |it| {
            condition(it, "Stalled").is_some_and(|it| it.1 == "RulesRefused")
        })
        .await;
    // A good rule is not stopped by a bad one.
    assert_eq!(stalled["rules"][0]["reason"], "TableNotFound");
    assert!(stalled["rules"][1]["reason"].is_null());
    assert_eq!(stalled["rules"][1]["expiredRows"]["value"], 0);

    rig.secret("late", &[("uri", &rig.database.url)]).await;
    rig.database
        .execute("CREATE TABLE orders (id int, at timestamptz); ANALYZE orders")
        .await;

    for name in ["secret", "table"] {
        let status = rig
            .status(name, SOON, "to recover", |it| is(it, "Ready", "True"))
            .await;
        assert!(condition(&status, "Stalled").is_none());
        assert!(status["rules"][0]["reason"].is_null());
    }
}
