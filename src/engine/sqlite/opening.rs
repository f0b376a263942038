//! The begin of a walk: is it still the table that was planned, and may its rows be deleted? The planner has asked the same;
//! nothing is deleted on the strength of an answer that may have aged.

use sqlx::Row;

use super::{
    catalog::{self, Table},
    keys::{self, Pairs},
    obstacles::{HeldColumns, held_columns},
    predicate,
    session::Session,
    sql,
};
use crate::{
    engine::EngineError,
    policy::{
        cutoff::Cutoff,
        dependents::{Dependents, in_words},
        plan::RulePlan,
        table::TableKind,
    },
};

/// The columns that a plan reads.
pub(super) fn columns(plan: &RulePlan) -> Vec<String> {
    let mut columns = vec![plan.column.clone()];
    for read in plan.filter.iter().chain(&plan.holds) {
        predicate::columns(read, &mut columns);
    }
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// Why rows of a plan's table cannot be deleted by a rule.
pub(super) fn not_supported(plan: &RulePlan, reason: &str) -> EngineError {
    EngineError::NotSupported(format!(
        "{} is a {reason}, whose rows a rule cannot delete",
        plan.table.qualified()
    ))
}

/// Compares a plan with the table that is there now.
pub(super) fn check(plan: &RulePlan, now: &Table, columns: &[String]) -> Result<(), EngineError> {
    let facts = &now.facts;
    let table = plan.table.qualified();
    // What goes along would not be archived.
    if plan.archive.is_some() && plan.dependents == Dependents::Cascade {
        return Err(EngineError::NotSupported(
            "dependents: Cascade does not go with an archive".to_owned(),
        ));
    }
    if let TableKind::Unsupported(word) = &facts.kind {
        return Err(not_supported(plan, word));
    }
    if facts.system {
        return Err(EngineError::NotSupported(format!(
            "{table} belongs to SQLite or to the operator's ledger"
        )));
    }
    if let Err(reason) = &now.key {
        return Err(not_supported(plan, reason));
    }
    if let Some(reason) = &facts.delete_fails {
        return Err(EngineError::NotSupported(reason.clone()));
    }
    for name in columns {
        match (plan.table.column(name), facts.column(name)) {
            (Some(then), Some(now)) if then == now => {}
            _ => {
                return Err(EngineError::TableChanged {
                    table,
                    reason: format!("column {name:?} is not what it was"),
                });
            }
        }
    }
    if plan.encoding.is_none() || !matches!(plan.cutoff, Cutoff::Instant(_)) {
        return Err(EngineError::NotSupported(format!(
            "{table}: column {:?} cannot be compared with the cutoff: state encoding",
            plan.column
        )));
    }
    check_dependents(plan, now)
}

fn check_dependents(plan: &RulePlan, now: &Table) -> Result<(), EngineError> {
    let table = plan.table.qualified();
    if plan.dependents == Dependents::Refuse {
        return match now.facts.incoming.iter().find(|key| !key.empty) {
            Some(key) => Err(EngineError::Dependents(format!(
                "{} refers to {table}: {}: the rows that refer to it have to go first",
                key.table,
                in_words(key)
            ))),
            None => Ok(()),
        };
    }
    // Which holds matter was found by the keys that there were then.
    let told = |keys| keys::told(keys, &Pairs::new());
    if told(&plan.table.incoming) != told(&now.facts.incoming) {
        return Err(EngineError::TableChanged {
            table,
            reason: "the foreign keys that refer to it changed".to_owned(),
        });
    }
    Ok(())
}

/// The plan's table as it is now, the columns that holds read, and the state of the schema, in a transaction that begins here.
pub(super) async fn found(
    session: &mut Session,
    plan: &RulePlan,
) -> Result<(Option<Table>, HeldColumns, i64), sqlx::Error> {
    session.begin_read().await?;
    let table = catalog::table(session, &plan.table.name).await?;
    let held = held_columns(session, plan).await?;
    let schema = session.row(sql::constant(sql::SCHEMA)).await?;
    Ok((table, held, schema.try_get("schema")?))
}

pub(super) fn there(plan: &RulePlan, found: Option<Table>) -> Result<Table, EngineError> {
    found.ok_or_else(|| EngineError::TableChanged {
        table: plan.table.qualified(),
        reason: "there is no such table any more".to_owned(),
    })
}
