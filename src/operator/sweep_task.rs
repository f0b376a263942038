//! A sweep as a task of its own: it asks before every chunk whether it may go on, and records its progress before it goes
//! beyond what is recorded.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::{
    context::{Context, PublishError},
    database::{self, DatabaseError},
    decide::{StartSweep, later},
    events::{self, Kind},
    neighbours::{self, Bound},
    state::{PolicyState, Running, Tracked},
};
use crate::{
    api::{
        RetentionPolicy, RetentionPolicyStatus, SweepStatus,
        conditions::{MAX_MESSAGE_BYTES, shorten},
        whole_seconds,
    },
    engine::Chunk,
    policy::{
        approval::spec_mark,
        check::{CheckedPolicy, reason},
    },
    report,
    sweep::{
        Control, ControlError, Order, Outcome, RuleProgress, StopReason, SweepError, SweepReport,
        SweepState, Trigger, sweep_policy,
    },
    telemetry::metrics::OutcomeLabel,
};

/// A long rest looks up this often whether the sweep has to stop.
const GLANCE: Duration = Duration::from_millis(200);
/// A sweep whose progress could not be recorded, or whose database went away, is taken up again after this long at least.
const RESUME_AFTER: Duration = Duration::from_secs(30);

/// Starts or resumes the sweep in `state.unfinished`.
pub fn spawn(
    context: Arc<Context>,
    tracked: Arc<Tracked>,
    policy: Arc<RetentionPolicy>,
    checked: Arc<CheckedPolicy>,
    start: StartSweep,
    state: &mut PolicyState,
    now: Timestamp,
) {
    let Some(sweep) = state.unfinished.clone() else {
        return;
    };
    state.running = Some(Running {
        since: now,
        rule: None,
        waiting: None,
        shown: state.last_try.is_none(),
    });
    let last_try = state.last_try.clone();
    let tasks = context.tasks.clone();
    let watched = tracked.clone();
    tasks.spawn(async move {
        let task = SweepTask {
            context,
            tracked,
            policy,
            checked,
            until: start.until,
            resumed: start.resume,
            last_try,
            begun: AtomicBool::new(false),
            bound: Mutex::default(),
        };
        let work = tokio::spawn(async move { task.run(sweep).await });
        if work.await.is_err() {
            // A defect of ours: the policy must not be called sweeping for ever.
            tracing::error!(policy = %watched.object, "the sweep's task broke off");
            let mut state = watched.state.lock().await;
            state.running = None;
            state.resume_after = later(Timestamp::now(), database::backoff(10));
        }
    });
}

struct SweepTask {
    context: Arc<Context>,
    tracked: Arc<Tracked>,
    policy: Arc<RetentionPolicy>,
    checked: Arc<CheckedPolicy>,
    until: Option<Timestamp>,
    resumed: bool,
    /// How the try before this one ended, which did not begin either.
    last_try: Option<(Outcome, String)>,
    begun: AtomicBool,
    /// What the sweep was planned with; `None`: it was not yet.
    bound: Mutex<Option<Bound>>,
}

/// Why a sweep did not come to a report.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Sweep(#[from] SweepError),
    #[error("stopped before it began: {0}")]
    Stopped(StopReason),
}

impl SweepTask {
    async fn run(&self, mut sweep: SweepState) {
        if self.last_try.is_none() {
            self.say_that_it_begins(&sweep).await;
        }
        self.context.metrics.sweeps_running.inc();
        let result = self.sweep(&mut sweep).await;
        self.context.metrics.sweeps_running.dec();
        self.finish(sweep, result).await;
        self.tracked.look_again();
    }

    async fn say_that_it_begins(&self, sweep: &SweepState) {
        let (reason, begins) = if self.resumed {
            ("SweepResumed", "goes on")
        } else {
            ("SweepStarted", "begins")
        };
        let note = format!("sweep {} {begins}", sweep.id);
        self.event(Kind::Normal, reason, &note).await;
    }

