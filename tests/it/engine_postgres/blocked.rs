//! Rows that cannot go now: they stay, are counted, and stop no other.

use std::time::{Duration, Instant};

use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::engine::{DatabaseTarget, Engine};
use retention_operator::policy::dependents::Dependents;
use retention_operator::policy::plan::RulePlan;
use rstest::rstest;
use sqlx::Executor;

use super::{engine, filled, plan, run, target};
use crate::support::postgres::Postgres;
use crate::support::wait::eventually;

fn trigger(body: &str, when: &str) -> String {
    format!(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} END$$;
         CREATE TRIGGER g {when} DELETE ON t FOR EACH ROW EXECUTE FUNCTION f();"
    )
}

#[tokio::test]
async fn rows_whose_delete_a_trigger_vetoes_are_walked_once_and_are_still_expired() {
    let database = Postgres::shared().database("veto").await;
    database.execute(&filled("t", 1_000)).await;
    database
        .execute(&trigger(
            "IF OLD.id % 100 = 0 THEN RETURN NULL; END IF; RETURN OLD;",
            "BEFORE",
        ))
        .await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;

    let swept = run(&engine, &plan, 3).await.unwrap();

    assert_eq!(swept.rows, 490);
    assert_eq!(engine.count_left(&plan, 490).await.unwrap().expired, 10);
}

#[tokio::test]
async fn rows_that_a_trigger_inserts_again_do_not_keep_the_walk_going_for_ever() {
    let database = Postgres::shared().database("again").await;
    database.execute(&filled("t", 1_000)).await;
    database
        .execute(&trigger(
            "INSERT INTO public.t VALUES (OLD.id, OLD.at, OLD.pad); RETURN OLD;",
            "AFTER",
        ))
        .await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;

    let swept = run(&engine, &plan, 3).await.unwrap();

    assert!((500..2_000).contains(&swept.rows), "{swept:?}");
    assert_eq!(
        engine.count_left(&plan, swept.rows).await.unwrap().expired,
        500
    );
}

#[rstest]
#[case::plain("RAISE EXCEPTION 'not this one'")]
#[case::in_the_guise_of_a_key("RAISE EXCEPTION 'not this one' USING ERRCODE = '23503'")]
#[case::in_the_guise_of_a_null(
    "RAISE EXCEPTION 'not this one' USING ERRCODE = '23502', TABLE = 't'"
)]
#[tokio::test]
async fn a_trigger_that_raises_an_error_fails_the_rule_with_its_words(#[case] raise: &str) {
    let database = Postgres::shared().database("raise").await;
    database.execute(&filled("t", 100)).await;
    database
        .execute(&format!(
            "{} ALTER TABLE t ADD PRIMARY KEY (id); CREATE TABLE item (t_id bigint REFERENCES t); INSERT INTO item VALUES (1);",
            trigger(&format!("{raise}; RETURN OLD;"), "BEFORE")
        ))
        .await;
    let engine = engine(&database.url);

    for dependents in [Dependents::Skip, Dependents::Cascade] {
        let plan = RulePlan {
            dependents,
            ..plan(&engine, "t", "at").await
        };
        let error = run(&engine, &plan, 8).await.unwrap_err();
        assert!(error.to_string().contains("not this one"), "{error}");
    }

    let rows: i64 = database.scalar("SELECT count(*) FROM t").await;
    assert_eq!(rows, 100);
}

#[tokio::test]
async fn a_trigger_that_relies_on_a_search_path_is_told_how_not_to() {
    let database = Postgres::shared().database("path").await;
    database.execute(&filled("t", 100)).await;
    database
        .execute(&format!(
            "CREATE TABLE log (id bigint); {}",
            trigger("INSERT INTO log VALUES (OLD.id); RETURN OLD;", "AFTER")
        ))
        .await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "t", "at").await;

    let error = run(&engine, &plan, 8).await.unwrap_err();
    database
        .execute("ALTER FUNCTION f() SET search_path = public")
        .await;
    let swept = run(&engine, &plan, 8).await.unwrap();

    assert!(
        error
            .to_string()
            .contains("ALTER FUNCTION … SET search_path"),
        "{error}"
    );
    assert_eq!(swept.rows, 50);
}

