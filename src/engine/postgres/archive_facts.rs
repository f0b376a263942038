//! An archive table as the catalog describes it, beside the tables whose rows it is to take.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;

use super::{
    catalog::{self, oid, oids},
    catalog_sql::of_the_service,
    session::Session,
    sql::{self, Sql, constant, identifier, table},
};
use crate::policy::table::TableFacts;

/// Of a `pg_trigger t`. Up to PostgreSQL 14 the triggers that a partition has from its table are internal ones, and a key's cascade
/// sets off the triggers of other tables; only a key that merely looks writes nothing.
macro_rules! writes_after_delete {
    () => {
        "t.tgenabled <> 'D' AND (t.tgtype & 8) <> 0 AND t.tgfoid NOT IN \
         ('pg_catalog.\"RI_FKey_noaction_del\"'::pg_catalog.regproc, 'pg_catalog.\"RI_FKey_restrict_del\"'::pg_catalog.regproc)"
    };
}

/// `$1`, `$2`: schema and name.
const RELATION: &str = "\
SELECT n.oid AS schema_id, c.oid AS id, c.relkind::text AS kind, \
  coalesce(has_schema_privilege(n.oid, 'CREATE'), false) AS may_create_table, \
  has_database_privilege(current_database(), 'CREATE') AS may_create_schema, \
  coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'INSERT'), false) AS may_insert, \
  coalesce(has_table_privilege(c.oid, 'SELECT'), false) AS may_select, \
  coalesce(row_security_active(c.oid), false) AS row_security, \
  (SELECT min(r.rulename::text) FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type = '3' AND r.ev_enabled <> 'D') AS insert_rule \
FROM (VALUES (1)) AS one LEFT JOIN pg_namespace n ON n.nspname = $1 \
LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = $2";

/// `$1`: tables. Triggers of the service fire when rows come into one of them.
const TRIGGERS: &str = concat!(
    "SELECT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = ANY ($1) AND ",
    of_the_service!(),
    " AND t.tgenabled <> 'D' AND t.tgtype & 4 <> 0) AS fire"
);

/// `$1`: tables. Deletes from one of them set off something that may write: for each row or for each statement, at once or deferred.
const DELETE_TRIGGERS: &str = concat!(
    "SELECT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = ANY ($1) AND ",
    writes_after_delete!(),
    ") AS fire"
);

/// `$1`: tables. Their columns in order, with types as one would write them.
const COLUMNS: &str = "\
SELECT a.attrelid AS id, a.attname::text AS name, a.atttypid::int8 AS type_id, a.atttypmod::int8 AS modifier, a.attcollation::int8 AS collation_id, \
  format_type(a.atttypid, a.atttypmod) AS type_name, a.attnotnull AS not_null, \
  (a.atthasdef OR a.attidentity <> '') AS filled, a.attgenerated <> '' AS generated, \
  CASE WHEN a.attcollation <> t.typcollation THEN n.nspname::text END AS collation_schema, l.collname::text AS collation \
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
LEFT JOIN pg_collation l ON l.oid = a.attcollation LEFT JOIN pg_namespace n ON n.oid = l.collnamespace \
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum";

/// `$1`: tables. Everything above them.
const ABOVE: &str = "\
WITH RECURSIVE up(id) AS ( \
  SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = ANY ($1) \
  UNION SELECT i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.id) \
SELECT id FROM up";

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    type_id: i64,
    modifier: i64,
    collation_id: i64,
    type_name: String,
    pub(super) not_null: bool,
    /// It has a default, or is an identity column.
    pub(super) filled: bool,
    pub(super) generated: bool,
    /// Schema and name, where it is not the type's own.
    collation: Option<(String, String)>,
}

impl Column {
    /// Values go from the one to the other unchanged.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let kind = |column: &Self| (column.type_id, column.modifier, column.collation_id);
        kind(self) == kind(other)
    }

    /// The type as one writes it.
    pub(super) fn written(&self) -> String {
        match &self.collation {
            Some((schema, name)) => format!("{} COLLATE {}", self.type_name, table(schema, name)),
            None => self.type_name.clone(),
        }
    }

    pub(super) fn has_type(&self, names: &[&str]) -> bool {
        names.contains(&self.type_name.as_str())
    }

    /// `"name" type`.
    pub(super) fn definition(&self) -> String {
        format!("{} {}", identifier(&self.name), self.written())
    }
}

