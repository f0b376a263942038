//! What the checks learn from the policy: the tables of its rules, their cutoffs, and what is refused.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    operator::offline,
    postgres::{Postgres, TestDatabase},
    process::{run_dir, unique},
};

/// The ids of all findings of an offline audit with those rules.
fn audited(database: &TestDatabase, mode: &str, rules: &Value, holds: &Value) -> Vec<String> {
    let policy = json!({
        "apiVersion": "retention-operator.io/v1alpha1",
        "kind": "RetentionPolicy",
        "metadata": {"name": "hygiene", "namespace": "shop"},
        "spec": {"mode": mode, "database": {"secretRef": {"name": "db"}}, "rules": rules, "holds": holds},
    });
    let file = run_dir()
        .join(unique("hygiene", '-'))
        .with_extension("yaml");
    fs::write(&file, policy.to_string()).unwrap();
    let ended = offline(
        &database.url,
        &["audit", "-f", file.to_str().unwrap(), "-o", "json"],
    );
    let report: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["id"].as_str().unwrap().to_owned())
        .collect()
}

fn rule(table: &str) -> Value {
    json!({"name": table, "table": table, "column": "at", "expireAfter": "365d", "action": "Delete"})
}

#[tokio::test]
async fn whole_expired_partitions_are_those_before_the_rules_own_cutoff() {
    let database = Postgres::shared().database("policy_partitions").await;
    database
        .execute(
            "CREATE TABLE events (id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); \
             CREATE TABLE events_old PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01'); \
             CREATE TABLE events_new PARTITION OF events FOR VALUES FROM ('2021-01-01') TO (MAXVALUE); \
             INSERT INTO events VALUES (1, '2020-05-05'), (2, now()); ANALYZE",
        )
        .await;
    let id = "partitions-expired:public.events".to_owned();
    let open = audited(&database, "Audit", &json!([rule("events")]), &json!([]));
    assert!(open.contains(&id), "{open:?}");

    let mut patient = rule("events");
    patient["expireAfter"] = json!("99y");
    let mut narrowed = rule("events");
    narrowed["where"] = json!("id > 0");
    for rule in [patient, narrowed] {
        let found = audited(&database, "Audit", &json!([rule]), &json!([]));
        assert!(!found.contains(&id), "{found:?}");
    }
    let hold =
        json!([{"name": "case", "table": "events", "where": "id = 1", "reason": "litigation"}]);
    let held = audited(&database, "Audit", &json!([rule("events")]), &hold);
    assert!(!held.contains(&id), "{held:?}");
}

#[tokio::test]
async fn the_table_of_a_rule_that_is_refused_is_known_as_that_of_a_rule() {
    let database = Postgres::shared().database("policy_refused").await;
    database
        .execute(
            "CREATE TABLE mute (at timestamptz); INSERT INTO mute VALUES (now()); \
             CREATE PUBLICATION deletes FOR TABLE mute; CREATE TABLE nothing (id int PRIMARY KEY, at timestamptz)",
        )
        .await;

    for mode in ["Audit", "Enforce"] {
        let found = audited(
            &database,
            mode,
            &json!([rule("mute"), rule("nothing")]),
            &json!([]),
        );

        assert_eq!(
            found.first().map(String::as_str),
            Some("replica-identity:public.mute"),
            "{mode}: {found:?}"
        );
        assert!(
            !found.iter().any(|id| id.starts_with("empty-table:")),
            "{mode}: {found:?}"
        );
    }
}
