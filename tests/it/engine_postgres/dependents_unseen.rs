//! Keys that the server does not see to as they say: switched off, not enforced, blind, or with consequences further on.

use retention_operator::engine::{ChunkTarget, Engine};
use retention_operator::policy::dependents::Dependents;
use retention_operator::policy::plan::check_deletable;
use rstest::rstest;
use sqlx::Executor;

use super::dependents::{expired_left, family, hold, ids, parents, planned, sweep};
use super::{engine, finish, plan, run};
use crate::support::postgres::{Postgres, TestDatabase};

#[rstest]
#[case::no_action("", "parent", "DISABLE TRIGGER ALL")]
#[case::cascade("ON DELETE CASCADE", "parent", "DISABLE TRIGGER ALL")]
#[case::set_null("ON DELETE SET NULL", "parent", "DISABLE TRIGGER ALL")]
#[case::replica_only("ON DELETE CASCADE", "parent", "ENABLE REPLICA TRIGGER \"{trigger}\"")]
#[case::further_down("ON DELETE CASCADE", "item", "DISABLE TRIGGER ALL")]
#[tokio::test]
async fn a_cascade_that_the_server_would_not_carry_out_is_refused(
    #[case] on_delete: &str,
    #[case] table: &str,
    #[case] change: &str,
) {
    let database = Postgres::shared().database("disabled").await;
    database
        .execute(&format!(
            "{} CREATE TABLE item (id int PRIMARY KEY, parent_id int REFERENCES parent {on_delete});
             CREATE TABLE part (item_id int REFERENCES item); INSERT INTO item VALUES (1, 1); INSERT INTO part VALUES (1);",
            parents(10)
        ))
        .await;
    let trigger: String = database
        .scalar(&format!(
            "SELECT min(tgname::text) FROM pg_trigger WHERE tgrelid = '{table}'::regclass AND tgconstrrelid <> 0 AND tgtype & 8 <> 0"
        ))
        .await;
    database
        .execute(&format!(
            "ALTER TABLE {table} {}",
            change.replace("{trigger}", &trigger)
        ))
        .await;
    let engine = engine(&database.url);
    let plan = planned(&engine, Dependents::Cascade).await;

    let refusal = check_deletable(&plan).unwrap_err();
    let error = run(&engine, &plan, 1).await.unwrap_err();

    let way_out = format!("ALTER TABLE \"public\".\"{table}\" ENABLE TRIGGER \"{trigger}\"");
    assert_eq!(refusal.reason, "NotSupported", "{refusal}");
    assert!(refusal.message.contains(&way_out), "{refusal}");
    assert!(
        refusal.message.contains(&format!("public.{table}")),
        "{refusal}"
    );
    assert_eq!(error.category(), "not_supported", "{error}");
    assert!(error.to_string().contains(&way_out), "{error}");
    assert_eq!(expired_left(&database).await, 9);

    // Rows that are referred to are looked for by conditions of ours.
    let swept = sweep(&database, Dependents::Skip, 1).await.unwrap();
    assert_eq!((swept.rows, swept.blocked), (8, 1));

    database
        .execute(&format!("ALTER TABLE {table} ENABLE TRIGGER \"{trigger}\""))
        .await;
    let enabled = planned(&engine, Dependents::Cascade).await;
    assert!(check_deletable(&enabled).is_ok());
}

#[rstest]
#[case::of_the_table("parent")]
#[case::further_down("child")]
#[tokio::test]
async fn a_cascade_that_is_switched_off_in_the_middle_ends_the_walk(#[case] table: &str) {
    let database = family(500).await;
    let engine = engine(&database.url);
    let plan = planned(&engine, Dependents::Cascade).await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let first = sweep.delete_next(ChunkTarget::pages(1)).await.unwrap();
    sweep.commit().await.unwrap();
    database
        .execute(&format!("ALTER TABLE {table} DISABLE TRIGGER ALL"))
        .await;

    let error = finish(&mut *sweep, 1).await.unwrap_err();

    assert_eq!(error.category(), "table_changed", "{error}");
    let left = u64::try_from(expired_left(&database).await).unwrap();
    assert_eq!(left, 450 - first.unwrap().rows);
}

