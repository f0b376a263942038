//! Triggers and publications of the tables that a sweep changes, from the catalogs.

use std::collections::BTreeMap;

use sqlx::{Row, postgres::PgRow};

use super::{
    catalog::{oid, oids},
    catalog_sql::{VERSION, of_the_service},
    session::Session,
    sql::{self, constant, identifier},
};
use crate::policy::{
    dependents::{Dependents, OnDelete, reached},
    plan::RulePlan,
    side_effects::{Enabled, Event, MissingIndex, Publication, Reach, SideEffects, Trigger},
};

/// `$1`: tables, `$2`: what happens to their rows, as a bit of a trigger's type.
const TRIGGERS: &str = concat!(
    "\
SELECT n.nspname::text AS schema, c.relname::text AS table_name, t.tgname::text AS name, pn.nspname::text AS function_schema, \
  p.proname::text AS function, u.event, (t.tgtype & 1) <> 0 AS each_row, (t.tgtype & 2) <> 0 AS before, \
  t.tgqual IS NOT NULL AS conditional, t.tgenabled::text AS enabled \
FROM unnest($1::oid[], $2::int4[]) AS u(id, event) JOIN pg_trigger t ON t.tgrelid = u.id AND (t.tgtype & u.event) <> 0 \
JOIN pg_class c ON c.oid = u.id JOIN pg_namespace n ON n.oid = c.relnamespace \
JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace \
WHERE ",
    of_the_service!(),
    " ORDER BY n.nspname, c.relname, u.event DESC, t.tgname"
);

/// Pages of a table that are soon read, however often.
const LARGE: i64 = 64;

/// `$1`: foreign keys, `$2`: for each a table that holds its rows, `$3`: a number of pages. Those tables of so many pages that have no
/// index which begins with a column of the key; one without the rows that refer to nothing will do.
const UNINDEXED: &str = "\
SELECT DISTINCT n.nspname::text AS schema, c.relname::text AS table_name, k.conname::text AS name, w.columns \
FROM unnest($1::oid[], $2::oid[]) AS u(key, id) JOIN pg_constraint k ON k.oid = u.key \
JOIN pg_class c ON c.oid = u.id JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL (SELECT ARRAY( \
  SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS o(attnum, n) \
  JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = o.attnum ORDER BY o.n) AS columns) AS w \
WHERE pg_relation_size(c.oid) >= $3 * current_setting('block_size')::int8 AND NOT EXISTS ( \
  SELECT FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam AND m.amname IN ('btree', 'hash') \
  JOIN pg_attribute f ON f.attrelid = x.indrelid AND f.attnum = x.indkey[0] \
  WHERE x.indrelid = c.oid AND x.indisvalid AND x.indisready AND f.attname::text = ANY (w.columns) \
    AND (x.indpred IS NULL OR pg_get_expr(x.indpred, x.indrelid) = format('(%I IS NOT NULL)', f.attname))) \
ORDER BY 1, 2, 3";

/// `$1`: schema, `$2`: name.
const NAMED: &str = "\
SELECT c.oid AS id FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind IN ('r', 'p')";

macro_rules! publications {
    ($filter:literal, $by_schema:literal) => {
        concat!(
            "WITH RECURSIVE up(leaf, id) AS ( \
               SELECT l, l FROM unnest($1::oid[]) AS l \
               UNION \
               SELECT up.leaf, i.inhparent FROM up JOIN pg_class c ON c.oid = up.id AND c.relispartition \
               JOIN pg_inherits i ON i.inhrelid = up.id), \
             via AS (SELECT up.leaf, p.oid AS publication, 'a' AS reach, NULL::text AS filter FROM up JOIN pg_publication p ON p.puballtables \
               UNION ALL \
               SELECT up.leaf, r.prpubid, 't', ",
            $filter,
            " FROM up JOIN pg_publication_rel r ON r.prrelid = up.id ",
            $by_schema,
            ") SELECT p.pubname::text AS name, p.pubdelete AS deletes, p.pubviaroot AS via_root, min(via.reach) AS reach, \
               min(via.filter) AS filter, n.nspname::text AS schema, c.relname::text AS table_name \
             FROM via JOIN pg_publication p ON p.oid = via.publication JOIN pg_class c ON c.oid = via.leaf \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND c.relpersistence = 'p' \
             GROUP BY p.oid, p.pubname, p.pubdelete, p.pubviaroot, c.oid, n.nspname, c.relname \
             ORDER BY p.pubname, n.nspname, c.relname"
        )
    };
}

const PUBLICATIONS_14: &str = publications!("NULL::text", "");
/// 15 brought conditions on rows, and whole schemas.
const PUBLICATIONS_15: &str = publications!(
    "pg_get_expr(r.prqual, r.prrelid)",
    "UNION ALL SELECT up.leaf, s.pnpubid, 's', NULL::text FROM up JOIN pg_class a ON a.oid = up.id \
     JOIN pg_publication_namespace s ON s.pnnspid = a.relnamespace"
);

/// Bits of a trigger's type.
const fn bit(event: Event) -> i32 {
    match event {
        Event::Insert => 4,
        Event::Delete => 8,
        Event::Update => 16,
    }
}

