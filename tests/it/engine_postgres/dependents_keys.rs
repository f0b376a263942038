//! How a chunk finds the keys below its tables: by what depends on them, in a catalog that may hold very many constraints.

use std::time::Duration;

use retention_operator::engine::{ChunkTarget, Engine};
use retention_operator::policy::dependents::Dependents;
use rstest::rstest;

use super::dependents::{expired_left, family, parents, planned};
use super::{engine, finish, run};
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::wait::eventually;

/// Keys that refer to a table and stand in no dependency of it. A chunk would not see them come.
async fn unseen(database: &TestDatabase) -> String {
    database
        .scalar::<Option<String>>(
            "SELECT string_agg(k.conname::text, ' ' ORDER BY k.oid) FROM pg_constraint k WHERE k.contype = 'f' AND NOT EXISTS (
               SELECT FROM pg_depend d WHERE d.classid = 'pg_constraint'::regclass AND d.objid = k.oid
                 AND d.refclassid = 'pg_class'::regclass AND d.refobjid = k.confrelid)",
        )
        .await
        .unwrap_or_default()
}

/// Every kind of key: of several columns, to itself, not valid, deferred, switched off, from and to partitions old and new, attached
/// with a key of its own, detached, and being detached.
const KINDS: &str = "\
    CREATE TABLE p (a int, b int, PRIMARY KEY (a, b), up int UNIQUE REFERENCES p (up));
    CREATE TABLE two (a int, b int, FOREIGN KEY (a, b) REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE late (up int); ALTER TABLE late ADD FOREIGN KEY (up) REFERENCES p (up) NOT VALID;
    CREATE TABLE deferred (up int REFERENCES p (up) DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10);
    CREATE TABLE refers (id int REFERENCES parted ON DELETE CASCADE, kind int) PARTITION BY LIST (kind);
    CREATE TABLE refers_1 PARTITION OF refers FOR VALUES IN (1);
    CREATE TABLE refers_2 (kind int, id int REFERENCES parted ON DELETE CASCADE); ALTER TABLE refers ATTACH PARTITION refers_2 FOR VALUES IN (2);
    CREATE TABLE refers_3 PARTITION OF refers FOR VALUES IN (3); ALTER TABLE refers DETACH PARTITION refers_3;
    CREATE TABLE parted_2 (id int NOT NULL); ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM (10) TO (20);
    CREATE TABLE of_a_part (id int REFERENCES parted_1);
    ALTER TABLE p DISABLE TRIGGER ALL; ALTER TABLE parted DISABLE TRIGGER ALL;
    CREATE SCHEMA s; ALTER TABLE two SET SCHEMA s; ALTER TABLE p RENAME TO q; ALTER TABLE deferred RENAME CONSTRAINT deferred_up_fkey TO other;
    ALTER TABLE q ALTER a TYPE bigint;";

#[tokio::test]
async fn every_key_stands_in_a_dependency_of_the_table_that_it_refers_to() {
    for (server, more) in [
        (Some(Postgres::shared()), ""),
        (
            Postgres::newest(),
            "CREATE TABLE loose (up int REFERENCES q (up) NOT ENFORCED);
             CREATE TABLE loosened (up int CONSTRAINT loosened_key REFERENCES q (up)); ALTER TABLE loosened ALTER CONSTRAINT loosened_key NOT ENFORCED;",
        ),
    ] {
        let Some(server) = server else {
            continue;
        };
        let database = server.database("kinds").await;
        database.execute(KINDS).await;
        database.execute(more).await;

        let keys: i64 = database
            .scalar("SELECT count(*) FROM pg_constraint WHERE contype = 'f'")
            .await;
        assert!(keys >= 13, "{keys}");
        assert_eq!(unseen(&database).await, "");
    }
}

#[rstest]
#[case::switched_off(
    "CREATE TABLE late (child_id int REFERENCES child ON DELETE CASCADE); ALTER TABLE child DISABLE TRIGGER ALL"
)]
#[case::not_valid(
    "CREATE TABLE late (c int); ALTER TABLE late ADD FOREIGN KEY (c) REFERENCES child NOT VALID"
)]
#[case::of_a_partitioned_table(
    "CREATE TABLE late (c int REFERENCES child ON DELETE CASCADE) PARTITION BY LIST (c); CREATE TABLE late_1 PARTITION OF late DEFAULT"
)]
#[case::of_a_table_to_itself("ALTER TABLE child ADD up int REFERENCES child ON DELETE CASCADE")]
#[tokio::test]
async fn a_key_of_any_kind_that_comes_in_the_middle_ends_the_walk(#[case] change: &str) {
    let database = family(500).await;
    ends_the_walk(&database, change).await;
}

/// A key that is not enforced has no trigger.
#[tokio::test]
async fn a_key_that_is_not_enforced_and_comes_in_the_middle_ends_the_walk() {
    let Some(server) = Postgres::newest() else {
        return;
    };
    let database = server.database("looselate").await;
    database
        .execute(&format!(
            "{} CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE CASCADE);
             INSERT INTO child SELECT id, id FROM parent;",
            parents(500)
        ))
        .await;
    ends_the_walk(
        &database,
        "CREATE TABLE late (c int REFERENCES child NOT ENFORCED)",
    )
    .await;
}

async fn ends_the_walk(database: &TestDatabase, change: &str) {
    let engine = engine(&database.url);
    let plan = planned(&engine, Dependents::Cascade).await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let first = sweep.delete_next(ChunkTarget::pages(1)).await.unwrap();
    sweep.commit().await.unwrap();
    database.execute(change).await;

    let error = finish(&mut *sweep, 1).await.unwrap_err();

    assert_eq!(error.category(), "table_changed", "{error}");
    let left = u64::try_from(expired_left(database).await).unwrap();
    assert_eq!(left, 450 - first.unwrap().rows);
}

#[tokio::test]
async fn chunks_do_not_read_all_constraints_of_the_database() {
    let database = family(3_000).await;
    database
        .execute(
            "DO $$ BEGIN FOR i IN 1..400 LOOP EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY, up int REFERENCES many_%s, \
             CHECK (id > 0), CHECK (id > 1), CHECK (id > 2), CHECK (id > 3))', i, greatest(i - 1, 1)); END LOOP; END $$",
        )
        .await;
    let engine = engine(&database.url);
    let plan = planned(&engine, Dependents::Cascade).await;
    let scans = "SELECT pg_stat_get_numscans('pg_constraint'::regclass)";
    let before: i64 = database.scalar(scans).await;

    let swept = run(&engine, &plan, 1).await.unwrap();
    engine.close().await;
    eventually(
        Duration::from_secs(10),
        "its sessions to end",
        async || match database.foreign_sessions().await {
            0 => Ok(()),
            some => Err(some),
        },
    )
    .await;

    let scans = database.scalar::<i64>(scans).await - before;
    assert_eq!(swept.rows, 2_700);
    assert!(swept.chunks >= 40, "{swept:?}");
    // The opening of the walk reads them, a few times.
    assert!(scans < 20, "{scans} scans in {} chunks", swept.chunks);
}