    async fn sweep(&self, sweep: &mut SweepState) -> Result<SweepReport, Failure> {
        // The database's session first: a slot that is held while waiting for one busy database would keep all others waiting.
        let connected = tokio::select! {
            connected = database::connect(&self.context, &self.policy, &self.checked) => connected?,
            () = self.context.stopping.cancelled() => return Err(DatabaseError::Ending.into()),
        };
        let _slot = tokio::select! {
            slot = self.context.sweep_slots.clone().acquire_owned() => slot.map_err(|_| DatabaseError::Ending)?,
            () = self.context.stopping.cancelled() => return Err(DatabaseError::Ending.into()),
        };
        let facts = connected.engine.facts().await;
        let identity = facts.map_err(SweepError::from)?.identity;
        self.bind(identity);
        // An older spec would enter its claims and holds, and take those that were added since for removed ones.
        if let Some(reason) = self.stop() {
            connected.engine.close().await;
            return Err(Failure::Stopped(reason));
        }
        let around = neighbours::around(&self.context, &self.tracked, &self.policy);
        let approved = match sweep.trigger {
            Trigger::Approval => {
                let state = self.tracked.state.lock().await;
                let approval = state.status.last_approval.as_ref();
                approval.and_then(|approval| approval.plan_hash.clone())
            }
            _ => None,
        };
        let order = Order {
            around: &around,
            generation: self.policy.metadata.generation.unwrap_or_default(),
            spec: &spec_mark(&self.policy.spec),
            approved_plan: approved.as_deref(),
            clock: Timestamp::now,
        };
        let report = sweep_policy(
            connected.engine.as_ref(),
            &self.checked,
            &order,
            sweep,
            self,
        )
        .await;
        connected.engine.close().await;
        Ok(report?)
    }

    async fn finish(&self, mut sweep: SweepState, result: Result<SweepReport, Failure>) {
        let now = Timestamp::now();
        let again = goes_on(&result, &sweep);
        let how = match &result {
            Ok(report) => (report.outcome(), report.message()),
            Err(failure) => (failure.outcome(), failure.to_string()),
        };
        let stopped = match &result {
            Ok(report) => report.stopped(),
            Err(Failure::Stopped(reason)) => Some(*reason),
            Err(_) => None,
        };
        // A stop is no failure: the next look decides whether it may go on.
        let in_vain = result.as_ref().is_ok_and(SweepReport::was_in_vain);
        let of_the_moment = stopped.is_some_and(StopReason::is_of_the_moment) && !in_vain;
        let mut state = self.tracked.state.lock().await;
        state.running = None;
        let idle = again && !of_the_moment && !self.begun.load(Ordering::Acquire);
        if idle && self.last_try.as_ref() == Some(&how) {
            state.unfinished = Some(sweep);
            state.sweep_failures = state.sweep_failures.saturating_add(1);
            state.resume_after = resume_after(now, state.sweep_failures);
            tracing::debug!(policy = %self.tracked.object, message = how.1, "the sweep still cannot begin");
            drop(state);
            self.count(how.0);
            return;
        }
        state.last_try = idle.then(|| how.clone());
        let unreachable = result.as_ref().is_err_and(Failure::is_of_the_database);
        if result.is_ok() || (unreachable && state.trouble.is_none()) {
            // The numbers have changed, or whether the database can be reached: look at it soon.
            state.next_audit = now;
        }
        let (outcome, message) = how;
        match &result {
            Ok(report) => {
                report::apply_sweep(&mut state.status, &mut sweep, report, now);
                super::approval::after_sweep(&mut state.status, &self.policy, &sweep, report, now);
            }
            Err(_) => apply_failure(&mut state.status, &sweep, outcome, &message, now),
        }
        state.unfinished = again.then_some(sweep);
        if of_the_moment {
            state.sweep_failures = 0;
            state.resume_after = now;
        } else if again {
            state.sweep_failures = state.sweep_failures.saturating_add(1);
            state.resume_after = resume_after(now, state.sweep_failures);
        } else {
            state.sweep_failures = 0;
        }
        self.publish(&mut state, now).await;
        drop(state);
        self.count(outcome);
        tracing::info!(policy = %self.tracked.object, outcome = outcome.as_str(), message, "the sweep ended");
        let (kind, reason) = match outcome {
            Outcome::Succeeded => (Kind::Normal, "SweepSucceeded"),
            Outcome::Cancelled => (Kind::Normal, "SweepCancelled"),
            Outcome::Partial => (Kind::Normal, "SweepPartial"),
            Outcome::Blocked => (Kind::Warning, "SweepBlocked"),
            Outcome::Failed => (Kind::Warning, "SweepFailed"),
            Outcome::Skipped => (Kind::Warning, "SweepSkipped"),
        };
        self.event(kind, reason, &message).await;
    }

