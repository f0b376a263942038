//! One rule's walk over its table.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use sqlx::Row;

use super::{
    Settings, catalog,
    chunk::{Leaf, LeafParts, Refusal},
    error::{self, Doing},
    ledger::Lease,
    outcome, predicate, pressure,
    pressure::ReplicaClock,
    refuse_unsupported,
    session::{Session, Sessions},
    sql::{self, Begin, Sql},
    value::BoundCutoff,
    walk::{Position, Range},
};
use crate::{
    engine::{Chunk, ChunkTarget, CommitOutcome, Cursor, EngineError, TableSweep},
    policy::{
        pace::Pressure,
        plan::RulePlan,
        table::{TableFacts, TableKind, TableName},
    },
};

/// See [`TableSweep`].
#[derive(Debug)]
pub(super) struct Sweep {
    session: Session,
    settings: Settings,
    /// `schema.table` of the rule, for messages.
    table: String,
    cutoff: BoundCutoff,
    /// In ascending order of their ids.
    leaves: Vec<Leaf>,
    leaf_ids: Vec<u32>,
    replicas: ReplicaClock,
    finish: Sql,
    /// Server and timeline that the sweep began on.
    life: Option<String>,
    position: Position,
    open: Option<OpenChunk>,
    /// Pages walked in leaves that are done.
    walked: u64,
    /// Where single pages are tried because of a lock and of a right that is missing: the size of the next range.
    narrow: Option<u32>,
    /// Pages that the runner asked for last.
    target: u32,
    /// The ledger's lease on the table, where there is a ledger.
    lease: Option<Lease>,
}

#[derive(Debug)]
struct OpenChunk {
    range: Range,
    /// Set where rows were deleted: there is something to commit.
    xid: Option<String>,
}

/// What the catalog says when a sweep begins.
struct Opening {
    facts: TableFacts,
    /// By leaf: what must not change, and whether the role may lock rows.
    leaves: HashMap<u32, (String, bool)>,
    life: Option<String>,
}

