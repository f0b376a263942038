//! What the checks of the whole database look at, read from catalogs and statistics in one short read-only transaction: set-based
//! queries over whole catalogs, no `information_schema`, no size functions, joined here.

mod indexes;
mod tables;

use super::session::Session;
use crate::policy::hygiene::Facts;

/// Reads everything in the transaction that `session` is in.
pub(super) async fn read(session: &mut Session) -> Result<Facts, sqlx::Error> {
    let tables = tables::tables(session).await?;
    let mut indexes = indexes::indexes(session).await?;
    indexes.retain(|index| tables.contains_key(&index.table));
    let mut foreign_keys = indexes::foreign_keys(session).await?;
    foreign_keys.retain(|key| tables.contains_key(&key.table));
    let mut facts = Facts {
        tables,
        indexes,
        foreign_keys,
        ..Facts::default()
    };
    indexes::define(session, &mut facts).await?;
    Ok(facts)
}
