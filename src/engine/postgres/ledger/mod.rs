//! The ledger in PostgreSQL: schema `retention_operator`.

mod access;
mod book;
mod ddl;
mod lease;
mod memory;
mod own_counts;
mod sweeps;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Row;

pub(super) use self::{
    access::access,
    lease::{Lease, WATCH},
};
use super::{
    Settings,
    error::{self, Doing},
    session::{Session, Sessions},
    sql::{self, Begin, Sql},
    standby,
    sweep::Sweep,
};
use crate::{
    engine::{
        Cursor, EngineError, TableSweep,
        ledger::{
            Entry, Ledger, LedgerView, Remember, Remembered, RuleRecord, SweepBegin, SweepEnd,
            SweepEntry,
        },
    },
    policy::plan::RulePlan,
};

/// Which database this is.
#[derive(Clone, Debug)]
struct Identity {
    /// `None`: the role may not ask for it.
    system: Option<String>,
    database: u32,
}

/// A ledger that can be used.
#[derive(Debug)]
pub(super) struct PostgresLedger {
    sessions: Arc<Sessions>,
    settings: Settings,
    identity: Identity,
    may_write: bool,
}

/// The tables that every ledger has, whatever its version.
pub(super) fn first_tables() -> Vec<String> {
    ddl::first_names().map(str::to_owned).collect()
}

/// What gives a role the use of a ledger that is there.
pub(super) fn grant(role: &str) -> String {
    format!("{}; {}", grant_schema(role), grant_tables(role))
}

/// What lets a role add tables to a ledger.
fn grant_making(role: &str) -> String {
    format!(
        "GRANT USAGE, CREATE ON SCHEMA {} TO {}",
        ddl::SCHEMA,
        sql::identifier(role)
    )
}

pub(super) fn grant_schema(role: &str) -> String {
    format!(
        "GRANT USAGE ON SCHEMA {} TO {}",
        ddl::SCHEMA,
        sql::identifier(role)
    )
}

pub(super) fn grant_tables(role: &str) -> String {
    format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {} TO {}",
        ddl::SCHEMA,
        sql::identifier(role)
    )
}

/// The statements that make a ledger, or bring an older one up to date, for people to run.
pub(super) fn creation() -> Vec<String> {
    let mut statements = vec![ddl::CREATE_SCHEMA.to_owned()];
    statements.extend(
        ddl::TABLES
            .iter()
            .chain(&memory::TABLES)
            .map(|(_, statement)| (*statement).to_owned()),
    );
    statements.extend(ddl::ADDED.iter().map(|added| added.statement.to_owned()));
    statements.push(ddl::INDEX.to_owned());
    statements.push(format!(
        "INSERT INTO retention_operator.meta (one, version, system_identifier, database_oid, created_at) \
         SELECT true, {}, system_identifier::text, d.oid::int8, clock_timestamp() FROM pg_control_system(), pg_database d \
         WHERE d.datname = current_database() ON CONFLICT (one) DO NOTHING",
        ddl::VERSION
    ));
    statements.push(ddl::upgraded());
    statements.push(ddl::CONTROL.to_owned());
    statements
}

/// Whoever may use the claims of a ledger may use `tables`, too, which were made a moment ago.
async fn share(session: &mut Session, tables: &[&str]) -> Result<(), sqlx::Error> {
    if tables.is_empty() {
        return Ok(());
    }
    for row in session.rows(sql::constant(ddl::GRANTED)).await? {
        let (role, right): (String, String) = (row.try_get("role")?, row.try_get("right")?);
        let right = match right.as_str() {
            "SELECT" => "SELECT",
            "INSERT" => "INSERT",
            "UPDATE" => "UPDATE",
            _ => "DELETE",
        };
        for name in tables {
            let grant = format!(
                "GRANT {right} ON {} TO {}",
                sql::table(ddl::SCHEMA, name),
                sql::identifier(&role)
            );
            session.raw(&Sql::made(grant)).await?;
        }
    }
    Ok(())
}

/// Whoever changes the book waits for whoever is at it.
const LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock($1::int8)::text AS locked";

