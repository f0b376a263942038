//! Sweeps in the ledger: their begin and end, what each rule took, and what is forgotten in time.

use jiff::Timestamp;
use sqlx::{Row, sqlite::SqliteRow};

use super::book::{number, unsigned};
use crate::engine::{
    ledger::{RuleRecord, SweepBegin, SweepEnd, SweepRecord},
    sqlite::{session::Session, sql::constant},
};

const BEGIN: &str = "\
INSERT INTO retention_operator_sweep (id, policy, cluster, set_off_by, spec, started_at, database_time, begun_at) \
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) \
ON CONFLICT (id) DO UPDATE SET set_off_by = excluded.set_off_by, spec = excluded.spec, database_time = excluded.database_time, \
  ended_at = NULL, outcome = NULL, message = NULL WHERE policy = excluded.policy";
const RULES: &str = "\
SELECT rule, table_id, table_name, cutoff, rows_at_start, rows_total, rows_approved, rows_deleted, rows_archived, done \
FROM retention_operator_sweep_rule WHERE sweep_id = ?1 ORDER BY rule, table_id";
const APPROVED: &str = "\
INSERT INTO retention_operator_approval (plan_hash, policy, sweep_id, at, rules) \
VALUES (?1, ?2, ?3, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), ?4) ON CONFLICT (plan_hash, policy, sweep_id) DO NOTHING";
const UNFINISHED: &str = "\
SELECT id, set_off_by, spec, started_at, database_time \
FROM retention_operator_sweep WHERE policy = ?1 AND ended_at IS NULL ORDER BY begun_at DESC, rowid DESC LIMIT 1";
/// At most 10,000 sweeps of a policy, and none of more than 400 days ago, are remembered one by one; what they took stays in
/// the totals. `?1`: the policy.
const OLD: &str = "\
SELECT id FROM (SELECT id, coalesce(ended_at, begun_at) AS over_at, ended_at, \
  row_number() OVER (ORDER BY begun_at DESC, rowid DESC) AS n FROM retention_operator_sweep WHERE policy = ?1) \
WHERE (n > 10000 AND ended_at IS NOT NULL) OR over_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-400 days')";
/// `?1`: the sweep, `?2`: the policy.
const KEEP_TOTAL: &str = "\
INSERT INTO retention_operator_total (policy, rows_deleted, rows_archived) \
SELECT ?2, coalesce(sum(rows_deleted), 0), coalesce(sum(rows_archived), 0) FROM retention_operator_sweep_rule WHERE sweep_id = ?1 \
ON CONFLICT (policy) DO UPDATE SET rows_deleted = rows_deleted + excluded.rows_deleted, \
  rows_archived = rows_archived + excluded.rows_archived";
/// `?1`: the sweep.
const FORGET: [&str; 3] = [
    "DELETE FROM retention_operator_sweep_rule WHERE sweep_id = ?1",
    "DELETE FROM retention_operator_approval WHERE sweep_id = ?1",
    "DELETE FROM retention_operator_sweep WHERE id = ?1",
];

const END: &str = "\
UPDATE retention_operator_sweep SET ended_at = CASE ?2 WHEN 1 THEN strftime('%Y-%m-%dT%H:%M:%fZ', 'now') END, outcome = ?3, \
  message = ?4 WHERE id = ?1";
const DONE: &str = "\
UPDATE retention_operator_sweep_rule SET done = 1 WHERE sweep_id = ?1 AND rule = ?2 AND table_id = ?3";
const UNAPPROVED: &str = "\
UPDATE retention_operator_sweep_rule SET rows_approved = NULL WHERE sweep_id = ?1 AND rule = ?2 AND table_id = ?3";
const RELEASED: &str =
    "DELETE FROM retention_operator_hold WHERE id = ?1 AND removed_at IS NOT NULL";
/// `?1`: the hold, `?2`: the sweep that asked. The policies that were asked stand in lines of their own.
const ASKED: &str = "\
UPDATE retention_operator_hold AS h SET asked_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), \
  asked_by = coalesce(h.asked_by, char(10)) || s.policy || char(10) \
FROM retention_operator_sweep s WHERE s.id = ?2 AND h.id = ?1 AND h.removed_at IS NOT NULL \
AND coalesce(instr(h.asked_by, char(10) || s.policy || char(10)), 0) = 0";

