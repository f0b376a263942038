//! A sweep in the ledger: its begin, its end, and the holds whose removal somebody has to approve.

use std::sync::Arc;

use super::{
    Order, RuleEnd, RuleProgress, RuleReport, SweepReport, SweepState, Under, unit::to_approve,
};
use crate::{
    audit::RemovedHold,
    engine::{
        Engine, EngineError,
        ledger::{Ledger, LedgerTotals, SweepBegin, SweepEnd, SweepRecord},
    },
    policy::{approval::removed_holds, plan::RulePlan},
};

/// Enters the sweep, and takes in what the ledger has of it already.
pub(super) async fn begin(
    ledger: Arc<dyn Ledger>,
    revision: i64,
    order: &Order<'_>,
    state: &mut SweepState,
) -> Result<Under, EngineError> {
    let party = &order.around.party;
    let approved: Vec<(String, u64)> = state
        .rules
        .iter()
        .filter_map(|rule| Some((rule.name.clone(), rule.rows_approved?)))
        .collect();
    let sweep = SweepRecord {
        id: state.id.clone(),
        trigger: state.trigger.as_str().to_owned(),
        spec: order.spec.to_owned(),
        started: state.started,
        database_time: state.database_time,
        rules: Vec::new(),
    };
    let records = ledger
        .begin_sweep(&SweepBegin {
            party,
            sweep: &sweep,
            approved: order
                .approved_plan
                .filter(|_| !approved.is_empty())
                .map(|hash| (hash, approved.as_slice())),
        })
        .await?;
    state.settle_by(&records);
    Ok(Under {
        ledger,
        sweep_id: state.id.clone(),
        policy: party.policy.clone(),
        sweeper: party.sweeper.clone(),
        revision,
    })
}

/// Enters how the sweep ended; what all sweeps of the policy took. What was deleted is in the ledger already: that its end
/// is not costs no more than a second look at a rule that was done.
pub(super) async fn end(
    under: &Under,
    report: &SweepReport,
    removals: Removals,
) -> Option<LedgerTotals> {
    let those = |test: fn(&RuleReport) -> bool| {
        let rules = report.rules.iter().filter(|rule| test(rule));
        rules
            .filter_map(|rule| Some((rule.progress.name.clone(), rule.progress.table_id?)))
            .collect()
    };
    let end = SweepEnd {
        id: &under.sweep_id,
        ended: !report.goes_on(),
        outcome: report.outcome().as_str(),
        message: &report.message(),
        done: those(|rule| rule.progress.done),
        unapproved: those(|rule| {
            matches!(
                rule.end,
                RuleEnd::Blocked {
                    removed_holds: Some(_),
                    ..
                }
            )
        }),
        released: removals.released,
        asked: removals.asked,
    };
    let ended = match under.ledger.end_sweep(&end).await {
        Ok(()) => under.ledger.view(&under.policy).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(view) => Some(view.totals),
        Err(error) => {
            tracing::warn!(sweep = under.sweep_id, %error, "the sweep's end is not in the ledger");
            None
        }
    }
}

/// Removed holds that were asked about, or are settled, by number.
#[derive(Debug, Default)]
pub(super) struct Removals {
    released: Vec<i64>,
    asked: Vec<i64>,
}

impl Removals {
    /// Blocks a rule while a hold on its table was removed and nobody has approved a plan that knew of it.
    pub(super) async fn block(
        &self,
        engine: &dyn Engine,
        plan: &RulePlan,
        removed: &[RemovedHold],
        progress: &RuleProgress,
    ) -> Result<Option<RuleEnd>, EngineError> {
        let approved = progress.rows_approved.is_some();
        let answered = removed.iter().all(|hold| approved && hold.asked);
        let Some(holds) =
            removed_holds(removed.iter().map(|hold| hold.label.as_str())).filter(|_| !answered)
        else {
            return Ok(None);
        };
        let left = to_approve(engine, plan).await?;
        Ok(Some(RuleEnd::Blocked {
            reason: removed_in_words(&holds, removed.len(), left),
            expected: progress.spent().saturating_add(left),
            removed_holds: Some(holds),
        }))
    }

    /// Takes note of how a rule with removed holds ended.
    pub(super) fn settle(&mut self, removed: &[RemovedHold], rule: &RuleReport) {
        let ids = removed.iter().map(|hold| hold.id);
        match rule.end {
            RuleEnd::Blocked { .. } => self.asked.extend(ids),
            RuleEnd::Complete { .. } => self.released.extend(ids),
            _ => {}
        }
    }

    /// A rule with removed holds on its table is not complete: they are asked about once more.
    pub(super) fn keep(&mut self, removed: &[RemovedHold]) {
        self.released
            .retain(|id| !removed.iter().any(|hold| hold.id == *id));
    }
}

fn removed_in_words(holds: &str, number: usize, left: u64) -> String {
    match number {
        1 => format!("hold {holds} was removed since the last sweep: {left} rows would go"),
        _ => format!("holds were removed since the last sweep ({holds}): {left} rows would go"),
    }
}
