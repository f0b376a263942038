//! Usage logs of services: read by the index on their times, newest entries first, and no more than so many.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sqlx::Row;

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
        table::{TableFacts, TableKind, TimeDomain},
        usage::{LogQuery, Logged},
    },
};

/// Entries that are looked at.
const ENTRIES: u32 = 50_000;
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
    let domain = match readable(&table, query) {
        Ok(domain) => domain,
        Err(why) => return Ok(unreadable(why)),
    };
    session.raw(&sql::fixed(BY_INDEX)).await?;
    let watch = Watch::begin(session, table.leaves.iter().map(|leaf| &leaf.id)).await?;
    let row = session
        .row(
            newest(&table, query, domain, days)
                .query()
                .bind(query.names.clone()),
        )
        .await?;
    if let Some(watch) = watch {
        watch.end(session).await?;
    }
    let at: Option<i64> = row.try_get("at")?;
    Ok(at
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .map_or(Logged::NotFound, Logged::Used))
}

fn unreadable(why: impl Into<String>) -> Logged {
    Logged::Unreadable(why.into())
}

/// Nothing but a table, by an index: no view or row-level policy that runs code of its own, no scan of the whole.
fn readable(table: &TableFacts, query: &LogQuery) -> Result<TimeDomain, String> {
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
    let domain = time.time_domain.ok_or_else(|| {
        format!(
            "column {} of {name} is of type {}: it must be a timestamp or a date",
            query.column, time.type_name
        )
    })?;
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
    Ok(domain)
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
