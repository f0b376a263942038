//! The ledger in SQLite: tables of the prefix `retention_operator_` in the same file. Sweeps need it.

mod book;
mod ddl;
mod lease;
mod sweeps;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::Row;

pub(super) use self::lease::{Lease, watch};
use super::{
    connect::{Connector, FileId},
    error::{self, Doing},
    session::Session,
    sql,
    sweep::Sweep,
};
use crate::{
    engine::{
        Cursor, EngineError, TableSweep,
        ledger::{
            Entry, Ledger, LedgerAccess, LedgerView, RuleRecord, SweepBegin, SweepEnd, SweepEntry,
        },
    },
    policy::{claims::LedgerMode, plan::RulePlan},
};

/// A ledger that can be used.
#[derive(Debug)]
pub(super) struct SqliteLedger {
    connector: Connector,
    statement_timeout: Duration,
}

/// What there is.
enum Found {
    Nothing,
    Unusable(String),
    /// Of an older operator, with the statements that bring it up to date.
    Older(Option<i64>, Vec<&'static str>),
    Ledger,
}

/// Looks for the ledger, and makes it where `create` allows.
pub(super) async fn access(
    connector: &Connector,
    statement_timeout: Duration,
    mode: LedgerMode,
    create: bool,
) -> Result<LedgerAccess, EngineError> {
    if mode == LedgerMode::Off {
        return Ok(LedgerAccess::Absent { note: None });
    }
    let ledger = SqliteLedger {
        connector: connector.clone(),
        statement_timeout,
    };
    let mut session = ledger.reader().await?;
    let found = survey(&mut session).await;
    session.close().await;
    let mut found = found.map_err(|reason| ledger.failed("looking for the ledger of", &reason))?;
    if let Found::Older(version, _) = &found {
        let what = of_version(*version);
        found = if !create {
            Found::Unusable(format!("{what}: the next sweep brings it up to date"))
        } else {
            match ledger.bring_up_to_date().await {
                Ok(found) => found,
                Err(error @ (EngineError::ReadOnly(_) | EngineError::Permission(_))) => {
                    Found::Unusable(format!(
                        "{what}: it could not be brought up to date: {error}"
                    ))
                }
                Err(error) => return Err(error),
            }
        };
    }
    match found {
        Found::Unusable(why) => Ok(LedgerAccess::Unusable(why)),
        Found::Ledger => Ok(LedgerAccess::Usable(Arc::new(ledger))),
        // It was brought up to date a moment ago.
        Found::Older(..) => Err(EngineError::Ledger(
            "somebody else changes the ledger's version: have only one version of the operator run"
                .to_owned(),
        )),
        Found::Nothing if mode != LedgerMode::Auto || !create => {
            Ok(LedgerAccess::Absent { note: None })
        }
        Found::Nothing => match ledger.make().await {
            Ok(Found::Unusable(why)) => Ok(LedgerAccess::Unusable(why)),
            Ok(_) => Ok(LedgerAccess::Usable(Arc::new(ledger))),
            Err(error @ (EngineError::ReadOnly(_) | EngineError::Permission(_))) => {
                Ok(LedgerAccess::Absent {
                    note: Some(format!("the ledger could not be made: {error}")),
                })
            }
            Err(error) => Err(error),
        },
    }
}

fn of_version(version: Option<i64>) -> String {
    format!(
        "the ledger is of version {}, and this operator works with version {}",
        version.map_or_else(|| "?".to_owned(), |version| version.to_string()),
        ddl::VERSION
    )
}

/// In the transaction that the session is in.
async fn survey(session: &mut Session) -> Result<Found, sqlx::Error> {
    let mut tables = 0;
    let mut older = Vec::new();
    for row in session.rows(sql::constant(ddl::SHAPE)).await? {
        let text: Option<String> = row.try_get("sql")?;
        let entry = ddl::judge(
            &row.try_get::<String, _>("type")?,
            &row.try_get::<String, _>("name")?,
            &row.try_get::<String, _>("tbl_name")?,
            text.as_deref(),
        );
        match entry {
            ddl::Entry::Table => tables += 1,
            ddl::Entry::Older(statement) => {
                tables += 1;
                older.push(statement);
            }
            ddl::Entry::Other => {}
            ddl::Entry::Foreign(what) => {
                return Ok(Found::Unusable(format!(
                    "{what}: rename it if it is not the operator's ledger"
                )));
            }
        }
    }
    if tables == 0 {
        return Ok(Found::Nothing);
    }
    if tables < ddl::TABLES.len() {
        return Ok(Found::Unusable(format!(
            "tables of the ledger are missing: drop those that begin with {} if it is not in use",
            ddl::PREFIX
        )));
    }
    let version: Option<i64> = session
        .rows(sql::constant(
            "SELECT version FROM retention_operator_meta WHERE one = 1",
        ))
        .await?
        .first()
        .map(|row| row.try_get("version"))
        .transpose()?;
    match version {
        Some(version) if version == ddl::VERSION && older.is_empty() => Ok(Found::Ledger),
        Some(1..ddl::VERSION) => Ok(Found::Older(version, older)),
        _ => Ok(Found::Unusable(format!(
            "{}: use one that fits",
            of_version(version)
        ))),
    }
}

/// Makes the ledger in the transaction that the session is in. Somebody may have made it a moment ago.
async fn make(session: &mut Session) -> Result<Found, sqlx::Error> {
    let found = survey(session).await?;
    if !matches!(found, Found::Nothing) {
        return Ok(found);
    }
    for (_, statement) in ddl::TABLES {
        session.execute(sql::constant(statement)).await?;
    }
    session.execute(sql::constant(ddl::INDEX)).await?;
    let FileId { device, inode, .. } = session.file();
    let meta = sql::constant(ddl::META)
        .bind(ddl::VERSION)
        .bind(format!("{device}/{inode}"));
    session.execute(meta).await?;
    session.execute(sql::constant(ddl::CONTROL)).await?;
    Ok(Found::Ledger)
}

/// Brings an older ledger up to date in the transaction that the session is in. Somebody may have done it a moment ago.
async fn complete(session: &mut Session) -> Result<Found, sqlx::Error> {
    let found = survey(session).await?;
    let Found::Older(_, statements) = found else {
        return Ok(found);
    };
    for statement in statements {
        session.execute(sql::constant(statement)).await?;
    }
    let upgraded = sql::constant(ddl::UPGRADED).bind(ddl::VERSION);
    session.execute(upgraded).await?;
    survey(session).await
}

impl SqliteLedger {
    /// A transaction that only reads.
    async fn reader(&self) -> Result<Session, EngineError> {
        let mut session = self.connector.reader().await?;
        session.limit(self.statement_timeout);
        match session.begin_read().await {
            Ok(()) => Ok(session),
            Err(reason) => {
                session.close().await;
                Err(self.failed("reading the ledger of", &reason))
            }
        }
    }

