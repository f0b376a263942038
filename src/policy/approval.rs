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

/// A rule of a plan that is blocked.
#[derive(Clone, Copy, Debug)]
pub struct BlockedRule<'a> {
    /// Its name.
    pub name: &'a str,
    /// Rows that it would take.
    pub rows: u64,
    /// The removed holds whose rows it would take, in words; `None`: there are none.
    pub removed_holds: Option<&'a str>,
}

/// Removed holds in words, as an approval names them: by their `labels`, or where these are too many by their digest.
#[must_use]
pub fn removed_holds<'a>(labels: impl Iterator<Item = &'a str>) -> Option<String> {
    const MOST: usize = 200;
    let mut labels: Vec<&str> = labels.collect();
    labels.sort_unstable();
    let all = labels.join(", ");
    match labels.len() {
        0 => None,
        n if all.len() > MOST => Some(format!("{n} holds ({})", digits(all.as_bytes()))),
        _ => Some(all),
    }
}

fn digits(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let bytes = digest.iter().take(8);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// What an approval knows of a table: its number, which a table made anew under the name does not have, or else its qualified name.
#[must_use]
pub fn table_identity(qualified: &str, id: Option<i64>) -> String {
    match id {
        Some(id) => id.to_string(),
        None => qualified.to_owned(),
    }
}

/// Names a plan: the blocked `rules` of `spec` with all holds, on `tables` (see [`table_identity`]) of the database `identity`, and the rows
/// that each of them would take.
///
/// Sixteen hexadecimal digits for what is covered, then the rows: `222943aefde357b4-55057.1200`. The digits do not depend on
/// the day; the rows make an approval one of that many and no more, and an old one worthless for a new question.
#[must_use]
pub fn plan_hash(
    spec: &RetentionPolicySpec,
    rules: &[BlockedRule<'_>],
    tables: &[String],
    identity: Option<&str>,
) -> String {
    let covered: Vec<_> = spec
        .rules
        .iter()
        .filter(|rule| rules.iter().any(|blocked| blocked.name == rule.name))
        .collect();
    let mut plan = serde_json::json!({
        "rules": covered,
        "holds": spec.holds,
        "timeZone": spec.time_zone,
        "tables": tables,
        "database": identity,
    });
    let removed: Vec<_> = rules.iter().map(|rule| rule.removed_holds).collect();
    if removed.iter().any(Option::is_some) {
        plan["removedHolds"] = serde_json::json!(removed);
    }
    let rows: Vec<String> = rules.iter().map(|rule| rule.rows.to_string()).collect();
    format!("{}-{}", digits(plan.to_string().as_bytes()), rows.join("."))
}

/// Names one question about a plan: what [`plan_hash`] made of it, and eight digits that only this `question` has. So a hash that was
/// annotated once answers no later question, not even about as many rows.
#[must_use]
pub fn question_hash(plan: &str, question: &str) -> String {
    let digest = digits(question.as_bytes());
    format!("{plan}-{}", digest.get(..8).unwrap_or_default())
}

/// The plan that a question is about.
#[must_use]
pub fn plan_of(question_hash: &str) -> &str {
    question_hash
        .match_indices('-')
        .nth(1)
        .map_or(question_hash, |(at, _)| &question_hash[..at])
}

/// Names everything in a spec that says which rows have expired: a sweep that another process began is gone on with under the
/// very same alone.
#[must_use]
pub fn spec_mark(spec: &RetentionPolicySpec) -> String {
    let rules: Vec<BlockedRule<'_>> = spec
        .rules
        .iter()
        .map(|rule| BlockedRule {
            name: &rule.name,
            rows: 0,
            removed_holds: None,
        })
        .collect();
    let hash = plan_hash(spec, &rules, &[], None);
    hash.split('-').next().unwrap_or_default().to_owned()
}

/// The rows that `approved` allows each rule of the plan that is called `now`, in its order; `None` when it is another plan.
#[must_use]
pub fn approved_by(approved: &str, now: &str) -> Option<Vec<u64>> {
    let (digits, rows) = plan_of(approved).split_once('-')?;
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
        plan_hash(spec, &[LOGS], &["public.logs".into()], Some("1/2"))
    }

    const LOGS: BlockedRule<'_> = BlockedRule {
        name: "logs",
        rows: 5,
        removed_holds: None,
    };

    #[test]
    fn an_approval_of_before_a_hold_was_removed_is_not_one_of_its_removal() {
        let spec = spec("30d", "id = 1", 25);
        let asked = |labels: &[&str]| {
            let removed = removed_holds(labels.iter().copied());
            let rule = BlockedRule {
                removed_holds: removed.as_deref(),
                ..LOGS
            };
            plan_hash(&spec, &[rule], &["public.logs".into()], Some("1/2"))
        };
        let before = hash(&spec);

        assert_eq!(asked(&[]), before);
        assert_eq!(approved_by(&before, &asked(&["a of policy s/p"])), None);
        assert_ne!(asked(&["a of policy s/p"]), asked(&["b of policy s/p"]));
        assert_eq!(asked(&["a", "b"]), asked(&["b", "a"]));
    }

    #[test]
    fn many_removed_holds_are_named_by_their_digest() {
        let labels: Vec<String> = (0..40)
            .map(|n| format!("case-{n} of policy shop/p"))
            .collect();
        let all = removed_holds(labels.iter().map(String::as_str)).expect("some");
        let fewer = removed_holds(labels.iter().skip(1).map(String::as_str)).expect("some");
        assert!(all.starts_with("40 holds (") && all.len() < 40, "{all}");
        assert_ne!(all, fewer);
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
            plan_hash(&spec, &[LOGS], &["public.logs".into()], Some("1/3"))
        );
        assert_ne!(
            plan,
            plan_hash(&spec, &[LOGS], &["archive.logs".into()], Some("1/2"))
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
    fn two_questions_about_one_plan_have_two_names() {
        let plan = hash(&spec("30d", "id = 1", 25));
        let first = question_hash(&plan, "the sweep of monday");
        let second = question_hash(&plan, "the sweep of tuesday");
        assert_ne!(first, second);
        assert_eq!((plan_of(&first), plan_of(&second)), (&*plan, &*plan));
        assert_eq!(plan_of(&plan), plan);
        assert_eq!(
            approved_by("aa-100.10-01234567", "aa-150.20"),
            Some(vec![110, 11]),
            "what the status asks for is understood offline, too"
        );
    }

    #[test]
    fn an_approval_allows_a_tenth_more() {
        assert_eq!(
            (approved_rows(100), approved_rows(1), approved_rows(0)),
            (110, 2, 0)
        );
    }
}
