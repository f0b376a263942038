//! The lease on a table: one sweeper at a time, and no chunk of an old one after a new one has come.
//!
//! Whoever sweeps has a token in the ledger. Each chunk ends with an update of the row that has this token; it must hit exactly one
//! row, and it is the last statement before `COMMIT`. Only one transaction of a file writes at a time, so that giving the row another
//! token waits for the chunk that is open, and every later chunk of the old token hits none and is rolled back.

use std::time::{Duration, Instant};

use sqlx::{Row, sqlite::SqliteRow};

use super::book::{signed, unsigned};
use crate::{
    engine::{
        EngineError,
        ledger::SweepEntry,
        sqlite::{session::Session, sql::constant},
        sweeper,
    },
    policy::plan::RulePlan,
};

/// A lease that nobody renews lapses after this long, or after the longest statement where that is longer.
const LAPSE: Duration = Duration::from_secs(60);
/// Chunks that delete nothing are rolled back; at least this often the lease is renewed all the same.
const RENEWAL: Duration = Duration::from_secs(15);

/// `?1`: the table. Who holds the lease, and whether it has lapsed.
const HOLDER: &str = "\
SELECT owner, coalesce(unixepoch(beat) + lapse_seconds < unixepoch('now'), 0) AS lapsed \
FROM retention_operator_lease WHERE table_id = ?1";
/// As far as the ledger does not know the rule yet; what it took so far. `?1`: the sweep, `?2`: the rule, `?3`: the table.
const RULE: &str = "\
INSERT INTO retention_operator_sweep_rule (sweep_id, rule, table_id, table_name, cutoff, rows_at_start, rows_total, \
  rows_approved, rows_deleted, rows_archived, done) \
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0) \
ON CONFLICT (sweep_id, rule, table_id) DO UPDATE SET cutoff = excluded.cutoff, rows_at_start = excluded.rows_at_start, \
  rows_total = excluded.rows_total, rows_approved = excluded.rows_approved, done = 0 \
RETURNING rows_deleted";
/// Whoever held it before: the transaction that looked at the holder goes on. `?1`: the table, `?2`: its name, `?3`: the new token,
/// `?4`: who, `?5`: the policy, `?6`: seconds until it lapses.
const TAKE: &str = "\
INSERT INTO retention_operator_lease (table_id, table_name, token, owner, policy, beat, lapse_seconds) \
VALUES (?1, ?2, ?3, ?4, ?5, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), ?6) \
ON CONFLICT (table_id) DO UPDATE SET table_name = excluded.table_name, token = excluded.token, owner = excluded.owner, \
  policy = excluded.policy, beat = excluded.beat, lapse_seconds = excluded.lapse_seconds";
/// `?1`: the sweep, `?2`: the rule, `?3`: the table, `?4`: rows that the chunk takes, `?5`: how many of them were stored.
const COUNT: &str = "\
UPDATE retention_operator_sweep_rule SET rows_deleted = rows_deleted + ?4, rows_archived = rows_archived + ?5 \
WHERE sweep_id = ?1 AND rule = ?2 AND table_id = ?3";
const RENEW: &str = "\
UPDATE retention_operator_lease SET beat = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE table_id = ?1 AND token = ?2";
const GIVE_BACK: &str = "DELETE FROM retention_operator_lease WHERE table_id = ?1 AND token = ?2";

/// Columns of a chunk's first look, with values that [`Lease::admits`] reads: the switch that pauses everything, the state of the
/// holds, and who has the lease on the table of that number.
pub(in crate::engine::sqlite) fn watch(table_id: u32) -> String {
    format!(
        "(SELECT CASE WHEN paused IS NOT 0 THEN coalesce(reason, '') END FROM retention_operator_control WHERE one = 1) AS paused, \
         (SELECT revision FROM retention_operator_control WHERE one = 1) AS revision, \
         (SELECT token FROM retention_operator_lease WHERE table_id = {table_id}) AS token"
    )
}

/// A lease that was taken, for one walk.
#[derive(Clone, Debug)]
pub(in crate::engine::sqlite) struct Lease {
    table: String,
    table_id: u32,
    token: String,
    sweep_id: String,
    rule: String,
    revision: i64,
    recorded: u64,
    renewed: Instant,
}

impl Lease {
    /// A lease that nobody has taken yet.
    pub(super) fn new(plan: &RulePlan, entry: &SweepEntry) -> Self {
        Self {
            table: plan.table.qualified(),
            table_id: plan.table.id,
            token: format!("{:032x}", fastrand::u128(..)),
            sweep_id: entry.sweep_id.clone(),
            rule: entry.rule.rule.clone(),
            revision: entry.revision,
            recorded: 0,
            renewed: Instant::now(),
        }
    }

