//! The SQLite engine on real files: what it reads, what it deletes, and what it leaves alone.

mod archive_table;
mod catalog;
mod concurrent;
mod dependents;
mod keys;
mod kills;
mod ledger;
mod ledger_versions;
mod offline;
mod offline_ledger;
mod random;
mod sweep;
mod unfit;
mod usage_log;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use retention_operator::engine::ledger::{Ledger, LedgerAccess, RuleRecord, SweepEntry};
use retention_operator::engine::sqlite::SqliteEngine;
use retention_operator::engine::{
    ChunkTarget, CommitOutcome, Cursor, DatabaseTarget, Engine, EngineError, TableSweep,
};
use retention_operator::policy::claims::LedgerMode;
use retention_operator::policy::cutoff::Cutoff;
use retention_operator::policy::encoding::Encoding;
use retention_operator::policy::limits::Limits;
use retention_operator::policy::plan::RulePlan;
use retention_operator::policy::table::{TableFacts, TableName};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Row};

/// In seconds since 1970 it is 1,704,067,200.
const CUTOFF: &str = "2024-01-01T00:00:00Z";

/// A file in a folder of its own, gone at the end.
pub struct Database {
    folder: tempfile::TempDir,
    pub path: PathBuf,
}

impl Database {
    pub async fn new(setup: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let database = Self { folder, path };
        database.execute(setup).await;
        database
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self) -> String {
        format!("sqlite://{}", self.path.display())
    }

    /// A connection as a service has it: without foreign keys, as SQLite's default is.
    pub async fn connect(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(true)
            .foreign_keys(false)
            .busy_timeout(Duration::from_millis(0));
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    pub async fn execute(&self, sql: &str) {
        let mut own = self.connect().await;
        execute(&mut own, sql).await;
        own.close().await.unwrap();
    }

    pub async fn rows(&self, sql: &str) -> Vec<SqliteRow> {
        let mut own = self.connect().await;
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut own)
            .await
            .unwrap();
        own.close().await.unwrap();
        rows
    }

    pub async fn scalar(&self, sql: &str) -> i64 {
        self.rows(sql).await.first().unwrap().get(0)
    }

    pub async fn ids(&self, sql: &str) -> Vec<i64> {
        self.rows(sql).await.iter().map(|row| row.get(0)).collect()
    }

    pub async fn texts(&self, sql: &str) -> Vec<String> {
        self.rows(sql).await.iter().map(|row| row.get(0)).collect()
    }

    pub fn engine(&self) -> SqliteEngine {
        SqliteEngine::new(target(&self.url())).unwrap()
    }

    /// A plan that takes what is older than [`CUTOFF`] in the seconds of column `at`.
    pub async fn plan(&self, table: &str) -> RulePlan {
        plan_of(facts(&self.engine(), table).await)
    }

    /// Sweeps in chunks of one page; rows deleted and chunks.
    pub async fn sweep(&self, plan: &RulePlan) -> Result<(u64, u64), EngineError> {
        let mut sweep = open(&self.engine(), plan, None).await?;
        let swept = finish(&mut *sweep).await;
        sweep.close().await;
        swept
    }

    /// Whether the indexes agree with the tables.
    pub async fn assert_sound(&self) {
        assert_eq!(self.texts("PRAGMA integrity_check").await, ["ok"]);
    }
}

pub async fn execute(own: &mut SqliteConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(own)
        .await
        .unwrap();
}

pub fn target(url: &str) -> DatabaseTarget {
    DatabaseTarget {
        url: url.to_owned().into(),
        tls_mode: None,
        tls_ca_pem: None,
        application_name: "retention-operator/test/sqlite".to_owned(),
        lock_timeout: Duration::from_millis(100),
        statement_timeout: Duration::from_secs(30),
        max_connections: 2,
        allow_local_files: true,
    }
}

/// The ledger, which is made where there is none.
pub async fn usable(engine: &SqliteEngine) -> Arc<dyn Ledger> {
    match engine.ledger(LedgerMode::Auto, true).await.unwrap() {
        LedgerAccess::Usable(ledger) => ledger,
        LedgerAccess::Unusable(why) => panic!("{why}"),
        LedgerAccess::Absent { note } => panic!("{note:?}"),
    }
}

/// Begins a sweep of `sweeper`, or goes on with it.
pub async fn open_as(
    ledger: &dyn Ledger,
    plan: &RulePlan,
    from: Option<Cursor>,
    sweeper: &str,
) -> Result<Box<dyn TableSweep>, EngineError> {
    let entry = SweepEntry {
        sweep_id: "s1".to_owned(),
        policy: "shop/logs".to_owned(),
        sweeper: sweeper.to_owned(),
        revision: 0,
        rule: RuleRecord {
            rule: plan.rule.clone(),
            table_id: plan.table.id,
            table: plan.table.qualified(),
            cutoff: plan.cutoff.to_string(),
            rows_at_start: Some(10),
            rows_total: None,
            rows_approved: None,
            rows_deleted: 0,
            rows_archived: 0,
            done: false,
        },
    };
    ledger.open_sweep(plan, from, &entry).await
}

/// The same for the one that all tests are which need no other.
pub async fn open(
    engine: &SqliteEngine,
    plan: &RulePlan,
    from: Option<Cursor>,
) -> Result<Box<dyn TableSweep>, EngineError> {
    open_as(usable(engine).await.as_ref(), plan, from, "test").await
}

pub async fn facts(engine: &SqliteEngine, table: &str) -> TableFacts {
    let name: TableName = table.parse().unwrap();
    engine.tables(&[name]).await.unwrap().remove(0).unwrap()
}

pub fn plan_of(table: TableFacts) -> RulePlan {
    let cutoff = Cutoff::Instant(CUTOFF.parse().unwrap());
    RulePlan {
        rule: "test".to_owned(),
        table,
        column: "at".to_owned(),
        encoding: Some(Encoding::EpochSeconds),
        column_zone: jiff::tz::TimeZone::UTC,
        cutoff,
        overdue: cutoff,
        filter: None,
        holds: Vec::new(),
        held_by: None,
        archive: None,
        dependents: retention_operator::policy::dependents::Dependents::default(),
        held_tables: Vec::new(),
        limits: Limits::default(),
    }
}

/// Walks on to the end: rows deleted and chunks.
pub async fn finish(sweep: &mut dyn TableSweep) -> Result<(u64, u64), EngineError> {
    let (mut rows, mut chunks) = (0, 0);
    while let Some(chunk) = sweep.delete_next(ChunkTarget::pages(1)).await? {
        assert_eq!(sweep.commit().await?, CommitOutcome::Committed);
        rows += chunk.rows;
        chunks += 1;
    }
    Ok((rows, chunks))
}

/// `rows` rows, every second one from 1970, the others from 2025.
pub fn filled(table: &str, rows: u32) -> String {
    format!(
        "CREATE TABLE {table} (id INTEGER PRIMARY KEY, at INTEGER, pad TEXT);
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rows})
         INSERT INTO {table} SELECT n, CASE n % 2 WHEN 0 THEN 1000 + n ELSE 1750000000 + n END, 'x' FROM n;"
    )
}
