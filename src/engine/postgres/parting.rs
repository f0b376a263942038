//! A part that leaves its table while it is swept: dropped, detached, or on its way out.

use std::time::{Duration, Instant};

use sqlx::{Row, postgres::types::Oid};

use super::{Settings, session::Session, sql::constant};
use crate::{engine::EngineError, policy::table::TableFacts};

/// Detaching concurrently takes two transactions of somebody else's, between which no plan can be made: that is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(100);

/// `$1` the root, `$2`, `$3` its schema and name, `$4` the part. `parted`: the root is what it was, and the part is not below it any
/// more, or will not be. `pending`: it still stands there, or one above it.
const PARTED: &str = "\
WITH RECURSIVE up(id, pending) AS ( \
  SELECT $4::oid, false UNION SELECT i.inhparent, up.pending OR i.inhdetachpending FROM up JOIN pg_inherits i ON i.inhrelid = up.id) \
SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::oid AND n.nspname = $2 AND c.relname = $3) \
    AND NOT EXISTS (SELECT FROM up JOIN pg_class c ON c.oid = $4::oid WHERE up.id = $1::oid AND NOT up.pending) AS parted, \
  EXISTS (SELECT FROM up WHERE up.id = $1::oid AND up.pending) AS pending";

/// A rule's table, by which its parts are told from tables of their own.
#[derive(Clone, Debug)]
pub(super) struct Root {
    id: u32,
    schema: String,
    name: String,
}

impl Root {
    pub(super) fn of(table: &TableFacts) -> Self {
        Self {
            id: table.id,
            schema: table.schema.clone(),
            name: table.name.clone(),
        }
    }

    /// What `error` means that came up on the part `leaf`, asked over `session`, whose transaction is over. A part that left its table
    /// keeps its rows, and the others are for a new plan.
    pub(super) async fn told(
        &self,
        session: &mut Session,
        settings: &Settings,
        leaf: u32,
        error: EngineError,
    ) -> EngineError {
        if leaf == self.id || !matches!(error, EngineError::TableChanged { .. }) {
            return error;
        }
        let began = Instant::now();
        loop {
            match self.look(session, settings, leaf).await {
                Some((true, true)) if began.elapsed() < PATIENCE => {
                    tokio::time::sleep(GLANCE).await;
                }
                Some((true, _)) => {
                    return EngineError::PartsChanged {
                        table: format!("{}.{}", self.schema, self.name),
                    };
                }
                // It is another change, or nobody can say: that ends the walk.
                Some((false, _)) | None => return error,
            }
        }
    }

    /// `None`: nobody answers.
    async fn look(
        &self,
        session: &mut Session,
        settings: &Settings,
        leaf: u32,
    ) -> Option<(bool, bool)> {
        session.begin(&settings.read()).await.ok()?;
        let query = constant(PARTED)
            .bind(Oid(self.id))
            .bind(&self.schema)
            .bind(&self.name)
            .bind(Oid(leaf));
        let looked = session.row(query).await;
        session.end().await;
        let row = looked.ok()?;
        Some((row.try_get("parted").ok()?, row.try_get("pending").ok()?))
    }
}