#[rstest]
#[case::refuse(Dependents::Refuse)]
#[case::skip(Dependents::Skip)]
#[case::cascade(Dependents::Cascade)]
#[tokio::test]
async fn a_row_that_somebody_locks_stays_and_the_service_is_not_kept_waiting(
    #[case] dependents: Dependents,
) {
    let database = Postgres::shared().database("lockrow").await;
    database.execute(&filled("t", 2_000)).await;
    database
        .execute("ALTER TABLE t ADD PRIMARY KEY (id); CREATE TABLE item (t_id bigint REFERENCES t ON DELETE CASCADE);")
        .await;
    if dependents != Dependents::Refuse {
        database.execute("INSERT INTO item VALUES (3)").await;
    }
    let engine = engine(&database.url);
    let plan = RulePlan {
        dependents,
        ..plan(&engine, "t", "at").await
    };
    let mut holder = database.connect().await;
    holder.execute("BEGIN").await.unwrap();
    holder
        .execute("UPDATE t SET pad = 'mine' WHERE id = 500")
        .await
        .unwrap();

    let started = Instant::now();
    let swept = run(&engine, &plan, 1_000).await.unwrap();
    let took = started.elapsed();
    holder.execute("COMMIT").await.unwrap();

    assert_eq!((swept.rows, swept.blocked), (999, 1));
    // One wait for the lock, at most 100 ms, and no other.
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    assert_eq!(run(&engine, &plan, 1_000).await.unwrap().rows, 1);
}

#[tokio::test]
async fn a_child_that_somebody_locks_keeps_the_page_of_its_parent_only() {
    let database = Postgres::shared().database("lockchild").await;
    database.execute(&filled("t", 4_000)).await;
    database
        .execute(
            "ALTER TABLE t ADD PRIMARY KEY (id); CREATE TABLE item (t_id bigint REFERENCES t ON DELETE CASCADE, n int);
             CREATE INDEX ON item (t_id); INSERT INTO item SELECT id FROM t;",
        )
        .await;
    let engine = engine(&database.url);
    let plan = RulePlan {
        dependents: Dependents::Cascade,
        ..plan(&engine, "t", "at").await
    };
    let mut holder = database.connect().await;
    holder.execute("BEGIN").await.unwrap();
    holder
        .execute("UPDATE item SET n = 1 WHERE t_id = 2000")
        .await
        .unwrap();

    let swept = run(&engine, &plan, 16).await.unwrap();
    holder.execute("COMMIT").await.unwrap();

    assert_eq!(swept.rows + swept.blocked, 2_000);
    assert_eq!(swept.cascaded, swept.rows);
    assert!((1..40).contains(&swept.blocked), "{swept:?}");
    let rest = run(&engine, &plan, 16).await.unwrap();
    assert_eq!(swept.rows + rest.rows, 2_000);
}

#[tokio::test]
async fn in_a_row_of_blocked_pages_the_free_ones_go() {
    let database = Postgres::shared().database("pages").await;
    database.execute(&filled("t", 5_000)).await;
    database
        .execute(
            "ALTER TABLE t ADD PRIMARY KEY (id); CREATE TABLE item (t_id bigint NOT NULL REFERENCES t ON DELETE SET NULL);
             CREATE INDEX ON item (t_id); INSERT INTO item SELECT id FROM t WHERE id % 4 = 0;",
        )
        .await;
    let engine = engine(&database.url);
    let plan = RulePlan {
        dependents: Dependents::Cascade,
        ..plan(&engine, "t", "at").await
    };

    let swept = run(&engine, &plan, 7).await.unwrap();

    assert_eq!((swept.rows, swept.blocked), (1_250, 1_250));
}

/// The server reports a row that was moved to another partition while its lock was waited for as a serialization failure.
#[tokio::test]
async fn a_row_that_goes_to_another_partition_meanwhile_is_found_there() {
    let database = Postgres::shared().database("moved").await;
    database
        .execute(
            "CREATE TABLE t (id int, at timestamptz, state text) PARTITION BY LIST (state);
             CREATE TABLE t_open PARTITION OF t FOR VALUES IN ('open'); CREATE TABLE t_done PARTITION OF t FOR VALUES IN ('done');
             INSERT INTO t SELECT n, '2020-01-01', 'open' FROM generate_series(1, 2000) n",
        )
        .await;
    let engine = PostgresEngine::new(DatabaseTarget {
        lock_timeout: Duration::from_secs(20),
        ..target(&database.url)
    })
    .unwrap();
    let plan = plan(&engine, "t", "at").await;
    let mut mover = database.connect().await;
    mover.execute("BEGIN").await.unwrap();
    mover
        .execute("UPDATE t SET state = 'done' WHERE id = 1000")
        .await
        .unwrap();

    let sweep = tokio::spawn(async move { run(&engine, &plan, 4).await });
    eventually(Duration::from_secs(20), "the sweep to wait", async || {
        let waiting: i64 = database
            .scalar("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
            .await;
        if waiting == 1 { Ok(()) } else { Err(waiting) }
    })
    .await;
    mover.execute("COMMIT").await.unwrap();
    let swept = sweep.await.unwrap().unwrap();

    let left: i64 = database.scalar("SELECT count(*) FROM t").await;
    assert_eq!((swept.rows, left), (2000, 0), "{swept:?}");
}
