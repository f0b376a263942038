//! The checks of single tables that rest on statistics.

use std::collections::HashMap;

use retention_operator::{
    engine::{Engine, postgres::PostgresEngine},
    policy::hygiene::{Context, Facts, Finding, RuledColumn, Severity, bloat, facts::BLOCK},
};
use rstest::rstest;

use super::{findings, findings_for, ids, target};
use crate::support::postgres::{Postgres, TestDatabase};

/// How far an estimate may be off.
const POINTS: f64 = 10.0;

fn of<'a>(findings: &'a [Finding], check: &str) -> Vec<&'a str> {
    let prefix = format!("{check}:");
    ids(findings)
        .into_iter()
        .filter(|id| id.starts_with(&prefix))
        .collect()
}

async fn facts(database: &TestDatabase) -> Facts {
    let engine = PostgresEngine::new(target(&database.url)).unwrap();
    let facts = engine.hygiene().await.unwrap();
    engine.close().await;
    facts
}

/// Percent of table `t` that hold no row, as the audit estimates it.
async fn estimated(database: &TestDatabase) -> f64 {
    let facts = facts(database).await;
    let table = facts
        .tables
        .values()
        .find(|table| table.name == "t")
        .unwrap();
    bloat::of_rows(table, &facts.columns[&table.id])
        .unwrap()
        .share()
        * 100.0
}

/// The shapes of tables whose rows are hard to measure each in its own way: their columns, and values for row `g`.
#[rstest]
#[case::narrow("a int", "g", "")]
#[case::padded(
    "a smallint, b bigint, c bool, d timestamptz, e int, f numeric(10, 2), g2 bool",
    "g % 7, g, true, now(), g, g / 3.0, false",
    ""
)]
#[case::texts(
    "a int, b text, c bigint, d varchar, e bool, f text",
    "g, repeat('x', g % 50), g, repeat('y', g % 90), true, repeat('z', 130 + g % 400)",
    ""
)]
#[case::mostly_null(
    "a int, b bigint, c text, d text, e timestamptz, f int, g2 int, h int, i int, j bigint",
    "g, CASE WHEN g % 10 = 0 THEN g END, CASE WHEN g % 3 = 0 THEN md5(g::text) END, NULL, CASE WHEN g % 2 = 0 THEN now() END, NULL, NULL, g, NULL, NULL",
    ""
)]
#[case::loosely_filled("a bigint, b text", "g, md5(g::text)", "fillfactor = 70")]
#[case::long_values(
    "a int, b text, c jsonb",
    "g, (SELECT string_agg(md5(g::text || n), '') FROM generate_series(1, CASE WHEN g % 20 = 0 THEN 200 ELSE 3 END) n), jsonb_build_object('n', g, 'm', md5(g::text))",
    ""
)]
#[case::wide_rows(
    "a int, b text, c text",
    "g, repeat(chr(65 + g % 26), 700 + g % 300), md5(g::text)",
    ""
)]
#[tokio::test]
async fn estimated_bloat_is_within_ten_points_of_the_measured(
    #[case] columns: &str,
    #[case] values: &str,
    #[case] options: &str,
    #[values(0, 40, 85)] deleted: i32,
) {
    let database = Postgres::shared().database("bloat").await;
    let with = if options.is_empty() {
        String::new()
    } else {
        format!("WITH ({options})")
    };
    database
        .execute(&format!(
            "CREATE EXTENSION pgstattuple; CREATE TABLE t ({columns}) {with}; \
             INSERT INTO t SELECT {values} FROM generate_series(1, 20000) AS s(g)"
        ))
        .await;
    database
        .execute(&format!(
            "DELETE FROM t WHERE abs(hashtext(ctid::text)::bigint) % 100 < {deleted}"
        ))
        .await;
    database.execute("VACUUM t").await;
    database.execute("ANALYZE t").await;

    let estimated = estimated(&database).await;

    // What a fill factor leaves free is free to pgstattuple, too.
    let filled = if options.is_empty() { 1.0 } else { 0.7 };
    let free: f64 = database
        .scalar("SELECT free_percent + dead_tuple_percent FROM pgstattuple('t')")
        .await;
    let measured = (100.0 - (100.0 - free) / filled).max(0.0);
    let before: i64 = database.scalar("SELECT pg_relation_size('t')").await;
    database.execute("VACUUM FULL t").await;
    let after: i64 = database.scalar("SELECT pg_relation_size('t')").await;
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let won = 100.0 * (before - after) as f64 / before as f64;
    println!("estimated {estimated:.1} pgstattuple {measured:.1} rebuilt {won:.1}");
    assert!(
        (estimated - measured).abs() <= POINTS,
        "estimated {estimated:.1}, pgstattuple {measured:.1}, rebuilt {won:.1}"
    );
    assert!(
        (estimated - won).abs() <= POINTS,
        "estimated {estimated:.1}, pgstattuple {measured:.1}, rebuilt {won:.1}"
    );
}

