//! What a ledger can do: the operator's own tables in the service's database, the same on every engine.
//!
//! The ledger keeps leases (who sweeps a table), claims (whose table it is), holds (which rows stay, whoever's rule it is), what
//! sweeps took, approvals, and a switch that pauses everything. Every write is a transaction of its own, except what a chunk
//! writes: that commits with the chunk's rows.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Cursor, EngineError, TableSweep};
use crate::policy::{
    claims::{Claimed, Living, Wanted},
    plan::RulePlan,
    usage,
};

/// Whether there is a ledger, and whether it can be used.
#[derive(Clone)]
pub enum LedgerAccess {
    /// None, or none that the policy wants to know of.
    Absent {
        /// Why one that was asked for could not be made: with what to run.
        note: Option<String>,
    },
    /// There is one, and it cannot be used. What it forbids is not known: nothing may be deleted.
    Unusable(String),
    /// There is one.
    Usable(Arc<dyn Ledger>),
}

/// A policy, as a ledger knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Party {
    /// `namespace/name`.
    pub policy: String,
    /// The cluster whose operator carries it out; `None`: an offline verb, or not known.
    pub cluster: Option<String>,
    /// Who sweeps. Whoever has the same name may take its own lease over at once; others wait until it has lapsed, or until
    /// its process is known to have ended ([`sweeper`](super::sweeper)).
    pub sweeper: String,
    /// Which policies of the cluster are there.
    pub living: Option<Living>,
}

/// A hold of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerHold {
    /// Its number in the ledger.
    pub id: i64,
    /// Whose it is, `namespace/name`.
    pub policy: String,
    /// Its name in that policy.
    pub name: String,
    /// The table, as a policy spells it.
    pub table: String,
    /// The condition, as the policy spells it; `None`: the whole table.
    pub predicate: Option<String>,
    /// Its policy has it no more: the rows stay until a sweep that was asked about it is approved.
    pub removed: bool,
    /// The policy that looks was asked about its removal.
    pub asked: bool,
}

/// A hold as a policy has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnHold {
    /// Its name.
    pub name: String,
    /// The table, as the policy spells it.
    pub table: String,
    /// The condition, as the policy spells it; `None`: the whole table.
    pub predicate: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// Sums over all sweeps of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerTotals {
    /// Rows deleted.
    pub rows_deleted: u64,
    /// Rows archived.
    pub rows_archived: u64,
}

/// What a ledger says to one policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LedgerView {
    /// Somebody paused all sweeps of the database, and why.
    pub paused: Option<String>,
    /// Changes with every change of a hold.
    pub revision: i64,
    /// Tables of all policies.
    pub claims: Vec<Claimed>,
    /// Holds of all policies.
    pub holds: Vec<LedgerHold>,
    /// Of the policy itself.
    pub totals: LedgerTotals,
    /// The policy's sweep that began last and has not ended.
    pub unfinished: Option<SweepRecord>,
}

/// What a policy enters into the ledger.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Who it is.
    pub party: &'a Party,
    /// The names of all its rules.
    pub rules: &'a [String],
    /// The tables of its rules, as far as they could be looked up.
    pub wanted: &'a [Wanted],
    /// Its holds; `None`: they could not be read, and the ledger keeps those that it has.
    pub holds: Option<&'a [OwnHold]>,
}

/// A sweep in the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepRecord {
    /// Its id.
    pub id: String,
    /// What set it off.
    pub trigger: String,
    /// A mark of the spec that it works by.
    pub spec: String,
    /// When it began (the sweeper's clock).
    pub started: Timestamp,
    /// The database's clock when its cutoffs were fixed.
    pub database_time: Option<Timestamp>,
    /// Its rules, as far as they have begun.
    pub rules: Vec<RuleRecord>,
}

/// A rule of a sweep in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRecord {
    /// The rule's name.
    pub rule: String,
    /// The table's number.
    pub table_id: u32,
    /// `schema.table`.
    pub table: String,
    /// The cutoff, as status spells it.
    pub cutoff: String,
    /// The table's rows when the sweep began.
    pub rows_at_start: Option<u64>,
    /// Rows that it takes in all, if they were counted.
    pub rows_total: Option<u64>,
    /// Rows that an approval allows.
    pub rows_approved: Option<u64>,
    /// Rows deleted: exactly those that were committed.
    pub rows_deleted: u64,
    /// Rows archived.
    pub rows_archived: u64,
    /// Its walk is over.
    pub done: bool,
}

/// The begin of a sweep, or of its next part.
#[derive(Clone, Debug)]
pub struct SweepBegin<'a> {
    /// The policy.
    pub party: &'a Party,
    /// The sweep; its rules are left alone.
    pub sweep: &'a SweepRecord,
    /// The plan that was approved, with its rules and the rows that each may take.
    pub approved: Option<(&'a str, &'a [(String, u64)])>,
}

