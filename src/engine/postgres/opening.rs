//! Before a walk begins: the table and all that refers to it once more, in one snapshot, and whether rows of it may go.

use std::collections::{HashMap, HashSet};

use sqlx::Row;

use super::{
    Settings, catalog, dependents,
    error::{self, Doing},
    expiry,
    obstacles::{self, Obstacles, Pair},
    outcome, predicate, refuse_unsupported,
    session::{Session, Sessions},
    sql::{self, Sql},
    standby::not_primary,
};
use crate::{
    engine::EngineError,
    policy::{
        dependents::{Dependents, reached},
        plan::RulePlan,
        table::{TableFacts, TableKind, TableName},
    },
};

/// What the catalog says when a sweep begins.
pub(super) struct Opening {
    pub(super) facts: TableFacts,
    /// By leaf: what must not change, and whether the role may lock rows.
    pub(super) leaves: HashMap<u32, (String, bool)>,
    /// How the columns of foreign keys are compared.
    pairs: HashMap<u32, Vec<Pair>>,
    /// What the referring tables look like.
    pub(super) shape: Option<String>,
    /// Their parts.
    pub(super) parts: Option<String>,
    /// What the numbers of transactions mean.
    pub(super) era: outcome::Era,
}

impl Opening {
    pub(super) fn obstacles<'a>(&'a self, plan: &'a RulePlan) -> Obstacles<'a> {
        Obstacles {
            plan,
            keys: &self.facts.incoming,
            pairs: &self.pairs,
            sets: false,
        }
    }
}

