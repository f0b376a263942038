//! What a sweep of one rule would do: the rule, resolved against the catalog and the database's clock.

use jiff::{Timestamp, tz::TimeZone};

use super::{
    check::{CheckedHold, CheckedRule, Refusal, reason},
    cutoff::{Cutoff, cutoff_instant},
    dependents::{Dependents, HeldTable, check_dependents},
    encoding::{Encoding, Storage},
    limits::Limits,
    near::near,
    predicate::Predicate,
    table::{ColumnFacts, TableFacts, TableKind, TableName, TimeDomain},
};

/// One rule, ready to be swept. Everything that the engine needs, nothing that it may interpret.
#[derive(Clone, Debug)]
pub struct RulePlan {
    /// The rule's name.
    pub rule: String,
    /// The table as the catalog described it; the engine checks before each chunk that it is still that table.
    pub table: TableFacts,
    /// The time column, a column of `table`.
    pub column: String,
    /// How the column holds its times, where it is not of a time type itself: the cutoff is then an instant.
    pub encoding: Option<Encoding>,
    /// Zone of values that carry none.
    pub column_zone: TimeZone,
    /// Rows whose time is before it are expired.
    pub cutoff: Cutoff,
    /// Rows before it should be gone by now: the cutoff of the last due tick, or `cutoff` where no schedule sweeps the rule.
    pub overdue: Cutoff,
    /// The rule's `where`: a row is taken only if it is true.
    pub filter: Option<Predicate>,
    /// Holds on the table: a row is free only if none of them is true.
    pub holds: Vec<Predicate>,
    /// A hold on the whole table, by name: nothing may go.
    pub held_by: Option<String>,
    /// The blast-radius cap.
    pub limits: Limits,
    /// What is done about rows that refer to expired ones.
    pub dependents: Dependents,
    /// Holds on tables whose rows could be reached through foreign keys.
    pub held_tables: Vec<HeldTable>,
    /// Where the rows go before they are deleted; `None`: they are deleted.
    pub archive: Option<ArchivePlan>,
}

/// A table of the same database into which a rule's rows are moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivePlan {
    /// The table, as the policy spells it.
    pub table: TableName,
    /// The sweep whose id its rows bear; empty while nothing is swept.
    pub sweep: String,
    /// What stands in the table's way, or how it would be made; [`ArchiveState::Unknown`] before anybody looked.
    pub state: ArchiveState,
}

/// What was found where an archive table should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveState {
    /// Nobody looked.
    Unknown,
    /// It is there, and takes the rows.
    Fits,
    /// It is not there; the sweep creates it, by this statement.
    Missing(String),
    /// It cannot take the rows.
    Refused(Refusal),
}

impl RulePlan {
    /// Indexes of the table and its parts that begin with the time column, by their numbers.
    pub fn time_indexes(&self) -> impl Iterator<Item = u32> {
        self.table.indexes_by(&self.column)
    }

    /// Statistics know the time column only: with `where` or holds they give an upper bound.
    #[must_use]
    pub fn is_narrowed(&self) -> bool {
        self.filter.is_some() || !self.holds.is_empty()
    }
}

