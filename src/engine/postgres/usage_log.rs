//! Usage logs of services: read by the index on their times, newest entries first, and no more than so many.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sqlx::{Row, postgres::PgRow};

use super::{
    Settings, catalog,
    error::{self, Doing},
    own_use::Watch,
    session::{Session, Sessions},
    sql::{self, Begin, Sql},
};
use crate::{
    engine::EngineError,
    policy::{
        encoding::Storage,
        table::{TableFacts, TableKind, TimeDomain},
        usage::{
            LogQuery, Logged,
            times::{self, Sampled},
        },
    },
};

/// Entries that are looked at; of numbers so many of each unit.
const ENTRIES: u32 = 50_000;
/// Entries about the thing itself, of which the newest counts.
const MATCHES: u32 = 100;
/// Entries at each end of a log that tell how it is written, where no use was found.
const SAMPLES: u32 = 20;
/// Evidence is not worth more of the service's time.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The order that the index has is the only way.
const BY_INDEX: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_incremental_sort = off; \
SET LOCAL enable_bitmapscan = off; SET LOCAL max_parallel_workers_per_gather = 0";

/// The last use of a thing in a log.
pub(super) async fn last(
    sessions: &Arc<Sessions>,
    settings: &Settings,
    query: &LogQuery,
    days: u32,
) -> Result<Logged, EngineError> {
    let begin = Begin {
        statement_timeout: TIMEOUT.min(settings.statement_timeout),
        ..settings.read()
    };
    let mut session = sessions.begin(&begin).await?;
    let logged = read(&mut session, query, days).await;
    match logged {
        Ok(logged) => {
            session.release().await;
            Ok(logged)
        }
        // What concerns the log alone must not spoil the audit.
        Err(reason) if reason.as_database_error().is_some() => {
            session.abandon().await;
            let name = query.table.to_string();
            let doing = Doing {
                what: "reading",
                table: Some(&name),
                grant: None,
                statement_timeout: begin.statement_timeout,
            };
            let error = error::running(sessions.server(), doing, &reason);
            Ok(Logged::Unreadable(error.to_string()))
        }
        Err(reason) => {
            session.abandon().await;
            let doing = Doing {
                what: "reading a usage log",
                table: None,
                grant: None,
                statement_timeout: begin.statement_timeout,
            };
            Err(error::running(sessions.server(), doing, &reason))
        }
    }
}

async fn read(session: &mut Session, query: &LogQuery, days: u32) -> Result<Logged, sqlx::Error> {
    let mut found = catalog::tables(session, std::slice::from_ref(&query.table)).await?;
    let Some(table) = found.pop().flatten() else {
        return Ok(unreadable(format!("table {} does not exist", query.table)));
    };
    let times = match readable(&table, query) {
        Ok(times) => times,
        Err(why) => return Ok(unreadable(why)),
    };
    session.raw(&sql::fixed(BY_INDEX)).await?;
    let watch = Watch::begin(session, table.leaves.iter().map(|leaf| &leaf.id)).await?;
    let logged = match times {
        Times::Typed(domain) => typed(session, &table, query, domain, days).await?,
        Times::Encoded(storage) => encoded(session, &table, query, storage, days).await?,
    };
    if let Some(watch) = watch {
        watch.end(session).await?;
    }
    Ok(logged)
}

/// How a log keeps its times.
#[derive(Clone, Copy)]
enum Times {
    /// In a type of their own.
    Typed(TimeDomain),
    /// In numbers or identifiers.
    Encoded(Storage),
}

async fn typed(
    session: &mut Session,
    table: &TableFacts,
    query: &LogQuery,
    domain: TimeDomain,
    days: u32,
) -> Result<Logged, sqlx::Error> {
    let newest = newest(table, query, domain, days);
    let row = session
        .row(newest.query().bind(query.names.clone()))
        .await?;
    let at: Option<i64> = row.try_get("at")?;
    Ok(at
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .map_or(Logged::NotFound, Logged::Used))
}

async fn encoded(
    session: &mut Session,
    table: &TableFacts,
    query: &LogQuery,
    storage: Storage,
    days: u32,
) -> Result<Logged, sqlx::Error> {
    let row = session.row(sql::fixed(NOW).query()).await?;
    let now = Timestamp::from_microsecond(row.try_get("now")?).unwrap_or(Timestamp::MIN);
    let from = times::begin(now, days);
    let window = Sql::made(in_window(table, query, storage));
    let mut rows = Vec::new();
    if storage == Storage::Uuid {
        if let Some(it) = times::uuids(from, now) {
            let query = window.query().bind(query.names.clone());
            rows.extend(session.rows(query.bind(it.from).bind(it.until)).await?);
        }
    } else {
        for it in times::numbers(from, now) {
            let query = window.query().bind(query.names.clone());
            rows.extend(session.rows(query.bind(it.from).bind(it.until)).await?);
        }
    }
    let at = |row: &PgRow| -> Result<Option<Timestamp>, sqlx::Error> {
        Ok(times::logged_at(storage, row.try_get("at")?))
    };
    let mut last = None;
    for row in &rows {
        last = last.max(at(row)?.filter(|at| *at <= now));
    }
    if let Some(at) = last {
        return Ok(Logged::Used(at));
    }
    let ends = ends_of(table, query);
    let rows = session.rows(ends.query().bind(query.names.clone())).await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in &rows {
        entries.push(Sampled {
            at: at(row)?,
            names_it: row.try_get("names_it")?,
        });
    }
    let column = format!("column {} of {}", query.column, table.qualified());
    let forms = match storage {
        Storage::Uuid => "UUIDs of version 7",
        _ => "seconds, milliseconds or microseconds since 1970, or keep a timestamptz",
    };
    Ok(times::without_use(&entries, &column, forms))
}

