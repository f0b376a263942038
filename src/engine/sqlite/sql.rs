//! The one place that puts text together to SQL.
//!
//! Whatever comes from a policy or a catalog goes in as a quoted identifier, as a quoted literal, or as a number that was checked
//! here. Columns are always qualified (`"t"."name"`): SQLite takes a lone name in double quotes that is no column for a text.

use std::{fmt::Write as _, sync::Arc};

use sqlx::{AssertSqlSafe, Sqlite, query::Query, sqlite::SqliteArguments};

use super::{expiry::Expiry, ledger, obstacles::Obstacles, predicate, value::Value};
use crate::{engine::EngineError, policy::plan::RulePlan};

/// A statement, made in this file only.
#[derive(Clone, Debug)]
pub(super) struct Sql(Arc<str>);

impl Sql {
    /// With its values in the order of their numbers.
    pub(super) fn query<'a>(
        &self,
        values: impl IntoIterator<Item = &'a Value>,
    ) -> Query<'static, Sqlite, SqliteArguments> {
        values.into_iter().fold(
            sqlx::query(AssertSqlSafe(Arc::clone(&self.0))),
            |query, value| value.bind(query),
        )
    }

    /// For a statement that was put together elsewhere, of parts that were quoted here.
    pub(super) fn made(text: String) -> Self {
        Self(text.into())
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// For a constant statement.
pub(super) fn constant(text: &'static str) -> Query<'static, Sqlite, SqliteArguments> {
    sqlx::query(text)
}

/// `"name"`, quotes doubled.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `'text'`, quotes doubled; SQLite knows no other escape.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The name under which every statement knows its table.
const ALIAS: &str = "\"t\"";

/// A column of the statement's table.
pub(super) fn column(name: &str) -> String {
    format!("{ALIAS}.{}", identifier(name))
}

/// A column of the table that a statement knows as `alias`.
pub(super) fn column_of(alias: &str, name: &str) -> String {
    format!("{}.{}", identifier(alias), identifier(name))
}

/// A table of the file, under the name that statements know their table by.
pub(super) fn table(name: &str) -> String {
    format!("main.{} AS {ALIAS}", identifier(name))
}

/// The whole predicate of a plan: expired, filtered, and free of holds.
#[derive(Clone, Debug)]
struct Condition {
    text: String,
    /// Of the time column alone.
    unreadable: String,
    /// The cutoff.
    values: Vec<Value>,
}

impl Condition {
    /// `first` is the number of the first value.
    fn new(plan: &RulePlan, first: usize) -> Result<Self, EngineError> {
        let expiry = Expiry::new(plan, first)?;
        let mut text = expiry.expired;
        if let Some(filter) = &plan.filter {
            let _ = write!(text, " AND {}", predicate::print(filter, plan)?.surely());
        }
        for hold in &plan.holds {
            let _ = write!(text, " AND {}", predicate::print(hold, plan)?.surely_not());
        }
        Ok(Self {
            text,
            unreadable: expiry.unreadable,
            values: expiry.values,
        })
    }
}

/// The whole predicate of a plan over its table, and its values from number `first` on.
pub(super) fn expired(plan: &RulePlan, first: usize) -> Result<(String, Vec<Value>), EngineError> {
    let condition = Condition::new(plan, first)?;
    Ok((condition.text, condition.values))
}

fn is_not_true(text: &str) -> String {
    format!("(CASE WHEN {text} THEN 0 ELSE 1 END)")
}

/// A statement and the values that stay the same for a whole sweep, which come after those that change.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    pub(super) sql: Sql,
    pub(super) values: Vec<Value>,
}

impl Fixed {
    pub(super) fn query(&self, changing: &[Value]) -> Query<'static, Sqlite, SqliteArguments> {
        self.sql.query(changing.iter().chain(&self.values))
    }
}

/// The statements of a walk; constant for a whole sweep, so that SQLite compiles each once.
#[derive(Clone, Debug)]
pub(super) struct WalkStatements {
    /// The last key of the table, one column a part (see [`Key::select`](super::catalog::Key::select)).
    pub(super) last: Sql,
    /// From the beginning of the table.
    pub(super) first: RangeStatements,
    /// From behind a key.
    pub(super) next: RangeStatements,
}