impl Sweep {
    pub(super) async fn open(
        sessions: &Arc<Sessions>,
        settings: &Settings,
        plan: &RulePlan,
        from: Option<Cursor>,
        watched: bool,
    ) -> Result<Self, EngineError> {
        let columns = columns(plan);
        let begin = Begin {
            one_snapshot: true,
            ..settings.read()
        };
        let mut session = sessions.begin(&begin).await?;
        let opening = look(&mut session, sessions, settings, plan, &columns).await?;
        check(plan, &opening.facts, &sessions.server().user)?;
        let mut leaves = opening
            .facts
            .leaves
            .iter()
            .map(|facts| {
                let (fingerprint, may_lock) =
                    opening.leaves.get(&facts.id).cloned().unwrap_or_default();
                Leaf::new(LeafParts {
                    plan,
                    facts,
                    settings,
                    columns: &columns,
                    fingerprint,
                    may_lock,
                    role: &sessions.server().user,
                    watched,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        leaves.sort_by_key(|leaf| leaf.id);
        let ids: Vec<u32> = leaves.iter().map(|leaf| leaf.id).collect();
        let position = from.map_or_else(
            || Position::start_of(0),
            |cursor| Position::resume(&cursor, &ids),
        );
        let referrers: Vec<u32> = opening
            .facts
            .incoming
            .iter()
            .map(|key| key.table_id)
            .collect();
        // A transaction that read is no place to write from.
        session.rollback().await;
        Ok(Self {
            session,
            settings: settings.clone(),
            table: plan.table.qualified(),
            cutoff: BoundCutoff::new(&plan.cutoff),
            walked: leaves
                .iter()
                .take(position.leaf)
                .map(|leaf| leaf.pages)
                .sum(),
            leaves,
            leaf_ids: ids,
            replicas: ReplicaClock::default(),
            finish: sql::finish(&referrers),
            life: opening.life,
            position,
            open: None,
            narrow: None,
            target: 1,
            lease: None,
        })
    }

    /// The same walk, under a lease.
    pub(super) fn under(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// The plain form first; when somebody holds a lock, the careful one.
    async fn delete(&mut self, range: Range) -> Result<Option<Deleted>, EngineError> {
        let Some(leaf) = self.leaves.get(self.position.leaf) else {
            return Ok(None);
        };
        let server = self.session.server().clone();
        let plain = leaf
            .delete(
                &mut self.session,
                &server,
                &self.settings,
                range,
                self.cutoff,
            )
            .await;
        match plain {
            Ok(rows) => return Ok(Some(Deleted { rows, blocked: 0 })),
            Err(Refusal::Failed(reason)) => return Err(reason),
            Err(Refusal::Locked) => {}
        }
        if !leaf.may_lock() && range.pages() > 1 {
            // Without the right to lock rows the locked ones are found by halving.
            self.narrow = Some(u32::try_from(range.pages() / 2).unwrap_or(1).max(1));
            return Ok(None);
        }
        let looked = leaf
            .begin(
                &mut self.session,
                &server,
                &self.settings,
                &self.table,
                self.lease.as_ref(),
            )
            .await?;
        if looked.filenode != self.position.filenode {
            // Rewritten between the two attempts: the range means other rows now.
            self.session.rollback().await;
            return Ok(None);
        }
        let deleted = if leaf.may_lock() {
            let (rows, blocked) = leaf
                .delete_free(
                    &mut self.session,
                    &server,
                    &self.settings,
                    range,
                    self.cutoff,
                )
                .await?;
            Deleted { rows, blocked }
        } else {
            let blocked = leaf
                .count_blocked(
                    &mut self.session,
                    &server,
                    &self.settings,
                    range,
                    self.cutoff,
                )
                .await?;
            Deleted { rows: 0, blocked }
        };
        Ok(Some(deleted))
    }

    /// The size of the next range; a narrow one grows back by doubling.
    fn pages(&self, target: ChunkTarget) -> u32 {
        self.narrow
            .map_or(target.pages, |narrow| narrow.min(target.pages))
            .max(1)
    }

    fn advance(&mut self, range: Range) {
        self.position.next = range.end;
        self.narrow = self
            .narrow
            .map(|narrow| narrow.saturating_mul(2))
            .filter(|narrow| *narrow < self.target);
    }
}

struct Deleted {
    rows: u64,
    blocked: u64,
}

#[async_trait]
impl TableSweep for Sweep {
    async fn delete_next(&mut self, target: ChunkTarget) -> Result<Option<Chunk>, EngineError> {
        self.rollback().await?;
        self.target = target.pages;
        if !self.session.is_open() {
            self.session.reconnect().await?;
        }
        let server = self.session.server().clone();
        loop {
            let Some(leaf) = self.leaves.get(self.position.leaf) else {
                return Ok(None);
            };
            let looked = leaf
                .begin(
                    &mut self.session,
                    &server,
                    &self.settings,
                    &self.table,
                    self.lease.as_ref(),
                )
                .await?;
            self.position.look(looked.filenode, looked.blocks);
            let Some(range) = self.position.range(self.pages(target)) else {
                self.session.rollback().await;
                self.walked += self.position.end;
                self.position = Position::start_of(self.position.leaf + 1);
                continue;
            };
            let Some(deleted) = self.delete(range).await? else {
                continue;
            };
            let finished = match self.leaves.get(self.position.leaf) {
                Some(leaf) if deleted.rows > 0 => {
                    let lease = self.lease.as_ref();
                    let finish = lease.map_or_else(
                        || self.finish.clone(),
                        |lease| lease.finish(&self.finish, deleted.rows),
                    );
                    Some(
                        leaf.finish(&mut self.session, &server, &self.settings, &finish, lease)
                            .await?,
                    )
                }
                _ => None,
            };
            let chunk = Chunk {
                rows: deleted.rows,
                pages: u32::try_from(range.pages()).unwrap_or(u32::MAX),
                blocked_rows: deleted.blocked,
                wal_bytes: finished
                    .as_ref()
                    .map_or(0, |finished| finished.wal.saturating_sub(looked.wal)),
                waiters: finished.as_ref().map_or(0, |finished| finished.waiters),
            };
            self.open = Some(OpenChunk {
                range,
                xid: finished.map(|finished| finished.xid),
            });
            return Ok(Some(chunk));
        }
    }

    async fn commit(&mut self) -> Result<CommitOutcome, EngineError> {
        let Some(chunk) = self.open.take() else {
            return Ok(CommitOutcome::Committed);
        };
        let Some(xid) = chunk.xid else {
            // Nothing was deleted: to roll back costs the server no transaction number, and undoes what a trigger may have done
            // instead of the delete that it vetoed.
            self.session.rollback().await;
            if let Some(lease) = &mut self.lease {
                lease.renew(&mut self.session, &self.settings).await?;
            }
            self.advance(chunk.range);
            return Ok(CommitOutcome::Committed);
        };
        let outcome = match self.session.raw(&sql::fixed("COMMIT")).await {
            Ok(_) => CommitOutcome::Committed,
            Err(reason) if error::session_survives(&reason) => {
                self.session.rollback().await;
                let doing = Doing {
                    what: "committing a chunk of",
                    table: Some(&self.table),
                    grant: None,
                    statement_timeout: self.settings.statement_timeout,
                };
                return Err(error::running(self.session.server(), doing, &reason));
            }
            Err(_) => {
                let server = self.session.server().clone();
                let life = self.life.clone();
                outcome::resolve(
                    &mut self.session,
                    &server,
                    &self.settings,
                    &xid,
                    life.as_deref(),
                )
                .await?
            }
        };
        if outcome == CommitOutcome::Committed {
            self.advance(chunk.range);
            if let Some(lease) = &mut self.lease {
                lease.was_renewed();
            }
        }
        Ok(outcome)
    }

    async fn rollback(&mut self) -> Result<(), EngineError> {
        if self.open.take().is_some() {
            self.session.rollback().await;
        }
        Ok(())
    }

    async fn pressure(&mut self) -> Result<Pressure, EngineError> {
        self.rollback().await?;
        pressure::read(
            &mut self.session,
            &self.settings,
            &self.leaf_ids,
            &mut self.replicas,
        )
        .await
    }

    fn cursor(&self) -> Option<Cursor> {
        self.leaves
            .get(self.position.leaf)
            .map(|leaf| self.position.cursor(leaf.id))
    }

    fn recorded(&self) -> Option<u64> {
        self.lease.as_ref().map(Lease::recorded)
    }

    fn progress(&self) -> (u64, u64) {
        let current = self.leaves.get(self.position.leaf);
        let ahead: u64 = self
            .leaves
            .iter()
            .skip(self.position.leaf + 1)
            .map(|leaf| leaf.pages)
            .sum();
        let here = current.map_or(0, |leaf| {
            if self.position.filenode == 0 {
                leaf.pages
            } else {
                self.position.end
            }
        });
        let walked = self.walked + self.position.next;
        (walked, self.walked + here + ahead)
    }

    async fn close(mut self: Box<Self>) {
        self.session.rollback().await;
        if let Some(lease) = &self.lease {
            lease.give_back(&mut self.session, &self.settings).await;
        }
        let Self { session, .. } = *self;
        session.close().await;
    }
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

/// Reads the table again, and what must not change from here on, in one snapshot.
async fn look(
    session: &mut Session,
    sessions: &Sessions,
    settings: &Settings,
    plan: &RulePlan,
    columns: &[String],
) -> Result<Opening, EngineError> {
    let table = plan.table.qualified();
    let name = TableName {
        schema: Some(plan.table.schema.clone()),
        name: plan.table.name.clone(),
    };
    let outcome = async {
        let facts = catalog::tables(session, std::slice::from_ref(&name))
            .await?
            .into_iter()
            .next()
            .flatten();
        let ids = facts
            .iter()
            .flat_map(|facts| &facts.leaves)
            .map(|leaf| &leaf.id);
        let query = sql::fingerprints(columns);
        let rows = session.rows(query.query().bind(catalog::oids(ids))).await?;
        let leaves = rows
            .iter()
            .map(|row| {
                let print: String = row.try_get("fingerprint")?;
                let may_lock: Option<bool> = row.try_get("may_lock")?;
                Ok((catalog::oid(row, "id")?, (print, may_lock.unwrap_or(false))))
            })
            .collect::<Result<HashMap<_, _>, sqlx::Error>>()?;
        let standby = session
            .row(sql::constant("SELECT pg_is_in_recovery() AS standby"))
            .await?
            .try_get::<bool, _>("standby")?;
        let life = outcome::life(session).await?;
        Ok::<_, sqlx::Error>((facts, leaves, life, standby))
    }
    .await;
    let (facts, leaves, life, standby) = outcome.map_err(|reason| {
        let doing = Doing {
            what: "beginning the sweep of",
            table: Some(&table),
            grant: None,
            statement_timeout: settings.statement_timeout,
        };
        error::running(sessions.server(), doing, &reason)
    })?;
    if standby {
        return Err(EngineError::ReadOnly(format!(
            "{} is a standby: point the policy at the primary",
            sessions.server().address
        )));
    }
    let facts = facts.ok_or_else(|| EngineError::TableChanged {
        table: table.clone(),
        reason: "there is no such table any more".to_owned(),
    })?;
    Ok(Opening {
        facts,
        leaves,
        life,
    })
}

/// Is it still the table that was planned, and may its rows be deleted? The planner has asked the same; nothing is deleted on
/// the strength of an answer that may have aged.
fn check(plan: &RulePlan, now: &TableFacts, role: &str) -> Result<(), EngineError> {
    let table = now.qualified();
    let changed = |reason: &str| {
        Err(EngineError::TableChanged {
            table: table.clone(),
            reason: reason.to_owned(),
        })
    };
    if now.id != plan.table.id {
        return changed("another table has its name now");
    }
    if let TableKind::Unsupported(word) = &now.kind {
        return Err(EngineError::NotSupported(format!(
            "{table} is a {word}, whose rows a rule cannot delete"
        )));
    }
    if now.system {
        return Err(EngineError::NotSupported(format!(
            "{table} belongs to the database system, to an extension or to the operator"
        )));
    }
    refuse_unsupported(now)?;
    for name in columns(plan) {
        match (plan.table.column(&name), now.column(&name)) {
            (Some(then), Some(now)) if then == now => {}
            _ => return changed(&format!("column {name:?} is not what it was")),
        }
    }
    let domain = now
        .column(&plan.column)
        .and_then(|column| column.time_domain);
    if domain.is_none() || !BoundCutoff::new(&plan.cutoff).fits(domain) {
        return Err(EngineError::NotSupported(format!(
            "{table}: column {:?} cannot be compared with the cutoff",
            plan.column
        )));
    }
    if let Some(key) = now.incoming.iter().find(|key| !key.empty) {
        return Err(EngineError::Dependents(format!(
            "{} refers to {table} (foreign key {}) and is not empty",
            key.table, key.name
        )));
    }
    if let Some(rule) = &now.delete_rule {
        return Err(EngineError::NotSupported(format!(
            "{table}: its rewrite rule {rule:?} changes what a DELETE does"
        )));
    }
    if let Some(publication) = &now.published_without_identity {
        return Err(EngineError::NotSupported(format!(
            "{table}: publication {publication:?} sends deletes, but the table has no replica identity, so every DELETE would fail"
        )));
    }
    if !(now.may_select && now.may_delete) {
        let grants: Vec<String> = now
            .leaves
            .iter()
            .take(3)
            .map(|leaf| sql::grant(&leaf.schema, &leaf.name, role))
            .collect();
        return Err(EngineError::Permission(format!(
            "role {role:?} may not read and delete rows of {table}; run: {}",
            grants.join("; ")
        )));
    }
    Ok(())
}
