//! One chunk: one short transaction on one leaf.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use sqlx::Row;

pub(super) use answers::{Finished, Look, Refusal};

use super::{
    Settings,
    archive_table::{ArchiveTable, Failure, take},
    careful::Careful,
    connect::Server,
    error,
    ledger::{Lease, WATCH},
    obstacles::Obstacles,
    own_use::{self, Tally},
    reach::Reach,
    session::Session,
    sql::{self, ChunkBegin, LeafStatements, Sql},
    value::BoundCutoff,
    walk::Range,
};
use crate::{engine::EngineError, policy::dependents::Dependents};

mod answers;

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
    careful: Careful,
    /// The same, with keys keeping rows that the server could not set to NULL or to a default.
    insistent: Option<Careful>,
    /// Rows of the leaf itself are among those that `gone` counts.
    counts_itself: bool,
    finish: Arc<Finish>,
    archive: Option<Arc<ArchiveTable>>,
    grant: String,
    /// What the session's counters say of all that a chunk may read and write, where somebody wants to know.
    own: Option<String>,
}

/// How a chunk ends, the same for all leaves.
#[derive(Debug)]
pub(super) struct Finish {
    pub(super) dependents: Dependents,
    pub(super) sql: Sql,
    /// An expression that counts rows deleted from other tables, where some may go along.
    pub(super) gone: Option<String>,
    /// What the tables that refer to the rule's table look like.
    pub(super) shape: Option<String>,
    /// Their parts, as far as they matter.
    pub(super) parts: Option<String>,
    /// Their names.
    pub(super) referring: HashSet<(String, String)>,
}

