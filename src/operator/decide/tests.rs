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
