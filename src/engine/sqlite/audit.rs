//! Facts about the database, and what its statistics know of a table.

use jiff::Timestamp;
use sqlx::Row;

use super::{catalog_sql as q, connect::FileId, session::Session, sql};
use crate::{
    engine::{DatabaseFacts, LeafStatistics, TableStatistics},
    policy::table::TableFacts,
};

/// Reads the facts in the transaction that `session` is in; `name` is the file's.
pub(super) async fn facts(
    session: &mut Session,
    name: String,
) -> Result<DatabaseFacts, sqlx::Error> {
    let row = session.row(sql::constant(q::FACTS)).await?;
    let FileId { device, inode, .. } = session.file();
    Ok(DatabaseFacts {
        engine: "SQLite",
        version: row.try_get("version")?,
        name,
        identity: format!("{device}/{inode}"),
        size_bytes: row.try_get("size")?,
        tables: row.try_get("tables")?,
        now: Timestamp::from_millisecond(row.try_get("now")?)
            .map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        in_recovery: false,
        read_only_by: "ReadOnlyConnection",
    })
}

/// SQLite counts no reads and no writes, and keeps no time of its statistics.
pub(super) fn statistics(table: &TableFacts) -> TableStatistics {
    TableStatistics {
        leaves: table
            .leaves
            .iter()
            .filter(|leaf| leaf.pages > 0)
            .map(|leaf| LeafStatistics {
                rows: leaf.rows,
                column: None,
                analyzed_at: None,
            })
            .collect(),
        last_read: None,
        scans: 0,
        writes: 0,
        counting_since: None,
        dead_rows: 0,
    }
}
