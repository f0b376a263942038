//! Use over time on real servers: what breaks a window, and that nothing is called unused where it did. Time is moved by shifting
//! what the ledger remembers.

use std::process::Command;
use std::time::Duration;

use retention_operator::api::RetentionPolicySpec;
use retention_operator::audit::{AuditReport, Surroundings, audit};
use retention_operator::engine::ledger::{
    DayPoint, Ledger, LedgerAccess, Remember, RuleRecord, SweepBegin, SweepEnd, SweepEntry,
    SweepRecord,
};
use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::engine::{ChunkTarget, Engine};
use retention_operator::policy::check::{CheckedPolicy, check};
use retention_operator::policy::claims::LedgerMode;
use retention_operator::policy::usage::{
    Break, Change, Node, Observation, Observed, State, Usage, Window, observe,
};
use serde_json::{Value, json};

use super::target;
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::process::found_by;
use crate::support::wait::eventually;

pub(super) const POLICY: &str = "shop/orders";
/// A table with a row of 2023, an index on its time, and one that nobody uses.
const SCHEMA: &str = "\
CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, a int);
CREATE INDEX t_at ON t (at); CREATE INDEX t_a ON t (a); CREATE INDEX t_e ON t ((a + 1)) WHERE a > 5;
INSERT INTO t SELECT n, '2023-06-01', n FROM generate_series(1, 10) n";
const A_HUNDRED_DAYS_LATER: &str = "\
UPDATE retention_operator.usage_node SET since = since - interval '100 days', sampled_at = sampled_at - interval '1 hour';
UPDATE retention_operator.usage_window SET since = since - interval '100 days', counted_at = counted_at - interval '100 days',
  last_use = last_use - interval '100 days'";

fn policy(ledger: &str, rule: Value) -> CheckedPolicy {
    let mut rules = vec![
        json!({"name": "t", "table": "t", "column": "at", "expireAfter": "365d", "action": "Delete"}),
    ];
    for (name, value) in rule.as_object().into_iter().flatten() {
        rules[0][name] = value.clone();
    }
    let spec: RetentionPolicySpec = serde_json::from_value(json!({
        "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}, "ledger": ledger},
        "rules": rules,
    }))
    .unwrap();
    check(&spec)
}

pub(super) fn checked(spec: Value) -> CheckedPolicy {
    let spec: RetentionPolicySpec = serde_json::from_value(spec).unwrap();
    check(&spec)
}

