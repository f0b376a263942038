//! The lease on a table: one sweeper at a time, and no chunk of an old one after a new one has come.
//!
//! Whoever sweeps has a token in the ledger. Each chunk ends with an update of the row that has this token; it must hit
//! exactly one row, and it is the last statement before `COMMIT`. Giving the row another token waits for the chunk that has
//! updated it, and every later chunk of the old token hits none and is rolled back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Row, postgres::PgRow};

use super::{book::unsigned, failed};
use crate::{
    engine::{
        EngineError,
        ledger::SweepEntry,
        postgres::{
            Settings, error, outcome,
            session::{Session, Sessions},
            sql::{Sql, constant, literal},
        },
        sweeper,
    },
    policy::plan::RulePlan,
};

/// A lease that nobody renews lapses after this long, or after the longest statement where that is longer.
const LAPSE: Duration = Duration::from_secs(60);
/// Chunks that delete nothing are rolled back; at least this often the lease is renewed all the same.
const RENEWAL: Duration = Duration::from_secs(15);
/// A holder of the row that does not let go within the lock timeout is ended; so often that is tried.
const ATTEMPTS: u32 = 3;

/// `$1`: the table. Who holds the lease, and whether it has lapsed, by the database's clock.
const HOLDER: &str = "\
SELECT owner, token, beat < clock_timestamp() - make_interval(secs => lapse_seconds) AS lapsed \
FROM retention_operator.lease WHERE table_id = $1::int8";
/// As far as the ledger does not know the rule yet; what it took so far. `$1`: the sweep, `$2`: the rule, `$3`: the table.
const RULE: &str = "\
INSERT INTO retention_operator.sweep_rule AS r (sweep_id, rule, table_id, table_name, cutoff, rows_at_start, rows_total, \
  rows_approved, rows_deleted, rows_archived, done) \
VALUES ($1::text, $2::text, $3::int8, $4::text, $5::text, $6::int8, $7::int8, $8::int8, $9::int8, $10::int8, false) \
ON CONFLICT (sweep_id, rule, table_id) DO UPDATE SET cutoff = excluded.cutoff, rows_at_start = excluded.rows_at_start, \
  rows_total = excluded.rows_total, rows_approved = excluded.rows_approved, done = false \
RETURNING rows_deleted, rows_archived";
/// Takes what is free, lapsed or one's own. `$1`: the table, `$2`: its name, `$3`: the new token, `$4`: who, `$5`: the policy,
/// `$6`: server and timeline, `$7`: seconds until it lapses, `$8`: the token of a holder whose process has ended.
const TAKE: &str = "\
INSERT INTO retention_operator.lease AS l (table_id, table_name, token, owner, policy, life, beat, lapse_seconds) \
VALUES ($1::int8, $2::text, $3::text, $4::text, $5::text, $6::text, clock_timestamp(), $7::int4) \
ON CONFLICT (table_id) DO UPDATE SET table_name = excluded.table_name, token = excluded.token, owner = excluded.owner, \
  policy = excluded.policy, life = excluded.life, beat = excluded.beat, lapse_seconds = excluded.lapse_seconds \
WHERE l.owner = excluded.owner OR l.beat < clock_timestamp() - make_interval(secs => l.lapse_seconds) OR l.token = $8::text \
RETURNING 1 AS taken";
/// Ends the backend whose open transaction has updated the row: its number stands in the row itself. `$1`: the table.
const END_HOLDER: &str = "\
SELECT count(pg_terminate_backend(a.pid))::int8 AS n FROM retention_operator.lease l \
JOIN pg_stat_activity a ON a.backend_xid = l.xmax WHERE l.table_id = $1::int8 AND a.pid <> pg_backend_pid()";
const RENEW: &str = "\
UPDATE retention_operator.lease SET beat = clock_timestamp() WHERE table_id = $1::int8 AND token = $2::text";
const GIVE_BACK: &str = "\
DELETE FROM retention_operator.lease WHERE table_id = $1::int8 AND token = $2::text";

/// Columns of a chunk's first look: the switch that pauses everything, and the state of the holds.
pub(in crate::engine::postgres) const WATCH: &str = "\
(SELECT coalesce(k.reason, '') FROM retention_operator.control k WHERE k.one AND k.paused) AS paused, \
(SELECT k.revision FROM retention_operator.control k WHERE k.one) AS revision, ";

