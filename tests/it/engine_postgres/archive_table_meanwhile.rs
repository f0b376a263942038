//! What comes between while rows are archived into a table: changes of the tables, locks, updates, sessions that end.

use std::time::Duration;

use retention_operator::engine::{ChunkTarget, Engine};
use retention_operator::policy::dependents::Dependents;
use retention_operator::policy::plan::RulePlan;
use rstest::rstest;
use sqlx::Executor;

use super::archive_table::{archiving, expired};
use super::{engine, filled, finish, plan, run};
use crate::support::postgres::Postgres;
use crate::support::wait::eventually;

#[rstest]
#[case::of_the_source("ALTER TABLE t ADD extra text DEFAULT 'worth keeping'", "public.t")]
#[case::of_the_archive("ALTER TABLE attic DROP pad", "public.attic")]
#[case::type_of_the_archive("ALTER TABLE attic ALTER pad TYPE varchar(300)", "public.attic")]
#[case::archive_swapped(
    "ALTER TABLE attic RENAME TO a; CREATE TABLE attic (LIKE t)",
    "public.attic"
)]
#[case::trigger_of_the_source(
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.attic WHERE id = OLD.id; RETURN NULL; END';
     CREATE TRIGGER g AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()",
    "public.t"
)]
#[case::archive_dropped("DROP TABLE attic", "attic")]
#[case::archive_moved("CREATE SCHEMA s; ALTER TABLE attic SET SCHEMA s", "attic")]
#[case::archive_rule(
    "CREATE RULE r AS ON INSERT TO attic DO INSTEAD NOTHING",
    "public.attic"
)]
#[case::rule_of_the_source("CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING", "public.t")]
#[tokio::test]
async fn a_change_in_the_middle_ends_the_walk_before_a_value_is_lost(
    #[case] change: &str,
    #[case] names: &str,
) {
    let database = Postgres::shared().database("midway").await;
    database.execute(&filled("t", 1_000)).await;
    // Each has a rule already, which does no harm.
    database
        .execute(
            "CREATE TABLE attic (LIKE t); CREATE RULE harmless AS ON UPDATE TO attic DO INSTEAD NOTHING;
             CREATE RULE harmless AS ON INSERT TO t DO ALSO NOTHING",
        )
        .await;
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, "attic");
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let first = sweep
        .delete_next(ChunkTarget::pages(2))
        .await
        .unwrap()
        .unwrap();
    sweep.commit().await.unwrap();
    database.execute(change).await;

    let error = finish(&mut *sweep, 2).await.unwrap_err();

    assert_eq!(error.category(), "table_changed", "{error}");
    assert!(error.to_string().contains(names), "{error}");
    let left = expired(&database).await;
    assert_eq!(u64::try_from(left).unwrap(), 500 - first.archived_rows);
}

#[rstest]
#[case::becomes_unlogged("ALTER TABLE attic_1 SET UNLOGGED")]
#[case::unlogged_comes(
    "CREATE UNLOGGED TABLE more (LIKE t); ALTER TABLE attic ATTACH PARTITION more FOR VALUES FROM ('2030-01-01') TO ('2031-01-01')"
)]
#[case::trigger_comes(
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
     CREATE TRIGGER g BEFORE INSERT ON attic_1 FOR EACH ROW EXECUTE FUNCTION f()"
)]
#[tokio::test]
async fn a_part_of_the_archive_that_would_not_keep_rows_ends_the_walk(#[case] change: &str) {
    let database = Postgres::shared().database("unlogged").await;
    database.execute(&filled("t", 1_000)).await;
    database
        .execute("CREATE TABLE attic (LIKE t) PARTITION BY RANGE (at); CREATE TABLE attic_1 PARTITION OF attic FOR VALUES FROM ('2020-01-01') TO ('2030-01-01')")
        .await;
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, "attic");
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let first = sweep.delete_next(ChunkTarget::pages(2)).await.unwrap();
    sweep.commit().await.unwrap();
    database.execute(change).await;

    let error = finish(&mut *sweep, 2).await.unwrap_err();

    assert_eq!(error.category(), "table_changed", "{error}");
    let left = u64::try_from(expired(&database).await).unwrap();
    assert_eq!(left, 500 - first.unwrap().rows);
}

#[tokio::test]
async fn a_part_of_the_archive_like_any_other_is_no_change() {
    let database = Postgres::shared().database("morearchive").await;
    database.execute(&filled("t", 1_000)).await;
    database
        .execute("CREATE TABLE attic (LIKE t) PARTITION BY RANGE (at); CREATE TABLE attic_1 PARTITION OF attic FOR VALUES FROM ('2020-01-01') TO ('2030-01-01')")
        .await;
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, "attic");
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    database
        .execute("CREATE TABLE attic_2 PARTITION OF attic DEFAULT")
        .await;

    let swept = finish(&mut *sweep, 2).await.unwrap();

    assert_eq!(swept.archived, 500);
}

