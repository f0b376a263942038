//! One look at one policy: what is asked, what is due, what is to be published. Waits for nothing slow.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    ResourceExt,
    runtime::{controller::Action, reflector::Store},
};

use super::{
    approval, audit_task,
    context::{Context, PublishError, Trigger},
    decide::{Decision, Situation, decide},
    events::{self, Kind},
    guarded::Guarded,
    requests,
    served_crd::api_message,
    state::{PolicyState, Tracked},
    sweep_task,
};
use crate::{
    api::{RetentionPolicy, annotation},
    policy::check::{CheckedPolicy, check},
    sweep::SweepState,
};

/// Whether all policies have been listed is looked at this often; the last list asks for a look at each.
const UNLISTED: Duration = Duration::from_secs(60);
/// A task that has to end is looked for anew this often.
const ENDING: Duration = Duration::from_millis(500);

/// A reconciliation failed; it is tried again with backoff.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The policy's status could not be read.
    #[error("cannot read the policy's status: {}", api_message(.0))]
    Read(Box<kube::Error>),
    /// The policy's status could not be written.
    #[error("cannot write the policy's status: {0}")]
    Publish(Box<PublishError>),
}

impl ReconcileError {
    /// A bounded word for metrics.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Read(_) => "read_status",
            Self::Publish(_) => "write_status",
        }
    }
}

/// Looks at one policy.
///
/// # Errors
/// When the API server does not answer as it should.
pub async fn reconcile(
    context: Arc<Context>,
    guarded: Arc<Guarded>,
    store: Store<Guarded>,
    again: Trigger,
) -> Result<Action, ReconcileError> {
    let object = kube::runtime::reflector::ObjectRef::from_obj(guarded.as_ref());
    let policy = match &guarded.0 {
        Ok(policy) => Arc::new(policy.clone()),
        Err(invalid) => {
            tracing::warn!(policy = %object, error = %invalid.error, "the policy cannot be read");
            let note = format!("the operator cannot read this policy: {}", invalid.error);
            events::publish(
                &context,
                &invalid.metadata,
                Kind::Warning,
                "InvalidObject",
                &note,
            )
            .await;
            return Ok(Action::await_change());
        }
    };
    let tracked = context
        .tracked(&object, &policy, &store, &again)
        .await
        .map_err(|error| ReconcileError::Read(Box::new(error)))?;
    let checked = Arc::new(check(&policy.spec));
    let mut state = tracked.state.lock().await;
    if tracked.is_superseded() {
        return Ok(read_anew(&context, &tracked, &state));
    }
    let wake = look(&context, &tracked, &policy, &checked, &mut state).await?;
    Ok(Action::requeue(wake))
}

/// What is remembered is out of date: forgets it once nothing works by it any more.
fn read_anew(context: &Context, tracked: &Arc<Tracked>, state: &PolicyState) -> Action {
    if state.running.is_some() || state.auditing {
        return Action::requeue(ENDING);
    }
    context.forget(tracked);
    Action::requeue(Duration::from_millis(100))
}

