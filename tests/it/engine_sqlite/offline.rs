//! The offline verbs on SQLite: the same policy, the same answers, the same exit codes.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::{Database, filled};
use crate::support::operator::{Ended, Operator, offline};
use crate::support::process::{run_dir, unique};
use crate::support::wait::eventually;

/// 20,000 rows, of which every second one is of 1970.
pub(super) async fn database() -> Database {
    Database::new(&filled("logs", 20_000)).await
}

pub(super) fn rule() -> Value {
    json!({"name": "logs", "table": "logs", "column": "at", "encoding": "EpochSeconds", "expireAfter": "10y", "action": "Delete"})
}

pub(super) fn file(spec: Value) -> PathBuf {
    let mut policy = json!({
        "apiVersion": "retention-operator.io/v1alpha1",
        "kind": "RetentionPolicy",
        "metadata": {"name": "logs", "namespace": "shop"},
        "spec": {
            "mode": "Enforce",
            "database": {"secretRef": {"name": "db"}, "ledger": "Auto"},
            "rules": [rule()],
        },
    });
    for (field, value) in spec.as_object().unwrap() {
        policy["spec"][field] = value.clone();
    }
    let file = run_dir().join(unique("policy", '-')).with_extension("yaml");
    fs::write(&file, policy.to_string()).unwrap();
    file
}

pub(super) fn verb(url: &str, verb: &str, spec: Value, more: &[&str]) -> Ended {
    let file = file(spec);
    let arguments = [&[verb, "-f", file.to_str().unwrap()], more].concat();
    offline(url, &arguments)
}

/// A rule like [`rule`] with some of its fields changed.
pub(super) fn with(fields: Value) -> Value {
    let mut rule = rule();
    for (field, value) in fields.as_object().unwrap() {
        if value.is_null() {
            rule.as_object_mut().unwrap().remove(field);
        } else {
            rule[field] = value.clone();
        }
    }
    json!({"rules": [rule]})
}

pub(super) async fn rows(database: &Database) -> i64 {
    database.scalar("SELECT count(*) FROM logs").await
}

#[tokio::test]
async fn an_audit_says_what_it_cannot_know_without_statistics() {
    let database = database().await;
    let before = fs::read(&database.path).unwrap();

    let table = verb(&database.url(), "audit", json!({}), &[]);
    let report = verb(&database.url(), "audit", json!({}), &["-o", "json"]);

    assert_eq!(table.code, Some(0), "{table:?}");
    assert!(table.stdout.contains("SQLite 3."), "{table:?}");
    assert!(table.stdout.contains("could not be measured"), "{table:?}");
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    let status = &report["status"];
    assert_eq!(status["database"]["engine"], "SQLite");
    assert_eq!(status["database"]["name"], "shop.db");
    assert_eq!(status["database"]["auditPromise"], "ReadOnlyConnection");
    assert_eq!(status["rules"][0]["table"], "main.logs");
    assert_eq!(status["rules"][0]["expiredRows"], Value::Null);
    assert_eq!(status["rules"][0]["sizeBytes"], Value::Null);
    assert_eq!(fs::read(&database.path).unwrap(), before);
}

#[tokio::test]
async fn an_audit_of_an_analyzed_database_finds_its_expired_rows() {
    let database = database().await;
    database
        .execute("CREATE INDEX logs_at ON logs (at); ANALYZE")
        .await;

    let violated = verb(&database.url(), "audit", json!({}), &["-o", "json"]);
    let fine = verb(
        &database.url(),
        "audit",
        with(json!({"expireAfter": "100y"})),
        &[],
    );

    assert_eq!(violated.code, Some(2), "{violated:?}");
    let report: Value = serde_json::from_str(&violated.stdout).unwrap();
    let rule = &report["status"]["rules"][0];
    let expired = rule["expiredRows"]["value"].as_i64().unwrap();
    assert!((9_000..=11_000).contains(&expired), "{rule}");
    assert_eq!(rule["expiredRows"]["method"], "Histogram");
    assert!(
        rule["oldest"]["value"]
            .as_str()
            .unwrap()
            .starts_with("1970-01-01"),
        "{rule}"
    );
    assert_eq!(rule["rows"]["value"], 20_000);
    assert_eq!(fine.code, Some(0), "{fine:?}");
}

#[rstest]
#[case::no_encoding(with(json!({"encoding": null})), "state encoding")]
#[case::no_table(with(json!({"table": "Logs"})), "table Logs does not exist")]
#[case::no_column(with(json!({"column": "At"})), "no column At")]
#[case::other_schema(with(json!({"table": "public.logs"})), "does not exist")]
#[case::a_view(with(json!({"table": "seen"})), "is a view")]
#[case::a_system_table(with(json!({"table": "sqlite_sequence", "column": "name"})), "belongs to the database system")]
#[case::typed_literal(with(json!({"where": "pad < DATE '2024-01-01'"})), "as the column holds it")]
#[tokio::test]
async fn what_cannot_be_carried_out_is_an_error_with_advice(
    #[case] spec: Value,
    #[case] advice: &str,
) {
    let database = database().await;
    database
        .execute("CREATE VIEW seen AS SELECT * FROM logs; CREATE TABLE seq (a INTEGER PRIMARY KEY AUTOINCREMENT)")
        .await;

    for name in ["audit", "plan", "sweep"] {
        let ended = verb(&database.url(), name, spec.clone(), &[]);

        assert_eq!(ended.code, Some(1), "{name} {ended:?}");
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains(advice), "{name} {ended:?}");
    }
    assert_eq!(rows(&database).await, 20_000);
}