/// Parents, and items in two partitions; the second one is being detached, and its rows can be seen in it alone.
async fn half_detached() -> TestDatabase {
    let database = Postgres::shared().database("pending").await;
    database
        .execute(&format!(
            "{} CREATE TABLE item (parent_id int REFERENCES parent ON DELETE CASCADE, kind int) PARTITION BY LIST (kind);
             CREATE TABLE item_1 PARTITION OF item FOR VALUES IN (1); CREATE TABLE item_2 PARTITION OF item FOR VALUES IN (2);
             INSERT INTO item SELECT n, 1 + n % 2 FROM generate_series(1, 400) n;",
            parents(500)
        ))
        .await;
    database
}

/// Begins to detach `item_2`, and does not come to the end of it.
async fn detach(database: &TestDatabase) {
    let mut reader = database.connect().await;
    reader.execute("BEGIN; SELECT FROM item").await.unwrap();
    let mut owner = database.connect().await;
    owner
        .execute("SET statement_timeout = '300ms'")
        .await
        .unwrap();
    let waited = owner
        .execute("ALTER TABLE item DETACH PARTITION item_2 CONCURRENTLY")
        .await;
    assert!(waited.is_err());
    reader.execute("COMMIT").await.unwrap();
    let pending: bool = database
        .scalar("SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = 'item_2'::regclass")
        .await;
    assert!(pending);
}

#[rstest]
#[case::skip(Dependents::Skip)]
#[case::cascade(Dependents::Cascade)]
#[tokio::test]
async fn rows_of_a_partition_that_is_being_detached_are_seen_by_nobody_and_refuse_the_rule(
    #[case] dependents: Dependents,
) {
    let database = half_detached().await;
    detach(&database).await;
    let engine = engine(&database.url);
    let mut plan = planned(&engine, dependents).await;
    plan.held_tables = vec![hold(&database, "item", Some("kind = 2")).await];

    let refusal = check_deletable(&plan).unwrap_err();
    let error = run(&engine, &plan, 1).await.unwrap_err();

    assert_eq!(refusal.reason, "NotSupported", "{refusal}");
    let way_out = "DETACH PARTITION \"public\".\"item_2\" FINALIZE";
    assert!(refusal.message.contains(way_out), "{refusal}");
    assert!(error.to_string().contains(way_out), "{error}");
    assert_eq!(expired_left(&database).await, 450);
}

#[rstest]
#[case::skip(Dependents::Skip)]
#[case::cascade(Dependents::Cascade)]
#[tokio::test]
async fn a_partition_that_begins_to_be_detached_in_the_middle_ends_the_walk(
    #[case] dependents: Dependents,
) {
    let database = half_detached().await;
    let engine = engine(&database.url);
    let plan = planned(&engine, dependents).await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let first = sweep.delete_next(ChunkTarget::pages(1)).await.unwrap();
    sweep.commit().await.unwrap();
    detach(&database).await;

    let error = finish(&mut *sweep, 1).await.unwrap_err();

    assert_eq!(error.category(), "parts_changed", "{error}");
    let left = u64::try_from(expired_left(&database).await).unwrap();
    assert_eq!(left, 450 - first.unwrap().rows);
    let dangling: i64 = database
        .scalar("SELECT count(*) FROM item_2 WHERE NOT EXISTS (SELECT FROM parent WHERE id = parent_id)")
        .await;
    assert_eq!(dangling, 0);
}

/// Profiles whose parent is set to NULL, and avatars that follow them.
async fn profiles(key: &str, on_update: &str) -> TestDatabase {
    let database = Postgres::shared().database("spreads").await;
    database
        .execute(&format!(
            "{} CREATE TABLE profile (tenant int DEFAULT 7, pid int UNIQUE, UNIQUE (tenant, pid), {key});
             CREATE TABLE avatar (tenant int DEFAULT 7, pid int, {on_update}, kept bool);
             INSERT INTO profile (pid) SELECT generate_series(1, 9); INSERT INTO avatar (pid, kept) SELECT n, n = 3 FROM generate_series(1, 5) n;",
            parents(10)
        ))
        .await;
    database
}

