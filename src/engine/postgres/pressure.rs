//! What the server says of itself between two chunks: catalogs, locks and statistics views, no table of a user.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use sqlx::{Row, postgres::PgRow};

use super::{
    Settings,
    catalog::oids,
    error::{self, Doing},
    ledger,
    session::Session,
    sql::constant,
};
use crate::{
    engine::EngineError,
    policy::pace::{Archiver, Pressure, ReplicaLag, Slots},
};

/// `$1`: the leaves of the table, `$2`: tables without which there is no ledger. What pg_stat_activity and pg_stat_replication hide from a role without pg_read_all_stats is
/// NULL; locks and transaction counters are for everybody.
///
/// Maintenance is seen by the lock that it takes. A vacuum's own snapshot holds nothing back, so that vacuums are left out
/// where snapshots are looked at.
const PRESSURE: &str = "\
SELECT pg_is_in_recovery() AS in_recovery, \
  NOT pg_is_in_recovery() AND current_setting('archive_mode') <> 'off' \
    AND has_function_privilege('pg_catalog.pg_stat_get_archiver()', 'EXECUTE') \
    AND has_table_privilege('pg_catalog.pg_stat_archiver', 'SELECT') AS asks_archiver, \
  NOT pg_is_in_recovery() AND has_function_privilege('pg_catalog.pg_get_replication_slots()', 'EXECUTE') \
    AND has_table_privilege('pg_catalog.pg_replication_slots', 'SELECT') AS asks_slots, \
  (SELECT (pg_stat_get_db_xact_commit(d.oid) + pg_stat_get_db_xact_rollback(d.oid))::int8 \
    FROM pg_database d WHERE d.datname = current_database()) AS transactions, \
  EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database() \
    WHERE l.locktype = 'relation' AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted AND l.relation = ANY ($1) \
    AND l.pid <> pg_backend_pid()) AS maintained, \
  (SELECT count(*) = cardinality($2::text[]) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname = 'retention_operator' AND c.relname = ANY ($2::text[])) AS has_ledger, \
  activity.*, replication.* \
FROM (SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all, \
    count(*) FILTER (WHERE a.state = 'active' AND a.backend_type = 'client backend') AS active, \
    coalesce(bool_or(a.backend_type = 'autovacuum worker' AND a.query LIKE '%(to prevent wraparound)'), false) AS freezes, \
    extract(epoch FROM clock_timestamp() - min(a.xact_start) FILTER ( \
      WHERE a.backend_xmin IS NOT NULL AND a.backend_type IS DISTINCT FROM 'autovacuum worker' \
      AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)))::float8 AS oldest_snapshot \
  FROM pg_stat_activity a WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()) activity, \
  (SELECT count(*) AS replicas, count(*) FILTER (WHERE r.state IS NULL) AS hidden, \
    extract(epoch FROM max(r.replay_lag))::float8 AS lag, \
    pg_wal_lsn_diff(min(coalesce(r.replay_lsn, '0/0')), '0/0')::int8 AS replayed, \
    CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8 END AS written \
  FROM pg_stat_replication r WHERE r.state IS NULL OR r.state <> 'backup') replication";

/// The archiver by what it says of itself, which every role may read; the files that wait are for few to see, and are counted by the
/// number of the last archived one instead. One of another kind (a timeline's history, a backup's label) has no such number.
const ARCHIVER: &str = "\
SELECT coalesce(a.last_failed_time > coalesce(a.last_archived_time, '-infinity'), false) AS failing, \
  CASE WHEN a.last_archived_wal ~ '^[0-9A-F]{24}$' THEN greatest(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') \
    - (('x' || substr(a.last_archived_wal, 9, 8))::bit(32)::int8::numeric * 4294967296 \
      + ('x' || substr(a.last_archived_wal, 17, 8))::bit(32)::int8::numeric * s.size + s.size), 0)::int8 / s.size * s.size \
    WHEN a.last_archived_wal IS NULL AND a.last_failed_time IS NOT NULL THEN s.size END AS waiting \
FROM pg_stat_archiver a, (SELECT pg_size_bytes(current_setting('wal_segment_size')) AS size) s";

/// What slots keep. One of which the log is gone already keeps nothing.
const SLOTS: &str = "\
SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), s.restart_lsn)) FILTER (WHERE NOT s.active \
    AND s.wal_status IS DISTINCT FROM 'lost'), 0)::int8 AS idle, \
  coalesce(bool_or(s.wal_status = 'unreserved'), false) AS nearly_lost \
FROM pg_replication_slots s";

/// How far the slowest replica is behind, by our own clock: the server's own measure stands still while a replica applies nothing.
#[derive(Debug, Default)]
pub(super) struct ReplicaClock {
    /// Positions of the write-ahead log that the slowest replica has not applied yet, with the time at which they were seen first.
    waiting: VecDeque<(Instant, i64)>,
}

/// Enough for some twenty minutes; what is older than the limit of any policy need not be told apart.
const MOST_WAITING: usize = 1_024;