/// Resolves a rule: its table, its column, its cutoff, the holds on its table.
///
/// `table` is what the catalog says of the rule's table, `None` when there is no such table. `held` are the holds whose
/// table is this one (compared after look-up, by the table's number), `now` is the database's clock, `last_tick` the last
/// tick of the schedule.
///
/// # Errors
/// When the rule cannot be carried out on that table; the message says what to change.
pub fn resolve(
    name: &str,
    rule: &CheckedRule,
    table: Option<&TableFacts>,
    held: &[&CheckedHold],
    zone: &TimeZone,
    now: Timestamp,
    last_tick: Option<Timestamp>,
) -> Result<RulePlan, Refusal> {
    let Some(table) = table else {
        return Err(Refusal::new(
            reason::TABLE_NOT_FOUND,
            format!(
                "table {} does not exist: write [schema.]table exactly as the database spells it",
                rule.table
            ),
        ));
    };
    check_table(table)?;
    let column = check_column(rule, table)?;
    let domain = check_domain(rule, table, column)?;
    let column_zone = rule.column_zone.clone().unwrap_or(TimeZone::UTC);
    let cutoff_at = |clock: Timestamp| {
        cutoff_instant(clock, &rule.age, zone)
            .map(|instant| Cutoff::in_domain(instant, domain, &column_zone))
            .map_err(|error| Refusal::new(reason::INVALID_SPEC, format!("expireAfter: {error}")))
    };
    let cutoff = cutoff_at(now)?;
    let overdue = match last_tick.filter(|_| rule.enforced) {
        Some(tick) => cutoff_at(tick)?,
        None => cutoff,
    };
    if let Some(filter) = &rule.filter {
        filter
            .check(table)
            .map_err(|error| Refusal::new(reason::INVALID_WHERE, format!("where: {error}")))?;
    }
    for hold in held {
        if let Some(filter) = &hold.filter {
            filter.check(table).map_err(|error| {
                Refusal::new(
                    reason::HOLD_UNRESOLVED,
                    format!("hold {}: where: {error}", hold.name),
                )
            })?;
        }
    }
    Ok(RulePlan {
        rule: name.to_owned(),
        table: table.clone(),
        column: rule.column.clone(),
        encoding: rule.encoding,
        column_zone: column_zone.clone(),
        cutoff,
        overdue,
        filter: rule.filter.clone(),
        holds: held.iter().filter_map(|hold| hold.filter.clone()).collect(),
        held_by: held
            .iter()
            .find(|hold| hold.filter.is_none())
            .map(|hold| hold.name.clone()),
        limits: rule.limits,
        dependents: rule.dependents,
        held_tables: Vec::new(),
        archive: rule.archive.clone().map(|table| ArchivePlan {
            table,
            sweep: String::new(),
            state: ArchiveState::Unknown,
        }),
    })
}

fn check_table(table: &TableFacts) -> Result<(), Refusal> {
    let name = table.qualified();
    if let TableKind::Unsupported(kind) = &table.kind {
        return Err(Refusal::new(
            reason::NOT_SUPPORTED,
            format!("{name} is a {kind}: name a table"),
        ));
    }
    if table.system {
        return Err(Refusal::new(
            reason::NOT_SUPPORTED,
            format!(
                "{name} belongs to the database system, to an extension or to the operator: name a table of the service"
            ),
        ));
    }
    if !table.may_select {
        return Err(permission(table, "SELECT"));
    }
    Ok(())
}

/// So many columns are named in a message.
const NAMED: usize = 8;

/// Columns that hold times without an encoding.
fn times(table: &TableFacts) -> Vec<&str> {
    table
        .columns
        .iter()
        .filter(|column| column.time_domain.is_some())
        .map(|column| column.name.as_str())
        .take(NAMED)
        .collect()
}

fn check_column<'a>(rule: &CheckedRule, table: &'a TableFacts) -> Result<&'a ColumnFacts, Refusal> {
    table.column(&rule.column).ok_or_else(|| {
        let names = || table.columns.iter().map(|column| column.name.as_str());
        let times = times(table);
        let alike = near(&rule.column, names(), 1, 2);
        let advice = match (alike.first(), times.is_empty()) {
            (Some(alike), true) => format!("did you mean {alike}?"),
            (Some(alike), false) => format!(
                "did you mean {alike}? Its date and time columns are {}",
                times.join(", ")
            ),
            (None, false) => format!("its date and time columns are {}", times.join(", ")),
            // Such a column may hold times by an encoding all the same.
            (None, true) => format!(
                "its columns are {}",
                names().take(NAMED).collect::<Vec<_>>().join(", ")
            ),
        };
        Refusal::new(
            reason::COLUMN_NOT_FOUND,
            format!(
                "{} has no column {}: {advice}",
                table.qualified(),
                rule.column
            ),
        )
    })
}

