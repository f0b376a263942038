//! What to do with a policy now: pure, over what the spec says, what was seen and what the clock says.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::requests::Request;
use crate::{
    policy::check::CheckedPolicy,
    sweep::{SweepState, Trigger},
};

/// How often the status of a running sweep is looked at.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// A sweep that somebody asked for longer ago does not go on under a spec that changed since.
const GOES_ON: SignedDuration = SignedDuration::from_hours(24);
/// Nothing is due: look again.
const AT_THE_LATEST: Duration = Duration::from_secs(6 * 60 * 60);

/// What is known of a policy when it is looked at.
#[derive(Debug)]
pub struct Situation<'a> {
    /// The operator's clock.
    pub now: Timestamp,
    /// The spec's generation.
    pub generation: i64,
    /// The spec, read.
    pub policy: &'a CheckedPolicy,
    /// The policies of every watched namespace are known: before that others' holds and claims are not.
    pub listed: bool,
    /// The operator may only audit.
    pub read_only: bool,
    /// The CRD in the cluster is older than the operator: a sweep could not be recorded.
    pub crd_outdated: bool,
    /// The `sweep-requested-at` annotation.
    pub sweep_request: Request,
    /// The `audit-requested-at` annotation.
    pub audit_request: Request,
    /// The `approved-plan` annotation names the pending plan.
    pub approved: bool,
    /// Somebody asked for an audit that has not begun yet.
    pub audit_wanted: bool,
    /// An audit is running.
    pub audit_running: bool,
    /// A sweep is running.
    pub sweep_running: bool,
    /// The generation that was audited last; `None`: none by this process.
    pub audited_generation: Option<i64>,
    /// When the next audit is due: after the interval, or sooner or later after a failure.
    pub next_audit: Timestamp,
    /// Ticks after this instant are due.
    pub armed_since: Timestamp,
    /// A sweep that began and has not ended.
    pub unfinished: Option<&'a SweepState>,
    /// Not before this instant is it taken up again.
    pub resume_after: Timestamp,
}

/// A sweep to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartSweep {
    /// What set it off.
    pub trigger: Trigger,
    /// Go on with the unfinished one.
    pub resume: bool,
    /// The plan that waits was approved: the sweep may take what was asked for.
    pub approved: bool,
    /// The end of the window; `None`: nothing ends it.
    pub until: Option<Timestamp>,
}

/// Why a request or an approval is not acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Reason of the event.
    pub reason: &'static str,
    /// Its note.
    pub note: String,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Start an audit.
    pub audit: bool,
    /// An audit was asked for: one has to begin after this instant.
    pub audit_wanted: bool,
    /// Start or resume a sweep.
    pub sweep: Option<StartSweep>,
    /// Give the unfinished sweep up: the policy no longer enforces.
    pub abandon: bool,
    /// The approval is not acted on, now or later: ask anew.
    pub ask_anew: bool,
    /// Ticks up to this instant are done with.
    pub armed_since: Timestamp,
    /// The value of a sweep request to record as handled.
    pub sweep_request: Option<String>,
    /// The value of an audit request to record as handled.
    pub audit_request: Option<String>,
    /// What was asked for and is not done.
    pub refused: Vec<Refused>,
    /// When the next sweep is due by the schedule.
    pub next_sweep: Option<Timestamp>,
    /// When to look again at the latest.
    pub wake: Timestamp,
}

/// Decides.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Decision {
    let now = situation.now;
    let mut decision = Decision {
        audit: false,
        audit_wanted: false,
        sweep: None,
        abandon: false,
        ask_anew: false,
        armed_since: situation.armed_since,
        sweep_request: None,
        audit_request: None,
        refused: Vec::new(),
        next_sweep: None,
        wake: later(now, AT_THE_LATEST),
    };
    if !situation.listed {
        // What is asked for, and what falls due, is looked at when they are.
        return decision;
    }
    decide_audit(situation, &mut decision);
    decide_sweep(situation, &mut decision);
    decision
}

