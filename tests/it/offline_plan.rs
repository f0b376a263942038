//! `plan`: what the deletes would set off, told before anything is deleted.

use std::fs;

use serde_json::{Value, json};

use crate::support::operator::{Ended, offline};
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::process::{run_dir, unique};

const SCHEMA: &str = "\
CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL) PARTITION BY RANGE (id);
CREATE TABLE t_a PARTITION OF t FOR VALUES FROM (0) TO (1000);
CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE);
CREATE TABLE noted (t int REFERENCES t ON DELETE SET NULL);
CREATE TABLE other (id int PRIMARY KEY);
INSERT INTO t SELECT n, '2020-06-01' FROM generate_series(1, 10) n;
CREATE FUNCTION \"Log It\"() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
CREATE TRIGGER t_each AFTER DELETE ON t FOR EACH ROW WHEN (OLD.id > 5) EXECUTE FUNCTION \"Log It\"();
CREATE TRIGGER t_statement BEFORE DELETE ON t_a FOR EACH STATEMENT EXECUTE FUNCTION \"Log It\"();
CREATE TRIGGER t_insert AFTER INSERT ON t_a FOR EACH ROW EXECUTE FUNCTION \"Log It\"();
CREATE TRIGGER t_off AFTER DELETE ON t_a FOR EACH ROW EXECUTE FUNCTION \"Log It\"();
CREATE TRIGGER t_replica AFTER DELETE ON t_a FOR EACH ROW EXECUTE FUNCTION \"Log It\"();
CREATE TRIGGER t_always AFTER DELETE ON t_a FOR EACH ROW EXECUTE FUNCTION \"Log It\"();
ALTER TABLE t_a DISABLE TRIGGER t_off; ALTER TABLE t_a ENABLE REPLICA TRIGGER t_replica; ALTER TABLE t_a ENABLE ALWAYS TRIGGER t_always;
CREATE TRIGGER child_gone AFTER DELETE ON child FOR EACH ROW EXECUTE FUNCTION \"Log It\"();
CREATE TRIGGER noted_changed AFTER UPDATE ON noted FOR EACH ROW EXECUTE FUNCTION \"Log It\"();
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA public WITH (publish_via_partition_root = true);
CREATE PUBLICATION named FOR TABLE t, child WHERE (id > 5) WITH (publish = 'insert, update');
CREATE PUBLICATION of_others FOR TABLE other";

fn plan(database: &TestDatabase, dependents: &str, more: &[&str]) -> Ended {
    let policy = json!({
        "apiVersion": "retention-operator.io/v1alpha1",
        "kind": "RetentionPolicy",
        "metadata": {"name": "t", "namespace": "shop"},
        "spec": {
            "mode": "Enforce",
            "database": {"secretRef": {"name": "db"}},
            "rules": [{"name": "t", "table": "t", "column": "at", "expireAfter": "365d", "action": "Delete", "dependents": dependents}],
        },
    });
    let file = run_dir().join(unique("plan", '-')).with_extension("yaml");
    fs::write(&file, policy.to_string()).unwrap();
    offline(
        &database.url,
        &[&["plan", "-f", file.to_str().unwrap()], more].concat(),
    )
}

#[tokio::test]
async fn a_plan_lists_the_triggers_that_fire_and_the_publications_that_carry_the_deletes_away() {
    let database = Postgres::shared().database("plan").await;
    database.execute(SCHEMA).await;

    let ended = plan(&database, "Cascade", &["-o", "json"]);
    let printed = plan(&database, "Cascade", &[]);

    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let rule = &report["rules"][0];
    let triggers: Vec<(&str, &str, &str, bool)> = rule["triggers"]
        .as_array()
        .expect("triggers")
        .iter()
        .map(|trigger| {
            let text = |name: &str| trigger[name].as_str().expect("a text");
            (
                text("name"),
                text("event"),
                text("forEach"),
                trigger["fires"] == true,
            )
        })
        .collect();
    assert_eq!(
        triggers,
        [
            ("child_gone", "DELETE", "ROW", true),
            ("noted_changed", "UPDATE", "ROW", true),
            ("t_always", "DELETE", "ROW", true),
            ("t_each", "DELETE", "ROW", true),
            ("t_off", "DELETE", "ROW", false),
            ("t_replica", "DELETE", "ROW", false),
            ("t_statement", "DELETE", "STATEMENT", true),
        ]
    );
    assert_eq!(rule["triggers"][3]["function"], "public.Log It");
    assert_eq!(rule["triggers"][3]["conditional"], true);
    let both = json!(["public.child", "public.t_a"]);
    assert_eq!(
        rule["publications"],
        json!([
            {"name": "everything", "scope": "FOR ALL TABLES", "tables": both, "deletes": true,
             "viaPartitionRoot": false, "rowFilter": null},
            {"name": "named", "scope": "FOR TABLE", "tables": both, "deletes": false,
             "viaPartitionRoot": false, "rowFilter": "(id > 5)"},
            {"name": "of_schema", "scope": "FOR TABLES IN SCHEMA", "tables": both, "deletes": true,
             "viaPartitionRoot": true, "rowFilter": null},
        ])
    );
    assert!(rule["bytesToRead"].as_i64() >= Some(8192), "{rule}");
    assert!(rule["techniqueReason"].is_string(), "{rule}");
    for line in [
        "  triggers   t_each after DELETE of each row of public.t_a, calls public.Log It, on a condition of its own",
        "  triggers   child_gone after DELETE of each row of public.child, calls public.Log It",
        "             switched off for sweeps: t_off, t_replica",
        "  published  everything (FOR ALL TABLES) has public.child, public.t_a: each delete goes to its subscribers, too",
        "carries no deletes: its subscribers keep the rows",
    ] {
        assert!(printed.stdout.contains(line), "{line}\n{}", printed.stdout);
    }
    assert!(!printed.stdout.contains("of_others"), "{}", printed.stdout);
}