#[tokio::test]
async fn a_plan_counts_exactly_and_changes_nothing() {
    let database = database().await;
    let before = fs::read(&database.path).unwrap();

    let fine = verb(&database.url(), "plan", json!({}), &["-o", "json"]);
    let table = verb(&database.url(), "plan", json!({}), &[]);
    let blocked = verb(
        &database.url(),
        "plan",
        with(json!({"limits": {"maxRows": 8000}})),
        &[],
    );

    assert_eq!(fine.code, Some(0), "{fine:?}");
    let plan: Value = serde_json::from_str(&fine.stdout).unwrap();
    assert_eq!(plan["rules"][0]["rows"], 20_000);
    assert_eq!(plan["rules"][0]["expiredRows"], 10_000);
    assert_eq!(plan["rules"][0]["unreadableRows"], 0);
    assert_eq!(plan["rules"][0]["bytesToRead"], Value::Null);
    assert!(table.stdout.contains("size not known"), "{table:?}");
    assert!(table.stdout.contains("ranges of keys"), "{table:?}");
    assert_eq!(blocked.code, Some(3), "{blocked:?}");
    assert!(
        blocked.stdout.contains("10,000 of 20,000 would go"),
        "{blocked:?}"
    );
    assert_eq!(fs::read(&database.path).unwrap(), before);
}

#[tokio::test]
async fn a_sweep_takes_exactly_the_expired_rows() {
    let database = database().await;

    let swept = verb(&database.url(), "sweep", json!({}), &["-o", "json"]);
    let again = verb(&database.url(), "sweep", json!({}), &[]);

    assert_eq!(swept.code, Some(0), "{swept:?}");
    let report: Value = serde_json::from_str(&swept.stdout).unwrap();
    let status = &report["status"];
    assert_eq!(status["lastSweep"]["outcome"], "Succeeded");
    assert_eq!(status["lastSweep"]["rowsDeleted"], 10_000);
    assert_eq!(status["rules"][0]["expiredRows"]["value"], 0);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(rows(&database).await, 10_000);
    assert_eq!(
        database
            .scalar("SELECT count(*) FROM logs WHERE at < 1000000000")
            .await,
        0
    );
}

#[tokio::test]
async fn a_sweep_over_its_limits_needs_the_approval_of_its_plan() {
    let database = database().await;
    let limited = || with(json!({"limits": {"maxRows": 8000}}));

    let blocked = verb(&database.url(), "sweep", limited(), &[]);
    assert_eq!(blocked.code, Some(3), "{blocked:?}");
    assert_eq!(rows(&database).await, 20_000);
    let planned = verb(&database.url(), "plan", limited(), &["-o", "json"]);
    let plan: Value = serde_json::from_str(&planned.stdout).unwrap();
    let hash = plan["planHash"].as_str().unwrap();
    let approved = verb(&database.url(), "sweep", limited(), &["--approve", hash]);

    assert_eq!(approved.code, Some(0), "{approved:?}");
    assert_eq!(rows(&database).await, 10_000);
}

#[tokio::test]
async fn rows_that_a_trigger_keeps_leave_the_policy_violated() {
    let database = database().await;
    database
        .execute("CREATE TRIGGER keep BEFORE DELETE ON logs WHEN old.id = 10 BEGIN SELECT RAISE(IGNORE); END")
        .await;

    let swept = verb(&database.url(), "sweep", json!({}), &["-o", "json"]);

    assert_eq!(swept.code, Some(2), "{swept:?}");
    let report: Value = serde_json::from_str(&swept.stdout).unwrap();
    assert_eq!(report["status"]["lastSweep"]["rowsDeleted"], 9_999);
    assert_eq!(report["status"]["rules"][0]["expiredRows"]["value"], 1);
}

#[tokio::test]
async fn a_hold_keeps_its_rows() {
    let database = database().await;
    let hold = json!({"holds": [{"name": "case", "table": "logs", "where": "id <= 100", "reason": "litigation"}]});

    let swept = verb(&database.url(), "sweep", hold, &[]);

    assert_eq!(swept.code, Some(0), "{swept:?}");
    assert_eq!(rows(&database).await, 10_050);
}

