//! One audit: reads facts and statistics through the engine, lets `policy` judge them, and says what was found.
//!
//! Touches no row of a user table.

mod around;
mod measure;
mod report;
mod usage;

use std::collections::HashMap;

use jiff::Timestamp;

pub use around::{Book, Neighbour, RemovedHold, Surroundings};
pub use measure::{Measured, MeasuredInstant, Method, expired};
#[cfg(test)]
pub(crate) use report::findings;
pub use report::{AuditReport, RuleAudit, RuleFindings};

use crate::{
    engine::{DatabaseFacts, Engine, EngineError},
    policy::{
        check::{CheckedHold, CheckedPolicy, CheckedRule, Refusal, reason},
        dependents::{Dependents, HeldTable, reached},
        hygiene::{self, RuledColumn},
        plan::{ArchiveState, RulePlan, check_deletable, resolve},
        table::{TableFacts, TableKind, TableName},
    },
};

/// What a sweep would do, rule by rule.
#[derive(Debug)]
pub struct Plan {
    /// The database.
    pub facts: DatabaseFacts,
    /// The rules in the policy's order.
    pub rules: Vec<Planned>,
    /// The ledger, as far as the policy uses it.
    pub book: Book,
}

/// Resolves every rule of a policy against the database: the good ones as plans, the others with their refusal.
///
/// # Errors
/// Only what concerns the whole database; a rule's own trouble is in its entry.
pub async fn plan(
    engine: &dyn Engine,
    policy: &CheckedPolicy,
    around: &Surroundings,
) -> Result<Plan, EngineError> {
    let facts = engine.facts().await?;
    let mut tables = Tables::default();
    let rules = policy
        .rules
        .iter()
        .filter_map(|(_, rule)| rule.as_ref().ok().map(|rule| &rule.table));
    let own = rules.chain(policy.holds.iter().map(|hold| &hold.table));
    tables.look_up(engine, own).await?;
    let wanted: Vec<_> = policy
        .rules
        .iter()
        .filter_map(|(name, rule)| {
            let table = tables.get(&rule.as_ref().ok()?.table)?;
            Some(around::wanted(name, table))
        })
        .collect();
    let book = Book::open(engine, policy, around, &wanted).await?;
    let identity = &facts.identity;
    let removed = book.removed_holds(around, policy);
    let others = book.holds(around, identity);
    let theirs = others.iter().flatten().map(|hold| &hold.table);
    let beside = around
        .neighbours
        .iter()
        .filter(|neighbour| neighbour.is_on(identity))
        .flat_map(|neighbour| &neighbour.tables);
    let named = theirs
        .chain(removed.iter().map(|hold| &hold.table))
        .chain(beside)
        .chain(Book::perhaps_held(around, identity));
    tables.look_up(engine, named).await?;
    let claims = book.claims(around, identity, |name| tables.get(name).cloned());

    let perhaps = Book::perhaps_holds(around, identity, |name| tables.get(name));
    let (holds, unreadable): (Vec<CheckedHold>, _) = match others {
        Ok(others) => {
            let own = policy.holds.iter().cloned();
            (own.chain(others).chain(perhaps).collect(), None)
        }
        Err(refusal) => (policy.holds.clone(), Some(refusal)),
    };
    // The policy's own holds first: those its author can set right.
    let mut unresolved = unresolved_hold(&policy.holds, &tables)
        .or(unreadable)
        .or_else(|| unresolved_hold(&holds, &tables));
    let mut planned = Vec::with_capacity(policy.rules.len());
    for (name, rule) in &policy.rules {
        let plan = match rule {
            Err(refusal) => Err(refusal.clone()),
            Ok(rule) => {
                let context = Context {
                    policy,
                    holds: &holds,
                    tables: &tables,
                    now: facts.now,
                    unresolved: unresolved.as_ref(),
                    forbids: book.forbids.as_ref().filter(|_| rule.enforced),
                };
                // What is wrong with the rule itself comes first: whose table it is matters when nothing is.
                plan_rule(engine, &context, name, rule).await?.and_then(
                    |plan| match around::claimed(around, &plan.table, &claims) {
                        Some(refusal) => Err(refusal),
                        None => Ok(plan),
                    },
                )
            }
        };
        let removed_holds = match &plan {
            Ok(plan) => removed
                .iter()
                .filter(|hold| {
                    tables.get(&hold.table).is_some_and(|held| {
                        touches(&plan.table, held) || reaches(plan, &held_table(&hold.label, held))
                    })
                })
                .cloned()
                .collect(),
            Err(_) => Vec::new(),
        };
        planned.push(Planned {
            name: name.clone(),
            enforced: rule.as_ref().is_ok_and(|rule| rule.enforced),
            plan,
            removed_holds,
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
    Ok(Plan {
        facts,
        rules: planned,
        book,
    })
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
    /// Holds on its table that their policies do not have any more: a sweep needs an approval.
    pub removed_holds: Vec<RemovedHold>,
}

#[derive(Default)]
struct Tables {
    names: Vec<TableName>,
    found: Vec<Option<TableFacts>>,
}

impl Tables {
    /// Looks up what is not known yet.
    async fn look_up<'a>(
        &mut self,
        engine: &dyn Engine,
        names: impl Iterator<Item = &'a TableName> + Send,
    ) -> Result<(), EngineError> {
        let mut fresh: Vec<TableName> = Vec::new();
        for name in names {
            if !self.names.contains(name) && !fresh.contains(name) {
                fresh.push(name.clone());
            }
        }
        if !fresh.is_empty() {
            self.found.extend(engine.tables(&fresh).await?);
            self.names.extend(fresh);
        }
        Ok(())
    }

    fn get(&self, name: &TableName) -> Option<&TableFacts> {
        let position = self.names.iter().position(|known| known == name)?;
        self.found.get(position)?.as_ref()
    }
}

/// What all rules of a policy are planned with.
struct Context<'a> {
    policy: &'a CheckedPolicy,
    /// Of all policies on the database, as far as they are known.
    holds: &'a [CheckedHold],
    tables: &'a Tables,
    now: Timestamp,
    unresolved: Option<&'a Refusal>,
    /// Why the rule may not delete.
    forbids: Option<&'a Refusal>,
}

async fn plan_rule(
    engine: &dyn Engine,
    context: &Context<'_>,
    name: &str,
    rule: &CheckedRule,
) -> Result<Result<RulePlan, Refusal>, EngineError> {
    let Context {
        policy,
        holds,
        tables,
        now,
        unresolved,
        forbids,
    } = *context;
    let table = tables.get(&rule.table);
    // Where one cannot be resolved the rule is not swept, whatever the others say.
    let held: Vec<&CheckedHold> = holds
        .iter()
        .filter(|_| unresolved.is_none())
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
    if unresolved.is_none() {
        plan.held_tables = held_tables(holds, tables, &plan);
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
        Err(EngineError::NotSupported(message)) => {
            return Ok(Err(Refusal::new(reason::NOT_SUPPORTED, message)));
        }
        Err(error) => return Err(error),
    }
    look_at_archive(engine, &mut plan).await?;
    if rule.enforced
        && let Err(refusal) = check_deletable(&plan)
    {
        return Ok(Err(refusal));
    }
    Ok(match unresolved.or(forbids) {
        Some(refusal) => Err(refusal.clone()),
        None => Ok(plan),
    })
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
    let held = held.parts();
    table.parts().iter().any(|id| held.contains(id))
}

/// The holds on tables whose rows would go along, or be changed, with rows of the plan's table.
fn held_tables(holds: &[CheckedHold], tables: &Tables, plan: &RulePlan) -> Vec<HeldTable> {
    if plan.dependents != Dependents::Cascade {
        return Vec::new();
    }
    holds
        .iter()
        .filter_map(|hold| {
            let table = tables.get(&hold.table)?;
            Some(HeldTable {
                filter: hold.filter.clone(),
                ..held_table(&hold.name, table)
            })
        })
        .filter(|hold| reaches(plan, hold))
        .collect()
}

/// A whole table as a hold means it.
fn held_table(hold: &str, table: &TableFacts) -> HeldTable {
    HeldTable {
        hold: hold.to_owned(),
        schema: table.schema.clone(),
        name: table.name.clone(),
        ids: table.parts(),
        filter: None,
    }
}

/// Rows of the held table would go along, or be changed, with rows of the plan's table.
fn reaches(plan: &RulePlan, held: &HeldTable) -> bool {
    plan.dependents == Dependents::Cascade
        && reached(&plan.table.incoming, plan.dependents)
            .iter()
            .any(|key| key.is_held_by(held))
}

/// A hold that cannot be resolved stops every rule of the policy.
fn unresolved_hold(holds: &[CheckedHold], tables: &Tables) -> Option<Refusal> {
    holds.iter().find_map(|hold| {
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

/// Audits a database for a policy: its rules, and the hygiene of the whole.
///
/// # Errors
/// Only what concerns the whole database; a rule's own trouble is in its entry.
pub async fn audit(
    engine: &dyn Engine,
    policy: &CheckedPolicy,
    around: &Surroundings,
) -> Result<AuditReport, EngineError> {
    let (mut report, Plan { book, .. }) = rules(engine, policy, around).await?;
    let mut hygiene = engine.hygiene().await?;
    hygiene::lighten(&mut hygiene);
    let mut remembered = usage::recall(&book, around).await?;
    let memory = remembered.usage.take();
    let rules = &mut report.rules;
    let change = usage::look(engine, policy, &mut hygiene, memory, rules).await?;
    engine.define_indexes(&mut hygiene).await?;
    let tables = named(engine, policy, &report.rules).await?;
    let context = context(policy, &report.rules, &tables);
    let findings = hygiene::find(&hygiene, &context);
    report.unseen = hygiene.unseen;
    report.findings = Some(findings);
    usage::remember(&book, around, &mut report, remembered, change).await;
    Ok(report)
}

/// Audits the rules of a policy alone: what a sweep wants to know before it begins, with the plan that it may begin with at once.
///
/// # Errors
/// Only what concerns the whole database; a rule's own trouble is in its entry.
pub async fn rules(
    engine: &dyn Engine,
    policy: &CheckedPolicy,
    around: &Surroundings,
) -> Result<(AuditReport, Plan), EngineError> {
    let plan = plan(engine, policy, around).await?;
    let mut rules = Vec::with_capacity(plan.rules.len());
    for planned in &plan.rules {
        let result = match &planned.plan {
            Err(refusal) => Err(refusal.clone()),
            Ok(rule) => {
                let statistics = engine.statistics(rule).await?;
                Ok(report::findings(rule, &statistics, plan.facts.now))
            }
        };
        rules.push(RuleAudit {
            name: planned.name.clone(),
            enforced: planned.enforced,
            result,
        });
    }
    let book = &plan.book;
    let report = AuditReport {
        facts: plan.facts.clone(),
        findings: None,
        suppress: policy.suppress.clone(),
        unseen: Vec::new(),
        first_seen: HashMap::new(),
        today: crate::engine::ledger::DayPoint::default(),
        trend: Vec::new(),
        rules,
        totals: book.ledger.as_ref().map(|_| book.view.totals),
        note: book.note.clone(),
        paused: book.view.paused.clone(),
        unfinished: book.view.unfinished.clone(),
    };
    Ok((report, plan))
}

/// Looks up what rules name and their plans do not hold: tables of refused rules, archive tables, usage logs.
async fn named(
    engine: &dyn Engine,
    policy: &CheckedPolicy,
    rules: &[RuleAudit],
) -> Result<Tables, EngineError> {
    let mut names = Vec::new();
    for ((_, checked), audited) in policy.rules.iter().zip(rules) {
        let Ok(checked) = checked else {
            continue;
        };
        names.extend(audited.result.is_err().then_some(&checked.table));
        names.extend(&checked.archive);
        names.extend(checked.usage.as_ref().map(|log| &log.table));
    }
    let mut tables = Tables::default();
    tables.look_up(engine, names.into_iter()).await?;
    Ok(tables)
}

/// What the checks may know of the policy. `tables` are those of [`named`].
fn context(policy: &CheckedPolicy, rules: &[RuleAudit], tables: &Tables) -> hygiene::Context {
    let mut context = hygiene::Context {
        unused_after_days: policy.unused_after_days,
        ..hygiene::Context::default()
    };
    for ((_, checked), audited) in policy.rules.iter().zip(rules) {
        let Ok(checked) = checked else {
            continue;
        };
        let ruled = match &audited.result {
            Ok(found) => Some(ruled_column(found, &audited.name)),
            Err(_) => tables.get(&checked.table).map(|table| RuledColumn {
                rule: audited.name.clone(),
                table: table.id,
                column: checked.column.clone(),
                indexes: table.indexes_by(&checked.column).collect(),
                ..RuledColumn::default()
            }),
        };
        context.ruled.extend(ruled);
        let archive = checked.archive.as_ref().and_then(|name| tables.get(name));
        context.archives.extend(archive.map(|table| table.id));
        if let Some(log) = &checked.usage
            && let Some(table) = tables.get(&log.table)
        {
            context.log_indexes.extend(table.indexes_by(&log.column));
        }
    }
    context
}

fn ruled_column(found: &RuleFindings, rule: &str) -> RuledColumn {
    let plan = &found.plan;
    #[expect(clippy::cast_precision_loss, reason = "a share needs no 53 bits")]
    let expired = match (found.rows, found.expired) {
        (Some(rows), Some(expired)) if rows.value > 0 => {
            Some(expired.value as f64 / rows.value as f64)
        }
        _ => None,
    };
    RuledColumn {
        rule: rule.to_owned(),
        table: plan.table.id,
        column: plan.column.clone(),
        cutoff: plan.encoding.is_none().then(|| plan.cutoff.epoch_seconds()),
        narrowed: plan.is_narrowed() || plan.held_by.is_some(),
        expired,
        indexes: plan.time_indexes().collect(),
    }
}
