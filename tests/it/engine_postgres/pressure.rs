//! What a server says of itself between two chunks.

use std::time::Duration;

use retention_operator::engine::{ChunkTarget, CommitOutcome, Engine};
use retention_operator::policy::pace::{Archiver, Pace, Pressure, ReplicaLag, Veto, veto};
use rstest::rstest;
use sqlx::Executor;

use super::{engine, filled, plan};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, SUPERUSER, TestDatabase};
use crate::support::wait::eventually;

async fn pressure(url: &str) -> Pressure {
    let engine = engine(url);
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let pressure = sweep.pressure().await.unwrap();
    sweep.close().await;
    engine.close().await;
    pressure
}

async fn table(prefix: &str) -> TestDatabase {
    let database = Postgres::shared().database(prefix).await;
    database.execute(&filled("t", 2_000)).await;
    database
}

#[tokio::test]
async fn a_quiet_server_says_that_nothing_presses() {
    let database = table("quiet").await;

    let pressure = pressure(&database.url).await;

    let expected = Pressure {
        transactions: pressure.transactions,
        active_sessions: Some(0),
        freeze_vacuum: Some(false),
        ..Pressure::default()
    };
    assert_eq!(pressure, expected);
    assert!(pressure.transactions.is_some());
}

#[tokio::test]
async fn a_role_without_rights_sees_locks_and_counters_and_says_what_is_hidden() {
    let database = table("hidden").await;
    let role = database
        .role("sweeper", "secret", "GRANT SELECT, DELETE ON t TO {role}")
        .await;
    let mut vacuum = database.connect().await;
    vacuum
        .execute("BEGIN; LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE")
        .await
        .unwrap();

    let pressure = pressure(&role.url).await;

    assert!(pressure.table_is_maintained, "{pressure:?}");
    assert!(pressure.transactions.is_some());
    assert_eq!(
        (
            pressure.active_sessions,
            pressure.freeze_vacuum,
            pressure.oldest_snapshot
        ),
        (None, None, None)
    );
}

#[tokio::test]
async fn an_open_snapshot_has_an_age_and_an_idle_transaction_without_one_has_none() {
    let database = table("snapshot").await;
    let mut without = database.connect().await;
    without.execute("BEGIN; SELECT 1").await.unwrap();
    assert_eq!(pressure(&database.url).await.oldest_snapshot, None);

    let mut with = database.connect().await;
    with.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t")
        .await
        .unwrap();

    let age = pressure(&database.url).await.oldest_snapshot;
    assert!(
        age.is_some_and(|age| age < Duration::from_secs(60)),
        "{age:?}"
    );
}

#[tokio::test]
async fn through_a_pooler_it_is_the_same() {
    let database = table("pooledpressure").await;
    let pooler = PgBouncer::start(Postgres::shared(), &[(SUPERUSER, SUPERUSER)]);

    let pressure = pressure(&pooler.url(&database.name, SUPERUSER, SUPERUSER)).await;

    assert!(pressure.transactions.is_some());
    assert!(!pressure.table_is_maintained);
}

#[tokio::test]
async fn whoever_waits_for_a_row_of_the_chunk_is_seen_before_it_commits() {
    let database = table("waiters").await;
    // The rows are locked by the time the statement's trigger runs.
    database
        .execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
             CREATE TRIGGER slow AFTER DELETE ON t FOR EACH STATEMENT EXECUTE FUNCTION slow()",
        )
        .await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();

    let chunk = tokio::spawn(async move {
        let chunk = sweep
            .delete_next(ChunkTarget::pages(4))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(sweep.commit().await.unwrap(), CommitOutcome::Committed);
        chunk
    });
    eventually(Duration::from_secs(10), "the chunk to sleep", async || {
        let sleeping: i64 = database
            .scalar("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'")
            .await;
        if sleeping > 0 { Ok(()) } else { Err(sleeping) }
    })
    .await;
    database
        .execute("UPDATE t SET pad = 'y' WHERE id = 2")
        .await;

    let chunk = chunk.await.unwrap();
    assert_eq!(chunk.waiters, 1);
    assert!(chunk.rows > 0 && chunk.wal_bytes > chunk.rows, "{chunk:?}");
}