#[rstest]
#[case::missing("sqlite:///nonexistent/shop.db", "does not exist")]
#[case::relative("sqlite://nonexistent.db", "nonexistent.db does not exist")]
#[case::in_memory("sqlite::memory:", "in memory")]
#[case::unknown_parameter("sqlite://x.db?mode=rwc", "mode=rwc")]
#[case::another_engine("mysql://u:Tr0ub4dor@h/d", "postgres:// and sqlite://")]
#[case::no_scheme("Tr0ub4dor", "sqlite:///path/file.db")]
#[test]
fn an_address_that_cannot_be_used_is_an_error(#[case] url: &str, #[case] says: &str) {
    let ended = verb(url, "audit", json!({}), &[]);

    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(says), "{ended:?}");
    assert!(!ended.stderr.contains("Tr0ub4dor"), "{ended:?}");
}

#[tokio::test]
async fn a_sweep_of_a_read_only_address_is_an_error() {
    let database = database().await;

    let ended = verb(
        &format!("{}?mode=ro", database.url()),
        "sweep",
        json!({}),
        &[],
    );

    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains("mode=ro"), "{ended:?}");
    assert_eq!(rows(&database).await, 20_000);
}

#[rstest]
#[case::rollback_journal("DELETE")]
#[case::write_ahead_log("WAL")]
#[tokio::test]
async fn a_killed_sweep_leaves_whole_chunks_and_a_sound_file(#[case] journal: &str) {
    let database = Database::new(&format!(
        "PRAGMA journal_mode = {journal}; {} CREATE INDEX logs_at ON logs (at);",
        filled("logs", 200_000)
    ))
    .await;
    let file = file(json!({"pace": {"maxDuty": 50}}));
    for _ in 0..4 {
        let before = rows(&database).await;
        let arguments = ["sweep", "-f", file.to_str().unwrap()];
        let mut sweep = Operator::start(&arguments, &[("DATABASE_URL", &database.url())]);
        let probe = async || {
            let rows = rows_beside(&database).await;
            if rows < before { Ok(()) } else { Err(rows) }
        };
        eventually(Duration::from_secs(30), "some rows to go", probe).await;
        sweep.kill9();
        // Nobody waits until its lease has lapsed.
        database
            .execute("UPDATE retention_operator_lease SET beat = '2024-01-01T00:00:00.000Z'")
            .await;

        database.assert_sound().await;
        // The walk goes by key, and each chunk went whole or not at all: what has expired is left from some key on.
        let first = database
            .scalar("SELECT min(id) FROM logs WHERE at < 1000000000")
            .await;
        assert_eq!(
            database
                .scalar("SELECT count(*) FROM logs WHERE at < 1000000000")
                .await,
            (200_000 - first) / 2 + 1
        );
        assert_eq!(
            database
                .scalar("SELECT count(*) FROM logs WHERE at > 1000000000")
                .await,
            100_000
        );
    }

    let swept = verb(&database.url(), "sweep", json!({}), &[]);

    assert_eq!(swept.code, Some(0), "{swept:?}");
    assert_eq!(rows(&database).await, 100_000);
}

/// The same beside a writer, which may be committing.
async fn rows_beside(database: &Database) -> i64 {
    use sqlx::{Connection, Row};
    let mut own = database.connect().await;
    let row = sqlx::query("SELECT count(*) FROM logs")
        .fetch_one(&mut own)
        .await;
    own.close().await.unwrap();
    row.map_or(i64::MAX, |row| row.get(0))
}

#[tokio::test]
async fn rows_that_stay_as_nobody_knows_are_counted_and_said() {
    let database = Database::new(
        "CREATE TABLE logs (id INTEGER PRIMARY KEY, at INTEGER, amount INTEGER);
         INSERT INTO logs VALUES (1, 1000, 200), (2, 1000, '200 EUR'), (3, 1000, 'n/a'), (4, 'n/a', 200), (5, 1750000000, 'n/a')",
    )
    .await;
    let spec = with(json!({"where": "amount > 100", "limits": {"maxPercent": 100}}));

    let planned = verb(&database.url(), "plan", spec.clone(), &[]);
    let plan = verb(&database.url(), "plan", spec.clone(), &["-o", "json"]);
    let swept = verb(&database.url(), "sweep", spec.clone(), &[]);
    let report = verb(&database.url(), "sweep", spec, &["-o", "json"]);

    let why = "a value of theirs is not of the type that `where` or a hold asks for";
    for said in [&planned.stdout, &swept.stdout] {
        assert!(
            said.contains("2 expired rows") && said.contains(why),
            "{said}"
        );
    }
    assert!(planned.stdout.contains("unreadable 1 rows"), "{planned:?}");
    assert!(swept.stdout.contains("1 rows are unreadable"), "{swept:?}");
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(plan["rules"][0]["expiredRows"], 1);
    assert_eq!(plan["rules"][0]["unreadableRows"], 3);
    assert_eq!(plan["rules"][0]["undecidedRows"], 2);
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(report["status"]["rules"][0]["unreadableRows"]["value"], 3);
    assert_eq!(rows(&database).await, 4);
}
