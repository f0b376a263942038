//! A sweep in bad company: locks, changes of the table, lost connections, a second sweep.

use std::time::{Duration, Instant};

use retention_operator::engine::{ChunkTarget, CommitOutcome, Engine};
use rstest::rstest;
use sqlx::{Executor, postgres::PgConnection};

use super::relay::{Relay, asked};
use super::{engine, filled, finish, plan};

use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, SUPERUSER, TestDatabase, connect};
use crate::support::wait::eventually;

const END_OTHERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";

async fn holding(database: &TestDatabase, sql: &'static str) -> PgConnection {
    let mut session = database.connect().await;
    session.execute("BEGIN").await.unwrap();
    session.execute(sql).await.unwrap();
    session
}

#[rstest]
#[case::may_lock_rows("GRANT SELECT, DELETE, UPDATE ON t TO {role}")]
#[case::may_only_delete("GRANT SELECT, DELETE ON t TO {role}")]
#[tokio::test]
async fn a_row_that_somebody_holds_stays_and_the_others_go(#[case] grants: &str) {
    let database = Postgres::shared().database("held").await;
    database.execute(&filled("t", 4_000)).await;
    let role = database.role("sweeper", "secret", grants).await;
    let engine = engine(&role.url);
    let plan = plan(&engine, "t", "at").await;
    let mut holder = holding(
        &database,
        "SELECT FROM t WHERE id IN (1000, 3001) FOR UPDATE",
    )
    .await;

    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let started = Instant::now();
    let swept = finish(&mut *sweep, 16).await.unwrap();
    let took = started.elapsed();
    sweep.close().await;

    let expired_left: i64 = database
        .scalar(&format!(
            "SELECT count(*) FROM t WHERE at < '{}'",
            super::CUTOFF
        ))
        .await;
    assert_eq!(swept.rows + swept.blocked, 2_000);
    assert_eq!(i64::try_from(swept.blocked).unwrap(), expired_left);
    let kept_at_most = if grants.contains("UPDATE") { 1 } else { 40 };
    assert!((1..=kept_at_most).contains(&swept.blocked), "{swept:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");

    holder.execute("COMMIT").await.unwrap();
    let rest = super::run(&engine, &plan, 16).await.unwrap();
    assert_eq!(swept.rows + rest.rows, 2_000);
}

