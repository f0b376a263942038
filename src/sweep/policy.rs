//! A whole policy's sweep: plans its rules against the database as it is now, then runs them one after the other.

use jiff::{SignedDuration, Timestamp};

use super::{
    Books, Control, RuleEnd, RuleProgress, RuleReport, SweepReport, SweepState, Turn,
    runner::ended_by,
    sweep_rule,
    under::{self, Removals},
    unit,
};
use crate::{
    audit::{self, Book, Plan, Planned, RemovedHold, Surroundings},
    engine::{DatabaseFacts, Engine, EngineError},
    policy::{
        check::{CheckedPolicy, Refusal, reason},
        claims::LedgerMode,
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

/// What a sweep is told besides its policy.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Whose sweep it is, and who else has a say in the tables.
    pub around: &'a Surroundings,
    /// The policy's generation; 0 where there is no object.
    pub generation: i64,
    /// Names what the spec says of rows: [`spec_mark`](crate::policy::approval::spec_mark).
    pub spec: &'a str,
    /// The plan whose approval lets it go beyond the limits.
    pub approved_plan: Option<&'a str>,
    /// The sweeper's own clock. It only judges whether the database's, which alone fixes cutoffs, can be right.
    pub clock: fn() -> Timestamp,
}

/// Sweeps a policy's enforced rules; `state` is a new sweep or the one to go on with, and says afterwards where it stands.
///
/// # Errors
/// Only what concerns the whole database; what happened to a rule is in the report.
pub async fn sweep_policy(
    engine: &dyn Engine,
    policy: &CheckedPolicy,
    order: &Order<'_>,
    state: &mut SweepState,
    control: &dyn Control,
) -> Result<SweepReport, SweepError> {
    let plan = audit::plan(engine, policy, order.around).await?;
    sweep_plan(engine, policy, plan, order, state, control).await
}

/// The same, with a plan that was made just now.
///
/// # Errors
/// As [`sweep_policy`].
pub async fn sweep_plan(
    engine: &dyn Engine,
    policy: &CheckedPolicy,
    plan: Plan,
    order: &Order<'_>,
    state: &mut SweepState,
    control: &dyn Control,
) -> Result<SweepReport, SweepError> {
    let generation = order.generation;
    let Plan { facts, rules, book } = plan;
    check_database(&facts, (order.clock)())?;
    check_pause(&book)?;
    if let Some(barred) = book.forbids() {
        // No rule has a plan. What the sweep stands at, and the generation that this is of, is left for when there are plans.
        return Ok(SweepReport {
            barred: Some(barred.clone()),
            ..SweepReport::default()
        });
    }
    enter_database(state, &facts.identity)?;
    let refused = rules.iter().filter_map(refusal).collect();
    let (plans, removed): (Vec<RulePlan>, Vec<Vec<RemovedHold>>) =
        rules.into_iter().filter_map(enforced).unzip();
    // A rule that cannot be swept just now keeps its count: limits are those of the whole sweep.
    state
        .rules
        .retain(|rule| policy.rules.iter().any(|(name, _)| *name == rule.name));
    let begins = state.database_time.is_none();
    if begins || state.generation != generation {
        state.database_time = Some(facts.now);
    }
    let plans: Vec<RulePlan> = plans
        .into_iter()
        .map(|plan| take_up(state, plan, generation, begins))
        .collect();
    enter_generation(state, &plans, generation);
    let under = match book.ledger {
        Some(ledger) if !plans.is_empty() => {
            Some(under::begin(ledger, book.view.revision, order, state).await?)
        }
        _ => None,
    };
    control.begun(state).await?;

    let mut report = SweepReport {
        refused,
        ..SweepReport::default()
    };
    let mut asked = Removals::default();
    for (plan, removed) in plans.iter().zip(&removed) {
        let Some(mut progress) = state.rule(&plan.rule).filter(|rule| !rule.done).cloned() else {
            continue;
        };
        let begun = state.rules.iter().any(RuleProgress::has_begun);
        let unknown = asked.block(engine, plan, removed, &progress).await;
        let blocked = match unknown {
            Ok(None) => unit::block(engine, plan, &progress).await,
            // Whatever was approved before did not know of it.
            Ok(Some(blocked)) => {
                progress.rows_approved = None;
                Ok(Some(blocked))
            }
            Err(error) => Err(error),
        };
        let rule = match blocked {
            Ok(Some(blocked)) => RuleReport::not_begun(progress, blocked),
            Ok(None) => match estimate(engine, plan).await {
                Ok(estimate) => {
                    let books = match &under {
                        Some(under) => Books::Under(under),
                        None if policy.ledger == LedgerMode::Off => Books::Off,
                        None => Books::Missing,
                    };
                    sweep_rule(
                        engine,
                        plan,
                        policy.pace,
                        Turn {
                            progress,
                            estimate,
                            begun,
                        },
                        control,
                        books,
                    )
                    .await
                }
                // What the rules before it did stays in the report.
                Err(error) => RuleReport::not_begun(progress, ended_by(error, begun)),
            },
            Err(error) => RuleReport::not_begun(progress, ended_by(error, begun)),
        };
        asked.settle(removed, &rule);
        state.put(rule.progress.clone());
        let stopped = matches!(rule.end, RuleEnd::Stopped(_) | RuleEnd::Unrecorded(_));
        report.rules.push(rule);
        if stopped {
            break;
        }
    }
    // What was said about a hold for one rule is not said for the others on its table.
    for (plan, removed) in plans.iter().zip(&removed) {
        let complete = report.rules.iter().any(|rule| {
            rule.progress.name == plan.rule && matches!(rule.end, RuleEnd::Complete { .. })
        });
        if !complete {
            asked.keep(removed);
        }
    }
    if let Some(under) = &under {
        report.totals = under::end(under, &report, asked).await;
    }
    Ok(report)
}

/// A rule that may be swept now, with the removed holds on its table. A whole table that is held keeps all its rows.
fn enforced(planned: Planned) -> Option<(RulePlan, Vec<RemovedHold>)> {
    let plan = planned.plan.ok()?;
    (planned.enforced && plan.held_by.is_none()).then_some((plan, planned.removed_holds))
}

/// Why a rule that should be swept cannot be.
fn refusal(planned: &Planned) -> Option<(String, Refusal)> {
    let refusal = planned.plan.as_ref().err()?;
    planned
        .enforced
        .then(|| (planned.name.clone(), refusal.clone()))
}

/// The switch in the database itself.
fn check_pause(book: &Book) -> Result<(), Refusal> {
    match &book.view.paused {
        None => Ok(()),
        Some(why) => Err(Refusal::new(
            reason::PAUSED,
            EngineError::Paused(why.clone()).to_string(),
        )),
    }
}

/// A sweep belongs to the database that it began on, or whose plan was approved: cutoffs, counts and approvals mean nothing on
/// another one, to which a Secret or the spec may lead by now.
fn enter_database(state: &mut SweepState, identity: &str) -> Result<(), Refusal> {
    match &state.database {
        Some(known) if known != identity => Err(Refusal::new(
            reason::ANOTHER_DATABASE,
            format!(
                "sweep {} belongs to database {known}, and the address leads to {identity} now: it ends, and nothing of it, no approval either, is good here",
                state.id
            ),
        )),
        Some(_) => Ok(()),
        None => {
            // Whoever wrote it down did not say where it was approved.
            for rule in &mut state.rules {
                rule.rows_approved = None;
            }
            state.database = Some(identity.to_owned());
            Ok(())
        }
    }
}

/// Gives a plan the cutoff that its sweep began with, or enters it into the sweep, which `begins` now.
///
/// A changed policy gets new cutoffs and no approval: the one that was given was for another plan. What was taken still
/// counts, unless the rule now means another table.
fn take_up(state: &mut SweepState, mut plan: RulePlan, generation: i64, begins: bool) -> RulePlan {
    if let Some(archive) = &mut plan.archive {
        archive.sweep.clone_from(&state.id);
    }
    let same_spec = state.generation == generation;
    let table = Some(plan.table.id);
    let fresh = RuleProgress {
        table_id: table,
        ..RuleProgress::new(plan.rule.clone(), plan.cutoff)
    };
    match state.rule(&plan.rule).cloned() {
        // An approval waits here for the sweep that it allows, which takes the cutoff of its own begin.
        Some(rule) if same_spec && begins && rule.table_id == table => state.put(RuleProgress {
            cutoff: plan.cutoff,
            ..rule
        }),
        Some(rule)
            if same_spec && rule.table_id == table && same_domain(rule.cutoff, plan.cutoff) =>
        {
            // Time only goes on: a later cutoff than that of now is no cutoff of before.
            plan.cutoff = earlier(rule.cutoff, plan.cutoff);
            state.put(RuleProgress {
                cutoff: plan.cutoff,
                ..rule
            });
        }
        // It was refused when the spec changed: what it took still counts.
        Some(rule) if same_spec && rule.table_id.is_none() => state.put(RuleProgress {
            cutoff: plan.cutoff,
            table_id: table,
            rows_approved: None,
            ..rule
        }),
        Some(rule) if rule.table_id == table => state.put(RuleProgress {
            cutoff: plan.cutoff,
            // Another spec is another set of rows.
            rows_total: None,
            rows_approved: None,
            done: false,
            ..rule
        }),
        _ => state.put(fresh),
    }
    plan
}

/// The sweep is of this generation from now on, also the rules that have no plan just now: what an older spec meant by them, its
/// cutoff and its approval, must not come back with them. What they took still counts.
fn enter_generation(state: &mut SweepState, plans: &[RulePlan], generation: i64) {
    if state.generation != generation {
        for rule in &mut state.rules {
            if !plans.iter().any(|plan| plan.rule == rule.name) {
                rule.table_id = None;
                rule.rows_at_start = None;
                rule.rows_total = None;
                rule.rows_approved = None;
                rule.done = false;
            }
        }
    }
    state.generation = generation;
}

fn same_domain(one: Cutoff, other: Cutoff) -> bool {
    std::mem::discriminant(&one) == std::mem::discriminant(&other)
}

/// The earlier of two cutoffs of one domain.
fn earlier(one: Cutoff, other: Cutoff) -> Cutoff {
    let is_earlier = match (one, other) {
        (Cutoff::Instant(one), Cutoff::Instant(other)) => one < other,
        (Cutoff::Local(one), Cutoff::Local(other)) => one < other,
        (Cutoff::Date(one), Cutoff::Date(other)) => one < other,
        _ => false,
    };
    if is_earlier { one } else { other }
}

/// May the database be swept at all?
fn check_database(facts: &DatabaseFacts, operator: Timestamp) -> Result<(), Refusal> {
    if facts.in_recovery {
        return Err(Refusal::new(
            reason::NOT_PRIMARY,
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
    let statistics = engine.statistics(plan).await?;
    Ok(audit::expired(plan, &statistics).and_then(|rows| u64::try_from(rows.value).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::{
            dependents::Dependents,
            limits::Limits,
            table::{TableFacts, TableKind},
        },
        sweep::Trigger,
    };

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

    fn plan(table: u32, cutoff: &str) -> RulePlan {
        let cutoff = Cutoff::Instant(cutoff.parse().expect("an instant"));
        RulePlan {
            rule: "logs".into(),
            table: TableFacts {
                id: table,
                schema: "public".into(),
                name: "logs".into(),
                kind: TableKind::Ordinary,
                system: false,
                columns: Vec::new(),
                leaves: Vec::new(),
                incoming: Vec::new(),
                row_security_active: false,
                published_without_identity: None,
                delete_rule: None,
                delete_triggers: Vec::new(),
                delete_fails: None,
                may_select: true,
                may_delete: true,
                hindered_part: None,
                leading_index_columns: Vec::new(),
                leading_indexes: Vec::new(),
                total_bytes: 0,
            },
            column: "at".into(),
            encoding: None,
            column_zone: jiff::tz::TimeZone::UTC,
            cutoff,
            overdue: cutoff,
            filter: None,
            holds: Vec::new(),
            held_by: None,
            limits: Limits::default(),
            dependents: Dependents::default(),
            held_tables: Vec::new(),
            archive: None,
        }
    }

    /// A sweep of generation 1 that has taken 7 rows of table 11.
    fn begun() -> SweepState {
        let mut state = SweepState::begin(Trigger::Approval, Timestamp::UNIX_EPOCH, 1);
        take_up(&mut state, plan(11, "2026-01-01T00:00:00Z"), 1, true);
        let rule = RuleProgress {
            rows_at_start: Some(100),
            rows_done: 7,
            rows_approved: Some(50),
            rows_total: Some(40),
            ..state.rules[0].clone()
        };
        state.put(rule);
        state
    }

    #[test]
    fn a_resumed_rule_keeps_its_cutoff_and_its_approval() {
        let mut state = begun();
        let plan = take_up(&mut state, plan(11, "2026-02-01T00:00:00Z"), 1, false);
        assert_eq!(plan.cutoff.to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(
            (state.rules[0].rows_done, state.rules[0].rows_approved),
            (7, Some(50))
        );
    }

    #[test]
    fn a_changed_spec_takes_new_cutoffs_and_loses_the_approval_but_what_was_taken_counts() {
        let mut state = begun();
        let plan = take_up(&mut state, plan(11, "2026-02-01T00:00:00Z"), 2, false);
        assert_eq!(plan.cutoff.to_string(), "2026-02-01T00:00:00Z");
        let rule = &state.rules[0];
        assert_eq!(
            (rule.rows_done, rule.rows_approved, rule.rows_total),
            (7, None, None)
        );
    }

    #[test]
    fn a_rule_that_was_refused_when_the_spec_changed_does_not_come_back_with_the_old_cutoff() {
        let mut state = begun();
        enter_generation(&mut state, &[], 2);
        let plan = take_up(&mut state, plan(11, "2025-02-01T00:00:00Z"), 2, false);
        assert_eq!(plan.cutoff.to_string(), "2025-02-01T00:00:00Z");
        let rule = &state.rules[0];
        assert_eq!(
            (rule.rows_done, rule.rows_approved, rule.rows_at_start),
            (7, None, None)
        );
        assert_eq!(rule.cutoff, plan.cutoff);
    }

    #[test]
    fn a_rule_that_now_means_another_table_starts_anew() {
        let mut state = begun();
        take_up(&mut state, plan(12, "2026-02-01T00:00:00Z"), 2, false);
        let rule = &state.rules[0];
        assert_eq!(
            (rule.rows_done, rule.rows_at_start, rule.rows_approved),
            (0, None, None)
        );
    }

    /// A sweep that was approved, for table 11, and has not begun.
    fn approved() -> SweepState {
        let mut state = SweepState::begin(Trigger::Approval, Timestamp::UNIX_EPOCH, 1);
        state.database = Some("1/2".into());
        state.put(RuleProgress {
            rows_approved: Some(50),
            table_id: Some(11),
            ..RuleProgress::new("logs", Cutoff::Instant(Timestamp::UNIX_EPOCH))
        });
        state
    }

    #[test]
    fn an_approved_rule_takes_the_cutoff_of_its_own_sweep() {
        let mut state = approved();
        let plan = take_up(&mut state, plan(11, "2026-02-01T00:00:00Z"), 1, true);
        assert_eq!(plan.cutoff.to_string(), "2026-02-01T00:00:00Z");
        assert_eq!(state.rules[0].rows_approved, Some(50));
        assert_eq!(state.rules[0].cutoff, plan.cutoff);
    }

    #[test]
    fn an_approval_is_not_one_of_a_table_that_was_made_anew_under_the_name() {
        let mut state = approved();
        take_up(&mut state, plan(12, "2026-02-01T00:00:00Z"), 1, true);
        let rule = &state.rules[0];
        assert_eq!((rule.table_id, rule.rows_approved), (Some(12), None));
    }

    #[test]
    fn an_approval_that_names_no_table_is_none() {
        let mut state = approved();
        state.rules[0].table_id = None;
        take_up(&mut state, plan(11, "2026-02-01T00:00:00Z"), 1, true);
        assert_eq!(state.rules[0].rows_approved, None);
    }

    #[test]
    fn a_sweep_and_its_approval_are_not_for_another_database() {
        let mut state = approved();
        assert!(enter_database(&mut state, "1/2").is_ok());
        let refusal = enter_database(&mut state, "1/3").expect_err("refused");
        assert_eq!(refusal.reason, "AnotherDatabase");
        assert!(refusal.message.contains("1/3"), "{}", refusal.message);
    }

    #[test]
    fn an_approval_of_which_nobody_knows_the_database_is_none() {
        let mut state = approved();
        state.database = None;
        assert!(enter_database(&mut state, "1/2").is_ok());
        assert_eq!(state.rules[0].rows_approved, None);
        assert_eq!(state.database.as_deref(), Some("1/2"));
    }

    #[test]
    fn a_cutoff_that_somebody_moved_into_the_future_is_not_kept() {
        let mut state = begun();
        state.rules[0].cutoff =
            Cutoff::Instant("2099-01-01T00:00:00Z".parse().expect("an instant"));
        let plan = take_up(&mut state, plan(11, "2026-02-01T00:00:00Z"), 1, false);
        assert_eq!(plan.cutoff.to_string(), "2026-02-01T00:00:00Z");
        assert_eq!(state.rules[0].cutoff, plan.cutoff);
    }
}