/// What a plan's sweep would set off.
pub(super) async fn read(
    session: &mut Session,
    plan: &RulePlan,
) -> Result<SideEffects, sqlx::Error> {
    let leaves = plan.table.leaves.iter();
    let mut changed: Vec<(u32, Event)> = leaves.map(|leaf| (leaf.id, Event::Delete)).collect();
    if plan.dependents == Dependents::Cascade {
        for key in reached(&plan.table.incoming, plan.dependents) {
            let event = match key.on_delete {
                OnDelete::Cascade => Event::Delete,
                OnDelete::Set => Event::Update,
                OnDelete::Restrict => continue,
            };
            changed.extend(key.parts.iter().map(|part| (part.id, event)));
        }
    }
    changed.sort_unstable_by_key(|(id, event)| (*id, bit(*event)));
    changed.dedup();
    let deleted: Vec<u32> = changed
        .iter()
        .filter(|(_, event)| *event == Event::Delete)
        .map(|(id, _)| *id)
        .collect();
    if let Some(archive) = &plan.archive {
        let schema = archive.table.schema.as_deref().unwrap_or("public");
        let named = constant(NAMED)
            .bind(schema.to_owned())
            .bind(archive.table.name.clone());
        for row in session.rows(named).await? {
            changed.push((oid(&row, "id")?, Event::Insert));
        }
    }
    let events: Vec<i32> = changed.iter().map(|(_, event)| bit(*event)).collect();
    let triggers = constant(TRIGGERS)
        .bind(oids(changed.iter().map(|(id, _)| id)))
        .bind(events);
    let rows = session.rows(triggers).await?;
    let triggers = rows.iter().map(trigger).collect::<Result<_, _>>()?;
    let version: i32 = session.row(constant(VERSION)).await?.try_get("version")?;
    let publications = if version >= 150_000 {
        PUBLICATIONS_15
    } else {
        PUBLICATIONS_14
    };
    let rows = session
        .rows(constant(publications).bind(oids(&deleted)))
        .await?;
    Ok(SideEffects {
        triggers,
        publications: joined(&rows)?,
        missing_indexes: missing_indexes(session, plan).await?,
    })
}

/// The indexes without which a chunk reads all of a referring table: with `Skip` to see which rows are kept, with `Cascade` the server
/// itself, for each row.
async fn missing_indexes(
    session: &mut Session,
    plan: &RulePlan,
) -> Result<Vec<MissingIndex>, sqlx::Error> {
    let keys = reached(&plan.table.incoming, plan.dependents);
    let parts: Vec<(u32, u32)> = keys
        .iter()
        .flat_map(|key| key.parts.iter().map(|part| (key.id, part.id)))
        .collect();
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let query = constant(UNINDEXED)
        .bind(oids(parts.iter().map(|(key, _)| key)))
        .bind(oids(parts.iter().map(|(_, part)| part)))
        .bind(LARGE);
    let rows = session.rows(query).await?;
    rows.iter()
        .map(|row| {
            let (schema, table): (String, String) =
                (row.try_get("schema")?, row.try_get("table_name")?);
            let columns: Vec<String> = row.try_get("columns")?;
            let columns: Vec<String> = columns.iter().map(|name| identifier(name)).collect();
            Ok(MissingIndex {
                statement: format!(
                    "CREATE INDEX CONCURRENTLY ON {} ({})",
                    sql::table(&schema, &table),
                    columns.join(", ")
                ),
                table: format!("{schema}.{table}"),
                key: row.try_get("name")?,
            })
        })
        .collect()
}

fn trigger(row: &PgRow) -> Result<Trigger, sqlx::Error> {
    let (schema, table): (String, String) = (row.try_get("schema")?, row.try_get("table_name")?);
    let (function_schema, function): (String, String) =
        (row.try_get("function_schema")?, row.try_get("function")?);
    Ok(Trigger {
        table: format!("{schema}.{table}"),
        name: row.try_get("name")?,
        function: Some(format!("{function_schema}.{function}")),
        event: match row.try_get("event")? {
            4 => Event::Insert,
            16 => Event::Update,
            _ => Event::Delete,
        },
        each_row: row.try_get("each_row")?,
        before: row.try_get("before")?,
        conditional: row.try_get("conditional")?,
        enabled: match row.try_get("enabled")? {
            "A" => Enabled::Always,
            "R" => Enabled::Replica,
            "D" => Enabled::Disabled,
            _ => Enabled::Origin,
        },
    })
}

/// One entry a publication.
fn joined(rows: &[PgRow]) -> Result<Vec<Publication>, sqlx::Error> {
    let mut all: BTreeMap<String, Publication> = BTreeMap::new();
    for row in rows {
        let name: String = row.try_get("name")?;
        let (schema, table): (String, String) =
            (row.try_get("schema")?, row.try_get("table_name")?);
        let filter: Option<String> = row.try_get("filter")?;
        let publication = Publication {
            name: name.clone(),
            reach: match row.try_get("reach")? {
                "a" => Reach::AllTables,
                "s" => Reach::Schema,
                _ => Reach::Table,
            },
            tables: Vec::new(),
            deletes: row.try_get("deletes")?,
            via_root: row.try_get("via_root")?,
            filter: None,
        };
        let entry = all.entry(name).or_insert(publication);
        entry.tables.push(format!("{schema}.{table}"));
        entry.filter = entry.filter.take().or(filter);
    }
    Ok(all.into_values().collect())
}
