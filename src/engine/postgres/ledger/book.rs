//! Claims, holds, the pause switch and totals: read by everybody, written in one transaction at a time.

use sqlx::Row;

use super::{Identity, sweeps};
use crate::{
    engine::{
        ledger::{Entry, LedgerHold, LedgerTotals, LedgerView, OwnHold},
        postgres::{catalog, session::Session, sql::constant},
    },
    policy::{
        claims::{Claimed, settle},
        table::TableName,
    },
};

/// `$1`: the server's system identifier, `$2`: the database's oid. Whether the ledger came here with a copy of the database.
const COPIED: &str = "\
SELECT coalesce(database_oid <> $2::int8 OR system_identifier <> $1::text, false) AS copied \
FROM retention_operator.meta WHERE one";
const CONTROL: &str = "\
SELECT CASE WHEN paused THEN coalesce(reason, '') END AS paused, revision FROM retention_operator.control WHERE one";
const CLAIMS: &str = "\
SELECT table_id, table_name, policy, rule, cluster FROM retention_operator.claim ORDER BY table_id";
/// `$1`: the policy. Whether it was asked itself: that another one was says nothing of what this one would take.
const HOLDS: &str = "\
SELECT id, policy, name, table_name, predicate, cluster, removed_at IS NOT NULL AS removed, \
  coalesce($1::text = ANY (asked_by), false) AS asked \
FROM retention_operator.hold ORDER BY id";
/// What was pruned, and what every sweep that is remembered took. `$1`: the policy.
const TOTALS: &str = "\
SELECT (coalesce((SELECT t.rows_deleted FROM retention_operator.total t WHERE t.policy = $1::text), 0) \
    + coalesce(sum(r.rows_deleted), 0))::int8 AS deleted, \
  (coalesce((SELECT t.rows_archived FROM retention_operator.total t WHERE t.policy = $1::text), 0) \
    + coalesce(sum(r.rows_archived), 0))::int8 AS archived \
FROM retention_operator.sweep s JOIN retention_operator.sweep_rule r ON r.sweep_id = s.id WHERE s.policy = $1::text";

const RELEASE_CLAIMS: &str = "\
DELETE FROM retention_operator.claim WHERE table_id = ANY ($1::int8[])";
/// `$1`: tables, `$2`: their names, `$3`: rules, `$4`: the policy, `$5`: its cluster. A table has one claim: of two rules of one
/// policy on it either may hold it.
const GRANT_CLAIMS: &str = "\
INSERT INTO retention_operator.claim (table_id, table_name, policy, rule, cluster, since) \
SELECT w.table_id, w.table_name, $4::text, w.rule, $5::text, clock_timestamp() \
FROM unnest($1::int8[], $2::text[], $3::text[]) AS w(table_id, table_name, rule) ON CONFLICT (table_id) DO NOTHING";
/// An offline verb knows no cluster; the operator that carries the policy out does. `$1`: the policy, `$2`: its cluster.
const NAME_CLUSTER: [&str; 2] = [
    "UPDATE retention_operator.claim SET cluster = $2::text WHERE policy = $1::text AND cluster IS DISTINCT FROM $2::text",
    "UPDATE retention_operator.hold SET cluster = $2::text WHERE policy = $1::text AND cluster IS DISTINCT FROM $2::text",
];
const REMOVE_HOLDS: &str = "\
UPDATE retention_operator.hold SET removed_at = clock_timestamp(), asked_at = NULL, asked_by = NULL WHERE id = ANY ($1::int8[])";
const RESTORE_HOLDS: &str = "\
UPDATE retention_operator.hold SET removed_at = NULL, asked_at = NULL, asked_by = NULL WHERE id = ANY ($1::int8[])";
const ADD_HOLD: &str = "\
INSERT INTO retention_operator.hold (policy, name, table_name, predicate, reason, cluster, since) \
VALUES ($1::text, $2::text, $3::text, $4::text, $5::text, $6::text, clock_timestamp())";
const NEXT_REVISION: &str = "\
UPDATE retention_operator.control SET revision = revision + 1 WHERE one";

/// A copy's leases and claims are those of another database's operators, and its sweeps go on there. The holds were placed on
/// these very rows, and stay.
const ADOPT: [&str; 3] = [
    "DELETE FROM retention_operator.lease",
    "DELETE FROM retention_operator.claim",
    "UPDATE retention_operator.sweep SET ended_at = clock_timestamp(), outcome = 'Cancelled', \
     message = 'the database is a copy' WHERE ended_at IS NULL",
];
const ADOPTED: &str = "\
UPDATE retention_operator.meta SET system_identifier = $1::text, database_oid = $2::int8 WHERE one";

/// Reads what the ledger says to `policy`.
pub(super) async fn view(
    session: &mut Session,
    identity: &Identity,
    policy: &str,
) -> Result<LedgerView, sqlx::Error> {
    let copied = copied(session, identity).await?;
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
        claims: if copied {
            Vec::new()
        } else {
            claims(session, policy).await?
        },
        holds: holds(session, policy)
            .await?
            .into_iter()
            .map(|it| it.hold)
            .collect(),
        totals,
        unfinished: if copied {
            None
        } else {
            sweeps::unfinished(session, policy).await?
        },
    })
}