fn decide_audit(situation: &Situation<'_>, decision: &mut Decision) {
    let mut requested = false;
    match &situation.audit_request {
        Request::None => {}
        Request::Act(value) => {
            decision.audit_request = Some(value.clone());
            if situation.policy.suspended {
                decision
                    .refused
                    .push(refused("audit-requested-at", "the policy is suspended"));
            } else {
                requested = true;
            }
        }
        Request::Refuse { value, why } => {
            decision.audit_request = Some(value.clone());
            decision
                .refused
                .push(stale("audit-requested-at", value, why));
        }
    }
    if situation.policy.suspended {
        return;
    }
    let due = requested
        || situation.audit_wanted
        || situation.audited_generation != Some(situation.generation)
        || situation.now >= situation.next_audit;
    decision.audit = due && !situation.audit_running;
    decision.audit_wanted = (requested || situation.audit_wanted) && !decision.audit;
    if !due {
        decision.wake = decision.wake.min(situation.next_audit);
    }
}

fn decide_sweep(situation: &Situation<'_>, decision: &mut Decision) {
    let now = situation.now;
    let policy = situation.policy;
    let refusal = policy
        .refusals
        .first()
        .map(|refusal| refusal.message.as_str());
    let obstacle = if policy.suspended {
        Some("the policy is suspended")
    } else if !policy.enforced {
        Some("the policy's mode is Audit: write mode: Enforce first")
    } else if situation.read_only {
        Some("the operator runs with --read-only")
    } else if situation.crd_outdated {
        Some("the CRD in the cluster is older than the operator: apply the operator's CRD first")
    } else {
        // Somebody meant something else than what can be read: what has expired is shown, and nothing is deleted.
        refusal
    };
    let mut requested = false;
    match &situation.sweep_request {
        Request::None => {}
        Request::Act(value) => {
            decision.sweep_request = Some(value.clone());
            match obstacle {
                Some(why) => decision.refused.push(refused("sweep-requested-at", why)),
                None if situation.sweep_running => decision
                    .refused
                    .push(refused("sweep-requested-at", "a sweep is running already")),
                None => requested = true,
            }
        }
        Request::Refuse { value, why } => {
            decision.sweep_request = Some(value.clone());
            decision
                .refused
                .push(stale("sweep-requested-at", value, why));
        }
    }

    if let Some(why) = obstacle.filter(|_| situation.approved) {
        decision.ask_anew = true;
        decision.refused.push(refused(
            "approved-plan",
            &format!("{why}; status.pendingApproval asks anew"),
        ));
    }

    let tick = policy
        .schedule
        .as_ref()
        .and_then(|schedule| schedule.last_at(now));
    let due = tick.is_some_and(|tick| tick > situation.armed_since);
    if due {
        decision.armed_since = now;
    }
    if obstacle.is_some() {
        decision.abandon =
            !policy.enforced && situation.unfinished.is_some() && !situation.sweep_running;
        return;
    }
    decision.next_sweep = policy
        .schedule
        .as_ref()
        .and_then(|schedule| schedule.next_after(now));
    if let Some(next) = decision.next_sweep {
        decision.wake = decision.wake.min(next);
    }
    if situation.sweep_running {
        decision.wake = decision.wake.min(later(now, PROGRESS_EVERY));
        return;
    }
    let window = policy
        .schedule
        .as_ref()
        .and_then(|schedule| schedule.open_until(now));
    let until = window.filter(|until| *until < Timestamp::MAX);
    // A tick that was missed counts only while its window is open.
    let open_tick = due && window.is_some();
    let start = |trigger, until| StartSweep {
        trigger,
        resume: situation.unfinished.is_some(),
        approved: false,
        until,
    };
    decision.sweep = if requested {
        Some(start(Trigger::Request, None))
    } else if situation.approved && (open_tick || policy.schedule.is_none() || until.is_some()) {
        Some(StartSweep {
            approved: true,
            ..start(Trigger::Approval, until)
        })
    } else if open_tick {
        // What was approved stays so when its window has ended it.
        let approved = situation
            .unfinished
            .is_some_and(|unfinished| unfinished.trigger == Trigger::Approval);
        let trigger = if approved {
            Trigger::Approval
        } else {
            Trigger::Schedule
        };
        Some(start(trigger, until))
    } else {
        resume(situation, window, decision)
    };
}

