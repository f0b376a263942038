//! Usage logs of services: read by the index on their times, newest entries first, and no more than so many.
//!
//! No type says how a column keeps its times, and units are never guessed: read are ISO 8601 texts, which SQLite's own
//! `datetime('now')` writes too. Those without a zone are UTC, as that is.

use std::time::Duration;

use jiff::{Span, Timestamp, tz::TimeZone};
use sqlx::Row;

use super::{
    SqliteEngine, catalog,
    session::Session,
    sql::{self, Sql},
    value::Value,
};
use crate::{
    engine::EngineError,
    policy::{
        encoding::{Encoding, Storage, decode},
        table::{TableFacts, TableKind},
        usage::{LogQuery, Logged},
    },
};

/// Entries that are looked at.
const ENTRIES: u32 = 50_000;
/// Entries about the thing itself, of which the newest counts: with zones of their own they are not quite in order.
const MATCHES: u32 = 100;
/// Evidence is not worth more of the service's time.
const TIMEOUT: Duration = Duration::from_secs(2);

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
    let mut values: Vec<Value> = query.names.iter().cloned().map(Value::Text).collect();
    values.push(Value::Text(first_day(now, days)));
    let rows = session.rows(newest(&table, query).query(&values)).await?;
    let mut times = Vec::with_capacity(rows.len());
    for row in &rows {
        times.push(instant(&row.try_get::<String, _>("at")?));
    }
    let last = times.iter().flatten().filter(|at| **at <= now).max();
    if let Some(at) = last {
        return Ok(Logged::Used(*at));
    }
    let holds = session.row(kinds(&table, query).query([])).await?;
    let texts = holds.try_get::<i64, _>("texts")? != 0;
    let others = holds.try_get::<i64, _>("others")? != 0;
    if (others && !texts) || (!times.is_empty() && times.iter().all(Option::is_none)) {
        return Ok(unreadable(format!(
            "column {} of {} holds no ISO 8601 texts: write times such as 2026-01-31T12:00:00Z or 2026-01-31 12:00:00 (UTC)",
            query.column,
            table.qualified()
        )));
    }
    Ok(Logged::NotFound)
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

/// The day from which on entries matter, as texts begin with it.
fn first_day(now: Timestamp, days: u32) -> String {
    let days = i64::from(days.saturating_add(1).min(36_500));
    let today = now.to_zoned(TimeZone::UTC).date();
    today.saturating_sub(Span::new().days(days)).to_string()
}

/// A day is one from its beginning on: evidence is rather too old than too young.
fn instant(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let beginning = (text.len() == 10).then(|| format!("{text}T00:00:00Z"));
    let seconds = decode(
        Encoding::Iso8601,
        Storage::Text,
        beginning.as_deref().unwrap_or(text),
        &TimeZone::UTC,
    )?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "milliseconds of a year with four digits"
    )]
    Timestamp::from_millisecond((seconds * 1e3) as i64).ok()
}

/// The names come first, then the first day. Texts are greater than all numbers and less than all blobs.
fn newest(table: &TableFacts, query: &LogQuery) -> Sql {
    let names: Vec<String> = (1..=query.names.len()).map(|n| format!("?{n}")).collect();
    let at = sql::column(&query.column);
    Sql::made(format!(
        "SELECT e.at AS at FROM (SELECT {at} AS at, {object} AS object FROM {table} \
         WHERE {at} >= ?{day} AND {at} < x'' ORDER BY {at} DESC LIMIT {ENTRIES}) AS e \
         WHERE e.object IN ({names}) ORDER BY e.at DESC LIMIT {MATCHES}",
        object = sql::column(&query.object),
        table = sql::table(&table.name),
        day = query.names.len() + 1,
        names = names.join(", "),
    ))
}

/// Whether the log has times that are texts, and others.
fn kinds(table: &TableFacts, query: &LogQuery) -> Sql {
    let at = sql::column(&query.column);
    let table = sql::table(&table.name);
    Sql::made(format!(
        "SELECT EXISTS (SELECT 1 FROM {table} WHERE {at} >= '' AND {at} < x'') AS texts, \
         EXISTS (SELECT 1 FROM {table} WHERE {at} < '') AS others"
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2026-01-31T12:00:00Z", Some("2026-01-31T12:00:00Z"))]
    #[case("2026-01-31 12:00:00", Some("2026-01-31T12:00:00Z"))]
    #[case("2026-01-31T12:00:00.250+02:00", Some("2026-01-31T10:00:00.25Z"))]
    #[case("2026-01-31", Some("2026-01-31T00:00:00Z"))]
    #[case("31.01.2026", None)]
    #[case("1769860800", None)]
    #[case("", None)]
    fn times_are_iso_8601_texts(#[case] text: &str, #[case] at: Option<&str>) {
        assert_eq!(instant(text), at.map(|at| at.parse().unwrap()));
    }

    #[test]
    fn the_first_day_is_one_before_the_days_that_count() {
        assert_eq!(
            first_day("2026-03-01T00:30:00Z".parse().unwrap(), 1),
            "2026-02-27"
        );
    }
}
