//! Usage logs of services: read by the index on their times, newest entries first, and no more than so many.
//!
//! No type says how a column keeps its times. They are looked for in each encoding that rules know, and as julian days; see
//! [`times`]. Those without a zone are UTC, as those of `datetime('now')` are.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{Row, sqlite::SqliteRow};

use super::{
    SqliteEngine, catalog,
    session::Session,
    sql::{self, Sql},
    value::Value,
};
use crate::{
    engine::EngineError,
    policy::{
        encoding::Storage,
        table::{TableFacts, TableKind},
        usage::{
            LogQuery, Logged,
            times::{self, Sampled},
        },
    },
};

/// Entries that are looked at, of each encoding.
const ENTRIES: u32 = 50_000;
/// Entries about the thing itself, of which the newest counts: with zones of their own they are not quite in order.
const MATCHES: u32 = 100;
/// Evidence is not worth more of the service's time.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Entries at each end of the numbers, of the texts and of what is neither that tell how a log is written in which no use was found.
const SAMPLES: u32 = 20;
/// How times may be written.
const FORMS: &str = "seconds, milliseconds or microseconds since 1970, a julian day, or an ISO 8601 text such as 2026-01-31T12:00:00Z";

/// The last use of a thing in a log.
pub(super) async fn last(
    engine: &SqliteEngine,
    query: &LogQuery,
    days: u32,
) -> Result<Logged, EngineError> {
    let mut session = engine.read().await?;
    session.limit(TIMEOUT.min(engine.statement_timeout));
    let logged = read(&mut session, query, days, Timestamp::now()).await;
    session.close().await;
    let name = query.table.to_string();
    match logged {
        // What concerns the log alone must not spoil the audit.
        Err(reason) if reason.as_database_error().is_some() => {
            let error = engine.error("reading", Some(&name), &reason);
            Ok(unreadable(error.to_string()))
        }
        other => other.map_err(|reason| engine.error("reading", Some(&name), &reason)),
    }
}

async fn read(
    session: &mut Session,
    query: &LogQuery,
    days: u32,
    now: Timestamp,
) -> Result<Logged, sqlx::Error> {
    let mut found = catalog::tables(session, std::slice::from_ref(&query.table)).await?;
    let Some(table) = found.pop().flatten() else {
        return Ok(unreadable(format!("table {} does not exist", query.table)));
    };
    if let Err(why) = readable(&table, query) {
        return Ok(unreadable(why));
    }
    let windows = windows(now, days);
    let names = query.names.iter().cloned().map(Value::Text);
    let ends = windows.iter().flat_map(|(from, until)| [from, until]);
    let values: Vec<Value> = names.chain(ends.cloned()).collect();
    let newest = newest(&table, query, windows.len());
    let rows = session.rows(newest.query(&values)).await?;
    let last = rows.iter().filter_map(at).filter(|at| *at <= now).max();
    if let Some(at) = last {
        return Ok(Logged::Used(at));
    }
    let names = &values[..query.names.len()];
    let rows = session.rows(ends_of(&table, query).query(names)).await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in &rows {
        entries.push(Sampled {
            at: at(row),
            names_it: row.try_get::<i64, _>("names_it")? != 0,
        });
    }
    let column = format!("column {} of {}", query.column, table.qualified());
    Ok(times::without_use(&entries, &column, FORMS))
}

fn unreadable(why: impl Into<String>) -> Logged {
    Logged::Unreadable(why.into())
}

/// Nothing but a table, by an index: no view, no scan of the whole.
fn readable(table: &TableFacts, query: &LogQuery) -> Result<(), String> {
    let name = table.qualified();
    if let TableKind::Unsupported(word) = &table.kind {
        return Err(format!("{name} is a {word}: name a table"));
    }
    for column in [&query.column, &query.object] {
        if table.column(column).is_none() {
            return Err(format!("{name} has no column {column}"));
        }
    }
    if !table.leading_index_columns.contains(&query.column) {
        return Err(format!(
            "no index of {name} begins with {}: make one, so that it can be read cheaply",
            query.column
        ));
    }
    Ok(())
}

/// Where entries of the days that count may stand in the index. A column that makes texts of numbers, or numbers of texts, does so with
/// these ends too.
fn windows(now: Timestamp, days: u32) -> Vec<(Value, Value)> {
    let from = times::begin(now, days);
    let numbers = times::numbers(from, now).into_iter();
    let julian = times::julian_days(from, now);
    let texts = times::texts(from, now).into_iter();
    numbers
        .map(|it| (Value::Integer(it.from), Value::Integer(it.until)))
        .chain([(Value::Real(julian.from), Value::Real(julian.until))])
        .chain(texts.map(|it| (Value::Text(it.from), Value::Text(it.until))))
        .collect()
}

/// When the entry of a row was written.
fn at(row: &SqliteRow) -> Option<Timestamp> {
    // Texts need not be UTF-8.
    let kind: String = row.try_get("kind").ok()?;
    let value: String = row.try_get("at").ok()?;
    match kind.as_str() {
        "integer" => times::logged_at(Storage::Integer, &value),
        "real" => times::logged_at(Storage::Float, &value),
        "text" => return times::logged_at(Storage::Text, &value),
        _ => return None,
    }
    .or_else(|| times::julian_day(&value))
}

/// `?1` and so on.
fn numbered(names: &[String]) -> String {
    let numbers: Vec<String> = (1..=names.len()).map(|n| format!("?{n}")).collect();
    numbers.join(", ")
}

/// The names come first, then both ends of each window.
fn newest(table: &TableFacts, query: &LogQuery, windows: usize) -> Sql {
    let column = sql::column(&query.column);
    let object = sql::column(&query.object);
    let names = numbered(&query.names);
    let table = sql::table(&table.name);
    let of_window = |window: usize| {
        let from = query.names.len() + 2 * window + 1;
        format!(
            "SELECT * FROM (SELECT typeof(e.at) AS kind, CAST(e.at AS TEXT) AS at FROM (SELECT {column} AS at, {object} AS object \
             FROM {table} WHERE {column} >= ?{from} AND {column} < ?{until} ORDER BY {column} DESC LIMIT {ENTRIES}) AS e \
             WHERE e.object IN ({names}) ORDER BY e.at DESC LIMIT {MATCHES})",
            until = from + 1
        )
    };
    let all: Vec<String> = (0..windows).map(of_window).collect();
    Sql::made(all.join(" UNION ALL "))
}

/// The entries at the ends of the numbers, of the texts, and of the blobs. In an index they follow each other.
fn ends_of(table: &TableFacts, query: &LogQuery) -> Sql {
    let column = sql::column(&query.column);
    let object = sql::column(&query.object);
    let names = numbered(&query.names);
    let table = sql::table(&table.name);
    let kinds = [
        format!("{column} < ''"),
        format!("{column} >= '' AND {column} < x''"),
        format!("{column} >= x''"),
    ];
    let end = |kind: &str, order: &str| {
        format!(
            "SELECT * FROM (SELECT typeof({column}) AS kind, CAST({column} AS TEXT) AS at, {object} IN ({names}) IS TRUE AS names_it \
             FROM {table} WHERE {kind} ORDER BY {column} {order} LIMIT {SAMPLES})"
        )
    };
    let all: Vec<String> = kinds
        .iter()
        .flat_map(|kind| [end(kind, "DESC"), end(kind, "ASC")])
        .collect();
    Sql::made(all.join(" UNION ALL "))
}
