//! Sequences, the columns that take their numbers, and how far they are.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use sqlx::{Row, postgres::PgRow};

use super::Reader;
use crate::{
    engine::{
        EngineError,
        postgres::{
            catalog::{oid, oids},
            session::Session,
            sql::constant,
        },
    },
    policy::hygiene::facts::{Facts, FedColumn, Feed, Sequence},
};

/// Asking a sequence for its last number locks it to the end of the transaction: some 8,000 at once would fill the lock table of
/// the whole server.
const BATCH: usize = 200;
/// Sequences that somebody has locked are found by halving a batch: so often, and no more.
const MOST_FAILURES: u32 = 24;
/// Somebody's DDL holds a sequence: that one is not waited for.
const PATIENCE: Duration = Duration::from_millis(100);

/// Of temporary sequences only their own sessions know the state.
const SEQUENCES: &str = "\
SELECT s.seqrelid AS id, n.nspname::text AS schema, c.relname::text AS name, s.seqmin AS min, s.seqmax AS max, \
  s.seqincrement AS increment, s.seqcycle AS cycles, s.seqtypid::regtype::text AS type_name, \
  has_sequence_privilege(c.oid, 'USAGE, SELECT') AS visible, c.relpersistence = 'u' AND pg_is_in_recovery() AS empty \
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'retention_operator') \
  AND c.oid NOT IN (SELECT d.objid FROM pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'e')";

/// By ownership (`a`: also without a default that mentions the sequence), identity (`i`), and default (`n`); types under domains.
const FED: &str = "\
SELECT f.sequence, f.feed, f.relation, a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type_name, \
  coalesce(nullif(b.typbasetype, 0), nullif(t.typbasetype, 0), t.oid) AS type \
FROM (SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number, d.deptype::text AS feed \
    FROM pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass \
    AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0 AND d.objid IN (SELECT seqrelid FROM pg_sequence) \
  UNION ALL SELECT d.refobjid, e.adrelid, e.adnum, 'n' \
    FROM pg_depend d JOIN pg_attrdef e ON e.oid = d.objid \
    WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass \
    AND d.refobjid IN (SELECT seqrelid FROM pg_sequence)) f \
JOIN pg_attribute a ON a.attrelid = f.relation AND a.attnum = f.number \
JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype";

/// Foreign keys whose own column is narrower than the one that it refers to: known by the operator that compares the two, so
/// that the columns of all the others need not be looked up.
const NARROWER: &str = "\
SELECT k.conrelid AS relation, a.attname::text AS name, a.atttypid AS type, format_type(a.atttypid, NULL) AS type_name, k.confrelid AS referred, r.attname::text AS referred_name \
FROM pg_constraint k CROSS JOIN LATERAL unnest(k.conkey, k.confkey) AS u(own, other) \
JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.own \
JOIN pg_attribute r ON r.attrelid = k.confrelid AND r.attnum = u.other \
WHERE k.contype = 'f' AND k.conparentid = 0 AND a.atttypid IN ('int2'::regtype, 'int4'::regtype) AND r.atttypid <> a.atttypid \
  AND k.conpfeqop && ARRAY['=(int8,int4)'::regoperator, '=(int8,int2)'::regoperator, '=(int4,int2)'::regoperator]::oid[]";

/// Reads the sequences and what they feed, in the transaction that `session` is in. [`Positions::read`] comes later.
pub(super) async fn sequences(
    session: &mut Session,
    facts: &mut Facts,
) -> Result<Positions, sqlx::Error> {
    let mut positions = Positions::default();
    let mut places = HashMap::new();
    let sequences = &mut facts.sequences;
    session
        .collect(constant(SEQUENCES), |row| {
            let id = oid(row, "id")?;
            places.insert(id, sequences.len());
            if !row.try_get::<bool, _>("visible")? {
                positions.hidden += 1;
            } else if !row.try_get::<bool, _>("empty")? {
                positions.wanted.push((id, sequences.len()));
            }
            sequences.push(sequence(row)?);
            Ok(())
        })
        .await?;
    let mut columns = HashMap::new();
    session
        .collect(constant(FED), |row| {
            let table = oid(row, "relation")?;
            let place = places.get(&oid(row, "sequence")?);
            if let (Some(place), true) = (place, facts.tables.contains_key(&table)) {
                let column = fed(row, table)?;
                columns.insert((table, column.name.clone()), *place);
                if let Some(sequence) = facts.sequences.get_mut(*place) {
                    // Nearly all have one.
                    sequence.columns.reserve_exact(1);
                    sequence.columns.push(column);
                }
            }
            Ok(())
        })
        .await?;
    let mut seen = HashSet::new();
    for row in session.rows(constant(NARROWER)).await? {
        let table = oid(&row, "relation")?;
        let name: String = row.try_get("name")?;
        let referred = (oid(&row, "referred")?, row.try_get("referred_name")?);
        let Some(place) = columns.get(&referred) else {
            continue;
        };
        if !facts.tables.contains_key(&table) || !seen.insert((*place, table, name.clone())) {
            continue;
        }
        let max = largest(oid(&row, "type")?);
        if let Some(sequence) = facts.sequences.get_mut(*place) {
            sequence.columns.push(FedColumn {
                table,
                name,
                type_name: row.try_get("type_name")?,
                max,
                by: Feed::Reference,
            });
        }
    }
    Ok(positions)
}

