//! Facts about the database, and what its statistics know of a table.

use jiff::Timestamp;
use sqlx::Row;

use super::{
    catalog, catalog_sql as q,
    connect::FileId,
    samples::{self, Sample},
    session::Session,
    sql,
};
use crate::{
    engine::{DatabaseFacts, LeafStatistics, TableStatistics},
    policy::{estimate::ColumnStatistics, plan::RulePlan},
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

/// What is known of a plan's table. SQLite counts no reads and no writes, and keeps no time of its statistics.
pub(super) async fn statistics(
    session: &mut Session,
    plan: &RulePlan,
) -> Result<TableStatistics, sqlx::Error> {
    let column = distribution(session, plan).await?;
    Ok(TableStatistics {
        leaves: plan
            .table
            .leaves
            .iter()
            .filter(|leaf| leaf.pages > 0)
            .map(|leaf| LeafStatistics {
                rows: leaf.rows,
                column: column.clone(),
                analyzed_at: None,
            })
            .collect(),
        last_read: None,
        scans: 0,
        writes: 0,
        counting_since: None,
        dead_rows: 0,
    })
}

/// From the samples of an index on the time column.
async fn distribution(
    session: &mut Session,
    plan: &RulePlan,
) -> Result<Option<ColumnStatistics>, sqlx::Error> {
    let table = &plan.table.name;
    let (true, true) = catalog::has_statistics(session).await? else {
        return Ok(None);
    };
    let Some(index) = catalog::index_on(session, table, &plan.column).await? else {
        return Ok(None);
    };
    let ask = |query| sql::constant(query).bind(table.clone()).bind(index.clone());
    let rows = session.rows(ask(q::INDEX_STATISTICS)).await?;
    let stat: Option<String> = rows.first().map(|row| row.try_get("stat")).transpose()?;
    let (Some(rows), Some(encoding)) = (catalog::first_number(stat.as_deref()), plan.encoding)
    else {
        return Ok(None);
    };
    let mut samples = Vec::new();
    for row in session.rows(ask(q::SAMPLES)).await? {
        let number = |name| -> Result<Option<u64>, sqlx::Error> {
            let stat: Option<String> = row.try_get(name)?;
            Ok(catalog::first_number(stat.as_deref()))
        };
        let record: Option<Vec<u8>> = row.try_get("sample")?;
        let value = record.as_deref().and_then(samples::first_value);
        if let (Some(equal), Some(less), Some(value)) = (number("neq")?, number("nlt")?, value) {
            samples.push(Sample { equal, less, value });
        }
    }
    samples.sort_by_key(|sample| sample.less);
    // Of equal values there may be several samples.
    samples.dedup_by_key(|sample| sample.less);
    Ok(samples::distribution(
        &samples,
        rows,
        encoding,
        &plan.column_zone,
    ))
}
