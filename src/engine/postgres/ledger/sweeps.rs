//! Sweeps in the ledger: their begin and end, what each rule took, and what is forgotten in time.

use jiff::Timestamp;
use sqlx::{Row, postgres::PgRow};

use super::book::{number, unsigned};
use crate::engine::{
    ledger::{RuleRecord, SweepBegin, SweepEnd, SweepRecord},
    postgres::{session::Session, sql::constant},
};

const BEGIN: &str = "\
INSERT INTO retention_operator.sweep AS s (id, policy, cluster, trigger, spec, started_at, database_time, begun_at) \
VALUES ($1::text, $2::text, $3::text, $4::text, $5::text, to_timestamp($6::int8 / 1e6), to_timestamp($7::int8 / 1e6), clock_timestamp()) \
ON CONFLICT (id) DO UPDATE SET trigger = excluded.trigger, spec = excluded.spec, database_time = excluded.database_time, \
  ended_at = NULL, outcome = NULL, message = NULL WHERE s.policy = excluded.policy";
const RULES: &str = "\
SELECT rule, table_id, table_name, cutoff, rows_at_start, rows_total, rows_approved, rows_deleted, rows_archived, done \
FROM retention_operator.sweep_rule WHERE sweep_id = $1::text ORDER BY rule, table_id";
const APPROVED: &str = "\
INSERT INTO retention_operator.approval (plan_hash, policy, sweep_id, at, rules) \
VALUES ($1::text, $2::text, $3::text, clock_timestamp(), $4::text::jsonb) ON CONFLICT (plan_hash, policy, sweep_id) DO NOTHING";
const UNFINISHED: &str = "\
SELECT id, trigger, spec, (extract(epoch FROM started_at) * 1000000)::int8 AS started, \
  (extract(epoch FROM database_time) * 1000000)::int8 AS database_time \
FROM retention_operator.sweep WHERE policy = $1::text AND ended_at IS NULL ORDER BY begun_at DESC LIMIT 1";
/// At most 10,000 sweeps of a policy, and none of more than 400 days ago, are remembered one by one; what they took stays in
/// the totals. `$1`: the policy.
const PRUNE: &str = "\
WITH old AS (SELECT id FROM (SELECT id, coalesce(ended_at, begun_at) AS over, ended_at, \
    row_number() OVER (ORDER BY begun_at DESC) AS n FROM retention_operator.sweep WHERE policy = $1::text) s \
  WHERE (n > 10000 AND ended_at IS NOT NULL) OR over < clock_timestamp() - interval '400 days'), \
gone AS (DELETE FROM retention_operator.sweep_rule r USING old WHERE r.sweep_id = old.id RETURNING r.rows_deleted, r.rows_archived), \
swept AS (DELETE FROM retention_operator.sweep s USING old WHERE s.id = old.id), \
approved AS (DELETE FROM retention_operator.approval a USING old WHERE a.sweep_id = old.id AND a.policy = $1::text) \
INSERT INTO retention_operator.total AS t (policy, rows_deleted, rows_archived) \
SELECT $1::text, sum(rows_deleted)::int8, sum(rows_archived)::int8 FROM gone HAVING count(*) > 0 \
ON CONFLICT (policy) DO UPDATE SET rows_deleted = t.rows_deleted + excluded.rows_deleted, \
  rows_archived = t.rows_archived + excluded.rows_archived";

const END: &str = "\
UPDATE retention_operator.sweep SET ended_at = CASE WHEN $2::boolean THEN clock_timestamp() END, outcome = $3::text, \
  message = $4::text WHERE id = $1::text";
const DONE: &str = "\
UPDATE retention_operator.sweep_rule r SET done = true FROM unnest($2::text[], $3::int8[]) AS d(rule, table_id) \
WHERE r.sweep_id = $1::text AND r.rule = d.rule AND r.table_id = d.table_id";
const UNAPPROVED: &str = "\
UPDATE retention_operator.sweep_rule r SET rows_approved = NULL FROM unnest($2::text[], $3::int8[]) AS d(rule, table_id) \
WHERE r.sweep_id = $1::text AND r.rule = d.rule AND r.table_id = d.table_id";
const RELEASED: &str = "\
DELETE FROM retention_operator.hold WHERE id = ANY ($1::int8[]) AND removed_at IS NOT NULL";
/// `$1`: holds, `$2`: the sweep that asked.
const ASKED: &str = "\
UPDATE retention_operator.hold h SET asked_at = clock_timestamp(), asked_by = array_append(h.asked_by, s.policy) \
FROM retention_operator.sweep s WHERE s.id = $2::text AND h.id = ANY ($1::int8[]) AND h.removed_at IS NOT NULL \
AND NOT coalesce(s.policy = ANY (h.asked_by), false)";

/// The book is locked.
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
        .bind(sweep.started.as_microsecond())
        .bind(sweep.database_time.map(Timestamp::as_microsecond));
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
    session
        .execute(constant(PRUNE).bind(party.policy.clone()))
        .await?;
    rules(session, &sweep.id).await
}

/// The book is locked.
pub(super) async fn end(session: &mut Session, end: &SweepEnd<'_>) -> Result<(), sqlx::Error> {
    let update = constant(END)
        .bind(end.id.to_owned())
        .bind(end.ended)
        .bind(end.outcome.to_owned())
        .bind(end.message.to_owned());
    session.execute(update).await?;
    for (statement, of) in [(DONE, &end.done), (UNAPPROVED, &end.unapproved)] {
        if !of.is_empty() {
            let (rules, tables): (Vec<String>, Vec<i64>) = of
                .iter()
                .map(|(rule, table)| (rule.clone(), i64::from(*table)))
                .unzip();
            let update = constant(statement)
                .bind(end.id.to_owned())
                .bind(rules)
                .bind(tables);
            session.execute(update).await?;
        }
    }
    if !end.released.is_empty() {
        let released = constant(RELEASED).bind(end.released.clone());
        session.execute(released).await?;
    }
    if !end.asked.is_empty() {
        session
            .execute(
                constant(ASKED)
                    .bind(end.asked.clone())
                    .bind(end.id.to_owned()),
            )
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
        trigger: row.try_get("trigger")?,
        spec: row.try_get("spec")?,
        started: instant(row.try_get("started")?)?,
        database_time: row
            .try_get::<Option<i64>, _>("database_time")?
            .map(instant)
            .transpose()?,
        rules: rules(session, &id).await?,
        id,
    }))
}

async fn rules(session: &mut Session, sweep: &str) -> Result<Vec<RuleRecord>, sqlx::Error> {
    let rows = session.rows(constant(RULES).bind(sweep.to_owned())).await?;
    rows.iter().map(rule).collect()
}

fn rule(row: &PgRow) -> Result<RuleRecord, sqlx::Error> {
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
        done: row.try_get("done")?,
    })
}

fn instant(micros: i64) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_microsecond(micros).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
