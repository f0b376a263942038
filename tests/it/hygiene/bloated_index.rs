//! The estimate of `bloated-index`, compared with what `pgstatindex` measures and with what a rebuild really leaves.

use retention_operator::{
    engine::{Engine, postgres::PostgresEngine},
    policy::hygiene::{Facts, btree::estimate},
};

use super::{findings, ids, target};
use crate::support::postgres::{Postgres, TestDatabase};

/// Points between an estimate and the measured value.
const CLOSE: f64 = 10.0;

/// Each makes a table of its name and an index `<name>_i`, which is at least 10 MiB large.
const SHAPES: &[(&str, &str)] = &[
    (
        "sequential_then_deleted",
        "CREATE TABLE {t} AS SELECT n AS id FROM generate_series(1::bigint, 900000) n;
         CREATE INDEX {t}_i ON {t} (id);
         DELETE FROM {t} WHERE id % 10 < 6",
    ),
    (
        "random_uuids_as_they_grow",
        "CREATE TABLE {t} (id uuid);
         CREATE INDEX {t}_i ON {t} (id);
         INSERT INTO {t} SELECT gen_random_uuid() FROM generate_series(1, 400000)",
    ),
    (
        "texts_with_nulls",
        "CREATE TABLE {t} (n int, name text);
         CREATE INDEX {t}_i ON {t} (name);
         INSERT INTO {t} SELECT n, CASE WHEN n % 10 < 7 THEN repeat('x', n % 23) || md5(n::text) END FROM generate_series(1, 400000) n;
         DELETE FROM {t} WHERE n % 3 > 0",
    ),
    (
        "few_values_deduplicated",
        "CREATE TABLE {t} (n int, status int);
         CREATE INDEX {t}_i ON {t} (status);
         INSERT INTO {t} SELECT n, n % 5 FROM generate_series(1, 1800000) n;
         DELETE FROM {t} WHERE n % 10 > 2",
    ),
    (
        "few_values_as_they_are_built",
        "CREATE TABLE {t} AS SELECT n % 7 AS status FROM generate_series(1, 1800000) n;
         CREATE INDEX {t}_i ON {t} (status)",
    ),
    (
        "two_columns_at_random",
        "CREATE TABLE {t} (tenant int, at timestamptz);
         CREATE INDEX {t}_i ON {t} (tenant, at);
         INSERT INTO {t} SELECT (random() * 300)::int, timestamptz '2026-01-01' + random() * interval '300 days' FROM generate_series(1, 500000);
         DELETE FROM {t} WHERE tenant % 2 = 0",
    ),
    (
        "numerics_without_lists",
        "CREATE TABLE {t} (n int, amount numeric);
         CREATE INDEX {t}_i ON {t} (amount);
         INSERT INTO {t} SELECT n, n % 1000 FROM generate_series(1, 700000) n;
         DELETE FROM {t} WHERE n % 4 > 0",
    ),
    (
        "a_part_of_the_rows",
        "CREATE TABLE {t} (n int, parent bigint);
         CREATE INDEX {t}_i ON {t} (parent) WITH (fillfactor = 70) WHERE parent IS NOT NULL;
         INSERT INTO {t} SELECT n, CASE WHEN n % 2 = 0 THEN n END FROM generate_series(1, 1200000) n;
         DELETE FROM {t} WHERE n % 12 < 5",
    ),
    (
        "included_columns",
        "CREATE TABLE {t} AS SELECT n, n AS other, n::bigint AS more FROM generate_series(1, 500000) n;
         CREATE INDEX {t}_i ON {t} (n) INCLUDE (other, more);
         DELETE FROM {t} WHERE n % 5 < 3",
    ),
    (
        "an_expression",
        "CREATE TABLE {t} AS SELECT n, 'Name ' || n AS name FROM generate_series(1, 500000) n;
         CREATE INDEX {t}_i ON {t} (lower(name));
         DELETE FROM {t} WHERE n % 5 < 3",
    ),
    (
        "pairs_of_equal_keys",
        "CREATE TABLE {t} (n int, pair int);
         INSERT INTO {t} SELECT n, n / 2 FROM generate_series(1, 900000) n;
         CREATE INDEX {t}_i ON {t} (pair);
         DELETE FROM {t} WHERE n % 8 > 2",
    ),
    (
        "nearly_all_null",
        "CREATE TABLE {t} (n int, parent bigint);
         CREATE INDEX {t}_i ON {t} (parent);
         INSERT INTO {t} SELECT n, CASE WHEN n % 20 = 0 THEN n END FROM generate_series(1, 2000000) n;
         DELETE FROM {t} WHERE n % 3 > 0",
    ),
    (
        "nulls_in_the_second_column",
        "CREATE TABLE {t} (n int, tenant int, deleted_at timestamptz);
         INSERT INTO {t} SELECT n, n % 1000, CASE WHEN n % 10 = 0 THEN now() + n * interval '1 second' END FROM generate_series(1, 1500000) n;
         CREATE INDEX {t}_i ON {t} (tenant, deleted_at);
         DELETE FROM {t} WHERE n % 7 > 2",
    ),
    (
        "narrow_before_wide",
        "CREATE TABLE {t} (a smallint, b bigint, c bool);
         CREATE INDEX {t}_i ON {t} (a, b, c);
         INSERT INTO {t} SELECT n % 100, n, n % 2 = 0 FROM generate_series(1, 500000) n;
         DELETE FROM {t} WHERE b % 10 < 5",
    ),
    (
        "yes_or_no",
        "CREATE TABLE {t} (n int, done bool);
         CREATE INDEX {t}_i ON {t} (done);
         INSERT INTO {t} SELECT n, n % 50 <> 0 FROM generate_series(1, 2000000) n;
         DELETE FROM {t} WHERE n % 2 = 0",
    ),
    (
        "long_texts",
        "CREATE TABLE {t} (n int, path text);
         CREATE INDEX {t}_i ON {t} (path);
         INSERT INTO {t} SELECT n, '/srv/data/tenants/' || md5(n::text) || repeat('/' || (n % 97), 10 + n % 60) FROM generate_series(1, 120000) n;
         DELETE FROM {t} WHERE n % 5 < 2",
    ),
    (
        "days_of_tenants",
        "CREATE TABLE {t} (n int, tenant uuid, day date);
         INSERT INTO {t} SELECT n, md5((random() * 500)::int::text)::uuid, date '2024-01-01' + (random() * 730)::int FROM generate_series(1, 1800000) n;
         CREATE INDEX {t}_i ON {t} (tenant, day);
         DELETE FROM {t} WHERE n % 9 < 4",
    ),
    (
        "columns_that_go_together",
        "CREATE TABLE {t} (n int, customer int, tenant int);
         CREATE STATISTICS {t}_s (ndistinct) ON customer, tenant FROM {t};
         INSERT INTO {t} SELECT n, n % 30000, n % 30000 % 50 FROM generate_series(1, 2000000) n;
         CREATE INDEX {t}_i ON {t} (tenant, customer);
         DELETE FROM {t} WHERE n % 7 > 2",
    ),
    (
        "unique_at_random",
        "CREATE TABLE {t} (n int, token text);
         CREATE UNIQUE INDEX {t}_i ON {t} (token);
         INSERT INTO {t} SELECT n, md5(n::text) FROM generate_series(1, 300000) n;
         DELETE FROM {t} WHERE n % 10 < 5",
    ),
    (
        "built_anew",
        "CREATE TABLE {t} (n int, token text);
         INSERT INTO {t} SELECT n, left(md5((n % 60000)::text), 20) FROM generate_series(1, 3000000) n;
         DELETE FROM {t} WHERE n % 10 < 5;
         CREATE INDEX {t}_i ON {t} (token)",
    ),
];