/// The end of a sweep, or of a part of it.
#[derive(Clone, Debug, Default)]
pub struct SweepEnd<'a> {
    /// The sweep's id.
    pub id: &'a str,
    /// It is over; otherwise it goes on later.
    pub ended: bool,
    /// How it ended.
    pub outcome: &'a str,
    /// In a sentence.
    pub message: &'a str,
    /// Rules whose walk is over, with their tables.
    pub done: Vec<(String, u32)>,
    /// Rules whose approval knew nothing of what they are asked about now, with their tables.
    pub unapproved: Vec<(String, u32)>,
    /// Removed holds that nobody asks about any more: a sweep that was approved has gone over their rows.
    pub released: Vec<i64>,
    /// Removed holds that an approval is asked for.
    pub asked: Vec<i64>,
}

/// Under what a rule is swept.
#[derive(Clone, Debug)]
pub struct SweepEntry {
    /// The sweep's id.
    pub sweep_id: String,
    /// `namespace/name`.
    pub policy: String,
    /// Who sweeps; see [`Party::sweeper`].
    pub sweeper: String,
    /// The holds that the plan was made with: another revision ends the walk before its next chunk.
    pub revision: i64,
    /// Where the rule stands, for the case that the ledger does not know it yet.
    pub rule: RuleRecord,
}

/// What a ledger remembers over time, for audits.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// The use of tables and indexes; `None`: it keeps none.
    pub usage: Option<usage::Memory>,
    /// Since when the findings of the policy are there, by their ids.
    pub first_seen: HashMap<String, Timestamp>,
    /// The days of the policy, as far back as they are kept, in order.
    pub trend: Vec<TrendPoint>,
    /// The role may write it down.
    pub writable: bool,
    /// Why nothing is kept, and what to run.
    pub note: Option<String>,
}

/// What an audit adds to the memory.
#[derive(Clone, Debug)]
pub struct Remember {
    /// The policy, `namespace/name`.
    pub policy: String,
    /// When it saw it, by the database's clock.
    pub at: Timestamp,
    /// The use of tables and indexes; `None`: nothing new, or not yet.
    pub usage: Option<usage::Change>,
    /// Ids of all findings.
    pub findings: Vec<String>,
    /// The database as it is today.
    pub today: DayPoint,
}

/// A database on one day, as the audit of one policy saw it last on that day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayPoint {
    /// Bytes on disk.
    pub size_bytes: i64,
    /// Rows past their age, over all rules; `None`: not known.
    pub expired_rows: Option<i64>,
    /// Dead rows, over all rules; `None`: not known.
    pub dead_rows: Option<i64>,
    /// Findings that are not suppressed: critical ones, warnings, and the others.
    pub findings: [i64; 3],
}

/// A day that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrendPoint {
    /// When the day's last audit took it.
    pub taken: Timestamp,
    /// The database as it was.
    pub day: DayPoint,
}

/// A ledger that can be used.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// The role may write.
    ///
    /// # Errors
    /// It may only read: what to run.
    fn writable(&self) -> Result<(), String>;

    /// Reads what it says to a policy; writes nothing.
    async fn view(&self, policy: &str) -> Result<LedgerView, EngineError>;

    /// Enters claims and holds, and says what the ledger holds afterwards. Without a change nothing is written.
    ///
    /// # Errors
    /// [`EngineError::Permission`] where the role may only read.
    async fn enter(&self, entry: &Entry<'_>) -> Result<LedgerView, EngineError>;

    /// Enters the begin of a sweep, or that it goes on; what it has taken so far.
    async fn begin_sweep(&self, begin: &SweepBegin<'_>) -> Result<Vec<RuleRecord>, EngineError>;

    /// Begins, or goes on with, the walk of one rule under a lease: each chunk commits together with its count and only
    /// while the lease is held. What [`Engine::open_sweep`](super::Engine::open_sweep) says holds, too.
    ///
    /// # Errors
    /// [`EngineError::SweptElsewhere`] while another sweeper holds the lease.
    async fn open_sweep(
        &self,
        plan: &RulePlan,
        from: Option<Cursor>,
        entry: &SweepEntry,
    ) -> Result<Box<dyn TableSweep>, EngineError>;

    /// Enters the end of a sweep, or of a part of it.
    async fn end_sweep(&self, end: &SweepEnd<'_>) -> Result<(), EngineError>;

    /// Reads what it remembers over time. `create`: makes the tables for that where the role may, in a ledger that has none yet.
    async fn remembered(&self, policy: &str, create: bool) -> Result<Remembered, EngineError> {
        let _ = (policy, create);
        Ok(Remembered::default())
    }

    /// Writes down what an audit saw, and forgets what is too old. Without a change nothing is written.
    async fn remember(&self, remember: &Remember) -> Result<(), EngineError> {
        let _ = remember;
        Ok(())
    }
}
