//! Queries in transactions of their own, after the one that reads the catalogs.

use std::time::Duration;

use sqlx::{
    Postgres,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use crate::{
    engine::{
        EngineError,
        postgres::{
            error::{self, Doing},
            session::Session,
            sql::{Begin, constant},
        },
    },
    policy::hygiene::Facts,
};

/// A session that is in no transaction.
pub(super) struct Reader<'a> {
    session: &'a mut Session,
    begin: Begin,
}

impl<'a> Reader<'a> {
    /// Ends the transaction that `session` is in; each later one begins as `begin` says.
    pub(super) async fn new(session: &'a mut Session, begin: Begin) -> Self {
        session.end().await;
        Self { session, begin }
    }

    /// One query that the server may refuse, in words.
    pub(super) async fn alone(
        &mut self,
        lock_timeout: Duration,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Result<Vec<PgRow>, String>, EngineError> {
        let begin = Begin {
            lock_timeout,
            ..self.begin.clone()
        };
        if !self.session.is_open() {
            self.session.reconnect().await?;
        }
        self.session.begin(&begin).await?;
        match self.session.rows(query).await {
            Ok(rows) => {
                self.session.end().await;
                Ok(Ok(rows))
            }
            Err(reason) if error::session_survives(&reason) => {
                self.session.rollback().await;
                Ok(Err(error::said(&reason)))
            }
            Err(reason) => Err(self.error(&reason)),
        }
    }

    /// The rows of a constant query; where the server refuses it, none, and that in `facts`.
    pub(super) async fn rows(
        &mut self,
        facts: &mut Facts,
        what: &str,
        query: &'static str,
    ) -> Result<Vec<PgRow>, EngineError> {
        let lock_timeout = self.begin.lock_timeout;
        match self.alone(lock_timeout, constant(query)).await? {
            Ok(rows) => Ok(rows),
            Err(said) => {
                let sentence = format!("{what}: {said}");
                if !facts.unseen.contains(&sentence) {
                    facts.unseen.push(sentence);
                }
                Ok(Vec::new())
            }
        }
    }

    /// What the network or an answer that cannot be read means.
    pub(super) fn error(&self, reason: &sqlx::Error) -> EngineError {
        let doing = Doing {
            what: "reading the catalog",
            table: None,
            grant: None,
            statement_timeout: self.begin.statement_timeout,
        };
        error::running(self.session.server(), doing, reason)
    }
}