/// The columns that a plan reads, those among them that foreign keys refer to.
pub(super) fn columns(plan: &RulePlan, obstacles: &Obstacles<'_>) -> Vec<String> {
    let mut columns = read_columns(plan);
    columns.extend(obstacles.referred_columns());
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// The columns in a plan's conditions.
fn read_columns(plan: &RulePlan) -> Vec<String> {
    let mut columns = vec![plan.column.clone()];
    for read in plan.filter.iter().chain(&plan.holds) {
        predicate::columns(read, &mut columns);
    }
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// Rows that cascade are counted, and do cascade.
const COUNTING: &str = "SELECT current_setting('track_counts')::bool AND current_setting('session_replication_role') <> 'replica' AS counts";

/// Reads the table again, and what must not change from here on, in one snapshot.
pub(super) async fn look(
    session: &mut Session,
    sessions: &Sessions,
    settings: &Settings,
    plan: &RulePlan,
) -> Result<Opening, EngineError> {
    let table = plan.table.qualified();
    let name = TableName {
        schema: Some(plan.table.schema.clone()),
        name: plan.table.name.clone(),
    };
    let outcome = async {
        let facts = catalog::tables(session, std::slice::from_ref(&name))
            .await?
            .into_iter()
            .next()
            .flatten();
        let ids = facts
            .iter()
            .flat_map(|facts| &facts.leaves)
            .map(|leaf| &leaf.id);
        let incoming = facts.as_ref().map_or(&[][..], |facts| &facts.incoming);
        let pairs = obstacles::pairs(session, &reached(incoming, plan.dependents)).await?;
        let obstacles = Obstacles {
            plan,
            keys: incoming,
            pairs: &pairs,
            sets: false,
        };
        let reach = obstacles.reach();
        let query = Sql::made(format!(
            "SELECT {} AS shape, {} AS parts",
            sql::or_null(reach.shape.as_deref()),
            sql::or_null(reach.parts.as_deref())
        ));
        let row = session.row(query.query()).await?;
        let shape = (row.try_get("shape")?, row.try_get("parts")?);
        let columns = columns(plan, &obstacles);
        let query = sql::fingerprints(plan.archive.is_none().then_some(columns.as_slice()));
        let rows = session.rows(query.query().bind(catalog::oids(ids))).await?;
        let leaves = rows
            .iter()
            .map(|row| {
                let print: String = row.try_get("fingerprint")?;
                let may_lock: Option<bool> = row.try_get("may_lock")?;
                Ok((catalog::oid(row, "id")?, (print, may_lock.unwrap_or(false))))
            })
            .collect::<Result<HashMap<_, _>, sqlx::Error>>()?;
        let standby = session
            .row(sql::constant("SELECT pg_is_in_recovery() AS standby"))
            .await?
            .try_get::<bool, _>("standby")?;
        let settings = session.row(sql::constant(COUNTING)).await?;
        let counts = settings.try_get::<bool, _>("counts")?;
        let era = outcome::era(session).await?;
        Ok::<_, sqlx::Error>((facts, leaves, (pairs, shape), era, (standby, counts)))
    }
    .await;
    let (facts, leaves, (pairs, (shape, parts)), era, (standby, counts)) =
        outcome.map_err(|reason| {
            let doing = Doing {
                what: "beginning the sweep of",
                table: Some(&table),
                grant: None,
                statement_timeout: settings.statement_timeout,
            };
            error::running(sessions.server(), doing, &reason)
        })?;
    if standby {
        return Err(not_primary(sessions.server()));
    }
    if plan.dependents == Dependents::Cascade && !counts {
        return Err(EngineError::NotSupported(format!(
            "dependents: Cascade on {table}: rows that go along could not be counted, because track_counts is off or session_replication_role is \
             replica: set track_counts on and session_replication_role to origin for the role, or write dependents: Skip"
        )));
    }
    let facts = facts.ok_or_else(|| EngineError::TableChanged {
        table: table.clone(),
        reason: "there is no such table any more".to_owned(),
    })?;
    Ok(Opening {
        facts,
        leaves,
        pairs,
        shape,
        parts,
        era,
    })
}

/// Is it still the table that was planned, and may its rows be deleted? The planner has asked the same; nothing is deleted on
/// the strength of an answer that may have aged.
pub(super) fn check(plan: &RulePlan, now: &TableFacts, role: &str) -> Result<(), EngineError> {
    let table = now.qualified();
    let changed = |reason: &str| {
        Err(EngineError::TableChanged {
            table: table.clone(),
            reason: reason.to_owned(),
        })
    };
    if now.id != plan.table.id {
        return changed("another table has its name now");
    }
    let planned: HashSet<u32> = plan.table.leaves.iter().map(|leaf| leaf.id).collect();
    if now.leaves.iter().any(|leaf| !planned.contains(&leaf.id)) {
        return Err(EngineError::PartsChanged { table });
    }
    if let TableKind::Unsupported(word) = &now.kind {
        return Err(EngineError::NotSupported(format!(
            "{table} is a {word}, whose rows a rule cannot delete"
        )));
    }
    if now.system {
        return Err(EngineError::NotSupported(format!(
            "{table} belongs to the database system, to an extension or to the operator"
        )));
    }
    refuse_unsupported(now)?;
    for name in read_columns(plan) {
        match (plan.table.column(&name), now.column(&name)) {
            (Some(then), Some(now)) if then == now => {}
            _ => return changed(&format!("column {name:?} is not what it was")),
        }
    }
    if !now
        .column(&plan.column)
        .is_some_and(|column| expiry::fits(plan, column))
    {
        return Err(EngineError::NotSupported(format!(
            "{table}: column {:?} cannot be compared with the cutoff",
            plan.column
        )));
    }
    if now.row_security_active {
        return Err(EngineError::NotSupported(format!(
            "{table}: row-level security hides rows from the role {role:?}"
        )));
    }
    dependents::check(plan, now, role)?;
    if let Some(rule) = &now.delete_rule {
        return Err(EngineError::NotSupported(format!(
            "{table}: its rewrite rule {rule:?} changes what a DELETE does"
        )));
    }
    if let Some(publication) = &now.published_without_identity {
        return Err(EngineError::NotSupported(format!(
            "{table}: publication {publication:?} sends deletes, but the table has no replica identity, so every DELETE would fail"
        )));
    }
    if !(now.may_select && now.may_delete) {
        let grants: Vec<String> = now
            .leaves
            .iter()
            .take(3)
            .map(|leaf| sql::grant(&leaf.schema, &leaf.name, role))
            .collect();
        return Err(EngineError::Permission(format!(
            "role {role:?} may not read and delete rows of {table}; run: {}",
            grants.join("; ")
        )));
    }
    Ok(())
}
