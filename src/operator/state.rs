//! What the operator remembers of a policy between two looks at it.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    Resource,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::sync::Mutex;

use super::{
    approval,
    context::{Base, Context, PublishError, Trigger},
    database::{LONGEST_BACKOFF, jitter_at_most},
    decide::{Refused, later},
    guarded::Guarded,
};
use crate::{
    api::{
        RetentionPolicy, RetentionPolicySpec, RetentionPolicyStatus,
        conditions::{COMPLIANT, SWEEPING, find_condition, remove_condition},
        whole_seconds,
    },
    audit::AuditReport,
    policy::check::CheckedPolicy,
    report::{self, Known, Trouble},
    sweep::{Outcome, RuleProgress, SweepState},
    telemetry::metrics::PolicyLabel,
};

/// A status in which nothing but times changed is written at most this often.
const TIMES_EVERY: Duration = Duration::from_secs(60 * 60);

/// Clocks are set right by less than this, and nobody means anything by it.
const CLOCK_STEP: Duration = Duration::from_secs(60);

/// A policy and what is remembered of it.
pub struct Tracked {
    /// The policy.
    pub object: ObjectRef<Guarded>,
    /// Tells it from another of the same name.
    pub uid: String,
    /// The policies as the watch knows them.
    pub store: Store<Guarded>,
    /// Asks for another look.
    pub again: Trigger,
    /// What is remembered.
    pub state: Mutex<PolicyState>,
    /// Somebody else wrote the policy's status: what is remembered is out of date.
    superseded: AtomicBool,
}

impl Tracked {
    /// Begins to remember.
    #[must_use]
    pub fn new(
        object: ObjectRef<Guarded>,
        uid: String,
        store: Store<Guarded>,
        again: Trigger,
        state: PolicyState,
    ) -> Self {
        Self {
            object,
            uid,
            store,
            again,
            state: Mutex::new(state),
            superseded: AtomicBool::new(false),
        }
    }

    /// Somebody else wrote the policy's status: nothing that is remembered may be written any more.
    pub fn supersede(&self) {
        if !self.superseded.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                policy = %self.object,
                "somebody else wrote the status: another instance works on the policy; it is read anew"
            );
        }
    }

    /// See [`supersede`](Self::supersede).
    pub fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    /// The policy's spec is still the one that the cluster has, as far as the watch knows.
    pub fn is_current(&self, policy: &RetentionPolicy) -> bool {
        self.store.get(&self.object).is_some_and(|current| {
            let (current, then) = (current.meta(), &policy.metadata);
            (current.uid.as_ref(), current.generation) == (then.uid.as_ref(), then.generation)
        })
    }

    /// Asks for another look at the policy.
    pub fn look_again(&self) {
        // Fails only when the controller has ended: then nobody looks any more.
        let _ = self.again.unbounded_send(self.object.clone());
    }
}

/// A running sweep, as far as others want to know.
#[derive(Debug)]
pub struct Running {
    /// When it began or was resumed.
    pub since: Timestamp,
    /// The rule that it is at.
    pub rule: Option<RuleProgress>,
    /// What it waits for.
    pub waiting: Option<String>,
    /// It is shown: a try that may well end as the one before it did is not, until it has begun.
    pub shown: bool,
}

/// What is remembered of a policy.
#[derive(Debug)]
pub struct PolicyState {
    /// The status as it should be published.
    pub status: RetentionPolicyStatus,
    /// The status as the API server has it.
    pub base: Base,
    published: RetentionPolicyStatus,
    published_at: Timestamp,
    /// The last audit, with the generation that it was made for.
    pub audit: Option<(i64, AuditReport)>,
    /// The generation that was audited last, with or without success.
    pub audited_generation: Option<i64>,
    /// Somebody asked for an audit that has not begun yet.
    pub audit_wanted: bool,
    /// An audit is running.
    pub auditing: bool,
    /// What keeps the operator from the database.
    pub trouble: Option<Trouble>,
    /// Audits that failed in a row.
    pub failures: u32,
    /// When the next audit is due.
    pub next_audit: Timestamp,
    /// Ticks after this instant are due.
    pub armed_since: Timestamp,
    /// The generation for which it is armed.
    pub armed_for: Option<i64>,
    /// What decides about each rule's rows, as text.
    marks: BTreeMap<String, String>,
    /// The `approved-plan` annotation as it was seen last; `None`: not seen yet.
    approval_seen: Option<Option<String>>,
    /// A sweep that began and has not ended.
    pub unfinished: Option<SweepState>,
    /// Not before this instant is it taken up again.
    pub resume_after: Timestamp,
    /// Sweeps that failed in a row and are taken up again.
    pub sweep_failures: u32,
    /// The last try of a sweep that is taken up again and did not begin: how it ended. One that ends so again is no news.
    pub last_try: Option<(Outcome, String)>,
    /// The running sweep.
    pub running: Option<Running>,
    /// The CRD in the cluster is older than the operator: what to do about it.
    pub crd_outdated: Option<String>,
    /// Policies that have not been listed yet keep the operator from its work: which ones.
    pub unlisted: Option<String>,
}

