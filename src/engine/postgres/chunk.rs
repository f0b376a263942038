//! One chunk: one short transaction on one leaf.

use std::time::Duration;

use sqlx::Row;

use super::{
    Settings,
    connect::Server,
    error::{self, Doing},
    ledger::{self, Lease, WATCH},
    session::Session,
    sql::{self, ChunkBegin, LeafStatements, Sql},
    value::BoundCutoff,
    walk::Range,
};
use crate::engine::EngineError;

/// One leaf of a sweep: its statements, and what must not change while it is walked.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) id: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// Pages when the sweep was opened, for progress.
    pub(super) pages: u64,
    /// The role may lock rows without deleting them.
    may_lock: bool,
    fingerprint: String,
    begin: Sql,
    statements: LeafStatements,
    grant: String,
}

/// What a leaf is made from.
pub(super) struct LeafParts<'a> {
    pub(super) plan: &'a crate::policy::plan::RulePlan,
    pub(super) facts: &'a crate::policy::table::LeafFacts,
    pub(super) settings: &'a Settings,
    pub(super) columns: &'a [String],
    pub(super) fingerprint: String,
    pub(super) may_lock: bool,
    pub(super) role: &'a str,
    /// Chunks look at the ledger too.
    pub(super) watched: bool,
}

/// What the leaf looks like at the beginning of a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) filenode: u32,
    pub(super) blocks: u64,
    /// Where the write-ahead log stood.
    pub(super) wal: u64,
}

/// What is known of a chunk right before its COMMIT.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub(super) xid: String,
    /// Where the write-ahead log stands.
    pub(super) wal: u64,
    /// Sessions that wait for a lock of the chunk.
    pub(super) waiters: u32,
}

/// Why the plain form of a chunk did not go through.
pub(super) enum Refusal {
    /// Somebody holds a row's lock, or a deadlock was broken.
    Locked,
    /// Anything else.
    Failed(EngineError),
}

impl Leaf {
    pub(super) fn new(parts: LeafParts<'_>) -> Result<Self, EngineError> {
        let LeafParts {
            plan,
            facts,
            settings,
            columns,
            fingerprint,
            may_lock,
            role,
            watched,
        } = parts;
        // A rule on the whole table and a rule on this part of it must fence each other off.
        let mut fences = vec![sql::fence_key(plan.table.id)];
        if facts.id != plan.table.id {
            fences.push(sql::fence_key(facts.id));
        }
        let begin = ChunkBegin {
            begin: &settings.chunk(),
            schema: &facts.schema,
            name: &facts.name,
            id: facts.id,
            columns,
            fences: &fences,
            watch: if watched { WATCH } else { "" },
        };
        Ok(Self {
            id: facts.id,
            schema: facts.schema.clone(),
            name: facts.name.clone(),
            pages: facts.pages,
            may_lock,
            fingerprint,
            begin: begin.sql(),
            statements: LeafStatements::new(plan, &facts.schema, &facts.name, facts.id)?,
            grant: sql::grant(&facts.schema, &facts.name, role),
        })
    }

    pub(super) fn may_lock(&self) -> bool {
        self.may_lock
    }

    pub(super) fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn error(&self, server: &Server, settings: &Settings, reason: &sqlx::Error) -> EngineError {
        let name = self.qualified();
        let doing = Doing {
            what: "deleting expired rows of",
            table: Some(&name),
            grant: Some(&self.grant),
            statement_timeout: settings.statement_timeout,
        };
        if let Some(gone) = ledger::gone(reason) {
            return gone;
        }
        match error::code(reason) {
            // BEGIN and LOCK TABLE say it in other words than DELETE does.
            Some("0A000" | "55000") => EngineError::ReadOnly(format!(
                "{} does not accept writes: it is a standby",
                server.address
            )),
            _ => error::running(server, doing, reason),
        }
    }

    fn changed(&self, reason: &str) -> EngineError {
        EngineError::TableChanged {
            table: self.qualified(),
            reason: reason.to_owned(),
        }
    }

