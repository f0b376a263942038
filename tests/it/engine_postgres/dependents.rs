//! Rows that other rows refer to: refused, skipped, or taken along.

use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::engine::{Chunk, ChunkTarget, Engine, EngineError};
use retention_operator::policy::cutoff::Cutoff;
use retention_operator::policy::dependents::{Dependents, HeldTable};
use retention_operator::policy::plan::{RulePlan, check_deletable};
use retention_operator::policy::predicate::Predicate;
use rstest::rstest;

use super::{CUTOFF, Swept, engine, facts, plan, plan_of, run};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, SUPERUSER, TestDatabase};

/// Parents 1 to `rows`, all expired but every tenth.
pub(super) fn parents(rows: u32) -> String {
    format!(
        "CREATE TABLE parent (id int PRIMARY KEY, at timestamptz, pad text DEFAULT repeat('x', 100));
         INSERT INTO parent SELECT n, CASE n % 10 WHEN 0 THEN '2025-06-01' ELSE '2023-06-01' END::timestamptz
           FROM generate_series(1, {rows}) n;"
    )
}

pub(super) async fn planned(engine: &PostgresEngine, dependents: Dependents) -> RulePlan {
    RulePlan {
        dependents,
        ..plan(engine, "parent", "at").await
    }
}

pub(super) async fn sweep(
    database: &TestDatabase,
    dependents: Dependents,
    pages: u32,
) -> Result<Swept, EngineError> {
    let engine = engine(&database.url);
    let plan = planned(&engine, dependents).await;
    run(&engine, &plan, pages).await
}

/// Holds the rows of `table` for which `filter` is true, as the planner would enter it.
pub(super) async fn hold(database: &TestDatabase, table: &str, filter: Option<&str>) -> HeldTable {
    let facts = facts(&engine(&database.url), "public", table).await;
    HeldTable {
        hold: "case".to_owned(),
        schema: facts.schema.clone(),
        name: facts.name.clone(),
        ids: std::iter::once(facts.id)
            .chain(facts.leaves.iter().map(|leaf| leaf.id))
            .collect(),
        filter: filter.map(|filter| Predicate::parse(filter).unwrap()),
    }
}

pub(super) async fn expired_left(database: &TestDatabase) -> i64 {
    database
        .scalar(&format!(
            "SELECT count(*) FROM parent WHERE at < '{CUTOFF}'"
        ))
        .await
}

pub(super) async fn ids(database: &TestDatabase, query: &str) -> String {
    database
        .scalar::<Option<String>>(&format!(
            "SELECT string_agg(id::text, ' ' ORDER BY id) FROM ({query}) AS q"
        ))
        .await
        .unwrap_or_default()
}

#[tokio::test]
async fn a_refusal_names_the_key_its_rows_and_the_ways_out() {
    let database = Postgres::shared().database("refuse").await;
    database
        .execute(&format!(
            "{} CREATE TABLE item (parent_id int CONSTRAINT item_of REFERENCES parent ON DELETE CASCADE);
             INSERT INTO item SELECT 1 FROM generate_series(1, 120); ANALYZE item;
             CREATE TABLE empty (parent_id int REFERENCES parent);",
            parents(10)
        ))
        .await;
    let engine = engine(&database.url);
    let plan = plan(&engine, "parent", "at").await;

    let refusal = check_deletable(&plan).unwrap_err();
    let error = run(&engine, &plan, 8).await.unwrap_err();

    assert_eq!(refusal.reason, "Dependents");
    for part in [
        "public.item (item_of, ON DELETE CASCADE, about 120 rows)",
        "dependents: Skip",
        "Cascade",
    ] {
        assert!(refusal.message.contains(part), "{refusal}");
    }
    assert!(!refusal.message.contains("empty"), "{refusal}");
    assert_eq!(error.category(), "dependents");
    assert_eq!(expired_left(&database).await, 9);
}

