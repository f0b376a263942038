//! How much of the table may go: settled before the first delete, and once more when a limit is reached that rests on statistics.

use super::{Control, RuleEnd, StopReason, Tally, counted_at_most, unless_stopped};
use crate::{
    engine::{Engine, EngineError},
    policy::{
        dependents::Dependents,
        limits::{Allowance, Verdict},
        plan::RulePlan,
    },
    sweep::unit::free,
};

impl Tally {
    /// The allowance by what is known of the table's rows: counted, or so many at the least.
    fn allow(&mut self, plan: &RulePlan) {
        let progress = &self.report.progress;
        let counted = progress.rows_at_start;
        let least = plan.table.rows_at_least();
        self.allowance = match (progress.rows_approved, counted) {
            (Some(approved), _) => Allowance::approved(approved, counted.unwrap_or(least)),
            (None, Some(rows)) => plan.limits.allowance(rows),
            (None, None) => plan.limits.allowance_of_at_least(least),
        };
    }
}

/// Settles what a killed predecessor left open, and blocks before the first delete what would go over the limits.
///
/// An estimate alone never blocks: where it would, the rows are counted, those that would go and those that are there.
pub(super) async fn check_limits(
    engine: &dyn Engine,
    plan: &RulePlan,
    estimate: Option<u64>,
    control: &dyn Control,
    tally: &mut Tally,
) -> Result<Option<RuleEnd>, EngineError> {
    tally.allow(plan);
    let progress = &mut tally.report.progress;
    let mut known = None;
    // A count knows nothing of rows that went along: then the whole reservation counts.
    let totals = plan.dependents != Dependents::Cascade;
    if !totals {
        progress.rows_total = None;
    }
    if progress.was_killed() {
        let left = match counted_at_most(engine, plan, control).await? {
            Ok(left) => left,
            Err(reason) => return Ok(Some(RuleEnd::Stopped(reason))),
        };
        progress.settle(left);
        if !totals {
            progress.rows_total = None;
        }
        known = Some(left);
    }
    let spent = progress.spent();
    if known.is_none()
        && let Some(estimate) = estimate
        && tally.allowance.admits(spent, estimate) == Verdict::Go
    {
        return Ok(None);
    }
    if tally.allowance.rows.is_none() {
        return Ok(None);
    }
    let left = match known {
        Some(left) => left,
        None => match counted_at_most(engine, plan, control).await? {
            Ok(left) => left,
            Err(reason) => return Ok(Some(RuleEnd::Stopped(reason))),
        },
    };
    let progress = &mut tally.report.progress;
    if totals && progress.rows_total.is_none() {
        progress.rows_total = Some(spent.saturating_add(left));
    }
    if tally.allowance.admits(spent, left) == Verdict::Go {
        return Ok(None);
    }
    // Of rows that are kept none goes: they ask for no approval. (What a killed predecessor took is told by all that are expired.)
    let left = match unless_stopped(free(engine, plan), control).await? {
        Ok(free) => free.unwrap_or(left),
        Err(reason) => return Ok(Some(RuleEnd::Stopped(reason))),
    };
    if tally.allowance.admits(spent, left) == Verdict::Go {
        return Ok(None);
    }
    if let Some(reason) = count_rows_at_start(engine, plan, control, tally).await? {
        return Ok(Some(RuleEnd::Stopped(reason)));
    }
    Ok(match tally.allowance.admits(spent, left) {
        Verdict::Block { reason } => Some(RuleEnd::Blocked {
            reason,
            expected: spent.saturating_add(left),
            removed_holds: None,
        }),
        Verdict::Go | Verdict::Wait { .. } => None,
    })
}

/// Counts the rows that percentages are of, unless they were counted before; the reason to stop, if there is one by then.
pub(super) async fn count_rows_at_start(
    engine: &dyn Engine,
    plan: &RulePlan,
    control: &dyn Control,
    tally: &mut Tally,
) -> Result<Option<StopReason>, EngineError> {
    if tally.report.progress.rows_at_start.is_some() {
        return Ok(None);
    }
    let rows = match unless_stopped(engine.count_rows(&plan.table), control).await? {
        Ok(rows) => rows,
        Err(reason) => return Ok(Some(reason)),
    };
    let progress = &mut tally.report.progress;
    // How many of the rows that went along with others were the table's own, nobody has counted.
    let gone = match plan.dependents {
        Dependents::Cascade => 0,
        Dependents::Refuse | Dependents::Skip => progress.rows_done,
    };
    progress.rows_at_start = Some(rows.saturating_add(gone));
    tally.allow(plan);
    Ok(None)
}
