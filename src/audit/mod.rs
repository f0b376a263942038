//! One audit: reads facts and statistics through the engine, lets `policy` judge them, and says what was found.
//!
//! Touches no row of a user table.

mod measure;
mod report;

use jiff::Timestamp;

pub use measure::{Measured, MeasuredInstant, Method, expired};
pub use report::{AuditReport, RuleAudit, RuleFindings, Usage};

use crate::{
    engine::{DatabaseFacts, Engine, EngineError},
    policy::{
        check::{CheckedHold, CheckedPolicy, CheckedRule, Refusal, reason},
        dependents::{Dependents, HeldTable, reached},
        plan::{ArchiveState, RulePlan, check_deletable, resolve},
        table::{TableFacts, TableKind, TableName},
    },
};

/// Resolves every rule of a policy against the database: the good ones as plans, the others with their refusal.
///
/// # Errors
/// Only what concerns the whole database; a rule's own trouble is in its entry.
pub async fn plan(
    engine: &dyn Engine,
    policy: &CheckedPolicy,
) -> Result<(DatabaseFacts, Vec<Planned>), EngineError> {
    let facts = engine.facts().await?;
    let mut names: Vec<TableName> = Vec::new();
    for table in policy
        .rules
        .iter()
        .filter_map(|(_, rule)| rule.as_ref().ok().map(|rule| &rule.table))
        .chain(policy.holds.iter().map(|hold| &hold.table))
    {
        if !names.contains(table) {
            names.push(table.clone());
        }
    }
    let found = if names.is_empty() {
        Vec::new()
    } else {
        engine.tables(&names).await?
    };
    let tables = Tables { names, found };
    let mut unresolved = unresolved_hold(policy, &tables);
    let mut planned = Vec::with_capacity(policy.rules.len());
    for (name, rule) in &policy.rules {
        let plan = match rule {
            Err(refusal) => Err(refusal.clone()),
            Ok(rule) => {
                plan_rule(
                    engine,
                    policy,
                    name,
                    rule,
                    &tables,
                    facts.now,
                    unresolved.as_ref(),
                )
                .await?
            }
        };
        planned.push(Planned {
            name: name.clone(),
            enforced: rule.as_ref().is_ok_and(|rule| rule.enforced),
            plan,
        });
    }
    // A hold that only the server can judge stops every rule, too.
    unresolved = unresolved.or_else(|| {
        planned
            .iter()
            .filter_map(|planned: &Planned| planned.plan.as_ref().err())
            .find(|refusal| refusal.reason == reason::HOLD_UNRESOLVED)
            .cloned()
    });
    if let Some(refusal) = unresolved {
        for planned in planned.iter_mut().filter(|planned| planned.plan.is_ok()) {
            planned.plan = Err(refusal.clone());
        }
    }
    Ok((facts, planned))
}

/// A rule after its look-up.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The rule's name.
    pub name: String,
    /// It deletes when its policy sweeps.
    pub enforced: bool,
    /// What it would do, or why it is refused.
    pub plan: Result<RulePlan, Refusal>,
}

struct Tables {
    names: Vec<TableName>,
    found: Vec<Option<TableFacts>>,
}

impl Tables {
    fn get(&self, name: &TableName) -> Option<&TableFacts> {
        let position = self.names.iter().position(|known| known == name)?;
        self.found.get(position)?.as_ref()
    }
}

async fn plan_rule(
    engine: &dyn Engine,
    policy: &CheckedPolicy,
    name: &str,
    rule: &CheckedRule,
    tables: &Tables,
    now: Timestamp,
    unresolved: Option<&Refusal>,
) -> Result<Result<RulePlan, Refusal>, EngineError> {
    let table = tables.get(&rule.table);
    let held: Vec<&CheckedHold> = policy
        .holds
        .iter()
        .filter(|hold| match (table, tables.get(&hold.table)) {
            (Some(table), Some(held)) => touches(table, held),
            _ => false,
        })
        .collect();
    let last_tick = policy
        .schedule
        .as_ref()
        .and_then(|schedule| schedule.last_at(now));
    let mut plan = match resolve(name, rule, table, &held, &policy.zone, now, last_tick) {
        Ok(plan) => plan,
        Err(refusal) => return Ok(Err(refusal)),
    };
    plan.held_tables = held_tables(policy, tables, &plan);
    if let Some(refusal) = unresolved {
        return Ok(Err(refusal.clone()));
    }
    match engine.check_plan(&plan).await {
        Ok(()) => {}
        Err(EngineError::Predicate(message)) => {
            let of_hold = message.starts_with("the where of hold");
            let reason = if of_hold {
                reason::HOLD_UNRESOLVED
            } else {
                reason::INVALID_WHERE
            };
            return Ok(Err(Refusal::new(reason, message)));
        }
        Err(EngineError::Permission(message)) => {
            return Ok(Err(Refusal::new(reason::PERMISSION_DENIED, message)));
        }
        Err(error) => return Err(error),
    }
    look_at_archive(engine, &mut plan).await?;
    if rule.enforced
        && let Err(refusal) = check_deletable(&plan)
    {
        return Ok(Err(refusal));
    }
    Ok(Ok(plan))
}