async fn facts(database: &TestDatabase) -> Facts {
    let engine = PostgresEngine::new(target(&database.url)).unwrap();
    let facts = engine.hygiene().await.unwrap();
    engine.close().await;
    facts
}

#[tokio::test]
async fn the_estimate_is_within_ten_points_of_what_is_measured_on_every_shape() {
    let database = Postgres::shared().database("index_bloat").await;
    database.execute("CREATE EXTENSION pgstattuple").await;
    for (name, sql) in SHAPES {
        database.execute(&sql.replace("{t}", name)).await;
        database.execute(&format!("VACUUM (ANALYZE) {name}")).await;
    }

    let facts = facts(&database).await;

    let mut wrong = Vec::new();
    for (name, _) in SHAPES {
        let index = facts
            .indexes
            .iter()
            .find(|index| *index.name == format!("{name}_i"));
        let index = index.unwrap();
        let tree = facts.btrees.iter().find(|tree| tree.index == index.id);
        let tree = tree.unwrap_or_else(|| panic!("{name}: {} pages", index.pages));
        let rows = facts.tables[&index.table].rows;
        let estimate = estimate(index, tree, rows).unwrap();
        // Entries that are pressed to the fill factor, as a share of all pages.
        let measured: f64 = database
            .scalar(&format!(
                "SELECT 1 - leaf_pages * avg_leaf_density / {} / (index_size / 8192) FROM pgstatindex('{name}_i')",
                tree.fillfactor
            ))
            .await;
        database.execute(&format!("REINDEX INDEX {name}_i")).await;
        let rebuilt: i64 = database
            .scalar(&format!("SELECT pg_relation_size('{name}_i') / 8192"))
            .await;
        #[expect(clippy::cast_precision_loss, reason = "some thousand pages")]
        let won = 100.0 * (1.0 - rebuilt as f64 / index.pages as f64);
        let (likely, measured) = (100.0 * estimate.bloat(), 100.0 * measured);
        println!(
            "{name}: {} pages, estimated {} ({likely:.1} %, at least {:.1} %), pgstatindex {measured:.1} %, rebuilt {rebuilt} ({won:.1} %)",
            estimate.pages,
            estimate.needed,
            100.0 * estimate.bloat_at_least(),
        );
        if (likely - measured).abs() > CLOSE || (likely - won).abs() > CLOSE {
            wrong.push(*name);
        }
    }
    assert_eq!(wrong, Vec::<&str>::new());
}

