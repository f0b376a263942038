//! What the operator's own sweeps add to the server's counters is taken off again: exactly, or nothing is said.

use std::time::Duration;

use async_trait::async_trait;
use retention_operator::audit::Surroundings;
use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::engine::{Chunk, Engine};
use retention_operator::policy::check::CheckedPolicy;
use retention_operator::policy::usage::Usage;
use retention_operator::sweep::{
    Control, ControlError, Order, RuleEnd, RuleProgress, StopReason, SweepReport, SweepState,
    Trigger, sweep_policy,
};
use serde_json::{Value, json};

use super::target;
use super::usage::{POLICY, audited_by, checked, looked, of_rule, watched};
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::wait::eventually;

/// Lets a sweep run, or stops it at its first chunk.
struct Free {
    stop: Option<StopReason>,
}

#[async_trait]
impl Control for Free {
    fn stop(&self) -> Option<StopReason> {
        self.stop
    }

    async fn rest(&self, _: Duration) {}

    async fn begun(&self, _: &SweepState) -> Result<(), ControlError> {
        Ok(())
    }

    async fn record(&self, _: &RuleProgress) -> Result<(), ControlError> {
        Ok(())
    }

    fn advanced(&self, _: &RuleProgress, _: Chunk, _: Duration) {}

    fn waits(&self, _: &RuleProgress, _: &str) {}
}

fn enforced(rules: Value) -> CheckedPolicy {
    checked(json!({
        "mode": "Enforce",
        "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}, "ledger": "Auto"},
        "pace": {"maxDuty": 100},
        "rules": rules,
    }))
}

fn of_t() -> CheckedPolicy {
    enforced(json!([
        {"name": "t", "table": "t", "column": "at", "expireAfter": "365d", "action": "Delete"}
    ]))
}

/// A whole sweep as an operator makes it, with sessions of its own.
async fn swept(database: &TestDatabase, policy: &CheckedPolicy) -> SweepReport {
    swept_until(database, policy, None).await
}

async fn swept_until(
    database: &TestDatabase,
    policy: &CheckedPolicy,
    stop: Option<StopReason>,
) -> SweepReport {
    let engine = PostgresEngine::new(target(&database.url)).unwrap();
    let mut around = Surroundings::alone(POLICY);
    around.enters = true;
    around.party.sweeper = "test".to_owned();
    let order = Order {
        around: &around,
        generation: 1,
        spec: "mark",
        approved_plan: None,
        clock: jiff::Timestamp::now,
    };
    let mut state = SweepState::begin(Trigger::Request, jiff::Timestamp::now(), 1);
    let report = sweep_policy(&engine, policy, &order, &mut state, &Free { stop })
        .await
        .unwrap();
    engine.close().await;
    handed_over(database).await;
    report
}