/// The archive table, which is there.
#[derive(Clone, Debug)]
pub(super) struct Existing {
    pub(super) id: u32,
    pub(super) kind: String,
    pub(super) columns: Vec<Column>,
    pub(super) may_insert: bool,
    pub(super) may_select: bool,
    pub(super) row_security: bool,
    pub(super) insert_rule: Option<String>,
    /// Triggers fire when rows come: they may change them, or take them away again.
    pub(super) has_triggers: bool,
    /// Rows that it takes would be lost by a crash, or at the session's end, or lie on another server: the part, and why.
    pub(super) unsafe_part: Option<(String, &'static str)>,
    /// What must not change while rows go into it.
    pub(super) fingerprint: String,
}

/// Everything about a plan's archive table.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// `None`: there is no such relation.
    pub(super) existing: Option<Existing>,
    pub(super) schema_exists: bool,
    pub(super) may_create_table: bool,
    pub(super) may_create_schema: bool,
    /// What deletes from the source set off may take archived rows away again, or change them.
    pub(super) source_triggers: bool,
    /// The source itself, everything below it that holds rows, and everything above it.
    pub(super) family: BTreeSet<u32>,
    /// The columns of the source's root and of each table that holds its rows.
    pub(super) source: BTreeMap<u32, Vec<Column>>,
}

impl Facts {
    pub(super) async fn read(
        session: &mut Session,
        source: &TableFacts,
        schema: &str,
        name: &str,
    ) -> Result<Self, sqlx::Error> {
        let found = session
            .row(
                constant(RELATION)
                    .bind(schema.to_owned())
                    .bind(name.to_owned()),
            )
            .await?;
        let id = found.try_get::<Option<sqlx::postgres::types::Oid>, _>("id")?;
        let below: Vec<u32> = std::iter::once(source.id)
            .chain(source.leaves.iter().map(|leaf| leaf.id))
            .collect();
        let above = session
            .rows(constant(ABOVE).bind(oids(&below)))
            .await?
            .iter()
            .map(|row| oid(row, "id"))
            .collect::<Result<Vec<u32>, _>>()?;
        let mut roots = vec![source.id];
        roots.extend(id.map(|id| id.0));
        let trees = catalog::tree(session, &roots).await?;
        let source_is_permanent = trees
            .get(&source.id)
            .into_iter()
            .flatten()
            .any(|member| member.holds_rows() && member.persistence == "p");
        let mut columns = columns(session, below.iter().chain(id.iter().map(|id| &id.0))).await?;
        let existing = match id {
            Some(id) => {
                let parts = trees.get(&id.0).map_or(&[][..], Vec::as_slice);
                let all: Vec<u32> = std::iter::once(id.0)
                    .chain(parts.iter().map(|part| part.id))
                    .collect();
                Some(Existing {
                    id: id.0,
                    kind: found.try_get("kind")?,
                    columns: columns.remove(&id.0).unwrap_or_default(),
                    may_insert: found.try_get("may_insert")?,
                    may_select: found.try_get("may_select")?,
                    row_security: found.try_get("row_security")?,
                    insert_rule: found.try_get("insert_rule")?,
                    has_triggers: session
                        .row(constant(TRIGGERS).bind(oids(&all)))
                        .await?
                        .try_get("fire")?,
                    unsafe_part: parts
                        .iter()
                        .filter(|part| part.holds_rows())
                        .find_map(|part| {
                            let why = match (part.kind.as_str(), part.persistence.as_str()) {
                                ("f", _) => "lies on another server",
                                (_, "u") if source_is_permanent => {
                                    "is UNLOGGED, so that a crash empties it"
                                }
                                (_, "t") => "is temporary",
                                _ => return None,
                            };
                            Some((format!("{}.{}", part.schema, part.name), why))
                        }),
                    fingerprint: session
                        .row(
                            Sql::made(format!("SELECT {} AS fingerprint", fingerprint(id.0)))
                                .query(),
                        )
                        .await?
                        .try_get("fingerprint")?,
                })
            }
            None => None,
        };
        Ok(Self {
            existing,
            schema_exists: found
                .try_get::<Option<sqlx::postgres::types::Oid>, _>("schema_id")?
                .is_some(),
            may_create_table: found.try_get("may_create_table")?,
            may_create_schema: found.try_get("may_create_schema")?,
            source_triggers: session
                .row(constant(DELETE_TRIGGERS).bind(oids(&below)))
                .await?
                .try_get("fire")?,
            family: below.iter().copied().chain(above).collect(),
            source: below
                .into_iter()
                .map(|id| (id, columns.get(&id).cloned().unwrap_or_default()))
                .collect(),
        })
    }

