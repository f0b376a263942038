//! The tables of a database.

use std::collections::BTreeMap;

use sqlx::Row;

use crate::{
    engine::postgres::{catalog::oid, session::Session, sql::constant},
    policy::hygiene::facts::{Kind, Table},
};

/// Tables of users: what belongs to the system, to an extension or to the operator is left out.
const TABLES: &str = "\
SELECT c.oid AS id, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind, \
  c.relispartition AS is_partition, i.inhparent AS parent, c.relpages::int8 AS pages, c.reltuples::float8 AS rows \
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhseqno = 1 \
WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' \
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'retention_operator') \
  AND c.oid NOT IN (SELECT d.objid FROM pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'e')";

pub(super) async fn tables(session: &mut Session) -> Result<BTreeMap<u32, Table>, sqlx::Error> {
    let tables = session
        .collect(constant(TABLES), |row| {
            let id = oid(row, "id")?;
            let parent: Option<sqlx::postgres::types::Oid> = row.try_get("parent")?;
            let parent = parent.map(|oid| oid.0);
            let is_partition: bool = row.try_get("is_partition")?;
            let rows: f64 = row.try_get("rows")?;
            let table = Table {
                id,
                schema: row.try_get("schema")?,
                name: row.try_get("name")?,
                kind: match row.try_get("kind")? {
                    "p" => Kind::Partitioned,
                    "m" => Kind::Materialized,
                    _ => Kind::Table,
                },
                partition_of: parent.filter(|_| is_partition),
                inherits: parent.filter(|_| !is_partition),
                pages: u64::try_from(row.try_get::<i64, _>("pages")?).unwrap_or(0),
                rows: Some(rows).filter(|rows| *rows >= 0.0),
                ..Table::default()
            };
            Ok((id, table))
        })
        .await?;
    Ok(tables.into_iter().collect())
}
