//! Sessions with the server: a few at most, opened on demand, and never reused when it is unclear what was answered.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt;
use sqlx::{
    Connection, Postgres,
    postgres::{PgArguments, PgConnection, PgRow},
    query::Query,
};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::{
    COUNT_TIMEOUT,
    connect::{Connector, Server},
    error::{self, Doing},
    own_use::OwnCounts,
    sql::{self, Begin, Sql},
};
use crate::engine::EngineError;

/// How long one waits for another session of this very engine to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the network may add to a statement's own limit.
const NETWORK_SLACK: Duration = Duration::from_secs(15);

/// The sessions of one engine.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) connector: Connector,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<PgConnection>>,
    /// What all of them added to the server's counters.
    pub(super) own: OwnCounts,
}

impl Sessions {
    pub(super) fn new(connector: Connector, max: u32) -> Self {
        Self {
            connector,
            permits: Arc::new(Semaphore::new(usize::try_from(max.max(1)).unwrap_or(1))),
            idle: Mutex::new(Vec::new()),
            own: OwnCounts::default(),
        }
    }

    pub(super) fn server(&self) -> &Server {
        &self.connector.server
    }

    /// A session of one's own, not in a transaction.
    pub(super) async fn acquire(self: &Arc<Self>) -> Result<Session, EngineError> {
        let permits = Arc::clone(&self.permits);
        let permit = tokio::time::timeout(PATIENCE, permits.acquire_owned())
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| {
                error::unreachable(
                    self.server(),
                    "every connection that the policy allows is in use".to_owned(),
                )
            })?;
        let idle = self.idle.lock().await.pop();
        let reused = idle.is_some();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connector.open().await?,
        };
        Ok(Session {
            connection: Some(connection),
            reused,
            limit: PATIENCE,
            begun: false,
            sessions: Arc::clone(self),
            _permit: permit,
        })
    }

    /// A session in a transaction.
    pub(super) async fn begin(self: &Arc<Self>, begin: &Begin) -> Result<Session, EngineError> {
        let mut session = self.acquire().await?;
        session.begin(begin).await?;
        Ok(session)
    }

    /// Ends what is idle.
    pub(super) async fn close(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().await);
        for connection in idle {
            // The other side may be gone already; that is as good.
            let _ = connection.close().await;
        }
    }
}

/// One connection on loan. Whoever drops it, or is cancelled in the middle, closes it: the server then rolls back.
#[derive(Debug)]
pub(super) struct Session {
    connection: Option<PgConnection>,
    reused: bool,
    /// No answer takes longer; else the connection is taken for dead.
    limit: Duration,
    /// Something was said since the last end of a transaction: one may be open.
    begun: bool,
    sessions: Arc<Sessions>,
    _permit: OwnedSemaphorePermit,
}

impl Session {
    /// Begins a transaction. A connection that lay idle may have been closed meanwhile: then once more on a new one.
    pub(super) async fn begin(&mut self, begin: &Begin) -> Result<(), EngineError> {
        self.limit = begin.statement_timeout;
        let sql = begin.sql();
        let first = self.raw(&sql).await;
        let mut outcome = match first {
            Err(reason) if self.reused && error::session_lost(&reason) => {
                self.reconnect().await?;
                self.raw(&sql).await
            }
            other => other,
        };
        if outcome.is_ok() && begin.statement_timeout >= COUNT_TIMEOUT && self.limits_transactions()
        {
            // What a role's transactions may take is no limit for the one count of a large table.
            outcome = self
                .raw(&sql::fixed("SET LOCAL transaction_timeout = 0"))
                .await;
        }
        outcome.map(|_| ()).map_err(|reason| {
            let doing = Doing {
                what: "beginning a transaction",
                table: None,
                grant: None,
                statement_timeout: begin.statement_timeout,
            };
            error::running(self.sessions.server(), doing, &reason)
        })
    }

    /// The server knows a timeout for whole transactions: from version 17 on.
    fn limits_transactions(&self) -> bool {
        self.connection
            .as_ref()
            .and_then(PgConnection::server_version_num)
            .is_some_and(|version| version >= 170_000)
    }

    /// Whom the session speaks to.
    pub(super) fn server(&self) -> &Server {
        self.sessions.server()
    }

    /// Whose session it is.
    pub(super) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// How long an answer may take.
    pub(super) fn limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// The connection can be used.
    pub(super) fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// It was used before it came here.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Replaces the connection.
    pub(super) async fn reconnect(&mut self) -> Result<(), EngineError> {
        self.connection = None;
        self.connection = Some(self.sessions.connector.open().await?);
        self.reused = false;
        self.begun = false;
        Ok(())
    }