async fn look(
    context: &Arc<Context>,
    tracked: &Arc<Tracked>,
    policy: &Arc<RetentionPolicy>,
    checked: &Arc<CheckedPolicy>,
    state: &mut PolicyState,
) -> Result<Duration, ReconcileError> {
    let now = Timestamp::now();
    let generation = policy.metadata.generation.unwrap_or_default();
    state.arm(&policy.spec, generation, now);
    state.follow_clock(checked.audit_interval, now);
    let listed = context.neighbours.all_listed();
    state.unlisted = context.neighbours.waits_for_lists();
    state.crd_outdated = context.served_crd.outdated();
    let unfinished = state.unfinished.as_ref();
    approval::drop_stale(&mut state.status, &policy.spec, generation, unfinished, now);
    let annotations = policy.annotations();
    let approved_plan = annotations.get(annotation::APPROVED_PLAN);
    let approves_nothing = state.approves_nothing(approved_plan, now);
    let request = |name: &str, handled: Option<&String>| {
        requests::read(
            annotations.get(name).map(String::as_str),
            handled.map(String::as_str),
            now,
        )
    };
    let decision = decide(&Situation {
        now,
        generation,
        policy: checked,
        listed,
        read_only: context.settings.read_only,
        crd_outdated: state.crd_outdated.is_some(),
        sweep_request: request(
            annotation::SWEEP_REQUESTED_AT,
            state.status.last_handled_sweep_request.as_ref(),
        ),
        audit_request: request(
            annotation::AUDIT_REQUESTED_AT,
            state.status.last_handled_audit_request.as_ref(),
        ),
        approved: approval::is_approved(&state.status, approved_plan, now),
        audit_wanted: state.audit_wanted,
        audit_running: state.auditing,
        sweep_running: state.running.is_some(),
        audited_generation: state.audited_generation,
        next_audit: state.next_audit,
        armed_since: state.armed_since,
        unfinished: state.unfinished.as_ref(),
        resume_after: state.resume_after,
    });
    let approved_before = state.status.last_approval.clone();
    record(state, &decision, generation, now);
    if context.stopping.is_cancelled() {
        return Ok(Duration::from_secs(60));
    }
    if !listed && state.unlisted.is_none() {
        return Ok(UNLISTED);
    }
    if listed {
        state.compose(checked, generation, decision.next_sweep, now);
    } else {
        // What was planned is still so.
        let next = state.status.next_sweep_time.as_ref().map(|time| time.0);
        state.compose(checked, generation, next, now);
    }
    // A request is recorded before it acts: were the process killed in between, it would not act twice.
    state
        .publish(context, tracked, now)
        .await
        .map_err(|error| ReconcileError::Publish(Box::new(error)))?;
    for refused in decision.refused.iter().chain(&approves_nothing) {
        events::publish(
            context,
            &policy.metadata,
            Kind::Warning,
            refused.reason,
            &refused.note,
        )
        .await;
    }
    if let Some(approval) = &state.status.last_approval
        && state.status.last_approval != approved_before
    {
        let hash = approval.plan_hash.as_deref().unwrap_or_default();
        let note = format!(
            "plan {hash} is approved: its rules may take the planned rows and a tenth more"
        );
        events::publish(
            context,
            &policy.metadata,
            Kind::Normal,
            "PlanApproved",
            &note,
        )
        .await;
    }
    if decision.audit {
        state.auditing = true;
        audit_task::spawn(
            context.clone(),
            tracked.clone(),
            policy.clone(),
            checked.clone(),
        );
    }
    if let Some(start) = decision.sweep {
        sweep_task::spawn(
            context.clone(),
            tracked.clone(),
            policy.clone(),
            checked.clone(),
            start,
            state,
            now,
        );
    }
    let wait = now
        .duration_until(decision.wake)
        .max(jiff::SignedDuration::from_millis(100));
    Ok(Duration::try_from(wait).unwrap_or(Duration::from_secs(60)))
}

/// Writes down what the decision says happened.
fn record(state: &mut PolicyState, decision: &Decision, generation: i64, now: Timestamp) {
    state.armed_since = decision.armed_since;
    state.audit_wanted = decision.audit_wanted;
    if let Some(value) = &decision.audit_request {
        state.status.last_handled_audit_request = Some(value.clone());
    }
    if let Some(value) = &decision.sweep_request {
        // Whoever asks anew is told anew.
        state.last_try = None;
        state.status.last_handled_sweep_request = Some(value.clone());
    }
    if decision.abandon {
        state.unfinished = None;
    }
    if decision.ask_anew {
        approval::ask_anew(&mut state.status, now);
    }
    if let Some(start) = &decision.sweep {
        match &mut state.unfinished {
            // What set it going again decides whether a window ends it.
            Some(unfinished) => unfinished.trigger = start.trigger,
            None => {
                state.last_try = None;
                state.unfinished = Some(SweepState::begin(start.trigger, now, generation));
            }
        }
        if start.approved {
            approval::apply(&mut state.status, state.unfinished.as_mut(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{PendingApproval, PendingRule, RetentionPolicyStatus},
        operator::decide::StartSweep,
        sweep::Trigger,
    };

    /// A sweep that was approved goes on, and asks about another rule; nobody has answered, unless `approved`.
    fn gone_on(approved: bool) -> PolicyState {
        let now = Timestamp::UNIX_EPOCH;
        let mut state = PolicyState::from_status(1, RetentionPolicyStatus::default(), now);
        state.unfinished = Some(SweepState::begin(Trigger::Approval, now, 1));
        state.status.pending_approval = Some(PendingApproval {
            rules: vec![PendingRule {
                name: "logs".into(),
                rows: Some(5),
                table_id: Some(7),
                ..PendingRule::default()
            }],
            ..PendingApproval::default()
        });
        let decision = Decision {
            audit: false,
            audit_wanted: false,
            sweep: Some(StartSweep {
                trigger: Trigger::Approval,
                resume: true,
                approved,
                until: None,
            }),
            abandon: false,
            ask_anew: false,
            armed_since: now,
            sweep_request: None,
            audit_request: None,
            refused: Vec::new(),
            next_sweep: None,
            wake: now,
        };
        record(&mut state, &decision, 1, now);
        state
    }

    #[test]
    fn a_sweep_that_was_approved_once_answers_no_later_question_by_going_on() {
        let asks = gone_on(false);
        assert!(asks.status.pending_approval.is_some() && asks.status.last_approval.is_none());
        assert!(asks.unfinished.is_some_and(|sweep| sweep.rules.is_empty()));

        let answered = gone_on(true);
        assert!(answered.status.pending_approval.is_none());
        let sweep = answered.unfinished.expect("the sweep");
        assert_eq!(sweep.rules[0].rows_approved, Some(6));
    }
}
