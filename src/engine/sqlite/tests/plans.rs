use rstest::rstest;
use sqlx::{Connection, Row};

use super::{Database, Encoding};
use crate::engine::sqlite::{
    catalog,
    obstacles::{HeldColumns, Obstacles},
    sql::WalkStatements,
};

#[rstest]
#[case::rowid(
    "(id INTEGER PRIMARY KEY, at INTEGER)",
    "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
)]
#[case::no_key(
    "(id TEXT, at INTEGER)",
    "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
)]
#[case::key(
    "(id TEXT PRIMARY KEY, at INTEGER) WITHOUT ROWID",
    "USING PRIMARY KEY (id>? AND id<?)"
)]
#[case::collated(
    "(id TEXT, at INTEGER, PRIMARY KEY (id COLLATE NOCASE)) WITHOUT ROWID",
    "USING PRIMARY KEY (id>? AND id<?)"
)]
#[case::two(
    "(id TEXT, n DEFAULT 1, at INTEGER, PRIMARY KEY (n, id)) WITHOUT ROWID",
    "USING PRIMARY KEY ((n,id)>(?,?) AND (n,id)<(?,?))"
)]
#[tokio::test]
async fn a_range_is_found_by_the_key_whatever_the_statistics_say(
    #[case] table: &str,
    #[case] way: &str,
) {
    let database = Database::new(&format!(
        "CREATE TABLE x {table}; CREATE INDEX x_at ON x (at);
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 500)
         INSERT INTO x (id, at) SELECT n, n FROM n WHERE n <> 1; ANALYZE"
    ))
    .await;
    let plan = database
        .plan("x", "at", Encoding::EpochSeconds, "1970-01-01T00:00:02Z")
        .await;
    let mut session = database.engine.read().await.unwrap();
    let found = catalog::table(&mut session, "x").await.unwrap().unwrap();
    session.close().await;
    let statements = WalkStatements::new(&Obstacles {
        plan: &plan,
        keys: &found.facts.incoming,
        pairs: &found.pairs,
        rows: &found.key.unwrap(),
        held: &HeldColumns::default(),
    })
    .unwrap();
    let mut own = database.connect(false).await;

    for sql in [
        &statements.next.nth,
        &statements.next.count,
        &statements.next.delete.sql,
    ] {
        let explain = format!("EXPLAIN QUERY PLAN {}", sql.text());
        let rows = sqlx::query(sqlx::AssertSqlSafe(explain))
            .fetch_all(&mut own)
            .await
            .unwrap();
        let details: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        assert_eq!(details, [format!("SEARCH t {way}")], "{}", sql.text());
    }
    own.close().await.unwrap();
}
