//! The estimate of `bloated-table` on tables that are harder than those in `statistics`: compared with what `pgstattuple`
//! measures and with what a rebuild really leaves.

use retention_operator::{
    engine::{Engine, postgres::PostgresEngine},
    policy::hygiene::{Facts, bloat, facts::Table},
};

use super::target;
use crate::support::postgres::{Postgres, TestDatabase};

/// Points between an estimate and the measured value.
const CLOSE: f64 = 10.0;

/// Each makes a table of its name, and leaves it vacuumed and analysed.
const SHAPES: &[(&str, &str)] = &[
    (
        "many_types",
        "CREATE TABLE {t} (a uuid, h bool, b date, c numeric(12, 4), i smallint, d inet, e char(10), f int[], k interval, g2 jsonb, j real, l \"char\", m name);
         INSERT INTO {t} SELECT gen_random_uuid(), g % 2 = 0, '2025-01-01', g / 7.0, g % 9, '10.0.0.1', 'x', ARRAY[g, g], '1 day', jsonb_build_object('n', g), g, 'x', 'name'
           FROM generate_series(1, 30000) g;
         DELETE FROM {t} WHERE abs(hashtext(ctid::text)::bigint) % 100 < 45",
    ),
    (
        "bools_between_wide_numbers",
        "CREATE TABLE {t} (a bool, b bigint, c bool, d bigint, e bool, f bigint);
         INSERT INTO {t} SELECT true, g, g % 2 = 0, g, false, g FROM generate_series(1, 60000) g;
         DELETE FROM {t} WHERE b % 10 < 4",
    ),
    (
        "forty_columns_mostly_null",
        "DO $$ BEGIN EXECUTE 'CREATE TABLE {t} (id int, ' || (SELECT string_agg('c' || n || CASE n % 3 WHEN 0 THEN ' int' WHEN 1 THEN ' text' ELSE ' timestamptz' END, ', ') FROM generate_series(1, 40) n) || ')'; END $$;
         INSERT INTO {t} (id, c1, c2, c3, c7, c30) SELECT g, CASE WHEN g % 4 = 0 THEN 'some text' END, CASE WHEN g % 2 = 0 THEN now() END, g, CASE WHEN g % 9 = 0 THEN md5(g::text) END, 7
           FROM generate_series(1, 40000) g;
         DELETE FROM {t} WHERE id % 10 < 3",
    ),
    (
        "columns_added_with_a_default",
        "CREATE TABLE {t} (id int, v text);
         INSERT INTO {t} SELECT g, md5(g::text) FROM generate_series(1, 60000) g;
         ALTER TABLE {t} ADD COLUMN n bigint NOT NULL DEFAULT 7, ADD COLUMN m uuid DEFAULT '00000000-0000-0000-0000-000000000001', ADD COLUMN b bool NOT NULL DEFAULT false;
         DELETE FROM {t} WHERE id % 10 < 4",
    ),
    (
        "rows_nearly_too_long",
        "CREATE TABLE {t} (id int, v text);
         INSERT INTO {t} SELECT g, (SELECT string_agg(md5(g::text || n), '') FROM generate_series(1, 40 + g % 22) n) FROM generate_series(1, 8000) g;
         DELETE FROM {t} WHERE id % 10 < 4",
    ),
    (
        "half_of_a_page_each",
        "CREATE TABLE {t} (id int, v text);
         ALTER TABLE {t} ALTER v SET STORAGE PLAIN;
         INSERT INTO {t} SELECT g, repeat('x', 3000 + g % 900) FROM generate_series(1, 4000) g;
         DELETE FROM {t} WHERE id % 10 < 4",
    ),
    (
        "empty_at_its_end",
        "CREATE TABLE {t} (id int, v text) WITH (vacuum_truncate = off);
         INSERT INTO {t} SELECT g, md5(g::text) FROM generate_series(1, 60000) g;
         DELETE FROM {t} WHERE id > 15000",
    ),
    (
        "updated_all_over",
        "CREATE TABLE {t} (id int, v text, n int);
         INSERT INTO {t} SELECT g, md5(g::text), 0 FROM generate_series(1, 40000) g;
         UPDATE {t} SET n = n + 1; UPDATE {t} SET n = n + 1 WHERE id % 3 = 0",
    ),
    (
        "loosely_filled_and_deleted",
        "CREATE TABLE {t} (id bigint, v text) WITH (fillfactor = 50);
         INSERT INTO {t} SELECT g, repeat('x', 100 + g % 200) FROM generate_series(1, 20000) g;
         DELETE FROM {t} WHERE id % 10 < 6",
    ),
    (
        "a_column_dropped_and_one_compressed",
        "CREATE TABLE {t} (id int, gone text, v text, w bytea);
         INSERT INTO {t} SELECT g, 'x', repeat(md5((g % 7)::text), 100), decode(repeat('00', g % 300), 'hex') FROM generate_series(1, 20000) g;
         ALTER TABLE {t} DROP COLUMN gone;
         UPDATE {t} SET id = id WHERE id % 2 = 0;
         DELETE FROM {t} WHERE id % 10 < 2",
    ),
];

