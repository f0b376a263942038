//! What the engine reads of tables and statistics.

use std::time::Duration;

use retention_operator::engine::Engine;
use retention_operator::policy::table::{OnDelete, TableKind, TableName, TimeDomain};
use rstest::rstest;

use super::{engine, facts, filled};
use crate::support::postgres::Postgres;
use crate::support::wait::eventually;

#[tokio::test]
async fn names_are_looked_up_as_they_are_spelled() {
    let database = Postgres::shared().database("spelled").await;
    let long = "x".repeat(63);
    database
        .execute(&format!(
            "CREATE TABLE \"Orders\" (at date); CREATE VIEW v AS SELECT 1 AS a; CREATE TABLE {long} (a int)"
        ))
        .await;
    let engine = engine(&database.url);
    let name = |schema: Option<&str>, name: &str| TableName {
        schema: schema.map(str::to_owned),
        name: name.to_owned(),
    };

    let found = engine
        .tables(&[
            name(None, "orders"),
            name(None, "Orders"),
            name(None, "v"),
            name(Some("pg_catalog"), "pg_class"),
            name(None, &format!("{long}y")),
            name(Some("nowhere"), "Orders"),
        ])
        .await
        .unwrap();

    let kinds: Vec<Option<TableKind>> = found
        .iter()
        .map(|t| t.as_ref().map(|t| t.kind.clone()))
        .collect();
    assert_eq!(
        kinds,
        [
            None,
            Some(TableKind::Ordinary),
            Some(TableKind::Unsupported("view".to_owned())),
            Some(TableKind::Ordinary),
            None,
            None
        ]
    );
    assert!(found[3].as_ref().unwrap().system);
    assert!(!found[1].as_ref().unwrap().system);
}

#[tokio::test]
async fn columns_tell_their_domain_and_whether_a_predicate_may_read_them() {
    let database = Postgres::shared().database("columns").await;
    database
        .execute(
            "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('a'); CREATE TYPE pair AS (a int);
             CREATE DOMAIN instant AS timestamptz; CREATE DOMAIN later AS instant; CREATE DOMAIN word AS citext;
             CREATE COLLATION loose (provider = icu, locale = 'und', deterministic = false);
             CREATE TABLE t (tz timestamptz, ts timestamp, d date, l later, gone int, e mood, c citext, w word, arr int[], p pair,
               r regclass, m money, x text COLLATE loose, n numeric, i interval, j jsonb);
             ALTER TABLE t DROP COLUMN gone",
        )
        .await;
    let engine = engine(&database.url);

    let table = facts(&engine, "public", "t").await;

    let domains: Vec<Option<TimeDomain>> = table
        .columns
        .iter()
        .take(4)
        .map(|c| c.time_domain)
        .collect();
    let safe: Vec<&str> = table
        .columns
        .iter()
        .filter(|c| c.safe_in_predicates)
        .map(|c| c.name.as_str())
        .collect();
    let temporal: Vec<&str> = table
        .columns
        .iter()
        .filter(|c| c.is_temporal)
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(
        domains,
        [
            Some(TimeDomain::Instant),
            Some(TimeDomain::Local),
            Some(TimeDomain::Date),
            Some(TimeDomain::Instant)
        ]
    );
    assert_eq!(safe, ["tz", "ts", "d", "l", "e", "n", "i", "j"]);
    assert_eq!(temporal, ["tz", "ts", "d", "l", "i"]);
    assert_eq!(table.column("l").unwrap().type_name, "public.later");
    assert!(table.column("gone").is_none());
}