/// All sessions are gone, and with that their counts are the server's.
async fn handed_over(database: &TestDatabase) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
         AND backend_type = 'client backend'";
    eventually(Duration::from_secs(30), sql, async || {
        let left: i64 = database.scalar(sql).await;
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
}

/// Moves everything that the ledger knows into the past.
const TWENTY_DAYS_LATER: &str = "\
UPDATE retention_operator.usage_node SET since = since - interval '20 days', sampled_at = sampled_at - interval '1 day';
UPDATE retention_operator.usage_window SET since = since - interval '20 days', counted_at = counted_at - interval '20 days',
  last_use = last_use - interval '20 days';
UPDATE retention_operator.sweep SET started_at = started_at - interval '1 day', begun_at = begun_at - interval '1 day',
  ended_at = ended_at - interval '1 day';
UPDATE retention_operator.own_run SET begun_at = begun_at - interval '1 day', ended_at = ended_at - interval '1 day';
UPDATE retention_operator.own_use SET at = at - interval '1 day'";

fn findings(report: &retention_operator::audit::AuditReport) -> Vec<&str> {
    let findings = report.findings.iter().flatten();
    findings.map(|finding| finding.id.as_str()).collect()
}

#[tokio::test]
async fn a_table_that_only_sweeps_touch_ends_as_unused_and_one_read_of_others_as_used() {
    let database = watched(Postgres::shared(), "own_sweeps").await;
    database.execute("ANALYZE t").await;
    // As with a large table: sweeps read the index on the time.
    database
        .execute(&format!(
            "ALTER DATABASE \"{}\" SET enable_seqscan = off",
            database.name
        ))
        .await;
    let policy = of_t();

    for round in 0..5 {
        let report = swept(&database, &policy).await;
        assert_eq!(report.rules.len(), 1, "round {round}");
        database.execute(TWENTY_DAYS_LATER).await;
        let report = audited_by(&database.url, &policy).await;
        let usage = &of_rule(&report).usage;
        assert!(
            matches!(usage, Usage::Unused { .. }),
            "round {round}: {usage:?}"
        );
    }

    let report = audited_by(&database.url, &policy).await;
    let observation = of_rule(&report);
    assert_eq!(observation.coverage_percent, Some(100));
    let looked_at = looked(&database.url).await;
    assert!(matches!(looked_at.index("t_at"), Usage::Unused { .. }));
    // It serves the rule: to drop it would make the next sweep dear.
    let ids = findings(&report);
    assert!(ids.contains(&"unused-index:public.t.t_a"), "{ids:?}");
    assert!(!ids.contains(&"unused-index:public.t.t_at"), "{ids:?}");
    assert_eq!(
        observation.note.as_deref(),
        Some("only this operator's sweeps read index public.t.t_at")
    );

    let read: i64 = database.scalar("SELECT count(*) FROM t").await;
    assert_eq!(read, 0);
    database.execute(TWENTY_DAYS_LATER).await;
    super::usage::eventually_used(&database, &policy).await;
}

/// Scans and rows written of each table and index, by name.
async fn counts(database: &TestDatabase, reads: &str, writes: &str) -> Vec<(String, i64, i64)> {
    let text: String = database
        .scalar(&format!(
            "SELECT string_agg(concat_ws(' ', c.relname, {reads}, {writes}), ',' ORDER BY c.relname) FROM pg_class c \
             LEFT JOIN retention_operator.own_use o ON o.object_id = c.oid::int8 \
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i')"
        ))
        .await;
    text.split(',')
        .map(|entry| {
            let words: Vec<&str> = entry.split(' ').collect();
            let number = |n: usize| words[n].parse().unwrap();
            (words[0].to_owned(), number(1), number(2))
        })
        .collect()
}

async fn counted_by_the_server(database: &TestDatabase) -> Vec<(String, i64, i64)> {
    let writes = "CASE WHEN c.relkind = 'i' THEN 0 ELSE pg_stat_get_tuples_inserted(c.oid) \
         + pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid) END";
    counts(database, "pg_stat_get_numscans(c.oid)", writes).await
}

async fn counted_by_us(database: &TestDatabase) -> Vec<(String, i64, i64)> {
    counts(database, "coalesce(o.reads, 0)", "coalesce(o.writes, 0)").await
}

#[tokio::test]
async fn what_the_ledger_holds_is_exactly_what_the_server_counted_of_us() {
    exactly_counted(Postgres::shared()).await;
}

#[tokio::test]
async fn what_the_ledger_holds_is_exactly_what_the_newest_server_counted_of_us() {
    if let Some(server) = Postgres::newest() {
        exactly_counted(server).await;
    }
}

async fn exactly_counted(server: &Postgres) {
    let database = server.database("own_exact").await;
    database
        .execute(
            "CREATE TABLE plain (id int PRIMARY KEY, at timestamptz NOT NULL);
             CREATE INDEX plain_at ON plain (at);
             CREATE TABLE parent (id int PRIMARY KEY, at timestamptz NOT NULL);
             CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE);
             CREATE INDEX child_parent ON child (parent);
             CREATE TABLE kept (id int PRIMARY KEY, at timestamptz NOT NULL);
             CREATE TABLE keeper (kept int REFERENCES kept);
             CREATE TABLE parted (at timestamptz NOT NULL) PARTITION BY RANGE (at);
             CREATE TABLE parted_a PARTITION OF parted FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
             CREATE TABLE parted_b PARTITION OF parted FOR VALUES FROM ('2021-01-01') TO ('2100-01-01');
             INSERT INTO plain SELECT n, CASE WHEN n <= 300 THEN timestamptz '2020-06-01' ELSE now() END FROM generate_series(1, 2000) n;
             INSERT INTO parent SELECT n, '2020-06-01' FROM generate_series(1, 500) n;
             INSERT INTO child SELECT n, n FROM generate_series(1, 200) n;
             INSERT INTO kept SELECT n, '2020-06-01' FROM generate_series(1, 300) n;
             INSERT INTO keeper SELECT n FROM generate_series(1, 10) n;
             INSERT INTO parted SELECT '2020-06-01' FROM generate_series(1, 400); INSERT INTO parted SELECT '2021-06-01' FROM generate_series(1, 400);
             CREATE TABLE archived (LIKE plain); ANALYZE",
        )
        .await;
    let rule = |name: &str, more: Value| {
        let mut rule = json!({"name": name, "table": name, "column": "at", "expireAfter": "365d",
            "action": "Delete", "limits": {"maxPercent": 100}});
        for (key, value) in more.as_object().into_iter().flatten() {
            rule[key] = value.clone();
        }
        rule
    };
    let policy = enforced(json!([
        rule(
            "plain",
            json!({"action": "Archive", "archive": {"table": {"name": "archived"}}})
        ),
        rule("parent", json!({"dependents": "Cascade"})),
        rule("kept", json!({"dependents": "Skip"})),
        rule("parted", json!({})),
    ]));
    // Makes the ledger and its memory.
    audited_by(&database.url, &policy).await;
    handed_over(&database).await;
    let before = counted_by_the_server(&database).await;

    let first = swept(&database, &policy).await;
    let second = swept(&database, &policy).await;

    for rule in first.rules.iter().chain(&second.rules) {
        assert!(!matches!(rule.end, RuleEnd::Failed(_)), "{rule:?}");
    }
    let added: Vec<(String, i64, i64)> = counted_by_the_server(&database)
        .await
        .into_iter()
        .zip(before)
        .map(
            |((name, reads, writes), (_, reads_before, writes_before))| {
                (name, reads - reads_before, writes - writes_before)
            },
        )
        .collect();
    let ours = counted_by_us(&database).await;
    assert_eq!(ours, added);
    assert!(
        added
            .iter()
            .any(|(name, _, writes)| name == "child" && *writes == 200)
    );
    let left: i64 = database.scalar("SELECT count(*) FROM kept").await;
    assert_eq!(left, 10);
    let unclear: i64 = database
        .scalar(
            "SELECT count(*) FROM retention_operator.own_run WHERE ended_at IS NULL OR NOT exact",
        )
        .await;
    assert_eq!(unclear, 0);
}

