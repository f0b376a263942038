//! Approvals: what a blocked sweep asks for, and what an annotation grants.

use jiff::Timestamp;

use crate::{
    api::{
        Approval, PendingApproval, PendingRule, RetentionPolicy, RetentionPolicySpec,
        RetentionPolicyStatus,
        conditions::{MAX_MESSAGE_BYTES, shorten},
        whole_seconds,
    },
    policy::approval::{BlockedRule, LIFETIME, approved_rows, plan_hash, table_identity},
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

/// Forgets a question that the spec no longer asks, or that has lapsed: its answer must not act on another plan.
pub fn drop_stale(status: &mut RetentionPolicyStatus, spec: &RetentionPolicySpec, now: Timestamp) {
    let Some(pending) = &status.pending_approval else {
        return;
    };
    let lapsed = pending
        .expires_at
        .as_ref()
        .is_none_or(|expires| now >= expires.0);
    if lapsed
        || pending.plan_hash.as_deref() != Some(question(status, spec, &pending.rules).as_str())
    {
        status.pending_approval = None;
    }
}

/// The name of the plan that `rules` of `spec` are blocked with, by what the status knows of tables and database.
fn question(
    status: &RetentionPolicyStatus,
    spec: &RetentionPolicySpec,
    rules: &[PendingRule],
) -> String {
    let named: Vec<BlockedRule<'_>> = rules
        .iter()
        .map(|rule| BlockedRule {
            name: &rule.name,
            rows: rule
                .rows
                .and_then(|rows| u64::try_from(rows).ok())
                .unwrap_or(0),
            removed_holds: rule.removed_holds.as_deref(),
        })
        .collect();
    let tables: Vec<String> = rules
        .iter()
        .filter_map(|rule| status.rules.iter().find(|status| status.name == rule.name))
        .filter_map(|status| Some(table_identity(status.table.as_ref()?, status.table_id)))
        .collect();
    let identity = status
        .database
        .as_ref()
        .and_then(|database| database.identity.as_deref());
    plan_hash(spec, &named, &tables, identity)
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
            let (rows, removed_holds) = rule.asks_for(report.goes_on())?;
            let RuleEnd::Blocked { reason, .. } = &rule.end else {
                return None;
            };
            let percent = rule
                .progress
                .rows_at_start
                .filter(|rows| *rows > 0)
                .map(|all| rows.saturating_mul(100).div_ceil(all));
            Some(PendingRule {
                name: rule.progress.name.clone(),
                rows: i64::try_from(rows).ok(),
                percent: percent.and_then(|percent| i32::try_from(percent).ok()),
                cutoff: Some(rule.progress.cutoff.to_string()),
                reason: Some(shorten(reason, MAX_MESSAGE_BYTES)),
                removed_holds: removed_holds.map(str::to_owned),
            })
        })
        .collect();
    if blocked.is_empty() {
        if report.stopped().is_none() && report.barred.is_none() {
            status.pending_approval = None;
        }
        return;
    }
    let hash = question(status, &policy.spec, &blocked);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::RuleStatus;

    fn spec(age: &str) -> RetentionPolicySpec {
        serde_json::from_value(serde_json::json!({
            "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}},
            "rules": [{"name": "logs", "table": "logs", "column": "at", "expireAfter": age, "action": "Delete"}],
        }))
        .expect("a spec")
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    fn blocked(spec: &RetentionPolicySpec) -> RetentionPolicyStatus {
        let mut status = RetentionPolicyStatus {
            rules: vec![RuleStatus {
                name: "logs".into(),
                table: Some("public.logs".into()),
                ..RuleStatus::default()
            }],
            ..RetentionPolicyStatus::default()
        };
        let rules = vec![PendingRule {
            name: "logs".into(),
            rows: Some(100),
            ..PendingRule::default()
        }];
        status.pending_approval = Some(PendingApproval {
            plan_hash: Some(question(&status, spec, &rules)),
            requested_at: Some(whole_seconds(at("2026-11-22T00:00:00Z"))),
            expires_at: Some(whole_seconds(at("2026-11-29T00:00:00Z"))),
            rules,
        });
        status
    }

    #[test]
    fn a_question_stands_while_the_spec_asks_it_and_for_a_week() {
        let asked = spec("30d");
        let kept = |spec: &RetentionPolicySpec, now: &str| {
            let mut status = blocked(&asked);
            drop_stale(&mut status, spec, at(now));
            status.pending_approval.is_some()
        };
        assert!(kept(&asked, "2026-11-28T00:00:00Z"));
        assert!(!kept(&asked, "2026-11-29T00:00:00Z"));
        assert!(!kept(&spec("365d"), "2026-11-23T00:00:00Z"));
    }

    #[test]
    fn a_question_does_not_stand_for_a_table_that_was_made_anew_under_the_name() {
        let spec = spec("30d");
        let kept = |now: Option<i64>| {
            let mut status = blocked(&spec);
            status.rules[0].table_id = Some(16_384);
            let rules = status.pending_approval.take().expect("a question").rules;
            status.pending_approval = Some(PendingApproval {
                plan_hash: Some(question(&status, &spec, &rules)),
                expires_at: Some(whole_seconds(at("2026-11-29T00:00:00Z"))),
                rules,
                ..PendingApproval::default()
            });
            status.rules[0].table_id = now;
            drop_stale(&mut status, &spec, at("2026-11-23T00:00:00Z"));
            status.pending_approval.is_some()
        };
        assert!(kept(Some(16_384)));
        assert!(!kept(Some(16_999)));
    }

    #[test]
    fn an_approval_gives_its_rows_and_a_tenth_more_and_leaves_the_cutoff_to_the_sweep() {
        let mut status = blocked(&spec("30d"));
        if let Some(pending) = &mut status.pending_approval {
            pending.rules[0].cutoff = Some("2026-10-23T00:00:00Z".into());
        }
        let mut sweep = SweepState::begin(
            crate::sweep::Trigger::Approval,
            at("2026-11-22T03:00:00Z"),
            1,
        );
        apply(&mut status, Some(&mut sweep), at("2026-11-22T03:00:00Z"));
        let rule = sweep.rule("logs").expect("the rule");
        assert_eq!((rule.rows_approved, rule.table_id), (Some(110), None));
        assert!(status.pending_approval.is_none() && status.last_approval.is_some());
    }
}