#[tokio::test]
async fn a_key_that_keeps_rows_as_nobody_follows_it_asks_for_no_right_to_lock() {
    let database = profiles(
        "FOREIGN KEY (pid) REFERENCES parent ON DELETE SET NULL",
        "FOREIGN KEY (pid) REFERENCES profile (pid) ON UPDATE CASCADE",
    )
    .await;
    database.execute("DELETE FROM profile WHERE pid > 5").await;
    let role = database
        .role(
            "reads",
            "secret",
            "GRANT SELECT, UPDATE, DELETE ON parent TO {role}; GRANT SELECT ON profile TO {role}",
        )
        .await;
    let engine = engine(&role.url);
    let mut plan = planned(&engine, Dependents::Cascade).await;
    plan.held_tables = vec![hold(&database, "profile", Some("pid = 3")).await];

    let allowed = check_deletable(&plan);
    let swept = run(&engine, &plan, 1).await.unwrap();

    assert!(allowed.is_ok(), "{allowed:?}");
    assert_eq!((swept.rows, swept.blocked), (4, 5));
    let avatars: i64 = database.scalar("SELECT count(pid) FROM avatar").await;
    assert_eq!(avatars, 5);
}

#[rstest]
#[case::cascades(
    "FOREIGN KEY (pid) REFERENCES profile (pid) ON UPDATE CASCADE",
    "1 2 3 4 5"
)]
#[case::sets(
    "FOREIGN KEY (pid) REFERENCES profile (pid) ON UPDATE SET NULL",
    "1 2 3 4 5"
)]
#[case::of_nothing("CHECK (pid > 0)", "")]
#[tokio::test]
async fn what_is_set_to_null_is_not_set_further_on(#[case] on_update: &str, #[case] left: &str) {
    let key = "FOREIGN KEY (pid) REFERENCES parent ON DELETE SET NULL";
    let database = profiles(key, on_update).await;
    let engine = engine(&database.url);
    let plan = planned(&engine, Dependents::Cascade).await;
    assert!(check_deletable(&plan).is_ok());

    run(&engine, &plan, 1).await.unwrap();

    let avatars: i64 = database.scalar("SELECT count(pid) FROM avatar").await;
    assert_eq!(avatars, 5);
    let kept = ids(&database, "SELECT id FROM parent JOIN avatar ON pid = id").await;
    assert_eq!(kept, left);
}

/// Notes whose item is set to NULL, which a third table would follow: they keep their items, and those their parents.
#[tokio::test]
async fn rows_that_keep_what_they_refer_to_need_not_be_locked() {
    let database = Postgres::shared().database("kept").await;
    database
        .execute(&format!(
            "{} CREATE TABLE item (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE CASCADE);
             CREATE TABLE note (item_id int UNIQUE REFERENCES item ON DELETE SET NULL);
             CREATE TABLE mark (item_id int REFERENCES note (item_id) ON UPDATE CASCADE);
             INSERT INTO item SELECT n, n FROM generate_series(1, 6) n; INSERT INTO note VALUES (1), (2); INSERT INTO mark VALUES (1);",
            parents(10)
        ))
        .await;
    let role = database
        .role(
            "looks",
            "secret",
            "GRANT SELECT, UPDATE, DELETE ON parent TO {role}; GRANT SELECT ON item, note TO {role}",
        )
        .await;
    let engine = engine(&role.url);

    let refusal = check_deletable(&planned(&engine, Dependents::Cascade).await).unwrap_err();
    database
        .execute(&format!("GRANT UPDATE (id) ON item TO \"{}\"", role.name))
        .await;
    let plan = planned(&engine, Dependents::Cascade).await;
    let allowed = check_deletable(&plan);
    let swept = run(&engine, &plan, 1).await.unwrap();

    // Items go along, and no note may come to one of them just then.
    assert_eq!(refusal.reason, "PermissionDenied", "{refusal}");
    assert!(
        refusal.message.contains("GRANT UPDATE ON public.item"),
        "{refusal}"
    );
    assert!(allowed.is_ok(), "{allowed:?}");
    assert_eq!((swept.rows, swept.cascaded, swept.blocked), (7, 4, 2));
    let kept = ids(&database, "SELECT id FROM parent WHERE id < 10").await;
    assert_eq!(kept, "1 2");
    let notes: i64 = database.scalar("SELECT count(item_id) FROM note").await;
    assert_eq!(notes, 2);
}

