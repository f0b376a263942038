//! One rule's walk over its table.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;

use super::{
    Settings, archive_table,
    chunk::{Finish, Finished, Leaf, LeafParts, Look, Refusal},
    dependents::must_lock,
    error::{self, Doing},
    ledger::Lease,
    opening::{check, columns, look},
    outcome,
    own_use::Tally,
    parting::Root,
    pressure,
    pressure::ReplicaClock,
    session::{Session, Sessions},
    sql::{self, Begin},
    standby,
    value::BoundCutoff,
    walk::{Position, Range},
};
use crate::{
    engine::{Chunk, ChunkTarget, CommitOutcome, Cursor, EngineError, TableSweep},
    policy::{dependents::Dependents, pace::Pressure, plan::RulePlan},
};

/// See [`TableSweep`].
#[derive(Debug)]
pub(super) struct Sweep {
    session: Session,
    settings: Settings,
    /// `schema.table` of the rule, for messages.
    table: String,
    root: Root,
    cutoff: BoundCutoff,
    /// In ascending order of their ids.
    leaves: Vec<Leaf>,
    /// The plain form is never tried.
    careful: bool,
    /// Rows go into an archive table.
    archives: bool,
    leaf_ids: Vec<u32>,
    replicas: ReplicaClock,
    /// Server and timeline that the sweep began on.
    era: outcome::Era,
    position: Position,
    open: Option<OpenChunk>,
    /// Pages walked in leaves that are done.
    walked: u64,
    /// Where single pages are tried because something in a range keeps all of it: the size of the next range.
    narrow: Option<u32>,
    /// Rows that are referred to were met a moment ago: the plain form would only fail again.
    wary: bool,
    /// Pages that the runner asked for last.
    target: u32,
    /// The ledger's lease on the table, where there is a ledger.
    lease: Option<Lease>,
    /// Until it is closed in good order, nobody knows what it added to the server's counters.
    counts: Counts,
}

/// See [`OwnCounts`](super::own_use::OwnCounts).
#[derive(Debug)]
struct Counts {
    sessions: Arc<Sessions>,
    closed: bool,
}

impl Drop for Counts {
    fn drop(&mut self) {
        if !self.closed {
            self.sessions.own.blur();
        }
    }
}

#[derive(Debug)]
struct OpenChunk {
    range: Range,
    /// Set where rows were deleted: there is something to commit.
    xid: Option<String>,
    /// What the session had counted when the chunk began; `None`: all that it counts is known already.
    counting: Option<Tally>,
}

/// How a range is deleted, from the fastest form to the one that cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One statement.
    Plain,
    /// See [`Careful`](super::careful::Careful); `insists`: keys that cannot be set keep rows, too.
    Careful { insists: bool },
    /// Nothing is deleted: what is expired is counted as blocked.
    Count,
}

