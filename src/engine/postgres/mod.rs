//! PostgreSQL 14 and newer, directly or through a connection pooler in transaction mode.
//!
//! Everything happens in explicit transactions whose settings are `SET LOCAL` and arrive in the same message as `BEGIN`; no
//! statement is a named one, and no lock outlives its transaction. So a pooler may hand each transaction to another session.

mod archive_facts;
mod archive_table;
mod audit;
mod careful;
mod catalog;
mod catalog_sql;
mod chunk;
mod connect;
mod count;
mod dependents;
mod error;
mod expiry;
mod grants;
mod hygiene;
mod keys;
mod ledger;
mod obstacles;
mod opening;
mod outcome;
mod own_use;
mod parting;
mod predicate;
mod pressure;
mod reach;
mod session;
mod side_effects;
mod sql;
mod standby;
mod statements;
mod sweep;
mod url;
mod usage_log;
mod value;
mod walk;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::Row;

pub use self::grants::{
    GrantRequest, GrantedTable, Revokes, Rights, grants, reads_all_stats, revokes,
};
use self::{
    connect::Connector,
    count::{Counting, What},
    error::Doing,
    obstacles::Obstacles,
    own_use::Watch,
    session::{Session, Sessions},
    sql::Begin,
    sweep::Sweep,
    value::BoundCutoff,
};
use super::{
    Counted, Cursor, DatabaseFacts, DatabaseTarget, Engine, EngineError, TableStatistics,
    TableSweep, WalkPage, ledger::LedgerAccess,
};
use crate::policy::{
    claims::LedgerMode,
    cutoff::Cutoff,
    dependents::{Dependents, reached},
    hygiene::{Facts, indexes::to_define},
    plan::RulePlan,
    predicate::Predicate,
    side_effects::SideEffects,
    table::{LeafFacts, TableFacts, TableName},
    usage::{LogQuery, Logged, LookedUp},
};

/// Catalog reads may meet somebody's DDL; they wait longer than a chunk may.
const CATALOG_LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Counting reads a whole table, which the statement timeout of short work does not allow for.
const COUNT_TIMEOUT: Duration = Duration::from_mins(10);
/// Bytes of a block in every build that is shipped.
const BLOCK: u64 = 8192;
/// Reading a page from end to end costs about as much as following this many dead index entries.
const DEAD_ENTRIES_PER_PAGE: u64 = 8;
/// From this correlation on, rows lie in the order of their times.
const SIDE_BY_SIDE: f64 = 0.95;
const OWN_COUNTS: &str = "reading the session's own counters";
const READ_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A predicate as SQL, as every statement holds it: for whoever wants to judge it, tests and fuzzers above all.
///
/// # Errors
/// [`EngineError::Predicate`] for what a statement cannot hold, such as a NUL.
pub fn print_predicate(predicate: &Predicate) -> Result<String, EngineError> {
    predicate::print(predicate)
}

/// One PostgreSQL database.
#[derive(Debug)]
pub struct PostgresEngine {
    sessions: Arc<Sessions>,
    settings: Settings,
}

/// What all transactions have in common.
#[derive(Clone, Debug)]
struct Settings {
    application_name: String,
    lock_timeout: Duration,
    statement_timeout: Duration,
    /// For counting a table in one statement.
    count_timeout: Duration,
}

impl Settings {
    fn read(&self) -> Begin {
        Begin {
            read_only: true,
            one_snapshot: false,
            sequential: false,
            sees_all: false,
            lock_timeout: CATALOG_LOCK_TIMEOUT,
            statement_timeout: self.statement_timeout,
            idle_timeout: READ_IDLE_TIMEOUT,
            application_name: self.application_name.clone(),
        }
    }
}

impl PostgresEngine {
    /// Reads the target; opens no connection yet.
    ///
    /// # Errors
    /// [`EngineError::Target`] when the URL cannot be used; the message says what to write and shows no secret.
    pub fn new(target: DatabaseTarget) -> Result<Self, EngineError> {
        let connector = Connector::new(&target)?;
        Ok(Self {
            sessions: Arc::new(Sessions::new(connector, target.max_connections)),
            settings: Settings {
                application_name: connect::application_name(&target.application_name),
                lock_timeout: target.lock_timeout,
                statement_timeout: target.statement_timeout,
                count_timeout: target.statement_timeout.max(COUNT_TIMEOUT),
            },
        })
    }