/// A row whose partition key is set to NULL moves: it is deleted where it was, with what refers to it there.
#[rstest]
#[case::that_moves_with_it("LIST (parent_id)", "1 2")]
#[case::that_moves_with_an_expression("LIST ((parent_id + 0))", "1 2")]
#[case::that_stays("LIST (kind)", "")]
#[tokio::test]
async fn a_row_that_setting_its_key_would_move_to_another_partition_keeps_its_parent(
    #[case] by: &str,
    #[case] left: &str,
) {
    let database = Postgres::shared().database("moves").await;
    database
        .execute(&format!(
            "{} CREATE TABLE child (id int, kind int DEFAULT 1, parent_id int REFERENCES parent ON DELETE SET NULL) PARTITION BY {by};
             CREATE TABLE child_one PARTITION OF child (UNIQUE (id)) FOR VALUES IN (1, 2);
             CREATE TABLE child_other PARTITION OF child DEFAULT;
             CREATE TABLE grand (child_id int REFERENCES child_one (id) ON DELETE CASCADE);
             INSERT INTO child (id, parent_id) VALUES (7, 1), (8, 2); INSERT INTO grand VALUES (7), (8);",
            parents(10)
        ))
        .await;
    let engine = engine(&database.url);
    let plan = planned(&engine, Dependents::Cascade).await;

    run(&engine, &plan, 1).await.unwrap();

    assert_eq!(
        database.scalar::<i64>("SELECT count(*) FROM grand").await,
        2
    );
    let kept = ids(&database, "SELECT id FROM parent WHERE id < 10").await;
    assert_eq!(kept, left);
}

#[tokio::test]
async fn a_key_on_a_generated_column_that_follows_is_seen() {
    let database = Postgres::shared().database("generated").await;
    database
        .execute(&format!(
            "{} CREATE TABLE child (parent_id int REFERENCES parent ON DELETE SET NULL, g int GENERATED ALWAYS AS (coalesce(parent_id, 0) * 10) STORED UNIQUE);
             CREATE TABLE grand (g int REFERENCES child (g) ON UPDATE CASCADE);
             INSERT INTO child VALUES (1); INSERT INTO grand VALUES (10);",
            parents(10)
        ))
        .await;
    let engine = engine(&database.url);
    let plan = planned(&engine, Dependents::Cascade).await;

    run(&engine, &plan, 1).await.unwrap();

    assert_eq!(
        database
            .scalar::<i64>("SELECT count(*) FROM grand WHERE g = 10")
            .await,
        1
    );
    assert_eq!(
        ids(&database, "SELECT id FROM parent WHERE id < 10").await,
        "1"
    );
}

#[tokio::test]
async fn columns_that_a_key_does_not_set_are_followed_by_nobody() {
    let database = Postgres::shared().database("setcols").await;
    let version: String = database.scalar("SHOW server_version_num").await;
    if version.parse::<u32>().unwrap() < 150_000 {
        return;
    }
    database
        .execute(
            "CREATE TABLE parent (tenant int, id int, at timestamptz, PRIMARY KEY (tenant, id));
             CREATE TABLE profile (tenant int, pid int, id int, UNIQUE (tenant, id), FOREIGN KEY (tenant, pid) REFERENCES parent ON DELETE SET NULL (pid));
             CREATE TABLE avatar (tenant int, profile int, FOREIGN KEY (tenant, profile) REFERENCES profile (tenant, id) ON UPDATE CASCADE);
             INSERT INTO parent VALUES (1, 1, '2020-01-01'); INSERT INTO profile VALUES (1, 1, 1); INSERT INTO avatar VALUES (1, 1);",
        )
        .await;

    let swept = sweep(&database, Dependents::Cascade, 1).await.unwrap();

    assert_eq!((swept.rows, swept.blocked), (1, 0));
    let avatars: i64 = database
        .scalar("SELECT count(*) FROM avatar WHERE tenant = 1 AND profile = 1")
        .await;
    assert_eq!(avatars, 1);
}