async fn facts(database: &TestDatabase) -> Facts {
    let engine = PostgresEngine::new(target(&database.url)).unwrap();
    let facts = engine.hygiene().await.unwrap();
    engine.close().await;
    facts
}

fn by_name<'a>(facts: &'a Facts, name: &str) -> &'a Table {
    let mut tables = facts.tables.values();
    tables.find(|table| table.name == name).unwrap()
}

async fn size(database: &TestDatabase, table: &str) -> f64 {
    database
        .scalar(&format!("SELECT pg_relation_size('{table}')::float8"))
        .await
}

/// Percent that hold no row by the audit, by pgstattuple, and by a rebuild.
async fn compared(database: &TestDatabase, name: &str, facts: &Facts) -> (f64, f64, f64) {
    let table = by_name(facts, name);
    let estimate = bloat::of_rows(table, &facts.columns[&table.id]).unwrap();
    let filled = f64::from(table.detail.fill_factor.unwrap_or(100)) / 100.0;
    let free: f64 = database
        .scalar(&format!(
            "SELECT free_percent + dead_tuple_percent FROM pgstattuple('{name}')"
        ))
        .await;
    let before = size(database, name).await;
    database.execute(&format!("VACUUM FULL {name}")).await;
    let won = 100.0 * (1.0 - size(database, name).await / before);
    let measured = (100.0 - (100.0 - free) / filled).max(0.0);
    (estimate.share() * 100.0, measured, won)
}

#[tokio::test]
async fn hard_shapes_are_estimated_within_ten_points_too() {
    let database = Postgres::shared().database("table_bloat").await;
    database.execute("CREATE EXTENSION pgstattuple").await;
    for (name, sql) in SHAPES {
        database.execute(&sql.replace("{t}", name)).await;
        database.execute(&format!("VACUUM (ANALYZE) {name}")).await;
    }
    let facts = facts(&database).await;

    let mut wrong = Vec::new();
    for (name, _) in SHAPES {
        let (estimated, measured, won) = compared(&database, name, &facts).await;
        println!("{name}: estimated {estimated:.1}, pgstattuple {measured:.1}, rebuilt {won:.1}");
        if (estimated - measured).abs() > CLOSE && (estimated - won).abs() > CLOSE {
            wrong.push(*name);
        }
    }
    assert_eq!(wrong, [""; 0]);

    // What was just rebuilt has no bloat.
    for (name, _) in SHAPES {
        database.execute(&format!("ANALYZE {name}")).await;
    }
    let facts = self::facts(&database).await;
    for (name, _) in SHAPES {
        let table = by_name(&facts, name);
        let estimate = bloat::of_rows(table, &facts.columns[&table.id]).unwrap();
        println!("{name}: rebuilt, estimated {:.1}", estimate.share() * 100.0);
        if estimate.share() * 100.0 > CLOSE {
            wrong.push(*name);
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[tokio::test]
async fn virtual_columns_take_no_room() {
    let Some(newest) = Postgres::newest() else {
        return;
    };
    let database = newest.database("virtual_bloat").await;
    database
        .execute(
            "CREATE TABLE t (id int, a int GENERATED ALWAYS AS (id * 2), v text, b text GENERATED ALWAYS AS (upper(v)));
             INSERT INTO t (id, v) SELECT g, md5(g::text) FROM generate_series(1, 40000) g;
             DELETE FROM t WHERE id % 10 < 4",
        )
        .await;
    database.execute("VACUUM (ANALYZE) t").await;
    let facts = facts(&database).await;
    let table = by_name(&facts, "t");

    let estimate = bloat::of_rows(table, &facts.columns[&table.id]).unwrap();

    let before = size(&database, "t").await;
    database.execute("VACUUM FULL t").await;
    let won = 100.0 * (1.0 - size(&database, "t").await / before);
    let estimated = estimate.share() * 100.0;
    assert!((estimated - won).abs() <= CLOSE, "{estimated:.1} {won:.1}");
}