/// Looks whether the table into which the plan archives is there and fits. Creates nothing.
async fn look_at_archive(engine: &dyn Engine, plan: &mut RulePlan) -> Result<(), EngineError> {
    if plan.archive.is_none() {
        return Ok(());
    }
    let state = match engine.check_archive(plan).await {
        Ok(None) => ArchiveState::Fits,
        Ok(Some(creates)) => ArchiveState::Missing(creates),
        Err(EngineError::Archive(message)) => {
            ArchiveState::Refused(Refusal::new(reason::ARCHIVE_MISMATCH, message))
        }
        Err(EngineError::Permission(message)) => {
            ArchiveState::Refused(Refusal::new(reason::PERMISSION_DENIED, message))
        }
        Err(EngineError::NotSupported(message)) => {
            ArchiveState::Refused(Refusal::new(reason::NOT_SUPPORTED, message))
        }
        Err(error) => return Err(error),
    };
    if let Some(archive) = &mut plan.archive {
        archive.state = state;
    }
    Ok(())
}

/// A hold on a table binds the rules on it, on the tables that hold its rows, and on a parent of which it is a part.
fn touches(table: &TableFacts, held: &TableFacts) -> bool {
    let parts = |facts: &TableFacts| {
        std::iter::once(facts.id)
            .chain(facts.leaves.iter().map(|leaf| leaf.id))
            .collect::<Vec<u32>>()
    };
    let held = parts(held);
    parts(table).iter().any(|id| held.contains(id))
}

/// The holds on tables whose rows would go along, or be changed, with rows of the plan's table.
fn held_tables(policy: &CheckedPolicy, tables: &Tables, plan: &RulePlan) -> Vec<HeldTable> {
    if plan.dependents != Dependents::Cascade {
        return Vec::new();
    }
    let reached = reached(&plan.table.incoming, plan.dependents);
    policy
        .holds
        .iter()
        .filter_map(|hold| {
            let table = tables.get(&hold.table)?;
            Some(HeldTable {
                hold: hold.name.clone(),
                schema: table.schema.clone(),
                name: table.name.clone(),
                ids: std::iter::once(table.id)
                    .chain(table.leaves.iter().map(|leaf| leaf.id))
                    .collect(),
                filter: hold.filter.clone(),
            })
        })
        .filter(|hold| reached.iter().any(|key| key.is_held_by(hold)))
        .collect()
}

/// A hold that cannot be resolved stops every rule of the policy.
fn unresolved_hold(policy: &CheckedPolicy, tables: &Tables) -> Option<Refusal> {
    policy.holds.iter().find_map(|hold| {
        let refuse = |what: String| {
            Refusal::new(
                reason::HOLD_UNRESOLVED,
                format!("hold {}: {what}", hold.name),
            )
        };
        match tables.get(&hold.table) {
            None => Some(refuse(format!(
                "table {} does not exist; until the hold can be resolved no rule is swept",
                hold.table
            ))),
            Some(table) if matches!(table.kind, TableKind::Unsupported(_)) => Some(refuse(format!(
                "{} is no table: name the table whose rows must stay; until then no rule is swept",
                hold.table
            ))),
            Some(table) => hold
                .filter
                .as_ref()
                .and_then(|filter| filter.check(table).err())
                .map(|error| refuse(format!("where: {error}"))),
        }
    })
}

/// Audits a database for a policy.
///
/// # Errors
/// Only what concerns the whole database; a rule's own trouble is in its entry.
pub async fn audit(
    engine: &dyn Engine,
    policy: &CheckedPolicy,
) -> Result<AuditReport, EngineError> {
    let (facts, planned) = plan(engine, policy).await?;
    let mut rules = Vec::with_capacity(planned.len());
    for Planned {
        name,
        enforced,
        plan,
    } in planned
    {
        let result = match plan {
            Err(refusal) => Err(refusal),
            Ok(plan) => {
                let statistics = engine.statistics(&plan.table, &plan.column).await?;
                Ok(report::findings(&plan, &statistics, facts.now))
            }
        };
        rules.push(RuleAudit {
            name,
            enforced,
            result,
        });
    }
    Ok(AuditReport { facts, rules })
}