#[tokio::test]
async fn a_key_that_would_pass_a_change_on_and_comes_in_the_middle_ends_the_walk() {
    let key = "FOREIGN KEY (pid) REFERENCES parent ON DELETE SET NULL";
    let database = profiles(key, "CHECK (pid > 0)").await;
    database
        .execute("INSERT INTO parent SELECT n, '2023-06-01' FROM generate_series(11, 500) n")
        .await;
    let engine = engine(&database.url);
    let plan = planned(&engine, Dependents::Cascade).await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    database
        .execute(
            "ALTER TABLE avatar ADD FOREIGN KEY (pid) REFERENCES profile (pid) ON UPDATE CASCADE",
        )
        .await;

    let error = finish(&mut *sweep, 1).await.unwrap_err();

    assert_eq!(error.category(), "table_changed", "{error}");
    assert_eq!(expired_left(&database).await, 499);
}

/// Row-level security comes to bind the role between two chunks.
#[rstest]
#[case::on_a_referring_table("item", "ALTER ROLE {role} NOBYPASSRLS")]
#[case::on_the_table_itself("parent", "ALTER ROLE {role} NOBYPASSRLS")]
#[tokio::test]
async fn rows_that_are_hidden_from_the_role_in_the_middle_end_the_walk(
    #[case] table: &str,
    #[case] change: &str,
    #[values(Dependents::Skip, Dependents::Cascade)] dependents: Dependents,
) {
    let database = Postgres::shared().database("hides").await;
    database
        .execute(&format!(
            "{} CREATE TABLE item (parent_id int REFERENCES parent ON DELETE CASCADE, tenant text); INSERT INTO item VALUES (499, 'them');
             ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;",
            parents(500)
        ))
        .await;
    let role = database
        .role(
            "sees",
            "secret",
            "GRANT SELECT, UPDATE, DELETE ON parent, item TO {role}; ALTER ROLE {role} BYPASSRLS",
        )
        .await;
    let engine = engine(&role.url);
    let plan = planned(&engine, dependents).await;
    assert!(check_deletable(&plan).is_ok());
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let first = sweep.delete_next(ChunkTarget::pages(1)).await.unwrap();
    sweep.commit().await.unwrap();
    let quoted = format!("\"{}\"", role.name);
    database.execute(&change.replace("{role}", &quoted)).await;

    let error = finish(&mut *sweep, 1).await.unwrap_err();

    assert_eq!(error.category(), "table_changed", "{error}");
    let left = u64::try_from(expired_left(&database).await).unwrap();
    assert_eq!(left, 450 - first.unwrap().rows);
    let items: i64 = database.scalar("SELECT count(*) FROM item").await;
    assert_eq!(items, 1);
}

/// PostgreSQL 18 knows keys that it does not enforce.
#[rstest]
#[case::cascade("ON DELETE CASCADE")]
#[case::set_null("ON DELETE SET NULL")]
#[case::no_action("")]
#[tokio::test]
async fn a_key_that_is_not_enforced_keeps_the_rows_that_are_referred_to(#[case] on_delete: &str) {
    let Some(server) = Postgres::newest() else {
        return;
    };
    let database = server.database("unforced").await;
    database
        .execute(&format!(
            "{} CREATE TABLE item (parent_id int REFERENCES parent {on_delete} NOT ENFORCED);
             INSERT INTO item SELECT generate_series(1, 5);",
            parents(10)
        ))
        .await;
    for dependents in [Dependents::Skip, Dependents::Cascade] {
        let engine = engine(&database.url);
        let plan = planned(&engine, dependents).await;
        assert!(check_deletable(&plan).is_ok());
        assert!(plan.table.incoming[0].not_enforced);
        assert_eq!(engine.count_along(&plan).await.unwrap(), 0);
        run(&engine, &plan, 1).await.unwrap();

        let left = ids(&database, "SELECT id FROM parent WHERE at < '2024-01-01'").await;
        assert_eq!(left, "1 2 3 4 5");
        let items: i64 = database.scalar("SELECT count(parent_id) FROM item").await;
        assert_eq!(items, 5);
    }
    let refused = plan(&engine(&database.url), "parent", "at").await;
    let refusal = check_deletable(&refused).unwrap_err();
    assert!(refusal.message.contains("NOT ENFORCED"), "{refusal}");
}