/// A sweep that a window, a restart or a veto ended goes on: a requested one at once, a scheduled one while its window is open.
///
/// What was asked for was asked of the spec of then: under another one it goes on as a scheduled sweep would, and where there is no
/// schedule for a day.
fn resume(
    situation: &Situation<'_>,
    window: Option<Timestamp>,
    decision: &mut Decision,
) -> Option<StartSweep> {
    let unfinished = situation.unfinished?;
    let on_request = situation.policy.schedule.is_none();
    let same_spec = unfinished.generation == situation.generation;
    let is_recent = situation.now.duration_since(unfinished.started) <= GOES_ON;
    let asked_for = match unfinished.trigger {
        Trigger::Request => same_spec || (on_request && is_recent),
        Trigger::Approval => on_request && (same_spec || is_recent),
        Trigger::Schedule => false,
    };
    if !asked_for && window.is_none() {
        return None;
    }
    if situation.now < situation.resume_after {
        decision.wake = decision.wake.min(situation.resume_after);
        return None;
    }
    // What a window lets go on ends with it, also the next time.
    let trigger = match unfinished.trigger {
        Trigger::Request if !asked_for => Trigger::Schedule,
        trigger => trigger,
    };
    Some(StartSweep {
        trigger,
        resume: true,
        approved: false,
        until: window
            .filter(|_| trigger != Trigger::Request)
            .filter(|until| *until < Timestamp::MAX),
    })
}

pub(super) fn refused(annotation: &str, why: &str) -> Refused {
    Refused {
        reason: "RequestRefused",
        note: format!("retention-operator.io/{annotation} is not acted on: {why}"),
    }
}

fn stale(annotation: &str, value: &str, why: &str) -> Refused {
    Refused {
        reason: "StaleRequest",
        note: format!("retention-operator.io/{annotation} {value:?} {why}"),
    }
}