impl PolicyState {
    /// What an earlier process left in the status.
    ///
    /// Ticks from the recorded next one on are due when the spec is still the one that was seen then: a tick missed while
    /// nobody was there runs as long as its window is open.
    #[must_use]
    pub fn from_status(generation: i64, status: RetentionPolicyStatus, now: Timestamp) -> Self {
        let seen = status.observed_generation == Some(generation);
        let expected = status
            .next_sweep_time
            .as_ref()
            .filter(|_| seen)
            .map(|time| time.0);
        let just_before = |tick: Timestamp| {
            tick.checked_sub(jiff::SignedDuration::from_secs(1))
                .unwrap_or(tick)
        };
        Self {
            armed_since: expected.map_or(now, just_before).min(now),
            armed_for: seen.then_some(generation),
            unfinished: status
                .unfinished_sweep
                .as_ref()
                .and_then(report::read_unfinished),
            base: Base::default(),
            published: status.clone(),
            published_at: Timestamp::MIN,
            audit: None,
            audited_generation: None,
            marks: BTreeMap::new(),
            approval_seen: None,
            audit_wanted: false,
            auditing: false,
            trouble: None,
            failures: 0,
            next_audit: now,
            resume_after: Timestamp::MIN,
            sweep_failures: 0,
            last_try: None,
            running: None,
            crd_outdated: None,
            unlisted: None,
            status,
        }
    }

    /// The spec changed: ticks that are past are not due under it, and what was counted of another set of rows is forgotten.
    pub fn arm(&mut self, spec: &RetentionPolicySpec, generation: i64, now: Timestamp) {
        let known = !self.marks.is_empty() || self.armed_for == Some(generation);
        if self.armed_for == Some(generation) && !self.marks.is_empty() {
            return;
        }
        let marks = marks(spec);
        for rule in &mut self.status.rules {
            let same = known
                && (self.marks.is_empty() || self.marks.get(&rule.name) == marks.get(&rule.name));
            if !same {
                report::forget_count(rule);
            }
        }
        self.marks = marks;
        if self.armed_for != Some(generation) {
            self.armed_for = Some(generation);
            self.armed_since = now;
        }
    }

    /// What to say of an `approved-plan` annotation that came just now and names no plan that waits for it. What was there before the
    /// operator looked is left alone: it answered an earlier question.
    pub fn approves_nothing(
        &mut self,
        annotation: Option<&String>,
        now: Timestamp,
    ) -> Option<Refused> {
        let seen = self.approval_seen.replace(annotation.cloned())?;
        let named = annotation.filter(|_| seen.as_ref() != annotation)?;
        let handled = self.status.last_approval.as_ref();
        let is_known = approval::is_approved(&self.status, Some(named), now)
            || handled.is_some_and(|handled| handled.plan_hash.as_ref() == Some(named));
        (!is_known).then(|| approval::no_such_question(&self.status, named))
    }

    /// What lies further ahead than it can was written before the clock was set back. Small steps are left alone: a tick that
    /// was just seen is not seen again.
    pub fn follow_clock(&mut self, audit_interval: Duration, now: Timestamp) {
        if self.armed_since > later(now, CLOCK_STEP) {
            tracing::warn!("the clock was set back: ticks and audits follow it");
            self.armed_since = now;
        }
        let longest = jitter_at_most(audit_interval.max(LONGEST_BACKOFF));
        self.next_audit = self.next_audit.min(later(now, longest));
        self.resume_after = self
            .resume_after
            .min(later(now, jitter_at_most(LONGEST_BACKOFF)));
        self.published_at = self.published_at.min(now);
    }

