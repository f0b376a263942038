//! `grants`: what it prints is enough, and no more.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor, Row};

use super::{database, file, recorded, report, rows, verb};
use crate::operator::tables::{fill, rule};
use crate::support::operator::Operator;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, TestDatabase, connect};
use crate::support::process::unique;

/// Runs SQL statement by statement, as psql does.
async fn apply(database: &TestDatabase, sql: &str) {
    let mut session = database.connect().await;
    for _ in 0..2 {
        session
            .execute(AssertSqlSafe(sql.to_owned()))
            .await
            .unwrap_or_else(|error| panic!("{error} in {sql}"));
    }
}

async fn fresh_role(database: &TestDatabase) -> (String, String) {
    let name = format!("{} O'Neil \"x\"", unique("grantee", '_'));
    let quoted = name.replace('"', "\"\"");
    database
        .execute(&format!(
            "CREATE ROLE \"{quoted}\" LOGIN PASSWORD 'secret';
             REVOKE CONNECT ON DATABASE \"{}\" FROM PUBLIC",
            database.name
        ))
        .await;
    let escaped: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
    (name, database.url_as(&escaped, "secret"))
}

fn granted(database_url: Option<&str>, role: &str, spec: Value, more: &[&str]) -> String {
    let file = file("logs", spec);
    let arguments = [
        &["grants", "-f", file.to_str().unwrap(), "--role", role],
        more,
    ]
    .concat();
    let mut verb = match database_url {
        Some(url) => Operator::start(&arguments, &[("DATABASE_URL", url)]),
        None => Operator::start(&arguments, &[]),
    };
    let ended = verb.wait(Duration::from_secs(30));
    assert_eq!(ended.code(), Some(0), "{}", verb.stderr());
    verb.stdout()
}

#[rstest]
#[case::by_name(false, "Auto")]
#[case::looked_up(true, "Auto")]
#[case::without_a_ledger(false, "Off")]
#[case::with_one_that_may_come(false, "Existing")]
#[tokio::test]
async fn what_grants_prints_is_enough_for_a_sweep_and_for_nothing_else(
    #[case] looked_up: bool,
    #[case] ledger: &str,
) {
    let database = database().await;
    fill(&database, "seen", 100).await;
    fill(&database, "other", 100).await;
    let mut seen = rule("seen", "seen");
    seen["mode"] = json!("Audit");
    let spec = json!({
        "database": {"secretRef": {"name": "db"}, "ledger": ledger},
        "rules": [rule("logs", "logs"), seen],
    });
    let (role, url) = fresh_role(&database).await;
    let before = verb(&url, "audit", "logs", spec.clone(), &[]);
    let admin = looked_up.then_some(database.url.as_str());

    apply(&database, &granted(admin, &role, spec.clone(), &[])).await;
    let swept = verb(&url, "sweep", "logs", spec.clone(), &["-o", "json"]);

    assert_eq!(before.code, Some(1), "{before:?}");
    assert_eq!(swept.code, Some(0), "{swept:?}");
    assert_eq!(rows(&database).await, 11_600);
    let made: bool = database
        .scalar("SELECT to_regnamespace('retention_operator') IS NOT NULL")
        .await;
    assert_eq!(made, ledger == "Auto");
    let mut session = connect(&url).await;
    for forbidden in [
        "DELETE FROM seen",
        "DELETE FROM other",
        "SELECT FROM other",
        "UPDATE logs SET note = ''",
        "INSERT INTO logs VALUES (1, now(), '')",
        "TRUNCATE logs",
        "CREATE SCHEMA mine",
        "DROP SCHEMA retention_operator CASCADE",
    ] {
        let refused = session.execute(forbidden).await;
        assert!(refused.is_err(), "{forbidden} with {ledger}");
    }
    drop(session);

    apply(
        &database,
        &granted(admin, &role, spec.clone(), &["--revoke"]),
    )
    .await;
    let after = verb(&url, "audit", "logs", spec, &[]);
    assert_eq!(after.code, Some(1), "{after:?}");
}

#[tokio::test]
async fn partitions_are_listed_where_the_database_can_be_asked() {
    let database = Postgres::shared().database("parts").await;
    database
        .execute(
            "CREATE TABLE p (at timestamptz) PARTITION BY RANGE (at); CREATE TABLE \"p \"\"1\" PARTITION OF p DEFAULT",
        )
        .await;
    let spec = json!({"rules": [rule("p", "p")]});

    let named = granted(None, "r", spec.clone(), &[]);
    let listed = granted(Some(&database.url), "r", spec, &[]);

    assert!(named.contains("GRANT SELECT, DELETE ON \"public\".\"p\" TO \"r\";"));
    assert!(named.contains("Set DATABASE_URL"), "{named}");
    assert!(
        listed.contains("GRANT SELECT ON \"public\".\"p\" TO \"r\";"),
        "{listed}"
    );
    assert!(
        listed.contains("GRANT SELECT, DELETE ON \"public\".\"p \"\"1\" TO \"r\";"),
        "{listed}"
    );
}