#[tokio::test]
async fn a_row_that_is_updated_out_of_expiry_meanwhile_stays() {
    let database = Postgres::shared().database("updated").await;
    database.execute(&filled("t", 100)).await;
    let mut target = super::target(&database.url);
    target.lock_timeout = Duration::from_secs(20);
    let engine = retention_operator::engine::postgres::PostgresEngine::new(target).unwrap();
    let plan = plan(&engine, "t", "at").await;
    let mut holder = holding(&database, "UPDATE t SET at = now() WHERE id = 50").await;

    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let walk = tokio::spawn(async move { finish(&mut *sweep, 100).await.unwrap() });
    crate::support::wait::eventually(Duration::from_secs(10), "the sweep to wait for the row", async || {
        let waiting: i64 = database
            .scalar("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
            .await;
        if waiting > 0 { Ok(()) } else { Err(waiting) }
    })
    .await;
    holder.execute("COMMIT").await.unwrap();
    let swept = walk.await.unwrap();

    let stays: i64 = database
        .scalar("SELECT count(*) FROM t WHERE id = 50")
        .await;
    assert_eq!((swept.rows, stays), (49, 1));
}

#[tokio::test]
async fn a_locked_table_is_not_waited_for() {
    let database = Postgres::shared().database("locktable").await;
    database.execute(&filled("t", 100)).await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let mut holder = holding(&database, "LOCK TABLE t IN SHARE MODE").await;

    let started = Instant::now();
    let error = sweep.delete_next(ChunkTarget::pages(5)).await.unwrap_err();
    let took = started.elapsed();
    holder.execute("COMMIT").await.unwrap();
    let swept = finish(&mut *sweep, 5).await.unwrap();

    assert_eq!(error.category(), "lock_timeout", "{error}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(swept.rows, 50);
}

#[tokio::test]
async fn two_sweeps_of_one_table_never_meet() {
    let database = Postgres::shared().database("two").await;
    database
        .execute(
            "CREATE TABLE p (at timestamptz) PARTITION BY RANGE (at); CREATE TABLE p1 PARTITION OF p DEFAULT;
             INSERT INTO p SELECT '2020-01-01' FROM generate_series(1, 100)",
        )
        .await;
    let first_engine = engine(&database.url);
    let second_engine = engine(&database.url);
    let whole = plan(&first_engine, "p", "at").await;
    let part = plan(&first_engine, "p1", "at").await;
    let mut first = first_engine.open_sweep(&whole, None).await.unwrap();
    let mut same = second_engine.open_sweep(&whole, None).await.unwrap();
    let mut below = second_engine.open_sweep(&part, None).await.unwrap();

    first
        .delete_next(ChunkTarget::pages(1))
        .await
        .unwrap()
        .unwrap();
    let refused = same.delete_next(ChunkTarget::pages(1)).await.unwrap_err();
    let also_refused = below.delete_next(ChunkTarget::pages(1)).await.unwrap_err();
    first.commit().await.unwrap();
    let after = same
        .delete_next(ChunkTarget::pages(1))
        .await
        .unwrap()
        .unwrap();

    assert_eq!(refused.category(), "swept_elsewhere");
    assert_eq!(also_refused.category(), "swept_elsewhere");
    assert_eq!(after.rows, 0);
}

#[rstest]
#[case::dropped("DROP TABLE t", "table_changed")]
#[case::renamed("ALTER TABLE t RENAME TO other", "table_changed")]
#[case::swapped(
    "ALTER TABLE t RENAME TO other; CREATE TABLE t (LIKE other); INSERT INTO t SELECT * FROM other",
    "table_changed"
)]
#[case::column_renamed("ALTER TABLE t RENAME at TO was", "table_changed")]
#[case::schema_moved("CREATE SCHEMA s; ALTER TABLE t SET SCHEMA s", "table_changed")]
#[case::key_added(
    "ALTER TABLE t ADD PRIMARY KEY (id); CREATE TABLE c (t_id bigint REFERENCES t ON DELETE CASCADE)",
    "table_changed"
)]
#[case::rule_added("CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING", "table_changed")]
#[tokio::test]
async fn a_table_that_changes_in_the_middle_ends_the_walk(
    #[case] change: &str,
    #[case] category: &str,
) {
    let database = Postgres::shared().database("middle").await;
    database.execute(&filled("t", 1_000)).await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    sweep
        .delete_next(ChunkTarget::pages(2))
        .await
        .unwrap()
        .unwrap();
    sweep.commit().await.unwrap();
    database.execute(change).await;

    let error = finish(&mut *sweep, 2).await.unwrap_err();

    assert_eq!(error.category(), category, "{error}");
    assert!(error.to_string().contains("public.t"), "{error}");
}

#[rstest]
#[case::dropped("DROP TABLE p_b", "parts_changed")]
#[case::replaced(
    "DROP TABLE p_b; CREATE TABLE p_b AS SELECT 2 AS id, '2020-01-01'::timestamptz AS at",
    "parts_changed"
)]
#[case::detached("ALTER TABLE p_2 DETACH PARTITION p_b", "parts_changed")]
#[case::detached_further_up("ALTER TABLE p DETACH PARTITION p_2", "parts_changed")]
#[case::and_the_table_is_another(
    "ALTER TABLE p DETACH PARTITION p_2; ALTER TABLE p RENAME TO q",
    "table_changed"
)]
#[case::renamed("ALTER TABLE p_b RENAME TO p_c", "table_changed")]
#[tokio::test]
async fn a_part_that_leaves_its_table_in_the_middle_is_for_a_new_plan(
    #[case] change: &str,
    #[case] category: &str,
) {
    let database = Postgres::shared().database("leaves").await;
    database
        .execute(
            "CREATE TABLE p (id int, at timestamptz) PARTITION BY LIST (id); CREATE TABLE p_a PARTITION OF p FOR VALUES IN (1);
             CREATE TABLE p_2 PARTITION OF p FOR VALUES IN (2) PARTITION BY LIST (id); CREATE TABLE p_b PARTITION OF p_2 FOR VALUES IN (2);
             INSERT INTO p VALUES (1, '2020-01-01'), (2, '2020-01-01')",
        )
        .await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "p", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let first = sweep.delete_next(ChunkTarget::pages(1)).await.unwrap();
    sweep.commit().await.unwrap();
    database.execute(change).await;

    let error = finish(&mut *sweep, 1).await.unwrap_err();

    assert_eq!(first.unwrap().rows, 1);
    assert_eq!(error.category(), category, "{error}");
}