#[tokio::test]
async fn a_column_that_was_dropped_does_not_look_like_bloat_after_a_rebuild() {
    let database = Postgres::shared().database("bloat_dropped").await;
    database
        .execute(
            "CREATE TABLE t (a int, gone text, b bigint); \
             INSERT INTO t SELECT g, md5(g::text), g FROM generate_series(1, 30000) g; ALTER TABLE t DROP COLUMN gone",
        )
        .await;
    database.execute("VACUUM FULL t").await;
    database.execute("ANALYZE t").await;

    let estimated = estimated(&database).await;

    assert!(estimated <= POINTS, "{estimated:.1}");
}

#[tokio::test]
async fn a_bloated_table_is_found_and_silent_after_what_the_finding_proposes() {
    let database = Postgres::shared().database("bloated").await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text); \
             INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 400000) g",
        )
        .await;
    database.execute("DELETE FROM t WHERE id % 10 > 0").await;
    database.execute("VACUUM t").await;
    database.execute("ANALYZE t").await;

    let found = findings(&database.url).await;
    let finding = found
        .iter()
        .find(|finding| finding.id == "bloated-table:public.t")
        .unwrap();
    let size: i64 = database.scalar("SELECT pg_relation_size('t')").await;
    database
        .execute(finding.advice.apply.as_deref().unwrap())
        .await;
    let after: i64 = database.scalar("SELECT pg_relation_size('t')").await;

    assert_eq!(finding.severity, Severity::Info);
    let won = u64::try_from(size - after).unwrap();
    let said = finding.estimated_bytes.unwrap();
    assert!(said.abs_diff(won) < won / 10, "said {said}, won {won}");
    assert_eq!(of(&findings(&database.url).await, "bloated-table"), [""; 0]);
}

#[tokio::test]
async fn columns_with_one_value_are_found_and_those_with_a_part_to_play_are_not() {
    for server in [Some(Postgres::shared()), Postgres::newest()]
        .into_iter()
        .flatten()
    {
        let database = server.database("constant").await;
        database
            .execute(
                "CREATE TABLE kinds (id int PRIMARY KEY); INSERT INTO kinds VALUES (1); \
                 CREATE TABLE t (id int PRIMARY KEY, same int, nothing text, mark text, kind int REFERENCES kinds, tenant int NOT NULL, twice int GENERATED ALWAYS AS (same * 2) STORED, UNIQUE (tenant, id)); \
                 INSERT INTO t SELECT g, 7, NULL, CASE WHEN g % 3 = 0 THEN 'x' END, 1, 1 FROM generate_series(1, 20000) g; \
                 ALTER TABLE t ADD COLUMN added int DEFAULT 5; \
                 CREATE TABLE p (id int, region text, same text) PARTITION BY LIST (region); \
                 CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a'); CREATE TABLE p_b PARTITION OF p FOR VALUES IN ('b'); \
                 INSERT INTO p SELECT g, CASE WHEN g % 2 = 0 THEN 'a' ELSE 'b' END, 'const' FROM generate_series(1, 40000) g; \
                 CREATE TABLE differ (id int, k int, v int) PARTITION BY RANGE (id); \
                 CREATE TABLE differ_1 PARTITION OF differ FOR VALUES FROM (0) TO (20000); CREATE TABLE differ_2 PARTITION OF differ FOR VALUES FROM (20000) TO (99999); \
                 INSERT INTO differ SELECT g, g / 20000, g FROM generate_series(1, 39999) g; \
                 CREATE TABLE small (id int PRIMARY KEY, same int); INSERT INTO small SELECT g, 7 FROM generate_series(1, 5000) g",
            )
            .await;
        database.execute("ANALYZE").await;

        let found = findings(&database.url).await;

        assert_eq!(
            of(&found, "constant-column"),
            [
                "constant-column:public.p.same",
                "constant-column:public.t.nothing",
                "constant-column:public.t.same",
            ]
        );
    }
}