    /// The same engine, which counts a table in one statement only if that takes no longer.
    #[must_use]
    pub fn with_count_timeout(mut self, limit: Duration) -> Self {
        self.settings.count_timeout = limit;
        self
    }

    /// The host that the address names; for a socket its folder.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.sessions.server().host
    }

    /// `host:port/database`: tells one database from another before anybody has connected.
    #[must_use]
    pub fn address(&self) -> String {
        let server = self.sessions.server();
        format!("{}/{}", server.address, server.database)
    }

    /// The role that logs in.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.sessions.server().user
    }

    /// The database's name.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.sessions.server().database
    }

    fn error(&self, what: &str, table: Option<&str>, reason: &sqlx::Error) -> EngineError {
        let doing = Doing {
            what,
            table,
            grant: None,
            statement_timeout: self.settings.statement_timeout,
        };
        error::running(self.sessions.server(), doing, reason)
    }

    /// Counts what the transaction that has begun adds to the server's counters.
    async fn watch(
        &self,
        session: &mut Session,
        leaves: &[LeafFacts],
    ) -> Result<Option<Watch>, EngineError> {
        Watch::begin(session, leaves.iter().map(|leaf| &leaf.id))
            .await
            .map_err(|reason| self.error(OWN_COUNTS, None, &reason))
    }

    async fn watched(
        &self,
        session: &mut Session,
        watch: Option<Watch>,
    ) -> Result<(), EngineError> {
        match watch {
            Some(watch) => watch
                .end(session)
                .await
                .map_err(|reason| self.error(OWN_COUNTS, None, &reason)),
            None => Ok(()),
        }
    }

    /// How well the order of a plan's rows on disk follows that of their times, 0 to 1; 0 where nothing is known.
    async fn correlation(&self, plan: &RulePlan) -> Result<f64, EngineError> {
        let mut session = self.read().await?;
        let correlation = audit::correlation(&mut session, &plan.table, &plan.column)
            .await
            .map_err(|reason| {
                let table = plan.table.qualified();
                self.error("reading the statistics of", Some(&table), &reason)
            })?;
        session.release().await;
        Ok(correlation)
    }

    async fn read(&self) -> Result<Session, EngineError> {
        self.sessions.begin(&self.settings.read()).await
    }
}

/// A table that has a part which cannot be swept is not counted or swept at all: half a promise is none.
fn refuse_unsupported(table: &TableFacts) -> Result<(), EngineError> {
    match table
        .leaves
        .iter()
        .find_map(|leaf| leaf.unsupported.as_ref().map(|word| (leaf, word)))
    {
        Some((leaf, word)) => Err(EngineError::NotSupported(format!(
            "{}: {}.{} is a {word}, whose rows a rule cannot delete",
            table.qualified(),
            leaf.schema,
            leaf.name
        ))),
        None => Ok(()),
    }
}

#[async_trait]
impl Engine for PostgresEngine {
    fn walk_page(&self) -> WalkPage {
        WalkPage {
            bytes: Some(BLOCK),
            rows: None,
        }
    }

    async fn facts(&self) -> Result<DatabaseFacts, EngineError> {
        let mut session = self.read().await?;
        let facts = audit::facts(&mut session, self.sessions.server())
            .await
            .map_err(|reason| self.error("reading the database's facts", None, &reason))?;
        session.release().await;
        Ok(facts)
    }

    async fn tables(&self, names: &[TableName]) -> Result<Vec<Option<TableFacts>>, EngineError> {
        let mut session = self.read().await?;
        let tables = catalog::tables(&mut session, names)
            .await
            .map_err(|reason| self.error("reading the catalog", None, &reason))?;
        session.release().await;
        Ok(tables)
    }

    async fn hygiene(&self) -> Result<Facts, EngineError> {
        let mut session = self.read().await?;
        let (mut facts, positions) = hygiene::read(&mut session)
            .await
            .map_err(|reason| self.error("reading the catalog", None, &reason))?;
        hygiene::read_more(&mut session, self.settings.read(), positions, &mut facts).await?;
        session.give_back().await;
        Ok(facts)
    }