    /// Brings the status up to date with everything that is known.
    pub fn compose(
        &mut self,
        policy: &CheckedPolicy,
        generation: i64,
        next_sweep: Option<Timestamp>,
        now: Timestamp,
    ) {
        let status = &mut self.status;
        status.observed_generation = Some(generation);
        status.next_sweep_time = next_sweep.map(whole_seconds);
        self.compose_sweep();
        let audit = self
            .audit
            .as_ref()
            .filter(|(audited, _)| *audited == generation);
        let known = Known {
            policy,
            generation,
            now,
            audit: audit.map(|(_, report)| report),
            trouble: self.trouble.as_ref(),
            sweeping: self.is_shown_sweeping(),
            crd_outdated: self.crd_outdated.as_deref(),
            unlisted: self.unlisted.as_deref(),
        };
        report::conditions(&mut self.status, &known);
        report::fit(&mut self.status);
    }

    /// Brings what the status says of sweeps up to date, and nothing else: a sweep of an older spec does not judge the new one.
    pub fn compose_sweep(&mut self) {
        let shown = self.is_shown_sweeping();
        let status = &mut self.status;
        if !shown {
            remove_condition(&mut status.conditions, SWEEPING);
        }
        status.unfinished_sweep = self.unfinished.as_ref().map(report::write_unfinished);
        status.current_sweep = match (&self.running, &self.unfinished) {
            (Some(running), Some(state)) if running.shown => Some(report::current_sweep(
                state,
                running.since,
                running.rule.as_ref(),
                running.waiting.as_deref(),
            )),
            _ => None,
        };
        report::fit(&mut self.status);
    }

    fn is_shown_sweeping(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.shown)
    }

    /// The gauges of the policy say what its status says.
    fn show_metrics(&self, context: &Context, tracked: &Tracked) {
        let label = PolicyLabel {
            namespace: tracked.object.namespace.clone().unwrap_or_default(),
            policy: tracked.object.name.clone(),
        };
        let metrics = &context.metrics;
        if let Some(expired) = self.status.expired_rows {
            metrics.expired_rows.get_or_create(&label).set(expired);
        }
        if let Some(time) = &self.status.last_audit_time {
            #[expect(
                clippy::cast_precision_loss,
                reason = "seconds since 1970 fit into 53 bits"
            )]
            let seconds = time.0.as_second() as f64;
            metrics.last_audit.get_or_create(&label).set(seconds);
        }
        let compliant = find_condition(&self.status.conditions, COMPLIANT)
            .map(|condition| condition.status.as_str());
        match compliant {
            Some("True") => _ = metrics.compliant.get_or_create(&label).set(1),
            Some("False") => _ = metrics.compliant.get_or_create(&label).set(0),
            _ => _ = metrics.compliant.remove(&label),
        }
    }

    /// Writes the status if it is worth a write.
    ///
    /// # Errors
    /// When the API server does not take it; it is then still due. [`PublishError::Superseded`]: it never will be.
    pub async fn publish(
        &mut self,
        context: &Context,
        tracked: &Tracked,
        now: Timestamp,
    ) -> Result<(), PublishError> {
        if tracked.is_superseded() {
            return Err(PublishError::Superseded);
        }
        self.show_metrics(context, tracked);
        if self.status == self.published {
            return Ok(());
        }
        let times_only = report::only_times_differ(&self.published, &self.status);
        if times_only
            && now < later(self.published_at, TIMES_EVERY)
            && self.published_at != Timestamp::MIN
        {
            return Ok(());
        }
        context
            .write_status(tracked, &self.status, &mut self.base)
            .await?;
        self.published = self.status.clone();
        self.published_at = now;
        Ok(())
    }
}

