//! What the checks of the whole database look at, read from catalogs and statistics in one short read-only transaction: set-based
//! queries over whole catalogs, no `information_schema`, no size functions over all tables, joined here. What takes locks, or may be refused as a
//! whole, is read in transactions of its own afterwards.

mod btrees;
mod columns;
mod counters;
mod detail;
mod indexes;
mod integer_keys;
mod reader;
mod sequences;
mod server;
mod tables;

use sqlx::Row;

use self::reader::Reader;
pub(super) use self::{indexes::define, sequences::Positions};
use super::{
    catalog_sql,
    session::Session,
    sql::{self, Begin, constant},
};
use crate::{engine::EngineError, policy::hygiene::Facts};

/// Reads what the catalogs hold in the transaction that `session` is in, and what [`read_more`] has to ask for.
pub(super) async fn read(session: &mut Session) -> Result<(Facts, Positions), sqlx::Error> {
    // Queries over whole catalogs look dear, and are not worth being compiled.
    session.raw(&sql::fixed("SET LOCAL jit = off")).await?;
    let tables = tables::tables(session).await?;
    let indexes = indexes::indexes(session, &tables).await?;
    let mut foreign_keys = indexes::foreign_keys(session).await?;
    foreign_keys.retain(|key| tables.contains_key(&key.table));
    let version = session
        .row(constant(catalog_sql::VERSION))
        .await?
        .try_get("version")?;
    let counters = counters::counters(session, version).await?;
    let node = counters::node(session).await?;
    let mut facts = Facts {
        tables,
        indexes,
        foreign_keys,
        node: Some(node),
        counters,
        ..Facts::default()
    };
    detail::read(session, &mut facts).await?;
    columns::read(session, &mut facts).await?;
    define(session, &mut facts).await?;
    btrees::read(session, &mut facts).await?;
    let positions = sequences::sequences(session, &mut facts).await?;
    integer_keys::read(session, &mut facts).await?;
    Ok((facts, positions))
}

/// Reads what has transactions of its own; ends the one that `session` is in.
pub(super) async fn read_more(
    session: &mut Session,
    begin: Begin,
    positions: Positions,
    facts: &mut Facts,
) -> Result<(), EngineError> {
    let mut reader = Reader::new(session, begin).await;
    positions.read(&mut reader, facts).await?;
    server::read(&mut reader, facts).await
}
