//! Before the first delete: is the stated unit the column's?

use super::{RuleEnd, RuleProgress};
use crate::{
    engine::{Engine, EngineError},
    policy::{
        dependents::Dependents,
        plan::RulePlan,
        plausible::{PLAUSIBLE_FROM, doubt, is_guesswork},
    },
};

/// Rows that a sweep of the rule would take now.
pub(super) async fn would_go(engine: &dyn Engine, plan: &RulePlan) -> Result<u64, EngineError> {
    let left = engine.count_left(plan, 0).await?.expired;
    Ok(match plan.dependents {
        Dependents::Cascade => left.saturating_add(engine.count_along(plan).await?),
        Dependents::Refuse | Dependents::Skip => left,
    })
}

/// Blocks a rule by whose unit every value is a time long before anybody kept any, until somebody approves of it. Judged by the
/// rows themselves: statistics may be missing, or of another time.
pub(super) async fn block(
    engine: &dyn Engine,
    plan: &RulePlan,
    progress: &RuleProgress,
) -> Result<Option<RuleEnd>, EngineError> {
    if progress.rows_approved.is_some()
        || !is_guesswork(plan)
        || engine.has_times_from(plan, PLAUSIBLE_FROM).await?
    {
        return Ok(None);
    }
    Ok(match would_go(engine, plan).await? {
        0 => None,
        rows => Some(RuleEnd::Blocked {
            reason: format!("{rows} rows would go; {}", doubt(plan)),
            expected: progress.spent().saturating_add(rows),
            removed_holds: None,
        }),
    })
}
