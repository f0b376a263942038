//! What the whole server shares: the age of transaction ids, snapshots, replication slots. Each query in a transaction of its
//! own, because an administrator may have taken the right to one of them away.

use jiff::Timestamp;
use sqlx::{Row, postgres::PgRow, postgres::types::Oid};

use super::Reader;
use crate::{
    engine::{EngineError, postgres::audit::instant},
    policy::hygiene::facts::{Aged, Facts, Freeze, HolderKind, Slot, SnapshotHolder, WalSettings},
};

const SETTINGS: &str = "\
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS now, current_setting('autovacuum_freeze_max_age')::int8 AS freeze, \
  current_setting('autovacuum_multixact_freeze_max_age')::int8 AS multixact_freeze, \
  pg_size_bytes(current_setting('max_wal_size')) AS max_wal, \
  CASE current_setting('max_slot_wal_keep_size') WHEN '-1' THEN NULL \
    ELSE pg_size_bytes(current_setting('max_slot_wal_keep_size')) END AS max_slot, \
  pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all";

const DATABASES: &str = "\
SELECT NULL::oid AS id, '' AS schema, d.datname::text AS name, d.datname = current_database() AS own, false AS temporary, \
  age(d.datfrozenxid)::int8 AS age, mxid_age(d.datminmxid)::int8 AS multixact_age, false AS by_toast \
FROM pg_database d WHERE d.datfrozenxid <> '0'";

/// The oldest ones only, of tables of users as many as of others. An id of 0 is none: other kinds of storage than the heap freeze
/// nothing.
const TABLES: &str = "\
SELECT * FROM (SELECT aged.*, row_number() OVER (PARTITION BY aged.other ORDER BY aged.way DESC, aged.id) AS place \
  FROM (SELECT c.oid AS id, n.nspname::text AS schema, c.relname::text AS name, true AS own, c.relpersistence = 't' AS temporary, \
      n.nspname IN ('pg_catalog', 'information_schema', 'retention_operator') OR c.relpersistence = 't' AS other, \
      greatest(a.own, a.toast)::int8 AS age, coalesce(greatest(a.own_multi, a.toast_multi), 0)::int8 AS multixact_age, \
      coalesce(a.toast > a.own, false) AS by_toast, greatest( \
        greatest(a.own, a.toast) / current_setting('autovacuum_freeze_max_age')::float8, \
        greatest(a.own_multi, a.toast_multi) / current_setting('autovacuum_multixact_freeze_max_age')::float8) AS way \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_class t ON t.oid = c.reltoastrelid \
    CROSS JOIN LATERAL (SELECT CASE WHEN c.relfrozenxid <> '0' THEN age(c.relfrozenxid) END AS own, \
      CASE WHEN t.relfrozenxid <> '0' THEN age(t.relfrozenxid) END AS toast, \
      CASE WHEN c.relminmxid <> '0' THEN mxid_age(c.relminmxid) END AS own_multi, \
      CASE WHEN t.relminmxid <> '0' THEN mxid_age(t.relminmxid) END AS toast_multi) a \
    WHERE c.relkind IN ('r', 'm')) aged WHERE aged.age IS NOT NULL) placed \
WHERE placed.place <= 20 ORDER BY placed.way DESC, placed.id";

/// Sessions of other databases keep nothing of this one. A vacuum's own snapshot keeps nothing, workers act for their leader, and
/// what sends to a standby is looked at below.
const SESSIONS: &str = "\
SELECT coalesce(a.usename::text, a.usesysid::text) AS role, coalesce(a.application_name = 'pg_dump', false) AS dump, a.pid, \
  coalesce(a.state LIKE 'idle in transaction%', false) AS idle, a.xact_start::text AS began, \
  (extract(epoch FROM a.xact_start) * 1000000)::int8 AS since, greatest(age(a.backend_xmin), age(a.backend_xid))::int8 AS age \
FROM pg_stat_activity a \
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL AND a.leader_pid IS NULL \
  AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL) \
  AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid) \
  AND NOT EXISTS (SELECT FROM pg_stat_replication r WHERE r.pid = a.pid)";

const PREPARED: &str = "\
SELECT p.owner::text AS owner, (extract(epoch FROM p.prepared) * 1000000)::int8 AS since, age(p.transaction)::int8 AS age \
FROM pg_prepared_xacts p WHERE p.database = current_database()";

const STANDBYS: &str = "\
SELECT coalesce(r.usename::text, r.usesysid::text, '') AS role, age(r.backend_xmin)::int8 AS age \
FROM pg_stat_replication r WHERE r.backend_xmin IS NOT NULL";

/// By way of JSON: 14 to 16 have no `inactive_since`. A lost slot keeps nothing any more.
const SLOTS: &str = "\
SELECT s.slot_name::text AS name, s.slot_type = 'logical' AS logical, s.database IS NOT NULL AND s.database <> current_database() AS foreign, \
  s.temporary, s.active, s.wal_status, s.safe_wal_size, \
  (extract(epoch FROM (to_jsonb(s) ->> 'inactive_since')::timestamptz) * 1000000)::int8 AS inactive_since, \
  pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, s.restart_lsn)::int8 AS held, \
  CASE WHEN s.wal_status IS DISTINCT FROM 'lost' THEN age(s.xmin)::int8 END AS age, \
  CASE WHEN s.wal_status IS DISTINCT FROM 'lost' THEN age(s.catalog_xmin)::int8 END AS catalog_age \
FROM pg_replication_slots s";

