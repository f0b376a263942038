//! What a plan says of its table, as SQL: which rows go, and how they are counted and checked.

use std::fmt::Write as _;

use super::{Sql, table};
use crate::{
    engine::{
        EngineError,
        postgres::{
            archive_table::ArchiveTable,
            expiry::{self, Cutoff},
            predicate,
        },
    },
    policy::{plan::RulePlan, predicate::Predicate},
};

/// The statements on one leaf; constant for a whole sweep, so that statement statistics hold one line for each.
#[derive(Clone, Debug)]
pub(in crate::engine::postgres) struct LeafStatements {
    /// Deletes a range: `$1`, `$2` its tids as text, `$3` the cutoff. The row count is the number deleted.
    pub(in crate::engine::postgres) delete: Sql,
    /// Counts what still matches in a range; parameters as `delete`.
    pub(in crate::engine::postgres) remaining: Sql,
    /// The tid, as text, of the expired row of a range that `$4` others come before; parameters as `delete`.
    pub(in crate::engine::postgres) nth: Sql,
}

/// The range of tids from `$1` up to and without `$2`.
pub(in crate::engine::postgres) const RANGE: &str =
    "k0.ctid >= $1::text::tid AND k0.ctid < $2::text::tid";

impl LeafStatements {
    pub(in crate::engine::postgres) fn new(
        plan: &RulePlan,
        schema: &str,
        name: &str,
        id: u32,
        archive: Option<&ArchiveTable>,
    ) -> Result<Self, EngineError> {
        let leaf = table(schema, name);
        let expired = expired(plan, "$3", &leaf, id)?;
        let delete = format!("DELETE FROM ONLY {leaf} AS k0 WHERE {RANGE} AND {expired}");
        Ok(Self {
            delete: taking(delete, id, archive),
            remaining: Sql::made(format!(
                "SELECT pg_catalog.count(*) AS n FROM ONLY {leaf} AS k0 WHERE {RANGE} AND {expired}"
            )),
            nth: Sql::made(format!(
                "SELECT k0.ctid::text AS tid FROM ONLY {leaf} AS k0 WHERE {RANGE} AND {expired} ORDER BY k0.ctid OFFSET $4 LIMIT 1"
            )),
        })
    }
}

/// A delete on a leaf, or one that archives what it takes.
pub(in crate::engine::postgres) fn taking(
    delete: String,
    leaf: u32,
    archive: Option<&ArchiveTable>,
) -> Sql {
    Sql::made(match archive {
        Some(archive) => archive.taking(leaf, &delete),
        None => delete,
    })
}

/// The whole predicate of a plan on one leaf, `parameter` being the cutoff.
pub(in crate::engine::postgres) fn expired(
    plan: &RulePlan,
    parameter: &str,
    leaf: &str,
    id: u32,
) -> Result<String, EngineError> {
    condition(plan, &Cutoff::new(parameter).guarded(leaf, id))
}

/// The whole predicate of a plan, wherever its rows are.
pub(in crate::engine::postgres) fn expired_by(
    plan: &RulePlan,
    parameter: &str,
) -> Result<String, EngineError> {
    condition(plan, &Cutoff::new(parameter))
}

/// The whole predicate of a plan.
fn condition(plan: &RulePlan, cutoff: &Cutoff) -> Result<String, EngineError> {
    let mut out = expiry::expired(plan, cutoff);
    if let Some(filter) = filter(plan)? {
        let _ = write!(out, " AND {filter}");
    }
    for hold in &plan.holds {
        let _ = write!(out, " AND {}", free(hold)?);
    }
    Ok(out)
}

/// A row is free of a hold unless it is true.
fn free(hold: &Predicate) -> Result<String, EngineError> {
    Ok(format!("({}) IS NOT TRUE", predicate::print(hold)?))
}

/// A plan's `where`.
fn filter(plan: &RulePlan) -> Result<Option<String>, EngineError> {
    plan.filter
        .as_ref()
        .map(|filter| Ok(format!("({}) IS TRUE", predicate::print(filter)?)))
        .transpose()
}

