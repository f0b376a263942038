//! What a database can do for a policy: the traits, and one folder per engine.
//!
//! Engines hold all SQL. They know nothing of Kubernetes and decide nothing: they are told a
//! [`RulePlan`] and a chunk's size, and report what was committed.

pub mod error;
pub mod postgres;
pub mod target;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::policy::{
    estimate::ColumnStatistics,
    pace::Pressure,
    plan::RulePlan,
    table::{TableFacts, TableName},
};

pub use error::EngineError;
pub use target::DatabaseTarget;

/// Facts about the database itself, read in one short read-only transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseFacts {
    /// `PostgreSQL`.
    pub engine: &'static str,
    /// As the server prints it, such as `15.18`.
    pub version: String,
    /// The database's name.
    pub name: String,
    /// Tells this database from every other: system identifier and database oid.
    pub identity: String,
    /// Bytes on disk.
    pub size_bytes: i64,
    /// User tables (partitions counted one by one).
    pub tables: i64,
    /// The database's clock.
    pub now: Timestamp,
    /// A standby: readable only.
    pub in_recovery: bool,
    /// What holds the audit's promise to change nothing: `ReadOnlyTransaction`, or `ReadOnlyRole`.
    pub read_only_by: &'static str,
}

/// What the statistics say about one table's use and its time column, without a scan.
#[derive(Clone, Debug, PartialEq)]
pub struct TableStatistics {
    /// One entry a leaf that has pages: its statistics of the time column, as far as the role may see them.
    pub leaves: Vec<LeafStatistics>,
    /// When the table was last read by anybody, where the server records it (PostgreSQL 16 and newer).
    pub last_read: Option<Timestamp>,
    /// Scans since the counters were last reset.
    pub scans: i64,
    /// Rows inserted, updated or deleted since the counters were last reset.
    pub writes: i64,
    /// Since when the counters count; `None`: unknown (also after a crash).
    pub counting_since: Option<Timestamp>,
    /// Dead rows not yet vacuumed, estimated.
    pub dead_rows: i64,
}

/// Statistics of one leaf.
#[derive(Clone, Debug, PartialEq)]
pub struct LeafStatistics {
    /// Estimated rows; `None`: never analysed.
    pub rows: Option<f64>,
    /// The time column's distribution; `None`: never analysed or hidden from the role.
    pub column: Option<ColumnStatistics>,
    /// When the statistics were taken.
    pub analyzed_at: Option<Timestamp>,
}

/// How much the next chunk may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkTarget {
    /// Pages to walk.
    pub pages: u32,
}

/// What a chunk has done in its still open transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Rows of the rule's own table deleted.
    pub rows: u64,
    /// Rows of those that were stored in the rule's archive.
    pub archived_rows: u64,
    /// Rows that went along with them, through foreign keys that cascade.
    pub cascaded_rows: u64,
    /// Pages walked.
    pub pages: u32,
    /// Expired rows left because somebody held their lock, or because a row that stays refers to them.
    pub blocked_rows: u64,
    /// Bytes of write-ahead log that the server wrote meanwhile, whoever caused them.
    pub wal_bytes: u64,
    /// Sessions that waited for a lock of the chunk when it was done.
    pub waiters: u32,
}

impl Chunk {
    /// All rows that it takes: what counts against limits and is reported.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.rows.saturating_add(self.cascaded_rows)
    }
}

/// What became of a chunk's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// Its rows are gone.
    Committed,
    /// Its rows are still there; the same range is taken again by the next `delete_next`.
    RolledBack,
}

/// Where a walk stands, so that a new connection can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The leaf being walked: its [`LeafFacts::id`](crate::policy::table::LeafFacts::id). Leaves are walked in the order of their ids.
    pub leaf: u32,
    /// Its physical file: a rewritten table is walked anew.
    pub filenode: u32,
    /// The next block to take.
    pub next_block: u64,
    /// Blocks that the leaf had when its walk began; 0: not begun.
    pub end_block: u64,
    /// The second, shorter pass over blocks that appeared since then.
    pub last_pass: bool,
}

