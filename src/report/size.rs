//! Keeps a status small: etcd and every watcher of the cluster carry it along.

use super::packed;
use crate::api::{RetentionPolicyStatus, RuleStatus, conditions::shorten};

/// Bytes of a status as JSON.
pub const MAX_STATUS_BYTES: usize = 32 * 1024;

/// What messages are cut down to where there is no room.
const SHORT_MESSAGE_BYTES: usize = 64;
/// What objects and evidence of a finding may take; their ids stay whole, as people copy them.
const FINDING_TEXT_BYTES: usize = 192;

/// Makes a status fit into [`MAX_STATUS_BYTES`], as far as it can be done without counts and without what a stopped sweep goes on
/// with: first the trend gives way, the oldest point first, then findings, the least grave first, then the length of messages. Only
/// where many rules have the longest names there are, the stopped sweep is packed, and what the next audit or sweep says anew goes
/// too: messages, what is known of the use of tables, the times of the oldest and the newest row, and as of when a number is.
pub fn fit(status: &mut RetentionPolicyStatus) {
    for finding in status.findings.iter_mut().flat_map(|it| &mut it.top) {
        for text in [&mut finding.object, &mut finding.evidence] {
            *text = text.take().map(|text| shorten(&text, FINDING_TEXT_BYTES));
        }
    }
    let mut excess = excess_of(status);
    while excess > 0 && !status.trend.is_empty() {
        status.trend.remove(0);
        excess = excess_of(status);
    }
    while excess > 0 && drop_finding(status) {
        excess = excess_of(status);
    }
    let steps: [fn(&mut RetentionPolicyStatus); 8] = [
        shorten_messages,
        |status| status.unfinished_sweep.iter_mut().for_each(packed::pack),
        drop_messages,
        |status| each_rule(status, |rule| rule.last_used = None),
        |status| each_rule(status, |rule| (rule.oldest, rule.newest) = (None, None)),
        drop_ages,
        drop_repeated_cutoffs,
        |status| each_rule(status, |rule| rule.last_count = None),
    ];
    for step in steps {
        if excess_of(status) == 0 {
            return;
        }
        step(status);
    }
}

fn excess_of(status: &RetentionPolicyStatus) -> usize {
    // A status that is no JSON cannot be written anyway, and says so there.
    serde_json::to_vec(status).map_or(0, |json| json.len().saturating_sub(MAX_STATUS_BYTES))
}

fn drop_finding(status: &mut RetentionPolicyStatus) -> bool {
    let Some(findings) = &mut status.findings else {
        return false;
    };
    let dropped = findings.top.pop().is_some();
    if dropped {
        findings.truncated = Some(findings.truncated.unwrap_or(0).saturating_add(1));
    }
    dropped
}

fn shorten_messages(status: &mut RetentionPolicyStatus) {
    for condition in &mut status.conditions {
        condition.message = shorten(&condition.message, SHORT_MESSAGE_BYTES);
    }
    each_message(status, |message| {
        Some(shorten(&message, SHORT_MESSAGE_BYTES))
    });
}

/// The reasons stay, and the conditions' messages.
fn drop_messages(status: &mut RetentionPolicyStatus) {
    each_message(status, |_| None);
}

fn each_message(status: &mut RetentionPolicyStatus, change: impl Fn(String) -> Option<String>) {
    let of_rules = status.rules.iter_mut().flat_map(|rule| {
        let reason = rule.last_used.as_mut().map(|used| &mut used.reason);
        [Some(&mut rule.message), reason]
    });
    let of_questions = status
        .pending_approval
        .iter_mut()
        .flat_map(|it| &mut it.rules);
    let of_sweep = status.last_sweep.as_mut().map(|sweep| &mut sweep.message);
    let all = of_rules
        .flatten()
        .chain(of_questions.map(|rule| &mut rule.reason))
        .chain(of_sweep);
    for message in all {
        *message = message.take().and_then(&change);
    }
}

fn each_rule(status: &mut RetentionPolicyStatus, change: fn(&mut RuleStatus)) {
    status.rules.iter_mut().for_each(change);
}

fn drop_ages(status: &mut RetentionPolicyStatus) {
    each_rule(status, |rule| {
        let counts = [
            &mut rule.rows,
            &mut rule.expired_rows,
            &mut rule.blocked_rows,
            &mut rule.unreadable_rows,
        ];
        for count in counts.into_iter().flatten() {
            count.as_of = None;
        }
    });
}

