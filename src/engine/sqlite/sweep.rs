//! One rule's walk over its table.
//!
//! `BEGIN IMMEDIATE` takes the lock of the whole database, which fences other sweeps off for one chunk. The ledger's lease, which
//! keeps them off between two chunks, is looked up in [`Sweep::begin`] and renewed in [`Sweep::end`], right before the COMMIT.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Row, sqlite::SqliteRow};

use super::{
    catalog::{self, ROWS_PER_PAGE, Table},
    connect::Connector,
    error::{self, Doing},
    ledger::Lease,
    predicate,
    session::Session,
    sql::{self, RangeStatements, Sql, WalkStatements},
    value::{self, Value},
    walk::Position,
};
use crate::{
    engine::{
        Chunk, ChunkTarget, CommitOutcome, EngineError, TableSweep,
        cursor::{Cursor, KeyPart},
    },
    policy::{
        cutoff::Cutoff, dependents::Dependents, pace::Pressure, plan::RulePlan, table::TableKind,
    },
};

/// See [`TableSweep`].
#[derive(Debug)]
pub(super) struct Sweep {
    session: Session,
    connector: Connector,
    statement_timeout: Duration,
    plan: RulePlan,
    /// `main.table`, for messages.
    table: String,
    /// The columns that the plan reads.
    columns: Vec<String>,
    parts: usize,
    is_tagged: bool,
    /// What must not change.
    fingerprint: String,
    statements: WalkStatements,
    look: Sql,
    /// Of the table, as far as it is known.
    pages: u64,
    position: Position,
    /// The first chunk is a short one: nothing is known yet of what it costs.
    is_first: bool,
    /// The last commit met readers that did not end in time: the next chunk is not tried at once.
    was_crowded: bool,
    open: Option<OpenChunk>,
    lease: Lease,
}

/// A chunk whose transaction is open.
#[derive(Debug)]
struct OpenChunk {
    last: Vec<KeyPart>,
    pages: u32,
    rows: u64,
}

impl Sweep {
    pub(super) async fn open(
        connector: &Connector,
        statement_timeout: Duration,
        plan: &RulePlan,
        from: Option<Cursor>,
        lease: Lease,
    ) -> Result<Self, EngineError> {
        let mut session = connector.writer().await?;
        session.limit(statement_timeout);
        let columns = columns(plan);
        let doing = |what| Doing {
            file: connector.name(),
            what,
            table: Some(&plan.table.name),
            limit: statement_timeout,
        };
        let opening = async {
            session.begin_read().await?;
            let table = catalog::table(&mut session, &plan.table.name).await?;
            let schema = schema(&mut session).await?;
            Ok((table, schema))
        }
        .await;
        let (found, schema) = opening.map_err(|reason: sqlx::Error| {
            error::running(doing("beginning the sweep of"), &reason)
        })?;
        session.rollback().await;
        let found = found.ok_or_else(|| EngineError::TableChanged {
            table: plan.table.qualified(),
            reason: "there is no such table any more".to_owned(),
        })?;
        check(plan, &found, &columns)?;
        let key = found
            .key
            .as_ref()
            .map_err(|reason| not_supported(plan, reason))?;
        Ok(Self {
            statements: WalkStatements::new(plan, key)?,
            look: sql::look(&catalog::referrers(&found.facts), plan.table.id),
            fingerprint: found.fingerprint(&columns),
            parts: key.parts(),
            is_tagged: key.is_tagged(),
            pages: found.facts.leaves.iter().map(|leaf| leaf.pages).sum(),
            position: Position::resume(from, schema),
            session,
            connector: connector.clone(),
            statement_timeout,
            plan: plan.clone(),
            table: plan.table.qualified(),
            columns,
            is_first: true,
            was_crowded: false,
            open: None,
            lease,
        })
    }

    fn error(&self, what: &str, reason: &sqlx::Error) -> EngineError {
        let doing = Doing {
            file: self.connector.name(),
            what,
            table: Some(&self.table),
            limit: self.statement_timeout,
        };
        error::running(doing, reason)
    }

    fn changed(&self, reason: &str) -> EngineError {
        EngineError::TableChanged {
            table: self.table.clone(),
            reason: reason.to_owned(),
        }
    }

    /// Begins the chunk's transaction and looks whether everything is still as it was. The transaction holds the lock of the whole
    /// database: nothing changes until it ends.
    async fn begin(&mut self) -> Result<(), EngineError> {
        if self.connector.look()? != *self.session.file() {
            return Err(self.changed("another file has the database's name now"));
        }
        self.session
            .begin_write()
            .await
            .map_err(|reason| self.error("beginning a chunk of", &reason))?;
        let looked = self.session.row(self.look.query([])).await;
        let read = |row: &SqliteRow| -> Result<_, sqlx::Error> {
            Ok((
                row.try_get::<i64, _>("schema")?,
                row.try_get::<Option<String>, _>("filled")?,
            ))
        };
        let looked = looked.map_err(|reason| self.error("looking at", &reason))?;
        self.lease.admits(&looked)?;
        let (schema, filled) = read(&looked).map_err(|reason| self.error("looking at", &reason))?;
        if schema != self.position.schema() {
            self.look_again(schema).await?;
        }
        if let Some(child) = filled {
            return Err(EngineError::Dependents(format!(
                "{child} refers to {} and is not empty any more: nothing of this chunk was deleted",
                self.table
            )));
        }
        Ok(())
    }

