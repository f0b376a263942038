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
mod tests;