/// The audit says that the rule's table is used, as soon as the server has counted it.
pub(super) async fn eventually_used(database: &TestDatabase, policy: &CheckedPolicy) {
    eventually(Duration::from_secs(30), "a use", async || {
        let report = audited_by(&database.url, policy).await;
        match &of_rule(&report).usage {
            Usage::Used { .. } => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// An audit as the operator makes it: it may write to the ledger.
pub(super) async fn audited_by(url: &str, policy: &CheckedPolicy) -> AuditReport {
    let engine = PostgresEngine::new(target(url)).unwrap();
    let mut around = Surroundings::alone(POLICY);
    around.enters = true;
    let report = audit(&engine, policy, &around).await.unwrap();
    engine.close().await;
    report
}

async fn audited(url: &str) -> AuditReport {
    audited_by(url, &policy("Auto", json!({}))).await
}

pub(super) fn of_rule(report: &AuditReport) -> &Observation {
    &report.rules[0].result.as_ref().unwrap().usage
}

/// What another audit would say right now, of everything; it writes nothing.
pub(super) async fn looked(url: &str) -> Looked {
    let engine = PostgresEngine::new(target(url)).unwrap();
    let facts = engine.hygiene().await.unwrap();
    let ledger = ledger(&engine).await;
    let remembered = ledger.remembered(POLICY, false).await.unwrap();
    engine.close().await;
    Looked {
        observed: observe(&facts, remembered.usage.as_ref(), 90),
        facts,
    }
}

pub(super) struct Looked {
    facts: retention_operator::policy::hygiene::Facts,
    observed: Observed,
}

impl Looked {
    fn table(&self, name: &str) -> &Usage {
        let mut tables = self.facts.tables.values();
        let table = tables.find(|table| table.name == name).unwrap();
        &self.observed.tables[&table.id].usage
    }

    pub(super) fn index(&self, name: &str) -> &Usage {
        let mut indexes = self.facts.indexes.iter();
        let index = indexes.find(|index| &*index.name == name).unwrap();
        &self.observed.indexes[&index.id]
    }

    fn assert_nothing_is_unused(&self) {
        let tables = self.observed.tables.values();
        let tables = tables.map(|observation| &observation.usage);
        for usage in tables.chain(self.observed.indexes.values()) {
            assert!(!matches!(usage, Usage::Unused { .. }), "{usage:?}");
        }
    }
}

async fn ledger(engine: &PostgresEngine) -> std::sync::Arc<dyn Ledger> {
    match engine.ledger(LedgerMode::Existing, false).await.unwrap() {
        LedgerAccess::Usable(ledger) => ledger,
        LedgerAccess::Unusable(why) => panic!("{why}"),
        LedgerAccess::Absent { note } => panic!("{note:?}"),
    }
}

/// The server has counted what the tests' own sessions did: they hand their counts over when they end.
async fn counted(database: &TestDatabase, sql: &str, wanted: i64) {
    eventually(Duration::from_secs(30), sql, async || {
        let seen: i64 = database.scalar(sql).await;
        if seen == wanted { Ok(()) } else { Err(seen) }
    })
    .await;
}

const WRITTEN: &str = "SELECT coalesce(sum(pg_stat_get_tuples_inserted(oid)), 0)::int8 FROM pg_class WHERE relname = 't'";

/// A database that was watched for a hundred days in which nobody used it.
pub(super) async fn watched(server: &Postgres, prefix: &str) -> TestDatabase {
    let database = server.database(prefix).await;
    database.execute(SCHEMA).await;
    counted(&database, WRITTEN, 10).await;
    audited(&database.url).await;
    database.execute(A_HUNDRED_DAYS_LATER).await;
    let looked = looked(&database.url).await;
    assert!(
        matches!(looked.index("t_a"), Usage::Unused { days: 100, .. }),
        "{looked:?}",
        looked = looked.observed
    );
    assert!(matches!(looked.table("t"), Usage::Unused { days: 100, .. }));
    database
}

#[tokio::test]
async fn what_nobody_used_for_a_hundred_days_is_unused_and_one_scan_makes_it_used() {
    let database = watched(Postgres::shared(), "usage").await;

    database
        .execute(
            "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT * FROM t WHERE a = 3",
        )
        .await;
    counted(&database, "SELECT pg_stat_get_numscans('t_a'::regclass)", 1).await;
    let report = audited(&database.url).await;
    let looked = looked(&database.url).await;

    assert!(matches!(
        of_rule(&report).usage,
        Usage::Used { last: Some(_) }
    ));
    assert!(matches!(looked.index("t_a"), Usage::Used { last: Some(_) }));
    assert!(matches!(looked.index("t_e"), Usage::Unused { .. }));
}

#[tokio::test]
async fn a_reset_of_the_counters_is_no_disuse() {
    let database = watched(Postgres::shared(), "usage_reset").await;

    database.execute("SELECT pg_stat_reset()").await;
    let report = audited(&database.url).await;

    assert_eq!(
        of_rule(&report).usage,
        Usage::Unknown("not watched for long enough since the database's counters were reset")
    );
    looked(&database.url).await.assert_nothing_is_unused();
}

#[tokio::test]
async fn a_reset_of_one_index_is_no_disuse() {
    let database = watched(Postgres::shared(), "usage_single").await;

    database
        .execute("SELECT pg_stat_reset_single_table_counters('t_a'::regclass)")
        .await;
    audited(&database.url).await;

    looked(&database.url).await.assert_nothing_is_unused();
}

#[tokio::test]
async fn where_somebodys_use_is_not_counted_nothing_is_unused() {
    let database = watched(Postgres::shared(), "usage_off").await;

    database
        .execute(&format!(
            r#"ALTER DATABASE "{}" SET track_counts = off"#,
            database.name
        ))
        .await;
    looked(&database.url).await.assert_nothing_is_unused();
    audited(&database.url).await;
    database.execute(A_HUNDRED_DAYS_LATER).await;

    looked(&database.url).await.assert_nothing_is_unused();
}

#[tokio::test]
async fn a_crash_is_no_disuse_and_a_clean_restart_breaks_nothing() {
    let mut server = Postgres::start_own(&[("autovacuum", "off")]);
    let database = watched(&server, "usage_crash").await;

    server.stop();
    server.restart();
    audited(&database.url).await;
    let restarted = looked(&database.url).await;
    assert!(matches!(restarted.index("t_a"), Usage::Unused { .. }));
    assert!(matches!(restarted.table("t"), Usage::Unused { .. }));

    server.crash();
    server.restart();
    looked(&database.url).await.assert_nothing_is_unused();
    let report = audited(&database.url).await;
    assert_eq!(
        of_rule(&report).usage,
        Usage::Unknown(
            "not watched for long enough since the server lost its counters, as in a crash"
        )
    );
    looked(&database.url).await.assert_nothing_is_unused();
}

#[tokio::test]
async fn a_backend_that_was_killed_takes_the_counters_with_it_and_that_is_no_disuse() {
    let server = Postgres::start_own(&[("autovacuum", "off")]);
    let database = watched(&server, "usage_kill").await;
    let mut connection = database.connect().await;
    let pid: i32 = sqlx::Row::get(
        &sqlx::query("SELECT pg_backend_pid()")
            .fetch_one(&mut connection)
            .await
            .unwrap(),
        0,
    );

    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
    drop(connection);
    let options: sqlx::postgres::PgConnectOptions = database.url.parse().unwrap();
    eventually(Duration::from_secs(60), "the server recovers", async || {
        match sqlx::ConnectOptions::connect(&options).await {
            Ok(mut again) => {
                let reset =
                    "SELECT (SELECT stats_reset FROM pg_stat_wal) > pg_postmaster_start_time()";
                sqlx::query(reset)
                    .fetch_one(&mut again)
                    .await
                    .map_err(|error| error.to_string())
                    .and_then(|row| match sqlx::Row::get::<bool, _>(&row, 0) {
                        true => Ok(()),
                        false => Err("not yet".to_owned()),
                    })
            }
            Err(error) => Err(error.to_string()),
        }
    })
    .await;

    audited(&database.url).await;
    looked(&database.url).await.assert_nothing_is_unused();
}

#[tokio::test]
async fn a_standby_says_what_it_is_and_its_promotion_is_no_disuse() {
    let primary = Postgres::start_own(&[("autovacuum", "off")]);
    let database = watched(&primary, "usage_standby").await;
    let standby = Postgres::standby_of(&primary, &[("autovacuum", "off")]);
    let promoted = standby.existing(&database.name);
    let there = promoted.url.clone();

    let report = audited(&there).await;
    assert!(matches!(of_rule(&report).usage, Usage::Unknown(_)));
    assert!(
        of_rule(&report)
            .note
            .as_deref()
            .unwrap()
            .contains("this node only"),
        "{:?}",
        of_rule(&report)
    );
    assert!(report.unseen.iter().any(|it| it.contains("this node only")));
    looked(&there).await.assert_nothing_is_unused();

    eventually(
        Duration::from_secs(30),
        "the primary knows its standby",
        async || {
            let note = of_rule(&audited(&database.url).await).note.clone();
            note.filter(|note| note.contains("this node only"))
                .ok_or("no note")
        },
    )
    .await;

    let mut connection = promoted.connect().await;
    sqlx::query("SELECT pg_promote()")
        .execute(&mut connection)
        .await
        .unwrap();
    let report = audited(&there).await;
    assert_eq!(
        of_rule(&report).usage,
        Usage::Unknown("not watched for long enough since another node became the primary")
    );
    looked(&there).await.assert_nothing_is_unused();
}

#[tokio::test]
async fn a_restored_dump_and_a_copied_database_are_other_ones() {
    let database = watched(Postgres::shared(), "usage_restore").await;

    let copy = format!("{}_copy", database.name);
    let maintenance = Postgres::shared().existing("postgres");
    eventually(Duration::from_secs(30), "no session is left", async || {
        let left: i64 = maintenance
            .scalar(&format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'",
                database.name
            ))
            .await;
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    maintenance
        .execute(&format!(
            r#"CREATE DATABASE "{copy}" TEMPLATE "{}""#,
            database.name
        ))
        .await;
    let copied = database.url.replace(&database.name, &copy);
    audited(&copied).await;
    looked(&copied).await.assert_nothing_is_unused();

    let other = Postgres::start_own(&[("autovacuum", "off")]);
    let restored = other.database("restored").await;
    let bin = found_by("postgres.sh", &["pg_basebackup"]);
    let dump = Command::new(bin.join("pg_dump"))
        .arg(&database.url)
        .output()
        .unwrap();
    assert!(
        dump.status.success(),
        "{}",
        String::from_utf8_lossy(&dump.stderr)
    );
    let file = std::env::temp_dir().join(format!("{}.sql", database.name));
    std::fs::write(&file, dump.stdout).unwrap();
    let load = Command::new(bin.join("psql"))
        .args(["--quiet", "--set=ON_ERROR_STOP=1", "--file"])
        .arg(&file)
        .arg(&restored.url)
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(
        load.status.success(),
        "{}",
        String::from_utf8_lossy(&load.stderr)
    );
    looked(&restored.url).await.assert_nothing_is_unused();
    let report = audited(&restored.url).await;
    assert_eq!(
        of_rule(&report).usage,
        Usage::Unknown(
            "not watched for long enough since the database was restored on another server"
        )
    );
    looked(&restored.url).await.assert_nothing_is_unused();
}

#[tokio::test]
async fn an_index_rebuilt_concurrently_keeps_its_window_and_a_renamed_table_leaves_it_alone() {
    let database = watched(Postgres::shared(), "usage_reindex").await;
    let before: sqlx::postgres::types::Oid = database.scalar("SELECT 't_e'::regclass::oid").await;

    database.execute("REINDEX INDEX CONCURRENTLY t_a").await;
    database.execute("REINDEX INDEX CONCURRENTLY t_e").await;
    database.execute("ALTER TABLE t RENAME TO u").await;
    let after: sqlx::postgres::types::Oid = database.scalar("SELECT 't_e'::regclass::oid").await;
    assert_ne!(before, after);

    let mut rule = policy("Auto", json!({"table": "u"}));
    rule.unused_after_days = 90;
    let report = audited_by(&database.url, &rule).await;
    assert!(matches!(of_rule(&report).usage, Usage::Unknown(_)));
    let looked = looked(&database.url).await;
    assert!(matches!(looked.index("t_a"), Usage::Unused { .. }));
    assert!(matches!(looked.index("t_e"), Usage::Unused { .. }));
}

#[tokio::test]
async fn a_table_made_anew_is_another_one() {
    let database = watched(Postgres::shared(), "usage_anew").await;

    database.execute("DROP TABLE t").await;
    database.execute(SCHEMA).await;
    audited(&database.url).await;

    let looked = looked(&database.url).await;
    assert!(matches!(looked.table("t"), Usage::Unknown(_)));
}

#[tokio::test]
async fn right_after_the_operators_own_sweep_everything_is_as_it_was_before_it() {
    let database = watched(Postgres::shared(), "usage_sweep").await;
    database.execute("ANALYZE t").await;
    let report = audited(&database.url).await;
    let plan = report.rules[0].result.as_ref().unwrap().plan.clone();
    let engine = PostgresEngine::new(target(&database.url)).unwrap();
    let ledger = ledger(&engine).await;

    let sweep = SweepRecord {
        id: "s1".to_owned(),
        trigger: "Request".to_owned(),
        spec: "mark".to_owned(),
        started: jiff::Timestamp::now(),
        database_time: None,
        rules: Vec::new(),
    };
    let party = Surroundings::alone(POLICY).party;
    let begin = SweepBegin {
        party: &party,
        sweep: &sweep,
        approved: None,
    };
    ledger.begin_sweep(&begin).await.unwrap();
    let entry = SweepEntry {
        sweep_id: "s1".to_owned(),
        policy: POLICY.to_owned(),
        sweeper: "one".to_owned(),
        revision: 0,
        rule: RuleRecord {
            rule: plan.rule.clone(),
            table_id: plan.table.id,
            table: plan.table.qualified(),
            cutoff: plan.cutoff.to_string(),
            rows_at_start: None,
            rows_total: None,
            rows_approved: None,
            rows_deleted: 0,
            rows_archived: 0,
            done: false,
        },
    };
    let mut walk = ledger.open_sweep(&plan, None, &entry).await.unwrap();
    while let Some(chunk) = walk.delete_next(ChunkTarget { pages: 10 }).await.unwrap() {
        assert_eq!(chunk.rows, 10);
        walk.commit().await.unwrap();
    }
    walk.close().await;
    let end = SweepEnd {
        id: "s1",
        ended: true,
        outcome: "Succeeded",
        ..SweepEnd::default()
    };
    ledger.end_sweep(&end).await.unwrap();
    engine.close().await;
    counted(
        &database,
        "SELECT pg_stat_get_tuples_deleted('t'::regclass)",
        10,
    )
    .await;
    let report = audited(&database.url).await;

    let usage = &of_rule(&report).usage;
    assert!(matches!(usage, Usage::Unused { .. }), "{usage:?}");
    let looked = looked(&database.url).await;
    assert!(!matches!(looked.index("t_at"), Usage::Used { .. }));
    assert!(matches!(looked.index("t_a"), Usage::Unused { .. }));
}

#[tokio::test]
async fn an_audit_that_may_not_write_learns_nothing_and_writes_nothing() {
    let database = Postgres::shared().database("usage_existing").await;
    database.execute(SCHEMA).await;

    let report = audited_by(&database.url, &policy("Existing", json!({}))).await;

    assert!(!matches!(of_rule(&report).usage, Usage::Unused { .. }));
    let made: i64 = database
        .scalar("SELECT count(*) FROM pg_namespace WHERE nspname = 'retention_operator'")
        .await;
    assert_eq!(made, 0);
}

const DROP_MEMORY: &str = "DROP TABLE retention_operator.usage_node, retention_operator.usage_window, \
retention_operator.trend, retention_operator.finding";

#[tokio::test]
async fn an_older_ledger_gets_its_memory_where_the_role_may_and_else_the_audit_says_so() {
    let database = Postgres::shared().database("usage_older").await;
    database.execute(SCHEMA).await;
    audited(&database.url).await;
    database.execute(DROP_MEMORY).await;
    let role = database
        .role(
            "clerk",
            "pw",
            "GRANT USAGE ON SCHEMA retention_operator TO {role}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA retention_operator TO {role}; \
             GRANT SELECT ON t TO {role}",
        )
        .await;

    let report = audited_by(&role.url, &policy("Existing", json!({}))).await;
    assert!(
        report
            .unseen
            .iter()
            .any(|it| it.contains("nothing is kept over time")),
        "{:?}",
        report.unseen
    );
    assert!(report.rules[0].result.is_ok());

    let report = audited_by(&database.url, &policy("Existing", json!({}))).await;
    assert!(
        !report.unseen.iter().any(|it| it.contains("over time")),
        "{:?}",
        report.unseen
    );
    let windows: i64 = database
        .scalar("SELECT count(*) FROM retention_operator.usage_window")
        .await;
    assert_eq!(windows, 5);
}

#[tokio::test]
async fn a_table_of_the_memory_that_is_not_the_operators_is_not_used() {
    let database = Postgres::shared().database("usage_odd").await;
    database.execute(SCHEMA).await;
    audited(&database.url).await;
    database
        .execute("ALTER TABLE retention_operator.trend ALTER COLUMN info SET DEFAULT 1")
        .await;

    let report = audited(&database.url).await;

    assert!(
        report
            .unseen
            .iter()
            .any(|it| it.contains("retention_operator.trend")),
        "{:?}",
        report.unseen
    );
}

#[tokio::test]
async fn findings_keep_their_first_day_and_each_day_has_one_point() {
    let database = Postgres::shared().database("usage_trend").await;
    database.execute(SCHEMA).await;
    let mut connection = database.connect().await;
    database
        .execute("INSERT INTO t VALUES (11, '2023-06-01', 10)")
        .await;
    let failed = sqlx::raw_sql("CREATE UNIQUE INDEX CONCURRENTLY t_broken ON t (a)")
        .execute(&mut connection)
        .await;
    assert!(failed.is_err());
    let id = "invalid-index:public.t.t_broken";

    let first = audited(&database.url).await;
    assert!(first.first_seen.contains_key(id), "{:?}", first.first_seen);
    database
        .execute(
            "UPDATE retention_operator.finding SET first_seen = first_seen - interval '10 days'; \
             UPDATE retention_operator.trend SET day = day - 3, taken_at = taken_at - interval '3 days'; \
             INSERT INTO retention_operator.trend SELECT policy, day - 500, taken_at, 1, 1, 1, 1, 1, 1 FROM retention_operator.trend",
        )
        .await;
    let second = audited(&database.url).await;
    audited(&database.url).await;

    let age = first.first_seen[id].duration_since(second.first_seen[id]);
    assert_eq!(age.as_hours(), 240);
    let points: i64 = database
        .scalar(
            "SELECT count(*) FROM retention_operator.trend WHERE size_bytes > 1 AND warning >= 1",
        )
        .await;
    assert_eq!(points, 2);
    let old: i64 = database
        .scalar("SELECT count(*) FROM retention_operator.trend WHERE day < current_date - 400")
        .await;
    assert_eq!(old, 0);
}

#[tokio::test]
async fn an_audit_right_after_another_one_writes_nothing() {
    let database = Postgres::shared().database("usage_quiet").await;
    database.execute(SCHEMA).await;
    audited(&database.url).await;
    let versions = [
        "usage_node",
        "usage_window",
        "trend",
        "finding",
        "claim",
        "meta",
        "control",
    ]
    .map(|table| {
        format!("SELECT xmin::text || '/' || xmax::text AS v FROM retention_operator.{table}")
    })
    .join(" UNION ALL ");
    let versions = format!("SELECT string_agg(v, ' ' ORDER BY v) FROM ({versions}) AS all_of_them");
    let before: String = database.scalar(&versions).await;

    audited(&database.url).await;

    assert_eq!(before, database.scalar::<String>(&versions).await);
}

const LOG: &str = "\
CREATE TABLE access_log (at timestamptz NOT NULL, table_name text NOT NULL);
INSERT INTO access_log VALUES (now() - interval '2 days', 't'), (now() - interval '1 day', 'other'), ('infinity', 't')";

fn with_log() -> CheckedPolicy {
    policy(
        "Off",
        json!({"usage": {"table": "access_log", "column": "at", "object": "table_name"}}),
    )
}

#[tokio::test]
async fn a_usage_log_is_evidence_of_use() {
    let database = Postgres::shared().database("usage_log").await;
    database.execute(SCHEMA).await;
    database.execute(LOG).await;
    database.execute("CREATE INDEX ON access_log (at)").await;

    let report = audited_by(&database.url, &with_log()).await;

    let Usage::Used { last: Some(last) } = of_rule(&report).usage else {
        panic!("{:?}", of_rule(&report));
    };
    let age = jiff::Timestamp::now().duration_since(last).as_hours();
    assert!((47..=49).contains(&age), "{age}");
}

#[tokio::test]
async fn a_usage_log_that_cannot_be_read_cheaply_says_why_and_stops_nothing() {
    let database = Postgres::shared().database("usage_log_bad").await;
    database.execute(SCHEMA).await;
    let cases = [
        ("SELECT 1", "does not exist"),
        (
            "CREATE VIEW access_log AS SELECT now() AS at, 't' AS table_name",
            "is a view",
        ),
        (
            "DROP VIEW access_log; CREATE TABLE access_log (at timestamptz, object text)",
            "no column table_name",
        ),
        (
            "DROP TABLE access_log; CREATE TABLE access_log (at text, table_name text)",
            "is of type text",
        ),
        (
            "DROP TABLE access_log; CREATE TABLE access_log (at timestamptz, table_name text)",
            "no index of public.access_log begins with at",
        ),
    ];
    for (change, message) in cases {
        database.execute(change).await;

        let report = audited_by(&database.url, &with_log()).await;

        let note = of_rule(&report).note.as_deref().unwrap_or_default();
        assert!(note.contains(message), "{change}: {note}");
        assert!(!matches!(
            of_rule(&report).usage,
            Usage::Used { last: Some(_) }
        ));
    }
}

#[tokio::test]
async fn the_newest_server_says_itself_when_an_index_was_last_used() {
    let Some(server) = Postgres::newest() else {
        return;
    };
    let database = server.database("usage_newest").await;
    database.execute(SCHEMA).await;
    database
        .execute(
            "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT * FROM t WHERE a = 3",
        )
        .await;
    counted(&database, "SELECT pg_stat_get_numscans('t_a'::regclass)", 1).await;

    audited(&database.url).await;

    let used = looked(&database.url).await;
    assert!(matches!(used.index("t_a"), Usage::Used { last: Some(_) }));
    assert!(matches!(used.index("t_e"), Usage::Unknown(_)));
    database.execute(A_HUNDRED_DAYS_LATER).await;
    let later = looked(&database.url).await;
    assert!(matches!(later.index("t_e"), Usage::Unused { .. }));
}

#[tokio::test]
async fn fifty_thousand_things_are_remembered_and_an_overtaken_sample_is_void() {
    let database = Postgres::shared().database("usage_many").await;
    audited(&database.url).await;
    let engine = PostgresEngine::new(target(&database.url)).unwrap();
    let ledger = ledger(&engine).await;
    let before = ledger
        .remembered(POLICY, false)
        .await
        .unwrap()
        .usage
        .unwrap();
    let state = before.state.unwrap();
    let change = |reads: i64, later: i64| Change {
        renumbered: Vec::new(),
        previous: Some(state.node.at),
        state: State {
            node: Node {
                at: state.node.at + jiff::SignedDuration::from_mins(later),
                ..state.node.clone()
            },
            ..state.clone()
        },
        windows: (0..50_000_u32)
            .map(|n| {
                let window = Window {
                    id: n,
                    since: state.since,
                    broken_by: Break::FirstSeen,
                    reads,
                    writes: 0,
                    counted: state.node.at,
                    last_use: (n % 2 == 0).then_some(state.since),
                    blind_seconds: 0,
                };
                (i64::from(n), window)
            })
            .collect(),
        gone: Vec::new(),
    };
    let remember = |change| Remember {
        policy: POLICY.to_owned(),
        at: state.node.at,
        usage: Some(change),
        findings: Vec::new(),
        today: DayPoint::default(),
    };

    let wanted = change(7, 10);
    let start = std::time::Instant::now();
    ledger.remember(&remember(wanted.clone())).await.unwrap();
    let written = start.elapsed();
    let start = std::time::Instant::now();
    let after = ledger
        .remembered(POLICY, false)
        .await
        .unwrap()
        .usage
        .unwrap();
    let read = start.elapsed();
    eprintln!("50,000 windows: written in {written:?}, read in {read:?}");
    ledger.remember(&remember(change(9, 20))).await.unwrap();
    let last = ledger
        .remembered(POLICY, false)
        .await
        .unwrap()
        .usage
        .unwrap();
    engine.close().await;

    assert_eq!(after.state.unwrap(), wanted.state);
    assert_eq!(after.windows.len(), 50_000);
    for (key, window) in &wanted.windows {
        assert_eq!(after.windows.get(*key), Some(window));
    }
    assert_eq!(last.windows, after.windows);
}

#[tokio::test]
async fn a_role_that_may_do_nothing_learns_what_the_counters_say_all_the_same() {
    let database = Postgres::shared().database("usage_role").await;
    database.execute(SCHEMA).await;
    counted(&database, WRITTEN, 10).await;
    let role = database.role("nobody", "pw", "SELECT 1").await;

    let engine = PostgresEngine::new(target(&role.url)).unwrap();
    let facts = engine.hygiene().await.unwrap();
    engine.close().await;

    assert!(facts.node.is_some());
    let table = facts.tables.values().find(|it| it.name == "t").unwrap();
    assert_eq!(facts.counters[&table.id].writes, 10);
    let observed = observe(&facts, None, 90);
    assert!(!matches!(
        observed.tables[&table.id].usage,
        Usage::Unused { .. }
    ));
}