    /// Ends a chunk that deleted rows; `false`: the lease is not held any more, and nothing was committed.
    async fn end(&mut self, chunk: &OpenChunk) -> Result<bool, sqlx::Error> {
        let counted = self.lease.finish(&mut self.session, chunk.rows, 0).await?;
        if counted {
            self.session.commit().await?;
        }
        Ok(counted)
    }

    /// Something in the schema changed: of this table too? Its rows may have new keys (VACUUM gives them), so the walk begins anew.
    async fn look_again(&mut self, schema: i64) -> Result<(), EngineError> {
        let found = catalog::table(&mut self.session, &self.plan.table.name)
            .await
            .map_err(|reason| self.error("looking at", &reason))?;
        let Some(found) = found else {
            return Err(self.changed("it was dropped or renamed"));
        };
        check(&self.plan, &found, &self.columns)?;
        if found.fingerprint(&self.columns) != self.fingerprint {
            return Err(self.changed(
                "a column that the rule reads, a trigger, the key, or a foreign key to the table changed",
            ));
        }
        self.position = Position::start(schema);
        Ok(())
    }

    /// The next range, in the transaction that has begun: its last key and its rows; `None`: the walk is over.
    async fn range(&mut self, rows: u64) -> Result<Option<(Vec<KeyPart>, u64)>, EngineError> {
        loop {
            if self.position.end().is_none() {
                match self.last_key().await? {
                    Some(last) => self.position.begin(last),
                    None => return Ok(None),
                }
            }
            let found = self
                .next_range(rows)
                .await
                .map_err(|reason| self.error("walking", &reason))?;
            match found {
                Some(range) => return Ok(Some(range)),
                None if self.position.pass_over() => {}
                None => return Ok(None),
            }
        }
    }

    async fn last_key(&mut self) -> Result<Option<Vec<KeyPart>>, EngineError> {
        let query = self.statements.last.query([]);
        let rows = self.session.rows(query).await;
        rows.and_then(|rows| {
            rows.first()
                .map(|row| value::key(row, self.parts))
                .transpose()
        })
        .map_err(|reason| self.error("walking", &reason))
    }

    async fn next_range(&mut self, rows: u64) -> Result<Option<(Vec<KeyPart>, u64)>, sqlx::Error> {
        let Some(end) = self.position.end().map(<[KeyPart]>::to_vec) else {
            return Ok(None);
        };
        let (statements, mut values) = self.bounds(&end);
        let (nth, count) = (statements.nth.clone(), statements.count.clone());
        values.push(Value::Integer(
            i64::try_from(rows.saturating_sub(1)).unwrap_or(i64::MAX),
        ));
        if let Some(row) = self.session.rows(nth.query(&values)).await?.first() {
            return Ok(Some((value::key(row, self.parts)?, rows)));
        }
        values.pop();
        let left: i64 = self.session.row(count.query(&values)).await?.try_get("n")?;
        let left = u64::try_from(left).unwrap_or(0);
        Ok((left > 0).then_some((end, left)))
    }

    /// The statements for the range from the position up to and with `last`, and the values of its bounds.
    fn bounds(&self, last: &[KeyPart]) -> (&RangeStatements, Vec<Value>) {
        match self.position.after() {
            None => (&self.statements.first, value::bound(last, self.is_tagged)),
            Some(after) => {
                let mut values = value::bound(after, self.is_tagged);
                values.extend(value::bound(last, self.is_tagged));
                (&self.statements.next, values)
            }
        }
    }

    async fn chunk(&mut self, target: ChunkTarget) -> Result<Option<Chunk>, EngineError> {
        self.begin().await?;
        let pages = if self.is_first {
            1
        } else {
            target.pages.max(1)
        };
        let most = u64::from(pages) * u64::from(ROWS_PER_PAGE);
        let Some((last, walked)) = self.range(most).await? else {
            return Ok(None);
        };
        let (statements, values) = self.bounds(&last);
        let query = statements.delete.query(&values);
        let rows = self
            .session
            .execute(query)
            .await
            .map_err(|reason| self.error("deleting expired rows of", &reason))?;
        let pages = u32::try_from(walked.div_ceil(u64::from(ROWS_PER_PAGE))).unwrap_or(u32::MAX);
        self.open = Some(OpenChunk { last, pages, rows });
        Ok(Some(Chunk {
            rows,
            pages,
            archived_rows: 0,
            cascaded_rows: 0,
            blocked_rows: 0,
            wal_bytes: 0,
            waiters: 0,
        }))
    }
}