/// By rule: everything in the spec that says which rows have expired.
fn marks(spec: &RetentionPolicySpec) -> BTreeMap<String, String> {
    spec.rules
        .iter()
        .map(|rule| {
            let mark = serde_json::json!([
                rule.table,
                rule.column,
                rule.encoding,
                rule.column_time_zone,
                rule.expire_after,
                rule.filter,
                spec.time_zone,
                spec.holds,
                spec.database,
            ]);
            (rule.name.clone(), mark.to_string())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CountedRows, MeasuredRows, RuleStatus};

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    fn status(observed: i64, next: &str) -> RetentionPolicyStatus {
        RetentionPolicyStatus {
            observed_generation: Some(observed),
            next_sweep_time: Some(whole_seconds(at(next))),
            ..RetentionPolicyStatus::default()
        }
    }

    #[test]
    fn an_approval_of_nothing_is_said_once_when_it_comes() {
        let now = at("2026-11-22T05:00:00Z");
        let mut state = PolicyState::from_status(1, RetentionPolicyStatus::default(), now);
        let old = "0123456789abcdef-5-01234567".to_owned();
        let new = "a typing error".to_owned();

        assert_eq!(state.approves_nothing(Some(&old), now), None, "a restart");
        assert_eq!(state.approves_nothing(Some(&old), now), None);
        let refused = state.approves_nothing(Some(&new), now).expect("an event");
        assert!(refused.note.contains(&new), "{}", refused.note);
        assert_eq!(state.approves_nothing(Some(&new), now), None);
        assert_eq!(state.approves_nothing(None, now), None);
    }

    #[test]
    fn a_tick_missed_while_nobody_was_there_is_due() {
        let state = PolicyState::from_status(
            2,
            status(2, "2026-11-22T03:00:00Z"),
            at("2026-11-22T05:00:00Z"),
        );
        assert!(state.armed_since < at("2026-11-22T03:00:00Z"));
    }

    #[test]
    fn a_spec_that_changed_meanwhile_waits_for_its_next_tick() {
        let now = at("2026-11-22T05:00:00Z");
        let mut state = PolicyState::from_status(3, status(2, "2026-11-22T03:00:00Z"), now);
        assert_eq!(state.armed_since, now);
        state.arm(&spec("30d"), 3, now);
        assert_eq!(state.armed_for, Some(3));
    }

    fn spec(age: &str) -> RetentionPolicySpec {
        serde_json::from_value(serde_json::json!({
            "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}},
            "pace": {"maxDuty": if age == "30d" { 25 } else { 26 }},
            "rules": [
                {"name": "logs", "table": "logs", "column": "at", "expireAfter": age, "action": "Delete"},
                {"name": "other", "table": "other", "column": "at", "expireAfter": "1d", "action": "Delete"},
            ],
        }))
        .expect("a spec")
    }

    #[test]
    fn an_edit_forgets_the_counts_of_the_rules_whose_rows_it_changes_and_no_others() {
        let now = at("2026-11-22T05:00:00Z");
        let counted = |name: &str| RuleStatus {
            name: name.into(),
            expired_rows: Some(MeasuredRows {
                method: "Count".into(),
                exact: true,
                ..MeasuredRows::default()
            }),
            last_count: Some(CountedRows::default()),
            ..RuleStatus::default()
        };
        let mut before = status(2, "2026-11-22T06:00:00Z");
        before.rules = vec![counted("logs"), counted("other")];
        let mut state = PolicyState::from_status(2, before, now);

        state.arm(&spec("30d"), 2, now);
        assert!(
            state
                .status
                .rules
                .iter()
                .all(|rule| rule.expired_rows.is_some()),
            "a restart is no edit"
        );
        state.arm(&spec("10d"), 3, now);

        let kept: Vec<bool> = state
            .status
            .rules
            .iter()
            .map(|rule| rule.expired_rows.is_some())
            .collect();
        assert_eq!(kept, [false, true]);
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_neither_ticks_nor_audits_waiting() {
        let (before, now) = (at("2026-11-22T05:00:00Z"), at("2026-11-20T05:00:00Z"));
        let mut state = PolicyState::from_status(2, RetentionPolicyStatus::default(), before);
        state.resume_after = before;
        let interval = Duration::from_secs(900);

        state.follow_clock(interval, now);

        assert_eq!(state.armed_since, now);
        assert!(state.next_audit <= later(now, Duration::from_secs(990)));
        assert!(state.resume_after <= later(now, Duration::from_secs(330)));
    }

    #[test]
    fn a_clock_that_is_set_right_by_seconds_repeats_no_tick_and_hurries_no_audit() {
        let before = at("2026-11-22T05:00:00Z");
        let now = at("2026-11-22T04:59:58Z");
        let mut state = PolicyState::from_status(2, RetentionPolicyStatus::default(), before);
        let due = later(before, Duration::from_secs(900));
        state.next_audit = due;

        state.follow_clock(Duration::from_secs(900), now);

        assert_eq!((state.armed_since, state.next_audit), (before, due));
    }

    #[test]
    fn a_tick_that_is_still_to_come_does_not_arm_ahead() {
        let now = at("2026-11-22T05:00:00Z");
        let state = PolicyState::from_status(2, status(2, "2026-11-23T03:00:00Z"), now);
        assert_eq!(state.armed_since, now);
    }
}
