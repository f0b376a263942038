//! An audit as a task of its own, whose end asks for another look at the policy.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    context::Context,
    database::{self, DatabaseError},
    decide::later,
    neighbours,
    state::{PolicyState, Tracked},
};
use crate::{
    api::RetentionPolicy,
    audit::{self, AuditReport},
    policy::check::CheckedPolicy,
    report::{self, Trouble},
    telemetry::metrics::{Metrics, OutcomeLabel},
};

/// Starts an audit; the caller has marked it as running.
pub fn spawn(
    context: Arc<Context>,
    tracked: Arc<Tracked>,
    policy: Arc<RetentionPolicy>,
    checked: Arc<CheckedPolicy>,
) {
    let tasks = context.tasks.clone();
    tasks.spawn(async move {
        let work = {
            let (context, tracked) = (context.clone(), tracked.clone());
            let (policy, checked) = (policy.clone(), checked.clone());
            tokio::spawn(async move {
                tokio::select! {
                    result = run(&context, &tracked, &policy, &checked) => result,
                    () = context.stopping.cancelled() => Err(DatabaseError::Ending),
                }
            })
        };
        // A task that breaks off is a defect of ours; the policy is audited again with backoff.
        let result = work.await.unwrap_or(Err(DatabaseError::Broken));
        if let Ok(report) = &result {
            let identity = &report.facts.identity;
            context
                .neighbours
                .audited(&tracked.object, &policy, identity);
        }
        let mut state = tracked.state.lock().await;
        finish(
            &context.metrics,
            &mut state,
            &policy,
            &checked,
            result,
            Timestamp::now(),
        );
        drop(state);
        tracked.look_again();
    });
}

async fn run(
    context: &Context,
    tracked: &Tracked,
    policy: &RetentionPolicy,
    checked: &CheckedPolicy,
) -> Result<AuditReport, DatabaseError> {
    // The database's session first: a slot that is held while waiting for one busy database would keep all others waiting.
    let connected = database::connect(context, policy, checked).await?;
    let Ok(_slot) = context.audit_slots.clone().acquire_owned().await else {
        return Err(DatabaseError::Ending);
    };
    // An older spec would enter its claims and holds, and take those that were added since for removed ones.
    if !tracked.is_current(policy) {
        return Err(DatabaseError::Outdated);
    }
    let around = neighbours::around(context, tracked, policy);
    let report = audit::audit(connected.engine.as_ref(), checked, &around).await;
    connected.engine.close().await;
    Ok(report?)
}

fn finish(
    metrics: &Metrics,
    state: &mut PolicyState,
    policy: &RetentionPolicy,
    checked: &CheckedPolicy,
    result: Result<AuditReport, DatabaseError>,
    now: Timestamp,
) {
    let generation = policy.metadata.generation.unwrap_or_default();
    let namespace = policy.namespace().unwrap_or_default();
    let name = policy.name_any();
    state.auditing = false;
    state.audited_generation = Some(generation);
    let outcome = match &result {
        Ok(_) => "ok",
        Err(error) => error.category(),
    };
    metrics
        .audits
        .get_or_create(&OutcomeLabel { outcome })
        .inc();
    match result {
        Ok(mut audit) => {
            state.failures = 0;
            state.trouble = None;
            state.next_audit = later(now, database::jittered(checked.audit_interval));
            report::apply_audit(&mut state.status, &audit, now);
            tracing::info!(
                namespace,
                name,
                expired = state.status.expired_rows,
                "audited"
            );
            // Status has what it shows of them; thousands of others would only lie in memory.
            audit.findings = None;
            audit.forget_statistics();
            state.audit = Some((generation, audit));
        }
        Err(DatabaseError::Ending | DatabaseError::Outdated) => {}
        Err(error) => {
            let trouble = error.trouble();
            if state.trouble.as_ref() != Some(&trouble) {
                tracing::warn!(namespace, name, %error, "the audit failed");
            }
            state.failures = state.failures.saturating_add(1);
            // What needs a human is looked at again at the usual pace; what needs time, sooner at first.
            let wait = match trouble {
                Trouble::Refused(_) => database::jittered(checked.audit_interval),
                Trouble::Unreachable { .. } => database::backoff(state.failures),
            };
            state.next_audit = later(now, wait);
            state.trouble = Some(trouble);
        }
    }
}