    /// Begins the chunk: transaction, lock, fence, and a look at the leaf.
    pub(super) async fn begin(
        &self,
        session: &mut Session,
        server: &Server,
        settings: &Settings,
        table: &str,
        lease: Option<&Lease>,
    ) -> Result<Look, EngineError> {
        session.limit(settings.statement_timeout);
        let mut answer = session.raw(&self.begin).await;
        if session.is_reused() && answer.as_ref().is_err_and(error::session_lost) {
            session.reconnect().await?;
            answer = session.raw(&self.begin).await;
        }
        let looked = match answer {
            Ok(rows) => self
                .judge(&rows, table)
                .and_then(|look| match (lease, rows.first()) {
                    (Some(lease), Some(row)) => lease.admits(row).map(|()| look),
                    _ => Ok(look),
                }),
            Err(reason) => Err(self.error(server, settings, &reason)),
        };
        if looked.is_err() {
            session.rollback().await;
        }
        looked
    }

    fn judge(&self, rows: &[sqlx::postgres::PgRow], table: &str) -> Result<Look, EngineError> {
        let unreadable = |reason: sqlx::Error| EngineError::Database {
            what: format!("looking at {}", self.qualified()),
            message: reason.to_string(),
            code: "-".to_owned(),
        };
        let row = rows
            .first()
            .ok_or_else(|| unreadable(sqlx::Error::RowNotFound))?;
        if !row.try_get::<bool, _>("fenced").map_err(unreadable)? {
            return Err(EngineError::SweptElsewhere {
                table: table.to_owned(),
            });
        }
        let schema: Option<String> = row.try_get("schema").map_err(unreadable)?;
        let name: Option<String> = row.try_get("name").map_err(unreadable)?;
        let fingerprint: Option<String> = row.try_get("fingerprint").map_err(unreadable)?;
        match (&schema, &name) {
            (Some(schema), Some(name)) if (schema, name) != (&self.schema, &self.name) => {
                return Err(self.changed(&format!("it is called {schema}.{name} now")));
            }
            (Some(_), Some(_)) => {}
            _ => return Err(self.changed("it was dropped")),
        }
        if fingerprint.as_ref() != Some(&self.fingerprint) {
            return Err(self.changed(
                "a column that the rule reads, a foreign key to the table, its rules, or the table that it is a part of changed",
            ));
        }
        let filenode: Option<i64> = row.try_get("filenode").map_err(unreadable)?;
        let blocks: Option<i64> = row.try_get("blocks").map_err(unreadable)?;
        let wal: i64 = row.try_get("wal").map_err(unreadable)?;
        Ok(Look {
            filenode: filenode
                .and_then(|node| u32::try_from(node).ok())
                .unwrap_or(0),
            blocks: blocks
                .and_then(|blocks| u64::try_from(blocks).ok())
                .unwrap_or(0),
            wal: u64::try_from(wal).unwrap_or(0),
        })
    }

    /// The plain form: one DELETE over the range. When it is refused the transaction is over.
    pub(super) async fn delete(
        &self,
        session: &mut Session,
        server: &Server,
        settings: &Settings,
        range: Range,
        cutoff: BoundCutoff,
    ) -> Result<u64, Refusal> {
        let query = self.statements.delete.query();
        let query = query
            .bind(tid(range.start))
            .bind(tid(range.end))
            .bind(cutoff);
        match session.execute(query).await {
            Ok(rows) => Ok(rows),
            Err(reason) => {
                session.rollback().await;
                Err(match error::code(&reason) {
                    Some(error::LOCK_NOT_AVAILABLE | error::DEADLOCK) => Refusal::Locked,
                    _ => Refusal::Failed(self.error(server, settings, &reason)),
                })
            }
        }
    }

    /// The careful form, in a chunk that has begun: lock what is free, delete that, count what is left. Rows and blocked rows.
    pub(super) async fn delete_free(
        &self,
        session: &mut Session,
        server: &Server,
        settings: &Settings,
        range: Range,
        cutoff: BoundCutoff,
    ) -> Result<(u64, u64), EngineError> {
        let outcome = self.lock_and_delete(session, range, cutoff).await;
        if outcome.is_err() {
            session.rollback().await;
        }
        outcome.map_err(|reason| self.error(server, settings, &reason))
    }

