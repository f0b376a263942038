//! What may take only so long: counts in one statement, and transactions of a role (`transaction_timeout`, which version 17 brought).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use retention_operator::engine::{Counted, Engine};
use retention_operator::policy::encoding::Encoding;
use retention_operator::policy::predicate::Predicate;
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

/// A condition that takes some microseconds a row.
fn dear() -> String {
    let (open, close) = ("lower(upper(".repeat(12), "))".repeat(12));
    format!("{open}pad{close} <> 'y'")
}

#[tokio::test]
async fn a_count_that_takes_too_long_for_one_statement_is_made_in_parts() {
    let database = Postgres::shared().database("parts").await;
    database.execute(&filled("t", 300_000)).await;
    // One process alone reads the table.
    database
        .execute("ALTER TABLE t SET (parallel_workers = 0)")
        .await;
    let engine = engine(&database.url).with_count_timeout(Duration::from_millis(400));
    let mut plan = plan(&engine, "t", "at").await;
    let condition = dear();
    plan.filter = Some(Predicate::parse(&condition).unwrap());
    let mut session = database.connect().await;
    session
        .execute("SET statement_timeout = '400ms'")
        .await
        .unwrap();
    let at_once = format!("SELECT count(*) FROM t WHERE at < '2024-01-01' AND {condition}");
    let at_once = session.execute(sqlx::AssertSqlSafe(at_once)).await;

    let counted = engine.count_left(&plan, 0).await.unwrap();
    plan.holds = vec![Predicate::parse("id <= 100000").unwrap()];
    let free = engine.count_expired(&plan).await.unwrap();
    let rows = engine.count_rows(&plan.table).await.unwrap();

    assert!(at_once.is_err(), "it was quick enough for this test");
    let expired = |expired| Counted {
        expired,
        ..Counted::default()
    };
    assert_eq!(counted, expired(150_000));
    assert_eq!(free, expired(100_000));
    assert_eq!(rows, 300_000);
}

#[tokio::test]
async fn a_count_in_parts_is_of_one_moment_and_knows_unreadable_values() {
    let database = Postgres::shared().database("moment").await;
    database
        .execute(
            "CREATE TABLE t (id bigint, at text, pad text);
             INSERT INTO t SELECT n, CASE WHEN n % 10 = 0 THEN 'never' ELSE '2023-06-01T00:00:00Z' END, repeat('x', 100)
               FROM generate_series(1, 100000) n",
        )
        .await;
    let engine = engine(&database.url).with_count_timeout(Duration::from_secs(1));
    let mut plan = plan(&engine, "t", "at").await;
    plan.encoding = Some(Encoding::Iso8601);
    plan.filter = Some(Predicate::parse(&dear()).unwrap());
    let stop = AtomicBool::new(false);

    // Every row goes to another place again and again.
    let (counted, moves) = tokio::join!(
        async {
            let counted = engine.count_expired(&plan).await;
            stop.store(true, Ordering::Relaxed);
            counted
        },
        async {
            let mut moves = 0;
            while !stop.load(Ordering::Relaxed) {
                database
                    .execute("UPDATE t SET id = id + 1 WHERE id % 50 = 7")
                    .await;
                moves += 1;
            }
            moves
        }
    );

    let counted = counted.unwrap();
    assert_eq!(
        (counted.expired, counted.unreadable),
        (90_000, Some(10_000))
    );
    assert!(moves > 0);
}
