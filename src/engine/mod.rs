//! What a database can do for a policy: the traits, and one folder per engine.
//!
//! Engines hold all SQL. They know nothing of Kubernetes and decide nothing: they are told a
//! [`RulePlan`] and a chunk's size, and report what was committed.

pub mod cursor;
pub mod error;
pub mod ledger;
pub mod open;
pub mod postgres;
pub mod sqlite;
pub mod sweeper;
pub mod target;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::policy::{
    claims::LedgerMode,
    estimate::ColumnStatistics,
    hygiene,
    pace::Pressure,
    plan::RulePlan,
    side_effects::{Enabled, Event, SideEffects, Trigger},
    table::{TableFacts, TableName},
    usage::{LogQuery, Logged, LookedUp},
};

pub use cursor::Cursor;
pub use error::EngineError;
use ledger::LedgerAccess;
pub use open::open;
pub use target::DatabaseTarget;

/// Facts about the database itself, read in one short read-only transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseFacts {
    /// `PostgreSQL` or `SQLite`.
    pub engine: &'static str,
    /// As the server prints it, such as `15.18`.
    pub version: String,
    /// The database's name.
    pub name: String,
    /// Tells this database from every other: system identifier and database oid; device and inode of a file.
    pub identity: String,
    /// Bytes on disk; of a database with more than 10,000 relations as its catalog remembers them.
    pub size_bytes: i64,
    /// User tables (partitions counted one by one).
    pub tables: i64,
    /// The database's clock.
    pub now: Timestamp,
    /// A standby: readable only.
    pub in_recovery: bool,
    /// What holds the audit's promise to change nothing: `ReadOnlyTransaction`, `ReadOnlyRole`, or `ReadOnlyConnection`.
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

/// What a count of a plan's table found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Rows that the plan would take.
    pub expired: u64,
    /// Rows of the rule's `where`, held ones too, whose value is not of the column's encoding: they never expire. `None`: the
    /// column is of a time type. With them those of `undecided`.
    pub unreadable: Option<u64>,
    /// Rows past the cutoff that stay because nobody knows whether they are of the rule's `where`, or held: a value of theirs is not of
    /// the type that the condition asks for (SQLite).
    pub undecided: u64,
    /// Those of `expired` that are in parts of the table which the plan does not know: they were attached since.
    pub attached: u64,
}

impl Counted {
    /// Adds what was counted in another part of the table.
    pub fn add(&mut self, other: Self) {
        self.expired += other.expired;
        self.attached += other.attached;
        self.undecided += other.undecided;
        self.unreadable = match (self.unreadable, other.unreadable) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
    }
}

/// How much the next chunk may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkTarget {
    /// Pages to walk.
    pub pages: u32,
    /// Expired rows to take at most, where even one page of them would take too long; `None`: all of the pages. An engine whose pages are
    /// no larger than it likes may take no notice.
    pub rows: Option<u32>,
}

impl ChunkTarget {
    /// So many pages, whole.
    #[must_use]
    pub const fn pages(pages: u32) -> Self {
        Self { pages, rows: None }
    }
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
    /// Pages walked to their end.
    pub pages: u32,
    /// Expired rows left because somebody held their lock, because a row that stays refers to them, or because one took too long.
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

/// What an engine calls a page where it walks a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkPage {
    /// Bytes, where all pages have the same.
    pub bytes: Option<u64>,
    /// Rows of a full page, where that is fixed.
    pub rows: Option<u32>,
}

/// A database as the operator and the offline verbs see it. One engine speaks to one database.
#[async_trait]
pub trait Engine: Send + Sync {
    /// What a page is in the walks of this engine.
    fn walk_page(&self) -> WalkPage {
        WalkPage::default()
    }

    /// Facts about the database itself.
    async fn facts(&self) -> Result<DatabaseFacts, EngineError>;

    /// Looks tables up in the catalog, in the given order; `None`: there is no such relation.
    async fn tables(&self, names: &[TableName]) -> Result<Vec<Option<TableFacts>>, EngineError>;

    /// Reads what the statistics know of a plan's table and its time column. Touches no row and moves no scan counter of the table.
    async fn statistics(&self, plan: &RulePlan) -> Result<TableStatistics, EngineError>;

    /// Reads what the checks of the whole database look at: catalogs and statistics only. Touches no row and moves no scan
    /// counter of any table of users.
    async fn hygiene(&self) -> Result<hygiene::Facts, EngineError> {
        Ok(hygiene::Facts::default())
    }

    /// Adds the statements that make the indexes of which advice will speak ([`hygiene::indexes::to_define`]), as far as they are not
    /// there yet: which indexes nobody uses is known only once their use has been judged.
    async fn define_indexes(&self, facts: &mut hygiene::Facts) -> Result<(), EngineError> {
        let _ = facts;
        Ok(())
    }

    /// Looks for the last use of a thing in a usage log: by an index, in a bounded number of its newest entries, of the last `days`.
    async fn last_logged(&self, query: &LogQuery, days: u32) -> Result<Logged, EngineError> {
        let _ = (query, days);
        Ok(Logged::Unreadable(
            "this engine cannot read one: remove usage".to_owned(),
        ))
    }