#[rstest]
#[case::skip("Skip", 20_000 - 8_400 + 100)]
#[case::cascade("Cascade", 20_000 - 8_400)]
#[tokio::test]
async fn what_dependents_need_is_granted_too_and_what_goes_along_is_counted(
    #[case] dependents: &str,
    #[case] left: i64,
) {
    let database = database().await;
    let effect = if dependents == "Skip" {
        ""
    } else {
        "ON DELETE CASCADE"
    };
    database
        .execute(&format!(
            "CREATE TABLE child (log bigint REFERENCES logs {effect}); CREATE INDEX ON child (log);
             INSERT INTO child SELECT id FROM logs WHERE at < now() - interval '31 days' ORDER BY id LIMIT 100; ANALYZE child"
        ))
        .await;
    let mut logs = rule("logs", "logs");
    logs["dependents"] = json!(dependents);
    let spec = json!({"rules": [logs]});
    let (role, url) = fresh_role(&database).await;
    apply(
        &database,
        &granted(Some(&database.url), &role, spec.clone(), &[]),
    )
    .await;

    let swept = verb(&url, "sweep", "logs", spec, &["-o", "json"]);

    assert_eq!(rows(&database).await, left, "{swept:?}");
    let children: i64 = database.scalar("SELECT count(*) FROM child").await;
    assert_eq!(
        recorded(&database).await,
        (20_000 - left) + (100 - children),
        "{swept:?}"
    );
    let status = report(&swept)["status"].clone();
    assert_eq!(status["totals"]["rowsDeleted"], recorded(&database).await);
}

#[rstest]
#[case::made_by_the_role("old.logs", false)]
#[case::of_somebody_else("past", true)]
#[tokio::test]
async fn what_an_archive_table_needs_is_granted_too_and_what_is_archived_is_counted(
    #[case] archive: &str,
    #[case] exists: bool,
) {
    let database = database().await;
    if exists {
        database
            .execute(&format!("CREATE TABLE {archive} (LIKE logs)"))
            .await;
    }
    let mut logs = rule("logs", "logs");
    logs["action"] = json!("Archive");
    logs["archive"] = json!({"table": {"name": archive}});
    let spec = json!({"rules": [logs]});
    let (role, url) = fresh_role(&database).await;
    apply(
        &database,
        &granted(Some(&database.url), &role, spec.clone(), &[]),
    )
    .await;

    let swept = verb(&url, "sweep", "logs", spec, &["-o", "json"]);

    assert_eq!(swept.code, Some(0), "{swept:?}");
    let archived: i64 = database
        .scalar(&format!("SELECT count(*) FROM {archive}"))
        .await;
    assert_eq!((archived, rows(&database).await), (8_400, 11_600));
    let totals = report(&swept)["status"]["totals"].clone();
    assert_eq!(
        (&totals["rowsDeleted"], &totals["rowsArchived"]),
        (&json!(8_400), &json!(8_400))
    );
}

#[tokio::test]
async fn through_a_pooler_the_same_rights_are_enough_and_nothing_leaks() {
    let postgres = Postgres::shared();
    let database = database().await;
    let role = database.role("pooled", "secret", "").await;
    let spec = json!({});
    apply(&database, &granted(None, &role.name, spec.clone(), &[])).await;
    let pooler = PgBouncer::start(postgres, &[(&role.name, &role.password)]);
    let url = pooler.url(&database.name, &role.name, &role.password);

    let swept = verb(&url, "sweep", "logs", spec, &["-o", "json"]);

    assert_eq!(swept.code, Some(0), "{swept:?}");
    assert_eq!(recorded(&database).await, 8_400);
    let mut other = connect(&url).await;
    let row = sqlx::raw_sql(
        "SELECT current_setting('search_path') || current_setting('lock_timeout') AS s,
           (SELECT count(*) FROM pg_prepared_statements) + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS n",
    )
    .fetch_one(&mut other)
    .await
    .unwrap();
    assert_eq!(row.get::<String, _>("s"), "\"$user\", public0");
    assert_eq!(row.get::<i64, _>("n"), 0);
}

#[test]
fn grants_without_a_role_says_how_to_name_one() {
    let file = file("logs", json!({}));
    let mut verb = Operator::start(&["grants", "-f", file.to_str().unwrap()], &[]);

    assert_eq!(verb.wait(Duration::from_secs(10)).code(), Some(1));
    assert!(verb.stderr().contains("--role"), "{}", verb.stderr());
}
