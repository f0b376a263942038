//! Tables with expired rows, and what a plain DELETE would leave of them.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::postgres::TestDatabase;
use crate::support::process::unique;

/// Creates a table of `rows` rows with a time each, of which 42 % are older than 30 days, in no order. It takes nine tenths of
/// the time between two rows until the next one expires.
pub async fn fill(database: &TestDatabase, table: &str, rows: i64) {
    database
        .execute(&format!(
            "CREATE TABLE {table} (id bigint PRIMARY KEY, at timestamptz, note text);
             INSERT INTO {table} SELECT n, now() - interval '30 days' * (n - 0.9) / ({rows} * 0.58), 'a note of row ' || n
             FROM generate_series(1, {rows}) AS n ORDER BY random();
             ANALYZE {table}"
        ))
        .await;
}

/// Expired rows of the table `logs` that a hold with `id % 10 = 3` keeps; there are some.
pub async fn held_logs(database: &TestDatabase) -> i64 {
    let held = database
        .scalar("SELECT count(*) FROM logs WHERE id % 10 = 3 AND at < now() - interval '30 days'")
        .await;
    assert!(held > 50, "{held}");
    held
}

/// Deletes what is older than 30 days.
pub fn rule(name: &str, table: &str) -> Value {
    json!({"name": name, "table": table, "column": "at", "expireAfter": "30d", "action": "Delete"})
}

/// A pace at which a sweep can be watched.
pub fn slow(rows_per_second: u32) -> Value {
    json!({"maxRowsPerSecond": rows_per_second, "chunkDuration": "1ms", "maxDuty": 100})
}

/// A copy of a table, for a DELETE to compare a sweep with.
pub struct Reference {
    database: TestDatabase,
    table: String,
    copy: String,
}

impl Reference {
    /// Copies a table.
    pub async fn of(database: &TestDatabase, table: &str) -> Self {
        let copy = unique("reference", '_');
        database
            .execute(&format!("CREATE TABLE {copy} AS TABLE {table}"))
            .await;
        Self {
            database: database.clone(),
            table: table.to_owned(),
            copy,
        }
    }

    /// One DELETE on the copy; returns its number of rows.
    pub async fn delete(&self, predicate: &str) -> i64 {
        let sql = format!("DELETE FROM {} WHERE {predicate}", self.copy);
        let mut session = self.database.connect().await;
        let done = sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut session)
            .await;
        done.unwrap().rows_affected().try_into().unwrap()
    }

    /// Asserts that table and copy hold the same rows.
    pub async fn assert_equal(&self) {
        let (table, copy) = (&self.table, &self.copy);
        let differing = format!(
            "SELECT count(*) FROM ((TABLE {table} EXCEPT ALL TABLE {copy}) UNION ALL (TABLE {copy} EXCEPT ALL TABLE {table})) AS d"
        );
        let differing: i64 = self.database.scalar(&differing).await;
        assert_eq!(differing, 0, "rows differ in {table}");
    }
}
