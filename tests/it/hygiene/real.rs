//! Schemas of hundreds of tables as people have them: one that is well kept, in which nothing may be found, and one in which
//! each fault says itself what must be found. All advice is followed, and taken back.

use retention_operator::policy::hygiene::{Check, Finding, Severity};
use sqlx::AssertSqlSafe;

use super::{findings, ids};
use crate::support::{
    postgres::{Postgres, TestDatabase},
    process::unique,
};

const CLEAN: &str = include_str!("schema/clean.sql");
const TENANT: &str = include_str!("schema/tenant.sql");
const FAULTY: &str = include_str!("schema/faulty.sql");
/// All that advice may touch, as lines.
const CATALOG: &str = include_str!("schema/catalog.sql");

fn servers() -> impl Iterator<Item = &'static Postgres> {
    [Some(Postgres::shared()), Postgres::newest()]
        .into_iter()
        .flatten()
}

/// What is found, but for tables that are merely empty: in these schemas most are.
async fn found(database: &TestDatabase) -> Vec<Finding> {
    let mut findings = findings(&database.url).await;
    findings.retain(|finding| finding.check != Check::EmptyTable);
    findings
}

/// The neglected schema, and what must be found in it.
async fn neglected(server: &Postgres) -> (TestDatabase, Vec<(String, Severity)>) {
    let database = server.database("neglected").await;
    let tablespace = unique("elsewhere", '_');
    let mut connection = database.connect().await;
    for statement in [
        "SET allow_in_place_tablespaces = on".to_owned(),
        format!("CREATE TABLESPACE {tablespace} LOCATION ''"),
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .unwrap();
    }
    let sql = FAULTY
        .replace("{tablespace}", &tablespace)
        .replace("{set_null}", " (b)");
    database.execute(&sql).await;
    database.execute("ANALYZE").await;
    let mut wanted: Vec<(String, Severity)> = FAULTY
        .lines()
        .filter_map(|line| line.strip_prefix("-- ! ")?.split_once(' '))
        .map(|(severity, id)| (id.to_owned(), by_name(severity)))
        .collect();
    wanted.sort();
    (database, wanted)
}

fn by_name(severity: &str) -> Severity {
    [Severity::Info, Severity::Warning, Severity::Critical]
        .into_iter()
        .find(|known| known.as_str() == severity)
        .unwrap()
}

async fn catalog(database: &TestDatabase) -> Vec<String> {
    let mut connection = database.connect().await;
    sqlx::raw_sql("SET search_path = pg_catalog")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query_scalar(CATALOG)
        .fetch_all(&mut connection)
        .await
        .unwrap()
}

/// Each statement stands on a line of its own, because some cannot run in a transaction.
async fn run(database: &TestDatabase, id: &str, sql: &str) {
    let mut connection = database.connect().await;
    for statement in sql.lines() {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{id}: {error}, in: {statement}"));
    }
}

/// Lines of one that the other has not.
fn without<'a>(lines: &'a [String], others: &[String]) -> Vec<&'a String> {
    lines.iter().filter(|line| !others.contains(line)).collect()
}

#[tokio::test]
async fn in_a_well_kept_schema_of_hundreds_of_tables_nothing_is_found() {
    for server in servers() {
        let database = server.database("well_kept").await;
        database.execute(CLEAN).await;
        for tenant in 1..=30 {
            let sql = TENANT.replace("{tenant}", &format!("tenant_{tenant}"));
            database.execute(&sql).await;
        }
        database.execute("ANALYZE").await;
        let tables: i64 = database
            .scalar("SELECT count(*) FROM pg_stat_user_tables")
            .await;
        assert!(tables > 400, "{tables}");

        assert_eq!(ids(&found(&database).await), [""; 0]);
    }
}

#[tokio::test]
async fn in_a_neglected_schema_each_fault_is_found_once_and_nothing_else() {
    for server in servers() {
        let (database, wanted) = neglected(server).await;

        let mut found: Vec<(String, Severity)> = found(&database)
            .await
            .into_iter()
            .map(|finding| (finding.id, finding.severity))
            .collect();

        found.sort();
        let missing: Vec<_> = wanted.iter().filter(|one| !found.contains(one)).collect();
        let wrong: Vec<_> = found.iter().filter(|one| !wanted.contains(one)).collect();
        assert!(
            missing.is_empty() && wrong.is_empty(),
            "not found: {missing:#?}; wrongly found: {wrong:#?}"
        );
        assert_eq!(found.len(), wanted.len());
    }
}

#[tokio::test]
async fn what_is_taken_back_is_as_it_was_in_every_respect() {
    for server in servers() {
        let (database, _) = neglected(server).await;
        let before = catalog(&database).await;
        let mut taken_back = 0;

        for finding in found(&database).await {
            let (Some(apply), Some(undo)) = (&finding.advice.apply, &finding.advice.undo) else {
                continue;
            };
            run(&database, &finding.id, apply).await;
            assert_ne!(catalog(&database).await, before, "{}", finding.id);
            run(&database, &finding.id, undo).await;

            let after = catalog(&database).await;
            assert_eq!(
                without(&before, &after),
                Vec::<&String>::new(),
                "lost by {}: there is now {:#?}",
                finding.id,
                without(&after, &before)
            );
            assert_eq!(after, before, "{}", finding.id);
            taken_back += 1;
        }
        assert!(taken_back > 30, "{taken_back}");
    }
}

#[tokio::test]
async fn after_all_advice_was_followed_only_what_has_words_alone_is_left() {
    for server in servers() {
        let (database, _) = neglected(server).await;
        let before = found(&database).await;

        for finding in &before {
            if let Some(apply) = &finding.advice.apply {
                run(&database, &finding.id, apply).await;
            }
        }

        let words: Vec<&str> = before
            .iter()
            .filter(|finding| finding.advice.apply.is_none())
            .map(|finding| finding.id.as_str())
            .collect();
        assert_eq!(ids(&found(&database).await), words);
    }
}
