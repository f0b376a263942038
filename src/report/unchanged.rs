//! Whether a status is worth a write.

use serde_json::Value;

use crate::api::RetentionPolicyStatus;

/// Fields that move with the clock alone.
const TIMES: [&str; 3] = ["asOf", "lastAuditTime", "cutoff"];

/// Nothing but times is different between the two.
#[must_use]
pub fn only_times_differ(published: &RetentionPolicyStatus, fresh: &RetentionPolicyStatus) -> bool {
    if published == fresh {
        return true;
    }
    match (serde_json::to_value(published), serde_json::to_value(fresh)) {
        (Ok(mut published), Ok(mut fresh)) => {
            strip(&mut published);
            strip(&mut fresh);
            published == fresh
        }
        _ => false,
    }
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !TIMES.contains(&name.as_str()));
            // What a sweep goes on with is never idle: its cutoffs are part of it.
            for (name, value) in fields.iter_mut() {
                if name != "unfinishedSweep" {
                    strip(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{MeasuredRows, RuleStatus, whole_seconds};

    fn status(expired: i64, second: i64) -> RetentionPolicyStatus {
        let time = whole_seconds(jiff::Timestamp::from_second(second).expect("an instant"));
        RetentionPolicyStatus {
            last_audit_time: Some(time.clone()),
            rules: vec![RuleStatus {
                name: "logs".into(),
                cutoff: Some(second.to_string()),
                expired_rows: Some(MeasuredRows {
                    value: expired,
                    method: "Histogram".into(),
                    exact: false,
                    as_of: Some(time),
                }),
                ..RuleStatus::default()
            }],
            ..RetentionPolicyStatus::default()
        }
    }

    #[test]
    fn a_later_audit_with_the_same_result_is_not_worth_a_write() {
        assert!(only_times_differ(&status(5, 10), &status(5, 20)));
    }

    #[test]
    fn another_number_is() {
        assert!(!only_times_differ(&status(5, 10), &status(6, 20)));
    }
}
