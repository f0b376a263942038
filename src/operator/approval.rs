//! Approvals: what a blocked sweep asks for, and what an annotation grants.

use jiff::Timestamp;

use super::decide::{Refused, refused};
use crate::{
    api::{
        Approval, PendingApproval, PendingRule, RetentionPolicy, RetentionPolicySpec,
        RetentionPolicyStatus,
        conditions::{MAX_MESSAGE_BYTES, shorten},
        whole_seconds,
    },
    policy::{
        approval::{
            BlockedRule, LIFETIME, approved_rows, plan_hash, plan_of, question_hash, table_identity,
        },
        cutoff::Cutoff,
    },
    sweep::{RuleEnd, RuleProgress, SweepReport, SweepState},
};

/// Of an annotation that is not understood this much is repeated.
const MAX_VALUE_BYTES: usize = 64;

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

/// Forgets a question that nobody asks any more: it has lapsed, the spec says something else, the database or a table is another
/// one, or the sweep that it would let go on is over. Its answer must not act on another plan.
pub fn drop_stale(
    status: &mut RetentionPolicyStatus,
    spec: &RetentionPolicySpec,
    generation: i64,
    unfinished: Option<&SweepState>,
    now: Timestamp,
) {
    let Some(pending) = &status.pending_approval else {
        return;
    };
    let lapsed = pending
        .expires_at
        .as_ref()
        .is_none_or(|expires| now >= expires.0);
    let plan = plan(spec, pending.database.as_deref(), &pending.rules);
    let is_asked = pending
        .plan_hash
        .as_deref()
        .is_some_and(|hash| plan_of(hash) == plan);
    let is_over = pending.sweep.as_ref().is_some_and(|id| {
        // Under a new spec it takes no approval of before.
        unfinished.is_none_or(|sweep| sweep.id != *id || sweep.generation != generation)
    });
    if lapsed || !is_asked || is_over || is_elsewhere(status, pending) {
        status.pending_approval = None;
    }
}

/// The question is about another database or table than the one that was audited last.
fn is_elsewhere(status: &RetentionPolicyStatus, pending: &PendingApproval) -> bool {
    let database = status.database.as_ref().and_then(|it| it.identity.as_ref());
    let differs = database.is_some() && database != pending.database.as_ref();
    differs
        || pending.rules.iter().any(|rule| {
            let audited = status.rules.iter().find(|it| it.name == rule.name);
            audited.is_some_and(|it| it.table_id.is_some() && it.table_id != rule.table_id)
        })
}

/// The name of the plan that `rules` of `spec` are blocked with.
fn plan(spec: &RetentionPolicySpec, database: Option<&str>, rules: &[PendingRule]) -> String {
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
        .map(|rule| table_identity(&rule.name, rule.table_id))
        .collect();
    plan_hash(spec, &named, &tables, database)
}

/// Asks once more, by another name, what was answered when nothing could be done about it: that answer is not for later.
pub fn ask_anew(status: &mut RetentionPolicyStatus, now: Timestamp) {
    if let Some(pending) = &mut status.pending_approval
        && let Some(hash) = &pending.plan_hash
    {
        pending.plan_hash = Some(question_hash(plan_of(hash), &format!("{hash} {now}")));
    }
}

/// What to say of an annotation that names no plan that waits for an approval.
#[must_use]
pub fn no_such_question(status: &RetentionPolicyStatus, annotation: &str) -> Refused {
    let pending = status.pending_approval.as_ref();
    let asked = match pending.and_then(|pending| pending.plan_hash.as_deref()) {
        Some(hash) => format!("status.pendingApproval.planHash is {hash}"),
        None => "nothing waits for an approval".to_owned(),
    };
    let annotation = shorten(annotation, MAX_VALUE_BYTES);
    refused(
        "approved-plan",
        &format!("{annotation:?} names no plan that waits for it; {asked}"),
    )
}

