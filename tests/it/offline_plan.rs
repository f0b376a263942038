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
