//! Which rows a sweep takes.

use std::time::Duration;

use jiff::civil::date;
use retention_operator::engine::{ChunkTarget, CommitOutcome, Engine};
use retention_operator::policy::cutoff::Cutoff;
use retention_operator::policy::predicate::Predicate;
use rstest::rstest;

use super::{CUTOFF, engine, facts, filled, plan, plan_of, run};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, SUPERUSER, TestDatabase, connect};
use crate::support::wait::eventually;

#[rstest]
#[case("timestamptz", Cutoff::Instant(CUTOFF.parse().unwrap()), "2024-01-01 00:00:00+00", "2023-12-31 23:59:59.999999+00")]
#[case("timestamp", Cutoff::Local(date(2024, 1, 1).at(0, 0, 0, 0)), "2024-01-01 00:00:00", "2023-12-31 23:59:59.999999")]
#[case("date", Cutoff::Date(date(2024, 1, 1)), "2024-01-01", "2023-12-31")]
#[tokio::test]
async fn only_what_is_strictly_before_the_cutoff_goes(
    #[case] kind: &str,
    #[case] cutoff: Cutoff,
    #[case] at: &str,
    #[case] before: &str,
) {
    let database = Postgres::shared().database("cutoff").await;
    // The session's own settings must not matter.
    database
        .execute(&format!(
            "CREATE TABLE t (name text, at {kind});
             INSERT INTO t VALUES ('at', '{at}'), ('before', '{before}'), ('null', NULL), ('infinity', 'infinity'),
               ('-infinity', '-infinity'), ('ancient', '4000-01-01 BC'), ('far', '5000-01-01');
             ALTER DATABASE \"{}\" SET timezone = 'America/Los_Angeles'; ALTER DATABASE \"{}\" SET datestyle = 'German, DMY'",
            database.name, database.name
        ))
        .await;
    let engine = engine(&database.url);
    let plan = plan_of(facts(&engine, "public", "t").await, "at", cutoff);

    let expected = engine.count_expired(&plan).await.unwrap().expired;
    let swept = run(&engine, &plan, 8).await.unwrap();

    let left: String = database
        .scalar("SELECT string_agg(name, ' ' ORDER BY name COLLATE \"C\") FROM t")
        .await;
    assert_eq!(left, "at far infinity null");
    assert_eq!((expected, swept.rows), (3, 3));
    engine.close().await;
}

