//! One connection, and the watch over how long its statements take.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    Connection, Sqlite,
    query::Query,
    sqlite::{SqliteArguments, SqliteConnection, SqliteRow},
};

use super::{connect::FileId, error, sql};

/// Ends statements that take too long, or whose caller has gone: SQLite has no server that would.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    began: Instant,
    /// Milliseconds after `began`.
    deadline: Arc<AtomicU64>,
    abandoned: Arc<AtomicBool>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            deadline: Arc::new(AtomicU64::new(u64::MAX)),
            abandoned: Arc::default(),
        }
    }
}

impl Watch {
    /// The virtual machine looks up after this many steps: several hundred times a second.
    pub(super) const EVERY: i32 = 20_000;

    /// Asked by SQLite in the middle of a statement.
    pub(super) fn goes_on(&self) -> bool {
        !self.abandoned.load(Ordering::Relaxed)
            && self.now() <= self.deadline.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn allow(&self, limit: Option<Duration>) {
        let deadline = limit.map_or(u64::MAX, |limit| {
            let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            self.now().saturating_add(limit.max(1))
        });
        self.deadline.store(deadline, Ordering::Relaxed);
    }
}

/// Ends the statement of a caller that was cancelled.
struct Abandon<'a>(&'a Watch, bool);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if self.1 {
            self.0.abandoned.store(true, Ordering::Relaxed);
        }
    }
}

/// One connection. Whoever drops it, or is cancelled in the middle, closes it: SQLite then rolls back.
#[derive(Debug)]
pub(super) struct Session {
    connection: Option<SqliteConnection>,
    watch: Watch,
    limit: Duration,
    file: FileId,
}

impl Session {
    pub(super) fn new(connection: SqliteConnection, watch: Watch, file: FileId) -> Self {
        Self {
            connection: Some(connection),
            watch,
            limit: Duration::from_secs(30),
            file,
        }
    }

    /// The file that was opened.
    pub(super) fn file(&self) -> &FileId {
        &self.file
    }

    /// How long a statement may take.
    pub(super) fn limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// The connection can be used.
    pub(super) fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// The rows of one statement.
    pub(super) async fn rows(
        &mut self,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut connection = self.take()?;
        let mut abandon = Abandon(&self.watch, true);
        let answer = query.fetch_all(&mut connection).await;
        abandon.1 = false;
        drop(abandon);
        self.keep(connection, &answer);
        answer
    }

    /// The only row of one statement.
    pub(super) async fn row(
        &mut self,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<SqliteRow, sqlx::Error> {
        let rows = self.rows(query).await?;
        rows.into_iter().next().ok_or(sqlx::Error::RowNotFound)
    }

    /// The number of rows that one statement changed; meaningful for DELETE and its like only.
    pub(super) async fn execute(
        &mut self,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<u64, sqlx::Error> {
        let mut connection = self.take()?;
        let mut abandon = Abandon(&self.watch, true);
        let answer = query.execute(&mut connection).await;
        abandon.1 = false;
        drop(abandon);
        self.keep(connection, &answer);
        answer.map(|done| done.rows_affected())
    }

    /// Begins a transaction that sees one state of the database from its first read on.
    pub(super) async fn begin_read(&mut self) -> Result<(), sqlx::Error> {
        self.execute(sql::constant("BEGIN")).await.map(drop)
    }

    /// Begins a transaction that alone may write: the lock of the whole database.
    pub(super) async fn begin_write(&mut self) -> Result<(), sqlx::Error> {
        self.execute(sql::constant("BEGIN IMMEDIATE"))
            .await
            .map(drop)
    }

    /// Ends the transaction, and keeps what it did.
    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.execute(sql::constant("COMMIT")).await.map(drop)
    }

    /// From now on waits two seconds for a lock: for short work that is no chunk.
    pub(super) async fn be_patient(&mut self) -> Result<(), sqlx::Error> {
        self.rows(sql::constant("PRAGMA busy_timeout = 2000"))
            .await
            .map(drop)
    }

    /// Ends the transaction without a trace. A connection that does not obey is closed, which has the same effect.
    pub(super) async fn rollback(&mut self) {
        if self.is_open()
            && let Err(reason) = self.execute(sql::constant("ROLLBACK")).await
            && !error::has_no_transaction(&reason)
        {
            self.connection = None;
        }
    }

    /// Ends the session.
    pub(super) async fn close(mut self) {
        self.rollback().await;
        if let Some(connection) = self.connection.take() {
            // Nothing is left to do when even this fails.
            let _ = connection.close().await;
        }
    }

    /// Until the answer is complete the connection is in no one's hands: a cancelled caller thereby closes it.
    fn take(&mut self) -> Result<SqliteConnection, sqlx::Error> {
        let connection = self
            .connection
            .take()
            .ok_or_else(|| sqlx::Error::Protocol("the connection is closed".to_owned()))?;
        self.watch.allow(Some(self.limit));
        Ok(connection)
    }

    fn keep<T>(&mut self, connection: SqliteConnection, answer: &Result<T, sqlx::Error>) {
        self.watch.allow(None);
        if answer.as_ref().err().is_none_or(error::session_survives) {
            self.connection = Some(connection);
        }
    }
}
