//! The indexes and foreign keys of a database.

use sqlx::{Row, postgres::types::Oid};

use crate::{
    engine::postgres::{catalog::oid, session::Session, sql::constant},
    policy::hygiene::facts::{ForeignKey, Index, IndexKey},
};

/// The catalog's vectors count from 0, which arrays on the wire must not. `pg_get_indexdef` of 40,000 indexes would take a second.
const INDEXES: &str = "\
SELECT i.oid AS id, x.indrelid AS table, n.nspname::text AS schema, i.relname::text AS name, h.inhparent AS attached_to, \
  m.amname::text AS method, x.indisunique, x.indisprimary, x.indisvalid, x.indisready, x.indnkeyatts AS key_count, \
  string_to_array(x.indkey::text, ' ')::int2[] AS columns, string_to_array(x.indclass::text, ' ')::oid[] AS operator_classes, string_to_array(x.indcollation::text, ' ')::oid[] AS collations, \
  string_to_array(x.indoption::text, ' ')::int2[] AS options, x.indexprs::text AS expressions, x.indpred::text AS predicate, k.conname::text AS constraint, \
  i.relpages::int8 AS pages, NOT x.indisvalid AND i.oid IN (SELECT p.index_relid FROM pg_stat_progress_create_index p) AS being_built \
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace \
JOIN pg_am m ON m.oid = i.relam LEFT JOIN pg_inherits h ON h.inhrelid = i.oid \
LEFT JOIN pg_constraint k ON k.conindid = i.oid AND k.contype IN ('p', 'u', 'x') AND k.conrelid = x.indrelid \
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'retention_operator')";

pub(super) async fn indexes(session: &mut Session) -> Result<Vec<Index>, sqlx::Error> {
    let rows = session.rows(constant(INDEXES)).await?;
    rows.iter()
        .map(|row| {
            let columns: Vec<i16> = row.try_get("columns")?;
            let key_count = usize::try_from(row.try_get::<i16, _>("key_count")?).unwrap_or(0);
            let (keys, included) = columns.split_at(key_count.min(columns.len()));
            let classes: Vec<Oid> = row.try_get("operator_classes")?;
            let collations: Vec<Oid> = row.try_get("collations")?;
            let options: Vec<i16> = row.try_get("options")?;
            let keys = keys.iter().zip(classes).zip(collations).zip(options);
            Ok(Index {
                id: oid(row, "id")?,
                table: oid(row, "table")?,
                schema: row.try_get("schema")?,
                name: row.try_get("name")?,
                attached_to: row
                    .try_get::<Option<Oid>, _>("attached_to")?
                    .map(|oid| oid.0),
                method: row.try_get("method")?,
                unique: row.try_get("indisunique")?,
                primary: row.try_get("indisprimary")?,
                valid: row.try_get("indisvalid")?,
                ready: row.try_get("indisready")?,
                being_built: row.try_get("being_built")?,
                constraint: row.try_get("constraint")?,
                keys: keys
                    .map(|(((column, class), collation), options)| IndexKey {
                        column: *column,
                        operator_class: class.0,
                        collation: collation.0,
                        options,
                    })
                    .collect(),
                included: included.to_vec(),
                expressions: row.try_get("expressions")?,
                predicate: row.try_get("predicate")?,
                pages: u64::try_from(row.try_get::<i64, _>("pages")?).unwrap_or(0),
                ..Index::default()
            })
        })
        .collect()
}

const FOREIGN_KEYS: &str = "\
SELECT k.conname::text AS name, k.conrelid AS table, k.confrelid AS referred, k.conkey AS columns, k.convalidated, \
  (SELECT array_agg(a.attname::text ORDER BY u.n) FROM unnest(k.conkey) WITH ORDINALITY AS u(number, n) \
    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number) AS column_names \
FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0";

pub(super) async fn foreign_keys(session: &mut Session) -> Result<Vec<ForeignKey>, sqlx::Error> {
    let rows = session.rows(constant(FOREIGN_KEYS)).await?;
    rows.iter()
        .map(|row| {
            Ok(ForeignKey {
                name: row.try_get("name")?,
                table: oid(row, "table")?,
                columns: row.try_get("columns")?,
                column_names: row.try_get("column_names")?,
                referred: oid(row, "referred")?,
                validated: row.try_get("convalidated")?,
            })
        })
        .collect()
}