#[tokio::test]
async fn every_expired_row_goes_in_small_chunks_and_a_second_sweep_finds_none() {
    let database = Postgres::shared().database("small").await;
    database.execute(&filled("t", 10_000)).await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;

    let first = run(&engine, &plan, 7).await.unwrap();
    let second = run(&engine, &plan, 7).await.unwrap();

    assert_eq!((first.rows, first.blocked), (5_000, 0));
    assert!(first.chunks > 20);
    assert_eq!(second.rows, 0);
    assert_eq!(engine.count_rows(&plan.table).await.unwrap(), 5_000);
    assert_eq!(engine.count_expired(&plan).await.unwrap().expired, 0);
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_makes_no_difference_and_keeps_no_setting() {
    let postgres = Postgres::shared();
    let database = postgres.database("pooled").await;
    database.execute(&filled("t", 5_000)).await;
    let pooler = PgBouncer::start(postgres, &[(SUPERUSER, SUPERUSER)]);
    let url = pooler.url(&database.name, SUPERUSER, SUPERUSER);
    let engine = engine(&url);
    let plan = plan(&engine, "t", "at").await;

    engine.check_plan(&plan).await.unwrap();
    engine.facts().await.unwrap();
    engine.statistics(&plan).await.unwrap();
    let swept = run(&engine, &plan, 9).await.unwrap();

    assert_eq!(swept.rows, 2_500);
    let mut other = connect(&url).await;
    let row = sqlx::raw_sql(
        "SELECT current_setting('search_path') || current_setting('lock_timeout') || current_setting('transaction_read_only') AS s,
           (SELECT count(*) FROM pg_prepared_statements) AS n",
    )
    .fetch_one(&mut other)
    .await
    .unwrap();
    assert_eq!(
        sqlx::Row::get::<String, _>(&row, "s"),
        "\"$user\", public0off"
    );
    assert_eq!(sqlx::Row::get::<i64, _>(&row, "n"), 0);
}

#[tokio::test]
async fn names_with_quotes_dots_spaces_and_other_scripts_are_plain_names() {
    let database = Postgres::shared().database("names").await;
    database
        .execute(
            r#"CREATE SCHEMA "odd.schema"; CREATE TABLE "odd.schema"."Odd ""Täble'; --" ("Ät ""é'" timestamptz, "from" text);
               INSERT INTO "odd.schema"."Odd ""Täble'; --" VALUES ('2020-01-01', 'x'), ('2030-01-01', 'x')"#,
        )
        .await;
    let engine = engine(&database.url);
    let table = facts(&engine, "odd.schema", "Odd \"Täble'; --").await;
    let plan = plan_of(table, "Ät \"é'", Cutoff::Instant(CUTOFF.parse().unwrap()));

    engine.check_plan(&plan).await.unwrap();

    assert_eq!(run(&engine, &plan, 5).await.unwrap().rows, 1);
}

#[tokio::test]
async fn partitions_and_children_are_walked_one_by_one() {
    let database = Postgres::shared().database("leaves").await;
    database
        .execute(
            "CREATE TABLE p (id int, at timestamptz) PARTITION BY RANGE (at);
             CREATE TABLE p23 PARTITION OF p FOR VALUES FROM ('2023-01-01') TO ('2024-01-01') PARTITION BY LIST (id);
             CREATE TABLE p23_1 PARTITION OF p23 FOR VALUES IN (1);
             CREATE TABLE p23_rest PARTITION OF p23 DEFAULT;
             CREATE TABLE p_rest PARTITION OF p DEFAULT;
             INSERT INTO p SELECT n % 5, '2022-01-01'::timestamptz + n * interval '1 day' FROM generate_series(1, 1500) n;
             CREATE TABLE parent (at timestamptz); CREATE TABLE child (extra int) INHERITS (parent);
             CREATE TABLE grandchild () INHERITS (child);
             INSERT INTO parent VALUES ('2020-01-01'), ('2030-01-01');
             INSERT INTO child VALUES ('2020-01-01', 1), ('2030-01-01', 1);
             INSERT INTO grandchild VALUES ('2020-01-01', 1), ('2030-01-01', 1);",
        )
        .await;
    let engine = engine(&database.url);
    let partitioned = plan(&engine, "p", "at").await;
    let inherited = plan(&engine, "parent", "at").await;

    let expected = engine.count_expired(&partitioned).await.unwrap().expired;
    let from_partitions = run(&engine, &partitioned, 1).await.unwrap();
    let from_children = run(&engine, &inherited, 1).await.unwrap();

    let expired: i64 = database
        .scalar(&format!("SELECT count(*) FROM p WHERE at < '{CUTOFF}'"))
        .await;
    let left: i64 = database.scalar("SELECT count(*) FROM p").await;
    assert_eq!(expired, 0);
    assert_eq!(
        (expected, from_partitions.rows, left),
        (729, 729, 1500 - 729)
    );
    assert_eq!(from_children.rows, 3);
    let parents: i64 = database.scalar("SELECT count(*) FROM parent").await;
    assert_eq!(parents, 3);
}

#[tokio::test]
async fn a_part_alone_is_swept_without_its_siblings() {
    let database = Postgres::shared().database("part").await;
    database
        .execute(
            "CREATE TABLE parent (at timestamptz); CREATE TABLE child () INHERITS (parent);
             INSERT INTO parent VALUES ('2020-01-01'); INSERT INTO child VALUES ('2020-01-01');",
        )
        .await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "child", "at").await;

    run(&engine, &plan, 1).await.unwrap();

    let left: i64 = database.scalar("SELECT count(*) FROM ONLY parent").await;
    assert_eq!(left, 1);
}

#[tokio::test]
async fn tables_without_a_key_and_with_generated_columns_are_swept() {
    let database = Postgres::shared().database("generated").await;
    database
        .execute(
            "CREATE TABLE t (at timestamptz, n int, twice int GENERATED ALWAYS AS (n * 2) STORED, id int GENERATED ALWAYS AS IDENTITY);
             INSERT INTO t VALUES ('2020-01-01', 1), ('2020-01-01', 1), ('2030-01-01', 1);",
        )
        .await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;

    assert_eq!(run(&engine, &plan, 1).await.unwrap().rows, 2);
}

