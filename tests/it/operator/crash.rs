//! SIGKILL at many moments of a sweep, while the service writes: exactly the expired rows go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::Row;

use super::rig::{LATER, Rig, SOON};
use super::tables::{rule, slow};
use crate::support::postgres::TestDatabase;
use crate::support::process::kills;
use crate::support::wait::eventually;

const ROWS: i64 = 60_000;

/// What the service did while the operator swept and died.
#[derive(Default)]
struct Written {
    inserted: Vec<i64>,
    /// Expired rows that the service found and gave a new time.
    renewed: Vec<i64>,
    changed: Vec<i64>,
}

/// A service at work: it inserts rows, changes fresh ones, and gives expired ones that it still finds a new time, until told to stop.
async fn service(database: TestDatabase, stop: Arc<AtomicBool>) -> Written {
    let mut session = database.connect().await;
    let mut written = Written::default();
    let mut next = ROWS;
    while !stop.load(Ordering::Relaxed) {
        next += 1;
        let some = fastrand::i64(1..=ROWS);
        let statements = [
            (
                "INSERT INTO logs VALUES ($1, now(), 'inserted') RETURNING id",
                next,
                &mut written.inserted,
            ),
            (
                "UPDATE logs SET at = now(), note = 'renewed' WHERE id = $1 AND at < now() - interval '30 days' RETURNING id",
                some,
                &mut written.renewed,
            ),
            (
                "UPDATE logs SET note = 'changed' WHERE id = $1 AND at > now() - interval '29 days' AND note NOT IN ('renewed') RETURNING id",
                fastrand::i64(1..=ROWS),
                &mut written.changed,
            ),
        ];
        for (statement, id, list) in statements {
            let row = sqlx::query(statement)
                .bind(id)
                .fetch_optional(&mut session)
                .await
                .unwrap();
            list.extend(row.map(|row| row.get::<i64, _>(0)));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    written
}

async fn expired(database: &TestDatabase) -> i64 {
    database
        .scalar("SELECT count(*) FROM logs WHERE at < now() - interval '30 days'")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kills_at_random_moments_exactly_the_expired_rows_are_gone() {
    let mut rig = Rig::start("crash").await;
    rig.database
        .execute(&format!(
            "CREATE TABLE logs (id bigint PRIMARY KEY, at timestamptz, note text);
             INSERT INTO logs SELECT n, now() - CASE WHEN n % 100 < 42 THEN interval '31 days' ELSE interval '1 day' END, 'note'
             FROM generate_series(1, {ROWS}) AS n;
             ANALYZE logs; CREATE TABLE before AS TABLE logs"
        ))
        .await;
    let stop = Arc::new(AtomicBool::new(false));
    let service = tokio::spawn(service(rig.database.clone(), stop.clone()));
    let kills = kills(8);
    // The sweep is slow enough to be killed that often in the middle of it.
    let step = ROWS * 42 / 100 / (i64::from(kills) + 2);
    let rate = u32::try_from(step).unwrap();
    rig.apply(
        "logs",
        json!({"mode": "Enforce", "pace": slow(rate), "rules": [rule("logs", "logs")]}),
    )
    .await;
    rig.request_sweep("logs").await;
    let mut ids = Vec::new();
    for kill in 0..kills {
        let before = expired(&rig.database).await;
        let target = before - fastrand::i64(1..step);
        let what = format!("rows to go before kill {kill} of {kills}");
        eventually(LATER, &what, async || {
            let left = expired(&rig.database).await;
            if left <= target {
                Ok(())
            } else {
                Err((before, left, rig.logs()))
            }
        })
        .await;
        // Anywhere between two chunks or in the middle of one.
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..20_000))).await;
        rig.kill_and_restart();
        let status = rig
            .status("logs", SOON, "to be in a sweep", |it| {
                it["unfinishedSweep"]["id"].is_string()
            })
            .await;
        ids.push(status["unfinishedSweep"]["id"].clone());
    }
    assert!(
        expired(&rig.database).await > 0,
        "the last kill came after the sweep"
    );

    let status = rig
        .status("logs", LATER, "to complete", |it| {
            it["lastSweep"]["completionTime"].is_string() && it["unfinishedSweep"].is_null()
        })
        .await;
    stop.store(true, Ordering::Relaxed);
    let written = service.await.unwrap();

    assert_eq!(status["lastSweep"]["outcome"], "Succeeded", "{status}");
    assert!(
        ids.iter().all(|id| *id == status["lastSweep"]["id"]),
        "{ids:?} {status}"
    );
    assert!(
        written.inserted.len() > 100 && written.renewed.len() > 20 && written.changed.len() > 20,
        "{} {} {}",
        written.inserted.len(),
        written.renewed.len(),
        written.changed.len()
    );
    assert_eq!(expired(&rig.database).await, 0);
    assert_rows(&rig.database, &written).await;
    assert_counts(&rig.database, &status, &written).await;
}

/// Every row that never was expired is there, as the service wrote it last, and no other.
async fn assert_rows(database: &TestDatabase, written: &Written) {
    let mut session = database.connect().await;
    let row = sqlx::query(
        "WITH expected AS (
             SELECT id, CASE WHEN id = ANY($3) THEN 'changed' ELSE note END AS note FROM before WHERE at > now() - interval '29 days'
             UNION ALL SELECT unnest($1::bigint[]), 'inserted'
             UNION ALL SELECT unnest($2::bigint[]), 'renewed')
         SELECT (SELECT count(*) FROM (SELECT * FROM expected EXCEPT ALL SELECT id, note FROM logs) AS d),
                (SELECT count(*) FROM (SELECT id, note FROM logs EXCEPT ALL SELECT * FROM expected) AS d)",
    )
    .bind(&written.inserted)
    .bind(&written.renewed)
    .bind(&written.changed)
    .fetch_one(&mut session)
    .await
    .unwrap();
    let (lost, surplus): (i64, i64) = (row.get(0), row.get(1));
    assert_eq!((lost, surplus), (0, 0), "rows lost and rows too many");
}

/// What the status says was deleted is never more than what is gone; kills may leave some unrecorded.
async fn assert_counts(database: &TestDatabase, status: &Value, written: &Written) {
    let were: i64 = database
        .scalar("SELECT count(*) FROM before WHERE at < now() - interval '30 days'")
        .await;
    let renewed = i64::try_from(written.renewed.len()).unwrap();
    let deleted = were - renewed;
    let said = status["lastSweep"]["rowsDeleted"].as_i64().unwrap();
    assert!(
        said <= deleted && said > 0,
        "{said} of {deleted} (+ {renewed} renewed)"
    );
    assert_eq!(
        status["totals"]["rowsDeleted"], said,
        "what kills interrupted is in the totals, too"
    );
    assert_eq!(status["rules"][0]["expiredRows"]["value"], 0);
}
