//! Approvals: what a blocked sweep asks for, and what an annotation grants.

use jiff::Timestamp;

use crate::{
    api::{
        Approval, PendingApproval, PendingRule, RetentionPolicy, RetentionPolicyStatus,
        conditions::{MAX_MESSAGE_BYTES, shorten},
        whole_seconds,
    },
    policy::approval::{LIFETIME, approved_rows, plan_hash},
    sweep::{RuleEnd, RuleProgress, SweepReport, SweepState},
};

/// The annotation names the pending plan, which has not lapsed.
#[must_use]
pub fn is_approved(
    status: &RetentionPolicyStatus,
    annotation: Option<&String>,
    now: Timestamp,
) -> bool {
    let (Some(pending), Some(approved)) = (&status.pending_approval, annotation) else {
        return false;
    };
    pending.plan_hash.as_ref() == Some(approved)
        && pending
            .expires_at
            .as_ref()
            .is_some_and(|expires| now < expires.0)
}

/// Turns the pending plan into the allowance of the sweep that now begins.
pub fn apply(status: &mut RetentionPolicyStatus, sweep: Option<&mut SweepState>, now: Timestamp) {
    let (Some(pending), Some(sweep)) = (status.pending_approval.take(), sweep) else {
        return;
    };
    for rule in &pending.rules {
        let rows = rule.rows.and_then(|rows| u64::try_from(rows).ok());
        let cutoff = rule
            .cutoff
            .as_deref()
            .and_then(|cutoff| cutoff.parse().ok());
        let (Some(rows), Some(cutoff)) = (rows, cutoff) else {
            continue;
        };
        let mut progress = sweep
            .rule(&rule.name)
            .cloned()
            .unwrap_or_else(|| RuleProgress::new(rule.name.clone(), cutoff));
        progress.rows_approved = Some(approved_rows(rows));
        progress.done = false;
        sweep.put(progress);
    }
    status.last_approval = Some(Approval {
        plan_hash: pending.plan_hash,
        time: Some(whole_seconds(now)),
    });
}

/// Asks for an approval when a rule is blocked, and no longer when none is.
pub fn after_sweep(
    status: &mut RetentionPolicyStatus,
    policy: &RetentionPolicy,
    report: &SweepReport,
    now: Timestamp,
) {
    let blocked: Vec<PendingRule> = report
        .rules
        .iter()
        .filter_map(|rule| {
            let RuleEnd::Blocked { reason, expected } = &rule.end else {
                return None;
            };
            let percent = rule
                .progress
                .rows_at_start
                .filter(|rows| *rows > 0)
                .map(|rows| expected.saturating_mul(100).div_ceil(rows));
            Some(PendingRule {
                name: rule.progress.name.clone(),
                rows: i64::try_from(*expected).ok(),
                percent: percent.and_then(|percent| i32::try_from(percent).ok()),
                cutoff: Some(rule.progress.cutoff.to_string()),
                reason: Some(shorten(reason, MAX_MESSAGE_BYTES)),
            })
        })
        .collect();
    if blocked.is_empty() {
        if report.stopped().is_none() {
            status.pending_approval = None;
        }
        return;
    }
    let names: Vec<&str> = blocked.iter().map(|rule| rule.name.as_str()).collect();
    let tables: Vec<String> = names
        .iter()
        .filter_map(|name| status.rules.iter().find(|rule| rule.name == *name))
        .filter_map(|rule| rule.table.clone())
        .collect();
    let identity = status
        .database
        .as_ref()
        .and_then(|database| database.identity.clone());
    let hash = plan_hash(&policy.spec, &names, &tables, identity.as_deref());
    // The same question, asked again, keeps its answer's time.
    let asked = status
        .pending_approval
        .take()
        .filter(|pending| pending.plan_hash.as_deref() == Some(hash.as_str()))
        .and_then(|pending| pending.requested_at)
        .filter(|asked| now.duration_since(asked.0) < LIFETIME)
        .unwrap_or_else(|| whole_seconds(now));
    let expires = asked.0.checked_add(LIFETIME).unwrap_or(Timestamp::MAX);
    status.pending_approval = Some(PendingApproval {
        plan_hash: Some(hash),
        expires_at: Some(whole_seconds(expires)),
        requested_at: Some(asked),
        rules: blocked,
    });
}