    /// Takes the lease on a plan's table, and opens the rule's count, in a transaction that alone may write. `false`: somebody
    /// else holds it.
    pub(super) async fn take(
        &mut self,
        session: &mut Session,
        statement_timeout: Duration,
        entry: &SweepEntry,
    ) -> Result<bool, sqlx::Error> {
        let table_id = i64::from(self.table_id);
        let held = session.rows(constant(HOLDER).bind(table_id)).await?;
        if let Some(row) = held.first() {
            let owner: String = row.try_get("owner")?;
            if owner != entry.sweeper
                && row.try_get::<i64, _>("lapsed")? == 0
                // Nobody waits for a process of this machine that has ended.
                && !sweeper::has_ended(&owner)
            {
                return Ok(false);
            }
        }
        let rule = &entry.rule;
        let opened = constant(RULE)
            .bind(entry.sweep_id.clone())
            .bind(rule.rule.clone())
            .bind(table_id)
            .bind(rule.table.clone())
            .bind(rule.cutoff.clone())
            .bind(rule.rows_at_start.map(signed))
            .bind(rule.rows_total.map(signed))
            .bind(rule.rows_approved.map(signed))
            .bind(signed(rule.rows_deleted))
            .bind(signed(rule.rows_archived));
        let row = session.row(opened).await?;
        self.recorded = unsigned(row.try_get("rows_deleted")?);
        let lapse = LAPSE.max(statement_timeout + LAPSE / 2);
        let take = constant(TAKE)
            .bind(table_id)
            .bind(self.table.clone())
            .bind(self.token.clone())
            .bind(entry.sweeper.clone())
            .bind(entry.policy.clone())
            .bind(signed(lapse.as_secs()));
        session.execute(take).await?;
        Ok(true)
    }

    /// Rows that the ledger had of the rule when the lease was taken.
    pub(in crate::engine::sqlite) fn recorded(&self) -> u64 {
        self.recorded
    }

    /// May a chunk go on that begins like this? Nothing of it changes until the chunk's transaction ends.
    pub(in crate::engine::sqlite) fn admits(&self, look: &SqliteRow) -> Result<(), EngineError> {
        let unreadable = |reason: sqlx::Error| EngineError::Database {
            what: "looking at the ledger".to_owned(),
            message: reason.to_string(),
            code: "-".to_owned(),
        };
        let token: Option<String> = look.try_get("token").map_err(unreadable)?;
        if token.as_ref() != Some(&self.token) {
            return Err(self.lost());
        }
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

    /// A chunk's last statements before `COMMIT`: its count, then the lease. `false`: it must not be committed.
    pub(in crate::engine::sqlite) async fn finish(
        &self,
        session: &mut Session,
        taken: u64,
        archived: u64,
    ) -> Result<bool, sqlx::Error> {
        let count = constant(COUNT)
            .bind(self.sweep_id.clone())
            .bind(self.rule.clone())
            .bind(i64::from(self.table_id))
            .bind(signed(taken))
            .bind(signed(archived));
        Ok(session.execute(count).await? == 1 && self.run(session, RENEW).await? == 1)
    }

    /// Another sweeper took over, or the ledger does not know the sweep any more.
    pub(in crate::engine::sqlite) fn lost(&self) -> EngineError {
        EngineError::SweptElsewhere {
            table: self.table.clone(),
        }
    }

    /// A chunk that was committed has renewed the lease.
    pub(in crate::engine::sqlite) fn was_renewed(&mut self) {
        self.renewed = Instant::now();
    }

    /// Renews the lease where no chunk has done it for a while; `session` is in no transaction. When that fails, the next chunk
    /// sees whether the lease is still held.
    pub(in crate::engine::sqlite) async fn renew(&mut self, session: &mut Session) {
        if self.renewed.elapsed() >= RENEWAL && self.alone(session, RENEW).await.is_ok() {
            self.was_renewed();
        }
    }

    /// Gives the lease back, so that nobody has to wait until it lapses. When that fails, it lapses.
    pub(in crate::engine::sqlite) async fn give_back(&self, session: &mut Session) {
        if session.is_open() {
            // Nothing is left to do when even this fails.
            let _ = session.be_patient().await;
            let _ = self.alone(session, GIVE_BACK).await;
        }
    }

    /// One statement in a transaction of its own.
    async fn alone(
        &self,
        session: &mut Session,
        statement: &'static str,
    ) -> Result<(), sqlx::Error> {
        session.begin_write().await?;
        let done = match self.run(session, statement).await {
            Ok(_) => session.commit().await,
            Err(reason) => Err(reason),
        };
        if done.is_err() {
            session.rollback().await;
        }
        done
    }

    async fn run(
        &self,
        session: &mut Session,
        statement: &'static str,
    ) -> Result<u64, sqlx::Error> {
        let query = constant(statement)
            .bind(i64::from(self.table_id))
            .bind(self.token.clone());
        session.execute(query).await
    }
}
