//! What a policy itself needs is not called unused: archive tables, the indexes of its sweeps and audits, what a usage log knows of.

use retention_operator::audit::AuditReport;
use serde_json::{Value, json};

use super::usage::{audited_by, checked};
use crate::support::postgres::{Postgres, TestDatabase};

/// After an audit: everything was watched for a hundred days, and nobody used it.
const A_HUNDRED_DAYS_LATER: &str = "\
UPDATE retention_operator.usage_node SET since = since - interval '100 days', sampled_at = sampled_at - interval '1 hour';
UPDATE retention_operator.usage_window SET since = since - interval '100 days', counted_at = counted_at - interval '100 days',
  last_use = last_use - interval '100 days'";

/// What an audit finds unused after a hundred days in which nobody but the operator did anything.
async fn unused_after_a_hundred_days(database: &TestDatabase, rules: Value) -> Vec<String> {
    let policy = checked(json!({
        "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}, "ledger": "Auto"},
        "rules": rules,
    }));
    audited_by(&database.url, &policy).await;
    database.execute(A_HUNDRED_DAYS_LATER).await;
    unused(&audited_by(&database.url, &policy).await)
}

fn unused(report: &AuditReport) -> Vec<String> {
    let ids = report.findings.iter().flatten().map(|finding| &finding.id);
    let mut unused: Vec<String> = ids
        .filter(|id| id.starts_with("unused-"))
        .cloned()
        .collect();
    unused.sort();
    unused
}

fn rule(name: &str, table: &str, more: &Value) -> Value {
    let mut rule = json!({"name": name, "table": table, "column": "at", "expireAfter": "365d", "action": "Delete"});
    for (name, value) in more.as_object().into_iter().flatten() {
        rule[name] = value.clone();
    }
    rule
}

#[tokio::test]
async fn a_table_into_which_a_rule_archives_is_not_unused_also_where_the_rule_is_refused() {
    let database = Postgres::shared().database("own_archives").await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL);
             CREATE TABLE u (id int PRIMARY KEY, happened timestamptz NOT NULL);
             CREATE TABLE t_kept (LIKE t); CREATE TABLE u_kept (LIKE u); CREATE TABLE nobodys (LIKE t)",
        )
        .await;
    let into = |table: &str| json!({"action": "Archive", "archive": {"table": {"name": table}}});

    let unused = unused_after_a_hundred_days(
        &database,
        json!([
            rule("t", "t", &into("t_kept")),
            rule("u", "u", &into("u_kept"))
        ]),
    )
    .await;

    assert_eq!(
        unused,
        [
            "unused-table:public.nobodys",
            "unused-table:public.t",
            "unused-table:public.u"
        ]
    );
}

#[tokio::test]
async fn the_index_of_a_refused_rule_is_not_unused() {
    let database = Postgres::shared().database("own_refused").await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, a int);
             CREATE INDEX t_at ON t (at); CREATE INDEX t_a ON t (a);
             CREATE TABLE p (at timestamptz NOT NULL, a int) PARTITION BY RANGE (at);
             CREATE TABLE p_1 PARTITION OF p DEFAULT;
             CREATE INDEX p_at ON p (at); CREATE INDEX p_a ON p (a)",
        )
        .await;
    let refused = json!({"where": "nothing_of_that_name = 1"});

    let unused = unused_after_a_hundred_days(
        &database,
        json!([rule("t", "t", &refused), rule("p", "p", &refused)]),
    )
    .await;

    assert_eq!(
        unused,
        [
            "unused-index:public.p.p_a",
            "unused-index:public.t.t_a",
            "unused-table:public.p",
            "unused-table:public.t"
        ]
    );
}

#[tokio::test]
async fn a_usage_log_keeps_its_index_and_speaks_for_all_partitions() {
    let database = Postgres::shared().database("own_log").await;
    database
        .execute(
            "CREATE TABLE p (at timestamptz NOT NULL, a int) PARTITION BY RANGE (at);
             CREATE TABLE p_1 PARTITION OF p DEFAULT;
             CREATE TABLE access_log (at timestamptz NOT NULL, table_name text NOT NULL);
             CREATE INDEX log_at ON access_log (at); CREATE INDEX log_name ON access_log (table_name);
             INSERT INTO access_log VALUES (now() - interval '2 days', 'p')",
        )
        .await;
    let log = json!({"usage": {"table": "access_log", "column": "at", "object": "table_name"}});

    let unused = unused_after_a_hundred_days(&database, json!([rule("p", "p", &log)])).await;

    assert!(
        unused.contains(&"unused-index:public.access_log.log_name".to_owned()),
        "{unused:?}"
    );
    assert!(
        !unused.contains(&"unused-index:public.access_log.log_at".to_owned()),
        "{unused:?}"
    );
    assert!(
        !unused.contains(&"unused-table:public.p".to_owned()),
        "{unused:?}"
    );
}
