//! Before the first delete: is the stated unit the column's, and that of every row that would go?

use super::{RuleEnd, RuleProgress};
use crate::{
    engine::{Engine, EngineError},
    policy::{
        dependents::Dependents,
        plan::RulePlan,
        plausible::{PLAUSIBLE_FROM, before, doubt, doubt_of_some, is_guesswork, spans},
    },
};

/// Rows that a sweep of the rule may take now at most, those that would go along included. `deleted`: what it took already.
pub(super) async fn at_most(
    engine: &dyn Engine,
    plan: &RulePlan,
    deleted: u64,
) -> Result<u64, EngineError> {
    let left = engine.count_left(plan, deleted).await?.expired;
    Ok(match plan.dependents {
        Dependents::Cascade => left.saturating_add(engine.count_along(plan).await?),
        Dependents::Refuse | Dependents::Skip => left,
    })
}

/// The same without the rows that [`Dependents::Skip`] keeps, as far as that is known.
pub(super) async fn would_go(
    engine: &dyn Engine,
    plan: &RulePlan,
    deleted: u64,
) -> Result<u64, EngineError> {
    match free(engine, plan).await? {
        Some(free) => Ok(free),
        None => at_most(engine, plan, deleted).await,
    }
}

/// Rows that somebody is asked to approve. Where just now all are kept it is those: they may come free before the sweep comes to them.
pub(super) async fn to_approve(engine: &dyn Engine, plan: &RulePlan) -> Result<u64, EngineError> {
    match would_go(engine, plan, 0).await? {
        0 => at_most(engine, plan, 0).await,
        rows => Ok(rows),
    }
}

/// Expired rows to which no other table's row refers, where [`Dependents::Skip`] makes a difference and they can be counted.
///
/// # Errors
/// Whatever keeps the tables from being read.
pub async fn free(engine: &dyn Engine, plan: &RulePlan) -> Result<Option<u64>, EngineError> {
    if plan.dependents == Dependents::Skip && !plan.table.incoming.is_empty() {
        engine.count_free(plan).await
    } else {
        Ok(None)
    }
}

/// What speaks against the unit that a plan's rule states: all values are times long before anybody kept any, or some of those that it
/// would take are what times of a smaller unit seem to be. Judged by the rows themselves: statistics may be missing, or of another time. Reads the table.
///
/// # Errors
/// Whatever keeps it from being read.
pub async fn doubts(engine: &dyn Engine, plan: &RulePlan) -> Result<Option<String>, EngineError> {
    if !is_guesswork(plan) {
        return Ok(None);
    }
    if !engine.has_times_from(plan, PLAUSIBLE_FROM).await? {
        return Ok(Some(doubt(plan)));
    }
    for (from, until) in spans(plan) {
        let counted = async |time| engine.count_expired(&before(plan, time)).await;
        let all = counted(*until).await?.expired;
        if all == 0 {
            break;
        }
        if all > counted(*from).await?.expired {
            return Ok(Some(doubt_of_some(plan)));
        }
    }
    Ok(None)
}

/// Blocks a rule whose unit is doubtful, until somebody approves of it.
pub(super) async fn block(
    engine: &dyn Engine,
    plan: &RulePlan,
    progress: &RuleProgress,
) -> Result<Option<RuleEnd>, EngineError> {
    if progress.rows_approved.is_some() {
        return Ok(None);
    }
    let Some(doubt) = doubts(engine, plan).await? else {
        return Ok(None);
    };
    Ok(match to_approve(engine, plan).await? {
        0 => None,
        rows => Some(RuleEnd::Blocked {
            reason: format!("{rows} rows would go; {doubt}"),
            expected: progress.spent().saturating_add(rows),
            removed_holds: None,
        }),
    })
}