    /// Tries for a while: what a sweep did should not be lost because the API server is restarting. What remains
    /// unpublished is published by the next look.
    async fn publish(&self, state: &mut PolicyState, now: Timestamp) {
        self.compose(state, now);
        for attempt in 0..5_u32 {
            match state.publish(&self.context, &self.tracked, now).await {
                Ok(()) => return,
                Err(error @ PublishError::Superseded) => {
                    tracing::warn!(%error, "the sweep's result is left to the one who goes on with it");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, attempt, "the sweep's result could not be published yet")
                }
            }
            tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
        }
    }

    /// A sweep of an older spec says what it did; what that means for the new one is for the next look to say.
    fn compose(&self, state: &mut PolicyState, now: Timestamp) {
        let generation = self.policy.metadata.generation.unwrap_or_default();
        let current = self.tracked.store.get(&self.tracked.object);
        let judges = current.is_some_and(|current| {
            current
                .0
                .as_ref()
                .is_ok_and(|current| current.metadata.generation == Some(generation))
        });
        if !judges {
            state.compose_sweep();
            return;
        }
        let schedule = self
            .checked
            .schedule
            .as_ref()
            .filter(|_| self.checked.enforced);
        let next = schedule.and_then(|schedule| schedule.next_after(now));
        state.compose(&self.checked, generation, next, now);
    }

    fn count(&self, outcome: Outcome) {
        let outcome = outcome.as_str();
        let sweeps = &self.context.metrics.sweeps;
        sweeps.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    async fn event(&self, kind: Kind, reason: &str, note: &str) {
        events::publish(&self.context, &self.policy.metadata, kind, reason, note).await;
    }
}

fn resume_after(now: Timestamp, failures: u32) -> Timestamp {
    later(now, RESUME_AFTER.max(database::backoff(failures)))
}

/// Is the sweep taken up again? One that took rows, or that somebody approved, keeps its id, its cutoffs and what its limits
/// leave until its database can be reached and written to, and its ledger used, once more.
fn goes_on(result: &Result<SweepReport, Failure>, sweep: &SweepState) -> bool {
    let has_begun = || sweep.rules.iter().any(RuleProgress::has_begun);
    match result {
        Ok(SweepReport {
            barred: Some(refusal),
            ..
        }) => refusal.reason == reason::NOT_PRIMARY || has_begun(),
        Ok(report) => report.goes_on(),
        Err(failure) => failure.goes_on() || (!failure.is_final() && has_begun()),
    }
}

impl Failure {
    /// The sweep cannot go on, whatever becomes right again.
    fn is_final(&self) -> bool {
        match self {
            Self::Sweep(SweepError::Refused(refusal)) => refusal.reason == reason::ANOTHER_DATABASE,
            Self::Stopped(reason) => *reason == StopReason::PolicyDeleted,
            _ => false,
        }
    }

    /// The database did not answer as it should: nobody let the operator in, or the connection ended.
    fn is_of_the_database(&self) -> bool {
        matches!(
            self,
            Self::Database(DatabaseError::Resolve(_) | DatabaseError::Engine(_))
                | Self::Sweep(SweepError::Engine(_))
        )
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Sweep(SweepError::Refused(_)) => Outcome::Skipped,
            Self::Database(DatabaseError::Ending) | Self::Stopped(_) => Outcome::Cancelled,
            _ => Outcome::Failed,
        }
    }

    /// The sweep itself is not at fault: it is taken up again.
    fn goes_on(&self) -> bool {
        match self {
            Self::Database(DatabaseError::Ending) | Self::Sweep(SweepError::Unrecorded(_)) => true,
            Self::Stopped(reason) => *reason != StopReason::PolicyDeleted,
            // Begun when the pause or the failover is over, should its window still be open then.
            Self::Sweep(SweepError::Refused(refusal)) => {
                [reason::PAUSED, reason::NOT_PRIMARY].contains(&refusal.reason)
            }
            Self::Database(DatabaseError::Engine(error))
            | Self::Sweep(SweepError::Engine(error)) => error.is_transient(),
            Self::Database(
                DatabaseError::Broken | DatabaseError::Outdated | DatabaseError::Resolve(_),
            ) => false,
        }
    }
}

fn apply_failure(
    status: &mut RetentionPolicyStatus,
    sweep: &SweepState,
    outcome: Outcome,
    message: &str,
    now: Timestamp,
) {
    let done: u64 = sweep.rules.iter().map(|rule| rule.rows_done).sum();
    let archived: u64 = sweep.rules.iter().map(|rule| rule.rows_archived).sum();
    status.last_sweep = Some(SweepStatus {
        id: Some(sweep.id.clone()),
        trigger: Some(sweep.trigger.as_str().to_owned()),
        start_time: Some(whole_seconds(sweep.started)),
        completion_time: Some(whole_seconds(now)),
        outcome: Some(outcome.as_str().to_owned()),
        rows_deleted: Some(i64::try_from(done).unwrap_or(i64::MAX)),
        rows_archived: Some(i64::try_from(archived).unwrap_or(i64::MAX)),
        message: Some(shorten(message, MAX_MESSAGE_BYTES)),
        ..SweepStatus::default()
    });
}