    /// A transaction that alone may write. It waits longer for that than a chunk does.
    async fn writer(&self, what: &str) -> Result<Session, EngineError> {
        let mut session = self.connector.writer().await?;
        session.limit(self.statement_timeout);
        let begun = match session.be_patient().await {
            Ok(()) => session.begin_write().await,
            Err(reason) => Err(reason),
        };
        match begun {
            Ok(()) => Ok(session),
            Err(reason) => {
                session.close().await;
                Err(self.failed(what, &reason))
            }
        }
    }

    async fn make(&self) -> Result<Found, EngineError> {
        let what = "making the ledger of";
        let mut session = self.writer(what).await?;
        let made = make(&mut session).await;
        self.finish(session, what, made).await
    }

    async fn bring_up_to_date(&self) -> Result<Found, EngineError> {
        let what = "bringing up to date the ledger of";
        let mut session = self.writer(what).await?;
        let completed = complete(&mut session).await;
        self.finish(session, what, completed).await
    }

    fn failed(&self, what: &str, reason: &sqlx::Error) -> EngineError {
        let doing = Doing {
            file: self.connector.name(),
            what,
            table: None,
            limit: self.statement_timeout,
        };
        error::running(doing, reason)
    }

    /// Ends a transaction of the ledger: what failed leaves no trace.
    async fn finish<T>(
        &self,
        mut session: Session,
        what: &str,
        outcome: Result<T, sqlx::Error>,
    ) -> Result<T, EngineError> {
        let outcome = match outcome {
            Ok(value) => session.commit().await.map(|()| value),
            Err(reason) => Err(reason),
        };
        session.close().await;
        outcome.map_err(|reason| self.failed(what, &reason))
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    fn writable(&self) -> Result<(), String> {
        self.connector
            .check_writable()
            .map_err(|error| format!("the database's ledger can only be read: {error}"))
    }

    async fn view(&self, policy: &str) -> Result<LedgerView, EngineError> {
        let mut session = self.reader().await?;
        let view = book::view(&mut session, policy).await;
        self.finish(session, "reading the ledger of", view).await
    }

    async fn enter(&self, entry: &Entry<'_>) -> Result<LedgerView, EngineError> {
        let what = "writing the ledger of";
        let mut session = self.writer(what).await?;
        let entered = book::enter(&mut session, entry).await;
        self.finish(session, what, entered).await
    }

    async fn begin_sweep(&self, begin: &SweepBegin<'_>) -> Result<Vec<RuleRecord>, EngineError> {
        let what = "entering the sweep into the ledger of";
        let mut session = self.writer(what).await?;
        let begun = sweeps::begin(&mut session, begin).await;
        self.finish(session, what, begun).await
    }

    async fn open_sweep(
        &self,
        plan: &RulePlan,
        from: Option<Cursor>,
        entry: &SweepEntry,
    ) -> Result<Box<dyn TableSweep>, EngineError> {
        let what = "taking the lease in the ledger of";
        let mut lease = Lease::new(plan, entry);
        let mut session = self.writer(what).await?;
        let taken = lease
            .take(&mut session, self.statement_timeout, entry)
            .await;
        if !self.finish(session, what, taken).await? {
            return Err(lease.lost());
        }
        let opened = Sweep::open(
            &self.connector,
            self.statement_timeout,
            plan,
            from,
            lease.clone(),
        )
        .await;
        match opened {
            Ok(sweep) => Ok(Box::new(sweep)),
            Err(error) => {
                if let Ok(mut session) = self.connector.writer().await {
                    lease.give_back(&mut session).await;
                    session.close().await;
                }
                Err(error)
            }
        }
    }

    async fn end_sweep(&self, end: &SweepEnd<'_>) -> Result<(), EngineError> {
        let what = "entering the sweep's end into the ledger of";
        let mut session = self.writer(what).await?;
        let ended = sweeps::end(&mut session, end).await;
        self.finish(session, what, ended).await
    }
}
