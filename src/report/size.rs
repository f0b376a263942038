//! Keeps a status small: etcd and every watcher of the cluster carry it along.

use crate::api::{RetentionPolicyStatus, conditions::shorten};

/// Bytes of a status as JSON.
pub const MAX_STATUS_BYTES: usize = 32 * 1024;

/// What messages are cut down to where there is no room.
const SHORT_MESSAGE_BYTES: usize = 64;
/// What objects and evidence of a finding may take; their ids stay whole, as people copy them.
const FINDING_TEXT_BYTES: usize = 192;

/// Makes a status fit into [`MAX_STATUS_BYTES`], as far as it can be done without counts: first the trend gives way, the oldest
/// point first, then findings, the least grave first, then the length of messages.
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
    if excess > 0 {
        shorten_messages(status);
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
    for rule in &mut status.rules {
        let reason = rule.last_used.as_mut().map(|used| &mut used.reason);
        for message in [Some(&mut rule.message), reason].into_iter().flatten() {
            *message = message
                .take()
                .map(|message| shorten(&message, SHORT_MESSAGE_BYTES));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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

    #[test]
    fn fitting_again_changes_nothing() {
        let mut once = status(32, 20);
        fit(&mut once);
        let mut twice = once.clone();

        fit(&mut twice);

        assert_eq!(twice, once);
    }
}
