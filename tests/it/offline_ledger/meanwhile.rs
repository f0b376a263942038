//! What happens while a sweep runs: a pause, a second sweep, a stop.

use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::{database, file, recorded, rows, started, sweep};
use crate::operator::tables::slow;
use crate::support::operator::Operator;
use crate::support::postgres::FOREIGN;
use crate::support::wait::eventually;

#[tokio::test]
async fn a_paused_database_is_not_swept_and_a_running_sweep_waits() {
    let database = database().await;
    let mut running = started(&database, "logs", json!({"pace": slow(2000)}), 19_800).await;

    database
        .execute("UPDATE retention_operator.control SET paused = true, reason = 'black friday'")
        .await;
    eventually(Duration::from_secs(10), "the sweep to wait", async || {
        let before = rows(&database).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = rows(&database).await;
        if before == after {
            Ok(())
        } else {
            Err((before, after))
        }
    })
    .await;
    let second = sweep(&database, "logs", json!({}), &[]);
    let standing = rows(&database).await;
    database
        .execute("UPDATE retention_operator.control SET paused = false")
        .await;
    let ended = running.wait(Duration::from_secs(30));

    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("black friday"), "{second:?}");
    assert!(standing > 11_600, "it had not ended before: {standing}");
    assert_eq!(ended.code(), Some(0), "{}", running.stderr());
    assert_eq!(rows(&database).await, 11_600);
}

#[tokio::test]
async fn two_sweeps_at_once_take_every_row_once() {
    let database = database().await;
    sweep(
        &database,
        "logs",
        json!({"rules": [], "mode": "Enforce"}),
        &[],
    );
    let file = file("logs", json!({"pace": slow(4000)}));
    let arguments = ["sweep", "-f", file.to_str().unwrap(), "-o", "json"];
    let environment = [("DATABASE_URL", database.url.as_str())];
    let mut both = [
        Operator::start(&arguments, &environment),
        Operator::start(&arguments, &environment),
    ];

    for sweep in &mut both {
        assert_eq!(sweep.wait(Duration::from_secs(60)).code(), Some(0));
    }

    assert_eq!(rows(&database).await, 11_600);
    assert_eq!(recorded(&database).await, 8_400);
}

/// A process that is stopped in the middle of a chunk keeps its locks until the server ends its session.
#[rstest]
#[case::with_a_ledger("Auto")]
#[case::without("Off")]
#[tokio::test]
async fn the_service_waits_at_most_ten_seconds_for_rows_of_a_stopped_sweep(#[case] ledger: &str) {
    let database = database().await;
    // Rows that are slow to delete, so that a stop hits a chunk nearly always.
    database
        .execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.0005); RETURN OLD; END';
             CREATE TRIGGER slow BEFORE DELETE ON logs FOR EACH ROW EXECUTE FUNCTION slow()",
        )
        .await;
    let spec = json!({
        "database": {"secretRef": {"name": "db"}, "ledger": ledger},
        "pace": {"chunkDuration": "500ms", "maxDuty": 100},
    });
    let mut sweep = started(&database, "logs", spec, 20_000).await;
    let mut service = database.connect().await;
    let mut longest = Duration::ZERO;
    let mut mid_chunk = 0;

    for _ in 0..8 {
        while count(&mut service, "backend_xid IS NOT NULL").await == 0 {
            assert!(sweep.exited().is_none(), "it ended: {}", sweep.stderr());
        }
        sweep.signal("STOP");
        mid_chunk += count(&mut service, "backend_xid IS NOT NULL").await;
        let began = Instant::now();
        service
            .execute("UPDATE logs SET note = note || '.' WHERE at < now() - interval '29 days'")
            .await
            .unwrap();
        longest = longest.max(began.elapsed());
        sweep.signal("CONT");
        if mid_chunk >= 2 || sweep.exited().is_some() {
            break;
        }
    }

    let ended = sweep.wait(Duration::from_secs(180));
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    assert!(mid_chunk > 0, "no stop hit a chunk");
    assert!(
        longest > Duration::from_secs(4),
        "{longest:?}: it would have waited for ever"
    );
    assert!(ended.code().is_some(), "{}", sweep.stderr());
    if ledger == "Auto" {
        let gone = 20_000 - rows(&database).await;
        assert_eq!(recorded(&database).await, gone);
    }
}

/// Sessions of sweeps that are so.
async fn count(session: &mut sqlx::postgres::PgConnection, so: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE {FOREIGN} AND {so}");
    let row = session.fetch_one(AssertSqlSafe(sql)).await.unwrap();
    row.get(0)
}