/// Statements over a range of keys: behind a first key if there is one, up to and with a last one.
#[derive(Clone, Debug)]
pub(super) struct RangeStatements {
    /// The key of the row that is so many rows on: after the keys' values their number less one.
    pub(super) nth: Sql,
    /// Counts the rows.
    pub(super) count: Sql,
    /// Deletes what a plan takes. The row count is the number deleted.
    pub(super) delete: Fixed,
    /// The same without the rows that a row keeps which refers to them; and with keys that cannot be set keeping rows, too.
    pub(super) careful: [Fixed; 2],
    /// Counts what a plan takes.
    pub(super) left: Fixed,
}

impl WalkStatements {
    pub(super) fn new(obstacles: &Obstacles<'_>) -> Result<Self, EngineError> {
        let (plan, key) = (obstacles.plan, obstacles.rows);
        let name = &plan.table.name;
        Ok(Self {
            last: Sql(format!(
                "SELECT {} FROM {} ORDER BY {} LIMIT 1",
                key.select(),
                table(name),
                key.order(true)
            )
            .into()),
            first: RangeStatements::new(obstacles, false)?,
            next: RangeStatements::new(obstacles, true)?,
        })
    }
}

impl RangeStatements {
    /// `NOT INDEXED`: the walk goes by the rows' own order, whatever the statistics advise.
    fn new(obstacles: &Obstacles<'_>, behind: bool) -> Result<Self, EngineError> {
        let (plan, key) = (obstacles.plan, obstacles.rows);
        let places = key.places();
        let (range, next) = if behind {
            (
                format!(
                    "{} AND {}",
                    key.compare(">", 1),
                    key.compare("<=", 1 + places)
                ),
                1 + 2 * places,
            )
        } else {
            (key.compare("<=", 1), 1 + places)
        };
        let from = format!("{} NOT INDEXED WHERE {range}", table(&plan.table.name));
        let condition = Condition::new(plan, next)?;
        let fixed = |text: String| Fixed {
            sql: Sql(text.into()),
            values: condition.values.clone(),
        };
        let careful = |sets| {
            let kept = obstacles.condition(sets)?;
            Ok::<_, EngineError>(fixed(format!(
                "DELETE FROM {from} AND {}{kept}",
                condition.text
            )))
        };
        Ok(Self {
            nth: Sql(format!(
                "SELECT {} FROM {from} ORDER BY {} LIMIT 1 OFFSET ?{next}",
                key.select(),
                key.order(false)
            )
            .into()),
            count: Sql(format!("SELECT count(*) AS n FROM {from}").into()),
            careful: [careful(false)?, careful(true)?],
            left: fixed(format!(
                "SELECT count(*) AS n FROM {from} AND {}",
                condition.text
            )),
            delete: fixed(format!("DELETE FROM {from} AND {}", condition.text)),
        })
    }
}

/// The state of the schema.
pub(super) const SCHEMA: &str = "SELECT schema_version AS schema FROM pragma_schema_version";

/// What every chunk asks first: the state of the schema, whether one of `referrers` has a row, and what the ledger says about the
/// lease on the table of that number.
pub(super) fn look(referrers: &[String], table_id: u32) -> Sql {
    let filled = referrers.iter().map(|name| {
        format!(
            "SELECT {} WHERE EXISTS (SELECT 1 FROM main.{})",
            literal(name),
            identifier(name)
        )
    });
    let filled: Vec<String> = std::iter::once("SELECT NULL WHERE 0".to_owned())
        .chain(filled)
        .collect();
    Sql(format!(
        "SELECT (SELECT schema_version FROM pragma_schema_version) AS schema, (SELECT * FROM ({}) LIMIT 1) AS filled, {}",
        filled.join(" UNION ALL "),
        ledger::watch(table_id)
    )
    .into())
}

/// Counts a table's rows, up to `most` of them.
pub(super) fn count_some(name: &str, most: i64) -> Sql {
    Sql(format!(
        "SELECT count(*) AS n FROM (SELECT 1 FROM main.{} LIMIT {most})",
        identifier(name)
    )
    .into())
}

/// Whether a table has no row.
pub(super) fn is_empty(name: &str) -> Sql {
    Sql(format!(
        "SELECT NOT EXISTS (SELECT 1 FROM main.{}) AS empty",
        identifier(name)
    )
    .into())
}

/// Whether a table has a row (`some`), and whether it has so `many`; steps over no more.
pub(super) fn filled(name: &str, many: u64) -> Sql {
    let table = identifier(name);
    let last = many.saturating_sub(1);
    Sql(format!(
        "SELECT EXISTS (SELECT 1 FROM main.{table}) AS \"some\", EXISTS (SELECT 1 FROM main.{table} LIMIT 1 OFFSET {last}) AS \"many\""
    )
    .into())
}

