//! Claims, holds, the pause switch and totals: read by everybody, written in one transaction at a time.
//!
//! They lie in the same file as the rows that they speak of: a copy of the file keeps them.

use sqlx::{Row, sqlite::SqliteRow};

use super::sweeps;
use crate::{
    engine::{
        ledger::{Entry, LedgerHold, LedgerTotals, LedgerView, OwnHold},
        sqlite::{session::Session, sql::constant},
    },
    policy::claims::{Claimed, settle},
};

/// Whatever else than 0 somebody wrote: it was meant to pause.
const CONTROL: &str = "\
SELECT CASE WHEN paused IS NOT 0 THEN coalesce(reason, '') END AS paused, revision FROM retention_operator_control WHERE one = 1";
const CLAIMS: &str = "\
SELECT table_id, table_name, policy, rule, cluster FROM retention_operator_claim ORDER BY table_id";
/// `?1`: the policy. Whether it was asked itself: that another one was says nothing of what this one would take.
const HOLDS: &str = "\
SELECT id, policy, name, table_name, predicate, cluster, removed_at IS NOT NULL AS removed, \
  coalesce(instr(asked_by, char(10) || ?1 || char(10)) > 0, 0) AS asked \
FROM retention_operator_hold ORDER BY id";
/// What was pruned, and what every sweep that is remembered took. `?1`: the policy.
const TOTALS: &str = "\
SELECT coalesce((SELECT t.rows_deleted FROM retention_operator_total t WHERE t.policy = ?1), 0) \
    + coalesce(sum(r.rows_deleted), 0) AS deleted, \
  coalesce((SELECT t.rows_archived FROM retention_operator_total t WHERE t.policy = ?1), 0) \
    + coalesce(sum(r.rows_archived), 0) AS archived \
FROM retention_operator_sweep s JOIN retention_operator_sweep_rule r ON r.sweep_id = s.id WHERE s.policy = ?1";

const RELEASE_CLAIM: &str = "DELETE FROM retention_operator_claim WHERE table_id = ?1";
/// `?1`: the table, `?2`: its name, `?3`: the rule, `?4`: the policy, `?5`: its cluster. A table has one claim: of two rules of one
/// policy on it either may hold it.
const GRANT_CLAIM: &str = "\
INSERT INTO retention_operator_claim (table_id, table_name, policy, rule, cluster, since) \
VALUES (?1, ?2, ?4, ?3, ?5, strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) ON CONFLICT (table_id) DO NOTHING";
/// `?1`: the policy, `?2`: its cluster.
const NAME_CLUSTER: [&str; 2] = [
    "UPDATE retention_operator_claim SET cluster = ?2 WHERE policy = ?1 AND cluster IS NOT ?2",
    "UPDATE retention_operator_hold SET cluster = ?2 WHERE policy = ?1 AND cluster IS NOT ?2",
];
const REMOVE_HOLD: &str = "\
UPDATE retention_operator_hold SET removed_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), asked_at = NULL, asked_by = NULL WHERE id = ?1";
const RESTORE_HOLD: &str = "UPDATE retention_operator_hold SET removed_at = NULL, asked_at = NULL, asked_by = NULL WHERE id = ?1";
const ADD_HOLD: &str = "\
INSERT INTO retention_operator_hold (policy, name, table_name, predicate, reason, cluster, since) \
VALUES (?1, ?2, ?3, ?4, ?5, ?6, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))";
const NEXT_REVISION: &str =
    "UPDATE retention_operator_control SET revision = revision + 1 WHERE one = 1";

/// Reads what the ledger says to `policy`.
pub(super) async fn view(session: &mut Session, policy: &str) -> Result<LedgerView, sqlx::Error> {
    let control = session.rows(constant(CONTROL)).await?;
    let (paused, revision) = match control.first() {
        Some(row) => (row.try_get("paused")?, row.try_get("revision")?),
        None => (None, 0),
    };
    let row = session
        .row(constant(TOTALS).bind(policy.to_owned()))
        .await?;
    let totals = LedgerTotals {
        rows_deleted: unsigned(row.try_get("deleted")?),
        rows_archived: unsigned(row.try_get("archived")?),
    };
    Ok(LedgerView {
        paused,
        revision,
        claims: claims(session).await?,
        holds: holds(session, policy)
            .await?
            .into_iter()
            .map(|it| it.hold)
            .collect(),
        totals,
        unfinished: sweeps::unfinished(session, policy).await?,
    })
}