#[tokio::test]
async fn what_no_delete_reaches_fires_nothing() {
    let database = Postgres::shared().database("plan").await;
    database.execute(SCHEMA).await;

    let ended = plan(&database, "Skip", &["-o", "json"]);

    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let triggers = report["rules"][0]["triggers"].to_string();
    assert!(triggers.contains("t_each"), "{triggers}");
    assert!(!triggers.contains("child_gone"), "{triggers}");
    assert!(!triggers.contains("noted_changed"), "{triggers}");
}

/// Parents 1 to 10,000, all expired, of which the even ones have children; two more have children of their own table.
async fn family() -> TestDatabase {
    let database = Postgres::shared().database("plan").await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, up int REFERENCES t, at timestamptz);
             INSERT INTO t SELECT n, CASE n WHEN 1 THEN 3 END, '2020-01-01' FROM generate_series(1, 10000) n;
             CREATE TABLE child (pad text DEFAULT repeat('x', 200), \"T id\" int REFERENCES t);
             INSERT INTO child (\"T id\") SELECT n FROM generate_series(2, 10000, 2) n;
             CREATE TABLE few (t_id int REFERENCES t); INSERT INTO few VALUES (2), (5); CREATE INDEX ON t (up) WHERE up IS NOT NULL; ANALYZE",
        )
        .await;
    database
}

fn skipping(limits: Value) -> Value {
    let mut rule = crate::operator::tables::rule("t", "t");
    rule["dependents"] = json!("Skip");
    rule["limits"] = limits;
    json!({"rules": [rule]})
}

#[tokio::test]
async fn rows_that_are_kept_count_neither_as_what_would_go_nor_against_the_limits() {
    let database = family().await;
    let file = crate::offline::file(skipping(json!({"maxRows": 5000})));
    let too_many = crate::offline::file(skipping(json!({"maxRows": 4000})));
    let file = file.to_str().unwrap();

    let printed = offline(&database.url, &["plan", "-f", file]);
    let blocked = offline(&database.url, &["sweep", "-f", too_many.to_str().unwrap()]);
    let planned = offline(&database.url, &["plan", "-f", too_many.to_str().unwrap()]);
    let swept = offline(&database.url, &["sweep", "-f", file, "-o", "json"]);

    assert!(
        printed.stdout.contains("4,999 of 10,000 would go"),
        "{printed:?}"
    );
    assert!(
        printed.stdout.contains("and 5,001 expired ones stay"),
        "{printed:?}"
    );
    assert_eq!(blocked.code, Some(3), "{blocked:?}");
    let said = format!("{}{}", blocked.stdout, blocked.stderr);
    assert!(said.contains("-4999"), "{blocked:?}");
    let hash = planned.stdout.split("--approve ").nth(1).unwrap();
    let hash = hash.split_whitespace().next().unwrap();
    assert!(said.contains(hash), "{hash} {blocked:?}");
    let report: Value = serde_json::from_str(&swept.stdout).unwrap();
    assert_eq!(
        report["status"]["lastSweep"]["rowsDeleted"], 4999,
        "{report}"
    );
}

#[tokio::test]
async fn a_plan_names_the_index_that_is_missing_where_rows_are_looked_for_that_refer() {
    let database = family().await;
    let file = crate::offline::file(skipping(json!({"maxPercent": 100})));
    let file = file.to_str().unwrap();
    let statement = r#"CREATE INDEX CONCURRENTLY ON "public"."child" ("T id")"#;

    let printed = offline(&database.url, &["plan", "-f", file]);
    let report = offline(&database.url, &["plan", "-f", file, "-o", "json"]);
    database.execute(statement).await;
    let after = offline(&database.url, &["plan", "-f", file]);

    assert!(
        printed
            .stdout
            .contains("no index   on public.child for child_T id_fkey"),
        "{printed:?}"
    );
    assert!(printed.stdout.contains(statement), "{printed:?}");
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(
        report["rules"][0]["missingIndexes"],
        json!([{"table": "public.child", "key": "child_T id_fkey", "statement": statement}])
    );
    assert!(!after.stdout.contains("no index   on"), "{after:?}");
}