fn sequence(row: &PgRow) -> Result<Sequence, sqlx::Error> {
    Ok(Sequence {
        schema: row.try_get("schema")?,
        name: row.try_get("name")?,
        min: row.try_get("min")?,
        max: row.try_get("max")?,
        increment: row.try_get("increment")?,
        type_name: row.try_get("type_name")?,
        cycles: row.try_get("cycles")?,
        last: None,
        columns: Vec::new(),
    })
}

fn fed(row: &PgRow, table: u32) -> Result<FedColumn, sqlx::Error> {
    Ok(FedColumn {
        table,
        name: row.try_get("name")?,
        type_name: row.try_get("type_name")?,
        max: largest(oid(row, "type")?),
        by: match row.try_get("feed")? {
            "i" => Feed::Identity,
            "a" => Feed::Owner,
            _ => Feed::Default,
        },
    })
}

/// By the fixed numbers of the built-in types.
fn largest(type_id: u32) -> Option<i64> {
    match type_id {
        20 => Some(i64::MAX),
        21 => Some(i64::from(i16::MAX)),
        23 => Some(i64::from(i32::MAX)),
        _ => None,
    }
}

/// What is still to be asked of the sequences.
#[derive(Debug, Default)]
pub(in crate::engine::postgres) struct Positions {
    /// Their numbers, and where they stand in the facts.
    wanted: Vec<(u32, usize)>,
    /// How many the role may not read.
    hidden: usize,
}

/// A sequence that was dropped meanwhile gives no row. Newer servers give NULL where older ones would fail for a missing right.
const LAST: &str = "\
SELECT t.id, CASE WHEN has_sequence_privilege(t.id, 'USAGE, SELECT') THEN pg_sequence_last_value(t.id) END AS last \
FROM unnest($1::oid[]) AS t(id) WHERE has_sequence_privilege(t.id, 'USAGE, SELECT')";

impl Positions {
    /// Reads the last numbers, each batch in a transaction of its own.
    pub(super) async fn read(
        self,
        reader: &mut Reader<'_>,
        facts: &mut Facts,
    ) -> Result<(), EngineError> {
        let mut failures = 0;
        let mut skipped = 0;
        let mut batches: Vec<&[(u32, usize)]> = self.wanted.chunks(BATCH).collect();
        while let Some(batch) = batches.pop() {
            let ids = oids(batch.iter().map(|(id, _)| id));
            let query = constant(LAST).bind(ids);
            match reader.alone(PATIENCE, query).await? {
                Ok(rows) => {
                    let mut lasts = HashMap::with_capacity(rows.len());
                    for row in &rows {
                        let last = oid(row, "id")
                            .and_then(|id| Ok((id, row.try_get::<Option<i64>, _>("last")?)));
                        let (id, last) = last.map_err(|reason| reader.error(&reason))?;
                        lasts.insert(id, last);
                    }
                    for (id, place) in batch {
                        if let Some(sequence) = facts.sequences.get_mut(*place) {
                            sequence.last = lasts.get(id).copied().flatten();
                        }
                    }
                }
                Err(_) if batch.len() > 1 && failures < MOST_FAILURES => {
                    failures += 1;
                    let (one, other) = batch.split_at(batch.len() / 2);
                    batches.extend([one, other]);
                }
                Err(_) => {
                    failures += 1;
                    skipped += batch.len();
                }
            }
        }
        if self.hidden > 0 {
            facts.unseen.push(format!(
                "how far {} sequences are: grant SELECT on them, or pg_read_all_data",
                self.hidden
            ));
        }
        if skipped > 0 {
            facts.unseen.push(format!(
                "how far {skipped} sequences are: somebody had locked them"
            ));
        }
        Ok(())
    }
}