/// Reads it all. What the role may not see is said in [`Facts::unseen`].
pub(super) async fn read(reader: &mut Reader<'_>, facts: &mut Facts) -> Result<(), EngineError> {
    let freeze = "how old transaction ids are";
    for row in reader.rows(facts, freeze, SETTINGS).await? {
        settings(&row, facts).map_err(|reason| reader.error(&reason))?;
    }
    if facts.freeze.is_some() {
        for (query, is_table) in [(DATABASES, false), (TABLES, true)] {
            let rows = reader.rows(facts, freeze, query).await?;
            let aged: Result<Vec<Aged>, sqlx::Error> = rows.iter().map(aged).collect();
            let aged = aged.map_err(|reason| reader.error(&reason))?;
            if let Some(freeze) = &mut facts.freeze {
                if is_table {
                    freeze.tables = aged;
                } else {
                    freeze.databases = aged;
                }
            }
        }
    }
    let what = "who holds old snapshots";
    let mut holders = Vec::new();
    for (query, holder) in [
        (SESSIONS, session as fn(&PgRow) -> _),
        (PREPARED, prepared),
        (STANDBYS, standby),
    ] {
        for row in reader.rows(facts, what, query).await? {
            holders.push(holder(&row).map_err(|reason| reader.error(&reason))?);
        }
    }
    for row in reader.rows(facts, "replication slots", SLOTS).await? {
        let slot = slot(&row).map_err(|reason| reader.error(&reason))?;
        let ages = ages(&row).map_err(|reason| reader.error(&reason))?;
        for (age, catalog_only) in ages {
            holders.push(SnapshotHolder {
                kind: HolderKind::Slot {
                    name: slot.name.clone(),
                    catalog_only,
                    active: slot.active,
                    foreign: slot.foreign,
                },
                since: None,
                age,
            });
        }
        facts.slots.push(slot);
    }
    facts.snapshots = holders;
    Ok(())
}

fn settings(row: &PgRow, facts: &mut Facts) -> Result<(), sqlx::Error> {
    facts.now = time(row, "now")?;
    facts.freeze = Some(Freeze {
        max_age: unsigned(row, "freeze")?,
        multixact_max_age: unsigned(row, "multixact_freeze")?,
        ..Freeze::default()
    });
    let limit: Option<i64> = row.try_get("max_slot")?;
    facts.wal = WalSettings {
        max_wal_bytes: unsigned(row, "max_wal")?,
        max_slot_bytes: limit.and_then(|bytes| u64::try_from(bytes).ok()),
    };
    if !row.try_get::<bool, _>("sees_all")? {
        facts.unseen.push(
            "since when sessions of other roles keep their transactions open: grant pg_monitor or pg_read_all_stats"
                .to_owned(),
        );
    }
    Ok(())
}

fn aged(row: &PgRow) -> Result<Aged, sqlx::Error> {
    Ok(Aged {
        schema: row.try_get("schema")?,
        name: row.try_get("name")?,
        table: row.try_get::<Option<Oid>, _>("id")?.map(|oid| oid.0),
        own: row.try_get("own")?,
        temporary: row.try_get("temporary")?,
        age: unsigned(row, "age")?,
        multixact_age: unsigned(row, "multixact_age")?,
        by_toast: row.try_get("by_toast")?,
    })
}

fn session(row: &PgRow) -> Result<SnapshotHolder, sqlx::Error> {
    Ok(SnapshotHolder {
        kind: HolderKind::Session {
            role: row.try_get("role")?,
            dump: row.try_get("dump")?,
            pid: row.try_get("pid")?,
            idle: row.try_get("idle")?,
            began: row.try_get("began")?,
        },
        since: time(row, "since")?,
        age: unsigned(row, "age")?,
    })
}

fn prepared(row: &PgRow) -> Result<SnapshotHolder, sqlx::Error> {
    Ok(SnapshotHolder {
        kind: HolderKind::Prepared {
            owner: row.try_get("owner")?,
        },
        since: time(row, "since")?,
        age: unsigned(row, "age")?,
    })
}

fn standby(row: &PgRow) -> Result<SnapshotHolder, sqlx::Error> {
    Ok(SnapshotHolder {
        kind: HolderKind::Standby {
            role: row.try_get("role")?,
        },
        since: None,
        age: unsigned(row, "age")?,
    })
}

fn slot(row: &PgRow) -> Result<Slot, sqlx::Error> {
    let held: Option<i64> = row.try_get("held")?;
    Ok(Slot {
        name: row.try_get("name")?,
        logical: row.try_get("logical")?,
        foreign: row.try_get("foreign")?,
        temporary: row.try_get("temporary")?,
        active: row.try_get("active")?,
        inactive_since: time(row, "inactive_since")?,
        wal_status: row.try_get("wal_status")?,
        held_bytes: held.and_then(|bytes| u64::try_from(bytes).ok()),
        safe_bytes: row.try_get("safe_wal_size")?,
    })
}

/// How old what a slot needs of all tables is, and what it needs of the catalogs alone.
fn ages(row: &PgRow) -> Result<Vec<(u64, bool)>, sqlx::Error> {
    let mut ages = Vec::new();
    for (name, catalog_only) in [("age", false), ("catalog_age", true)] {
        let age: Option<i64> = row.try_get(name)?;
        ages.extend(age.map(|age| (u64::try_from(age).unwrap_or(0), catalog_only)));
    }
    Ok(ages)
}

/// An age is below 0 for an id that was given out since.
fn unsigned(row: &PgRow, name: &str) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(row.try_get::<i64, _>(name)?).unwrap_or(0))
}

fn time(row: &PgRow, name: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    row.try_get::<Option<i64>, _>(name)?
        .map(instant)
        .transpose()
}