impl Sweep {
    pub(super) async fn open(
        sessions: &Arc<Sessions>,
        settings: &Settings,
        plan: &RulePlan,
        from: Option<Cursor>,
        watched: bool,
    ) -> Result<Self, EngineError> {
        let begin = Begin {
            one_snapshot: true,
            ..settings.read()
        };
        let mut session = sessions.begin(&begin).await?;
        let opening = look(&mut session, sessions, settings, plan).await?;
        let role = &sessions.server().user;
        check(plan, &opening.facts, role)?;
        let obstacles = opening.obstacles(plan);
        let columns = columns(plan, &obstacles);
        let reach = obstacles.reach();
        let referrers: Vec<u32> = match plan.dependents {
            Dependents::Refuse => opening
                .facts
                .incoming
                .iter()
                .map(|key| key.table_id)
                .collect(),
            Dependents::Skip | Dependents::Cascade => Vec::new(),
        };
        let finish = Arc::new(Finish {
            dependents: plan.dependents,
            sql: sql::finish(&referrers, &reach),
            gone: reach.gone.clone(),
            shape: opening.shape.clone(),
            parts: opening.parts.clone(),
            referring: obstacles.names(),
        });
        // A transaction that read is no place to write from.
        session.rollback().await;
        let archive = match &plan.archive {
            Some(archive) => Some(Arc::new(
                archive_table::prepare(&mut session, sessions, settings, archive, &opening.facts)
                    .await?,
            )),
            None => None,
        };
        // Whether a row is referred to or held can only be known while it is locked.
        let careful = match plan.dependents {
            Dependents::Refuse => false,
            Dependents::Skip => !opening.facts.incoming.is_empty(),
            Dependents::Cascade => obstacles.is_held() || obstacles.goes_too_far(),
        };
        let counted = (watched && sessions.own.are_kept()).then(|| {
            let archive = archive.as_ref().map(|archive| archive.id());
            obstacles.tables().chain(archive).collect::<BTreeSet<_>>()
        });
        let mut leaves = opening
            .facts
            .leaves
            .iter()
            .map(|facts| {
                let (fingerprint, may_lock) =
                    opening.leaves.get(&facts.id).cloned().unwrap_or_default();
                if careful && !may_lock {
                    return Err(must_lock(plan, facts, role));
                }
                Leaf::new(LeafParts {
                    plan,
                    facts,
                    settings,
                    columns: archive.is_none().then_some(columns.as_slice()),
                    fingerprint,
                    may_lock,
                    role,
                    obstacles,
                    reach: &reach,
                    finish: Arc::clone(&finish),
                    watched,
                    archive: archive.clone(),
                    counted: counted.clone(),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        leaves.sort_by_key(|leaf| leaf.id);
        let ids: Vec<u32> = leaves.iter().map(|leaf| leaf.id).collect();
        let position = from.map_or_else(
            || Position::start_of(0),
            |cursor| Position::resume(&cursor, &ids),
        );
        Ok(Self {
            session,
            settings: settings.clone(),
            table: plan.table.qualified(),
            root: Root::of(&plan.table),
            cutoff: BoundCutoff::of(plan),
            walked: leaves
                .iter()
                .take(position.leaf)
                .map(|leaf| leaf.pages)
                .sum(),
            leaves,
            careful,
            archives: archive.is_some(),
            leaf_ids: ids,
            replicas: ReplicaClock::default(),
            era: opening.era,
            position,
            open: None,
            narrow: None,
            wary: false,
            target: 1,
            lease: None,
            counts: Counts {
                sessions: Arc::clone(sessions),
                closed: false,
            },
        })
    }

    /// The same walk, under a lease.
    pub(super) fn under(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Deletes what may go of a range, in a chunk that has begun: the plain form first, unless it is known to fail, then the
    /// careful one. What keeps a whole range is narrowed down to its page, whose rows then count as blocked. `None`: the range is
    /// to be taken anew.
    async fn delete(
        &mut self,
        (range, first): (Range, Form),
        mut looked: Look,
    ) -> Result<Option<Deleted>, EngineError> {
        let mut form = first;
        loop {
            let refusal = match self.attempt(range, form, looked).await {
                Ok(deleted) => {
                    if first != Form::Count {
                        self.wary = form != Form::Plain && deleted.blocked > 0;
                    }
                    return Ok(Some(deleted));
                }
                Err(Refusal::Failed(reason)) => return Err(reason),
                Err(refusal) => refusal,
            };
            // What a statement counted that failed cannot be asked for.
            self.counts.sessions.own.blur();
            self.wary = true;
            let Some(next) = self.next_form(form, &refusal, range) else {
                self.narrow = Some(u32::try_from(range.pages() / 2).unwrap_or(1).max(1));
                return Ok(None);
            };
            form = next;
            let Some(leaf) = self.leaves.get(self.position.leaf) else {
                return Ok(None);
            };
            let server = self.session.server().clone();
            looked = leaf
                .begin(
                    &mut self.session,
                    &server,
                    &self.settings,
                    &self.table,
                    self.lease.as_ref(),
                )
                .await?;
            if looked.filenode != self.position.filenode {
                // Rewritten between two attempts: the range means other rows now.
                self.session.rollback().await;
                return Ok(None);
            }
        }
    }

    fn may_lock(&self) -> bool {
        self.leaves
            .get(self.position.leaf)
            .is_some_and(Leaf::may_lock)
    }

    fn first_form(&self) -> Form {
        if self.careful || (self.wary && self.may_lock()) {
            Form::Careful { insists: false }
        } else {
            Form::Plain
        }
    }

    /// What to try after `form` was refused on `range`; `None`: the same on less of it.
    fn next_form(&self, form: Form, refusal: &Refusal, range: Range) -> Option<Form> {
        let may_insist = self
            .leaves
            .get(self.position.leaf)
            .is_some_and(Leaf::may_insist);
        let insists = matches!(refusal, Refusal::Referred) && may_insist;
        match form {
            Form::Plain if self.may_lock() => Some(Form::Careful { insists }),
            Form::Careful { insists: false } if insists => Some(Form::Careful { insists }),
            _ if range.pages() > 1 => None,
            _ => Some(Form::Count),
        }
    }

    async fn attempt(
        &mut self,
        range: Range,
        form: Form,
        mut before: Look,
    ) -> Result<Deleted, Refusal> {
        let Some(leaf) = self.leaves.get(self.position.leaf) else {
            return Ok(Deleted::default());
        };
        let server = self.session.server().clone();
        let (session, settings) = (&mut self.session, &self.settings);
        let (rows, blocked) = match form {
            Form::Plain => {
                let rows = leaf
                    .delete(session, &server, settings, range, self.cutoff)
                    .await?;
                (rows, 0)
            }
            Form::Careful { insists } => {
                let range = (range, insists);
                leaf.delete_carefully(session, &server, settings, range, self.cutoff, &mut before)
                    .await?
            }
            Form::Count => {
                let blocked = leaf
                    .count_blocked(session, &server, settings, range, self.cutoff)
                    .await
                    .map_err(Refusal::Failed)?;
                (0, blocked)
            }
        };
        if rows == 0 {
            return Ok(Deleted {
                blocked,
                counting: Some(before.own),
                ..Deleted::default()
            });
        }
        let finished = leaf
            .finish(
                session,
                &server,
                settings,
                (rows, &before),
                self.lease.as_ref(),
            )
            .await?;
        Ok(Deleted {
            rows,
            blocked,
            finished: Some(finished),
            counting: None,
        })
    }

    /// The size of the next range; a narrow one grows back by doubling.
    fn pages(&self, target: ChunkTarget) -> u32 {
        self.narrow
            .map_or(target.pages, |narrow| narrow.min(target.pages))
            .max(1)
    }

    /// See [`TableSweep::delete_next`]; `form` is the first that is tried, if it is not the usual one.
    async fn next_chunk(
        &mut self,
        target: ChunkTarget,
        form: Option<Form>,
    ) -> Result<Option<Chunk>, EngineError> {
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
            let Some(mut range) = self.position.range(self.pages(target)) else {
                self.session.rollback().await;
                self.walked += self.position.end;
                self.position = Position::start_of(self.position.leaf + 1);
                continue;
            };
            if let Some(rows) = target.rows.filter(|_| range.pages() == 1) {
                range = leaf
                    .part(
                        &mut self.session,
                        &server,
                        &self.settings,
                        (range, rows.max(1)),
                        self.cutoff,
                    )
                    .await?;
            }
            let form = form.unwrap_or_else(|| self.first_form());
            let Some(deleted) = self.delete((range, form), looked).await? else {
                continue;
            };
            let finished = deleted.finished.as_ref();
            let chunk = Chunk {
                rows: deleted.rows,
                archived_rows: if self.archives { deleted.rows } else { 0 },
                cascaded_rows: finished.map_or(0, |finished| finished.cascaded),
                pages: u32::try_from(range.pages()).unwrap_or(u32::MAX),
                blocked_rows: deleted.blocked,
                wal_bytes: finished.map_or(0, |finished| finished.wal_bytes),
                waiters: finished.map_or(0, |finished| finished.waiters),
            };
            self.open = Some(OpenChunk {
                range,
                xid: deleted.finished.map(|finished| finished.xid),
                counting: deleted.counting,
            });
            return Ok(Some(chunk));
        }
    }

    /// Rolls back a chunk that has begun.
    async fn let_go(&mut self, counting: Option<&Tally>) {
        match (counting, self.leaves.get(self.position.leaf)) {
            (Some(before), Some(leaf)) => leaf.let_go(&mut self.session, before).await,
            _ => self.session.rollback().await,
        }
    }

    fn advance(&mut self, range: Range) {
        self.position.advance(range);
        self.narrow = self
            .narrow
            .map(|narrow| narrow.saturating_mul(2))
            .filter(|narrow| *narrow < self.target);
    }

    /// See [`TableSweep::commit`].
    async fn commit_open(&mut self) -> Result<CommitOutcome, EngineError> {
        let Some(chunk) = self.open.take() else {
            return Ok(CommitOutcome::Committed);
        };
        let Some(xid) = chunk.xid else {
            // Nothing was deleted: to roll back costs the server no transaction number, and undoes what a trigger may have done
            // instead of the delete that it vetoed.
            self.let_go(chunk.counting.as_ref()).await;
            if let Some(lease) = &mut self.lease {
                lease.renew(&mut self.session, &self.settings).await?;
            }
            self.advance(chunk.range);
            return Ok(CommitOutcome::Committed);
        };
        let outcome = match self.session.commit().await {
            Ok(()) => CommitOutcome::Committed,
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
                let era = self.era.clone();
                outcome::resolve(&mut self.session, &server, &self.settings, &xid, &era).await?
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

    /// A chunk, or what its error means.
    async fn judged(
        &mut self,
        chunk: Result<Option<Chunk>, EngineError>,
    ) -> Result<Option<Chunk>, EngineError> {
        match chunk {
            Err(reason) => {
                self.counts.sessions.own.blur();
                Err(self.told(reason).await)
            }
            chunk => chunk,
        }
    }

    /// What an error means, where only the server itself can say.
    async fn told(&mut self, reason: EngineError) -> EngineError {
        let reason = match self.leaves.get(self.position.leaf) {
            Some(leaf) => {
                let (session, settings) = (&mut self.session, &self.settings);
                self.root.told(session, settings, leaf.id, reason).await
            }
            None => reason,
        };
        standby::told(&mut self.session, &self.settings, reason).await
    }
}

/// What a chunk did in its transaction, which is still open.
#[derive(Debug, Default)]
struct Deleted {
    rows: u64,
    blocked: u64,
    /// Set where there is something to commit.
    finished: Option<Finished>,
    /// See [`OpenChunk::counting`].
    counting: Option<Tally>,
}

#[async_trait]
impl TableSweep for Sweep {
    async fn delete_next(&mut self, target: ChunkTarget) -> Result<Option<Chunk>, EngineError> {
        let chunk = self.next_chunk(target, None).await;
        self.judged(chunk).await
    }

    async fn leave_next(&mut self) -> Result<Option<Chunk>, EngineError> {
        let one = ChunkTarget {
            pages: 1,
            rows: Some(1),
        };
        let chunk = self.next_chunk(one, Some(Form::Count)).await;
        self.judged(chunk).await
    }

    async fn commit(&mut self) -> Result<CommitOutcome, EngineError> {
        match self.commit_open().await {
            Err(reason) => Err(self.told(reason).await),
            outcome => outcome,
        }
    }

    async fn rollback(&mut self) -> Result<(), EngineError> {
        if let Some(chunk) = self.open.take() {
            self.let_go(chunk.counting.as_ref()).await;
        }
        Ok(())
    }

    async fn pressure(&mut self) -> Result<Pressure, EngineError> {
        self.rollback().await?;
        let pressure = pressure::read(
            &mut self.session,
            &self.settings,
            &self.leaf_ids,
            &mut self.replicas,
        )
        .await?;
        if pressure.in_recovery {
            self.session.forget_all().await;
        }
        Ok(pressure)
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
        // A session that is gone may have taken a chunk along of which nothing was heard.
        let known = self.session.is_open();
        let ended = TableSweep::rollback(&mut *self).await.is_ok();
        self.counts.closed = known && ended;
        self.session.rollback().await;
        if let Some(lease) = &self.lease {
            lease.give_back(&mut self.session, &self.settings).await;
        }
        let Self { session, .. } = *self;
        session.give_back().await;
    }
}