#[tokio::test]
async fn blocked_rows_stay_and_the_others_are_archived_once() {
    let database = Postgres::shared().database("careful").await;
    database.execute(&filled("t", 2_000)).await;
    database
        .execute("ALTER TABLE t ADD PRIMARY KEY (id); CREATE TABLE item (t_id bigint REFERENCES t); INSERT INTO item VALUES (2), (1000)")
        .await;
    let engine = engine(&database.url);
    let plan = RulePlan {
        dependents: Dependents::Skip,
        ..archiving(plan(&engine, "t", "at").await, "attic")
    };
    let mut holder = database.connect().await;
    holder.execute("BEGIN").await.unwrap();
    holder
        .execute("UPDATE t SET pad = 'mine' WHERE id = 500")
        .await
        .unwrap();

    let swept = run(&engine, &plan, 16).await.unwrap();
    holder.execute("COMMIT").await.unwrap();
    let rest = run(&engine, &plan, 16).await.unwrap();

    assert_eq!((swept.archived, swept.blocked), (997, 3));
    assert_eq!((rest.archived, rest.blocked), (1, 2));
    let archived: i64 = database
        .scalar("SELECT count(DISTINCT id) * 10000 + count(*) FROM attic")
        .await;
    assert_eq!(archived, 998 * 10_000 + 998);
    let changed: String = database
        .scalar("SELECT pad FROM attic WHERE id = 500")
        .await;
    assert_eq!(changed, "mine", "the row as it was when it went");
}

/// The statement archives what the row is when it goes, and leaves a row alone that is not expired any more.
#[tokio::test]
async fn a_row_that_is_renewed_meanwhile_is_in_the_table_and_not_in_the_archive() {
    let database = Postgres::shared().database("renewed").await;
    database.execute(&filled("t", 100)).await;
    let mut target = super::target(&database.url);
    target.lock_timeout = Duration::from_secs(20);
    let engine = retention_operator::engine::postgres::PostgresEngine::new(target).unwrap();
    let plan = archiving(plan(&engine, "t", "at").await, "attic");
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let mut holder = database.connect().await;
    holder.execute("BEGIN").await.unwrap();
    holder
        .execute("UPDATE t SET at = now() WHERE id = 50")
        .await
        .unwrap();
    let walk = tokio::spawn(async move { finish(&mut *sweep, 100).await.unwrap() });
    eventually(Duration::from_secs(10), "the sweep to wait for the row", async || {
        let waiting: i64 = database
            .scalar("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
            .await;
        if waiting > 0 { Ok(()) } else { Err(waiting) }
    })
    .await;
    holder.execute("COMMIT").await.unwrap();
    let swept = walk.await.unwrap();

    let archived: i64 = database
        .scalar("SELECT count(*) FROM attic WHERE id = 50")
        .await;
    let there: i64 = database
        .scalar("SELECT count(*) FROM t WHERE id = 50")
        .await;
    assert_eq!((swept.archived, archived, there), (49, 0, 1));
}

#[tokio::test]
async fn a_session_that_the_server_ends_in_a_chunk_loses_no_row_and_doubles_none() {
    let database = Postgres::shared().database("cut").await;
    database.execute(&filled("t", 4_000)).await;
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, "attic");
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let mut chunks = 0;
    loop {
        let chunk = match sweep.delete_next(ChunkTarget::pages(3)).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => panic!("{error}"),
        };
        if chunks % 5 == 0 {
            database
                .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
                .await;
        }
        sweep.commit().await.unwrap();
        chunks += 1;
        assert!(chunks < 1_000, "{chunk:?}");
    }
    sweep.close().await;

    let archived: i64 = database
        .scalar("SELECT count(DISTINCT id) * 100000 + count(*) FROM attic")
        .await;
    assert_eq!(archived, 2_000 * 100_000 + 2_000);
    assert_eq!(expired(&database).await, 0);
}

#[tokio::test]
async fn a_row_that_comes_to_refer_is_named_and_the_archive_is_not() {
    let database = Postgres::shared().database("refers").await;
    database.execute(&filled("t", 200)).await;
    database
        .execute("ALTER TABLE t ADD PRIMARY KEY (id); CREATE TABLE child (t_id bigint CONSTRAINT child_of REFERENCES t)")
        .await;
    let engine = engine(&database.url);
    let plan = archiving(plan(&engine, "t", "at").await, "attic");
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    database.execute("INSERT INTO child VALUES (2)").await;

    let refused = sweep.delete_next(ChunkTarget::pages(100)).await;

    let error = refused.unwrap_err();
    assert_eq!(error.category(), "dependents", "{error}");
    assert!(error.to_string().contains("child_of"), "{error}");
    sweep.close().await;
    let archived: i64 = database.scalar("SELECT count(*) FROM attic").await;
    assert_eq!((archived, expired(&database).await), (0, 100));
}
