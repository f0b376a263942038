//! A whole policy's sweep: plans its rules against the database as it is now, then runs them one after the other.

use jiff::{SignedDuration, Timestamp};

use super::{Control, RuleEnd, RuleProgress, SweepReport, SweepState, sweep_rule};
use crate::{
    audit::{self, Planned},
    engine::{DatabaseFacts, Engine, EngineError},
    policy::{
        check::{CheckedPolicy, Refusal, reason},
        cutoff::Cutoff,
        defaults::defaults,
        plan::RulePlan,
    },
};

/// A sweep did not begin, or was cut short by the database as a whole.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The database.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The sweep as a whole is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The begin could not be recorded; nothing was deleted.
    #[error(transparent)]
    Unrecorded(#[from] super::ControlError),
}

/// Sweeps a policy's enforced rules; `state` is a new sweep or the one to go on with, and says afterwards where it stands.
///
/// # Errors
/// Only what concerns the whole database; what happened to a rule is in the report.
pub async fn sweep_policy(
    engine: &dyn Engine,
    policy: &CheckedPolicy,
    generation: i64,
    state: &mut SweepState,
    control: &dyn Control,
) -> Result<SweepReport, SweepError> {
    let (facts, planned) = audit::plan(engine, policy).await?;
    check_database(&facts, Timestamp::now())?;
    let plans: Vec<RulePlan> = planned.into_iter().filter_map(enforced).collect();
    state
        .rules
        .retain(|rule| plans.iter().any(|plan| plan.rule == rule.name));
    if state.database_time.is_none() || state.generation != generation {
        state.database_time = Some(facts.now);
    }
    let plans: Vec<RulePlan> = plans
        .into_iter()
        .map(|plan| take_up(state, plan, generation))
        .collect();
    state.generation = generation;
    control.begun(state).await?;

    let mut report = SweepReport::default();
    for plan in &plans {
        let Some(progress) = state.rule(&plan.rule).filter(|rule| !rule.done).cloned() else {
            continue;
        };
        let estimate = estimate(engine, plan).await?;
        let rule = sweep_rule(engine, plan, policy.pace, estimate, progress, control).await;
        state.put(rule.progress.clone());
        let stopped = matches!(rule.end, RuleEnd::Stopped(_) | RuleEnd::Unrecorded(_));
        report.rules.push(rule);
        if stopped {
            break;
        }
    }
    Ok(report)
}

/// A rule that may be swept now. A whole table that is held keeps all its rows.
fn enforced(planned: Planned) -> Option<RulePlan> {
    planned
        .plan
        .ok()
        .filter(|plan| planned.enforced && plan.held_by.is_none())
}

/// Gives a plan the cutoff that its sweep began with, or enters it into the sweep. A changed policy gets new cutoffs; what
/// was taken still counts.
fn take_up(state: &mut SweepState, mut plan: RulePlan, generation: i64) -> RulePlan {
    let same_spec = state.generation == generation;
    match state.rule(&plan.rule) {
        Some(rule) if same_spec && same_domain(rule.cutoff, plan.cutoff) => {
            plan.cutoff = rule.cutoff
        }
        Some(rule) => {
            let rule = RuleProgress {
                cutoff: plan.cutoff,
                // Another spec is another set of rows.
                rows_total: None,
                done: false,
                ..rule.clone()
            };
            state.put(rule);
        }
        None => state.put(RuleProgress::new(plan.rule.clone(), plan.cutoff)),
    }
    plan
}

fn same_domain(one: Cutoff, other: Cutoff) -> bool {
    std::mem::discriminant(&one) == std::mem::discriminant(&other)
}

/// May the database be swept at all?
fn check_database(facts: &DatabaseFacts, operator: Timestamp) -> Result<(), Refusal> {
    if facts.in_recovery {
        return Err(Refusal::new(
            "NotPrimary",
            "the address leads to a standby, which can only be read: name the primary",
        ));
    }
    let skew = facts.now.duration_since(operator).abs();
    let most = SignedDuration::try_from(defaults().max_clock_skew).unwrap_or_default();
    if skew > most {
        return Err(Refusal::new(
            reason::CLOCK_SKEW,
            format!(
                "the clocks of database ({}) and operator ({}) differ by {} s, more than {} s: set them right first",
                facts.now.round(jiff::Unit::Second).unwrap_or(facts.now),
                operator.round(jiff::Unit::Second).unwrap_or(operator),
                skew.as_secs(),
                most.as_secs(),
            ),
        ));
    }
    Ok(())
}

/// Rows expected to go, from the statistics; `None`: they say nothing, or an upper bound only.
async fn estimate(engine: &dyn Engine, plan: &RulePlan) -> Result<Option<u64>, EngineError> {
    let statistics = engine.statistics(&plan.table, &plan.column).await?;
    Ok(audit::expired(plan, &statistics).and_then(|rows| u64::try_from(rows.value).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(now: &str) -> DatabaseFacts {
        DatabaseFacts {
            engine: "PostgreSQL",
            version: "15".into(),
            name: "shop".into(),
            identity: "1/2".into(),
            size_bytes: 0,
            tables: 0,
            now: now.parse().expect("an instant"),
            in_recovery: false,
            read_only_by: "ReadOnlyTransaction",
        }
    }

    #[test]
    fn clocks_more_than_five_minutes_apart_refuse_the_sweep() {
        let operator = "2026-11-22T10:00:00Z".parse().expect("an instant");
        assert!(check_database(&facts("2026-11-22T10:04:59Z"), operator).is_ok());
        assert!(check_database(&facts("2026-11-22T09:55:01Z"), operator).is_ok());
        let refusal =
            check_database(&facts("2027-01-01T10:00:00Z"), operator).expect_err("refused");
        assert_eq!(refusal.reason, "ClockSkew");
        assert!(check_database(&facts("2026-11-22T09:54:59Z"), operator).is_err());
    }

    #[test]
    fn a_standby_is_not_swept() {
        let mut standby = facts("2026-11-22T10:00:00Z");
        standby.in_recovery = true;
        let refusal = check_database(&standby, standby.now).expect_err("refused");
        assert_eq!(refusal.reason, "NotPrimary");
    }
}