pub(super) fn later(instant: Timestamp, by: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(by)
        .ok()
        .and_then(|by| instant.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::RetentionPolicySpec, policy::check::check};

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    fn policy(patch: serde_json::Value) -> CheckedPolicy {
        let mut spec = serde_json::json!({
            "mode": "Enforce",
            "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}},
            "schedule": {"cron": "0 3 * * *", "window": "4h"},
            "rules": [{"name": "logs", "table": "logs", "column": "at", "expireAfter": "30d", "action": "Delete"}],
        });
        for (key, value) in patch.as_object().expect("an object") {
            spec[key] = value.clone();
        }
        let spec: RetentionPolicySpec = serde_json::from_value(spec).expect("a spec");
        check(&spec)
    }

    fn situation<'a>(policy: &'a CheckedPolicy, now: &str) -> Situation<'a> {
        Situation {
            now: at(now),
            generation: 1,
            policy,
            listed: true,
            read_only: false,
            crd_outdated: false,
            sweep_request: Request::None,
            audit_request: Request::None,
            approved: false,
            audit_wanted: false,
            audit_running: false,
            sweep_running: false,
            audited_generation: Some(1),
            next_audit: Timestamp::MAX,
            armed_since: at("2026-11-22T00:00:00Z"),
            unfinished: None,
            resume_after: Timestamp::MIN,
        }
    }

    fn unfinished(trigger: Trigger) -> SweepState {
        SweepState::begin(trigger, at("2026-11-22T03:00:00Z"), 1)
    }

    #[test]
    fn a_tick_starts_a_sweep_that_ends_with_its_window() {
        let policy = policy(serde_json::json!({}));
        let decision = decide(&situation(&policy, "2026-11-22T03:00:01Z"));
        assert_eq!(
            decision.sweep,
            Some(StartSweep {
                trigger: Trigger::Schedule,
                resume: false,
                approved: false,
                until: Some(at("2026-11-22T07:00:00Z"))
            })
        );
        assert_eq!(decision.armed_since, at("2026-11-22T03:00:01Z"));
        assert_eq!(decision.next_sweep, Some(at("2026-11-23T03:00:00Z")));
    }

    #[test]
    fn nothing_begins_and_nothing_is_lost_before_all_policies_are_listed() {
        let policy = policy(serde_json::json!({}));
        let mut starting = situation(&policy, "2026-11-22T03:00:01Z");
        starting.listed = false;
        starting.audited_generation = None;
        starting.sweep_request = Request::Act("x".into());
        starting.audit_request = Request::Act("x".into());
        starting.approved = true;

        let decision = decide(&starting);

        assert_eq!((decision.audit, decision.sweep), (false, None));
        assert_eq!(
            (decision.sweep_request, decision.audit_request),
            (None, None)
        );
        assert_eq!(decision.armed_since, starting.armed_since);
        assert_eq!(decision.refused, Vec::new());
    }

    #[test]
    fn a_tick_before_the_policy_was_armed_starts_nothing() {
        let policy = policy(serde_json::json!({}));
        let mut situation = situation(&policy, "2026-11-22T04:00:00Z");
        situation.armed_since = at("2026-11-22T03:30:00Z");
        let decision = decide(&situation);
        assert_eq!(decision.sweep, None);
        assert_eq!(
            decision.wake,
            at("2026-11-22T10:00:00Z").min(at("2026-11-23T03:00:00Z"))
        );
    }

    #[test]
    fn a_request_sweeps_at_once_and_outside_the_window() {
        let policy = policy(serde_json::json!({}));
        let mut situation = situation(&policy, "2026-11-22T01:00:00Z");
        situation.sweep_request = Request::Act("x".into());
        let decision = decide(&situation);
        assert_eq!(
            decision.sweep,
            Some(StartSweep {
                trigger: Trigger::Request,
                resume: false,
                approved: false,
                until: None
            })
        );
        assert_eq!(decision.sweep_request.as_deref(), Some("x"));
    }

    #[test]
    fn audit_mode_suspension_and_the_kill_switch_refuse_requests_with_their_reason() {
        for (patch, read_only, expected) in [
            (serde_json::json!({"mode": "Audit"}), false, "mode is Audit"),
            (serde_json::json!({"suspend": true}), false, "suspended"),
            (serde_json::json!({}), true, "--read-only"),
        ] {
            let policy = policy(patch);
            let mut situation = situation(&policy, "2026-11-22T03:00:01Z");
            situation.read_only = read_only;
            situation.sweep_request = Request::Act("x".into());
            let decision = decide(&situation);
            assert_eq!(decision.sweep, None);
            assert_eq!(
                decision.sweep_request.as_deref(),
                Some("x"),
                "it is recorded, so that it is not acted on later"
            );
            assert!(
                decision.refused[0].note.contains(expected),
                "{:?}",
                decision.refused
            );
            assert_eq!(decision.next_sweep, None);
        }
    }

    #[test]
    fn a_tick_whose_window_has_closed_while_nobody_was_there_is_left_out() {
        let policy = policy(serde_json::json!({}));
        let mut late = situation(&policy, "2026-11-22T15:00:00Z");
        late.approved = true;
        let decision = decide(&late);
        assert_eq!(decision.sweep, None);
        assert_eq!(decision.armed_since, late.now);
    }

    #[test]
    fn an_approved_sweep_is_one_in_the_next_window_too() {
        let policy = policy(serde_json::json!({}));
        let state = unfinished(Trigger::Approval);
        let mut next = situation(&policy, "2026-11-23T03:00:00Z");
        next.armed_since = at("2026-11-22T03:00:00Z");
        next.unfinished = Some(&state);
        let sweep = decide(&next).sweep.expect("a sweep");
        assert_eq!((sweep.trigger, sweep.resume), (Trigger::Approval, true));
        assert!(!sweep.approved, "what it asks for now, nobody has approved");
    }

    #[test]
    fn an_approved_sweep_that_its_window_ended_waits_for_the_next_window() {
        let scheduled = policy(serde_json::json!({}));
        let state = unfinished(Trigger::Approval);
        let mut outside = situation(&scheduled, "2026-11-22T08:00:00Z");
        outside.armed_since = at("2026-11-22T03:00:00Z");
        outside.unfinished = Some(&state);
        assert_eq!(decide(&outside).sweep, None);
        let on_request = policy(serde_json::json!({"schedule": null}));
        let mut without = situation(&on_request, "2026-11-22T08:00:00Z");
        without.unfinished = Some(&state);
        assert!(decide(&without).sweep.is_some_and(|sweep| sweep.resume));
    }

    #[test]
    fn an_audit_that_is_asked_for_while_one_runs_begins_after_it() {
        let policy = policy(serde_json::json!({}));
        let mut busy = situation(&policy, "2026-11-22T12:00:00Z");
        busy.audit_request = Request::Act("x".into());
        busy.audit_running = true;
        let first = decide(&busy);
        assert_eq!((first.audit, first.audit_wanted), (false, true));
        let mut after = situation(&policy, "2026-11-22T12:00:01Z");
        after.audit_wanted = true;
        let then = decide(&after);
        assert_eq!((then.audit, then.audit_wanted), (true, false));
    }

    #[test]
    fn a_schedule_that_cannot_be_read_is_not_a_policy_without_a_schedule() {
        let policy = policy(serde_json::json!({"schedule": {"cron": "99 3 * * *"}}));
        let mut situation = situation(&policy, "2026-11-22T03:00:01Z");
        situation.sweep_request = Request::Act("x".into());
        let decision = decide(&situation);
        assert_eq!(decision.sweep, None);
        assert!(
            decision.refused[0].note.contains("schedule.cron"),
            "{:?}",
            decision.refused
        );
    }

    #[test]
    fn an_approval_acts_inside_the_window_and_else_at_the_next_tick() {
        let policy = policy(serde_json::json!({}));
        let approved = |now: &str| {
            let mut situation = situation(&policy, now);
            situation.approved = true;
            situation.armed_since = at("2026-11-22T03:00:00Z");
            decide(&situation).sweep
        };
        let trigger = |sweep: Option<StartSweep>| sweep.map(|sweep| sweep.trigger);
        assert!(approved("2026-11-22T06:00:00Z").is_some_and(|sweep| sweep.approved));
        assert_eq!(
            trigger(approved("2026-11-22T06:00:00Z")),
            Some(Trigger::Approval)
        );
        assert_eq!(trigger(approved("2026-11-22T08:00:00Z")), None);
        assert_eq!(
            trigger(approved("2026-11-23T03:00:00Z")),
            Some(Trigger::Approval)
        );
    }

    #[test]
    fn an_interrupted_scheduled_sweep_goes_on_only_while_its_window_is_open() {
        let policy = policy(serde_json::json!({}));
        let state = unfinished(Trigger::Schedule);
        let mut inside = situation(&policy, "2026-11-22T06:00:00Z");
        inside.armed_since = at("2026-11-22T03:00:00Z");
        inside.unfinished = Some(&state);
        assert_eq!(
            decide(&inside).sweep,
            Some(StartSweep {
                trigger: Trigger::Schedule,
                resume: true,
                approved: false,
                until: Some(at("2026-11-22T07:00:00Z"))
            })
        );
        let mut outside = situation(&policy, "2026-11-22T08:00:00Z");
        outside.armed_since = at("2026-11-22T03:00:00Z");
        outside.unfinished = Some(&state);
        assert_eq!(decide(&outside).sweep, None);
        let mut next = situation(&policy, "2026-11-23T03:00:00Z");
        next.armed_since = at("2026-11-22T03:00:00Z");
        next.unfinished = Some(&state);
        assert!(decide(&next).sweep.is_some_and(|sweep| sweep.resume));
    }

    #[test]
    fn an_interrupted_requested_sweep_goes_on_at_once() {
        let policy = policy(serde_json::json!({}));
        let state = unfinished(Trigger::Request);
        let mut situation = situation(&policy, "2026-11-22T12:00:00Z");
        situation.armed_since = at("2026-11-22T03:00:00Z");
        situation.unfinished = Some(&state);
        assert_eq!(
            decide(&situation).sweep,
            Some(StartSweep {
                trigger: Trigger::Request,
                resume: true,
                approved: false,
                until: None
            })
        );
    }

    #[test]
    fn a_requested_sweep_waits_for_a_window_once_the_spec_has_changed() {
        let policy = policy(serde_json::json!({}));
        let state = unfinished(Trigger::Request);
        let resumed = |now: &str| {
            let mut situation = situation(&policy, now);
            situation.generation = 2;
            situation.audited_generation = Some(2);
            situation.armed_since = at(now);
            situation.unfinished = Some(&state);
            decide(&situation).sweep
        };
        assert_eq!(resumed("2026-11-22T12:00:00Z"), None);
        assert_eq!(
            resumed("2026-11-22T06:00:00Z"),
            Some(StartSweep {
                trigger: Trigger::Schedule,
                resume: true,
                approved: false,
                until: Some(at("2026-11-22T07:00:00Z"))
            })
        );
    }

    #[test]
    fn without_a_schedule_a_requested_sweep_goes_on_under_a_new_spec_for_a_day() {
        let policy = policy(serde_json::json!({"schedule": null}));
        let state = unfinished(Trigger::Request);
        let resumed = |now: &str, generation| {
            let mut situation = situation(&policy, now);
            situation.generation = generation;
            situation.unfinished = Some(&state);
            decide(&situation).sweep.is_some()
        };
        assert!(resumed("2026-11-22T12:00:00Z", 2));
        assert!(!resumed("2026-11-24T12:00:00Z", 2));
        assert!(resumed("2026-11-24T12:00:00Z", 1), "it may take days");
    }

    #[test]
    fn an_approval_that_nothing_can_be_done_about_is_refused_and_not_kept_for_later() {
        for (patch, read_only) in [
            (serde_json::json!({"mode": "Audit"}), false),
            (serde_json::json!({"suspend": true}), false),
            (serde_json::json!({}), true),
        ] {
            let policy = policy(patch);
            let mut situation = situation(&policy, "2026-11-22T03:00:01Z");
            situation.read_only = read_only;
            situation.approved = true;
            let decision = decide(&situation);
            assert!(decision.ask_anew && decision.sweep.is_none());
            assert!(
                decision.refused[0].note.contains("approved-plan"),
                "{:?}",
                decision.refused
            );
        }
    }

    #[test]
    fn a_policy_that_only_audits_now_gives_its_unfinished_sweep_up() {
        let policy = policy(serde_json::json!({"mode": "Audit"}));
        let state = unfinished(Trigger::Schedule);
        let mut situation = situation(&policy, "2026-11-22T04:00:00Z");
        situation.unfinished = Some(&state);
        assert!(decide(&situation).abandon);
    }

    #[test]
    fn a_new_generation_is_audited_at_once_and_a_suspended_one_never() {
        let good = policy(serde_json::json!({}));
        let mut changed = situation(&good, "2026-11-22T12:00:00Z");
        changed.generation = 2;
        assert!(decide(&changed).audit);
        changed.audit_running = true;
        assert!(!decide(&changed).audit, "one audit at a time");
        let suspended = policy(serde_json::json!({"suspend": true}));
        let mut situation = situation(&suspended, "2026-11-22T12:00:00Z");
        situation.generation = 2;
        assert!(!decide(&situation).audit);
    }

    #[test]
    fn a_tick_during_a_sweep_is_not_swept_twice() {
        let policy = policy(serde_json::json!({}));
        let mut situation = situation(&policy, "2026-11-22T03:00:01Z");
        situation.sweep_running = true;
        let decision = decide(&situation);
        assert_eq!(decision.sweep, None);
        assert_eq!(decision.armed_since, at("2026-11-22T03:00:01Z"));
    }

    #[test]
    fn without_a_schedule_an_enforcing_policy_sweeps_on_request_only() {
        let mut spec = serde_json::json!({});
        spec["schedule"] = serde_json::Value::Null;
        let policy = policy(spec);
        let decision = decide(&situation(&policy, "2026-11-22T03:00:01Z"));
        assert_eq!((decision.sweep, decision.next_sweep), (None, None));
    }
}