#[async_trait]
impl TableSweep for Sweep {
    async fn delete_next(&mut self, target: ChunkTarget) -> Result<Option<Chunk>, EngineError> {
        self.rollback().await?;
        if std::mem::take(&mut self.was_crowded) {
            return Err(EngineError::LockTimeout {
                what: self.connector.name().to_owned(),
            });
        }
        if !self.session.is_open() {
            self.session = self.connector.writer().await?;
        }
        self.session.limit(self.statement_timeout);
        let chunk = self.chunk(target).await;
        if !matches!(chunk, Ok(Some(_))) {
            self.session.rollback().await;
        }
        chunk
    }

    async fn commit(&mut self) -> Result<CommitOutcome, EngineError> {
        let Some(chunk) = self.open.take() else {
            return Ok(CommitOutcome::Committed);
        };
        if chunk.rows == 0 {
            // Nothing was deleted: no page is written, and what a trigger may have done instead of the delete that it vetoed is undone.
            self.session.rollback().await;
            self.lease.renew(&mut self.session).await;
        } else {
            match self.end(&chunk).await {
                Ok(true) => self.lease.was_renewed(),
                Ok(false) => {
                    self.session.rollback().await;
                    return Err(self.lease.lost());
                }
                Err(reason) => {
                    self.session.rollback().await;
                    if error::is_busy(&reason) {
                        self.was_crowded = true;
                        return Ok(CommitOutcome::RolledBack);
                    }
                    return Err(if error::is_unclear(&reason) {
                        error::lost(self.connector.name(), reason.to_string())
                    } else {
                        self.error("committing a chunk of", &reason)
                    });
                }
            }
        }
        self.is_first = false;
        self.position.advance(chunk.last, u64::from(chunk.pages));
        Ok(CommitOutcome::Committed)
    }

    async fn rollback(&mut self) -> Result<(), EngineError> {
        if self.open.take().is_some() {
            self.session.rollback().await;
        }
        Ok(())
    }

    fn cursor(&self) -> Option<Cursor> {
        Some(self.position.cursor())
    }

    fn recorded(&self) -> Option<u64> {
        Some(self.lease.recorded())
    }

    /// Nothing is known of others: no server counts their work or their waiting.
    async fn pressure(&mut self) -> Result<Pressure, EngineError> {
        self.rollback().await?;
        Ok(Pressure::default())
    }

    fn progress(&self) -> (u64, u64) {
        let walked = self.position.walked();
        (walked, self.pages.max(walked))
    }

    async fn close(self: Box<Self>) {
        let Self {
            mut session, lease, ..
        } = *self;
        session.rollback().await;
        lease.give_back(&mut session).await;
        session.close().await;
    }
}

async fn schema(session: &mut Session) -> Result<i64, sqlx::Error> {
    session
        .row(sql::constant(sql::SCHEMA))
        .await?
        .try_get("schema")
}

/// The columns that a plan reads.
fn columns(plan: &RulePlan) -> Vec<String> {
    let mut columns = vec![plan.column.clone()];
    for read in plan.filter.iter().chain(&plan.holds) {
        predicate::columns(read, &mut columns);
    }
    columns.sort_unstable();
    columns.dedup();
    columns
}

fn not_supported(plan: &RulePlan, reason: &str) -> EngineError {
    EngineError::NotSupported(format!(
        "{} is a {reason}, whose rows a rule cannot delete",
        plan.table.qualified()
    ))
}

/// Is it still the table that was planned, and may its rows be deleted? The planner has asked the same; nothing is deleted on
/// the strength of an answer that may have aged.
fn check(plan: &RulePlan, now: &Table, columns: &[String]) -> Result<(), EngineError> {
    let facts = &now.facts;
    let table = plan.table.qualified();
    // Rows that should be archived must never just be deleted.
    if plan.archive.is_some()
        || (plan.dependents != Dependents::Refuse && !plan.table.incoming.is_empty())
    {
        return Err(EngineError::NotSupported(
            "archives, and dependents other than Refuse, are not carried out on SQLite".to_owned(),
        ));
    }
    if let TableKind::Unsupported(word) = &facts.kind {
        return Err(not_supported(plan, word));
    }
    if facts.system {
        return Err(EngineError::NotSupported(format!(
            "{table} belongs to SQLite or to the operator's ledger"
        )));
    }
    if let Err(reason) = &now.key {
        return Err(not_supported(plan, reason));
    }
    for name in columns {
        match (plan.table.column(name), facts.column(name)) {
            (Some(then), Some(now)) if then == now => {}
            _ => {
                return Err(EngineError::TableChanged {
                    table,
                    reason: format!("column {name:?} is not what it was"),
                });
            }
        }
    }
    if plan.encoding.is_none() || !matches!(plan.cutoff, Cutoff::Instant(_)) {
        return Err(EngineError::NotSupported(format!(
            "{table}: column {:?} cannot be compared with the cutoff: state encoding",
            plan.column
        )));
    }
    if let Some(key) = facts.incoming.iter().find(|key| !key.empty) {
        return Err(EngineError::Dependents(format!(
            "{} refers to {table} ({}): the rows that refer to it have to go first",
            key.table, key.name
        )));
    }
    Ok(())
}
