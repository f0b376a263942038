//! A role whose transactions may take only so long: `transaction_timeout`, which version 17 brought.

use std::time::Duration;

use retention_operator::engine::Engine;
use retention_operator::sweep::Outcome;
use serde_json::json;
use sqlx::Executor;

use super::resumed::{Policy, expired, rule};
use super::seen::Seen;
use super::{engine, filled, plan};
use crate::support::postgres::{Postgres, TestDatabase, connect};
use crate::support::wait::eventually;

/// The newest server, unless it knows no such timeout.
async fn server() -> Option<&'static Postgres> {
    let server = Postgres::newest()?;
    let version: i32 = server
        .existing("postgres")
        .scalar("SELECT current_setting('server_version_num')::int4")
        .await;
    (version >= 170_000).then_some(server)
}

/// Every transaction in the database ends after so long, unless it says otherwise.
async fn limit(database: &TestDatabase, timeout: &str) {
    let name = &database.name;
    let set = format!("ALTER DATABASE \"{name}\" SET transaction_timeout = '{timeout}'");
    database.execute(&set).await;
}

#[tokio::test]
async fn a_count_may_take_longer_than_transactions_of_the_role() {
    let Some(server) = server().await else {
        return;
    };
    let database = server.database("counted").await;
    database.execute(&filled("t", 1_000)).await;
    let mut service = connect(&database.url).await;
    limit(&database, "500ms").await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    service.execute("BEGIN").await.unwrap();
    service
        .execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();

    let (counted, ()) = tokio::join!(engine.count_rows(&plan.table), async {
        eventually(Duration::from_secs(20), "the count to wait", async || {
            let waiting: i64 = server
                .existing("postgres")
                .scalar(&format!(
                    "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE NOT l.granted AND d.datname = '{}'",
                    database.name
                ))
                .await;
            match waiting {
                0 => Err(()),
                _ => Ok(()),
            }
        })
        .await;
        // For longer than the role's transactions may take.
        tokio::time::sleep(Duration::from_millis(900)).await;
        service.execute("COMMIT").await.unwrap();
    });

    assert_eq!(counted.unwrap(), 1_000);
}

#[tokio::test]
async fn audits_are_short_enough_for_it() {
    let Some(server) = server().await else {
        return;
    };
    let database = server.database("audited").await;
    database
        .execute(&format!("{}; ANALYZE t", filled("t", 1_000)))
        .await;
    limit(&database, "5s").await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;

    engine.facts().await.unwrap();
    let hygiene = engine.hygiene().await.unwrap();
    let statistics = engine.statistics(&plan).await.unwrap();

    assert!(!hygiene.tables.is_empty());
    assert!(statistics.leaves[0].column.is_some());
}

#[tokio::test]
async fn chunks_that_take_longer_become_smaller_and_the_sweep_comes_to_its_end() {
    let Some(server) = server().await else {
        return;
    };
    let mut logs = rule("logs", "logs");
    logs["limits"] = json!({"maxPercent": 100});
    let mut policy = Policy::on(server, "Auto", json!([logs])).await;
    policy.database.execute(&expired("logs", 60)).await;
    policy
        .database
        .execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.03); RETURN OLD; END';
             CREATE TRIGGER slow BEFORE DELETE ON logs FOR EACH ROW EXECUTE FUNCTION slow()",
        )
        .await;
    limit(&policy.database, "600ms").await;
    let seen = Seen::with_rests_of(Duration::from_millis(10));

    let report = policy.part(&seen).await;

    assert_eq!(report.outcome(), Outcome::Succeeded, "{report:#?}");
    assert_eq!(policy.rows("logs").await, 0);
    assert!(report.rules[0].longest_chunk < Duration::from_millis(600));
    seen.has_waited_for("statement_timeout").await;
}