#[tokio::test]
async fn only_rows_whose_where_is_true_and_whose_hold_is_not_true_go() {
    let database = Postgres::shared().database("where").await;
    database
        .execute(
            r"CREATE TYPE mood AS ENUM ('sad', 'ok');
              CREATE TABLE t (id int, at timestamptz, status text, mood mood, customer int, flag boolean);
              CREATE INDEX ON t (status); CREATE INDEX ON t (flag);
              INSERT INTO t VALUES (1, '2020-01-01', 'it''s \ done', 'ok', 1, true), (2, '2020-01-01', NULL, 'ok', 1, true),
                (3, '2020-01-01', 'open', 'ok', 1, true), (4, '2020-01-01', 'x', 'sad', 1, true),
                (5, '2020-01-01', 'x', 'ok', 99, true), (6, '2020-01-01', 'x', 'ok', NULL, true), (7, '2030-01-01', 'x', 'ok', 1, true)",
        )
        .await;
    let engine = engine(&database.url);
    let mut plan = plan(&engine, "t", "at").await;
    plan.filter = Some(
        Predicate::parse("status <> 'open' AND mood = 'ok' AND (flag OR status LIKE '%\\%')")
            .unwrap(),
    );
    plan.holds = vec![Predicate::parse("customer = 99").unwrap()];

    engine.check_plan(&plan).await.unwrap();
    let expected = engine.count_expired(&plan).await.unwrap().expired;
    let swept = run(&engine, &plan, 1).await.unwrap();

    let left: String = database
        .scalar("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t")
        .await;
    assert_eq!(left, "2 3 4 5 7");
    assert_eq!((expected, swept.rows), (2, 2));
}

