//! What the ledger remembers of use from one audit to the next, and what is not written to it.

use retention_operator::engine::Engine;
use retention_operator::engine::ledger::{DayPoint, Remember};
use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::policy::usage::{Break, Change, Node, State, Usage, Window};
use serde_json::json;

use super::super::target;
use super::{POLICY, SCHEMA, audited, audited_by, ledger, of_rule, policy};
use crate::support::postgres::Postgres;

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