/// Counts a table's rows.
pub(super) fn count_rows(name: &str) -> Fixed {
    Fixed {
        sql: Sql(format!("SELECT count(*) AS n FROM {}", table(name)).into()),
        values: Vec::new(),
    }
}

/// Counts the rows that a plan would take (`n`), and in the same scan those of its `where` whose value is unreadable, and those that
/// have expired and stay because nobody knows whether they are of its `where`, or held (`undecided`).
pub(super) fn count_expired(plan: &RulePlan) -> Result<Fixed, EngineError> {
    let condition = Condition::new(plan, 1)?;
    let filter = match &plan.filter {
        Some(filter) => Some(predicate::print(filter, plan)?),
        None => None,
    };
    let holds: Vec<predicate::Condition> = plan
        .holds
        .iter()
        .map(|hold| predicate::print(hold, plan))
        .collect::<Result<_, _>>()?;
    let or_all = |text: Option<String>| text.unwrap_or_else(|| "1".to_owned());
    let surely = or_all(filter.as_ref().map(predicate::Condition::surely));
    let perhaps = or_all(filter.as_ref().map(predicate::Condition::perhaps));
    let is_doubtful = filter
        .iter()
        .chain(&holds)
        .any(predicate::Condition::is_doubtful);
    let undecided = if is_doubtful {
        // Those that would go if each doubt were in favour of it.
        let mut undecided = Expiry::new(plan, 1)?.expired;
        for hold in &holds {
            let _ = write!(undecided, " AND NOT {}", hold.surely());
        }
        format!("{undecided} AND {}", is_not_true(&condition.text))
    } else {
        "0".to_owned()
    };
    Ok(Fixed {
        sql: Sql(format!(
            "SELECT count(*) FILTER (WHERE {}) AS n, count(*) FILTER (WHERE {surely} AND {}) AS unreadable, \
             count(*) FILTER (WHERE {undecided}) AS undecided FROM {} WHERE {perhaps}",
            condition.text,
            condition.unreadable,
            table(&plan.table.name),
        )
        .into()),
        values: condition.values,
    })
}

/// Looks for a value that is readable and not before a plan's cutoff, whatever its `where` and its holds say: `n` is 1 or 0.
pub(super) fn has_later(plan: &RulePlan) -> Result<Fixed, EngineError> {
    let expiry = Expiry::new(plan, 1)?;
    Ok(Fixed {
        sql: Sql(format!(
            "SELECT EXISTS (SELECT 1 FROM {} WHERE {} NOTNULL AND NOT {} AND {}) AS n",
            table(&plan.table.name),
            column(&plan.column),
            expiry.unreadable,
            is_not_true(&expiry.expired),
        )
        .into()),
        values: expiry.values,
    })
}

/// Lets SQLite resolve every name of one condition, and nothing else: `EXPLAIN` compiles and does not run.
fn check(plan: &RulePlan, condition: &str) -> Sql {
    Sql(format!(
        "EXPLAIN SELECT 1 FROM {} WHERE {condition}",
        table(&plan.table.name)
    )
    .into())
}

/// One statement for each part of a plan that may not fit its table, with the words for the error.
pub(super) fn checks(plan: &RulePlan) -> Result<Vec<(String, Sql)>, EngineError> {
    let mut out = vec![(
        format!("column {}", plan.column),
        check(plan, &Expiry::new(plan, 1)?.expired),
    )];
    if let Some(filter) = &plan.filter {
        let text = predicate::print(filter, plan).map_err(|error| of_part("where", error))?;
        out.push(("where".to_owned(), check(plan, &text.surely())));
    }
    for (n, hold) in plan.holds.iter().enumerate() {
        let part = format!("the where of hold {}", n + 1);
        let text = predicate::print(hold, plan).map_err(|error| of_part(&part, error))?;
        out.push((part, check(plan, &text.surely_not())));
    }
    Ok(out)
}

/// The same for what keeps rows because of rows that refer to them.
pub(super) fn check_obstacles(obstacles: &Obstacles<'_>) -> Result<Sql, EngineError> {
    let condition = format!(
        "1{}{}",
        obstacles.condition(false)?,
        obstacles.condition(true)?
    );
    Ok(check(obstacles.plan, &condition))
}

/// A predicate that cannot be printed says in which part of the plan it stands.
fn of_part(part: &str, error: EngineError) -> EngineError {
    match error {
        EngineError::Predicate(message) => EngineError::Predicate(format!("{part}: {message}")),
        other => other,
    }
}