    async fn lock_and_delete(
        &self,
        session: &mut Session,
        range: Range,
        cutoff: BoundCutoff,
    ) -> Result<(u64, u64), sqlx::Error> {
        let lock = self.statements.lock.query();
        let lock = lock
            .bind(tid(range.start))
            .bind(tid(range.end))
            .bind(cutoff);
        let free: Vec<String> = session
            .rows(lock)
            .await?
            .iter()
            .map(|row| row.try_get("tid"))
            .collect::<Result<_, _>>()?;
        let rows = if free.is_empty() {
            0
        } else {
            let delete = self.statements.delete_locked.query();
            session.execute(delete.bind(free).bind(cutoff)).await?
        };
        let blocked = self.count_left(session, range, cutoff).await?;
        Ok((rows, blocked))
    }

    /// Counts what is expired in a range and was not deleted, in a chunk that has begun.
    pub(super) async fn count_blocked(
        &self,
        session: &mut Session,
        server: &Server,
        settings: &Settings,
        range: Range,
        cutoff: BoundCutoff,
    ) -> Result<u64, EngineError> {
        let counted = self.count_left(session, range, cutoff).await;
        if counted.is_err() {
            session.rollback().await;
        }
        counted.map_err(|reason| self.error(server, settings, &reason))
    }

    async fn count_left(
        &self,
        session: &mut Session,
        range: Range,
        cutoff: BoundCutoff,
    ) -> Result<u64, sqlx::Error> {
        let count = self.statements.remaining.query();
        let count = count
            .bind(tid(range.start))
            .bind(tid(range.end))
            .bind(cutoff);
        let left: i64 = session.row(count).await?.try_get("n")?;
        Ok(u64::try_from(left).unwrap_or(0))
    }

    /// Ends a chunk that deleted rows, up to its COMMIT: deferred constraints have fired, no row of another table was reached,
    /// the lease is held, and the transaction lives.
    pub(super) async fn finish(
        &self,
        session: &mut Session,
        server: &Server,
        settings: &Settings,
        finish: &Sql,
        lease: Option<&Lease>,
    ) -> Result<Finished, EngineError> {
        let outcome = match session.raw(finish).await {
            // The lease's own row comes last: without it the chunk is another sweeper's.
            Ok(rows) => match lease {
                Some(lease) if rows.len() != 2 => Err(lease.lost()),
                _ => self.judge_finish(&rows),
            },
            Err(reason) => Err(self.error(server, settings, &reason)),
        };
        if outcome.is_err() {
            session.rollback().await;
        }
        outcome
    }

    fn judge_finish(&self, rows: &[sqlx::postgres::PgRow]) -> Result<Finished, EngineError> {
        let odd = |message: String| EngineError::Database {
            what: format!("deleting expired rows of {}", self.qualified()),
            message,
            code: "-".to_owned(),
        };
        let row = rows
            .first()
            .ok_or_else(|| odd("the transaction ended early".to_owned()))?;
        let filled: Option<String> = row.try_get("filled").map_err(|e| odd(e.to_string()))?;
        if let Some(filled) = filled {
            return Err(EngineError::Dependents(format!(
                "{filled} refers to {} and is not empty any more: nothing of this chunk was deleted",
                self.qualified()
            )));
        }
        let xid: Option<String> = row.try_get("xid").map_err(|e| odd(e.to_string()))?;
        let xid = xid.ok_or_else(|| {
            odd("the transaction has no number although it deleted rows".to_owned())
        })?;
        let wal: i64 = row.try_get("wal").map_err(|e| odd(e.to_string()))?;
        let waiters: i64 = row.try_get("waiters").map_err(|e| odd(e.to_string()))?;
        Ok(Finished {
            xid,
            wal: u64::try_from(wal).unwrap_or(0),
            waiters: u32::try_from(waiters).unwrap_or(u32::MAX),
        })
    }
}

/// The very beginning of a block, as a tid's text: no row has the line number 0.
fn tid(block: u64) -> String {
    format!("({block},0)")
}

/// How long a chunk may stay open while the runner decides; a process that is stopped in the middle of one keeps its rows
/// locked no longer.
pub(super) const CHUNK_IDLE_TIMEOUT: Duration = Duration::from_secs(7);

impl Settings {
    /// How a chunk begins. It does not ask for READ WRITE: where the server, the database or the role was set read-only, it stays so.
    pub(super) fn chunk(&self) -> sql::Begin {
        sql::Begin {
            read_only: false,
            one_snapshot: false,
            sequential: false,
            lock_timeout: self.lock_timeout,
            statement_timeout: self.statement_timeout,
            idle_timeout: CHUNK_IDLE_TIMEOUT,
            application_name: self.application_name.clone(),
        }
    }
}
