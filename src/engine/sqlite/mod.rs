//! SQLite, for the offline verbs and the fast tests.
//!
//! There is no server: the lock of the whole database is the fence, taken with `BEGIN IMMEDIATE` for one chunk at a time, and the
//! ledger's lease is it between two chunks. What is only read is read through connections that cannot write.

mod archive_table;
mod audit;
mod brief;
mod catalog;
mod catalog_sql;
mod connect;
mod error;
mod expiry;
mod form;
mod hygiene;
mod hygiene_sql;
mod keys;
mod ledger;
mod obstacles;
mod opening;
mod predicate;
mod samples;
mod session;
mod sql;
mod sweep;
mod trigger;
mod url;
mod usage_log;
mod value;
mod walk;

#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{Row, sqlite::SqliteRow};

use self::{connect::Connector, error::Doing, obstacles::Obstacles, session::Session, sql::Fixed};
use super::{
    Counted, Cursor, DatabaseFacts, DatabaseTarget, Engine, EngineError, TableStatistics,
    TableSweep, WalkPage, ledger::LedgerAccess,
};
use crate::policy::{
    claims::LedgerMode,
    cutoff::Cutoff,
    dependents::Dependents,
    hygiene::Facts,
    plan::RulePlan,
    predicate::Predicate,
    side_effects::{Enabled, Event, SideEffects, Trigger},
    table::{ColumnFacts, TableFacts, TableName},
    usage::{LogQuery, Logged},
};

/// Counting reads a whole table, which the statement timeout of short work does not allow for.
const COUNT_TIMEOUT: Duration = Duration::from_mins(10);

/// A predicate as SQL over the columns of a table that the statement knows as `t`, names with their declared types, as statements
/// hold it: for whoever wants to judge it, tests and fuzzers above all. The first is 1 for the rows that a `where` takes, and else 0;
/// the second for those that a hold lets go. Of rows of which nobody knows what it means, both are 0.
///
/// # Errors
/// [`EngineError::Predicate`] for what cannot mean the same in SQLite.
pub fn print_predicate(
    predicate: &Predicate,
    columns: &[(String, String)],
) -> Result<[String; 2], EngineError> {
    let columns: Vec<ColumnFacts> = columns
        .iter()
        .map(|(name, declared)| catalog::declared(name, declared))
        .collect();
    let printed = predicate::print_for(predicate, &columns, "t")?;
    Ok([printed.surely(), printed.surely_not()])
}

/// One SQLite database: a file.
#[derive(Debug)]
pub struct SqliteEngine {
    connector: Connector,
    statement_timeout: Duration,
}

impl SqliteEngine {
    /// Reads the target; opens nothing yet.
    ///
    /// # Errors
    /// [`EngineError::Target`]: the URL is not understood, or files of this machine may not be used.
    pub fn new(target: DatabaseTarget) -> Result<Self, EngineError> {
        Ok(Self {
            connector: Connector::new(&target)?,
            statement_timeout: target.statement_timeout,
        })
    }

    async fn read(&self) -> Result<Session, EngineError> {
        let mut session = self.connector.reader().await?;
        session.limit(self.statement_timeout);
        match session.begin_read().await {
            Ok(()) => Ok(session),
            Err(reason) => Err(error::reads_nothing(self.connector.name(), &reason)
                .unwrap_or_else(|| self.error("reading", None, &reason))),
        }
    }

    fn error(&self, what: &str, table: Option<&str>, reason: &sqlx::Error) -> EngineError {
        let doing = Doing {
            file: self.connector.name(),
            what,
            table,
            limit: self.statement_timeout,
        };
        error::running(doing, reason)
    }

    async fn count(&self, table: &TableFacts, count: &Fixed) -> Result<SqliteRow, EngineError> {
        refuse_unsupported(table)?;
        let mut session = self.read().await?;
        let limit = self.statement_timeout.max(COUNT_TIMEOUT);
        session.limit(limit);
        let counted = session.row(count.query(&[])).await;
        session.close().await;
        let name = table.qualified();
        let doing = Doing {
            file: self.connector.name(),
            what: "counting rows of",
            table: Some(&name),
            limit,
        };
        counted.map_err(|reason| error::running(doing, &reason))
    }