#[tokio::test]
async fn a_sweep_that_did_not_come_to_its_end_leaves_the_use_of_its_table_unknown() {
    let database = watched(Postgres::shared(), "own_killed").await;
    database.execute("ANALYZE t").await;
    let policy = of_t();
    swept(&database, &policy).await;
    // As a process leaves it that was killed, and an older operator that ended the sweep afterwards.
    database
        .execute("UPDATE retention_operator.own_run SET ended_at = NULL, exact = false; TRUNCATE retention_operator.own_use")
        .await;
    database.execute(TWENTY_DAYS_LATER).await;
    database
        .execute(
            "UPDATE retention_operator.usage_node SET sampled_at = sampled_at - interval '1 day'",
        )
        .await;

    let report = audited_by(&database.url, &policy).await;

    let usage = &of_rule(&report).usage;
    assert!(
        matches!(usage, Usage::Unknown(why) if why.contains("how much of its use was its own")),
        "{usage:?}"
    );
}

#[tokio::test]
async fn while_a_sweep_waits_for_its_next_window_others_are_seen_at_its_table() {
    let database = watched(Postgres::shared(), "own_waits").await;
    database.execute("ANALYZE t").await;
    let policy = of_t();
    let report = swept_until(&database, &policy, Some(StopReason::WindowClosed)).await;
    assert!(report.goes_on(), "{report:?}");
    let open: i64 = database
        .scalar("SELECT count(*) FROM retention_operator.sweep WHERE ended_at IS NULL")
        .await;
    assert_eq!(open, 1);
    database.execute(TWENTY_DAYS_LATER).await;
    let quiet = audited_by(&database.url, &policy).await;
    let usage = &of_rule(&quiet).usage;
    assert!(matches!(usage, Usage::Unused { .. }), "{usage:?}");

    let read: i64 = database.scalar("SELECT count(*) FROM t").await;

    assert_eq!(read, 10);
    database.execute(TWENTY_DAYS_LATER).await;
    super::usage::eventually_used(&database, &policy).await;
}