/// A few keys have most of the rows, and very many have one each, of which a sample sees too few.
#[tokio::test]
async fn where_a_sample_misleads_the_truth_is_between_the_two_answers() {
    let database = Postgres::shared().database("index_skewed").await;
    database
        .execute(
            "CREATE EXTENSION pgstattuple; CREATE TABLE t (n int, customer int);
             CREATE INDEX t_i ON t (customer);
             INSERT INTO t SELECT n, (power(random(), 6) * 200000)::int FROM generate_series(1, 1500000) n;
             DELETE FROM t WHERE n % 10 < 6",
        )
        .await;
    database.execute("VACUUM (ANALYZE) t").await;
    let facts = facts(&database).await;
    let index = facts.indexes.iter().find(|index| &*index.name == "t_i");
    let index = index.unwrap();
    let rows = facts.tables[&index.table].rows;

    let estimate = estimate(index, &facts.btrees[0], rows).unwrap();

    database.execute("REINDEX INDEX t_i").await;
    let rebuilt: i64 = database
        .scalar("SELECT pg_relation_size('t_i') / 8192")
        .await;
    let rebuilt = u64::try_from(rebuilt).unwrap();
    assert!(
        estimate.needed <= rebuilt && rebuilt <= estimate.needed_at_most,
        "{estimate:?}, rebuilt {rebuilt}"
    );
}

#[tokio::test]
async fn an_index_whose_rows_were_deleted_is_found_until_it_is_rebuilt() {
    let database = Postgres::shared().database("index_bloated").await;
    database
        .execute(
            "CREATE TABLE t AS SELECT n AS id FROM generate_series(1::bigint, 900000) n;
             CREATE INDEX t_i ON t (id);
             CREATE TABLE good AS SELECT n AS id FROM generate_series(1::bigint, 900000) n;
             CREATE INDEX good_i ON good (id);
             DELETE FROM t WHERE id % 10 < 8",
        )
        .await;
    database.execute("VACUUM (ANALYZE)").await;

    let before = findings(&database.url).await;
    let bloated: Vec<&str> = ids(&before)
        .into_iter()
        .filter(|id| id.starts_with("bloated-index:"))
        .collect();
    assert_eq!(bloated, ["bloated-index:public.t.t_i"]);

    database.execute("REINDEX INDEX CONCURRENTLY t_i").await;
    let after = findings(&database.url).await;
    assert!(
        !ids(&after)
            .iter()
            .any(|id| id.starts_with("bloated-index:"))
    );
}

#[tokio::test]
async fn a_role_that_may_read_no_statistics_is_told_so_and_guesses_nothing() {
    let database = Postgres::shared().database("index_hidden").await;
    let monitor = database
        .role("monitor", "secret", "GRANT pg_monitor TO {role}")
        .await;
    database
        .execute(
            "CREATE TABLE t AS SELECT n AS id FROM generate_series(1::bigint, 900000) n;
             CREATE INDEX t_i ON t (id);
             DELETE FROM t WHERE id % 10 < 8",
        )
        .await;
    database.execute("VACUUM (ANALYZE)").await;
    let engine = PostgresEngine::new(target(&monitor.url)).unwrap();

    let facts = engine.hygiene().await.unwrap();

    engine.close().await;
    assert_eq!(facts.btrees.len(), 1);
    assert!(facts.btrees[0].columns.is_empty());
    assert!(
        facts.unseen.contains(
            &"bloat of indexes: the role may not read the statistics of the tables of 1 large ones; that takes SELECT on them"
                .to_owned()
        ),
        "{:?}",
        facts.unseen
    );
}