#[tokio::test]
async fn a_replica_that_applies_nothing_falls_behind_and_a_role_without_rights_is_told_so() {
    let primary = Postgres::start_own(&[("autovacuum", "off")]);
    let standby = Postgres::standby_of(&primary, &[("recovery_min_apply_delay", "60s")]);
    let database = primary.database("lag").await;
    database.execute(&filled("t", 2_000)).await;
    let blind = database
        .role("blind", "secret", "GRANT SELECT, DELETE ON t TO {role}")
        .await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();

    let what = "the replica to be seen two seconds behind";
    eventually(Duration::from_secs(30), what, async || {
        match sweep.pressure().await.unwrap().replica_lag {
            ReplicaLag::Behind(lag) if lag > Duration::from_secs(2) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(pressure(&blind.url).await.replica_lag, ReplicaLag::Hidden);
    drop(standby);
}

#[tokio::test]
async fn a_standby_refuses_a_sweep_and_says_why() {
    let primary = Postgres::start_own(&[("autovacuum", "off")]);
    let database = primary.database("standby").await;
    database.execute(&filled("t", 100)).await;
    let standby = Postgres::standby_of(&primary, &[]);
    let url = database
        .url
        .replace(&primary.port().to_string(), &standby.port().to_string());
    let engine = engine(&url);
    let plan = plan(&engine, "t", "at").await;

    let error = engine
        .open_sweep(&plan, None)
        .await
        .map(|_| ())
        .unwrap_err();

    assert_eq!(error.category(), "not_primary", "{error}");
    assert!(error.to_string().contains("standby"), "{error}");
}

/// A log file of its own for what was written so far.
const SWITCH: &str = "INSERT INTO t SELECT 0, '2025-01-01', 'x' FROM generate_series(1, 100); SELECT pg_switch_wal()";

#[tokio::test]
async fn an_archiver_that_fails_is_told_by_a_role_without_rights_and_one_that_recovers_too() {
    let folder = tempfile::tempdir().unwrap();
    let full = folder.path().join("full");
    let command = format!("test ! -e {}", full.display());
    let server = Postgres::start_own(&[
        ("autovacuum", "off"),
        ("archive_mode", "on"),
        ("archive_command", &command),
    ]);
    let database = server.database("archiver").await;
    database.execute(&filled("t", 100)).await;
    let role = database
        .role("blind", "secret", "GRANT SELECT, DELETE ON t TO {role}")
        .await;
    let archiver = async || pressure(&role.url).await.archiver;
    let has_caught_up = async || {
        let what = "the archiver to have caught up";
        eventually(Duration::from_secs(90), what, async || {
            // It wakes up when a file is complete; after failures it rests for a minute otherwise.
            database.execute(SWITCH).await;
            match archiver().await {
                Archiver {
                    failing: false,
                    waiting_bytes: Some(waiting),
                } if waiting <= 16 << 20 => Ok(()),
                other => Err(other),
            }
        })
        .await;
    };

    has_caught_up().await;
    std::fs::write(&full, "").unwrap();
    for _ in 0..3 {
        database.execute(SWITCH).await;
    }
    eventually(
        Duration::from_secs(60),
        "the archiver to fail",
        async || match archiver().await {
            it if it.failing && it.waiting_bytes >= Some(32 << 20) => Ok(()),
            other => Err(other),
        },
    )
    .await;
    let vetoed = veto(&pressure(&role.url).await, &pace());
    std::fs::remove_file(&full).unwrap();
    has_caught_up().await;

    assert_eq!(vetoed, Some(Veto::ArchiverBehind));
}

#[tokio::test]
async fn what_a_slot_without_a_reader_keeps_is_measured_and_one_at_its_bound_is_told() {
    let server = Postgres::start_own(&[
        ("autovacuum", "off"),
        ("max_slot_wal_keep_size", "64MB"),
        ("max_wal_size", "4GB"),
    ]);
    let database = server.database("slots").await;
    database.execute(&filled("t", 100)).await;
    let role = database
        .role("blind", "secret", "GRANT SELECT, DELETE ON t TO {role}")
        .await;

    database
        .execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
        .await;
    for _ in 0..3 {
        database.execute(SWITCH).await;
    }
    let kept = pressure(&role.url).await;
    let what = "the slot to come to its bound";
    eventually(Duration::from_secs(30), what, async || {
        database.execute(SWITCH).await;
        let status: String = database
            .scalar("SELECT wal_status FROM pg_replication_slots")
            .await;
        if status == "unreserved" {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
    let at_its_bound = pressure(&role.url).await;

    assert!(
        (32 << 20..256 << 20).contains(&kept.slots.idle_bytes),
        "{kept:?}"
    );
    assert_eq!(veto(&kept, &pace()), None);
    assert_eq!(veto(&at_its_bound, &pace()), Some(Veto::SlotLag));
}

#[rstest]
#[case::their_functions(
    "REVOKE EXECUTE ON FUNCTION pg_get_replication_slots() FROM PUBLIC;
     REVOKE EXECUTE ON FUNCTION pg_stat_get_archiver() FROM PUBLIC"
)]
#[case::their_views(
    "REVOKE SELECT ON pg_replication_slots FROM PUBLIC; REVOKE SELECT ON pg_stat_archiver FROM PUBLIC"
)]
#[tokio::test]
async fn where_slots_and_archiver_are_hidden_sweeps_go_on(#[case] hide: &str) {
    let server = Postgres::start_own(&[
        ("autovacuum", "off"),
        ("archive_mode", "on"),
        ("archive_command", "false"),
    ]);
    let database = server.database("taken").await;
    database.execute(&filled("t", 100)).await;
    database.execute(hide).await;
    let role = database
        .role("blind", "secret", "GRANT SELECT, DELETE ON t TO {role}")
        .await;

    let pressure = pressure(&role.url).await;

    assert_eq!(pressure.archiver, Archiver::default());
    assert_eq!(veto(&pressure, &pace()), None);
}

fn pace() -> Pace {
    retention_operator::policy::defaults::defaults().pace
}