    /// Looks up in how many of the statements that the server remembers the names of tables stand; no text of a statement leaves
    /// the server. As many of the first ones as can be had cheaply.
    async fn statements_naming(&self, tables: &[(u32, String)]) -> Result<LookedUp, EngineError> {
        let _ = tables;
        Ok(LookedUp::Absent)
    }

    /// Counts a table's rows exactly (reads the table; for sweeps and plans only).
    async fn count_rows(&self, table: &TableFacts) -> Result<u64, EngineError>;

    /// Counts the rows that a plan would take exactly (reads the table; for sweeps and plans only).
    async fn count_expired(&self, plan: &RulePlan) -> Result<Counted, EngineError>;

    /// Counts the rows that a plan would still take after `deleted` of them were deleted: the proof of a sweep. The entries
    /// of the deleted rows are still in every index, so that the way to read may be another than before. Parts that were
    /// attached since are counted too.
    ///
    /// # Errors
    /// Also when the table is not the planned one any more, or rows of it are hidden from the role: then nothing is proven.
    async fn count_left(&self, plan: &RulePlan, deleted: u64) -> Result<Counted, EngineError>;

    /// Whether any value of a plan's encoded column means `from` or a later time, in whatever row (reads the table until one is
    /// found; for sweeps and plans only).
    async fn has_times_from(&self, plan: &RulePlan, from: Timestamp) -> Result<bool, EngineError>;

    /// Counts the rows that would go along with those that a plan takes, through foreign keys that cascade (reads the tables; for
    /// sweeps and plans only). Rows that a circle of keys reaches are left out; rows whose parents have to stay are not.
    async fn count_along(&self, plan: &RulePlan) -> Result<u64, EngineError> {
        let _ = plan;
        Ok(0)
    }

    /// Counts the rows that a plan with [`Dependents::Skip`](crate::policy::dependents::Dependents::Skip) takes: expired, and no row of another
    /// table refers to them (reads the tables; for sweeps and plans only). `None`: that is not known, or takes too long.
    async fn count_free(&self, plan: &RulePlan) -> Result<Option<u64>, EngineError> {
        let _ = plan;
        Ok(None)
    }

    /// Lets the database check the types of a plan's `where` and holds, without running or planning anything.
    ///
    /// # Errors
    /// [`EngineError::Predicate`], in words for the policy's author.
    async fn check_plan(&self, plan: &RulePlan) -> Result<(), EngineError>;

    /// What the deletes of a plan set off beside themselves. Reads catalogs only.
    async fn side_effects(&self, plan: &RulePlan) -> Result<SideEffects, EngineError> {
        let triggers = plan.table.delete_triggers.iter().map(|name| Trigger {
            table: plan.table.qualified(),
            name: name.clone(),
            function: None,
            event: Event::Delete,
            each_row: true,
            before: false,
            conditional: false,
            enabled: Enabled::Origin,
        });
        Ok(SideEffects {
            triggers: triggers.collect(),
            ..SideEffects::default()
        })
    }

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

    /// Nothing is swept without a ledger.
    fn needs_ledger(&self) -> bool {
        false
    }

    /// Looks for the database's ledger as `mode` says, and makes it where `create` and the role allow.
    async fn ledger(&self, mode: LedgerMode, create: bool) -> Result<LedgerAccess, EngineError> {
        let _ = (mode, create);
        Ok(LedgerAccess::Absent { note: None })
    }

    /// Closes every connection; used at the end so that no session lingers.
    async fn close(&self);
}

/// One rule's walk over its table. Owns its connection.
#[async_trait]
pub trait TableSweep: Send {
    /// Deletes expired rows in the next range; the transaction stays open until [`commit`](Self::commit) or
    /// [`rollback`](Self::rollback). `None`: the walk is over.
    async fn delete_next(&mut self, target: ChunkTarget) -> Result<Option<Chunk>, EngineError>;

    /// Walks past the next expired row, whose delete takes longer than it may: a chunk that holds nothing but one blocked row, and is
    /// committed like any other. `None`: the walk is over, or knows no single rows.
    async fn leave_next(&mut self) -> Result<Option<Chunk>, EngineError> {
        Ok(None)
    }

    /// Commits the open chunk. An unknown outcome is resolved by asking the server on a new connection.
    async fn commit(&mut self) -> Result<CommitOutcome, EngineError>;

    /// Rolls the open chunk back; its range is taken again by the next `delete_next`.
    async fn rollback(&mut self) -> Result<(), EngineError>;

    /// Where the walk stands after the last commit.
    fn cursor(&self) -> Option<Cursor>;

    /// Rows that the ledger had of this rule when the walk began: from there on each chunk counts itself in its own
    /// transaction. `None`: no ledger, and the caller keeps the count.
    fn recorded(&self) -> Option<u64> {
        None
    }

    /// What the database says of itself between two chunks, over the sweep's own session.
    async fn pressure(&mut self) -> Result<Pressure, EngineError>;

    /// Pages walked and pages to walk in all, for progress.
    fn progress(&self) -> (u64, u64);

    /// Ends the session.
    async fn close(self: Box<Self>);
}