#[tokio::test]
async fn leaves_keys_triggers_rules_and_indexes_are_found_through_partitions() {
    let database = Postgres::shared().database("facts").await;
    database
        .execute(
            "CREATE TABLE p (id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
             CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
             CREATE TABLE p2 PARTITION OF p DEFAULT;
             CREATE INDEX ON p (at);
             CREATE TABLE child (p_id int, p_at timestamptz, up int REFERENCES child (up), UNIQUE (up),
               FOREIGN KEY (p_id, p_at) REFERENCES p ON DELETE CASCADE) ;
             CREATE TABLE parted (p_id int, p_at timestamptz, FOREIGN KEY (p_id, p_at) REFERENCES p) PARTITION BY LIST (p_id);
             CREATE TABLE parted1 PARTITION OF parted FOR VALUES IN (1);
             CREATE TABLE parted2 PARTITION OF parted FOR VALUES IN (2);
             INSERT INTO p VALUES (2, '2020-05-05'); INSERT INTO parted VALUES (2, '2020-05-05');
             CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
             CREATE TRIGGER on_delete AFTER DELETE ON p FOR EACH ROW EXECUTE FUNCTION f();
             CREATE TRIGGER on_insert AFTER INSERT ON p FOR EACH ROW EXECUTE FUNCTION f();",
        )
        .await;
    let engine = engine(&database.url);

    let table = facts(&engine, "public", "p").await;
    let part = facts(&engine, "public", "p1").await;
    let child = facts(&engine, "public", "child").await;

    assert_eq!(table.kind, TableKind::Partitioned);
    let leaves: Vec<&str> = table.leaves.iter().map(|leaf| leaf.name.as_str()).collect();
    assert_eq!(leaves, ["p1", "p2"]);
    assert_eq!((table.leaves[0].pages, table.leaves[1].pages), (1, 0));
    let keys: Vec<(&str, OnDelete, bool)> = table
        .incoming
        .iter()
        .map(|key| (key.table.as_str(), key.on_delete, key.empty))
        .collect();
    assert_eq!(
        keys,
        [
            ("public.child", OnDelete::Cascade, true),
            ("public.parted", OnDelete::Restrict, false)
        ]
    );
    assert_eq!(part.incoming.len(), 2, "{:?}", part.incoming);
    assert_eq!(child.incoming[0].table, "public.child");
    assert_eq!(table.delete_triggers, ["on_delete"]);
    assert_eq!(table.leading_index_columns, ["at", "id"]);
    assert!(table.total_bytes >= 8192);
}

#[tokio::test]
async fn an_index_that_is_partial_or_begins_with_an_expression_does_not_lead() {
    let database = Postgres::shared().database("leading").await;
    database
        .execute(
            "CREATE TABLE t (a int, b int, c int, d int); CREATE INDEX ON t (a) WHERE b > 1; CREATE INDEX ON t ((b + 1));
             CREATE INDEX ON t USING hash (c); CREATE INDEX ON t (d, a)",
        )
        .await;

    let table = facts(&engine(&database.url), "public", "t").await;

    assert_eq!(table.leading_index_columns, ["d"]);
}

#[tokio::test]
async fn a_published_table_without_identity_is_named_with_its_publication() {
    let database = Postgres::shared().database("published").await;
    database
        .execute(
            "CREATE TABLE bare (at date); CREATE TABLE keyed (id int PRIMARY KEY); CREATE TABLE full_row (at date);
             ALTER TABLE full_row REPLICA IDENTITY FULL; CREATE TABLE nothing (id int PRIMARY KEY);
             ALTER TABLE nothing REPLICA IDENTITY NOTHING; CREATE TABLE unpublished (at date);
             CREATE TABLE p (at date) PARTITION BY RANGE (at); CREATE TABLE p1 PARTITION OF p DEFAULT;
             CREATE TABLE inserts (at date); CREATE SCHEMA s; CREATE TABLE s.t (at date);
             CREATE PUBLICATION all_writes FOR TABLE bare, keyed, full_row, nothing, p WITH (publish_via_partition_root = true);
             CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA s;
             CREATE PUBLICATION only_inserts FOR TABLE inserts WITH (publish = 'insert')",
        )
        .await;
    let engine = engine(&database.url);

    for (schema, name, publication) in [
        ("public", "bare", Some("all_writes")),
        ("public", "keyed", None),
        ("public", "full_row", None),
        ("public", "nothing", Some("all_writes")),
        ("public", "unpublished", None),
        ("public", "p", Some("all_writes")),
        ("public", "p1", Some("all_writes")),
        ("public", "inserts", None),
        ("s", "t", Some("of_schema")),
    ] {
        let table = facts(&engine, schema, name).await;
        assert_eq!(
            table.published_without_identity.as_deref(),
            publication,
            "{name}"
        );
    }
}