/// The book's lock: of no table.
fn key() -> i64 {
    sql::fence_key(0)
}

fn failed(
    sessions: &Sessions,
    settings: &Settings,
    what: &str,
    reason: &sqlx::Error,
) -> EngineError {
    let doing = Doing {
        what,
        table: None,
        grant: Some(&grant(&sessions.server().user)),
        statement_timeout: settings.statement_timeout,
    };
    match error::code(reason) {
        Some(error::LOCK_NOT_AVAILABLE) => EngineError::LockTimeout {
            what: "the ledger".to_owned(),
        },
        _ => gone(reason).unwrap_or_else(|| error::running(sessions.server(), doing, reason)),
    }
}

/// Somebody dropped the ledger, or parts of it, under way.
pub(super) fn gone(reason: &sqlx::Error) -> Option<EngineError> {
    let said = reason.as_database_error()?.message();
    let missing = matches!(error::code(reason), Some("42P01" | "3F000" | "42703"));
    (missing && said.contains(ddl::SCHEMA))
        .then(|| EngineError::Ledger(format!("the ledger is gone: {said}")))
}

/// Ends a transaction of the ledger: what failed leaves no trace. Should the answer to COMMIT be lost, all that was written may
/// be written again.
async fn finish<T>(
    session: Session,
    sessions: &Sessions,
    settings: &Settings,
    what: &str,
    outcome: Result<T, sqlx::Error>,
) -> Result<T, EngineError> {
    let outcome = match outcome {
        Ok(value) => session.commit_and_give_back().await.map(|()| value),
        Err(reason) => {
            session.abandon().await;
            Err(reason)
        }
    };
    outcome.map_err(|reason| failed(sessions, settings, what, &reason))
}

impl PostgresLedger {
    /// A writing transaction that holds the book's lock.
    async fn at_the_book(&self) -> Result<Session, EngineError> {
        let mut session = self.sessions.begin(&self.settings.write()).await?;
        let locked = session.row(sql::constant(LOCK).bind(key())).await;
        match locked {
            Ok(_) => Ok(session),
            Err(reason) => {
                session.abandon().await;
                Err(self.failed("locking the ledger", &reason))
            }
        }
    }

    /// What an error means, where only the server itself can say.
    async fn told(&self, error: EngineError) -> EngineError {
        match self.sessions.acquire().await {
            Ok(mut session) => {
                let told = standby::told(&mut session, &self.settings, error).await;
                session.close().await;
                told
            }
            Err(_) => error,
        }
    }

    /// What is remembered over time; `Err`: tables are missing, and whether they may be made.
    async fn recall(&self, policy: &str) -> Result<Result<Remembered, bool>, EngineError> {
        let begin = Begin {
            one_snapshot: true,
            ..self.settings.read()
        };
        let mut session = self.sessions.begin(&begin).await?;
        let role = &self.sessions.server().user;
        let recalled = async {
            Ok(match memory::look(&mut session, role).await? {
                memory::There::Missing { may_create } => Err(may_create),
                memory::There::Unusable(why) => Ok(Remembered {
                    note: Some(why),
                    ..Remembered::default()
                }),
                memory::There::All { may_write } => {
                    let writable = may_write && self.may_write;
                    if writable && own_counts::are_sure(&mut session).await? {
                        self.sessions.own.keep();
                    }
                    Ok(Remembered {
                        writable,
                        ..memory::read(&mut session, policy).await?
                    })
                }
            })
        }
        .await;
        self.finish(session, "reading the ledger", recalled).await
    }

    fn failed(&self, what: &str, reason: &sqlx::Error) -> EngineError {
        failed(&self.sessions, &self.settings, what, reason)
    }

    async fn finish<T>(
        &self,
        session: Session,
        what: &str,
        outcome: Result<T, sqlx::Error>,
    ) -> Result<T, EngineError> {
        finish(session, &self.sessions, &self.settings, what, outcome).await
    }
}

#[async_trait]
impl Ledger for PostgresLedger {
    fn writable(&self) -> Result<(), String> {
        if self.may_write {
            return Ok(());
        }
        let role = &self.sessions.server().user;
        Err(format!(
            "the database's ledger can only be read by role {role:?} (or the server is a standby); run: {}",
            grant(role)
        ))
    }