    /// What `build` makes of the foreign keys that refer to a plan's table now; `None`: there is no such table.
    async fn obstacles<T>(
        &self,
        session: &mut Session,
        plan: &RulePlan,
        build: impl FnOnce(Obstacles<'_>) -> Result<T, EngineError>,
    ) -> Result<Option<T>, EngineError> {
        let read = async {
            let table = catalog::table(session, &plan.table.name).await?;
            Ok((table, obstacles::held_columns(session, plan).await?))
        }
        .await;
        let (table, held) = read.map_err(|reason: sqlx::Error| {
            self.error(
                "reading the schema of",
                Some(&plan.table.qualified()),
                &reason,
            )
        })?;
        let Some((table, rows)) = table
            .as_ref()
            .and_then(|table| Some((table, table.key.as_ref().ok()?)))
        else {
            return Ok(None);
        };
        build(Obstacles {
            plan,
            keys: &table.facts.incoming,
            pairs: &table.pairs,
            rows,
            held: &held,
        })
        .map(Some)
    }

    fn number(&self, row: &SqliteRow, name: &str) -> Result<u64, EngineError> {
        row.try_get::<i64, _>(name)
            .map(|rows| u64::try_from(rows).unwrap_or(0))
            .map_err(|reason| self.error("counting rows of", None, &reason))
    }
}

/// What cannot be swept is not counted either.
fn refuse_unsupported(table: &TableFacts) -> Result<(), EngineError> {
    match table
        .leaves
        .iter()
        .find_map(|leaf| leaf.unsupported.as_ref())
    {
        Some(word) => Err(EngineError::NotSupported(format!(
            "{} is a {word}, whose rows a rule cannot delete",
            table.qualified()
        ))),
        None => Ok(()),
    }
}

#[async_trait]
impl Engine for SqliteEngine {
    fn walk_page(&self) -> WalkPage {
        WalkPage {
            bytes: None,
            rows: Some(catalog::ROWS_PER_PAGE),
        }
    }

    async fn facts(&self) -> Result<DatabaseFacts, EngineError> {
        let mut session = self.read().await?;
        let facts = audit::facts(&mut session, self.connector.file_name()).await;
        session.close().await;
        facts.map_err(|reason| self.error("reading the facts of", None, &reason))
    }

    async fn tables(&self, names: &[TableName]) -> Result<Vec<Option<TableFacts>>, EngineError> {
        let mut session = self.read().await?;
        let tables = catalog::tables(&mut session, names).await;
        session.close().await;
        tables.map_err(|reason| self.error("reading the schema of", None, &reason))
    }

    async fn statistics(&self, plan: &RulePlan) -> Result<TableStatistics, EngineError> {
        let mut session = self.read().await?;
        let statistics = audit::statistics(&mut session, plan).await;
        session.close().await;
        let table = plan.table.qualified();
        statistics.map_err(|reason| self.error("reading the statistics of", Some(&table), &reason))
    }

    async fn hygiene(&self) -> Result<Facts, EngineError> {
        let mut session = self.read().await?;
        let facts = hygiene::read(&mut session).await;
        session.close().await;
        facts.map_err(|reason| self.error("reading the schema of", None, &reason))
    }

    async fn last_logged(&self, query: &LogQuery, days: u32) -> Result<Logged, EngineError> {
        usage_log::last(self, query, days).await
    }

    async fn count_rows(&self, table: &TableFacts) -> Result<u64, EngineError> {
        let row = self.count(table, &sql::count_rows(&table.name)).await?;
        self.number(&row, "n")
    }

    async fn count_expired(&self, plan: &RulePlan) -> Result<Counted, EngineError> {
        let row = self.count(&plan.table, &sql::count_expired(plan)?).await?;
        let undecided = self.number(&row, "undecided")?;
        Ok(Counted {
            expired: self.number(&row, "n")?,
            unreadable: Some(self.number(&row, "unreadable")?.saturating_add(undecided)),
            undecided,
            attached: 0,
        })
    }

    async fn count_left(&self, plan: &RulePlan, _: u64) -> Result<Counted, EngineError> {
        self.count_expired(plan).await
    }