#[rstest]
#[case::no_action("NO ACTION")]
#[case::restrict("RESTRICT")]
#[case::cascade("CASCADE")]
#[case::set_null("SET NULL")]
#[case::set_default("SET DEFAULT")]
#[case::deferred("NO ACTION DEFERRABLE INITIALLY DEFERRED")]
#[tokio::test]
async fn skip_keeps_rows_that_are_referred_to_whatever_the_key_says(#[case] on_delete: &str) {
    let database = Postgres::shared().database("skip").await;
    database
        .execute(&format!(
            "{} CREATE TABLE item (parent_id int DEFAULT 10 REFERENCES parent ON DELETE {on_delete});
             INSERT INTO item SELECT n FROM generate_series(1, 1000, 7) n;
             CREATE TABLE before AS SELECT * FROM item;",
            parents(1000)
        ))
        .await;
    let expected: i64 = database
        .scalar(&format!(
            "SELECT count(*) FROM parent p WHERE at < '{CUTOFF}' AND NOT EXISTS (SELECT FROM item WHERE parent_id = p.id)"
        ))
        .await;

    let swept = sweep(&database, Dependents::Skip, 3).await.unwrap();

    let changed: i64 = database
        .scalar("SELECT count(*) FROM (SELECT * FROM before EXCEPT ALL SELECT * FROM item) AS d")
        .await;
    assert_eq!(i64::try_from(swept.rows).unwrap(), expected);
    assert_eq!(swept.cascaded, 0);
    assert_eq!(changed, 0);
    assert_eq!(swept.rows + swept.blocked, 900);
    assert_eq!(
        expired_left(&database).await,
        i64::try_from(swept.blocked).unwrap()
    );
}

