//! What the statistics say of the largest B-trees. Only those: the view of statistics asks for rights column by column.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::{Row, postgres::types::Oid};

use crate::{
    engine::postgres::{catalog::oid, session::Session, sql::constant},
    policy::hygiene::{
        facts::{Btree, BtreeColumn, Facts},
        indexes::largest_btrees,
    },
};

/// Equal keys become lists from PostgreSQL 13 on, where bytes tell whether keys are equal: the operator class says so by its fourth
/// support function, and no collation may call different texts equal.
const TREES: &str = "\
SELECT i.oid AS id, i.reltuples::float8 AS entries, \
  coalesce((SELECT o.option_value::int4 FROM pg_options_to_table(i.reloptions) o WHERE o.option_name = 'fillfactor'), 90) AS fillfactor, \
  x.indnatts = x.indnkeyatts \
    AND coalesce((SELECT o.option_value::bool FROM pg_options_to_table(i.reloptions) o WHERE o.option_name = 'deduplicate_items'), true) \
    AND NOT EXISTS ( \
      SELECT FROM unnest(string_to_array(x.indclass::text, ' ')::oid[], string_to_array(x.indcollation::text, ' ')::oid[]) AS k(class, text_order) \
      JOIN pg_opclass o ON o.oid = k.class LEFT JOIN pg_collation c ON c.oid = k.text_order \
      WHERE c.collisdeterministic IS FALSE OR NOT EXISTS (SELECT FROM pg_amproc p WHERE p.amprocfamily = o.opcfamily \
        AND p.amproclefttype = o.opcintype AND p.amprocrighttype = o.opcintype AND p.amprocnum = 4)) AS deduplicates, \
  has_table_privilege(x.indrelid, 'SELECT') AS may_select, \
  (SELECT min((e.n_distinct ->> (SELECT string_agg(u.number::text, ', ' ORDER BY u.number) FROM unnest(string_to_array(x.indkey::text, ' ')::int2[]) AS u(number)))::float8) \
    FROM pg_statistic_ext s JOIN pg_namespace m ON m.oid = s.stxnamespace CROSS JOIN LATERAL (SELECT v.n_distinct::text::json AS n_distinct FROM pg_stats_ext v \
      WHERE v.statistics_schemaname = m.nspname AND v.statistics_name = s.stxname AND NOT coalesce((to_jsonb(v) ->> 'inherited')::bool, false) OFFSET 0) e \
    WHERE s.stxrelid = x.indrelid AND 'd' = ANY (s.stxkind)) AS different_keys, \
  (extract(epoch FROM greatest(pg_stat_get_last_analyze_time(x.indrelid), pg_stat_get_last_autoanalyze_time(x.indrelid), \
    pg_stat_get_last_vacuum_time(x.indrelid), pg_stat_get_last_autovacuum_time(x.indrelid))) * 1000000)::int8 AS seen \
FROM pg_class i JOIN pg_index x ON x.indexrelid = i.oid WHERE i.oid = ANY ($1)";

/// Widths are cut to whole bytes. Statistics of expressions stand under the index's own name, and are of values as they are computed, with a long header.
const COLUMNS: &str = "\
SELECT a.attrelid AS id, a.attlen > 0 AS fixed, \
  CASE WHEN a.attlen > 0 THEN a.attlen ELSE s.avg_width + 0.5 - CASE WHEN t.attnum IS NULL AND s.avg_width BETWEEN 4 AND 130 THEN 3 ELSE 0 END END::float8 AS width, \
  CASE a.attalign WHEN 'c' THEN 1 WHEN 's' THEN 2 WHEN 'i' THEN 4 ELSE 8 END::int4 AS alignment, \
  s.null_frac::float8 AS null_fraction, s.n_distinct::float8 AS distinct_values, s.common_values, s.common_fraction \
FROM pg_attribute a JOIN pg_index x ON x.indexrelid = a.attrelid \
JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = i.relnamespace \
LEFT JOIN pg_attribute t ON t.attrelid = x.indrelid AND t.attnum > 0 AND t.attnum = (string_to_array(x.indkey::text, ' ')::int2[])[a.attnum] \
LEFT JOIN LATERAL ( \
  SELECT p.avg_width, p.null_frac, p.n_distinct, coalesce(cardinality(p.most_common_freqs), 0) AS common_values, \
    coalesce((SELECT sum(f) FROM unnest(p.most_common_freqs) f), 0)::float8 AS common_fraction \
  FROM pg_stats p WHERE p.schemaname = n.nspname AND p.tablename = CASE WHEN t.attnum IS NULL THEN i.relname ELSE c.relname END \
    AND p.attname = coalesce(t.attname, a.attname) AND NOT p.inherited LIMIT 1) s ON true \
WHERE a.attrelid = ANY ($1) ORDER BY a.attrelid, a.attnum";

/// Adds what is known of the largest B-trees.
pub(super) async fn read(session: &mut Session, facts: &mut Facts) -> Result<(), sqlx::Error> {
    let ids: Vec<Oid> = largest_btrees(facts).into_iter().map(Oid).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let mut columns = columns(session, &ids).await?;
    let rows = session.rows(constant(TREES).bind(ids)).await?;
    let mut hidden = 0_u32;
    for row in &rows {
        let index = oid(row, "id")?;
        // One column that is not known, and nothing is.
        let columns: Option<Vec<BtreeColumn>> = columns
            .remove(&index)
            .unwrap_or_default()
            .into_iter()
            .collect();
        let may_select: bool = row.try_get("may_select")?;
        if columns.is_none() && !may_select {
            hidden += 1;
        }
        let seen: Option<i64> = row.try_get("seen")?;
        facts.btrees.push(Btree {
            index,
            entries: row.try_get("entries")?,
            fillfactor: u8::try_from(row.try_get::<i32, _>("fillfactor")?).unwrap_or(90),
            deduplicates: row.try_get("deduplicates")?,
            columns: columns.unwrap_or_default(),
            different_keys: row.try_get("different_keys")?,
            seen: seen.and_then(|micros| Timestamp::from_microsecond(micros).ok()),
        });
    }
    if hidden > 0 {
        facts.unseen.push(format!(
            "bloat of indexes: the role may not read the statistics of the tables of {hidden} large ones; that takes SELECT on them"
        ));
    }
    Ok(())
}

/// The columns of each index in their order; `None` for one that has no statistics, or none that the role may read.
async fn columns(
    session: &mut Session,
    ids: &[Oid],
) -> Result<HashMap<u32, Vec<Option<BtreeColumn>>>, sqlx::Error> {
    let rows = session.rows(constant(COLUMNS).bind(ids.to_vec())).await?;
    let mut columns: HashMap<u32, Vec<Option<BtreeColumn>>> = HashMap::new();
    for row in &rows {
        let null_fraction: Option<f64> = row.try_get("null_fraction")?;
        let column = match null_fraction {
            Some(null_fraction) => Some(BtreeColumn {
                width: row.try_get("width")?,
                fixed: row.try_get("fixed")?,
                alignment: u8::try_from(row.try_get::<i32, _>("alignment")?).unwrap_or(8),
                null_fraction,
                distinct: row.try_get("distinct_values")?,
                common_values: u32::try_from(row.try_get::<i32, _>("common_values")?).unwrap_or(0),
                common_fraction: row.try_get("common_fraction")?,
            }),
            None => None,
        };
        columns.entry(oid(row, "id")?).or_default().push(column);
    }
    Ok(columns)
}