    async fn has_times_from(&self, plan: &RulePlan, from: Timestamp) -> Result<bool, EngineError> {
        let from = RulePlan {
            cutoff: Cutoff::Instant(from),
            ..plan.clone()
        };
        let row = self.count(&plan.table, &sql::has_later(&from)?).await?;
        Ok(self.number(&row, "n")? > 0)
    }

    async fn count_along(&self, plan: &RulePlan) -> Result<u64, EngineError> {
        if plan.dependents != Dependents::Cascade || plan.table.incoming.is_empty() {
            return Ok(0);
        }
        let mut session = self.read().await?;
        let counts = self
            .obstacles(&mut session, plan, |obstacles| obstacles.counts())
            .await;
        let limit = self.statement_timeout.max(COUNT_TIMEOUT);
        session.limit(limit);
        let counted = async {
            let mut total = 0_u64;
            for (table, count) in counts?.into_iter().flatten() {
                let row = session.row(count.query(&[])).await;
                let row = row.map_err(|reason| {
                    let doing = Doing {
                        file: self.connector.name(),
                        what: "counting rows of",
                        table: Some(&table),
                        limit,
                    };
                    error::running(doing, &reason)
                })?;
                total = total.saturating_add(self.number(&row, "n")?);
            }
            Ok(total)
        }
        .await;
        session.close().await;
        counted
    }

    async fn check_plan(&self, plan: &RulePlan) -> Result<(), EngineError> {
        let checks = sql::checks(plan)?;
        let table = plan.table.qualified();
        let mut session = self.read().await?;
        let mut checks = checks;
        if plan.dependents != Dependents::Refuse && !plan.table.incoming.is_empty() {
            let checked = self.obstacles(&mut session, plan, |obstacles| {
                sql::check_obstacles(&obstacles)
            });
            match checked.await {
                Ok(check) => checks.extend(check.map(|sql| ("dependents".to_owned(), sql))),
                Err(error) => {
                    session.close().await;
                    return Err(error);
                }
            }
        }
        for (part, sql) in &checks {
            if let Err(reason) = session.rows(sql.query([])).await {
                session.close().await;
                return Err(match error::of_statement(&reason) {
                    Some(message) => EngineError::Predicate(format!(
                        "{part} does not fit table {table}: {message}"
                    )),
                    None => self.error("checking the plan of", Some(&table), &reason),
                });
            }
        }
        session.close().await;
        Ok(())
    }

    async fn side_effects(&self, plan: &RulePlan) -> Result<SideEffects, EngineError> {
        let mut session = self.read().await?;
        let read = catalog::delete_triggers(&mut session, &plan.table.name).await;
        session.close().await;
        let table = plan.table.qualified();
        let read =
            read.map_err(|reason| self.error("reading the triggers of", Some(&table), &reason))?;
        let triggers = read.into_iter().map(|(name, text)| Trigger {
            table: table.clone(),
            name,
            function: None,
            event: Event::Delete,
            each_row: true,
            before: trigger::fires_before(&text),
            conditional: false,
            enabled: Enabled::Origin,
        });
        Ok(SideEffects {
            triggers: triggers.collect(),
            ..SideEffects::default()
        })
    }

    async fn check_archive(&self, plan: &RulePlan) -> Result<Option<String>, EngineError> {
        let mut session = self.read().await?;
        let looked =
            archive_table::look(&mut session, &self.connector, self.statement_timeout, plan).await;
        session.close().await;
        looked
    }

    async fn open_sweep(
        &self,
        plan: &RulePlan,
        from: Option<Cursor>,
    ) -> Result<Box<dyn TableSweep>, EngineError> {
        let _ = (plan, from);
        Err(EngineError::Ledger(
            "a SQLite database is swept with its ledger only: write database.ledger: Auto"
                .to_owned(),
        ))
    }

    fn needs_ledger(&self) -> bool {
        true
    }

    async fn ledger(&self, mode: LedgerMode, create: bool) -> Result<LedgerAccess, EngineError> {
        ledger::access(&self.connector, self.statement_timeout, mode, create).await
    }

    async fn close(&self) {
        // Every connection was closed when its work was done.
    }
}