/// A lease that was taken, for one walk.
#[derive(Debug)]
pub(in crate::engine::postgres) struct Lease {
    table: String,
    table_id: i64,
    token: String,
    sweep_id: String,
    rule: String,
    revision: i64,
    recorded: u64,
    renewed: Instant,
}

impl Lease {
    /// Takes the lease on a plan's table, and opens the rule's count.
    pub(super) async fn acquire(
        sessions: &Arc<Sessions>,
        settings: &Settings,
        plan: &RulePlan,
        entry: &SweepEntry,
    ) -> Result<Self, EngineError> {
        let mut lease = Self {
            table: plan.table.qualified(),
            table_id: i64::from(plan.table.id),
            token: format!("{:032x}", fastrand::u128(..)),
            sweep_id: entry.sweep_id.clone(),
            rule: entry.rule.rule.clone(),
            revision: entry.revision,
            recorded: 0,
            renewed: Instant::now(),
        };
        let what = "taking the lease of the ledger";
        for attempt in 1.. {
            let mut session = sessions.begin(&settings.write()).await?;
            match lease.take(&mut session, settings, entry).await {
                Ok(Some(recorded)) => {
                    session
                        .commit_and_give_back()
                        .await
                        .map_err(|reason| failed(sessions, settings, what, &reason))?;
                    lease.recorded = recorded;
                    return Ok(lease);
                }
                Ok(None) => {
                    session.abandon().await;
                    break;
                }
                Err(reason) => {
                    session.abandon().await;
                    let locked = error::code(&reason) == Some(error::LOCK_NOT_AVAILABLE);
                    if !locked || attempt == ATTEMPTS {
                        return Err(failed(sessions, settings, what, &reason));
                    }
                    lease.end_holder(sessions, settings).await?;
                }
            }
        }
        Err(lease.lost())
    }

    /// What the rule took so far, or `None`: somebody else holds the lease.
    async fn take(
        &self,
        session: &mut Session,
        settings: &Settings,
        entry: &SweepEntry,
    ) -> Result<Option<u64>, sqlx::Error> {
        let held = session.rows(constant(HOLDER).bind(self.table_id)).await?;
        let mut ended = None;
        if let Some(row) = held.first() {
            // Looked at first, because taking waits for whoever is at the row.
            let owner: String = row.try_get("owner")?;
            if owner != entry.sweeper && !row.try_get::<bool, _>("lapsed")? {
                if !sweeper::has_ended(&owner) {
                    return Ok(None);
                }
                ended = Some(row.try_get::<String, _>("token")?);
            }
        }
        let signed = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
        let rule = &entry.rule;
        // In the order in which a chunk locks the two.
        let row = session
            .row(
                constant(RULE)
                    .bind(entry.sweep_id.clone())
                    .bind(rule.rule.clone())
                    .bind(self.table_id)
                    .bind(rule.table.clone())
                    .bind(rule.cutoff.clone())
                    .bind(rule.rows_at_start.map(signed))
                    .bind(rule.rows_total.map(signed))
                    .bind(rule.rows_approved.map(signed))
                    .bind(signed(rule.rows_deleted))
                    .bind(signed(rule.rows_archived)),
            )
            .await?;
        let recorded = unsigned(row.try_get("rows_deleted")?);
        let life = outcome::life(session).await?;
        let lapse = LAPSE.max(settings.statement_timeout + LAPSE / 2);
        let taken = session
            .rows(
                constant(TAKE)
                    .bind(self.table_id)
                    .bind(self.table.clone())
                    .bind(self.token.clone())
                    .bind(entry.sweeper.clone())
                    .bind(entry.policy.clone())
                    .bind(life)
                    .bind(i32::try_from(lapse.as_secs()).unwrap_or(i32::MAX))
                    .bind(ended),
            )
            .await?;
        Ok((!taken.is_empty()).then_some(recorded))
    }

    /// The row is locked by a chunk whose process does not answer any more.
    async fn end_holder(
        &self,
        sessions: &Arc<Sessions>,
        settings: &Settings,
    ) -> Result<(), EngineError> {
        let mut session = sessions.begin(&settings.write()).await?;
        let ended = session.row(constant(END_HOLDER).bind(self.table_id)).await;
        match ended {
            Ok(row) => {
                let ended: i64 = row.try_get("n").unwrap_or(0);
                session.release().await;
                tracing::warn!(
                    table = self.table,
                    ended,
                    "ended the session that held a lease whose holder is gone"
                );
                Ok(())
            }
            Err(reason) => {
                session.abandon().await;
                Err(failed(
                    sessions,
                    settings,
                    "ending the session that holds a lease whose holder is gone",
                    &reason,
                ))
            }
        }
    }