    /// Several statements without values in one round trip; the rows of all of them.
    pub(super) async fn raw(&mut self, sql: &Sql) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut connection = self.take()?;
        let answer = sql.raw().fetch_all(&mut connection);
        let answer = within(self.limit, answer).await;
        self.keep(connection, &answer);
        answer
    }

    /// The rows of one statement.
    pub(super) async fn rows(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut connection = self.take()?;
        let answer = query.fetch_all(&mut connection);
        let answer = within(self.limit, answer).await;
        self.keep(connection, &answer);
        answer
    }

    /// What `make` makes of each row of one statement; the rows themselves are never all in memory.
    pub(super) async fn collect<T: Send>(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
        mut make: impl FnMut(&PgRow) -> Result<T, sqlx::Error> + Send,
    ) -> Result<Vec<T>, sqlx::Error> {
        let mut connection = self.take()?;
        let answer = async {
            let mut rows = query.fetch(&mut connection);
            let mut made: Result<Vec<T>, sqlx::Error> = Ok(Vec::new());
            // To the last row, whatever becomes of them: the next answer stands behind it.
            while let Some(row) = rows.try_next().await? {
                made = made.and_then(|mut made| {
                    made.push(make(&row)?);
                    Ok(made)
                });
            }
            Ok::<_, sqlx::Error>(made)
        };
        let answer = within(self.limit, answer).await;
        self.keep(connection, &answer);
        answer?
    }

    /// The only row of one statement.
    pub(super) async fn row(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<PgRow, sqlx::Error> {
        let rows = self.rows(query).await?;
        rows.into_iter().next().ok_or(sqlx::Error::RowNotFound)
    }

    /// The number of rows that one statement changed.
    pub(super) async fn execute(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<u64, sqlx::Error> {
        let mut connection = self.take()?;
        let answer = within(self.limit, query.execute(&mut connection)).await;
        self.keep(connection, &answer);
        answer.map(|done| done.rows_affected())
    }

    /// Ends the transaction, if there is one, without a trace. A connection that does not obey is closed, which has the same effect.
    pub(super) async fn rollback(&mut self) {
        if self.begun && self.is_open() && self.raw(&sql::fixed("ROLLBACK")).await.is_err() {
            self.connection = None;
        }
        self.begun = false;
    }

    /// Ends a reading transaction, if there is one, and keeps the session.
    pub(super) async fn end(&mut self) {
        if self.begun && self.is_open() && self.raw(&sql::fixed("COMMIT")).await.is_err() {
            self.connection = None;
        }
        self.begun = false;
    }

    /// Commits. An error that the session survives says that nothing was committed; another one leaves that open.
    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        let answer = self.raw(&sql::fixed("COMMIT")).await.map(drop);
        // A COMMIT that was cancelled before it began leaves the transaction open.
        self.begun = answer.is_err();
        answer
    }

    /// Ends a reading transaction, and keeps the connection for whoever comes next. By COMMIT: rollbacks are a number that
    /// administrators watch.
    pub(super) async fn release(mut self) {
        self.end().await;
        self.give_back().await;
    }

    /// Keeps the connection for whoever comes next, unless a transaction may be open on it.
    pub(super) async fn give_back(mut self) {
        if let Some(connection) = self.connection.take().filter(|_| !self.begun) {
            self.sessions.idle.lock().await.push(connection);
        }
    }

    /// Ends a writing transaction in which every statement succeeded, and keeps the connection for whoever comes next.
    pub(super) async fn commit_and_give_back(mut self) -> Result<(), sqlx::Error> {
        let answer = self.commit().await;
        self.give_back().await;
        answer
    }

    /// Ends a transaction without a trace, and keeps the connection for whoever comes next.
    pub(super) async fn abandon(mut self) {
        self.rollback().await;
        self.give_back().await;
    }

    /// Closes the connection and all that lie idle beside it.
    pub(super) async fn forget_all(&mut self) {
        self.connection = None;
        self.sessions.close().await;
    }

    /// Ends the session.
    pub(super) async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            // The other side may be gone already; that is as good.
            let _ = connection.close().await;
        }
    }

    /// Until the answer is complete the connection is in no one's hands: a cancelled caller thereby closes it.
    fn take(&mut self) -> Result<PgConnection, sqlx::Error> {
        self.begun = true;
        self.connection
            .take()
            .ok_or_else(|| sqlx::Error::Protocol("the connection is closed".to_owned()))
    }

    fn keep<T>(&mut self, connection: PgConnection, answer: &Result<T, sqlx::Error>) {
        if answer.as_ref().err().is_none_or(error::session_survives) {
            self.connection = Some(connection);
        }
    }
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit + NETWORK_SLACK, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "no answer in time",
        ))),
    }
}
