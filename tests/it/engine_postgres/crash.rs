//! A server that crashes while a chunk is open: what it had not written down is gone, and the number of the chunk's transaction
//! is given to somebody else.

use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::engine::{ChunkTarget, CommitOutcome, Engine, TableSweep};
use sqlx::{Connection, Executor, Row, postgres::PgConnection};

use super::{engine, filled, finish, plan};
use crate::support::postgres::{Postgres, TestDatabase};

/// A server that writes its log only when a transaction is committed, and a chunk on it that is not.
struct Crashed {
    postgres: Postgres,
    database: TestDatabase,
    engine: PostgresEngine,
    sweep: Box<dyn TableSweep>,
}

/// `t` has 1,000 rows of which 500 have expired, and was being swept.
async fn crashed() -> Crashed {
    let mut postgres = Postgres::start_own(&[
        ("wal_writer_delay", "10s"),
        ("autovacuum", "off"),
        ("checkpoint_timeout", "1h"),
    ]);
    let database = postgres.database("crash").await;
    database.execute(&filled("t", 1_000)).await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let chunk = sweep.delete_next(ChunkTarget::pages(5)).await;
    assert!(chunk.unwrap().unwrap().rows > 0);
    postgres.crash();
    postgres.restart();
    Crashed {
        postgres,
        database,
        engine,
        sweep,
    }
}

/// The number of a new transaction, which stays open.
async fn begin(session: &mut PgConnection) -> i64 {
    session.execute("BEGIN").await.unwrap();
    session
        .fetch_one("SELECT pg_current_xact_id()::text::int8")
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn a_chunk_that_the_crash_took_is_taken_again() {
    let mut it = crashed().await;

    let outcome = it.sweep.commit().await.unwrap();
    let rest = finish(&mut *it.sweep, 5).await.unwrap();

    assert_eq!(outcome, CommitOutcome::RolledBack);
    assert_eq!(rest.rows, 500);
    let left: i64 = it.database.scalar("SELECT count(*) FROM t").await;
    assert_eq!(left, 500);
}

/// Its number was given to transactions of the service, which were committed: that says nothing of the chunk.
#[tokio::test]
async fn what_others_committed_under_the_chunks_number_is_not_taken_for_the_chunk() {
    let mut it = crashed().await;
    for _ in 0..50 {
        it.database.execute("SELECT pg_current_xact_id()").await;
    }

    let outcome = it.sweep.commit().await;
    let rest = finish(&mut *it.sweep, 5).await.unwrap();

    let error = outcome.expect_err("nobody can know");
    assert!(error.is_transient(), "{error}");
    assert_eq!(rest.rows, 500, "the range is walked again");
    drop(it.engine);
}

#[tokio::test]
async fn a_transaction_of_the_service_that_has_the_chunks_number_is_left_alone() {
    let mut it = crashed().await;
    // All numbers that the chunk may have had are in use.
    let mut sessions = Vec::new();
    for _ in 0..20 {
        let mut session = it.database.connect().await;
        begin(&mut session).await;
        sessions.push(session);
    }

    let outcome = it.sweep.commit().await;

    assert!(
        !matches!(outcome, Ok(CommitOutcome::Committed)),
        "{outcome:?}"
    );
    for mut session in sessions {
        session.execute("COMMIT").await.unwrap();
        session.close().await.unwrap();
    }
    drop(it.postgres);
}
