//! Before a sweep begins: may rows of the table go, as far as tables that refer to it are concerned?

use super::sql;
use crate::{
    engine::EngineError,
    policy::{
        dependents::{Dependents, in_words, must_be_locked, reached},
        plan::RulePlan,
        table::{IncomingKey, LeafFacts, TableFacts},
    },
};

/// The planner has asked the same; nothing is deleted on the strength of an answer that may have aged.
pub(super) fn check(plan: &RulePlan, now: &TableFacts, role: &str) -> Result<(), EngineError> {
    let table = now.qualified();
    if plan.dependents == Dependents::Refuse {
        return match now.incoming.iter().find(|key| !key.empty) {
            Some(key) => Err(EngineError::Dependents(format!(
                "dependents: Refuse: {table} is referred to by {}, which is not empty",
                in_words(key)
            ))),
            None => Ok(()),
        };
    }
    let (then, now) = (
        reached(&plan.table.incoming, plan.dependents),
        reached(&now.incoming, plan.dependents),
    );
    if !same(&then, &now) {
        return Err(EngineError::TableChanged {
            table,
            reason: "the foreign keys that refer to it changed".to_owned(),
        });
    }
    // Which holds matter was found by the parts that there were then.
    let has_other_parts = |(then, now): (&&IncomingKey, &&IncomingKey)| {
        now.changes_rows(plan.dependents) && then.parts != now.parts
    };
    if then.iter().zip(&now).any(has_other_parts) {
        return Err(EngineError::PartsChanged { table });
    }
    for key in now {
        if let Some(hindrance) = key.hindrance(plan.dependents) {
            return Err(EngineError::NotSupported(format!(
                "dependents: {}: {hindrance}",
                plan.dependents.as_str()
            )));
        }
        if key.row_security {
            return Err(EngineError::NotSupported(format!(
                "row-level security hides rows of {}, which refers to {table}, from role {role:?}",
                key.table
            )));
        }
        let rights = match (key.may_select, must_be_locked(plan, key) && !key.may_lock) {
            (true, false) => continue,
            (false, false) => "SELECT",
            (_, true) => "SELECT, UPDATE",
        };
        return Err(EngineError::Permission(format!(
            "dependents: {}: role {role:?} may not look at rows of {}, which refers to {table}; run: {}",
            plan.dependents.as_str(),
            key.table,
            sql::grant_rights(rights, &key.schema, &key.relation, role)
        )));
    }
    Ok(())
}

/// Which holds matter was found by the keys that there were then.
fn same(then: &[&IncomingKey], now: &[&IncomingKey]) -> bool {
    let told = |key: &IncomingKey| {
        let goes = (key.on_delete, key.followed, key.too_far);
        (key.id, key.table_id, goes)
    };
    then.len() == now.len()
        && then
            .iter()
            .zip(now)
            .all(|(one, other)| told(one) == told(other))
}

/// Rows of the rule's own table must be locked before it is known whether they may go.
pub(super) fn must_lock(plan: &RulePlan, leaf: &LeafFacts, role: &str) -> EngineError {
    EngineError::Permission(format!(
        "dependents: {}: whether a row of {}.{} may go is known only while it is locked, which takes the right to UPDATE (a single column will do); run: {}",
        plan.dependents.as_str(),
        leaf.schema,
        leaf.name,
        sql::grant_rights("SELECT, UPDATE, DELETE", &leaf.schema, &leaf.name, role)
    ))
}