    async fn view(&self, policy: &str) -> Result<LedgerView, EngineError> {
        let begin = Begin {
            one_snapshot: true,
            ..self.settings.read()
        };
        let mut session = self.sessions.begin(&begin).await?;
        let view = book::view(&mut session, &self.identity, policy).await;
        self.finish(session, "reading the ledger", view).await
    }

    async fn enter(&self, entry: &Entry<'_>) -> Result<LedgerView, EngineError> {
        let mut session = self.at_the_book().await?;
        let entered = book::enter(&mut session, &self.identity, entry).await;
        match self.finish(session, "writing the ledger", entered).await {
            Ok(view) => Ok(view),
            Err(error) => Err(self.told(error).await),
        }
    }

    async fn begin_sweep(&self, begin: &SweepBegin<'_>) -> Result<Vec<RuleRecord>, EngineError> {
        let mut session = self.at_the_book().await?;
        let own = &self.sessions.own;
        let role = &self.sessions.server().user;
        let begun = async {
            let rules = sweeps::begin(&mut session, begin).await?;
            if own_counts::may_keep(&mut session, role).await? {
                own_counts::begin(&mut session, begin.sweep, own).await?;
            }
            Ok(rules)
        }
        .await;
        let begun = self
            .finish(session, "entering the sweep into the ledger", begun)
            .await;
        match begun {
            Ok(rules) => Ok(rules),
            Err(error) => Err(self.told(error).await),
        }
    }

    async fn open_sweep(
        &self,
        plan: &RulePlan,
        from: Option<Cursor>,
        entry: &SweepEntry,
    ) -> Result<Box<dyn TableSweep>, EngineError> {
        let lease = match Lease::acquire(&self.sessions, &self.settings, plan, entry).await {
            Ok(lease) => lease,
            Err(error) => return Err(self.told(error).await),
        };
        match Sweep::open(&self.sessions, &self.settings, plan, from, true).await {
            Ok(sweep) => Ok(Box::new(sweep.under(lease))),
            Err(error) => {
                if let Ok(mut session) = self.sessions.acquire().await {
                    lease.give_back(&mut session, &self.settings).await;
                    session.close().await;
                }
                Err(error)
            }
        }
    }

    async fn end_sweep(&self, end: &SweepEnd<'_>) -> Result<(), EngineError> {
        let mut session = self.at_the_book().await?;
        let own = &self.sessions.own;
        let ended = async {
            sweeps::end(&mut session, end).await?;
            own_counts::end(&mut session, end.id, own).await
        }
        .await;
        self.finish(session, "entering the sweep's end into the ledger", ended)
            .await
    }

    async fn remembered(&self, policy: &str, create: bool) -> Result<Remembered, EngineError> {
        match self.recall(policy).await? {
            Err(may_create) if create && may_create && self.may_write => {
                let mut session = self.at_the_book().await?;
                let made = memory::make(&mut session).await;
                self.finish(session, "adding to the ledger", made).await?;
            }
            Err(_) => {
                return Ok(Remembered {
                    note: Some(format!(
                        "nothing is kept over time: the ledger is older than the tables for it; run: {}",
                        grant_making(&self.sessions.server().user)
                    )),
                    ..Remembered::default()
                });
            }
            Ok(remembered) => return Ok(remembered),
        }
        let again = self.recall(policy).await?;
        Ok(again.unwrap_or_default())
    }

    async fn remember(&self, remember: &Remember) -> Result<(), EngineError> {
        let mut session = self.at_the_book().await?;
        let own = &self.sessions.own;
        let written = async {
            memory::write(&mut session, remember).await?;
            own_counts::add(&mut session, own).await
        }
        .await;
        self.finish(session, "writing down what the audit saw", written)
            .await
    }
}

impl Settings {
    /// A short writing transaction on the ledger's own tables.
    pub(super) fn write(&self) -> Begin {
        Begin {
            read_only: false,
            idle_timeout: super::chunk::CHUNK_IDLE_TIMEOUT,
            ..self.read()
        }
    }
}