/// Enters a policy's claims and holds; the ledger as it is then. The transaction alone may write.
pub(super) async fn enter(
    session: &mut Session,
    entry: &Entry<'_>,
) -> Result<LedgerView, sqlx::Error> {
    if let Some(cluster) = &entry.party.cluster {
        for statement in NAME_CLUSTER {
            let named = constant(statement)
                .bind(entry.party.policy.clone())
                .bind(cluster.clone());
            session.execute(named).await?;
        }
    }
    enter_claims(session, entry).await?;
    enter_holds(session, entry).await?;
    view(session, &entry.party.policy).await
}

async fn enter_claims(session: &mut Session, entry: &Entry<'_>) -> Result<(), sqlx::Error> {
    let party = entry.party;
    let claimed = claims(session).await?;
    let settled = settle(
        &party.policy,
        entry.rules,
        entry.wanted,
        &claimed,
        party.living.as_ref(),
    );
    for id in settled.release {
        session
            .execute(constant(RELEASE_CLAIM).bind(i64::from(id)))
            .await?;
    }
    for wanted in settled.grant.iter().filter_map(|n| entry.wanted.get(*n)) {
        let Some(id) = wanted.parts.first() else {
            continue;
        };
        let grant = constant(GRANT_CLAIM)
            .bind(i64::from(*id))
            .bind(wanted.table.clone())
            .bind(wanted.rule.clone())
            .bind(party.policy.clone())
            .bind(party.cluster.clone());
        session.execute(grant).await?;
    }
    Ok(())
}

async fn enter_holds(session: &mut Session, entry: &Entry<'_>) -> Result<(), sqlx::Error> {
    let party = entry.party;
    let known = holds(session, &party.policy).await?;
    let is = |hold: &LedgerHold, own: &OwnHold| {
        (&hold.name, &hold.table, &hold.predicate) == (&own.name, &own.table, &own.predicate)
    };
    let mine = |known: &Known| known.hold.policy == party.policy;
    let gone = |known: &Known| {
        party.living.as_ref().is_some_and(|living| {
            !mine(known) && living.is_gone(&known.hold.policy, known.cluster.as_deref())
        })
    };
    // Holds that cannot be read are not holds that are gone.
    let own = entry.holds;
    let has = |known: &Known| own.is_some_and(|own| own.iter().any(|own| is(&known.hold, own)));
    let mut changed = false;
    for known in &known {
        let removed = gone(known) || (own.is_some() && mine(known) && !has(known));
        let statement = if !known.hold.removed && removed {
            REMOVE_HOLD
        } else if known.hold.removed && mine(known) && has(known) {
            RESTORE_HOLD
        } else {
            continue;
        };
        session
            .execute(constant(statement).bind(known.hold.id))
            .await?;
        changed = true;
    }
    let added = own.unwrap_or_default().iter().filter(|own| {
        !known
            .iter()
            .any(|known| mine(known) && is(&known.hold, own))
    });
    for hold in added {
        let add = constant(ADD_HOLD)
            .bind(party.policy.clone())
            .bind(hold.name.clone())
            .bind(hold.table.clone())
            .bind(hold.predicate.clone())
            .bind(hold.reason.clone())
            .bind(party.cluster.clone());
        session.execute(add).await?;
        changed = true;
    }
    if changed {
        session.execute(constant(NEXT_REVISION)).await?;
    }
    Ok(())
}

async fn claims(session: &mut Session) -> Result<Vec<Claimed>, sqlx::Error> {
    let claim = |row: &SqliteRow| {
        let table_id = number(row.try_get("table_id")?);
        Ok(Claimed {
            policy: row.try_get("policy")?,
            rule: row.try_get("rule")?,
            cluster: row.try_get("cluster")?,
            table_id,
            table: row.try_get("table_name")?,
            parts: vec![table_id],
        })
    };
    let rows = session.rows(constant(CLAIMS)).await?;
    rows.iter().map(claim).collect()
}

struct Known {
    hold: LedgerHold,
    cluster: Option<String>,
}

async fn holds(session: &mut Session, policy: &str) -> Result<Vec<Known>, sqlx::Error> {
    let rows = session
        .rows(constant(HOLDS).bind(policy.to_owned()))
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Known {
                cluster: row.try_get("cluster")?,
                hold: LedgerHold {
                    id: row.try_get("id")?,
                    policy: row.try_get("policy")?,
                    name: row.try_get("name")?,
                    table: row.try_get("table_name")?,
                    predicate: row.try_get("predicate")?,
                    removed: row.try_get::<i64, _>("removed")? != 0,
                    asked: row.try_get::<i64, _>("asked")? != 0,
                },
            })
        })
        .collect()
}

/// 0 is no table.
pub(super) fn number(id: i64) -> u32 {
    u32::try_from(id).unwrap_or(0)
}

pub(super) fn unsigned(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

pub(super) fn signed(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
