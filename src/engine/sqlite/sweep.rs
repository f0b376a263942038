//! One rule's walk over its table.
//!
//! `BEGIN IMMEDIATE` takes the lock of the whole database, which fences other sweeps off for one chunk. The ledger's lease, which
//! keeps them off between two chunks, is looked up in [`Sweep::begin`] and renewed in [`Sweep::end`], right before the COMMIT.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sqlx::{Row, sqlite::SqliteRow};

use super::{
    archive_table::{self, Archive},
    brief::Brief,
    catalog::{self, ROWS_PER_PAGE, Table},
    connect::Connector,
    error::{self, Doing},
    form::{Form, Forms, MAX_ROUNDS},
    ledger::Lease,
    obstacles::{Counters, HeldColumns, Obstacles, held_columns},
    opening::{check, columns, found, not_supported, there},
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
    policy::{dependents::Dependents, pace::Pressure, plan::RulePlan},
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
    counters: Counters,
    /// The archive table, `main.table`, into which the rows go.
    archive: Option<String>,
    /// Of the rule's own table rows may go along.
    counts_itself: bool,
    forms: Forms,
    /// Of the table, as far as it is known.
    pages: u64,
    position: Position,
    /// The first chunk is a short one: nothing is known yet of what it costs.
    is_first: bool,
    /// The last commit met readers that did not end in time: the next chunk is not tried at once.
    was_crowded: bool,
    open: Option<OpenChunk>,
    lease: Lease,
    /// When the open transaction, or the last one, began.
    began: Instant,
    brief: Brief,
    /// Where something in a range keeps all of it: the rows of the next range.
    narrow: Option<u64>,
    /// Rows that are referred to were met a moment ago: the plain form would only fail again.
    wary: bool,
    /// The form in which a range has to be taken whose plain form failed at its commit.
    next: Option<Form>,
}

/// A chunk whose transaction is open.
#[derive(Debug, Default)]
struct OpenChunk {
    last: Vec<KeyPart>,
    pages: u32,
    /// Rows in the range.
    walked: u64,
    form: Form,
    rows: u64,
    cascaded: u64,
    blocked: u64,
    /// Rows that the archive kept.
    kept: u64,
    /// Rows of the table that are gone, whoever deleted them, where there is an archive.
    lost: u64,
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
        let failed = |reason: sqlx::Error| error::running(doing("beginning the sweep of"), &reason);
        if plan.archive.is_some() {
            let found = found(&mut session, plan).await.map_err(failed)?.0;
            session.rollback().await;
            check(plan, &there(plan, found)?, &columns)?;
            archive_table::prepare(&mut session, connector, statement_timeout, plan).await?;
        }
        let (found, held, schema) = found(&mut session, plan).await.map_err(failed)?;
        let archive = archive_table::find(&mut session, connector, statement_timeout, plan).await?;
        session.rollback().await;
        let found = there(plan, found)?;
        check(plan, &found, &columns)?;
        let key = found
            .key
            .as_ref()
            .map_err(|reason| not_supported(plan, reason))?;
        let obstacles = Obstacles {
            plan,
            keys: &found.facts.incoming,
            pairs: &found.pairs,
            rows: key,
            held: &held,
        };
        let referrers = match plan.dependents {
            Dependents::Refuse => catalog::referrers(&found.facts),
            Dependents::Skip | Dependents::Cascade => Vec::new(),
        };
        let reached = obstacles.tables();
        let counters = Counters::of(&reached, archive.as_ref());
        counters.install(&mut session).await.map_err(failed)?;
        Ok(Self {
            statements: WalkStatements::new(&obstacles)?,
            look: sql::look(&referrers, plan.table.id),
            counts_itself: reached.contains(&plan.table.name.as_str()),
            counters,
            forms: Forms::of(&obstacles),
            fingerprint: fingerprint(&found, &columns, &held, archive.as_ref()),
            archive: archive.map(|archive| archive.qualified()),
            began: Instant::now(),
            brief: Brief::default(),
            narrow: None,
            wary: false,
            next: None,
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
        while !self.begin_once().await? {}
        let reset = self.counters.reset(&mut self.session).await;
        reset.map_err(|reason| self.error("looking at", &reason))
    }

    /// `false`: the schema changed in a way that does not matter, and the session was opened anew.
    async fn begin_once(&mut self) -> Result<bool, EngineError> {
        if self.connector.look()? != *self.session.file() {
            return Err(self.changed("another file has the database's name now"));
        }
        self.session
            .begin_write()
            .await
            .map_err(|reason| self.error("beginning a chunk of", &reason))?;
        self.began = Instant::now();
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
            if self.counters.is_used() {
                // A table that was made anew has lost its temporary trigger.
                self.session.rollback().await;
                self.reopen().await?;
                return Ok(false);
            }
        }
        if let Some(child) = filled {
            return Err(EngineError::Dependents(format!(
                "{child} refers to {} and is not empty any more: nothing of this chunk was deleted",
                self.table
            )));
        }
        Ok(true)
    }

