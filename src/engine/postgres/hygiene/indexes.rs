//! The indexes and foreign keys of a database.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    error::Error,
    hash::Hash,
    str::FromStr,
    sync::Arc,
};

use sqlx::{
    Row,
    postgres::{PgRow, types::Oid},
};

use crate::{
    engine::postgres::{catalog::oid, session::Session, sql::constant},
    policy::hygiene::{
        facts::{Definition, Facts, ForeignKey, ForeignKeyPart, Index, IndexKey, Rare, Table},
        indexes::to_define,
    },
};

/// The catalog's vectors count from 0, which arrays on the wire must not: they come as texts, since to make arrays of them takes the
/// server as long as all the rest. `pg_get_indexdef` of 40,000 indexes would take a second.
///
/// Trees of expressions hold where each word stood in its statement, and how a cast was spelled: both are no difference.
/// They are sent as hashes, because only equality is asked of them.
///
/// Where long values are, only what a rebuild left is of interest, and counts as the owner's.
///
/// An unfinished index may be at work right now: a build shows its progress, a concurrent drop or rebuild locks the index. Where the
/// role may see only that something is built, but not what, a concurrent build's lock of the table must do.
const INDEXES: &str = r"
SELECT i.oid AS id, i.relnamespace = 'pg_toast'::regnamespace AS of_toast,
  CASE WHEN i.relnamespace = 'pg_toast'::regnamespace THEN (SELECT o.oid FROM pg_class o WHERE o.reltoastrelid = x.indrelid) ELSE x.indrelid END AS table, i.relname::text AS name, h.inhparent AS attached_to,
  m.amname::text AS method, x.indisunique, x.indisprimary, x.indisvalid, x.indisready, x.indnkeyatts AS key_count,
  x.indkey::text AS columns, x.indclass::text AS operator_classes, x.indcollation::text AS collations, x.indoption::text AS options,
  CASE WHEN x.indexprs IS NOT NULL THEN hashtextextended(regexp_replace(x.indexprs::text, ':(location|[a-z]+format) -?\d+', '', 'g'), 0)::text END AS expressions,
  CASE WHEN x.indpred IS NOT NULL THEN hashtextextended(regexp_replace(x.indpred::text, ':(location|[a-z]+format) -?\d+', '', 'g'), 0)::text END AS predicate,
  CASE WHEN x.indpred::text LIKE '{NULLTEST %' OR x.indpred::text LIKE '{BOOLEXPR :boolop and :args ({NULLTEST %' THEN left(x.indpred::text, 4000) END AS null_tests,
  k.conname::text AS constraint, i.relpages::int8 AS pages,
  x.indisreplident, x.indisclustered, x.indisexclusion, NOT x.indimmediate AS deferrable, NOT x.indislive AS dropping,
  x.indisunique AND NOT x.indisprimary AND coalesce((to_jsonb(x)->>'indnullsnotdistinct')::bool, false) AS nulls_not_distinct,
  i.oid IN (SELECT f.conindid FROM pg_constraint f WHERE f.contype = 'f') AS referred,
  CASE WHEN m.amname <> 'btree' THEN concat_ws(' ', i.reloptions::text, (SELECT string_agg(a.attnum || a.attoptions::text, ' ' ORDER BY a.attnum)
    FROM pg_attribute a WHERE a.attrelid = i.oid AND a.attoptions IS NOT NULL)) END AS parameters,
  NOT x.indisvalid AND (
    x.indrelid IN (SELECT p.relid FROM pg_stat_progress_create_index p WHERE p.datname = current_database() AND p.relid IS NOT NULL)
    OR i.oid IN (SELECT l.relation FROM pg_locks l WHERE l.locktype = 'relation' AND l.mode = 'ShareUpdateExclusiveLock' AND l.relation IS NOT NULL
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
    OR EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.datname = current_database() AND p.relid IS NULL)
      AND x.indrelid IN (SELECT l.relation FROM pg_locks l WHERE l.locktype = 'relation' AND l.mode = 'ShareUpdateExclusiveLock' AND l.relation IS NOT NULL
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))) AS being_built
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_am m ON m.oid = i.relam LEFT JOIN pg_inherits h ON h.inhrelid = i.oid
LEFT JOIN pg_constraint k ON k.conindid = i.oid AND k.contype IN ('p', 'u', 'x') AND k.conrelid = x.indrelid
WHERE i.relnamespace NOT IN (SELECT n.oid FROM pg_namespace n
  WHERE n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast', 'retention_operator'))
  OR NOT x.indisvalid AND i.relnamespace = 'pg_toast'::regnamespace";

/// The indexes of `tables`.
pub(super) async fn indexes(
    session: &mut Session,
    tables: &BTreeMap<u32, Table>,
) -> Result<Vec<Index>, sqlx::Error> {
    // Put straight where they stay: there may be tens of thousands.
    let mut indexes = Vec::new();
    let mut shared = Shared::default();
    session
        .collect(constant(INDEXES), |row| {
            let table: Option<Oid> = row.try_get("table")?;
            if let Some(table) = table.and_then(|table| tables.get(&table.0)) {
                indexes.push(index(row, table, &mut shared)?);
            }
            Ok(())
        })
        .await?;
    Ok(indexes)
}

fn index(row: &PgRow, table: &Table, shared: &mut Shared) -> Result<Index, sqlx::Error> {
    let columns: Vec<i16> = vector(row, "columns")?;
    let key_count = usize::try_from(row.try_get::<i16, _>("key_count")?).unwrap_or(0);
    let of_toast: bool = row.try_get("of_toast")?;
    // Those of the pieces of long values are no columns of the table.
    let columns = if of_toast { Vec::new() } else { columns };
    let (keys, included) = columns.split_at(key_count.min(columns.len()));
    let classes: Vec<u32> = vector(row, "operator_classes")?;
    let collations: Vec<u32> = vector(row, "collations")?;
    let options: Vec<i16> = vector(row, "options")?;
    let keys = keys.iter().zip(classes).zip(collations).zip(options);
    let keys = keys.map(|(((column, class), collation), options)| IndexKey {
        column: *column,
        operator_class: class,
        collation,
        options,
    });
    let keys: Vec<IndexKey> = keys.collect();
    let predicate: Option<&str> = row.try_get("predicate")?;
    let rare = Rare {
        included: included.to_vec(),
        expressions: row.try_get("expressions")?,
        parameters: row.try_get("parameters")?,
        not_null: row
            .try_get::<Option<&str>, _>("null_tests")?
            .and_then(not_null),
    };
    Ok(Index {
        id: oid(row, "id")?,
        table: table.id,
        schema: shared.text(if of_toast { "pg_toast" } else { &table.schema }),
        name: row.try_get("name")?,
        constraint: row.try_get("constraint")?,
        attached_to: row
            .try_get::<Option<Oid>, _>("attached_to")?
            .map(|oid| oid.0),
        method: shared.text(row.try_get("method")?),
        unique: row.try_get("indisunique")?,
        primary: row.try_get("indisprimary")?,
        valid: row.try_get("indisvalid")?,
        ready: row.try_get("indisready")?,
        being_built: row.try_get("being_built")?,
        keys: shared.keys(&keys),
        predicate: predicate.map(|predicate| shared.text(predicate)),
        pages: u64::try_from(row.try_get::<i64, _>("pages")?).unwrap_or(0),
        replica_identity: row.try_get("indisreplident")?,
        clustered: row.try_get("indisclustered")?,
        exclusion: row.try_get("indisexclusion")?,
        deferrable: row.try_get("deferrable")?,
        nulls_not_distinct: row.try_get("nulls_not_distinct")?,
        referred: row.try_get("referred")?,
        dropping: row.try_get("dropping")?,
        rare: rare.boxed(),
        ..Index::default()
    })
}

/// What is the same for many indexes, once each.
#[derive(Default)]
struct Shared {
    texts: HashSet<Arc<str>>,
    keys: HashSet<Arc<[IndexKey]>>,
}

impl Shared {
    fn text(&mut self, text: &str) -> Arc<str> {
        once(&mut self.texts, text)
    }

    fn keys(&mut self, keys: &[IndexKey]) -> Arc<[IndexKey]> {
        once(&mut self.keys, keys)
    }
}

fn once<T>(known: &mut HashSet<Arc<T>>, value: &T) -> Arc<T>
where
    T: Eq + Hash + ?Sized,
    for<'a> Arc<T>: From<&'a T>,
{
    if let Some(known) = known.get(value) {
        return known.clone();
    }
    let shared: Arc<T> = value.into();
    known.insert(shared.clone());
    shared
}

/// A vector of the catalog as it prints itself: numbers with blanks between them.
fn vector<T>(row: &PgRow, name: &str) -> Result<Vec<T>, sqlx::Error>
where
    T: FromStr,
    T::Err: Error + Send + Sync + 'static,
{
    row.try_get::<&str, _>(name)?
        .split_ascii_whitespace()
        .map(|number| {
            number
                .parse()
                .map_err(|reason| sqlx::Error::Decode(Box::new(reason)))
        })
        .collect()
}

/// The columns of a predicate that says nothing but `IS NOT NULL`, once or joined by AND.
fn not_null(tree: &str) -> Option<Vec<i16>> {
    let joined = tree.strip_prefix("{BOOLEXPR :boolop and :args (");
    let mut rest = joined.unwrap_or(tree);
    let mut columns = Vec::new();
    while let Some(test) = rest
        .trim_start()
        .strip_prefix("{NULLTEST :arg {VAR :varno 1 :varattno ")
    {
        let (column, test) = test.split_once(' ')?;
        let (_, test) = test.split_once('}')?;
        let (_, after) = test.strip_prefix(" :nulltesttype 1 ")?.split_once('}')?;
        columns.push(column.parse().ok()?);
        rest = after;
    }
    let ended = match joined {
        Some(_) => rest.starts_with(')') && !rest.contains('{') && rest.ends_with('}'),
        None => rest.is_empty(),
    };
    (ended && !columns.is_empty()).then_some(columns)
}

/// What the server prints leaves out the tablespace, comments and marks.
const DEFINITIONS: &str = "\
SELECT x.indexrelid AS id, CASE WHEN s.spcname IS NULL THEN d.whole \
    WHEN x.indpred IS NULL THEN d.whole || format(' TABLESPACE %I', s.spcname) \
    WHEN right(d.whole, length(d.part)) = d.part THEN left(d.whole, -length(d.part)) || format(' TABLESPACE %I', s.spcname) || d.part \
    ELSE d.whole END AS definition, \
  CASE WHEN k.contype IN ('p', 'u') AND i.relkind = 'i' AND NOT x.indisexclusion \
    THEN CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END || format(' USING INDEX %I', i.relname) \
      || CASE WHEN k.condeferrable THEN ' DEFERRABLE' ELSE '' END || CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END \
    ELSE pg_get_constraintdef(k.oid) END AS constraint_definition, \
  array_remove(ARRAY[format('COMMENT ON INDEX %I.%I IS ', n.nspname, i.relname) || quote_literal(obj_description(i.oid, 'pg_class')) || ';', \
    CASE WHEN k.oid IS NOT NULL THEN format('COMMENT ON CONSTRAINT %I ON %I.%I IS ', k.conname, n.nspname, t.relname) \
      || quote_literal(obj_description(k.oid, 'pg_constraint')) || ';' END, \
    CASE WHEN x.indisclustered THEN format('ALTER TABLE %I.%I CLUSTER ON %I;', n.nspname, t.relname, i.relname) END, \
    CASE WHEN x.indisreplident THEN format('ALTER TABLE %I.%I REPLICA IDENTITY USING INDEX %I;', n.nspname, t.relname, i.relname) END] \
    || ARRAY(SELECT format('ALTER INDEX %I.%I ALTER COLUMN %s SET STATISTICS %s;', n.nspname, i.relname, a.attnum, a.attstattarget) \
      FROM pg_attribute a WHERE a.attrelid = i.oid AND a.attstattarget >= 0 ORDER BY a.attnum), NULL) AS marks \
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace n ON n.oid = i.relnamespace \
LEFT JOIN pg_tablespace s ON s.oid = i.reltablespace \
LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.contype IN ('p', 'u', 'x') AND k.conrelid = x.indrelid \
CROSS JOIN LATERAL (SELECT pg_get_indexdef(x.indexrelid) AS whole, ' WHERE ' || pg_get_expr(x.indpred, x.indrelid) AS part) d \
WHERE x.indexrelid = ANY ($1)";

/// Adds the statements that make the indexes of which a check will speak.
pub(in crate::engine::postgres) async fn define(
    session: &mut Session,
    facts: &mut Facts,
) -> Result<(), sqlx::Error> {
    let ids: Vec<Oid> = to_define(facts).into_iter().map(Oid).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let rows = session.rows(constant(DEFINITIONS).bind(ids)).await?;
    let mut definitions = HashMap::new();
    for row in &rows {
        // An index that was dropped meanwhile has none.
        if let Some(statement) = row.try_get("definition")? {
            let definition = Definition {
                statement,
                constraint: row.try_get("constraint_definition")?,
                marks: row.try_get("marks")?,
            };
            definitions.insert(oid(row, "id")?, Box::new(definition));
        }
    }
    for index in &mut facts.indexes {
        if let Some(definition) = definitions.remove(&index.id) {
            index.definition = Some(definition);
        }
    }
    Ok(())
}

const FOREIGN_KEYS: &str = "\
SELECT k.oid AS id, k.conname::text AS name, k.conrelid AS table, k.confrelid AS referred, k.conkey AS columns, k.convalidated, k.conindid AS relies_on, \
  NOT k.convalidated AND NOT coalesce((to_jsonb(k) ->> 'conenforced')::bool, true) AS not_enforced \
FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0";

/// Their referring columns.
const KEY_COLUMNS: &str = "\
SELECT k.oid AS id, a.attnum AS number, a.attname::text AS name, a.attcollation AS collation \
FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey) \
WHERE k.contype = 'f' AND k.conparentid = 0";

/// The clones that a partitioned referring table gives to its partitions.
const CLONES: &str = "\
SELECT k.oid AS id, k.conparentid AS parent, k.conrelid AS table, k.conkey AS columns \
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE k.contype = 'f' AND k.conparentid <> 0 AND c.relispartition";

pub(super) async fn foreign_keys(session: &mut Session) -> Result<Vec<ForeignKey>, sqlx::Error> {
    let columns: HashMap<(u32, i16), (String, u32)> = session
        .collect(constant(KEY_COLUMNS), |row| {
            let place = (oid(row, "id")?, row.try_get("number")?);
            Ok((place, (row.try_get("name")?, oid(row, "collation")?)))
        })
        .await?
        .into_iter()
        .collect();
    let mut parts = parts(session).await?;
    session
        .collect(constant(FOREIGN_KEYS), |row| {
            let id = oid(row, "id")?;
            let numbers: Vec<i16> = row.try_get("columns")?;
            // Nearly all have one column: room for four in each would be most of what they take.
            let mut column_names = Vec::with_capacity(numbers.len());
            let mut collations = Vec::with_capacity(numbers.len());
            for number in &numbers {
                let (name, collation) = columns.get(&(id, *number)).cloned().unwrap_or_default();
                column_names.push(name);
                collations.push(collation);
            }
            Ok(ForeignKey {
                name: row.try_get("name")?,
                table: oid(row, "table")?,
                columns: numbers,
                column_names,
                referred: oid(row, "referred")?,
                validated: row.try_get("convalidated")?,
                not_enforced: row.try_get("not_enforced")?,
                collations,
                relies_on: oid(row, "relies_on")?,
                parts: parts.remove(&id).unwrap_or_default(),
            })
        })
        .await
}

/// The partitions below each foreign key that was declared, by its number.
async fn parts(session: &mut Session) -> Result<HashMap<u32, Vec<ForeignKeyPart>>, sqlx::Error> {
    let rows = session.rows(constant(CLONES)).await?;
    let mut parents = HashMap::with_capacity(rows.len());
    for row in &rows {
        parents.insert(oid(row, "id")?, oid(row, "parent")?);
    }
    let mut parts: HashMap<u32, Vec<ForeignKeyPart>> = HashMap::new();
    for row in &rows {
        let mut declared = oid(row, "parent")?;
        while let Some(parent) = parents.get(&declared) {
            declared = *parent;
        }
        let part = ForeignKeyPart {
            table: oid(row, "table")?,
            columns: row.try_get("columns")?,
        };
        // A referred table that is partitioned too makes a clone for each pair.
        let parts = parts.entry(declared).or_default();
        if !parts.iter().any(|known| known.table == part.table) {
            parts.push(part);
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const A: &str = "{NULLTEST :arg {VAR :varno 1 :varattno 2 :vartype 23 :varnullingrels (b) :location 31} :nulltesttype 1 :argisrow false :location 33}";
    const B: &str = "{NULLTEST :arg {VAR :varno 1 :varattno 3 :vartype 23 :location 52} :nulltesttype 1 :argisrow false :location 54}";
    const IS_NULL: &str = "{NULLTEST :arg {VAR :varno 1 :varattno 3 :vartype 23 :location 52} :nulltesttype 0 :argisrow false :location 54}";
    const OTHER: &str = "{OPEXPR :opno 521 :args ({VAR :varno 1 :varattno 3} {CONST :constvalue 4 [ 3 0 ]}) :location 40}";

    #[rstest]
    #[case(A.to_owned(), Some(vec![2]))]
    #[case(format!("{{BOOLEXPR :boolop and :args ({A} {B}) :location -1}}"), Some(vec![2, 3]))]
    #[case(IS_NULL.to_owned(), None)]
    #[case(format!("{{BOOLEXPR :boolop and :args ({A} {OTHER}) :location -1}}"), None)]
    #[case(format!("{{BOOLEXPR :boolop and :args ({A} {IS_NULL}) :location -1}}"), None)]
    #[case(format!("{{BOOLEXPR :boolop or :args ({A} {B}) :location -1}}"), None)]
    #[case(format!("{{BOOLEXPR :boolop and :args ({A} {B}")[..200].to_owned(), None)]
    #[case(OTHER.to_owned(), None)]
    fn only_tests_for_null_leave_out_nothing_but_nulls(
        #[case] tree: String,
        #[case] columns: Option<Vec<i16>>,
    ) {
        assert_eq!(not_null(&tree), columns);
    }
}