/// Large in the catalog: the checks look at nothing else.
async fn pretend_large(database: &TestDatabase, table: &str) {
    database
        .execute(&format!(
            "UPDATE pg_class SET reltuples = 50000000, relpages = 500000 WHERE oid = '{table}'::regclass"
        ))
        .await;
}

const LOGS: &str = "\
    CREATE TABLE access_log (id bigint PRIMARY KEY, created_at timestamptz NOT NULL, day date NOT NULL DEFAULT current_date, note text); \
    INSERT INTO access_log SELECT g, now() - g * interval '1 hour', current_date - g / 24, md5(g::text) FROM generate_series(1, 20000) g; \
    CREATE TABLE accounts (id bigint PRIMARY KEY, created_at timestamptz NOT NULL, seen int); \
    INSERT INTO accounts SELECT g, now() - g * interval '1 hour', 0 FROM generate_series(1, 20000) g; \
    CREATE TABLE young (id bigint PRIMARY KEY, created_at timestamptz NOT NULL, seen text); \
    INSERT INTO young SELECT g, now() - g * interval '1 minute', md5(g::text) FROM generate_series(1, 20000) g";

#[tokio::test]
async fn a_large_log_with_old_rows_gets_a_rule_proposed_that_ends_the_finding() {
    let database = Postgres::shared().database("without_retention").await;
    database.execute(LOGS).await;
    database.execute("UPDATE accounts SET seen = id").await;
    database.execute("ANALYZE").await;
    for table in ["access_log", "accounts", "young"] {
        pretend_large(&database, table).await;
    }

    let found = findings(&database.url).await;

    assert_eq!(
        of(&found, "table-without-retention"),
        ["table-without-retention:public.access_log"]
    );
    let finding = found
        .iter()
        .find(|finding| finding.id.starts_with("table-without-retention:"))
        .unwrap();
    let yaml = finding.advice.apply.as_deref().unwrap();
    assert!(yaml.contains("column: created_at"), "{yaml}");
    let id = table_id(&database, "access_log").await;
    let context = rule(id, "created_at");
    let ruled = findings_for(&database.url, &context).await;
    assert_eq!(of(&ruled, "table-without-retention"), [""; 0]);
}

async fn table_id(database: &TestDatabase, table: &str) -> u32 {
    facts(database)
        .await
        .tables
        .values()
        .find(|known| known.name == table)
        .unwrap()
        .id
}

fn rule(table: u32, column: &str) -> Context {
    Context {
        ruled: vec![RuledColumn {
            rule: "r".to_owned(),
            table,
            column: column.to_owned(),
            ..RuledColumn::default()
        }],
        ..Context::default()
    }
}

#[tokio::test]
async fn partitions_wholly_before_the_cutoff_are_found_and_the_proposal_can_be_taken_back() {
    for server in [Some(Postgres::shared()), Postgres::newest()]
        .into_iter()
        .flatten()
    {
        let database = server.database("partitions").await;
        for (table, kind) in [
            ("zoned", "timestamptz"),
            ("local", "timestamp"),
            ("days", "date"),
        ] {
            database
                .execute(&format!(
                    "SET timezone = 'America/Los_Angeles'; CREATE TABLE {table} (at {kind} NOT NULL) PARTITION BY RANGE (at); \
                     CREATE TABLE {table}_old PARTITION OF {table} FOR VALUES FROM (MINVALUE) TO ('2020-01-01 00:00:00+00'); \
                     CREATE TABLE {table}_mid PARTITION OF {table} FOR VALUES FROM ('2020-01-01 00:00:00+00') TO ('2021-01-01 00:00:00+00'); \
                     CREATE TABLE {table}_new PARTITION OF {table} FOR VALUES FROM ('2021-01-01 00:00:00+00') TO (MAXVALUE); \
                     INSERT INTO {table} VALUES ('2019-05-05'), ('2020-05-05'), ('2022-05-05')"
                ))
                .await;
        }
        database
            .execute("CREATE TABLE zoned_rest (at timestamptz NOT NULL); DROP TABLE zoned_new; ALTER TABLE zoned ATTACH PARTITION zoned_rest DEFAULT")
            .await;
        database.execute("ANALYZE").await;
        // 2020-07-01: one partition is before it, the next one is not wholly.
        let cutoff = 1_593_561_600.0;

        for table in ["zoned", "local", "days"] {
            let id = table_id(&database, table).await;
            let mut context = rule(id, "at");
            context.ruled[0].cutoff = Some(cutoff);

            let found = findings_for(&database.url, &context).await;

            let finding = found
                .iter()
                .find(|finding| finding.id == format!("partitions-expired:public.{table}"))
                .unwrap();
            assert!(
                finding.evidence.contains(&format!(": public.{table}_old;")),
                "{}",
                finding.evidence
            );
            database
                .execute(finding.advice.apply.as_deref().unwrap())
                .await;
            let detached = findings_for(&database.url, &context).await;
            assert_eq!(of(&detached, "partitions-expired"), [""; 0]);
            database
                .execute(finding.advice.undo.as_deref().unwrap())
                .await;
            let again = findings_for(&database.url, &context).await;
            assert_eq!(of(&again, "partitions-expired").len(), 1);
        }
    }
}