/// A database as the operator and the offline verbs see it. One engine speaks to one database.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Facts about the database itself.
    async fn facts(&self) -> Result<DatabaseFacts, EngineError>;

    /// Looks tables up in the catalog, in the given order; `None`: there is no such relation.
    async fn tables(&self, names: &[TableName]) -> Result<Vec<Option<TableFacts>>, EngineError>;

    /// Reads what the statistics know of a table and its time column. Touches no row and moves no scan counter of the table.
    async fn statistics(
        &self,
        table: &TableFacts,
        column: &str,
    ) -> Result<TableStatistics, EngineError>;

    /// Counts a table's rows exactly (reads the table; for sweeps and plans only).
    async fn count_rows(&self, table: &TableFacts) -> Result<u64, EngineError>;

    /// Counts the rows that a plan would take exactly (reads the table; for sweeps and plans only).
    async fn count_expired(&self, plan: &RulePlan) -> Result<u64, EngineError>;

    /// Counts the rows that a plan would still take after `deleted` of them were deleted: the proof of a sweep. The entries
    /// of the deleted rows are still in every index, so that the way to read may be another than before.
    async fn count_left(&self, plan: &RulePlan, deleted: u64) -> Result<u64, EngineError>;

    /// Counts the rows that would go along with those that a plan takes, through foreign keys that cascade (reads the tables; for
    /// sweeps and plans only). Rows that a circle of keys reaches are left out; rows whose parents have to stay are not.
    async fn count_along(&self, plan: &RulePlan) -> Result<u64, EngineError> {
        let _ = plan;
        Ok(0)
    }

    /// Lets the database check the types of a plan's `where` and holds, without running or planning anything.
    ///
    /// # Errors
    /// [`EngineError::Predicate`], in words for the policy's author.
    async fn check_plan(&self, plan: &RulePlan) -> Result<(), EngineError>;

    /// Looks whether the table into which a plan archives can take its rows: `None`. `Some`: it is not there, and this is how a
    /// sweep creates it. Changes nothing.
    ///
    /// # Errors
    /// [`EngineError::Archive`] says what to change about the table, [`EngineError::Permission`] what to grant.
    async fn check_archive(&self, plan: &RulePlan) -> Result<Option<String>, EngineError> {
        let _ = plan;
        Err(EngineError::NotSupported(
            "this engine cannot archive into a table: write action: Delete".to_owned(),
        ))
    }

    /// Begins, or goes on with, the walk of one rule. Makes the archive table where it is missing. Looks at the catalog again: what the plan says of the table must still hold.
    async fn open_sweep(
        &self,
        plan: &RulePlan,
        from: Option<Cursor>,
    ) -> Result<Box<dyn TableSweep>, EngineError>;

    /// Closes every connection; used at the end so that no session lingers.
    async fn close(&self);
}

/// One rule's walk over its table. Owns its connection.
#[async_trait]
pub trait TableSweep: Send {
    /// Deletes expired rows in the next range; the transaction stays open until [`commit`](Self::commit) or
    /// [`rollback`](Self::rollback). `None`: the walk is over.
    async fn delete_next(&mut self, target: ChunkTarget) -> Result<Option<Chunk>, EngineError>;

    /// Commits the open chunk. An unknown outcome is resolved by asking the server on a new connection.
    async fn commit(&mut self) -> Result<CommitOutcome, EngineError>;

    /// Rolls the open chunk back; its range is taken again by the next `delete_next`.
    async fn rollback(&mut self) -> Result<(), EngineError>;

    /// Where the walk stands after the last commit.
    fn cursor(&self) -> Option<Cursor>;

    /// What the database says of itself between two chunks, over the sweep's own session.
    async fn pressure(&mut self) -> Result<Pressure, EngineError>;

    /// Pages walked and pages to walk in all, for progress.
    fn progress(&self) -> (u64, u64);

    /// Ends the session.
    async fn close(self: Box<Self>);
}