/// The transaction alone may write.
pub(super) async fn begin(
    session: &mut Session,
    begin: &SweepBegin<'_>,
) -> Result<Vec<RuleRecord>, sqlx::Error> {
    let (party, sweep) = (begin.party, begin.sweep);
    let insert = constant(BEGIN)
        .bind(sweep.id.clone())
        .bind(party.policy.clone())
        .bind(party.cluster.clone())
        .bind(sweep.trigger.clone())
        .bind(sweep.spec.clone())
        .bind(sweep.started.to_string())
        .bind(sweep.database_time.map(|time| time.to_string()));
    session.execute(insert).await?;
    if let Some((hash, rules)) = begin.approved {
        let rules: serde_json::Map<String, serde_json::Value> = rules
            .iter()
            .map(|(rule, rows)| (rule.clone(), (*rows).into()))
            .collect();
        let approved = constant(APPROVED)
            .bind(hash.to_owned())
            .bind(party.policy.clone())
            .bind(sweep.id.clone())
            .bind(serde_json::Value::Object(rules).to_string());
        session.execute(approved).await?;
    }
    prune(session, &party.policy).await?;
    rules(session, &sweep.id).await
}

async fn prune(session: &mut Session, policy: &str) -> Result<(), sqlx::Error> {
    for row in session.rows(constant(OLD).bind(policy.to_owned())).await? {
        let id: String = row.try_get("id")?;
        let total = constant(KEEP_TOTAL)
            .bind(id.clone())
            .bind(policy.to_owned());
        session.execute(total).await?;
        for statement in FORGET {
            session
                .execute(constant(statement).bind(id.clone()))
                .await?;
        }
    }
    Ok(())
}

/// The transaction alone may write.
pub(super) async fn end(session: &mut Session, end: &SweepEnd<'_>) -> Result<(), sqlx::Error> {
    let update = constant(END)
        .bind(end.id.to_owned())
        .bind(i64::from(end.ended))
        .bind(end.outcome.to_owned())
        .bind(end.message.to_owned());
    session.execute(update).await?;
    for (statement, of) in [(DONE, &end.done), (UNAPPROVED, &end.unapproved)] {
        for (rule, table) in of {
            let update = constant(statement)
                .bind(end.id.to_owned())
                .bind(rule.clone())
                .bind(i64::from(*table));
            session.execute(update).await?;
        }
    }
    for id in &end.released {
        session.execute(constant(RELEASED).bind(*id)).await?;
    }
    for id in &end.asked {
        session
            .execute(constant(ASKED).bind(*id).bind(end.id.to_owned()))
            .await?;
    }
    Ok(())
}

/// The policy's sweep that began last and has not ended.
pub(super) async fn unfinished(
    session: &mut Session,
    policy: &str,
) -> Result<Option<SweepRecord>, sqlx::Error> {
    let found = session
        .rows(constant(UNFINISHED).bind(policy.to_owned()))
        .await?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    let id: String = row.try_get("id")?;
    Ok(Some(SweepRecord {
        trigger: row.try_get("set_off_by")?,
        spec: row.try_get("spec")?,
        started: instant(&row.try_get::<String, _>("started_at")?)?,
        database_time: row
            .try_get::<Option<String>, _>("database_time")?
            .map(|time| instant(&time))
            .transpose()?,
        rules: rules(session, &id).await?,
        id,
    }))
}

async fn rules(session: &mut Session, sweep: &str) -> Result<Vec<RuleRecord>, sqlx::Error> {
    let rows = session.rows(constant(RULES).bind(sweep.to_owned())).await?;
    rows.iter().map(rule).collect()
}

fn rule(row: &SqliteRow) -> Result<RuleRecord, sqlx::Error> {
    let optional = |name: &str| -> Result<Option<u64>, sqlx::Error> {
        Ok(row.try_get::<Option<i64>, _>(name)?.map(unsigned))
    };
    Ok(RuleRecord {
        rule: row.try_get("rule")?,
        table_id: number(row.try_get("table_id")?),
        table: row.try_get("table_name")?,
        cutoff: row.try_get("cutoff")?,
        rows_at_start: optional("rows_at_start")?,
        rows_total: optional("rows_total")?,
        rows_approved: optional("rows_approved")?,
        rows_deleted: unsigned(row.try_get("rows_deleted")?),
        rows_archived: unsigned(row.try_get("rows_archived")?),
        done: row.try_get::<i64, _>("done")? != 0,
    })
}

fn instant(text: &str) -> Result<Timestamp, sqlx::Error> {
    text.parse()
        .map_err(|error: jiff::Error| sqlx::Error::Decode(Box::new(error)))
}
