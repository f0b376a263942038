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

/// Names a plan: the blocked `rules` of `spec` with all holds, on `tables` (qualified) of the database `identity`, and the rows
/// that each of them would take.
///
/// Sixteen hexadecimal digits for what is covered, then the rows: `222943aefde357b4-55057.1200`. The digits do not depend on
/// the day; the rows make an approval one of that many and no more, and an old one worthless for a new question.
#[must_use]
pub fn plan_hash(
    spec: &RetentionPolicySpec,
    rules: &[(&str, u64)],
    tables: &[String],
    identity: Option<&str>,
) -> String {
    let covered: Vec<_> = spec
        .rules
        .iter()
        .filter(|rule| rules.iter().any(|(name, _)| *name == rule.name))
        .collect();
    let plan = serde_json::json!({
        "rules": covered,
        "holds": spec.holds,
        "timeZone": spec.time_zone,
        "tables": tables,
        "database": identity,
    });
    let digest = Sha256::digest(plan.to_string().as_bytes());
    let digits: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let rows: Vec<String> = rules.iter().map(|(_, rows)| rows.to_string()).collect();
    format!("{digits}-{}", rows.join("."))
}

/// Names everything in a spec that says which rows have expired: a sweep that another process began is gone on with under the
/// very same alone.
#[must_use]
pub fn spec_mark(spec: &RetentionPolicySpec) -> String {
    let rules: Vec<&str> = spec.rules.iter().map(|rule| rule.name.as_str()).collect();
    let rules: Vec<(&str, u64)> = rules.into_iter().map(|rule| (rule, 0)).collect();
    let hash = plan_hash(spec, &rules, &[], None);
    hash.split('-').next().unwrap_or_default().to_owned()
}

/// The rows that `approved` allows each rule of the plan that is called `now`, in its order; `None` when it is another plan.
#[must_use]
pub fn approved_by(approved: &str, now: &str) -> Option<Vec<u64>> {
    let (digits, rows) = approved.split_once('-')?;
    let (digits_now, rows_now) = now.split_once('-')?;
    let rows: Vec<u64> = rows
        .split('.')
        .map(|rows| rows.parse().map(approved_rows).ok())
        .collect::<Option<_>>()?;
    (digits == digits_now && rows.len() == rows_now.split('.').count()).then_some(rows)
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
        plan_hash(spec, &[("logs", 5)], &["public.logs".into()], Some("1/2"))
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
            plan_hash(&spec, &[("logs", 5)], &["public.logs".into()], Some("1/3"))
        );
        assert_ne!(
            plan,
            plan_hash(&spec, &[("logs", 5)], &["archive.logs".into()], Some("1/2"))
        );
        assert_eq!(plan.len(), 18);
        assert!(plan.ends_with("-5"), "{plan}");
    }

    #[test]
    fn an_approval_is_good_for_its_plan_and_its_rows_only() {
        assert_eq!(approved_by("aa-100.10", "aa-150.20"), Some(vec![110, 11]));
        assert_eq!(approved_by("aa-100", "bb-100"), None);
        assert_eq!(approved_by("aa-100", "aa-100.10"), None);
        assert_eq!(approved_by("aa", "aa-100"), None);
        assert_eq!(approved_by("aa-x", "aa-100"), None);
    }

    #[test]
    fn an_approval_allows_a_tenth_more() {
        assert_eq!(
            (approved_rows(100), approved_rows(1), approved_rows(0)),
            (110, 2, 0)
        );
    }
}