impl ReplicaClock {
    /// Takes in how far the log was `written` and `replayed` at `now`; the lag.
    fn observe(&mut self, now: Instant, written: i64, replayed: i64) -> Duration {
        while self
            .waiting
            .front()
            .is_some_and(|(_, position)| *position <= replayed)
        {
            self.waiting.pop_front();
        }
        let newer = self
            .waiting
            .back()
            .is_none_or(|(_, position)| *position < written);
        if newer && written > replayed && self.waiting.len() < MOST_WAITING {
            self.waiting.push_back((now, written));
        }
        self.waiting
            .front()
            .map_or(Duration::ZERO, |(since, _)| now.duration_since(*since))
    }
}

/// Reads it in a transaction of its own.
pub(super) async fn read(
    session: &mut Session,
    settings: &Settings,
    leaves: &[u32],
    replicas: &mut ReplicaClock,
) -> Result<Pressure, EngineError> {
    if !session.is_open() {
        session.reconnect().await?;
    }
    session.begin(&settings.read()).await?;
    let answer = session
        .row(
            constant(PRESSURE)
                .bind(oids(leaves))
                .bind(ledger::first_tables()),
        )
        .await;
    let pressure = match answer {
        Ok(row) => complete(session, &row, replicas).await,
        Err(reason) => Err(reason),
    };
    session.end().await;
    pressure.map_err(|reason| {
        let doing = Doing {
            what: "looking at the pressure on the database",
            table: None,
            grant: None,
            statement_timeout: settings.statement_timeout,
        };
        error::running(session.server(), doing, &reason)
    })
}

/// What the first answer says, and what it says may be asked for.
async fn complete(
    session: &mut Session,
    row: &PgRow,
    replicas: &mut ReplicaClock,
) -> Result<Pressure, sqlx::Error> {
    let mut pressure = from_row(row, replicas)?;
    if row.try_get("asks_archiver")? {
        let row = session.row(constant(ARCHIVER)).await?;
        let waiting: Option<i64> = row.try_get("waiting")?;
        pressure.archiver = Archiver {
            failing: row.try_get("failing")?,
            waiting_bytes: waiting.and_then(|bytes| u64::try_from(bytes).ok()),
        };
    }
    if row.try_get("asks_slots")? {
        let row = session.row(constant(SLOTS)).await?;
        let idle: i64 = row.try_get("idle")?;
        pressure.slots = Slots {
            idle_bytes: u64::try_from(idle).unwrap_or(0),
            nearly_lost: row.try_get("nearly_lost")?,
        };
    }
    Ok(pressure)
}

fn from_row(row: &PgRow, replicas: &mut ReplicaClock) -> Result<Pressure, sqlx::Error> {
    let sees_all: bool = row.try_get("sees_all")?;
    let count = |name: &str| -> Result<u32, sqlx::Error> {
        let count: i64 = row.try_get(name)?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    };
    let seconds = |name: &str| -> Result<Option<Duration>, sqlx::Error> {
        let seconds: Option<f64> = row.try_get(name)?;
        Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok()))
    };
    let transactions: Option<i64> = row.try_get("transactions")?;
    Ok(Pressure {
        in_recovery: row.try_get("in_recovery")?,
        transactions: transactions.and_then(|count| u64::try_from(count).ok()),
        active_sessions: if sees_all {
            Some(count("active")?)
        } else {
            None
        },
        table_is_maintained: row.try_get("maintained")?,
        freeze_vacuum: if sees_all {
            Some(row.try_get("freezes")?)
        } else {
            None
        },
        oldest_snapshot: seconds("oldest_snapshot")?,
        replica_lag: match (count("replicas")?, count("hidden")?) {
            (0, _) => ReplicaLag::NoReplica,
            (_, 0) => {
                let written: Option<i64> = row.try_get("written")?;
                let replayed: Option<i64> = row.try_get("replayed")?;
                let ours =
                    replicas.observe(Instant::now(), written.unwrap_or(0), replayed.unwrap_or(0));
                ReplicaLag::Behind(seconds("lag")?.unwrap_or_default().max(ours))
            }
            _ => ReplicaLag::Hidden,
        },
        has_ledger: row.try_get("has_ledger")?,
        ..Pressure::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_replica_is_as_far_behind_as_the_oldest_position_that_it_lacks() {
        let start = Instant::now();
        let mut clock = ReplicaClock::default();

        assert_eq!(clock.observe(start, 100, 100), Duration::ZERO);
        assert_eq!(clock.observe(start + SECOND, 200, 100), Duration::ZERO);
        assert_eq!(clock.observe(start + 3 * SECOND, 300, 100), 2 * SECOND);
        assert_eq!(clock.observe(start + 5 * SECOND, 300, 250), 2 * SECOND);
        assert_eq!(clock.observe(start + 6 * SECOND, 300, 300), Duration::ZERO);
    }

    #[test]
    fn an_idle_primary_with_a_lost_replica_stays_behind() {
        let start = Instant::now();
        let mut clock = ReplicaClock::default();
        for second in 0..5_000 {
            clock.observe(start + second * SECOND, i64::from(second) + 10, 5);
        }
        assert_eq!(
            clock.observe(start + 5_000 * SECOND, 5_010, 5),
            5_000 * SECOND
        );
    }
}