#[tokio::test]
async fn operators_that_a_schema_or_a_session_redefines_are_not_used() {
    let database = Postgres::shared().database("hostile").await;
    database
        .execute(&format!(
            "CREATE TABLE t (at timestamptz, n int); INSERT INTO t VALUES ('2020-01-01', 1), ('2030-01-01', 1);
             CREATE FUNCTION public.always(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
             CREATE OPERATOR public.< (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = public.always);
             ALTER DATABASE \"{0}\" SET search_path = public, pg_catalog; ALTER DATABASE \"{0}\" SET standard_conforming_strings = off;
             ALTER DATABASE \"{0}\" SET enable_tidscan = off; ALTER DATABASE \"{0}\" SET transform_null_equals = on",
            database.name
        ))
        .await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;

    assert_eq!(run(&engine, &plan, 1).await.unwrap().rows, 1);
}

#[tokio::test]
async fn rows_that_appear_during_the_walk_are_visited_once_more() {
    let database = Postgres::shared().database("appear").await;
    database.execute(&filled("t", 2_000)).await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();

    sweep
        .delete_next(ChunkTarget::pages(5))
        .await
        .unwrap()
        .unwrap();
    sweep.commit().await.unwrap();
    database
        .execute("INSERT INTO t SELECT n, '2023-01-01', repeat('x', 100) FROM generate_series(1, 1000) n")
        .await;
    super::finish(&mut *sweep, 5).await.unwrap();
    sweep.close().await;

    assert_eq!(engine.count_expired(&plan).await.unwrap().expired, 0);
}

#[tokio::test]
async fn a_trigger_that_vetoes_or_inserts_again_does_not_keep_a_sweep_going() {
    let database = Postgres::shared().database("trigger").await;
    database
        .execute(
            "CREATE TABLE veto (at timestamptz); INSERT INTO veto SELECT '2020-01-01' FROM generate_series(1, 500);
             CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER veto BEFORE DELETE ON veto FOR EACH ROW EXECUTE FUNCTION veto();
             CREATE TABLE again (at timestamptz); INSERT INTO again SELECT '2020-01-01' FROM generate_series(1, 500);
             CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.again VALUES (OLD.at); RETURN OLD; END';
             CREATE TRIGGER again BEFORE DELETE ON again FOR EACH ROW EXECUTE FUNCTION again();",
        )
        .await;
    let engine = engine(&database.url);
    let veto = plan(&engine, "veto", "at").await;
    let again = plan(&engine, "again", "at").await;

    let vetoed = run(&engine, &veto, 1).await.unwrap();
    let inserted = run(&engine, &again, 1).await.unwrap();

    assert_eq!(vetoed.rows, 0);
    assert!(inserted.rows >= 500 && inserted.chunks < 20, "{inserted:?}");
    assert_eq!(veto.table.delete_triggers, ["veto"]);
}

#[tokio::test]
async fn a_rolled_back_chunk_leaves_its_rows_and_is_taken_again() {
    let database = Postgres::shared().database("rollback").await;
    database.execute(&filled("t", 1_000)).await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();

    let first = sweep
        .delete_next(ChunkTarget::pages(3))
        .await
        .unwrap()
        .unwrap();
    sweep.rollback().await.unwrap();
    let after_rollback = engine.count_expired(&plan).await.unwrap().expired;
    let again = sweep
        .delete_next(ChunkTarget::pages(3))
        .await
        .unwrap()
        .unwrap();
    let outcome = sweep.commit().await.unwrap();

    // The log is the whole server's.
    assert_eq!((first.rows, first.pages), (again.rows, again.pages));
    assert_eq!(after_rollback, 500);
    assert_eq!(outcome, CommitOutcome::Committed);
    let rest = super::finish(&mut *sweep, 3).await.unwrap();
    assert_eq!(first.rows + rest.rows, 500);
}

#[tokio::test]
async fn a_cursor_goes_on_where_the_last_commit_was() {
    let database = Postgres::shared().database("cursor").await;
    database.execute(&filled("t", 3_000)).await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let mut rows = 0;
    for _ in 0..3 {
        rows += sweep
            .delete_next(ChunkTarget::pages(4))
            .await
            .unwrap()
            .unwrap()
            .rows;
        sweep.commit().await.unwrap();
    }
    // Deleted, never committed: the process ends here.
    sweep
        .delete_next(ChunkTarget::pages(4))
        .await
        .unwrap()
        .unwrap();
    let cursor = sweep.cursor();
    drop(sweep);

    let mut resumed = engine.open_sweep(&plan, cursor).await.unwrap();
    let rest = super::finish(&mut *resumed, 4).await.unwrap();

    assert_eq!(resumed.cursor(), None);
    assert_eq!(rows + rest.rows, 1_500);
    let (walked, all) = resumed.progress();
    assert_eq!(walked, all);
}

#[rstest]
#[case::no_index("")]
#[case::index("CREATE INDEX ON t (at); ANALYZE t;")]
#[case::stale_statistics(
    "CREATE INDEX ON t (at); ANALYZE t; UPDATE t SET at = '2023-01-01'; CREATE INDEX ON t (id)"
)]
#[tokio::test]
async fn a_chunk_reads_its_range_of_blocks_and_nothing_else(#[case] prepare: &str) {
    let database = Postgres::shared().database("plans").await;
    database
        .execute(&format!("{} {prepare}", filled("t", 40_000)))
        .await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;
    let before = scans_once(&database, "n_tup_ins = 40000").await;

    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let chunk = sweep
        .delete_next(ChunkTarget::pages(10))
        .await
        .unwrap()
        .unwrap();
    sweep.commit().await.unwrap();
    sweep.close().await;

    assert_eq!(chunk.pages, 10);
    // Scans of a range of tids are the only ones that no counter counts.
    let after = scans_once(&database, &format!("n_tup_del = {}", chunk.rows)).await;
    assert_eq!(before, after);
}

/// Scans of `t` and of its indexes, as soon as the counters have arrived that `arrived` tells.
pub(super) async fn scans_once(database: &TestDatabase, arrived: &str) -> i64 {
    eventually(Duration::from_secs(20), arrived, async || {
        let scans: Option<i64> = database
            .scalar(&format!(
                "SELECT max(CASE WHEN {arrived} THEN seq_scan + coalesce(idx_scan, 0) END)
                 FROM pg_stat_user_tables WHERE relname = 't'"
            ))
            .await;
        scans.ok_or("not yet")
    })
    .await
}