#[tokio::test]
async fn rights_rules_and_row_security_are_the_roles_own() {
    let postgres = Postgres::shared();
    let database = postgres.database("rights").await;
    database
        .execute(
            "CREATE TABLE read_only (at date); CREATE TABLE deletable (at date); CREATE TABLE secured (at date);
             ALTER TABLE secured ENABLE ROW LEVEL SECURITY; CREATE TABLE ruled (at date);
             CREATE RULE keep AS ON DELETE TO ruled DO INSTEAD NOTHING;
             CREATE TABLE p (at date) PARTITION BY RANGE (at); CREATE TABLE p1 PARTITION OF p DEFAULT;",
        )
        .await;
    let role = database
        .role("clerk", "secret", "GRANT SELECT ON read_only TO {role}; GRANT SELECT, DELETE ON deletable, secured, ruled, p TO {role}")
        .await;
    let engine = engine(&role.url);
    let rights = async |name: &str| {
        let table = facts(&engine, "public", name).await;
        (
            table.may_select,
            table.may_delete,
            table.row_security_active,
        )
    };

    assert_eq!(rights("read_only").await, (true, false, false));
    assert_eq!(rights("deletable").await, (true, true, false));
    assert_eq!(rights("secured").await, (true, true, true));
    assert_eq!(rights("p").await, (false, false, false));
    assert_eq!(
        facts(&engine, "public", "ruled")
            .await
            .delete_rule
            .as_deref(),
        Some("keep")
    );
    assert_eq!(
        engine.facts().await.unwrap().read_only_by,
        "ReadOnlyTransaction"
    );
}

#[tokio::test]
async fn the_databases_facts_are_its_own() {
    let database = Postgres::shared().database("self").await;
    database.execute(&filled("t", 10)).await;
    let role = database
        .role("reader", "secret", "GRANT SELECT ON t TO {role}")
        .await;

    let by_owner = engine(&database.url).facts().await.unwrap();
    let by_reader = engine(&role.url).facts().await.unwrap();

    assert_eq!(by_owner.engine, "PostgreSQL");
    assert_eq!(by_owner.name, database.name);
    assert_eq!(by_owner.tables, 1);
    assert_eq!(by_owner.identity, by_reader.identity);
    assert!(by_owner.size_bytes > 1_000_000);
    assert!(!by_owner.in_recovery);
    assert_eq!(by_reader.read_only_by, "ReadOnlyRole");
    assert!(
        by_owner.version.starts_with(|c: char| c.is_ascii_digit()),
        "{}",
        by_owner.version
    );
}

#[rstest]
#[case("timestamptz")]
#[case("timestamp")]
#[case("date")]
#[tokio::test]
async fn statistics_hold_infinities_and_estimate_what_has_expired(#[case] kind: &str) {
    let database = Postgres::shared().database("statistics").await;
    database
        .execute(&format!(
            "CREATE TABLE t (at {kind});
             INSERT INTO t SELECT '2024-01-01'::timestamp + (n - 5000) * interval '1 day' FROM generate_series(1, 10000) n;
             INSERT INTO t SELECT '2024-06-01' FROM generate_series(1, 2000); INSERT INTO t VALUES ('infinity'), ('-infinity');
             INSERT INTO t SELECT NULL FROM generate_series(1, 1000); SET default_statistics_target = 1000; ANALYZE t"
        ))
        .await;
    let engine = engine(&database.url);
    let plan = super::plan(&engine, "t", "at").await;

    let statistics = engine.statistics(&plan).await.unwrap();

    let leaf = &statistics.leaves[0];
    let column = leaf.column.as_ref().unwrap();
    let rows = leaf.rows.unwrap();
    let cutoff: jiff::Timestamp = super::CUTOFF.parse().unwrap();
    #[allow(clippy::cast_precision_loss, reason = "whole seconds of this century")]
    let expired = rows * column.expired_fraction(cutoff.as_second() as f64);
    assert!((expired - 5_000.0).abs() < 130.0, "{expired}");
    assert!(leaf.analyzed_at.is_some());
    assert!((column.null_fraction - 1_000.0 / 13_002.0).abs() < 0.001);
    assert!(column.oldest().is_some_and(f64::is_finite));
}

