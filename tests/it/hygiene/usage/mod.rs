//! Use over time on real servers: what breaks a window, and that nothing is called unused where it did. Time is moved by shifting
//! what the ledger remembers.

mod breaks;
mod logs;
mod memory;

use std::time::Duration;

use retention_operator::api::RetentionPolicySpec;
use retention_operator::audit::{AuditReport, Surroundings, audit};
use retention_operator::engine::ChunkTarget;
use retention_operator::engine::Engine;
use retention_operator::engine::ledger::{
    Ledger, LedgerAccess, RuleRecord, SweepBegin, SweepEnd, SweepEntry, SweepRecord,
};
use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::policy::check::{CheckedPolicy, check};
use retention_operator::policy::claims::LedgerMode;
use retention_operator::policy::usage::{Observation, Observed, Usage, observe};
use serde_json::{Value, json};

use super::target;
use crate::support::postgres::{Postgres, TestDatabase};
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
    while let Some(chunk) = walk.delete_next(ChunkTarget::pages(10)).await.unwrap() {
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
