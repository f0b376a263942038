//! Whether a database gets better, as a person sees it at a terminal and a program in JSON.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::usage::{audited_by, checked};
use crate::support::operator::offline;
use crate::support::postgres::Postgres;
use crate::support::process::{run_dir, unique};

fn policy_file(spec: &Value) -> PathBuf {
    let file = run_dir().join(unique("trend", '-')).with_extension("yaml");
    let policy = json!({
        "apiVersion": "retention-operator.io/v1alpha1",
        "kind": "RetentionPolicy",
        "metadata": {"name": "orders", "namespace": "shop"},
        "spec": spec,
    });
    fs::write(&file, policy.to_string()).unwrap();
    file
}

#[tokio::test]
async fn an_audit_says_what_became_better_since_the_days_that_the_ledger_remembers() {
    let database = Postgres::shared().database("trend").await;
    database
        .execute("CREATE TABLE t (id int, at timestamptz NOT NULL); INSERT INTO t SELECT n, now() FROM generate_series(1, 100) n; ANALYZE t")
        .await;
    let spec = json!({
        "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}, "ledger": "Auto"},
        "rules": [{"name": "t", "table": "t", "column": "at", "expireAfter": "365d", "action": "Delete"}],
    });
    // The operator's audits of the last months.
    audited_by(&database.url, &checked(spec.clone())).await;
    database
        .execute(
            "UPDATE retention_operator.trend SET day = day - 20, taken_at = taken_at - interval '20 days', size_bytes = size_bytes * 2, \
               expired_rows = 5000, dead_rows = 70, critical = 1, warning = 6, info = 2;
             INSERT INTO retention_operator.trend SELECT policy, day - 100, taken_at - interval '100 days', size_bytes * 2, 9000, 90, 3, 9, 9 \
               FROM retention_operator.trend;
             INSERT INTO retention_operator.trend SELECT 'other/policy', day, taken_at, 1, 1, 1, 1, 1, 1 FROM retention_operator.trend LIMIT 1",
        )
        .await;
    let file = policy_file(&spec);
    let audit = |more: &[&str]| {
        let arguments = [&["audit", "-f", file.to_str().unwrap()], more].concat();
        offline(&database.url, &arguments)
    };

    let printed = audit(&[]);
    let report: Value = serde_json::from_str(&audit(&["-o", "json"]).stdout).expect("JSON");

    let lines: Vec<&str> = printed
        .stdout
        .lines()
        .filter(|line| line.starts_with("since "))
        .collect();
    assert_eq!(lines.len(), 2, "{}", printed.stdout);
    assert!(lines[0].contains("expired rows 5000 → 0"), "{lines:?}");
    assert!(lines[0].contains("findings 9 → "), "{lines:?}");
    assert!(lines[1].contains("findings 21 → "), "{lines:?}");
    // A ledger in the database makes it larger: by a little, and not half as large again.
    assert!(
        lines.iter().all(|line| line.contains(": size −")),
        "{lines:?}"
    );
    assert_eq!(report["changes"], json!(lines));
    let trend = report["trend"].as_array().expect("days");
    assert_eq!(trend.len(), 2);
    assert_eq!(trend[0]["expiredRows"], 9000);
    assert_eq!(
        trend[1]["findings"],
        json!({"critical": 1, "warning": 6, "info": 2})
    );
}

#[tokio::test]
async fn a_day_on_which_a_rule_was_refused_has_no_sum_over_the_others() {
    let database = Postgres::shared().database("trend_refused").await;
    database
        .execute("CREATE TABLE t (id int, at timestamptz NOT NULL); INSERT INTO t SELECT n, now() FROM generate_series(1, 100) n; ANALYZE t")
        .await;
    let rule = |name: &str| json!({"name": name, "table": name, "column": "at", "expireAfter": "365d", "action": "Delete"});
    let spec = json!({
        "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}, "ledger": "Auto"},
        "rules": [rule("t"), rule("gone")],
    });
    audited_by(&database.url, &checked(spec.clone())).await;
    database
        .execute("UPDATE retention_operator.trend SET day = day - 20, taken_at = taken_at - interval '20 days'")
        .await;

    let file = policy_file(&spec);
    let arguments = ["audit", "-f", file.to_str().unwrap(), "-o", "json"];
    let report: Value =
        serde_json::from_str(&offline(&database.url, &arguments).stdout).expect("JSON");

    assert_eq!(report["trend"][0]["expiredRows"], Value::Null);
    assert_eq!(report["trend"][0]["deadRows"], Value::Null);
    let change = report["changes"][0].as_str().expect("a line");
    assert!(!change.contains("dead rows"), "{change}");
}
