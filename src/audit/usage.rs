//! What an audit says of the use of tables and indexes, and what it writes down so that the next one can say more.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{Book, RuleAudit, Surroundings};
use crate::{
    engine::{
        DatabaseFacts, Engine, EngineError,
        ledger::{DayPoint, Remember, Remembered},
    },
    policy::{
        check::CheckedPolicy,
        hygiene::{Facts, Finding, Severity},
        usage::{LogQuery, Observed, observe, with_log},
    },
};

/// What is remembered, as far as the ledger tells.
pub(super) async fn recall(book: &Book, around: &Surroundings) -> Result<Remembered, EngineError> {
    let Some(ledger) = &book.ledger else {
        return Ok(Remembered::default());
    };
    let create = around.enters && ledger.writable().is_ok();
    match ledger.remembered(&around.party.policy, create).await {
        // An audit can do without.
        Err(error @ (EngineError::ReadOnly(_) | EngineError::Permission(_))) => Ok(Remembered {
            note: Some(format!("nothing is kept over time: {error}")),
            ..Remembered::default()
        }),
        Err(EngineError::LockTimeout { .. }) => Ok(Remembered::default()),
        other => other,
    }
}

/// Looks at the use of everything; the facts then hold it, and so do the rules.
pub(super) async fn look(
    engine: &dyn Engine,
    policy: &CheckedPolicy,
    facts: &mut Facts,
    remembered: &Remembered,
    rules: &mut [RuleAudit],
) -> Result<Observed, EngineError> {
    let after_days = policy.unused_after_days;
    let mut observed = observe(facts, remembered.usage.as_ref(), after_days);
    for rule in rules {
        let Ok(findings) = &mut rule.result else {
            continue;
        };
        let id = findings.plan.table.id;
        if let Some(observation) = observed.tables.get(&id) {
            findings.usage = observation.clone();
        }
        let log = policy
            .rules
            .iter()
            .find(|(name, _)| *name == rule.name)
            .and_then(|(_, checked)| checked.as_ref().ok()?.usage.as_ref());
        if let Some(log) = log {
            let table = &findings.plan.table;
            let query = LogQuery::new(log, &table.schema, &table.name);
            let logged = engine.last_logged(&query, after_days).await?;
            let seen = std::mem::take(&mut findings.usage);
            findings.usage = with_log(seen, &logged, findings.as_of, after_days);
            observed.tables.insert(id, findings.usage.clone());
        }
    }
    observed.enter(facts);
    facts.unseen.append(&mut observed.notes);
    Ok(observed)
}

/// What an audit saw, to be written down.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) facts: &'a DatabaseFacts,
    pub(super) rules: &'a [RuleAudit],
    pub(super) findings: &'a [Finding],
    pub(super) observed: Observed,
}

/// Writes down what the audit saw, where it may; since when each finding is there, and why nothing could be written.
pub(super) async fn remember(
    book: &Book,
    around: &Surroundings,
    policy: &CheckedPolicy,
    remembered: Remembered,
    seen: Seen<'_>,
) -> (HashMap<String, Timestamp>, Option<String>) {
    let Remembered {
        mut first_seen,
        writable,
        usage,
        note,
    } = remembered;
    let (Some(ledger), true, true, Some(_)) = (&book.ledger, around.enters, writable, usage) else {
        return (first_seen, note);
    };
    let today = today(policy, &seen);
    let remember = Remember {
        policy: around.party.policy.clone(),
        usage: seen.observed.change,
        findings: seen.findings.iter().map(|it| it.id.clone()).collect(),
        today,
    };
    match ledger.remember(&remember).await {
        Ok(()) => {
            for id in remember.findings {
                first_seen.entry(id).or_insert(seen.facts.now);
            }
            (first_seen, note)
        }
        // Somebody else is at it: the next audit will do.
        Err(EngineError::LockTimeout { .. }) => (first_seen, note),
        Err(error) => (
            first_seen,
            note.or_else(|| Some(format!("nothing is kept over time: {error}"))),
        ),
    }
}

fn today(policy: &CheckedPolicy, seen: &Seen<'_>) -> DayPoint {
    let measured = seen
        .rules
        .iter()
        .filter_map(|rule| rule.result.as_ref().ok());
    let expired: Vec<i64> = measured
        .clone()
        .filter_map(|findings| findings.expired.map(|expired| expired.value))
        .collect();
    let open = |severity| {
        let open = seen
            .findings
            .iter()
            .filter(|it| it.severity == severity && !policy.suppress.contains(&it.id));
        i64::try_from(open.count()).unwrap_or(i64::MAX)
    };
    DayPoint {
        size_bytes: seen.facts.size_bytes,
        expired_rows: (!expired.is_empty() || seen.rules.is_empty()).then(|| expired.iter().sum()),
        dead_rows: measured.map(|findings| findings.dead_rows).sum(),
        findings: [Severity::Critical, Severity::Warning, Severity::Info].map(open),
    }
}