/// How the cutoff is written. For a column with an encoding that is an instant; the engine converts it.
fn check_domain(
    rule: &CheckedRule,
    table: &TableFacts,
    column: &ColumnFacts,
) -> Result<TimeDomain, Refusal> {
    let what = format!(
        "column {} of {} is {}",
        column.name,
        table.qualified(),
        column.type_name
    );
    let refuse = |advice: String| {
        Err(Refusal::new(
            reason::COLUMN_TYPE,
            format!("{what}: {advice}"),
        ))
    };
    let fitting = column
        .storage
        .map(fitting_encodings)
        .filter(|names| !names.is_empty());
    let domain = match (column.time_domain, rule.encoding, fitting) {
        (Some(domain), None, _) => domain,
        (Some(_), Some(_), _) => {
            return refuse("its values are times in themselves: remove encoding".to_owned());
        }
        (None, Some(encoding), Some(names)) => {
            if !column.storage.is_some_and(|storage| encoding.fits(storage)) {
                return refuse(format!(
                    "it cannot hold encoding {}: write {names}",
                    encoding.as_str()
                ));
            }
            TimeDomain::Instant
        }
        (None, None, Some(names)) => {
            let times = times(table);
            let other = if times.is_empty() {
                String::new()
            } else {
                format!(
                    "; or name one of its date and time columns: {}",
                    times.join(", ")
                )
            };
            return refuse(format!(
                "its unit or format is never guessed: state encoding: {names}{other}"
            ));
        }
        (None, _, None) => {
            return refuse(
                "name a timestamp, timestamptz or date column, or with encoding one of numbers, texts or UUIDs".to_owned(),
            );
        }
    };
    if rule.column_zone.is_some() {
        let instants = match rule.encoding {
            None => domain == TimeDomain::Instant,
            Some(encoding) => !encoding.is_local(),
        };
        if instants {
            return Err(Refusal::new(
                reason::INVALID_SPEC,
                format!(
                    "columnTimeZone does not apply: the values of {} ({}) carry their instant; remove columnTimeZone",
                    column.name, column.type_name
                ),
            ));
        }
    }
    Ok(domain)
}

/// `A, B or C`; empty: none fits.
fn fitting_encodings(storage: Storage) -> String {
    let names: Vec<&str> = Encoding::ALL
        .into_iter()
        .filter(|encoding| encoding.fits(storage))
        .map(Encoding::as_str)
        .collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => (*last).to_owned(),
        None => String::new(),
    }
}

/// What forbids deleting from the table, whatever the rows: asked when the rule enforces, reported when it only audits.
///
/// # Errors
/// The first reason found.
pub fn check_deletable(plan: &RulePlan) -> Result<(), Refusal> {
    let table = &plan.table;
    let name = table.qualified();
    if let Some(leaf) = table.leaves.iter().find(|leaf| leaf.unsupported.is_some()) {
        let what = leaf.unsupported.as_deref().unwrap_or_default();
        return Err(Refusal::new(
            reason::NOT_SUPPORTED,
            format!(
                "{}.{}, which holds rows of {name}, cannot be swept: {what}",
                leaf.schema, leaf.name
            ),
        ));
    }
    if table.row_security_active {
        return Err(Refusal::new(
            reason::ROW_SECURITY,
            format!(
                "row-level security hides rows of {} from the role: use the table's owner or a role with BYPASSRLS",
                hindered(table).1
            ),
        ));
    }
    if let Some(publication) = &table.published_without_identity {
        return Err(Refusal::new(
            reason::REPLICA_IDENTITY,
            format!(
                "{name} is in publication {publication} without a replica identity, so every DELETE fails: add a primary key, or ALTER TABLE … REPLICA IDENTITY"
            ),
        ));
    }
    if let Some(reason) = &table.delete_fails {
        return Err(Refusal::new(reason::NOT_SUPPORTED, reason.clone()));
    }
    if let Some(rewrite) = &table.delete_rule {
        return Err(Refusal::new(
            reason::NOT_SUPPORTED,
            format!("rule {rewrite} changes what a DELETE on {name} does"),
        ));
    }
    check_dependents(plan)?;
    if !table.may_delete {
        return Err(permission(table, "DELETE"));
    }
    match plan.archive.as_ref().map(|archive| &archive.state) {
        Some(ArchiveState::Refused(refusal)) => Err(refusal.clone()),
        _ => Ok(()),
    }
}

fn permission(table: &TableFacts, right: &str) -> Refusal {
    let (part, words) = hindered(table);
    Refusal::new(
        reason::PERMISSION_DENIED,
        format!(
            "the role may not {right} on {words}: GRANT {right} ON {part} TO the role, and USAGE on its schema"
        ),
    )
}

/// Where the role is hindered: the name, and the same in the words of a sentence.
fn hindered(table: &TableFacts) -> (String, String) {
    let whole = table.qualified();
    match &table.hindered_part {
        Some(part) => (part.clone(), format!("{part}, which holds rows of {whole}")),
        None => (whole.clone(), whole),
    }
}

#[cfg(test)]
mod tests;