#[rstest]
#[case::rewritten("VACUUM FULL t", 500)]
#[case::truncated("TRUNCATE t", 0)]
#[case::column_added("ALTER TABLE t ADD extra int DEFAULT 1", 500)]
#[tokio::test]
async fn a_table_that_is_rewritten_in_the_middle_is_walked_anew(
    #[case] change: &str,
    #[case] left: i64,
) {
    let database = Postgres::shared().database("rewritten").await;
    database.execute(&filled("t", 1_000)).await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    sweep
        .delete_next(ChunkTarget::pages(9))
        .await
        .unwrap()
        .unwrap();
    sweep.commit().await.unwrap();
    database.execute(change).await;

    finish(&mut *sweep, 9).await.unwrap();

    let rows: i64 = database.scalar("SELECT count(*) FROM t").await;
    assert_eq!(rows, left);
    assert_eq!(engine.count_expired(&plan).await.unwrap().expired, 0);
}

#[tokio::test]
async fn a_referring_table_that_fills_in_the_middle_loses_nothing() {
    let database = Postgres::shared().database("fills").await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, at timestamptz); INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(1, 1000) n;
             CREATE TABLE child (t_id int REFERENCES t ON DELETE CASCADE) PARTITION BY RANGE (t_id);
             CREATE TABLE child1 PARTITION OF child DEFAULT;",
        )
        .await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let first = sweep
        .delete_next(ChunkTarget::pages(2))
        .await
        .unwrap()
        .unwrap();
    sweep.commit().await.unwrap();
    database.execute("INSERT INTO child VALUES (1000)").await;

    let error = finish(&mut *sweep, 2).await.unwrap_err();

    assert!(first.rows > 0);
    assert_eq!(error.category(), "dependents", "{error}");
    assert!(error.to_string().contains("public.child1"), "{error}");
    let children: i64 = database.scalar("SELECT count(*) FROM child").await;
    let rows: i64 = database.scalar("SELECT count(*) FROM t").await;
    assert_eq!(
        (children, u64::try_from(rows).unwrap()),
        (1, 1_000 - first.rows)
    );
}

#[tokio::test]
async fn a_session_that_the_server_ends_before_the_commit_loses_its_chunk_only() {
    let database = Postgres::shared().database("ended").await;
    database.execute(&filled("t", 1_000)).await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let lost = sweep
        .delete_next(ChunkTarget::pages(5))
        .await
        .unwrap()
        .unwrap();
    database.execute(END_OTHERS).await;

    let outcome = sweep.commit().await.unwrap();
    let swept = finish(&mut *sweep, 5).await.unwrap();

    assert!(lost.rows > 0);
    assert_eq!(outcome, CommitOutcome::RolledBack);
    assert_eq!(swept.rows, 500);
}

#[tokio::test]
async fn a_crash_of_the_server_between_chunks_is_survived() {
    let mut postgres = Postgres::start_own(&[("fsync", "on")]);
    let database = postgres.database("crash").await;
    database.execute(&filled("t", 1_000)).await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let first = sweep
        .delete_next(ChunkTarget::pages(5))
        .await
        .unwrap()
        .unwrap();
    sweep.commit().await.unwrap();
    postgres.crash();

    let away = sweep.delete_next(ChunkTarget::pages(5)).await.unwrap_err();
    postgres.restart();
    let rest = finish(&mut *sweep, 5).await.unwrap();

    assert!(away.is_transient(), "{away}");
    assert_eq!(first.rows + rest.rows, 500);
}

