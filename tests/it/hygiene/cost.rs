//! What looking costs the database that is looked at: no scan, no page of a table of users, no lock that stays.

use std::time::Duration;

use retention_operator::engine::{Engine, postgres::PostgresEngine};

use super::target;
use crate::support::{
    postgres::{Postgres, TestDatabase},
    wait::eventually,
};

/// Some of everything that checks look at: rows, indexes of each kind, foreign keys, partitions, sequences, long values.
const SCHEMA: &str = "
    CREATE TABLE customer (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, note text);
    CREATE TABLE purchase (id serial PRIMARY KEY, customer_id int REFERENCES customer, at timestamptz NOT NULL, state text, body jsonb);
    CREATE INDEX purchase_at ON purchase (at);
    CREATE INDEX purchase_at_again ON purchase (at);
    CREATE INDEX purchase_open ON purchase (at) WHERE state = 'open';
    CREATE INDEX purchase_lower ON purchase (lower(state));
    CREATE TABLE measured (id bigint, day date) PARTITION BY RANGE (day);
    CREATE TABLE measured_1 PARTITION OF measured FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    CREATE TABLE keyless (a int, b text);
    CREATE TABLE nothing (id int);
    INSERT INTO customer (name, note) SELECT 'name ' || n, CASE n % 50 WHEN 0 THEN repeat(md5(n::text), 200) END FROM generate_series(1, 2000) n;
    INSERT INTO purchase (customer_id, at, state, body) SELECT 1 + n % 2000, now() - n * interval '1 hour', 'open', '{}' FROM generate_series(1, 20000) n;
    INSERT INTO measured SELECT n, '2026-01-15' FROM generate_series(1, 5000) n;
    INSERT INTO keyless SELECT n, 'x' FROM generate_series(1, 5000) n;
    DELETE FROM purchase WHERE id % 3 = 0;
";

const COUNTERS: &str = "
    SELECT (SELECT coalesce(sum(seq_scan + seq_tup_read + coalesce(idx_scan, 0)), 0) FROM pg_stat_user_tables) || ' scans of tables, '
        || (SELECT sum(idx_scan + idx_tup_read + idx_tup_fetch) FROM pg_stat_user_indexes) || ' scans of indexes, '
        || (SELECT sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0)
            + coalesce(toast_blks_read + toast_blks_hit + tidx_blks_read + tidx_blks_hit, 0)) FROM pg_statio_user_tables) || ' pages'";

async fn counters(database: &TestDatabase) -> String {
    // A session tells what it counted when it ends, at the latest.
    eventually(Duration::from_secs(30), "the other sessions' end", async || {
        let others: i64 = database
            .scalar("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
            .await;
        if others == 0 { Ok(()) } else { Err(others) }
    })
    .await;
    database.scalar(COUNTERS).await
}

async fn a_hundred_audits(server: &Postgres) {
    let database = server.database("counters").await;
    database.execute(SCHEMA).await;
    database.execute("VACUUM ANALYZE").await;
    let before = counters(&database).await;
    let engine = PostgresEngine::new(target(&database.url)).unwrap();

    for _ in 0..100 {
        engine.hygiene().await.unwrap();
    }
    engine.close().await;

    assert_eq!(counters(&database).await, before);
}

#[tokio::test]
async fn a_hundred_audits_move_no_scan_counter_and_read_no_page_of_a_table_of_users() {
    a_hundred_audits(Postgres::shared()).await;
}

#[tokio::test]
async fn nor_do_they_on_the_newest_major() {
    if let Some(newest) = Postgres::newest() {
        a_hundred_audits(newest).await;
    }
}