    /// A new session with its counters.
    async fn reopen(&mut self) -> Result<(), EngineError> {
        self.session = self.connector.writer().await?;
        self.session.limit(self.statement_timeout);
        let installed = self.counters.install(&mut self.session).await;
        installed.map_err(|reason| self.error("beginning a chunk of", &reason))
    }

    /// Ends a chunk that deleted rows; `false`: the lease is not held any more, and nothing was committed.
    async fn end(&mut self, chunk: &OpenChunk) -> Result<bool, sqlx::Error> {
        let taken = chunk.rows.saturating_add(chunk.cascaded);
        let archived = self.archived(chunk.rows);
        let counted = self
            .lease
            .finish(&mut self.session, taken, archived)
            .await?;
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
        let held = held_columns(&mut self.session, &self.plan)
            .await
            .map_err(|reason| self.error("looking at", &reason))?;
        let archive = archive_table::find(
            &mut self.session,
            &self.connector,
            self.statement_timeout,
            &self.plan,
        )
        .await
        .map_err(|error| match error {
            EngineError::Archive(reason) => self.changed(&reason),
            other => other,
        })?;
        if fingerprint(&found, &self.columns, &held, archive.as_ref()) != self.fingerprint {
            return Err(self.changed(
                "a column that the rule reads or archives, a trigger, the key, or a foreign key to the table changed",
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

    /// Rows of the next range; a narrow one grows back by doubling.
    fn size(&self, target: ChunkTarget) -> u64 {
        let pages = if self.is_first {
            1
        } else {
            target.pages.max(1)
        };
        let most = self.brief.of(u64::from(pages) * u64::from(ROWS_PER_PAGE));
        self.narrow.map_or(most, |narrow| narrow.min(most)).max(1)
    }

    /// Deletes what may go of the next range: the plain form first, unless it is known to fail, then the careful one. What keeps
    /// a whole range is narrowed down to its row, which then counts as blocked.
    async fn chunk(&mut self, target: ChunkTarget) -> Result<Option<Chunk>, EngineError> {
        let mut form = self
            .next
            .take()
            .unwrap_or_else(|| self.forms.first(self.wary));
        loop {
            self.begin().await?;
            let Some((last, walked)) = self.range(self.size(target)).await? else {
                return Ok(None);
            };
            match self.attempt(form, &last).await {
                Ok(taken)
                    if self.archived(taken.rows) != taken.kept
                        || self.archived(taken.lost) != taken.kept =>
                {
                    return Err(EngineError::Archive(format!(
                        "archive table {} kept {} of {} rows of {}, which a trigger or a constraint may have caused: nothing of this chunk was moved",
                        self.archive.as_deref().unwrap_or_default(),
                        taken.kept,
                        taken.rows.max(taken.lost),
                        self.table
                    )));
                }
                Ok(taken) => {
                    self.wary = form != Form::Plain && taken.blocked > 0;
                    let pages = walked.div_ceil(u64::from(ROWS_PER_PAGE));
                    let chunk = OpenChunk {
                        last,
                        pages: u32::try_from(pages).unwrap_or(u32::MAX),
                        walked,
                        form,
                        ..taken
                    };
                    let report = Chunk {
                        rows: chunk.rows,
                        pages: chunk.pages,
                        archived_rows: self.archived(chunk.rows),
                        cascaded_rows: chunk.cascaded,
                        blocked_rows: chunk.blocked,
                        wal_bytes: 0,
                        waiters: 0,
                    };
                    self.open = Some(chunk);
                    return Ok(Some(report));
                }
                Err(reason)
                    if self.forms.yields
                        && error::is_kept_by_a_key(&reason, self.forms.insists) =>
                {
                    // A constraint may have ended the transaction: nothing is done but in one that began as it should.
                    self.session.rollback().await;
                    form = self.yields(form, walked);
                }
                Err(reason) => return Err(self.not_taken(&reason)),
            }
        }
    }

    /// So many of these rows are in the archive.
    fn archived(&self, rows: u64) -> u64 {
        if self.archive.is_some() { rows } else { 0 }
    }

    fn not_taken(&self, reason: &sqlx::Error) -> EngineError {
        match (&self.archive, error::of_constraint(reason)) {
            (Some(archive), Some(message)) => EngineError::Archive(format!(
                "moving rows of {} into archive table {archive}: {message}: nothing of this chunk was moved",
                self.table
            )),
            _ => self.error("deleting expired rows of", reason),
        }
    }

    /// What to try after `form` failed on a range of so many rows.
    fn yields(&mut self, form: Form, walked: u64) -> Form {
        self.wary = true;
        self.forms.after(form, walked).unwrap_or_else(|| {
            self.narrow = Some((walked / 2).max(1));
            self.forms.first(true)
        })
    }

    /// Takes the range up to and with `last` in one form, in the transaction that has begun.
    async fn attempt(&mut self, form: Form, last: &[KeyPart]) -> Result<OpenChunk, sqlx::Error> {
        let (statements, values) = self.bounds(last);
        let left = statements.left.clone();
        let (delete, rounds) = match form {
            Form::Plain => (Some(statements.delete.clone()), 1),
            Form::Careful { insists } => {
                let [careful, insistent] = &statements.careful;
                let delete = if insists { insistent } else { careful };
                let rounds = if self.forms.repeats { MAX_ROUNDS } else { 1 };
                (Some(delete.clone()), rounds)
            }
            Form::Count => (None, 0),
        };
        let mut taken = OpenChunk::default();
        if let Some(delete) = delete {
            for _ in 0..rounds {
                let rows = self.session.execute(delete.query(&values)).await?;
                taken.rows += rows;
                if rows == 0 {
                    break;
                }
            }
        }
        if form != Form::Plain {
            let row = self.session.row(left.query(&values)).await?;
            taken.blocked = u64::try_from(row.try_get::<i64, _>("n")?).unwrap_or(0);
        }
        let gone = self.counters.gone(&mut self.session).await?;
        (taken.kept, taken.lost) = (gone.kept, gone.lost);
        let own = if self.counts_itself { taken.rows } else { 0 };
        taken.cascaded = gone.reached.saturating_sub(own);
        Ok(taken)
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
        if self.session.is_open() {
            self.session.limit(self.statement_timeout);
        } else {
            self.reopen().await?;
        }
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
                        self.next = Some(chunk.form);
                        return Ok(CommitOutcome::RolledBack);
                    }
                    if self.forms.yields && error::is_kept_by_a_key(&reason, false) {
                        // A key that is looked at in the end only.
                        self.next = Some(self.yields(chunk.form, chunk.walked));
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
        self.brief.learn(chunk.walked, self.began.elapsed());
        self.narrow = self
            .narrow
            .map(|narrow| narrow.saturating_mul(2))
            .filter(|narrow| *narrow < u64::from(ROWS_PER_PAGE));
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

/// What must not change while the table is walked.
fn fingerprint(
    table: &Table,
    columns: &[String],
    held: &HeldColumns,
    archive: Option<&Archive>,
) -> String {
    let held: BTreeMap<_, _> = held.iter().collect();
    let archive = archive.map(Archive::told);
    format!("{} {held:?} {archive:?}", table.fingerprint(columns))
}