    async fn define_indexes(&self, facts: &mut Facts) -> Result<(), EngineError> {
        if to_define(facts).is_empty() {
            return Ok(());
        }
        let mut session = self.read().await?;
        hygiene::define(&mut session, facts)
            .await
            .map_err(|reason| self.error("reading the definitions of indexes", None, &reason))?;
        session.release().await;
        Ok(())
    }

    async fn last_logged(&self, query: &LogQuery, days: u32) -> Result<Logged, EngineError> {
        usage_log::last(&self.sessions, &self.settings, query, days).await
    }

    async fn statements_naming(&self, tables: &[(u32, String)]) -> Result<LookedUp, EngineError> {
        let begin = Begin {
            statement_timeout: statements::TIMEOUT.min(self.settings.statement_timeout),
            ..self.settings.read()
        };
        let mut session = self.sessions.begin(&begin).await?;
        let read = statements::read(&mut session, self.user(), tables).await;
        match read {
            Ok(looked) => {
                session.release().await;
                Ok(looked)
            }
            // What concerns the extension alone must not spoil the audit.
            Err(reason) if reason.as_database_error().is_some() => {
                session.abandon().await;
                let said = error::said(&reason);
                Ok(LookedUp::Hidden(format!("pg_stat_statements: {said}")))
            }
            Err(reason) => {
                session.abandon().await;
                Err(self.error("reading pg_stat_statements", None, &reason))
            }
        }
    }

    async fn statistics(&self, plan: &RulePlan) -> Result<TableStatistics, EngineError> {
        let mut session = self.read().await?;
        let name = plan.table.qualified();
        let statistics = async {
            let version = session
                .row(sql::constant(catalog_sql::VERSION))
                .await?
                .try_get("version")?;
            audit::statistics(&mut session, plan, version).await
        }
        .await
        .map_err(|reason| self.error("reading the statistics of", Some(&name), &reason))?;
        session.release().await;
        Ok(statistics)
    }

    async fn count_rows(&self, table: &TableFacts) -> Result<u64, EngineError> {
        let counted = self.count(table, What::Rows, Counting::default()).await?;
        Ok(counted.expired)
    }

    async fn count_expired(&self, plan: &RulePlan) -> Result<Counted, EngineError> {
        self.count_plan(plan, Counting::default()).await
    }

    async fn count_left(&self, plan: &RulePlan, deleted: u64) -> Result<Counted, EngineError> {
        let pages: u64 = plan.table.leaves.iter().map(|leaf| leaf.pages).sum();
        // Each dead entry of the time index is followed to its dead row: cheap where these lie side by side, dear where each is
        // on another page.
        let sequential = deleted > pages.saturating_mul(DEAD_ENTRIES_PER_PAGE)
            && self.correlation(plan).await? < SIDE_BY_SIDE;
        let counting = Counting {
            sequential,
            proves: true,
        };
        self.count_plan(plan, counting).await
    }

    async fn has_times_from(&self, plan: &RulePlan, from: Timestamp) -> Result<bool, EngineError> {
        refuse_unsupported(&plan.table)?;
        let from = RulePlan {
            cutoff: Cutoff::Instant(from),
            ..plan.clone()
        };
        let limit = self.settings.statement_timeout.max(COUNT_TIMEOUT);
        let begin = Begin {
            statement_timeout: limit,
            ..self.settings.read()
        };
        let mut session = self.sessions.begin(&begin).await?;
        let watch = self.watch(&mut session, &plan.table.leaves).await?;
        let mut found = false;
        for leaf in &plan.table.leaves {
            let Some(sql) = sql::has_later(&from, &leaf.schema, &leaf.name) else {
                return Ok(true);
            };
            let name = format!("{}.{}", leaf.schema, leaf.name);
            found = session
                .row(sql.query().bind(BoundCutoff::of(&from)))
                .await
                .and_then(|row| row.try_get("found"))
                .map_err(|reason| {
                    let doing = Doing {
                        what: "looking at the times of",
                        table: Some(&name),
                        grant: Some(&sql::grant(&leaf.schema, &leaf.name, self.user())),
                        statement_timeout: limit,
                    };
                    error::running(self.sessions.server(), doing, &reason)
                })?;
            if found {
                break;
            }
        }
        self.watched(&mut session, watch).await?;
        session.release().await;
        Ok(found)
    }