/// Enters a policy's claims and holds; the ledger as it is then. The book is locked.
pub(super) async fn enter(
    session: &mut Session,
    identity: &Identity,
    entry: &Entry<'_>,
) -> Result<LedgerView, sqlx::Error> {
    if copied(session, identity).await? {
        for statement in ADOPT {
            session.execute(constant(statement)).await?;
        }
        let adopted = constant(ADOPTED)
            .bind(identity.system.clone())
            .bind(i64::from(identity.database));
        session.execute(adopted).await?;
    }
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
    view(session, identity, &entry.party.policy).await
}

async fn enter_claims(session: &mut Session, entry: &Entry<'_>) -> Result<(), sqlx::Error> {
    let party = entry.party;
    let claimed = claims(session, &party.policy).await?;
    let settled = settle(
        &party.policy,
        entry.rules,
        entry.wanted,
        &claimed,
        party.living.as_ref(),
    );
    if !settled.release.is_empty() {
        let ids: Vec<i64> = settled.release.iter().map(|id| i64::from(*id)).collect();
        session.execute(constant(RELEASE_CLAIMS).bind(ids)).await?;
    }
    if settled.grant.is_empty() {
        return Ok(());
    }
    let (mut ids, mut tables, mut rules) = (Vec::new(), Vec::new(), Vec::new());
    for wanted in settled.grant.iter().filter_map(|n| entry.wanted.get(*n)) {
        if let Some(id) = wanted.parts.first() {
            ids.push(i64::from(*id));
            tables.push(wanted.table.clone());
            rules.push(wanted.rule.clone());
        }
    }
    let grant = constant(GRANT_CLAIMS)
        .bind(ids)
        .bind(tables)
        .bind(rules)
        .bind(party.policy.clone())
        .bind(party.cluster.clone());
    session.execute(grant).await.map(drop)
}

async fn enter_holds(session: &mut Session, entry: &Entry<'_>) -> Result<(), sqlx::Error> {
    let party = entry.party;
    let known = holds(session, &party.policy).await?;
    let is = |hold: &LedgerHold, own: &OwnHold| {
        (&hold.name, &hold.table, &hold.predicate) == (&own.name, &own.table, &own.predicate)
    };
    let ids = |select: &dyn Fn(&Known) -> bool| -> Vec<i64> {
        known
            .iter()
            .filter(|known| select(known))
            .map(|known| known.hold.id)
            .collect()
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
    let removed = ids(&|known| {
        !known.hold.removed && (gone(known) || (own.is_some() && mine(known) && !has(known)))
    });
    let restored = ids(&|known| known.hold.removed && mine(known) && has(known));
    let added: Vec<&OwnHold> = own
        .unwrap_or_default()
        .iter()
        .filter(|own| {
            !known
                .iter()
                .any(|known| mine(known) && is(&known.hold, own))
        })
        .collect();
    if removed.is_empty() && restored.is_empty() && added.is_empty() {
        return Ok(());
    }
    session
        .execute(constant(REMOVE_HOLDS).bind(removed))
        .await?;
    session
        .execute(constant(RESTORE_HOLDS).bind(restored))
        .await?;
    for hold in added {
        let add = constant(ADD_HOLD)
            .bind(party.policy.clone())
            .bind(hold.name.clone())
            .bind(hold.table.clone())
            .bind(hold.predicate.clone())
            .bind(hold.reason.clone())
            .bind(party.cluster.clone());
        session.execute(add).await?;
    }
    session.execute(constant(NEXT_REVISION)).await.map(drop)
}

async fn copied(session: &mut Session, identity: &Identity) -> Result<bool, sqlx::Error> {
    let query = constant(COPIED)
        .bind(identity.system.clone())
        .bind(i64::from(identity.database));
    session
        .rows(query)
        .await?
        .first()
        .map_or(Ok(false), |row| row.try_get("copied"))
}

/// All claims, those of other policies with the tables that hold the rows now.
async fn claims(session: &mut Session, policy: &str) -> Result<Vec<Claimed>, sqlx::Error> {
    let rows = session.rows(constant(CLAIMS)).await?;
    let mut claims = rows
        .iter()
        .map(|row| {
            let table_id = number(row.try_get("table_id")?);
            Ok(Claimed {
                policy: row.try_get("policy")?,
                rule: row.try_get("rule")?,
                cluster: row.try_get("cluster")?,
                table_id,
                table: row.try_get("table_name")?,
                parts: vec![table_id],
            })
        })
        .collect::<Result<Vec<_>, sqlx::Error>>()?;
    let names: Vec<TableName> = claims
        .iter()
        .filter(|claim| claim.policy != policy)
        .filter_map(|claim| claim.table.parse().ok())
        .collect();
    if names.is_empty() {
        return Ok(claims);
    }
    for facts in catalog::tables(session, &names).await?.iter().flatten() {
        // By that name there may be another table now; the claim is on the one with its number.
        for claim in claims.iter_mut().filter(|claim| claim.table_id == facts.id) {
            claim.parts = facts.parts();
        }
    }
    Ok(claims)
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
                    removed: row.try_get("removed")?,
                    asked: row.try_get("asked")?,
                },
            })
        })
        .collect()
}

/// No oid is larger; 0 is none.
pub(super) fn number(id: i64) -> u32 {
    u32::try_from(id).unwrap_or(0)
}

pub(super) fn unsigned(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}