    /// Every column of the source, the root's first, once each. `Err`: two tables that hold its rows have columns of one name and
    /// two types.
    pub(super) fn all_columns(&self, root: u32) -> Result<Vec<&Column>, &Column> {
        let mut all: Vec<&Column> = Vec::new();
        let own = self.source.get(&root).into_iter();
        let parts = self.source.iter().filter(|(id, _)| **id != root);
        for column in own.chain(parts.map(|(_, columns)| columns)).flatten() {
            match all.iter().find(|known| known.name == column.name) {
                Some(known) if known.is_like(column) => {}
                Some(_) => return Err(column),
                None => all.push(column),
            }
        }
        Ok(all)
    }

    /// After each statement one must look whether the rows are still where they were put, as they were.
    pub(super) fn needs_a_look(&self) -> bool {
        self.source_triggers || self.existing.as_ref().is_some_and(|it| it.has_triggers)
    }

    /// The columns of the root itself.
    pub(super) fn root_columns(&self, root: u32) -> &[Column] {
        self.source.get(&root).map_or(&[][..], Vec::as_slice)
    }
}

async fn columns<'a>(
    session: &mut Session,
    ids: impl Iterator<Item = &'a u32>,
) -> Result<BTreeMap<u32, Vec<Column>>, sqlx::Error> {
    let rows = session.rows(constant(COLUMNS).bind(oids(ids))).await?;
    let mut columns: BTreeMap<u32, Vec<Column>> = BTreeMap::new();
    for row in &rows {
        let schema: Option<String> = row.try_get("collation_schema")?;
        let collation: Option<String> = row.try_get("collation")?;
        columns.entry(oid(row, "id")?).or_default().push(Column {
            name: row.try_get("name")?,
            type_id: row.try_get("type_id")?,
            modifier: row.try_get("modifier")?,
            collation_id: row.try_get("collation_id")?,
            type_name: row.try_get("type_name")?,
            not_null: row.try_get("not_null")?,
            filled: row.try_get("filled")?,
            generated: row.try_get("generated")?,
            collation: schema.zip(collation),
        });
    }
    Ok(columns)
}

/// Does a table have triggers like those that [`Facts::source_triggers`] stands for? An expression.
pub(super) fn has_delete_triggers(id: u32) -> String {
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = {id}::oid AND {})",
        writes_after_delete!()
    )
}

/// What must not change about the archive table while a sweep fills it, as an expression. A part like any other may come; one that
/// does not keep rows as well may not.
pub(super) fn fingerprint(id: u32) -> String {
    format!(
        "(SELECT pg_catalog.concat_ws('|', an.nspname, ac.relname, ac.relkind, ac.relpersistence, {}, ac.relrowsecurity, \
         (WITH RECURSIVE part(id) AS (SELECT ac.oid UNION SELECT i.inhrelid FROM part JOIN pg_catalog.pg_inherits i ON i.inhparent = part.id) \
          SELECT pg_catalog.concat_ws('|', \
          (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', p.oid, p.relkind, p.relpersistence), ',' ORDER BY p.oid) \
           FROM pg_catalog.pg_class p WHERE p.oid IN (SELECT part.id FROM part) AND (p.relkind NOT IN ('r', 'p') OR p.relpersistence <> 'p')), \
          (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', t.oid, t.tgenabled), ',' ORDER BY t.oid) \
           FROM pg_catalog.pg_trigger t WHERE t.tgrelid IN (SELECT part.id FROM part) AND {}))), \
         (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attgenerated), \
          ',' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attrelid = ac.oid AND a.attnum > 0 AND NOT a.attisdropped)) \
         FROM pg_catalog.pg_class ac JOIN pg_catalog.pg_namespace an ON an.oid = ac.relnamespace WHERE ac.oid = {id}::oid)",
        sql::rules("ac"),
        of_the_service!()
    )
}