#[rstest]
#[case::two_types("int", "bigint", "1", "1")]
#[case::text_types("text", "varchar(9)", "'a'", "'a'")]
#[case::padded("char(5)", "char(9)", "'a'", "'a'")]
#[case::enumeration("mood", "mood", "'ok'", "'ok'")]
#[case::domain("positive", "int", "1", "1")]
#[case::numbers("numeric", "int", "1.0", "1")]
#[case::insensitive("text COLLATE insensitive", "text COLLATE insensitive", "'ab'", "'AB'")]
#[case::two_collations("text COLLATE \"C\"", "text COLLATE \"POSIX\"", "'ab'", "'ab'")]
#[case::case_insensitive("other.citext", "other.citext", "'ab'", "'AB'")]
#[case::range("int4range", "int4range", "'[1,5)'", "'[1,4]'")]
#[case::array("int[]", "int[]", "'{1,2}'", "'{1,2}'")]
#[tokio::test]
async fn a_reference_is_seen_as_the_server_itself_compares_it(
    #[case] referred: &str,
    #[case] referring: &str,
    #[case] value: &str,
    #[case] same: &str,
) {
    let database = Postgres::shared().database("compare").await;
    database
        .execute(&format!(
            "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
             CREATE COLLATION insensitive (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             CREATE SCHEMA other; CREATE EXTENSION citext SCHEMA other;
             CREATE TABLE parent (\"Key\" {referred} UNIQUE, at timestamptz);
             CREATE TABLE item (\"of \"\"it\" {referring} REFERENCES parent (\"Key\") ON DELETE CASCADE);
             INSERT INTO parent VALUES ({value}, '2020-01-01'), (NULL, '2020-01-01');
             INSERT INTO item VALUES ({same}), (NULL);"
        ))
        .await;

    let swept = sweep(&database, Dependents::Skip, 1).await.unwrap();

    assert_eq!((swept.rows, swept.blocked), (1, 1));
    let items: i64 = database.scalar("SELECT count(*) FROM item").await;
    assert_eq!(items, 2);
}

#[tokio::test]
async fn keys_of_several_columns_refer_only_when_all_of_them_do() {
    let database = Postgres::shared().database("columns").await;
    database
        .execute(
            "CREATE TABLE parent (id int, a int, b text, at timestamptz DEFAULT '2020-01-01', UNIQUE (b, a));
             INSERT INTO parent VALUES (1, 1, 'x'), (2, 1, 'y'), (3, 2, 'x'), (4, NULL, 'x');
             CREATE TABLE item (y text, x int, FOREIGN KEY (x, y) REFERENCES parent (a, b) ON DELETE CASCADE);
             INSERT INTO item VALUES ('y', 1), (NULL, 2), ('x', NULL);",
        )
        .await;

    sweep(&database, Dependents::Skip, 1).await.unwrap();

    assert_eq!(ids(&database, "SELECT id FROM parent").await, "2");
}

/// `grandchild` cascades from `child`, which cascades from `parent`: 3 children a parent, 2 grandchildren a child.
pub(super) async fn family(rows: u32) -> TestDatabase {
    let database = Postgres::shared().database("family").await;
    database
        .execute(&format!(
            "{} CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE CASCADE, note text DEFAULT 'x');
             CREATE INDEX ON child (parent_id);
             INSERT INTO child SELECT p.id * 10 + n, p.id FROM parent p, generate_series(1, 3) n;
             CREATE TABLE grandchild (id int PRIMARY KEY, child_id int REFERENCES child ON DELETE CASCADE, note text DEFAULT 'x');
             CREATE INDEX ON grandchild (child_id);
             INSERT INTO grandchild SELECT c.id * 10 + n, c.id FROM child c, generate_series(1, 2) n;",
            parents(rows)
        ))
        .await;
    database
}

#[tokio::test]
async fn cascade_takes_two_levels_along_and_counts_them_exactly() {
    let database = family(500).await;
    let engine = engine(&database.url);
    let plan = planned(&engine, Dependents::Cascade).await;

    let foretold = engine.count_along(&plan).await.unwrap();
    let swept = run(&engine, &plan, 2).await.unwrap();

    assert_eq!((swept.rows, swept.blocked), (450, 0));
    assert_eq!(swept.cascaded, 450 * 3 + 450 * 6);
    assert_eq!(foretold, swept.cascaded);
    let left: i64 = database
        .scalar("SELECT (SELECT count(*) FROM child) * 1000 + (SELECT count(*) FROM grandchild)")
        .await;
    assert_eq!(left, 150 * 1000 + 300);
    assert_eq!(expired_left(&database).await, 0);
}

#[tokio::test]
async fn what_is_rolled_back_is_counted_anew() {
    let database = family(100).await;
    let engine = engine(&database.url);
    let plan = planned(&engine, Dependents::Cascade).await;
    let mut sweep = engine.open_sweep(&plan, None).await.unwrap();
    let target = ChunkTarget::pages(1);

    let first = sweep.delete_next(target).await.unwrap().unwrap();
    sweep.rollback().await.unwrap();
    let again = sweep.delete_next(target).await.unwrap().unwrap();
    sweep.commit().await.unwrap();
    sweep.close().await;

    assert!(first.cascaded_rows > 0);
    // The write-ahead log of a server is nobody's alone.
    let again = Chunk {
        wal_bytes: first.wal_bytes,
        ..again
    };
    assert_eq!(first, again);
    assert_eq!(first.taken(), first.rows * 10);
}

#[rstest]
#[case::a_child("child", "note = 'held'", 13)]
#[case::a_grandchild("grandchild", "note = 'held'", 131)]
#[tokio::test]
async fn a_row_whose_descendant_is_held_stays_with_all_its_descendants(
    #[case] table: &str,
    #[case] filter: &str,
    #[case] held: i32,
) {
    let database = family(300).await;
    // Parent 1 has child 13, which has grandchild 131.
    database
        .execute(&format!(
            "UPDATE {table} SET note = 'held' WHERE id IN ({held}, {held} * 10)"
        ))
        .await;
    let engine = engine(&database.url);
    let mut plan = planned(&engine, Dependents::Cascade).await;
    plan.held_tables = vec![hold(&database, table, Some(filter)).await];

    let swept = run(&engine, &plan, 2).await.unwrap();

    assert_eq!((swept.rows, swept.blocked), (269, 1), "{swept:?}");
    assert_eq!(swept.cascaded, 269 * 9);
    let kept: i64 = database
        .scalar("SELECT count(*) FROM grandchild g JOIN child c ON c.id = g.child_id WHERE c.parent_id = 1")
        .await;
    assert_eq!((expired_left(&database).await, kept), (1, 6));
}

#[tokio::test]
async fn a_hold_on_a_whole_table_or_on_a_part_of_it_keeps_what_cascades_to_it() {
    let database = Postgres::shared().database("parts").await;
    database
        .execute(&format!(
            "{} CREATE TABLE item (id int, parent_id int REFERENCES parent ON DELETE CASCADE, region text) PARTITION BY LIST (region);
             CREATE TABLE item_eu PARTITION OF item FOR VALUES IN ('eu'); CREATE TABLE item_us PARTITION OF item FOR VALUES IN ('us');
             INSERT INTO item VALUES (1, 1, 'eu'), (2, 2, 'us'), (3, 3, 'eu'), (3, 3, 'us');",
            parents(9)
        ))
        .await;
    let engine = engine(&database.url);
    let mut plan = planned(&engine, Dependents::Cascade).await;
    plan.held_tables = vec![hold(&database, "item_eu", None).await];

    let swept = run(&engine, &plan, 1).await.unwrap();

    assert_eq!((swept.rows, swept.cascaded, swept.blocked), (7, 1, 2));
    assert_eq!(ids(&database, "SELECT id FROM parent").await, "1 3");
    plan.held_tables = vec![hold(&database, "item", None).await];
    assert_eq!(run(&engine, &plan, 1).await.unwrap().rows, 0);
    plan.held_tables = vec![hold(&database, "item", Some("id = 1")).await];
    assert_eq!(run(&engine, &plan, 1).await.unwrap().rows, 1);
    assert_eq!(ids(&database, "SELECT id FROM parent").await, "1");
}

#[tokio::test]
async fn a_held_row_is_not_even_set_to_null() {
    let database = Postgres::shared().database("setheld").await;
    database
        .execute(&format!(
            "{} CREATE TABLE item (id int, parent_id int REFERENCES parent ON DELETE SET NULL);
             INSERT INTO item VALUES (1, 1), (2, 2);",
            parents(3)
        ))
        .await;
    let engine = engine(&database.url);
    let mut plan = planned(&engine, Dependents::Cascade).await;
    plan.held_tables = vec![hold(&database, "item", Some("id = 1")).await];

    let swept = run(&engine, &plan, 1).await.unwrap();

    assert_eq!((swept.rows, swept.blocked), (2, 1));
    let items = "SELECT coalesce(parent_id, 0) AS id FROM item";
    assert_eq!(ids(&database, items).await, "0 1");
}

#[rstest]
#[case::no_action("REFERENCES parent")]
#[case::restrict("REFERENCES parent ON DELETE RESTRICT")]
#[case::deferred("REFERENCES parent DEFERRABLE INITIALLY DEFERRED")]
#[case::null_where_none_may_be("NOT NULL REFERENCES parent ON DELETE SET NULL")]
#[case::no_such_default("DEFAULT -1 REFERENCES parent ON DELETE SET DEFAULT")]
#[case::null_that_a_check_forbids(
    "CHECK (parent_id IS NOT NULL) REFERENCES parent ON DELETE SET NULL"
)]
#[tokio::test]
async fn under_cascade_a_key_that_does_not_cascade_keeps_its_row_and_no_other(#[case] key: &str) {
    let database = Postgres::shared().database("restrict").await;
    database
        .execute(&format!(
            "{} CREATE TABLE note (parent_id int REFERENCES parent ON DELETE CASCADE);
             INSERT INTO note SELECT n FROM generate_series(1, 1000) n; CREATE INDEX ON note (parent_id);
             CREATE TABLE item (parent_id int {key});
             INSERT INTO item SELECT n FROM generate_series(1, 1000, 101) n;",
            parents(1000)
        ))
        .await;

    let swept = sweep(&database, Dependents::Cascade, 4).await.unwrap();

    // 1, 102, 203, … 910 is not expired.
    assert_eq!((swept.rows, swept.blocked), (891, 9), "{swept:?}");
    assert_eq!(swept.cascaded, 891);
    assert_eq!(expired_left(&database).await, 9);
    let items: i64 = database
        .scalar("SELECT count(*) FROM item WHERE parent_id > 0")
        .await;
    assert_eq!(items, 10);
}

#[tokio::test]
async fn under_cascade_what_can_be_set_is_set() {
    let database = Postgres::shared().database("set").await;
    database
        .execute(&format!(
            "{} CREATE TABLE item (parent_id int REFERENCES parent ON DELETE SET NULL);
             INSERT INTO item SELECT n FROM generate_series(1, 50) n;",
            parents(100)
        ))
        .await;

    let swept = sweep(&database, Dependents::Cascade, 1).await.unwrap();

    let items: i64 = database
        .scalar("SELECT count(*) FROM item WHERE parent_id IS NULL")
        .await;
    assert_eq!((swept.rows, swept.cascaded, items), (90, 0, 45));
}

#[tokio::test]
async fn deep_below_too_a_row_that_must_stay_keeps_the_ones_above_it() {
    let database = family(60).await;
    database
        .execute(
            "CREATE TABLE stone (grandchild_id int REFERENCES grandchild ON DELETE RESTRICT);
             INSERT INTO stone VALUES (121), (5532);",
        )
        .await;

    let swept = sweep(&database, Dependents::Cascade, 2).await.unwrap();

    assert_eq!((swept.rows, swept.blocked), (52, 2));
    assert_eq!(
        ids(
            &database,
            &format!("SELECT id FROM parent WHERE at < '{CUTOFF}'")
        )
        .await,
        "1 55"
    );
}

/// Tables that refer to each other by keys of all kinds that keep nothing, in a schema.
fn web(schema: &str) -> String {
    format!(
        "CREATE SCHEMA {schema}; SET search_path = {schema};
         CREATE TABLE parent (id int PRIMARY KEY, at timestamptz, up int REFERENCES parent ON DELETE CASCADE);
         CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE CASCADE, other_id int REFERENCES parent ON DELETE SET NULL);
         CREATE TABLE grandchild (id int, child_id int REFERENCES child ON DELETE CASCADE, parent_id int REFERENCES parent ON DELETE CASCADE) PARTITION BY HASH (id);
         CREATE TABLE grandchild_0 PARTITION OF grandchild FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE grandchild_1 PARTITION OF grandchild FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO parent SELECT n, CASE (hashint4(n) & 3) WHEN 0 THEN '2023-06-01' WHEN 1 THEN '2023-07-01' ELSE '2025-06-01' END::timestamptz,
           CASE WHEN n > 20 AND (hashint4(n) & 28) = 0 THEN (hashint4(n) & 15) + 1 END FROM generate_series(1, 600) n;
         INSERT INTO child SELECT n, (hashint4(n + 7) & 511) + 1, (hashint4(n + 9) & 511) + 1 FROM generate_series(1, 900) n;
         INSERT INTO grandchild SELECT n, (hashint4(n + 11) & 511) + 1, (hashint4(n + 13) & 511) + 1 FROM generate_series(1, 1200) n;
         RESET search_path;"
    )
}