/// Cutoffs of the rules that a question is about stand in the rules, too, and those of a stopped sweep in what it goes on with.
fn drop_repeated_cutoffs(status: &mut RetentionPolicyStatus) {
    if status.unfinished_sweep.is_some() {
        each_rule(status, |rule| rule.cutoff = None);
    }
    for rule in status
        .pending_approval
        .iter_mut()
        .flat_map(|it| &mut it.rules)
    {
        rule.cutoff = None;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        policy::cutoff::Cutoff,
        report::{read_unfinished, write_unfinished},
        sweep::{RuleProgress, SweepState, Trigger},
    };

    fn status(rules: usize, findings: usize) -> RetentionPolicyStatus {
        let time = "2026-11-22T09:30:00Z";
        let count = |value: i64| json!({"value": value, "method": "UpperBound", "exact": false, "asOf": time});
        let long = "m".repeat(256);
        let rules: Vec<_> = (0..rules)
            .map(|n| {
                json!({
                    "name": format!("rule-{n:04}-of-a-service"), "table": format!("public.activity_logs_{n:04}"),
                    "reason": "PermissionDenied", "message": long,
                    "rows": count(1_000_000_000), "expiredRows": count(1_000_000_000), "blockedRows": count(100),
                    "oldest": {"value": time, "method": "Histogram", "asOf": time},
                    "newest": {"value": time, "method": "Histogram", "asOf": time},
                    "lastUsed": {"state": "Unknown", "reason": long},
                    "sizeBytes": 100_000_000_000_i64, "cutoff": time, "watermark": time,
                    "rowsDeleted": 1_000_000_000, "rowsArchived": 1_000_000_000,
                })
            })
            .collect();
        let findings: Vec<_> = (0..findings)
            .map(|n| {
                json!({
                    "id": format!("unused-index:public.activity_logs_{n}.activity_logs_{n}_note_idx"), "severity": "warning",
                    "object": format!("public.activity_logs_{n}.activity_logs_{n}_note_idx"), "evidence": long,
                    "estimatedBytes": 8192, "firstSeen": time,
                })
            })
            .collect();
        let point = json!({"time": time, "sizeBytes": 1, "expiredRows": 2, "deadRows": 3});
        serde_json::from_value(json!({
            "rules": rules, "trend": vec![point; 12],
            "findings": {"critical": 0, "warning": 5000, "info": 0, "suppressed": 0, "truncated": 4980, "top": findings},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Reconciled", "message": long, "lastTransitionTime": time}],
        }))
        .expect("a status")
    }

    fn bytes(status: &RetentionPolicyStatus) -> usize {
        serde_json::to_vec(status).expect("JSON").len()
    }

    #[test]
    fn a_small_status_stays_as_it_is() {
        let small = status(2, 0);
        let mut fitted = small.clone();

        fit(&mut fitted);

        assert_eq!(fitted, small);
    }

    #[test]
    fn the_trend_gives_way_before_findings_and_findings_before_messages() {
        let mut fitted = status(20, 20);

        fit(&mut fitted);

        let findings = fitted.findings.clone().expect("findings");
        assert!(bytes(&fitted) <= MAX_STATUS_BYTES);
        assert!(fitted.trend.is_empty() && !findings.top.is_empty());
        let shown = i64::try_from(findings.top.len()).expect("a number");
        assert_eq!(findings.truncated, Some(5000 - shown));
        assert_eq!(fitted.rules[0].message.as_ref().map(String::len), Some(256));
    }

    #[test]
    fn thirty_two_refused_rules_and_thousands_of_findings_fit() {
        let mut fitted = status(32, 20);

        fit(&mut fitted);

        assert!(bytes(&fitted) <= MAX_STATUS_BYTES, "{}", bytes(&fitted));
        assert_eq!(fitted.rules.len(), 32);
        assert!(fitted.rules.iter().all(|rule| rule.expired_rows.is_some()));
        assert_eq!(fitted.findings.and_then(|it| it.warning), Some(5000));
    }

    /// Everything that 32 rules can make long at once: names, refusals, counts, a blocked sweep, one that goes on, findings.
    fn largest() -> RetentionPolicyStatus {
        let name = |n: usize| format!("{:-<61}{n:02}", "rule");
        let mut status = status(32, 20);
        let time = "2026-11-22T09:30:00Z";
        let nanos = "2026-11-22T09:30:00.123456789Z";
        let long = "m".repeat(256);
        let count = json!({"value": 1_000_000_000_000_i64, "method": "UpperBound", "exact": false, "asOf": time});
        for (n, rule) in status.rules.iter_mut().enumerate() {
            *rule = serde_json::from_value(json!({
                "name": name(n), "table": format!("public.{:_<63}", "table"),
                "reason": "PermissionDenied", "message": long,
                "rows": count, "expiredRows": count, "blockedRows": count, "unreadableRows": count,
                "lastCount": {"value": 1_000_000_000_000_i64, "cutoff": nanos, "asOf": time},
                "oldest": {"value": nanos, "method": "Histogram", "asOf": time},
                "newest": {"value": nanos, "method": "Histogram", "asOf": time},
                "lastUsed": {"state": "Unknown", "since": time, "coverageSince": time, "coveragePercent": 100, "reason": long},
                "sizeBytes": 100_000_000_000_000_i64, "cutoff": nanos, "watermark": nanos,
                "rowsDeleted": 1_000_000_000_000_i64, "rowsArchived": 1_000_000_000_000_i64,
            }))
            .expect("a rule");
        }
        let condition = |kind: &str| {
            json!({"type": kind, "status": "True", "reason": "ArchiverOrSomethingLong", "message": long, "lastTransitionTime": time,
                "observedGeneration": 1_000_000})
        };
        let kinds = [
            "Ready",
            "Compliant",
            "DatabaseReachable",
            "Reconciling",
            "Stalled",
            "Sweeping",
            "ApprovalRequired",
            "CrdOutdated",
        ];
        status.conditions =
            serde_json::from_value(json!(kinds.map(condition))).expect("conditions");
        status.last_sweep = serde_json::from_value(json!({"id": "20261122T093000Z-01234567", "trigger": "Schedule", "startTime": time,
            "completionTime": time, "outcome": "Succeeded", "rowsDeleted": 1_000_000_000_000_i64, "rowsArchived": 1_000_000_000_000_i64,
            "chunks": 1_000_000_000, "longestChunkMillis": 1_000_000, "throttledSeconds": 1_000_000, "message": long}))
        .expect("a sweep");
        status.pending_approval = serde_json::from_value(json!({"planHash": "0123456789abcdef", "requestedAt": time, "expiresAt": time,
            "rules": (0..32).map(|n| json!({"name": name(n), "rows": 1_000_000_000_000_i64, "percent": 100, "cutoff": nanos, "reason": long}))
                .collect::<Vec<_>>()}))
        .expect("a question");
        let at = nanos.parse().expect("an instant");
        let mut state = SweepState::begin(Trigger::Schedule, at, 1_000_000);
        state.database_time = Some(at);
        for n in 0..32 {
            state.put(RuleProgress {
                table_id: Some(u32::MAX),
                rows_at_start: Some(1_000_000_000_000),
                rows_done: 1_000_000_000_001,
                rows_archived: 1_000_000_000_001,
                rows_unknown: 1_000_000_000_001,
                rows_reserved: 2_000_000_000_002,
                rows_total: Some(1_000_000_000_001),
                rows_counted: 1_000_000_000_000,
                archived_counted: 1_000_000_000_000,
                rows_approved: Some(1_000_000_000_001),
                ..RuleProgress::new(name(n), Cutoff::Instant(at))
            });
        }
        status.unfinished_sweep = Some(write_unfinished(&state));
        status
    }

    /// What is never left out, without as of when.
    fn counts(rule: &RuleStatus) -> Vec<Option<(i64, String, bool)>> {
        [
            &rule.rows,
            &rule.expired_rows,
            &rule.blocked_rows,
            &rule.unreadable_rows,
        ]
        .map(|count| {
            let count = count.as_ref()?;
            Some((count.value, count.method.clone(), count.exact))
        })
        .to_vec()
    }

    #[test]
    fn the_largest_status_that_there_can_be_fits_and_keeps_its_counts_and_what_a_sweep_goes_on_with()
     {
        let largest = largest();
        let mut fitted = largest.clone();

        fit(&mut fitted);

        assert!(bytes(&fitted) <= MAX_STATUS_BYTES, "{}", bytes(&fitted));
        let goes_on = |status: &RetentionPolicyStatus| {
            read_unfinished(status.unfinished_sweep.as_ref().expect("a sweep"))
        };
        assert_eq!(goes_on(&fitted), goes_on(&largest));
        for (fitted, whole) in fitted.rules.iter().zip(&largest.rules) {
            assert_eq!(fitted.name, whole.name);
            assert_eq!(counts(fitted), counts(whole));
            assert_eq!(fitted.rows_deleted, whole.rows_deleted);
            assert_eq!(fitted.reason, whole.reason);
        }
        let asked = |status: &RetentionPolicyStatus| {
            let rules = status.pending_approval.clone().expect("a question").rules;
            rules
                .into_iter()
                .map(|rule| (rule.name, rule.rows))
                .collect::<Vec<_>>()
        };
        assert_eq!(asked(&fitted), asked(&largest));
    }

    #[test]
    fn fitting_again_changes_nothing() {
        let mut once = status(32, 20);
        fit(&mut once);
        let mut twice = once.clone();

        fit(&mut twice);

        assert_eq!(twice, once);
    }
}