    /// Rows that the ledger had of the rule when the lease was taken.
    pub(in crate::engine::postgres) fn recorded(&self) -> u64 {
        self.recorded
    }

    /// May a chunk go on that begins like this?
    pub(in crate::engine::postgres) fn admits(&self, look: &PgRow) -> Result<(), EngineError> {
        let unreadable = |reason: sqlx::Error| EngineError::Database {
            what: "looking at the ledger".to_owned(),
            message: reason.to_string(),
            code: "-".to_owned(),
        };
        let paused: Option<String> = look.try_get("paused").map_err(unreadable)?;
        if let Some(reason) = paused {
            return Err(EngineError::Paused(reason));
        }
        let revision: Option<i64> = look.try_get("revision").map_err(unreadable)?;
        if revision != Some(self.revision) {
            return Err(EngineError::HoldsChanged);
        }
        Ok(())
    }

    /// A chunk's last message before `COMMIT`: what `finish` asks, then the count, then the lease. `taken` is an
    /// expression for the rows that the chunk takes, `archived` how many of them were stored. A second row says that the lease is held; without one the chunk must not be
    /// committed.
    pub(in crate::engine::postgres) fn finish(
        &self,
        finish: &Sql,
        taken: &str,
        archived: u64,
    ) -> Sql {
        finish.followed_by(&format!(
            "WITH counted AS (UPDATE retention_operator.sweep_rule SET rows_deleted = rows_deleted + {taken}, \
             rows_archived = rows_archived + {archived} \
             WHERE sweep_id = {} AND rule = {} AND table_id = {id} RETURNING 1) \
             UPDATE retention_operator.lease SET beat = pg_catalog.clock_timestamp() \
             WHERE table_id = {id} AND token = {} AND EXISTS (SELECT FROM counted) RETURNING 1 AS leased",
            literal(&self.sweep_id),
            literal(&self.rule),
            literal(&self.token),
            id = self.table_id,
        ))
    }

    /// Another sweeper took over, or the ledger does not know the sweep any more.
    pub(in crate::engine::postgres) fn lost(&self) -> EngineError {
        EngineError::SweptElsewhere {
            table: self.table.clone(),
        }
    }

    /// A chunk that was committed has renewed the lease.
    pub(in crate::engine::postgres) fn was_renewed(&mut self) {
        self.renewed = Instant::now();
    }

    /// Renews the lease where no chunk has done it for a while; `session` is in no transaction.
    pub(in crate::engine::postgres) async fn renew(
        &mut self,
        session: &mut Session,
        settings: &Settings,
    ) -> Result<(), EngineError> {
        if self.renewed.elapsed() < RENEWAL {
            return Ok(());
        }
        let begin = settings.write();
        session.begin(&begin).await?;
        let renewed = self.run(session, RENEW).await;
        match renewed {
            Ok(1) => {
                self.was_renewed();
                Ok(())
            }
            Ok(_) => Err(self.lost()),
            Err(reason) => Err(error::running(
                session.server(),
                error::Doing {
                    what: "renewing the lease of the ledger",
                    table: None,
                    grant: None,
                    statement_timeout: begin.statement_timeout,
                },
                &reason,
            )),
        }
    }

    /// Gives the lease back, so that nobody has to wait until it lapses. When that fails, it lapses.
    pub(in crate::engine::postgres) async fn give_back(
        &self,
        session: &mut Session,
        settings: &Settings,
    ) {
        if session.is_open() && session.begin(&settings.write()).await.is_ok() {
            let _ = self.run(session, GIVE_BACK).await;
        }
    }

    /// One statement in a transaction that has begun, and its end.
    async fn run(
        &self,
        session: &mut Session,
        statement: &'static str,
    ) -> Result<u64, sqlx::Error> {
        let query = constant(statement)
            .bind(self.table_id)
            .bind(self.token.clone());
        let rows = session.execute(query).await;
        match rows {
            Ok(rows) => session.commit().await.map(|()| rows),
            Err(reason) => {
                session.rollback().await;
                Err(reason)
            }
        }
    }
}