#[tokio::test]
async fn cascade_leaves_what_a_plain_delete_leaves_and_counts_what_went_through_a_pooler_too() {
    let postgres = Postgres::shared();
    let database = postgres.database("web").await;
    database.execute(&web("one")).await;
    database.execute(&web("two")).await;
    let pooler = PgBouncer::start(postgres, &[(SUPERUSER, SUPERUSER)]);
    let engine = engine(&pooler.url(&database.name, SUPERUSER, SUPERUSER));
    let cutoff = Cutoff::Instant(CUTOFF.parse().unwrap());
    let plan = RulePlan {
        dependents: Dependents::Cascade,
        ..plan_of(facts(&engine, "one", "parent").await, "at", cutoff)
    };
    let all = |schema: &str| {
        format!(
            "SELECT (SELECT count(*) FROM {schema}.parent) + (SELECT count(*) FROM {schema}.child) + (SELECT count(*) FROM {schema}.grandchild)"
        )
    };
    let before: i64 = database.scalar(&all("one")).await;

    let swept = run(&engine, &plan, 1).await.unwrap();
    database
        .execute(&format!("DELETE FROM two.parent WHERE at < '{CUTOFF}'"))
        .await;

    for table in ["parent", "child", "grandchild"] {
        let differing: i64 = database
            .scalar(&format!(
                "SELECT count(*) FROM ((TABLE one.{table} EXCEPT ALL TABLE two.{table}) UNION ALL (TABLE two.{table} EXCEPT ALL TABLE one.{table})) AS d"
            ))
            .await;
        assert_eq!(differing, 0, "{table}");
    }
    let after: i64 = database.scalar(&all("one")).await;
    assert_eq!(
        i64::try_from(swept.rows + swept.cascaded).unwrap(),
        before - after
    );
    assert!(swept.cascaded > 500, "{swept:?}");
}