    async fn count_along(&self, plan: &RulePlan) -> Result<u64, EngineError> {
        let keys = reached(&plan.table.incoming, plan.dependents);
        if keys.is_empty() || plan.dependents != Dependents::Cascade {
            return Ok(0);
        }
        let limit = self.settings.statement_timeout.max(COUNT_TIMEOUT);
        let begin = Begin {
            one_snapshot: true,
            statement_timeout: limit,
            ..self.settings.read()
        };
        let mut session = self.sessions.begin(&begin).await?;
        let pairs = obstacles::pairs(&mut session, &keys)
            .await
            .map_err(|reason| self.error("reading the catalog", None, &reason))?;
        let obstacles = Obstacles {
            plan,
            keys: &plan.table.incoming,
            pairs: &pairs,
            sets: false,
        };
        let statements = obstacles.counts()?;
        let leaves = plan.table.leaves.iter().map(|leaf| leaf.id);
        let reached: Vec<u32> = leaves.chain(obstacles.tables()).collect();
        let watch = Watch::begin(&mut session, &reached)
            .await
            .map_err(|reason| self.error(OWN_COUNTS, None, &reason))?;
        let mut total = 0_u64;
        for (table, sql) in statements {
            let counted = session
                .row(sql.query().bind(BoundCutoff::of(plan)))
                .await
                .and_then(|row| row.try_get::<i64, _>("n"))
                .map_err(|reason| self.error("counting rows of", Some(&table), &reason))?;
            total = total.saturating_add(u64::try_from(counted).unwrap_or(0));
        }
        self.watched(&mut session, watch).await?;
        session.release().await;
        Ok(total)
    }

    async fn count_free(&self, plan: &RulePlan) -> Result<Option<u64>, EngineError> {
        match self.count_without_obstacles(plan).await {
            Err(EngineError::StatementTimeout { .. }) => Ok(None),
            counted => counted.map(Some),
        }
    }

    async fn check_plan(&self, plan: &RulePlan) -> Result<(), EngineError> {
        let checks = sql::checks(plan)?;
        let mut session = self.read().await?;
        let table = plan.table.qualified();
        for (part, sql) in &checks {
            if let Err(reason) = session.raw(sql).await {
                session.release().await;
                return Err(self.misfit(part, &table, &reason));
            }
        }
        session.release().await;
        Ok(())
    }

    async fn side_effects(&self, plan: &RulePlan) -> Result<SideEffects, EngineError> {
        let mut session = self.read().await?;
        let effects = side_effects::read(&mut session, plan)
            .await
            .map_err(|reason| self.error("reading triggers and publications", None, &reason))?;
        session.release().await;
        Ok(effects)
    }

    async fn check_archive(&self, plan: &RulePlan) -> Result<Option<String>, EngineError> {
        archive_table::look(&self.sessions, &self.settings, plan).await
    }

    async fn open_sweep(
        &self,
        plan: &RulePlan,
        from: Option<Cursor>,
    ) -> Result<Box<dyn TableSweep>, EngineError> {
        let sweep = Sweep::open(&self.sessions, &self.settings, plan, from, false).await?;
        Ok(Box::new(sweep))
    }

    async fn ledger(&self, mode: LedgerMode, create: bool) -> Result<LedgerAccess, EngineError> {
        ledger::access(&self.sessions, &self.settings, mode, create).await
    }

    async fn close(&self) {
        self.sessions.close().await;
    }
}

impl PostgresEngine {
    /// The server's opinion of one part of a plan. What concerns types, functions and literals is for the policy's author.
    fn misfit(&self, part: &str, table: &str, reason: &sqlx::Error) -> EngineError {
        let authors = error::code(reason).is_some_and(|code| {
            (code.starts_with("42") && !matches!(code, "42501" | "42P01")) || code.starts_with("22")
        });
        match reason.as_database_error() {
            Some(said) if authors => EngineError::Predicate(format!(
                "{part} does not fit table {table}: {}",
                said.message()
            )),
            _ => self.error("checking the plan of", Some(table), reason),
        }
    }
}