#[tokio::test]
async fn a_table_never_analysed_has_no_statistics() {
    let database = Postgres::shared().database("never").await;
    database
        .execute("CREATE TABLE t (at date) WITH (autovacuum_enabled = off); INSERT INTO t VALUES ('2020-01-01')")
        .await;
    let engine = engine(&database.url);
    let plan = super::plan(&engine, "t", "at").await;

    let statistics = engine.statistics(&plan).await.unwrap();

    assert_eq!(plan.table.rows(), None);
    assert_eq!(statistics.leaves.len(), 1);
    assert_eq!(statistics.leaves[0].column, None);
    assert_eq!(statistics.leaves[0].analyzed_at, None);
    assert_eq!(statistics.last_read, None);
}

#[tokio::test]
async fn a_hundred_audits_move_no_counter_of_a_users_table() {
    let database = Postgres::shared().database("quiet").await;
    database
        .execute(&format!(
            "{} CREATE INDEX ON t (at); ANALYZE t; ALTER TABLE t SET (autovacuum_enabled = off)",
            filled("t", 5_000)
        ))
        .await;
    let counters = "SELECT s.n_tup_ins || ' ' || concat_ws(' ', s.seq_scan, s.seq_tup_read, s.idx_scan, i.heap_blks_read + i.heap_blks_hit,
            i.idx_blks_read + i.idx_blks_hit)
        FROM pg_stat_user_tables s JOIN pg_statio_user_tables i USING (relid) WHERE s.relname = 't'";
    let before: String = eventually(Duration::from_secs(20), "counters", async || {
        let counters: String = database.scalar(counters).await;
        if counters.starts_with("5000 ") {
            Ok(counters)
        } else {
            Err(counters)
        }
    })
    .await;
    let engine = engine(&database.url);

    for _ in 0..100 {
        engine.facts().await.unwrap();
        let plan = super::plan(&engine, "t", "at").await;
        engine.statistics(&plan).await.unwrap();
        engine.check_plan(&plan).await.unwrap();
    }
    engine.close().await;

    // The session is gone, and with its end it has reported all that it counted.
    eventually(Duration::from_secs(20), "the session's end", async || {
        let open = database.foreign_sessions().await;
        if open == 0 { Ok(()) } else { Err(open) }
    })
    .await;
    let after: String = database.scalar(counters).await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_table_that_somebody_locks_against_everybody_does_not_stop_an_audit() {
    let database = Postgres::shared().database("locked").await;
    database
        .execute(&format!("{} ANALYZE t", filled("t", 1_000)))
        .await;
    let mut holder = database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t")
        .execute(&mut holder)
        .await
        .unwrap();
    let engine = engine(&database.url);

    let plan = super::plan(&engine, "t", "at").await;

    assert!(plan.table.leaves[0].pages > 0);
    engine.statistics(&plan).await.unwrap();
}

#[tokio::test]
async fn only_rows_that_nothing_can_have_deleted_since_the_statistics_are_sure() {
    let database = Postgres::shared().database("sure").await;
    let engine = engine(&database.url);
    let sure = async |rows: u64| {
        let what = format!("{rows} rows to be sure");
        eventually(Duration::from_secs(20), &what, async || {
            match facts(&engine, "public", "t").await.rows_at_least() {
                sure if sure == rows => Ok(()),
                sure => Err(sure),
            }
        })
        .await;
    };
    // A session reports what it did a little later.
    let reported = async |rows: i64| {
        eventually(Duration::from_secs(20), "the inserts", async || {
            let counted = "SELECT pg_stat_get_tuples_inserted('t'::regclass)";
            match database.scalar::<i64>(counted).await {
                counted if counted == rows => Ok(()),
                counted => Err(counted),
            }
        })
        .await;
    };

    database.execute(&filled("t", 1_000)).await;
    reported(1_000).await;
    sure(0).await;
    database.execute("ANALYZE t").await;
    sure(900).await;
    database.execute("DELETE FROM t WHERE id <= 300").await;
    sure(630).await;
    database
        .execute("UPDATE t SET pad = 'x' WHERE id <= 500")
        .await;
    sure(450).await;
    database.execute("VACUUM (ANALYZE) t").await;
    sure(630).await;
    database
        .execute("TRUNCATE t; INSERT INTO t SELECT n, now(), 'x' FROM generate_series(1, 5000) n")
        .await;
    reported(6_000).await;
    sure(0).await;
    database.execute("ANALYZE t").await;
    sure(4_500).await;
    database
        .execute("SELECT pg_stat_reset_single_table_counters('t'::regclass)")
        .await;
    sure(0).await;
}
