//! Rows that refer to others, and come, go or change while a sweep works; and the rights that it takes to know.

use retention_operator::engine::{ChunkTarget, Engine};
use retention_operator::policy::dependents::Dependents;
use retention_operator::policy::plan::{RulePlan, check_deletable};
use rstest::rstest;
use sqlx::Executor;

use super::dependents::{expired_left, family, hold, ids, parents, planned, sweep};
use super::{CUTOFF, engine, finish, plan, run};
use crate::support::postgres::Postgres;

#[rstest]
#[case::skip(Dependents::Skip)]
#[case::cascade(Dependents::Cascade)]
#[tokio::test]
async fn a_referring_table_that_cannot_be_read_in_full_refuses(#[case] dependents: Dependents) {
    let database = Postgres::shared().database("unread").await;
    database
        .execute(&format!(
            "{} CREATE TABLE item (parent_id int REFERENCES parent ON DELETE CASCADE);",
            parents(10)
        ))
        .await;
    let blind = database
        .role(
            "blind",
            "secret",
            "GRANT SELECT, UPDATE, DELETE ON parent TO {role}",
        )
        .await;
    let engine = engine(&blind.url);
    let with = async || RulePlan {
        dependents,
        ..plan(&engine, "parent", "at").await
    };

    let refusal = check_deletable(&with().await).unwrap_err();
    let error = run(&engine, &with().await, 1).await.unwrap_err();

    assert_eq!(refusal.reason, "PermissionDenied", "{refusal}");
    assert!(
        refusal.message.contains("GRANT SELECT ON public.item"),
        "{refusal}"
    );
    assert_eq!(error.category(), "permission", "{error}");
    assert!(
        error
            .to_string()
            .contains("GRANT SELECT ON \"public\".\"item\""),
        "{error}"
    );
    database
        .execute(&format!(
            "GRANT SELECT ON item TO \"{}\"; ALTER TABLE item ENABLE ROW LEVEL SECURITY",
            blind.name
        ))
        .await;
    assert_eq!(
        check_deletable(&with().await).unwrap_err().reason,
        "RowSecurity"
    );
    assert_eq!(
        run(&engine, &with().await, 1).await.unwrap_err().category(),
        "not_supported"
    );
    assert_eq!(expired_left(&database).await, 9);
}

#[tokio::test]
async fn rows_that_must_be_locked_need_the_right_to_lock_them() {
    let database = Postgres::shared().database("lockright").await;
    database
        .execute(&format!(
            "{} CREATE TABLE item (parent_id int REFERENCES parent ON DELETE CASCADE);",
            parents(10)
        ))
        .await;
    let role = database
        .role(
            "sweeper",
            "secret",
            "GRANT SELECT, DELETE ON parent TO {role}; GRANT SELECT ON item TO {role}",
        )
        .await;
    let engine = engine(&role.url);
    let mut plan = plan(&engine, "parent", "at").await;
    plan.dependents = Dependents::Skip;

    let error = run(&engine, &plan, 1).await.unwrap_err();
    database
        .execute(&format!(
            "GRANT UPDATE (pad) ON parent TO \"{}\"",
            role.name
        ))
        .await;

    assert_eq!(error.category(), "permission", "{error}");
    assert!(error.to_string().contains("UPDATE"), "{error}");
    assert_eq!(run(&engine, &plan, 1).await.unwrap().rows, 9);
}

#[tokio::test]
async fn cascades_that_cannot_be_counted_are_refused() {
    let database = family(10).await;
    database
        .execute(&format!(
            "ALTER DATABASE \"{}\" SET track_counts = off",
            database.name
        ))
        .await;

    let error = sweep(&database, Dependents::Cascade, 1).await.unwrap_err();

    assert_eq!(error.category(), "not_supported");
    assert!(error.to_string().contains("track_counts"), "{error}");
    assert_eq!(expired_left(&database).await, 9);
}

#[rstest]
#[case::key_below("CREATE TABLE late (grandchild_id int REFERENCES grandchild ON DELETE CASCADE)")]
#[case::columns_swapped(
    "ALTER TABLE child RENAME parent_id TO x; ALTER TABLE child RENAME id TO parent_id"
)]
#[case::moved("CREATE SCHEMA s; ALTER TABLE grandchild SET SCHEMA s")]
#[tokio::test]
async fn a_web_of_keys_that_changes_in_the_middle_ends_the_walk(#[case] change: &str) {
    let database = family(500).await;
    let engine = engine(&database.url);
    let plan = planned(&engine, Dependents::Cascade).await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let target = ChunkTarget::pages(1);
    let first = sweep.delete_next(target).await.unwrap().unwrap();
    sweep.commit().await.unwrap();
    database.execute(change).await;

    let error = finish(&mut *sweep, 1).await.unwrap_err();

    assert_eq!(error.category(), "table_changed", "{error}");
    let left = expired_left(&database).await;
    assert_eq!(u64::try_from(left).unwrap(), 450 - first.rows);
}