#[tokio::test]
async fn behind_a_pooler_too_a_lost_session_loses_its_chunk_only() {
    let postgres = Postgres::shared();
    let database = postgres.database("lost").await;
    database.execute(&filled("t", 1_000)).await;
    let pooler = PgBouncer::start(postgres, &[(SUPERUSER, SUPERUSER)]);
    let engine = engine(&pooler.url(&database.name, SUPERUSER, SUPERUSER));
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let chunk = sweep
        .delete_next(ChunkTarget::pages(5))
        .await
        .unwrap()
        .unwrap();
    // The server's side goes away; the pooler then drops the client too.
    database.execute(END_OTHERS).await;

    let outcome = sweep.commit().await.unwrap();
    let rest = finish(&mut *sweep, 5).await.unwrap();

    assert!(chunk.rows > 0);
    assert_eq!(outcome, CommitOutcome::RolledBack);
    assert_eq!(rest.rows, 500);
}

/// The commit happened, its answer never came.
#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_looked_up() {
    let database = Postgres::shared().database("unknown").await;
    database.execute(&filled("t", 1_000)).await;
    let relay = Relay::start(Postgres::shared().port()).await;
    let url = format!(
        "postgres://{SUPERUSER}:{SUPERUSER}@127.0.0.1:{}/{}",
        relay.port, database.name
    );
    let engine = engine(&url);
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let chunk = sweep
        .delete_next(ChunkTarget::pages(5))
        .await
        .unwrap()
        .unwrap();
    relay.swallow_answers();

    let outcome = sweep.commit().await.unwrap();
    let rest = finish(&mut *sweep, 5).await.unwrap();

    assert!(chunk.rows > 0);
    assert_eq!(outcome, CommitOutcome::Committed);
    assert_eq!(chunk.rows + rest.rows, 500);
}

/// Right after a promotion the control file still names the old timeline.
#[tokio::test]
async fn after_a_failover_a_number_that_another_transaction_got_says_nothing_of_the_chunk() {
    let primary = Postgres::start_own(&[("autovacuum", "off")]);
    let database = primary.database("failover").await;
    // The checkpoint that a promotion asks for takes its time: there is something to write.
    let spread = [
        ("autovacuum", "off"),
        ("checkpoint_timeout", "3600"),
        ("checkpoint_completion_target", "0.9"),
    ];
    let standby = Postgres::standby_of(&primary, &spread);
    database.execute(&filled("t", 20_000)).await;
    let url = |port: u16| {
        format!(
            "postgres://{SUPERUSER}:{SUPERUSER}@127.0.0.1:{port}/{}",
            database.name
        )
    };
    let written: String = database.scalar("SELECT pg_current_wal_lsn()::text").await;
    let follows = format!("SELECT (pg_last_wal_replay_lsn() >= '{written}')::text");
    let there = url(standby.port());
    eventually(
        Duration::from_secs(30),
        "the standby to follow",
        async || match asked(&there, &follows).await.as_str() {
            "true" => Ok(()),
            other => Err(other.to_owned()),
        },
    )
    .await;
    let mut promoted = connect(&there).await;
    for statement in [
        "ALTER SYSTEM SET primary_conninfo = ''",
        "SELECT pg_reload_conf()",
    ] {
        promoted.execute(statement).await.unwrap();
    }
    eventually(Duration::from_secs(30), "the stream to end", async || {
        let streams: i64 = database
            .scalar("SELECT count(*) FROM pg_stat_replication")
            .await;
        if streams == 0 { Ok(()) } else { Err(streams) }
    })
    .await;
    let relay = Relay::start(primary.port()).await;
    let engine = engine(&url(relay.port));
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let target = ChunkTarget::pages(5);
    sweep.delete_next(target).await.unwrap().unwrap();
    promoted.execute("SELECT pg_promote()").await.unwrap();
    for _ in 0..100 {
        let number = "SELECT pg_current_xact_id()";
        promoted.execute(number).await.unwrap();
    }
    relay.lead_to(standby.port());
    relay.swallow_answers();

    let outcome = sweep.commit().await;

    let control = "SELECT timeline_id::text || pg_is_in_recovery() FROM pg_control_checkpoint()";
    assert_eq!(
        asked(&there, control).await,
        "1false",
        "the checkpoint came too early for this test"
    );
    let error = outcome.expect_err("nobody can say");
    assert_eq!(error.category(), "connection_lost", "{error}");
    let rows = asked(&there, "SELECT count(*)::text FROM t").await;
    assert_eq!(rows, "20000");
}