/// Counts a leaf's rows; with `in_part` those in the range of tids from `$1` up to and without `$2`.
pub(in crate::engine::postgres) fn count_rows(schema: &str, name: &str, in_part: bool) -> Sql {
    let part = if in_part {
        format!(" WHERE {RANGE}")
    } else {
        String::new()
    };
    Sql(format!(
        "SELECT pg_catalog.count(*) AS n FROM ONLY {} AS k0{part}",
        table(schema, name)
    )
    .into())
}

/// Counts the rows of a leaf that a plan would take (`n`), and for an encoded column in the same scan those of its `where`
/// whose value is unreadable; `$1` is the cutoff. With `in_part` those in the range of tids from `$1` up to and without `$2`, and
/// the cutoff is `$3`.
pub(in crate::engine::postgres) fn count_expired(
    plan: &RulePlan,
    schema: &str,
    name: &str,
    in_part: bool,
) -> Result<Sql, EngineError> {
    let leaf = table(schema, name);
    let (cutoff, part) = if in_part {
        (Cutoff::new("$3"), format!("{RANGE} AND "))
    } else {
        (Cutoff::new("$1"), String::new())
    };
    let holds: Vec<String> = plan.holds.iter().map(free).collect::<Result<_, _>>()?;
    let free = if holds.is_empty() {
        "TRUE".to_owned()
    } else {
        holds.join(" AND ")
    };
    Ok(Sql(match expiry::state(plan, &cutoff, &free) {
        None => format!(
            "SELECT pg_catalog.count(*) AS n FROM ONLY {leaf} AS k0 WHERE {part}{}",
            condition(plan, &cutoff)?
        ),
        // Not merged into one query by the planner, which would work out the state twice.
        Some(state) => format!(
            "SELECT pg_catalog.count(*) FILTER (WHERE state = 2) AS n, \
             pg_catalog.count(*) FILTER (WHERE state = 0) AS unreadable \
             FROM (SELECT {state} AS state FROM ONLY {leaf} AS k0 WHERE {part}{} OFFSET 0) AS judged",
            filter(plan)?.as_deref().unwrap_or("TRUE")
        ),
    }
    .into()))
}

/// Looks for a value of an encoded column of a leaf that is not before the cutoff, `$1`; `None`: the column is of a time type.
pub(in crate::engine::postgres) fn has_later(
    plan: &RulePlan,
    schema: &str,
    name: &str,
) -> Option<Sql> {
    let state = expiry::state(plan, &Cutoff::new("$1"), "TRUE")?;
    Some(Sql(format!(
        "SELECT EXISTS (SELECT FROM ONLY {} WHERE {state} = 1) AS found",
        table(schema, name)
    )
    .into()))
}

/// Lets the server resolve every name and type of one condition, and nothing else: `PREPARE` neither plans nor runs, and the
/// name is gone again at the end of the same message.
fn check(plan: &RulePlan, condition: &str) -> Sql {
    check_on(&plan.table.schema, &plan.table.name, condition)
}

fn check_on(schema: &str, name: &str, condition: &str) -> Sql {
    Sql(format!(
        "PREPARE retention_operator_check AS SELECT 1 FROM ONLY {} WHERE {condition}; \
         DEALLOCATE retention_operator_check",
        table(schema, name)
    )
    .into())
}

/// One statement for each part of a plan that may not fit its table, with the words for the error.
pub(in crate::engine::postgres) fn checks(
    plan: &RulePlan,
) -> Result<Vec<(String, Sql)>, EngineError> {
    let mut out = vec![(
        format!("column {}", plan.column),
        check(plan, &expiry::expired(plan, &Cutoff::new("NULL"))),
    )];
    if let Some(filter) = filter(plan)? {
        out.push(("where".to_owned(), check(plan, &filter)));
    }
    for (n, hold) in plan.holds.iter().enumerate() {
        out.push((
            format!("the where of hold {}", n + 1),
            check(plan, &free(hold)?),
        ));
    }
    for hold in &plan.held_tables {
        if let Some(filter) = &hold.filter {
            let text = predicate::print(filter)?;
            out.push((
                format!("the where of hold {}", hold.hold),
                check_on(&hold.schema, &hold.name, &format!("({text}) IS NOT TRUE")),
            ));
        }
    }
    Ok(out)
}