#[tokio::test]
async fn a_new_partition_of_a_referring_table_is_planned_anew_and_the_sweep_goes_on() {
    let database = Postgres::shared().database("newpart").await;
    database
        .execute(&format!(
            "{} CREATE TABLE item (parent_id int REFERENCES parent ON DELETE CASCADE) PARTITION BY RANGE (parent_id);
             CREATE TABLE item_1 PARTITION OF item FOR VALUES FROM (1) TO (300); INSERT INTO item VALUES (1), (7);",
            parents(500)
        ))
        .await;
    let engine = engine(&database.url);
    let plan = planned(&engine, Dependents::Cascade).await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let first = sweep
        .delete_next(ChunkTarget::pages(1))
        .await
        .unwrap()
        .unwrap();
    sweep.commit().await.unwrap();
    database
        .execute(
            "CREATE TABLE item_2 PARTITION OF item DEFAULT; INSERT INTO item VALUES (499), (500)",
        )
        .await;

    let error = finish(&mut *sweep, 1).await.unwrap_err();
    sweep.close().await;
    let stale = run(&engine, &plan, 1).await.unwrap_err();
    let anew = planned(&engine, Dependents::Cascade).await;
    let rest = run(&engine, &anew, 1).await.unwrap();

    assert_eq!(first.cascaded_rows, 2);
    assert_eq!(error.category(), "parts_changed", "{error}");
    assert_eq!(stale.category(), "parts_changed", "{stale}");
    assert_eq!((first.rows + rest.rows, rest.cascaded), (450, 1));
}

#[rstest]
#[case::skip("ON DELETE CASCADE", Dependents::Skip)]
#[case::cascade_of_a_key_that_only_looks("", Dependents::Cascade)]
#[tokio::test]
async fn a_new_partition_whose_rows_never_go_along_is_no_change(
    #[case] on_delete: &str,
    #[case] dependents: Dependents,
) {
    let database = Postgres::shared().database("keptpart").await;
    database
        .execute(&format!(
            "{} CREATE TABLE item (parent_id int REFERENCES parent {on_delete}) PARTITION BY RANGE (parent_id);
             CREATE TABLE item_1 PARTITION OF item FOR VALUES FROM (1) TO (300);",
            parents(500)
        ))
        .await;
    let engine = engine(&database.url);
    let plan = planned(&engine, dependents).await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let first = sweep.delete_next(ChunkTarget::pages(1)).await.unwrap();
    sweep.commit().await.unwrap();
    database
        .execute("CREATE TABLE item_2 PARTITION OF item DEFAULT; INSERT INTO item VALUES (499)")
        .await;

    let rest = finish(&mut *sweep, 1).await.unwrap();

    assert_eq!(first.unwrap().rows + rest.rows, 449);
    assert_eq!(rest.blocked, 1);
}

#[rstest]
#[case::committed(true)]
#[case::rolled_back(false)]
#[tokio::test]
async fn a_child_that_comes_while_the_sweep_works_is_not_lost(#[case] commits: bool) {
    for dependents in [Dependents::Skip, Dependents::Cascade] {
        let database = Postgres::shared().database("race").await;
        database
            .execute(&format!(
                "{} CREATE TABLE item (parent_id int REFERENCES parent ON DELETE RESTRICT);
                 INSERT INTO item VALUES (10);",
                parents(200)
            ))
            .await;
        let engine = engine(&database.url);
        let plan = planned(&engine, dependents).await;
        let mut service = database.connect().await;
        service.execute("BEGIN").await.unwrap();
        service
            .execute("INSERT INTO item VALUES (55)")
            .await
            .unwrap();
        let mut sweep = engine.open_sweep(&plan, None).await.unwrap();

        let chunk = sweep
            .delete_next(ChunkTarget::pages(100))
            .await
            .unwrap()
            .unwrap();
        // A child of a row that is about to go waits, and is then told that its parent is gone.
        let late = database.connect().await;
        let waiting = tokio::spawn(async move {
            let mut late = late;
            late.execute("INSERT INTO item VALUES (56)").await
        });
        service
            .execute(if commits { "COMMIT" } else { "ROLLBACK" })
            .await
            .unwrap();
        sweep.commit().await.unwrap();
        let late = waiting.await.unwrap();
        finish(&mut *sweep, 100).await.unwrap();
        sweep.close().await;

        assert_eq!((chunk.rows, chunk.blocked_rows), (179, 1));
        assert!(late.is_err());
        assert_eq!(
            ids(
                &database,
                &format!("SELECT id FROM parent WHERE at < '{CUTOFF}'")
            )
            .await,
            "55"
        );
        let items: i64 = database.scalar("SELECT count(*) FROM item").await;
        assert_eq!(items, if commits { 2 } else { 1 });
    }
}

/// The child becomes held after it was looked at and before it would go: it is locked in between.
#[tokio::test]
async fn a_descendant_cannot_become_held_between_the_look_and_the_delete() {
    let database = family(100).await;
    let engine = engine(&database.url);
    let mut plan = planned(&engine, Dependents::Cascade).await;
    plan.held_tables = vec![hold(&database, "grandchild", Some("note = 'held'")).await];
    let mut service = database.connect().await;
    service.execute("BEGIN").await.unwrap();
    service
        .execute("UPDATE grandchild SET note = 'held' WHERE id = 131")
        .await
        .unwrap();
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();

    let swept = finish(&mut *sweep, 100).await.unwrap();
    service.execute("COMMIT").await.unwrap();
    sweep.close().await;
    let rest = run(&engine, &plan, 100).await.unwrap();

    // Row 1's page is kept while somebody changes a row below it, not the others.
    assert!(
        swept.rows < 90 && swept.rows + swept.blocked == 90,
        "{swept:?}"
    );
    assert_eq!(swept.rows + rest.rows, 89);
    assert_eq!(expired_left(&database).await, 1);
    let held: i64 = database
        .scalar("SELECT count(*) FROM grandchild WHERE note = 'held'")
        .await;
    assert_eq!(held, 1);
}