fn unreadable(why: impl Into<String>) -> Logged {
    Logged::Unreadable(why.into())
}

/// Nothing but a table, by an index: no view or row-level policy that runs code of its own, no scan of the whole.
fn readable(table: &TableFacts, query: &LogQuery) -> Result<Times, String> {
    let name = table.qualified();
    if let TableKind::Unsupported(word) = &table.kind {
        return Err(format!("{name} is a {word}: name a table"));
    }
    let column = |column: &str| {
        table
            .column(column)
            .ok_or_else(|| format!("{name} has no column {column}"))
    };
    let time = column(&query.column)?;
    let object = column(&query.object)?;
    let times = match (time.time_domain, time.storage) {
        (Some(domain), _) => Times::Typed(domain),
        (
            None,
            Some(storage @ (Storage::Integer | Storage::Decimal | Storage::Float | Storage::Uuid)),
        ) => Times::Encoded(storage),
        _ => {
            return Err(format!(
                "column {} of {name} is of type {}: it must be a timestamp, a date, a number since 1970, or a uuid of version 7",
                query.column, time.type_name
            ));
        }
    };
    if !object.safe_in_predicates {
        return Err(format!(
            "column {} of {name} is of type {}: it must be of a built-in type",
            query.object, object.type_name
        ));
    }
    if table.row_security_active {
        return Err(format!("row-level security hides rows of {name}"));
    }
    if !table.may_select {
        return Err(format!("the role may not read {name}: grant SELECT"));
    }
    if !table.leading_index_columns.contains(&query.column) {
        return Err(format!(
            "no index of {name} begins with {}: make one, so that it can be read cheaply",
            query.column
        ));
    }
    Ok(times)
}

/// `$1`: the names. Times without a zone are read as UTC, which is the transaction's.
fn newest(table: &TableFacts, query: &LogQuery, domain: TimeDomain, days: u32) -> Sql {
    let now = match domain {
        TimeDomain::Instant => "statement_timestamp()",
        TimeDomain::Local => "statement_timestamp()::timestamp",
        TimeDomain::Date => "statement_timestamp()::date",
    };
    let days = days.saturating_add(1).min(36_500);
    let from = match domain {
        TimeDomain::Date => format!("{now} - {days}"),
        _ => format!("{now} - interval '{days} days'"),
    };
    let at = sql::identifier(&query.column);
    Sql::made(format!(
        "SELECT (extract(epoch FROM max(e.at)) * 1000000)::int8 AS at FROM (SELECT l.{at} AS at, l.{object}::text AS object \
         FROM {table} l WHERE l.{at} <= {now} AND l.{at} > {from} ORDER BY l.{at} DESC LIMIT {ENTRIES}) e \
         WHERE e.object = ANY ($1::text[])",
        object = sql::identifier(&query.object),
        table = sql::table(&table.schema, &table.name),
    ))
}

/// The database's clock, in microseconds.
const NOW: &str = "SELECT (extract(epoch FROM statement_timestamp()) * 1000000)::int8 AS now";

/// `$1`: the names, `$2` and `$3`: from and up to which value. Beside a value of the column's own kind its index serves.
fn in_window(table: &TableFacts, query: &LogQuery, storage: Storage) -> String {
    let (given, kind) = match storage {
        Storage::Decimal => ("int8", "numeric"),
        Storage::Float => ("int8", "float8"),
        Storage::Uuid => ("text", "uuid"),
        _ => ("int8", "int8"),
    };
    let at = sql::identifier(&query.column);
    format!(
        "SELECT e.at::text AS at FROM (SELECT l.{at} AS at, l.{object}::text AS object FROM {table} l \
         WHERE l.{at} >= $2::{given}::{kind} AND l.{at} < $3::{given}::{kind} ORDER BY l.{at} DESC LIMIT {ENTRIES}) e \
         WHERE e.object = ANY ($1::text[]) ORDER BY e.at DESC LIMIT {MATCHES}",
        object = sql::identifier(&query.object),
        table = sql::table(&table.schema, &table.name),
    )
}

/// `$1`: the names. The entries at both ends.
fn ends_of(table: &TableFacts, query: &LogQuery) -> Sql {
    let at = sql::identifier(&query.column);
    let end = |order: &str| {
        format!(
            "(SELECT l.{at}::text AS at, coalesce(l.{object}::text = ANY ($1::text[]), false) AS names_it FROM {table} l \
             WHERE l.{at} IS NOT NULL ORDER BY l.{at} {order} LIMIT {SAMPLES})",
            object = sql::identifier(&query.object),
            table = sql::table(&table.schema, &table.name),
        )
    };
    Sql::made(format!("{} UNION ALL {}", end("DESC"), end("ASC")))
}
