//! The PostgreSQL engine against real servers: what it reads, what it deletes, and what it leaves alone.

mod archive_table;
mod archive_table_meanwhile;
mod archive_table_spoiled;
mod blocked;
mod catalog;
mod crash;
mod dependents;
mod dependents_beyond;
mod dependents_keys;
mod dependents_meanwhile;
mod dependents_shapes;
mod dependents_unseen;
mod encoding;
mod encoding_values;
mod failover;
mod faults;
mod lagging;
mod ledger;
mod ledger_book;
mod ledger_lease;
mod ledger_made;
mod ledger_versions;
mod pressure;
mod proof;
mod refusals;
mod relay;
mod resumed;
mod seen;
mod slow;
mod sweep;
mod timeouts;

use std::time::Duration;

use retention_operator::engine::postgres::PostgresEngine;
use retention_operator::engine::{
    Chunk, ChunkTarget, CommitOutcome, DatabaseTarget, Engine, EngineError, TableSweep,
};
use retention_operator::policy::cutoff::Cutoff;
use retention_operator::policy::dependents::Dependents;
use retention_operator::policy::limits::Limits;
use retention_operator::policy::plan::RulePlan;
use retention_operator::policy::table::{TableFacts, TableName};

/// Half of every table that the tests make is older than this.
const CUTOFF: &str = "2024-01-01T00:00:00Z";

fn target(url: &str) -> DatabaseTarget {
    DatabaseTarget {
        url: url.to_owned().into(),
        tls_mode: None,
        tls_ca_pem: None,
        application_name: "retention-operator/test/engine".to_owned(),
        lock_timeout: Duration::from_millis(100),
        statement_timeout: Duration::from_secs(30),
        max_connections: 2,
        allow_local_files: false,
    }
}

fn engine(url: &str) -> PostgresEngine {
    PostgresEngine::new(target(url)).unwrap()
}

async fn facts(engine: &PostgresEngine, schema: &str, name: &str) -> TableFacts {
    let name = TableName {
        schema: Some(schema.to_owned()),
        name: name.to_owned(),
    };
    engine.tables(&[name]).await.unwrap().remove(0).unwrap()
}

/// A plan that takes what is older than [`CUTOFF`], the column being a `timestamptz`.
async fn plan(engine: &PostgresEngine, table: &str, column: &str) -> RulePlan {
    let cutoff = Cutoff::Instant(CUTOFF.parse().unwrap());
    plan_of(facts(engine, "public", table).await, column, cutoff)
}

fn plan_of(table: TableFacts, column: &str, cutoff: Cutoff) -> RulePlan {
    RulePlan {
        rule: "test".to_owned(),
        table,
        column: column.to_owned(),
        encoding: None,
        column_zone: jiff::tz::TimeZone::UTC,
        cutoff,
        overdue: cutoff,
        filter: None,
        holds: Vec::new(),
        held_by: None,
        limits: Limits::default(),
        dependents: Dependents::default(),
        held_tables: Vec::new(),
        archive: None,
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Swept {
    rows: u64,
    archived: u64,
    cascaded: u64,
    blocked: u64,
    chunks: u64,
}

impl Swept {
    fn add(&mut self, chunk: Chunk) {
        self.rows += chunk.rows;
        self.archived += chunk.archived_rows;
        self.cascaded += chunk.cascaded_rows;
        self.blocked += chunk.blocked_rows;
        self.chunks += 1;
    }
}

/// Walks on to the end in chunks of `pages`.
async fn finish(sweep: &mut dyn TableSweep, pages: u32) -> Result<Swept, EngineError> {
    let mut swept = Swept::default();
    while let Some(chunk) = sweep.delete_next(ChunkTarget::pages(pages)).await? {
        assert_eq!(sweep.commit().await?, CommitOutcome::Committed);
        swept.add(chunk);
    }
    Ok(swept)
}

async fn run(engine: &PostgresEngine, plan: &RulePlan, pages: u32) -> Result<Swept, EngineError> {
    let mut sweep = engine.open_sweep(plan, None).await?;
    let swept = finish(&mut *sweep, pages).await;
    sweep.close().await;
    swept
}

/// `rows` rows, every second one from 2023, the others from 2025.
fn filled(table: &str, rows: u32) -> String {
    format!(
        "CREATE TABLE {table} (id bigint, at timestamptz, pad text);
         INSERT INTO {table} SELECT n, CASE n % 2 WHEN 0 THEN '2023-06-01' ELSE '2025-06-01' END::timestamptz, repeat('x', 100)
           FROM generate_series(1, {rows}) n;"
    )
}