/// What a leaf is made from.
pub(super) struct LeafParts<'a> {
    pub(super) plan: &'a crate::policy::plan::RulePlan,
    pub(super) facts: &'a crate::policy::table::LeafFacts,
    pub(super) settings: &'a Settings,
    /// Columns whose meaning must not change; `None`: all.
    pub(super) columns: Option<&'a [String]>,
    pub(super) fingerprint: String,
    pub(super) may_lock: bool,
    pub(super) role: &'a str,
    /// Chunks look at the ledger too.
    pub(super) watched: bool,
    pub(super) obstacles: Obstacles<'a>,
    pub(super) reach: &'a Reach,
    pub(super) finish: Arc<Finish>,
    pub(super) archive: Option<Arc<ArchiveTable>>,
    /// Other tables that chunks may read and write, where their counts are kept.
    pub(super) counted: Option<BTreeSet<u32>>,
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
            obstacles,
            reach,
            finish,
            archive,
            counted,
        } = parts;
        let own = counted.map(|mut tables| {
            tables.insert(facts.id);
            own_use::expression(&tables)
        });
        let into = archive.as_deref();
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
            gone: reach.gone.as_deref(),
            archive: into,
            own: own.as_deref(),
        };
        let insistent = Obstacles {
            sets: true,
            ..obstacles
        };
        Ok(Self {
            id: facts.id,
            schema: facts.schema.clone(),
            name: facts.name.clone(),
            pages: facts.pages,
            may_lock,
            fingerprint,
            begin: begin.sql(),
            statements: LeafStatements::new(plan, &facts.schema, &facts.name, facts.id, into)?,
            careful: Careful::new(&obstacles, facts, into)?,
            insistent: obstacles
                .may_be_set()
                .then(|| Careful::new(&insistent, facts, into))
                .transpose()?,
            counts_itself: reach.counted.contains(&facts.id),
            finish,
            grant: match into {
                Some(archive) => format!(
                    "{}; {}",
                    sql::grant(&facts.schema, &facts.name, role),
                    archive.grant
                ),
                None => sql::grant(&facts.schema, &facts.name, role),
            },
            archive,
            own,
        })
    }

    pub(super) fn may_lock(&self) -> bool {
        self.may_lock
    }

    pub(super) fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
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

    /// Ends a chunk that has begun without a trace in the table; what it read is counted all the same.
    pub(super) async fn let_go(&self, session: &mut Session, before: &Tally) {
        let Some(own) = &self.own else {
            return session.rollback().await;
        };
        let message = Sql::made(format!("SELECT {own} AS own; ROLLBACK"));
        let counted = match session.raw(&message).await {
            Ok(rows) => rows.first().and_then(|row| Tally::of(row).ok()),
            Err(_) => {
                session.rollback().await;
                None
            }
        };
        let counts = &session.sessions().own;
        match counted {
            Some(after) => counts.add(before, after),
            None => counts.blur(),
        }
    }

    /// Ends the transaction, and says why.
    async fn refused(
        &self,
        session: &mut Session,
        server: &Server,
        settings: &Settings,
        reason: &Failure,
    ) -> Refusal {
        session.rollback().await;
        self.judge_failure(server, settings, reason)
    }

    /// There is a form of its own for keys that could not be set.
    pub(super) fn may_insist(&self) -> bool {
        self.insistent.is_some()
    }

    /// The part of a range, which is one page, that holds its first `rows` expired rows, in a chunk that has begun.
    pub(super) async fn part(
        &self,
        session: &mut Session,
        server: &Server,
        settings: &Settings,
        (range, rows): (Range, u32),
        cutoff: BoundCutoff,
    ) -> Result<Range, EngineError> {
        let query = self.statements.nth.query();
        let query = query.bind(range.first()).bind(range.beyond()).bind(cutoff);
        let found = async {
            let rows = session.rows(query.bind(i64::from(rows))).await?;
            rows.first()
                .map(|row| row.try_get::<String, _>("tid"))
                .transpose()
        }
        .await;
        match found {
            Ok(tid) => Ok(tid.and_then(|tid| range.before(&tid)).unwrap_or(range)),
            Err(reason) => {
                session.rollback().await;
                Err(self.error(server, settings, &reason))
            }
        }
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
        let query = query.bind(range.first()).bind(range.beyond()).bind(cutoff);
        match take(session, query, self.archive.as_deref(), &mut Vec::new()).await {
            Ok(rows) => Ok(rows),
            Err(reason) => Err(self.refused(session, server, settings, &reason).await),
        }
    }

    /// The careful form, in a chunk that has begun: delete what nothing stands against, count what is left. Rows and blocked
    /// rows; where it `insists`, `before` gets to know what the server counts wrongly from then on. When it is refused the transaction
    /// is over.
    pub(super) async fn delete_carefully(
        &self,
        session: &mut Session,
        server: &Server,
        settings: &Settings,
        (range, insists): (Range, bool),
        cutoff: BoundCutoff,
        before: &mut Look,
    ) -> Result<(u64, u64), Refusal> {
        let outcome = async {
            let archive = self.archive.as_deref();
            let mut places = Vec::new();
            let rows = match &self.insistent {
                Some(insistent) if insists => {
                    // All that no such key refers to, and of the rest what the server lets go.
                    let free = insistent
                        .delete(session, range, cutoff, (archive, &mut places))
                        .await?;
                    let gone = self.finish.gone.as_deref().unwrap_or("0::int8");
                    let keeps = |reason: &Failure| {
                        let refusal = self.judge_failure(server, settings, reason);
                        matches!(refusal, Refusal::Referred)
                    };
                    let found = (range, cutoff);
                    let into = (archive, &mut places);
                    let rest = self
                        .careful
                        .delete_by_halves(session, found, into, gone, keeps);
                    let Some(rest) = rest.await? else {
                        return Ok(None);
                    };
                    before.gone += rest.undone;
                    free + rest.rows
                }
                _ => {
                    self.careful
                        .delete(session, range, cutoff, (archive, &mut places))
                        .await?
                }
            };
            let blocked = self.count_left(session, range, cutoff).await?;
            Ok::<_, Failure>(Some((rows, blocked)))
        }
        .await;
        match outcome {
            Ok(Some(rows)) => Ok(rows),
            Ok(None) => {
                session.rollback().await;
                Err(Refusal::Referred)
            }
            Err(reason) => Err(self.refused(session, server, settings, &reason).await),
        }
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
        let count = count.bind(range.first()).bind(range.beyond()).bind(cutoff);
        let left: i64 = session.row(count).await?.try_get("n")?;
        Ok(u64::try_from(left).unwrap_or(0))
    }

    /// Ends a chunk that deleted `rows` rows, up to its COMMIT: deferred constraints have fired, no row was reached that must not
    /// be, the lease is held, and the transaction lives. `before` is what the chunk's begin said. When it is
    /// refused the transaction is over.
    pub(super) async fn finish(
        &self,
        session: &mut Session,
        server: &Server,
        settings: &Settings,
        (rows, before): (u64, &Look),
        lease: Option<&Lease>,
    ) -> Result<Finished, Refusal> {
        let archived = if self.archive.is_some() { rows } else { 0 };
        let mut finish = self.finish.sql.clone();
        if let Some(own) = &self.own {
            finish = finish.with_column(own, "own");
        }
        let parts = self.archive.iter().find(|archive| archive.partitioned);
        if let Some(archive) = parts {
            finish = finish.with_column(&archive.shape(self.id), "archive");
        }
        let message = match lease {
            Some(lease) => lease.finish(&finish, &self.taken(rows, before.gone), archived),
            None => finish,
        };
        let answer = session.raw(&message).await;
        if self.own.is_some() {
            let counts = &session.sessions().own;
            match answer
                .as_ref()
                .ok()
                .and_then(|rows| Tally::of(rows.first()?).ok())
            {
                Some(after) => counts.add(&before.own, after),
                None => counts.blur(),
            }
        }
        let outcome = match answer {
            // The lease's own row comes last: without it the chunk is another sweeper's.
            Ok(answer) => match lease {
                Some(lease) if answer.len() != 2 => Err(lease.lost()),
                _ => self.judge_finish(&answer, rows, before),
            },
            Err(reason) => {
                return Err(self
                    .refused(session, server, settings, &reason.into())
                    .await);
            }
        };
        match outcome {
            Ok(finished) => Ok(finished),
            Err(reason) => {
                session.rollback().await;
                Err(Refusal::Failed(reason))
            }
        }
    }

    /// What the chunk takes in all, as SQL: rows that go along are known to the server alone until the message is answered. The
    /// same as [`judge_finish`](Self::judge_finish) makes of it.
    fn taken(&self, rows: u64, gone_before: i64) -> String {
        let own = if self.counts_itself { rows } else { 0 };
        match &self.finish.gone {
            None => rows.to_string(),
            Some(gone) => format!("{rows} + greatest(({gone}) - ({gone_before}) - {own}, 0)"),
        }
    }
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
            sees_all: false,
            lock_timeout: self.lock_timeout,
            statement_timeout: self.statement_timeout,
            idle_timeout: CHUNK_IDLE_TIMEOUT,
            application_name: self.application_name.clone(),
        }
    }
}