/// Turns the pending plan into the allowance of the sweep that now begins or goes on.
pub fn apply(status: &mut RetentionPolicyStatus, sweep: Option<&mut SweepState>, now: Timestamp) {
    let (Some(pending), Some(sweep)) = (status.pending_approval.take(), sweep) else {
        return;
    };
    sweep.database = sweep.database.take().or(pending.database);
    for rule in &pending.rules {
        let rows = rule.rows.and_then(|rows| u64::try_from(rows).ok());
        let table = rule.table_id.and_then(|id| u32::try_from(id).ok());
        let (Some(rows), Some(table)) = (rows, table) else {
            continue;
        };
        let known = sweep.rule(&rule.name);
        if known.is_some_and(|known| known.table_id.is_some_and(|id| id != table)) {
            continue;
        }
        let cutoff = rule.cutoff.as_deref().and_then(|text| text.parse().ok());
        // A sweep that begins takes the cutoff of its begin.
        let cutoff = cutoff.unwrap_or(Cutoff::Instant(Timestamp::UNIX_EPOCH));
        let mut progress = known
            .cloned()
            .unwrap_or_else(|| RuleProgress::new(rule.name.clone(), cutoff));
        progress.table_id = Some(table);
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
    sweep: &SweepState,
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
                .map(|all| rows.saturating_mul(100) / all);
            Some(PendingRule {
                name: rule.progress.name.clone(),
                rows: i64::try_from(rows).ok(),
                percent: percent.and_then(|percent| i32::try_from(percent).ok()),
                cutoff: Some(rule.progress.cutoff.to_string()),
                table_id: rule.progress.table_id.map(i64::from),
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
    learn(status, sweep, &blocked);
    let plan = plan(&policy.spec, sweep.database.as_deref(), &blocked);
    let goes_on = report.goes_on().then(|| sweep.id.clone());
    // The same question, asked again, keeps its name and its time.
    let asked = status.pending_approval.take().filter(|pending| {
        pending.sweep == goes_on
            && pending
                .plan_hash
                .as_deref()
                .is_some_and(|hash| plan_of(hash) == plan)
            && pending
                .requested_at
                .as_ref()
                .is_some_and(|asked| now.duration_since(asked.0) < LIFETIME)
    });
    let (hash, asked) = match asked {
        Some(pending) => (pending.plan_hash, pending.requested_at),
        None => {
            let question = format!("{} {now}", sweep.id);
            (
                Some(question_hash(&plan, &question)),
                Some(whole_seconds(now)),
            )
        }
    };
    let expires = asked
        .as_ref()
        .and_then(|asked| asked.0.checked_add(LIFETIME).ok())
        .unwrap_or(now);
    status.pending_approval = Some(PendingApproval {
        plan_hash: hash,
        expires_at: Some(whole_seconds(expires)),
        requested_at: asked,
        database: sweep.database.clone(),
        sweep: goes_on,
        rules: blocked,
    });
}

/// A sweep has seen the database and its tables later than the last audit.
fn learn(status: &mut RetentionPolicyStatus, sweep: &SweepState, blocked: &[PendingRule]) {
    if let Some(database) = &mut status.database {
        database.identity.clone_from(&sweep.database);
    }
    for rule in &mut status.rules {
        if let Some(seen) = blocked.iter().find(|it| it.name == rule.name) {
            rule.table_id = seen.table_id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{DatabaseStatus, RuleStatus},
        sweep::{RuleReport, Trigger},
    };

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

    /// A policy whose rule is blocked on table 16384 of database 1/2.
    fn blocked(spec: &RetentionPolicySpec) -> RetentionPolicyStatus {
        let mut status = RetentionPolicyStatus {
            database: Some(DatabaseStatus {
                identity: Some("1/2".into()),
                ..DatabaseStatus::default()
            }),
            rules: vec![RuleStatus {
                name: "logs".into(),
                table: Some("public.logs".into()),
                table_id: Some(16_384),
                ..RuleStatus::default()
            }],
            ..RetentionPolicyStatus::default()
        };
        let rules = vec![PendingRule {
            name: "logs".into(),
            rows: Some(100),
            table_id: Some(16_384),
            ..PendingRule::default()
        }];
        let plan = plan(spec, Some("1/2"), &rules);
        status.pending_approval = Some(PendingApproval {
            plan_hash: Some(question_hash(&plan, "first")),
            requested_at: Some(whole_seconds(at("2026-11-22T00:00:00Z"))),
            expires_at: Some(whole_seconds(at("2026-11-29T00:00:00Z"))),
            database: Some("1/2".into()),
            sweep: None,
            rules,
        });
        status
    }

    /// The question stands after `change`.
    fn stands(change: impl FnOnce(&mut RetentionPolicyStatus)) -> bool {
        let spec = spec("30d");
        let mut status = blocked(&spec);
        change(&mut status);
        drop_stale(&mut status, &spec, 1, None, at("2026-11-23T00:00:00Z"));
        status.pending_approval.is_some()
    }

    #[test]
    fn a_question_stands_while_the_spec_asks_it_and_for_a_week() {
        let asked = spec("30d");
        let kept = |spec: &RetentionPolicySpec, now: &str| {
            let mut status = blocked(&asked);
            drop_stale(&mut status, spec, 1, None, at(now));
            status.pending_approval.is_some()
        };
        assert!(kept(&asked, "2026-11-28T00:00:00Z"));
        assert!(!kept(&asked, "2026-11-29T00:00:00Z"));
        assert!(!kept(&spec("365d"), "2026-11-23T00:00:00Z"));
    }

    #[test]
    fn a_question_does_not_stand_for_another_table_or_database() {
        assert!(stands(|_| {}));
        assert!(!stands(|status| status.rules[0].table_id = Some(16_999)));
        assert!(!stands(|status| {
            status.database = Some(DatabaseStatus {
                identity: Some("1/3".into()),
                ..DatabaseStatus::default()
            });
        }));
    }

    #[test]
    fn a_question_outlasts_an_audit_that_could_not_be_made_and_one_that_is_still_to_come() {
        assert!(stands(|status| status.rules[0].table_id = None));
        assert!(stands(|status| {
            status.database = None;
            status.rules.clear();
        }));
    }

    #[test]
    fn a_question_of_a_sweep_that_would_go_on_is_over_with_it() {
        let spec = spec("30d");
        let sweep = SweepState::begin(Trigger::Request, at("2026-11-22T00:00:00Z"), 1);
        let kept = |unfinished: Option<&SweepState>, generation| {
            let mut status = blocked(&spec);
            if let Some(pending) = &mut status.pending_approval {
                pending.sweep = Some(sweep.id.clone());
            }
            drop_stale(
                &mut status,
                &spec,
                generation,
                unfinished,
                at("2026-11-23T00:00:00Z"),
            );
            status.pending_approval.is_some()
        };
        let other = SweepState::begin(Trigger::Request, at("2026-11-23T00:00:00Z"), 1);
        assert!(kept(Some(&sweep), 1));
        assert!(!kept(Some(&other), 1) && !kept(None, 1));
        assert!(!kept(Some(&sweep), 2), "it would lose the approval");
    }

    fn sweep() -> SweepState {
        SweepState::begin(Trigger::Approval, at("2026-11-22T03:00:00Z"), 1)
    }

    #[test]
    fn an_approval_gives_its_rows_and_a_tenth_more_on_its_table_and_database() {
        let mut status = blocked(&spec("30d"));
        let mut sweep = sweep();

        apply(&mut status, Some(&mut sweep), at("2026-11-22T03:00:00Z"));

        let rule = sweep.rule("logs").expect("the rule");
        assert_eq!(
            (rule.rows_approved, rule.table_id),
            (Some(110), Some(16_384))
        );
        assert_eq!(sweep.database.as_deref(), Some("1/2"));
        assert!(status.pending_approval.is_none() && status.last_approval.is_some());
    }

    #[test]
    fn an_approval_gives_nothing_to_a_sweep_of_another_table() {
        let mut status = blocked(&spec("30d"));
        let mut sweep = sweep();
        sweep.put(RuleProgress {
            table_id: Some(16_999),
            ..RuleProgress::new("logs", Cutoff::Instant(Timestamp::UNIX_EPOCH))
        });

        apply(&mut status, Some(&mut sweep), at("2026-11-22T03:00:00Z"));

        assert_eq!(sweep.rule("logs").expect("the rule").rows_approved, None);
    }

    fn policy(spec: RetentionPolicySpec) -> RetentionPolicy {
        RetentionPolicy::new("logs", spec)
    }

    /// What a sweep of the blocked rule reports.
    fn report() -> SweepReport {
        let progress = RuleProgress {
            table_id: Some(16_384),
            rows_at_start: Some(1_000),
            ..RuleProgress::new("logs", Cutoff::Instant(Timestamp::UNIX_EPOCH))
        };
        let end = RuleEnd::Blocked {
            reason: "100 of 1000 rows would go".into(),
            expected: 100,
            removed_holds: None,
        };
        SweepReport {
            rules: vec![RuleReport::not_begun(progress, end)],
            ..SweepReport::default()
        }
    }

    fn asked(status: &RetentionPolicyStatus) -> String {
        let pending = status.pending_approval.as_ref();
        pending
            .and_then(|pending| pending.plan_hash.clone())
            .expect("a question")
    }

    #[test]
    fn a_question_that_is_asked_again_keeps_its_name_until_it_is_answered() {
        let policy = policy(spec("30d"));
        let mut status = blocked(&policy.spec);
        status.pending_approval = None;
        let mut first = sweep();
        first.database = Some("1/2".into());
        after_sweep(
            &mut status,
            &policy,
            &first,
            &report(),
            at("2026-11-22T03:00:01Z"),
        );
        let name = asked(&status);
        let mut second = SweepState::begin(Trigger::Schedule, at("2026-11-23T03:00:00Z"), 1);
        second.database = Some("1/2".into());

        after_sweep(
            &mut status,
            &policy,
            &second,
            &report(),
            at("2026-11-23T03:00:01Z"),
        );
        assert_eq!(asked(&status), name);
        assert!(is_approved(
            &status,
            Some(&name),
            at("2026-11-23T04:00:00Z")
        ));
        apply(&mut status, Some(&mut second), at("2026-11-23T04:00:00Z"));
        after_sweep(
            &mut status,
            &policy,
            &second,
            &report(),
            at("2026-11-24T03:00:01Z"),
        );

        assert_ne!(asked(&status), name, "as many rows, but other ones");
        assert!(!is_approved(
            &status,
            Some(&name),
            at("2026-11-24T04:00:00Z")
        ));
    }

    #[test]
    fn a_question_about_a_table_that_no_audit_has_seen_yet_stands() {
        let policy = policy(spec("30d"));
        let mut status = blocked(&policy.spec);
        status.rules[0].table_id = Some(7);
        let mut sweep = sweep();
        sweep.database = Some("1/3".into());
        let now = at("2026-11-22T03:00:01Z");

        after_sweep(&mut status, &policy, &sweep, &report(), now);
        drop_stale(&mut status, &policy.spec, 1, None, now);

        let pending = status.pending_approval.expect("a question");
        assert_eq!(pending.database.as_deref(), Some("1/3"));
        assert_eq!(pending.rules[0].table_id, Some(16_384));
    }

    #[test]
    fn an_answer_that_came_when_nothing_could_be_done_is_not_for_later() {
        let mut status = blocked(&spec("30d"));
        let name = asked(&status);
        let now = at("2026-11-23T00:00:00Z");

        ask_anew(&mut status, now);

        assert!(!is_approved(&status, Some(&name), now));
        drop_stale(&mut status, &spec("30d"), 1, None, now);
        assert!(is_approved(&status, Some(&asked(&status)), now));
    }
}
