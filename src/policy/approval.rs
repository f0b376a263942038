//! What an approval covers: the rules' spec, the holds and the tables' identity, not the day.

use jiff::SignedDuration;
use sha2::{Digest, Sha256};

use crate::api::RetentionPolicySpec;

/// How long the question stands, and an approval is good for.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(7 * 24);

/// An approval allows the planned rows and a tenth more: time goes on between question and answer.
#[must_use]
pub fn approved_rows(planned: u64) -> u64 {
    planned.saturating_add(planned.div_ceil(10))
}

/// Names a plan: the blocked `rules` of `spec` with all holds, on `tables` (qualified) of the database `identity`.
/// Sixteen hexadecimal digits.
#[must_use]
pub fn plan_hash(
    spec: &RetentionPolicySpec,
    rules: &[&str],
    tables: &[String],
    identity: Option<&str>,
) -> String {
    let covered: Vec<_> = spec
        .rules
        .iter()
        .filter(|rule| rules.contains(&rule.name.as_str()))
        .collect();
    let plan = serde_json::json!({
        "rules": covered,
        "holds": spec.holds,
        "timeZone": spec.time_zone,
        "tables": tables,
        "database": identity,
    });
    let digest = Sha256::digest(plan.to_string().as_bytes());
    digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(age: &str, hold: &str, pace: i32) -> RetentionPolicySpec {
        serde_json::from_value(serde_json::json!({
            "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}},
            "rules": [
                {"name": "logs", "table": "logs", "column": "at", "expireAfter": age, "action": "Delete"},
                {"name": "other", "table": "other", "column": "at", "expireAfter": "1d", "action": "Delete"},
            ],
            "holds": [{"name": "case", "table": "logs", "where": hold}],
            "pace": {"maxDuty": pace},
        }))
        .expect("a spec")
    }

    fn hash(spec: &RetentionPolicySpec) -> String {
        plan_hash(spec, &["logs"], &["public.logs".into()], Some("1/2"))
    }

    #[test]
    fn the_hash_covers_rules_holds_and_tables_and_nothing_else() {
        let plan = hash(&spec("30d", "id = 1", 25));
        assert_eq!(
            plan,
            hash(&spec("30d", "id = 1", 50)),
            "pace is not part of the plan"
        );
        assert_ne!(plan, hash(&spec("31d", "id = 1", 25)));
        assert_ne!(plan, hash(&spec("30d", "id = 2", 25)));
        let spec = spec("30d", "id = 1", 25);
        assert_ne!(
            plan,
            plan_hash(&spec, &["logs"], &["public.logs".into()], Some("1/3"))
        );
        assert_ne!(
            plan,
            plan_hash(&spec, &["logs"], &["archive.logs".into()], Some("1/2"))
        );
        assert_eq!(plan.len(), 16);
    }

    #[test]
    fn an_approval_allows_a_tenth_more() {
        assert_eq!(
            (approved_rows(100), approved_rows(1), approved_rows(0)),
            (110, 2, 0)
        );
    }
}