#[tokio::test]
async fn the_time_column_of_a_large_table_with_few_expired_rows_wants_an_index() {
    let database = Postgres::shared().database("rule_index").await;
    database.execute(LOGS).await;
    database.execute("ANALYZE").await;
    pretend_large(&database, "access_log").await;
    let mut context = rule(table_id(&database, "access_log").await, "created_at");
    context.ruled[0].expired = Some(0.01);

    let found = findings_for(&database.url, &context).await;
    let id = "rule-column-without-index:public.access_log.created_at";
    assert_eq!(of(&found, "rule-column-without-index"), [id]);

    let finding = found.iter().find(|finding| finding.id == id).unwrap();
    database
        .execute(finding.advice.apply.as_deref().unwrap())
        .await;
    pretend_large(&database, "access_log").await;
    let indexed = findings_for(&database.url, &context).await;
    assert_eq!(of(&indexed, "rule-column-without-index"), [""; 0]);
    database
        .execute(finding.advice.undo.as_deref().unwrap())
        .await;
}

#[tokio::test]
async fn the_same_database_gives_the_same_findings_and_no_scan_is_counted() {
    let database = Postgres::shared().database("undisturbed").await;
    database.execute(LOGS).await;
    database.execute("ANALYZE").await;
    pretend_large(&database, "access_log").await;
    let first = findings(&database.url).await;
    let before = counters(&database).await;

    for _ in 0..5 {
        assert_eq!(findings(&database.url).await, first);
    }

    assert!(!first.is_empty());
    assert_eq!(counters(&database).await, before);
}

/// Scans and page reads of all tables and indexes of users.
async fn counters(database: &TestDatabase) -> HashMap<String, String> {
    use sqlx::Row;
    let mut connection = database.connect().await;
    sqlx::query(
        "SELECT t.relid::text, concat_ws('|', t.seq_scan, t.idx_scan, t.n_tup_ins, io.heap_blks_read, io.heap_blks_hit, io.idx_blks_read, io.idx_blks_hit) \
         FROM pg_stat_user_tables t JOIN pg_statio_user_tables io ON io.relid = t.relid",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap()
    .iter()
    .map(|row| (row.get(0), row.get(1)))
    .collect()
}

#[tokio::test]
async fn long_values_that_went_are_seen_in_their_own_table() {
    let database = Postgres::shared().database("toast").await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL; \
             INSERT INTO t SELECT g, repeat('x', 8000) FROM generate_series(1, 6000) g",
        )
        .await;
    database.execute("DELETE FROM t WHERE id % 5 > 0").await;
    database.execute("VACUUM t").await;
    database.execute("ANALYZE t").await;

    let found = findings(&database.url).await;

    let finding = found
        .iter()
        .find(|finding| finding.id == "bloated-table:public.t")
        .unwrap();
    assert!(
        finding.evidence.contains("pg_toast.pg_toast_"),
        "{}",
        finding.evidence
    );
    assert!(finding.estimated_bytes.unwrap() > 2_000 * BLOCK);
}
