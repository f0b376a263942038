//! What the conditions mean, asked of SQLite itself.

mod doubts;
mod expiry;
mod plans;
mod predicate;

use std::time::Duration;

use sqlx::{
    Connection, Row,
    sqlite::{SqliteConnectOptions, SqliteConnection},
};

use super::SqliteEngine;
use crate::{
    engine::{
        DatabaseTarget, Engine, EngineError,
        ledger::{LedgerAccess, RuleRecord, SweepEntry},
    },
    policy::{
        claims::LedgerMode, cutoff::Cutoff, encoding::Encoding, limits::Limits, plan::RulePlan,
        predicate::Predicate, table::TableName,
    },
};

/// A database file of a test's own.
struct Database {
    folder: tempfile::TempDir,
    engine: SqliteEngine,
}

impl Database {
    async fn new(setup: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let engine = SqliteEngine::new(DatabaseTarget {
            url: format!("sqlite://{}", path.display()).into(),
            tls_mode: None,
            tls_ca_pem: None,
            application_name: "retention-operator/test/sqlite".to_owned(),
            lock_timeout: Duration::from_millis(100),
            statement_timeout: Duration::from_secs(30),
            max_connections: 2,
            allow_local_files: true,
        })
        .unwrap();
        let database = Self { folder, engine };
        let mut own = database.connect(true).await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(setup.to_owned()))
            .execute(&mut own)
            .await
            .unwrap();
        own.close().await.unwrap();
        database
    }

    async fn connect(&self, create: bool) -> SqliteConnection {
        let options = SqliteConnectOptions::new()
            .filename(self.folder.path().join("test.db"))
            .create_if_missing(create);
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    async fn ids(&self, sql: &str) -> Vec<i64> {
        let mut own = self.connect(false).await;
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut own)
            .await
            .unwrap();
        own.close().await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn plan(&self, table: &str, column: &str, encoding: Encoding, cutoff: &str) -> RulePlan {
        let name: TableName = table.parse().unwrap();
        let table = self
            .engine
            .tables(&[name])
            .await
            .unwrap()
            .remove(0)
            .unwrap();
        let cutoff = Cutoff::Instant(cutoff.parse().unwrap());
        RulePlan {
            rule: "test".to_owned(),
            table,
            column: column.to_owned(),
            encoding: Some(encoding),
            column_zone: jiff::tz::TimeZone::UTC,
            cutoff,
            overdue: cutoff,
            filter: None,
            holds: Vec::new(),
            held_by: None,
            archive: None,
            dependents: crate::policy::dependents::Dependents::default(),
            held_tables: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// Deletes what the plan takes.
    async fn sweep(&self, plan: &RulePlan) -> Result<u64, EngineError> {
        let LedgerAccess::Usable(ledger) = self.engine.ledger(LedgerMode::Auto, true).await? else {
            panic!("no ledger");
        };
        let entry = SweepEntry {
            sweep_id: "s1".to_owned(),
            policy: "shop/logs".to_owned(),
            sweeper: "test".to_owned(),
            revision: 0,
            rule: RuleRecord {
                rule: plan.rule.clone(),
                table_id: plan.table.id,
                table: plan.table.qualified(),
                cutoff: plan.cutoff.to_string(),
                rows_at_start: None,
                rows_total: None,
                rows_approved: None,
                rows_deleted: 0,
                rows_archived: 0,
                done: false,
            },
        };
        let mut sweep = ledger.open_sweep(plan, None, &entry).await?;
        let mut rows = 0;
        while let Some(chunk) = sweep
            .delete_next(crate::engine::ChunkTarget::pages(1))
            .await?
        {
            sweep.commit().await?;
            rows += chunk.rows;
        }
        sweep.close().await;
        Ok(rows)
    }
}

fn filter(text: &str) -> Predicate {
    Predicate::parse(text).unwrap()
}