#[async_trait]
impl Control for SweepTask {
    fn stop(&self) -> Option<StopReason> {
        if self.context.leadership_lost.is_cancelled() || self.tracked.is_superseded() {
            return Some(StopReason::LeadershipLost);
        }
        if self.context.stopping.is_cancelled() {
            return Some(StopReason::Shutdown);
        }
        let Some(current) = self.tracked.store.get(&self.tracked.object) else {
            return Some(StopReason::PolicyDeleted);
        };
        let Ok(current) = &current.0 else {
            return Some(StopReason::PolicyChanged);
        };
        if current.uid().as_deref() != Some(self.tracked.uid.as_str())
            || current.metadata.deletion_timestamp.is_some()
        {
            return Some(StopReason::PolicyDeleted);
        }
        if current.spec.suspend {
            return Some(StopReason::Suspended);
        }
        if current.metadata.generation != self.policy.metadata.generation {
            return Some(StopReason::PolicyChanged);
        }
        if self.holds_more() {
            return Some(StopReason::HoldsChanged);
        }
        if self.until.is_some_and(|until| Timestamp::now() >= until) {
            return Some(StopReason::WindowClosed);
        }
        None
    }

    async fn rest(&self, rest: Duration) {
        let end = Instant::now() + rest;
        while Instant::now() < end && self.stop().is_none() {
            tokio::select! {
                () = tokio::time::sleep_until(end.min(Instant::now() + GLANCE)) => {}
                () = self.context.stopping.cancelled() => return,
            }
        }
    }

    async fn begun(&self, sweep: &SweepState) -> Result<(), ControlError> {
        let first = !self.begun.swap(true, Ordering::AcqRel);
        if first && self.last_try.is_some() {
            self.say_that_it_begins(sweep).await;
        }
        self.write_down(|state| {
            state.unfinished = Some(sweep.clone());
            if let Some(running) = &mut state.running {
                running.shown = true;
            }
        })
        .await
    }

    async fn record(&self, progress: &RuleProgress) -> Result<(), ControlError> {
        self.write_down(|state| {
            if let Some(unfinished) = &mut state.unfinished {
                unfinished.put(progress.clone());
            }
            if let Some(running) = &mut state.running {
                running.rule = Some(progress.clone());
            }
        })
        .await
    }

    fn advanced(&self, progress: &RuleProgress, chunk: Chunk, took: Duration) {
        self.context.metrics.rows_deleted.inc_by(chunk.taken());
        self.context
            .metrics
            .rows_archived
            .inc_by(chunk.archived_rows);
        self.context
            .metrics
            .chunk_seconds
            .observe(took.as_secs_f64());
        self.show(progress, None);
    }

    fn waits(&self, progress: &RuleProgress, reason: &str) {
        self.show(progress, Some(reason));
    }
}

impl SweepTask {
    /// Takes down whose holds bind the sweep, just before it is planned with them.
    fn bind(&self, identity: String) {
        let bound = self.context.neighbours.bind(&self.tracked.object, identity);
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = Some(bound);
    }

    /// Another policy holds what it did not hold when the sweep was planned.
    fn holds_more(&self) -> bool {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let neighbours = &self.context.neighbours;
        bound
            .as_mut()
            .is_some_and(|bound| neighbours.bind_more(bound))
    }

    /// The next look publishes it; when somebody else is looking right now, this one is left out.
    fn show(&self, progress: &RuleProgress, waiting_for: Option<&str>) {
        if let Ok(mut state) = self.tracked.state.try_lock() {
            if let Some(unfinished) = &mut state.unfinished {
                unfinished.put(progress.clone());
            }
            if let Some(running) = &mut state.running {
                running.rule = Some(progress.clone());
                running.waiting = waiting_for.map(str::to_owned);
            }
        }
    }
}

impl SweepTask {
    async fn write_down(
        &self,
        change: impl FnOnce(&mut PolicyState) + Send,
    ) -> Result<(), ControlError> {
        let now = Timestamp::now();
        let mut state = self.tracked.state.lock().await;
        change(&mut state);
        self.compose(&mut state, now);
        state
            .publish(&self.context, &self.tracked, now)
            .await
            .map_err(|error| ControlError(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
