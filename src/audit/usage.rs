//! What an audit says of the use of tables and indexes, and what it writes down so that the next one can say more.

use std::collections::HashMap;

use super::{AuditReport, Book, RuleAudit, Surroundings};
use crate::{
    engine::{
        Engine, EngineError,
        ledger::{DayPoint, Remember, Remembered},
    },
    policy::{
        check::CheckedPolicy,
        hygiene::{Facts, Severity},
        plan::RulePlan,
        usage::{
            Change, LogQuery, LookedUp, Memory, Observation, Observed, OwnUse, Usage, observe,
            with_log,
        },
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
    memory: Option<Memory>,
    rules: &mut [RuleAudit],
) -> Result<Option<Change>, EngineError> {
    let after_days = policy.unused_after_days;
    let mut observed = observe(facts, memory.as_ref(), after_days);
    // In a large database these are many, and have said what they know.
    facts.counters.clear();
    let own = memory.map(|memory| memory.own).unwrap_or_default();
    look_up_statements(engine, facts, &observed, rules).await?;
    for rule in rules {
        let Ok(findings) = &mut rule.result else {
            continue;
        };
        let id = findings.plan.table.id;
        if let Some(observation) = observed.tables.get(&id) {
            findings.usage = observation.clone();
        }
        if let Some(ours) = only_ours(facts, &own, &observed, &findings.plan) {
            note(&mut findings.usage, ours);
        }
        let told = facts.statements.as_ref().and_then(|it| it.evidence(id));
        if let Some(told) = told.filter(|_| !matches!(findings.usage.usage, Usage::Used { .. })) {
            note(&mut findings.usage, told);
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
    Ok(observed.change)
}

/// Tables that statements are searched for at most.
const LOOKED_UP: usize = 20;

/// Support by `pg_stat_statements` for the tables of rules that are not known to be used, and for the largest ones that nobody
/// uses.
async fn look_up_statements(
    engine: &dyn Engine,
    facts: &mut Facts,
    observed: &Observed,
    rules: &[RuleAudit],
) -> Result<(), EngineError> {
    let is_used = |id: u32| {
        let usage = observed.tables.get(&id).map(|it| &it.usage);
        matches!(usage, Some(Usage::Used { .. }))
    };
    let ruled = rules.iter().filter_map(|rule| rule.result.as_ref().ok());
    let mut tables: Vec<(u32, String)> = ruled
        .map(|findings| (findings.plan.table.id, findings.plan.table.name.clone()))
        .filter(|(id, _)| !is_used(*id))
        .collect();
    let unused = |id: u32| {
        let usage = observed.tables.get(&id).map(|it| &it.usage);
        matches!(usage, Some(Usage::Unused { .. }))
    };
    let mut others: Vec<_> = facts
        .tables
        .values()
        .filter(|table| unused(table.id))
        .collect();
    others.sort_by_key(|table| (std::cmp::Reverse(table.pages), table.id));
    let others = others
        .into_iter()
        .map(|table| (table.id, table.name.clone()));
    tables.extend(others.take(LOOKED_UP));
    let mut seen = std::collections::HashSet::new();
    tables.retain(|(id, _)| seen.insert(*id));
    tables.truncate(LOOKED_UP);
    if tables.is_empty() {
        return Ok(());
    }
    match engine.statements_naming(&tables).await? {
        LookedUp::Absent => {}
        LookedUp::Hidden(why) => facts.unseen.push(why),
        LookedUp::Seen(statements) => facts.statements = Some(statements),
    }
    Ok(())
}

/// One more thing that people should know of a use.
fn note(observation: &mut Observation, more: String) {
    observation.note = Some(match observation.note.take() {
        Some(note) => format!("{note}; {more}"),
        None => more,
    });
}

/// Indexes on a rule's column that nobody but the operator reads: they look used to whoever reads the server's counters.
fn only_ours(
    facts: &Facts,
    own: &HashMap<u32, OwnUse>,
    observed: &Observed,
    plan: &RulePlan,
) -> Option<String> {
    let mut names: Vec<String> = plan
        .time_indexes()
        .filter(|id| own.get(id).is_some_and(|own| own.reads > 0))
        .filter(|id| matches!(observed.indexes.get(id), Some(Usage::Unused { .. })))
        .filter_map(|id| facts.indexes.iter().find(|index| index.id == id))
        .filter_map(|index| index.object(facts))
        .collect();
    names.sort_unstable();
    let first = names.first()?;
    let more = match names.len() {
        1 => String::new(),
        all => format!(" and {} more", all - 1),
    };
    Some(format!(
        "only this operator's sweeps read index {first}{more}"
    ))
}

/// Writes down what the audit saw, where it may. The report then says since when each finding is there, and why nothing could be
/// written.
pub(super) async fn remember(
    book: &Book,
    around: &Surroundings,
    report: &mut AuditReport,
    remembered: Remembered,
    change: Option<Change>,
) {
    report.first_seen = remembered.first_seen;
    report.trend = remembered.trend;
    report.today = today(report);
    report.unseen.extend(remembered.note);
    let (Some(ledger), true, true) = (&book.ledger, around.enters, remembered.writable) else {
        return;
    };
    let remember = Remember {
        policy: around.party.policy.clone(),
        at: report.facts.now,
        usage: change,
        findings: report
            .findings
            .iter()
            .flatten()
            .map(|finding| finding.id.clone())
            .collect(),
        today: report.today,
    };
    match ledger.remember(&remember).await {
        Ok(()) => {
            for id in remember.findings {
                report.first_seen.entry(id).or_insert(remember.at);
            }
        }
        // Somebody else is at it: the next audit will do.
        Err(EngineError::LockTimeout { .. }) => {}
        Err(error) => report
            .unseen
            .push(format!("nothing is kept over time: {error}")),
    }
}

fn today(report: &AuditReport) -> DayPoint {
    let measured = || report.rules.iter().map(|rule| rule.result.as_ref().ok());
    let open = |severity| {
        let open = report
            .findings
            .iter()
            .flatten()
            .filter(|it| it.severity == severity && !report.suppress.contains(&it.id));
        i64::try_from(open.count()).unwrap_or(i64::MAX)
    };
    DayPoint {
        size_bytes: report.facts.size_bytes,
        expired_rows: whole(measured().map(|findings| Some(findings?.expired?.value))),
        dead_rows: whole(measured().map(|findings| Some(findings?.dead_rows))),
        findings: [Severity::Critical, Severity::Warning, Severity::Info].map(open),
    }
}

/// The sum of all; `None`: not all are known.
fn whole(mut parts: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    parts.try_fold(0_i64, |sum, part| Some(sum.saturating_add(part?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_some_rules_is_not_that_of_all() {
        assert_eq!(whole([Some(7), Some(5)].into_iter()), Some(12));
        assert_eq!(whole([Some(7), None].into_iter()), None);
        assert_eq!(whole([None].into_iter()), None);
        assert_eq!(whole([].into_iter()), Some(0));
    }
}
