//! Tables as the catalog describes them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sqlx::{
    Row,
    postgres::{PgRow, types::Oid},
};

use super::{catalog_sql as q, session::Session, sql::constant};
use crate::policy::encoding::Storage;
use crate::policy::table::{
    ColumnFacts, IncomingKey, LeafFacts, OnDelete, TableFacts, TableKind, TableName, TimeDomain,
};

/// The schema of a name that states none. The session's search path would be another one for every role.
const DEFAULT_SCHEMA: &str = "public";

/// Looks `names` up in the transaction that `session` is in.
pub(super) async fn tables(
    session: &mut Session,
    names: &[TableName],
) -> Result<Vec<Option<TableFacts>>, sqlx::Error> {
    let mut facts: Vec<Option<TableFacts>> = vec![None; names.len()];
    let roots = resolve(session, names).await?;
    if roots.is_empty() {
        return Ok(facts);
    }
    let catalog = Catalog::read(session, &roots).await?;
    for root in &roots {
        let table = catalog.table(root);
        if let Some(place) = facts.get_mut(root.place) {
            *place = Some(table);
        }
    }
    Ok(facts)
}

/// A relation that a name led to.
struct Root {
    /// Which of the names, from 0.
    place: usize,
    id: u32,
    schema: String,
    name: String,
    kind: TableKind,
    system: bool,
}

async fn resolve(session: &mut Session, names: &[TableName]) -> Result<Vec<Root>, sqlx::Error> {
    let schemas: Vec<String> = names
        .iter()
        .map(|name| {
            name.schema
                .clone()
                .unwrap_or_else(|| DEFAULT_SCHEMA.to_owned())
        })
        .collect();
    let tables: Vec<String> = names.iter().map(|name| name.name.clone()).collect();
    let rows = session
        .rows(constant(q::RESOLVE).bind(schemas).bind(tables))
        .await?;
    rows.iter()
        .map(|row| {
            let kind: String = row.try_get("kind")?;
            let persistence: String = row.try_get("persistence")?;
            Ok(Root {
                place: usize::try_from(row.try_get::<i64, _>("n")? - 1).unwrap_or(usize::MAX),
                id: oid(row, "id")?,
                schema: row.try_get("schema")?,
                name: row.try_get("name")?,
                kind: table_kind(&kind, &persistence),
                system: row.try_get("system")?,
            })
        })
        .collect()
}

/// Rows of a table that has `pages` now and had `rows` in `rows_of_pages` at the last VACUUM or ANALYZE: at the same
/// density, as the server's own planner reckons. `None` where that says nothing: never analysed, or empty at the time.
fn scaled_rows(rows: f64, rows_of_pages: i64, pages: i64) -> Option<f64> {
    if pages == 0 {
        return Some(0.0);
    }
    if rows <= 0.0 || rows_of_pages <= 0 {
        return None;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "an estimate needs no more than 53 bits"
    )]
    let growth = pages as f64 / rows_of_pages as f64;
    Some(rows * growth)
}

/// One relation at or below a root.
struct Member {
    id: u32,
    schema: String,
    name: String,
    kind: String,
    persistence: String,
    pending: bool,
    /// Rows at the last VACUUM or ANALYZE; -1: there was none.
    rows: f64,
    /// Pages at that time.
    rows_of_pages: i64,
    may_select: bool,
    may_delete: bool,
    row_security: bool,
}

impl Member {
    fn holds_rows(&self) -> bool {
        self.kind != "p"
    }

    fn unsupported(&self) -> Option<String> {
        if self.pending {
            return Some("partition that is being detached".to_owned());
        }
        match table_kind(&self.kind, &self.persistence) {
            TableKind::Unsupported(word) => Some(word),
            TableKind::Ordinary | TableKind::Partitioned => None,
        }
    }
}

struct Size {
    exact: bool,
    pages: i64,
    bytes: i64,
}

struct Key {
    id: u32,
    parent: u32,
    name: String,
    referred: u32,
    referrer: u32,
    table: String,
    on_delete: OnDelete,
}

/// Everything about several roots, read in a handful of queries.
struct Catalog {
    members: HashMap<u32, Vec<Member>>,
    referrers: HashMap<u32, Vec<Member>>,
    sizes: HashMap<u32, Size>,
    columns: HashMap<u32, Vec<ColumnFacts>>,
    keys: Vec<Key>,
    published: HashMap<u32, String>,
    rules: HashMap<u32, String>,
    triggers: HashMap<u32, Vec<String>>,
    leading: HashMap<u32, Vec<String>>,
}

impl Catalog {
    async fn read(session: &mut Session, roots: &[Root]) -> Result<Self, sqlx::Error> {
        let root_ids: Vec<u32> = roots.iter().map(|root| root.id).collect();
        let members = tree(session, &root_ids).await?;
        let all: BTreeSet<u32> = members.values().flatten().map(|member| member.id).collect();
        let leaves = ids_with_rows(&members);
        let keys = incoming(session, &all).await?;
        let referring: Vec<u32> = keys.iter().map(|key| key.referrer).collect();
        let referrers = if referring.is_empty() {
            HashMap::new()
        } else {
            tree(session, &referring).await?
        };
        let mut sized = leaves.clone();
        sized.extend(ids_with_rows(&referrers));
        let version: i32 = session
            .row(constant(q::VERSION))
            .await?
            .try_get("version")?;
        let published = if version >= 150_000 {
            q::PUBLISHED_15
        } else {
            q::PUBLISHED_14
        };
        Ok(Self {
            sizes: sizes(session, &sized).await?,
            columns: columns(session, &root_ids).await?,
            published: named(session, published, &leaves, "leaf", "publication")
                .await?
                .into_iter()
                .collect(),
            rules: named(session, q::DELETE_RULES, &all, "id", "name")
                .await?
                .into_iter()
                .collect(),
            triggers: grouped(named(session, q::DELETE_TRIGGERS, &leaves, "id", "name").await?),
            leading: grouped(named(session, q::LEADING, &all, "id", "name").await?),
            members,
            referrers,
            keys,
        })
    }

    fn table(&self, root: &Root) -> TableFacts {
        let members = self.members.get(&root.id).map_or(&[][..], Vec::as_slice);
        let holders: Vec<&Member> = match root.kind {
            TableKind::Unsupported(_) => Vec::new(),
            TableKind::Ordinary | TableKind::Partitioned => members
                .iter()
                .filter(|member| member.holds_rows())
                .collect(),
        };
        // A partitioned table without partitions still has rights of its own.
        let judged: Vec<&Member> = if holders.is_empty() {
            members.iter().collect()
        } else {
            holders.clone()
        };
        let triggers: BTreeSet<&String> = holders
            .iter()
            .filter_map(|leaf| self.triggers.get(&leaf.id))
            .flatten()
            .collect();
        TableFacts {
            id: root.id,
            schema: root.schema.clone(),
            name: root.name.clone(),
            kind: root.kind.clone(),
            system: root.system,
            columns: self.columns.get(&root.id).cloned().unwrap_or_default(),
            leaves: holders.iter().map(|leaf| self.leaf(leaf)).collect(),
            incoming: self.incoming(members),
            row_security_active: members.iter().any(|member| member.row_security),
            published_without_identity: holders
                .iter()
                .find_map(|leaf| self.published.get(&leaf.id).cloned()),
            delete_rule: members
                .iter()
                .find_map(|member| self.rules.get(&member.id).cloned()),
            delete_triggers: triggers.into_iter().cloned().collect(),
            may_select: judged.iter().all(|member| member.may_select),
            may_delete: judged.iter().all(|member| member.may_delete),
            leading_index_columns: self.leading_columns(root, &holders),
            total_bytes: holders
                .iter()
                .filter_map(|leaf| self.sizes.get(&leaf.id))
                .map(|size| size.bytes)
                .sum(),
        }
    }

    fn leaf(&self, leaf: &Member) -> LeafFacts {
        let pages = self.sizes.get(&leaf.id).map_or(0, |size| size.pages);
        LeafFacts {
            id: leaf.id,
            schema: leaf.schema.clone(),
            name: leaf.name.clone(),
            unsupported: leaf.unsupported(),
            rows: scaled_rows(leaf.rows, leaf.rows_of_pages, pages),
            pages: u64::try_from(pages).unwrap_or(0),
        }
    }

    /// Keys that refer to the table or a part of it. Partitioning clones a key for every part on both sides; of a
    /// family only the head is listed.
    fn incoming(&self, members: &[Member]) -> Vec<IncomingKey> {
        let ids: HashSet<u32> = members.iter().map(|member| member.id).collect();
        let mine: Vec<&Key> = self
            .keys
            .iter()
            .filter(|key| ids.contains(&key.referred))
            .collect();
        let known: HashSet<u32> = mine.iter().map(|key| key.id).collect();
        mine.into_iter()
            .filter(|key| !known.contains(&key.parent))
            .map(|key| IncomingKey {
                name: key.name.clone(),
                table: key.table.clone(),
                table_id: key.referrer,
                on_delete: key.on_delete,
                empty: self.is_empty(key.referrer),
            })
            .collect()
    }

    /// Surely without a page, with all its children.
    fn is_empty(&self, table: u32) -> bool {
        self.referrers
            .get(&table)
            .into_iter()
            .flatten()
            .filter(|member| member.holds_rows())
            .all(|member| {
                member.kind == "r"
                    && self
                        .sizes
                        .get(&member.id)
                        .is_some_and(|size| size.exact && size.pages == 0)
            })
    }

    /// Columns that lead an index on the whole table: on a partitioned one its own index, else an index on each holder of rows.
    fn leading_columns(&self, root: &Root, holders: &[&Member]) -> Vec<String> {
        let of = |id: u32| self.leading.get(&id).cloned().unwrap_or_default();
        if root.kind == TableKind::Partitioned && !of(root.id).is_empty() {
            return of(root.id);
        }
        let mut all = holders.iter().map(|leaf| of(leaf.id));
        let first = all.next().unwrap_or_default();
        all.fold(first, |common, next| {
            common
                .into_iter()
                .filter(|name| next.contains(name))
                .collect()
        })
    }
}

async fn tree(
    session: &mut Session,
    roots: &[u32],
) -> Result<HashMap<u32, Vec<Member>>, sqlx::Error> {
    let distinct: BTreeSet<u32> = roots.iter().copied().collect();
    let rows = session
        .rows(constant(q::TREE).bind(oids(&distinct)))
        .await?;
    let mut members: HashMap<u32, BTreeMap<u32, Member>> = HashMap::new();
    for row in &rows {
        let id = oid(row, "id")?;
        let member = Member {
            id,
            schema: row.try_get("schema")?,
            name: row.try_get("name")?,
            kind: row.try_get("kind")?,
            persistence: row.try_get("persistence")?,
            pending: row.try_get("pending")?,
            rows: row.try_get("rows")?,
            rows_of_pages: row.try_get("rows_of_pages")?,
            may_select: row.try_get("may_select")?,
            may_delete: row.try_get("may_delete")?,
            row_security: row.try_get("row_security")?,
        };
        members
            .entry(oid(row, "root")?)
            .or_default()
            .insert(id, member);
    }
    Ok(members
        .into_iter()
        .map(|(root, members)| (root, members.into_values().collect()))
        .collect())
}

fn ids_with_rows(trees: &HashMap<u32, Vec<Member>>) -> BTreeSet<u32> {
    trees
        .values()
        .flatten()
        .filter(|member| matches!(member.kind.as_str(), "r" | "m"))
        .map(|member| member.id)
        .collect()
}

async fn sizes(
    session: &mut Session,
    ids: &BTreeSet<u32>,
) -> Result<HashMap<u32, Size>, sqlx::Error> {
    let rows = session.rows(constant(q::SIZES).bind(oids(ids))).await?;
    rows.iter()
        .map(|row| {
            Ok((
                oid(row, "id")?,
                Size {
                    exact: row.try_get("exact")?,
                    // NULL: dropped while we looked.
                    pages: row.try_get::<Option<i64>, _>("pages")?.unwrap_or(0),
                    bytes: row.try_get::<Option<i64>, _>("bytes")?.unwrap_or(0),
                },
            ))
        })
        .collect()
}

async fn columns(
    session: &mut Session,
    roots: &[u32],
) -> Result<HashMap<u32, Vec<ColumnFacts>>, sqlx::Error> {
    let distinct: BTreeSet<u32> = roots.iter().copied().collect();
    let rows = session
        .rows(constant(q::COLUMNS).bind(oids(&distinct)))
        .await?;
    let mut columns: HashMap<u32, Vec<ColumnFacts>> = HashMap::new();
    for row in &rows {
        let base = oid(row, "base")?;
        let deterministic: bool = row.try_get("deterministic")?;
        let is_enum: bool = row.try_get("is_enum")?;
        columns
            .entry(oid(row, "root")?)
            .or_default()
            .push(ColumnFacts {
                name: row.try_get("name")?,
                type_name: row.try_get("type_name")?,
                time_domain: time_domain(base),
                storage: storage(base),
                safe_in_predicates: deterministic && (is_enum || PLAIN_TYPES.contains(&base)),
                is_temporal: TEMPORAL_TYPES.contains(&base),
            });
    }
    Ok(columns)
}

async fn incoming(session: &mut Session, ids: &BTreeSet<u32>) -> Result<Vec<Key>, sqlx::Error> {
    let rows = session.rows(constant(q::INCOMING).bind(oids(ids))).await?;
    rows.iter()
        .map(|row| {
            let schema: String = row.try_get("schema")?;
            let table: String = row.try_get("table_name")?;
            let on_delete: String = row.try_get("on_delete")?;
            Ok(Key {
                id: oid(row, "id")?,
                parent: oid(row, "parent")?,
                name: row.try_get("name")?,
                referred: oid(row, "referred")?,
                referrer: oid(row, "referrer")?,
                table: format!("{schema}.{table}"),
                on_delete: match on_delete.as_str() {
                    "c" => OnDelete::Cascade,
                    "n" | "d" => OnDelete::Set,
                    _ => OnDelete::Restrict,
                },
            })
        })
        .collect()
}

/// Pairs of an oid and a name.
async fn named(
    session: &mut Session,
    query: &'static str,
    ids: &BTreeSet<u32>,
    id: &str,
    name: &str,
) -> Result<Vec<(u32, String)>, sqlx::Error> {
    let rows = session.rows(constant(query).bind(oids(ids))).await?;
    rows.iter()
        .map(|row| Ok((oid(row, id)?, row.try_get(name)?)))
        .collect()
}

fn grouped(pairs: Vec<(u32, String)>) -> HashMap<u32, Vec<String>> {
    let mut groups: HashMap<u32, Vec<String>> = HashMap::new();
    for (id, name) in pairs {
        groups.entry(id).or_default().push(name);
    }
    groups
}

pub(super) fn oid(row: &PgRow, name: &str) -> Result<u32, sqlx::Error> {
    row.try_get::<Oid, _>(name).map(|oid| oid.0)
}

pub(super) fn oids<'a>(ids: impl IntoIterator<Item = &'a u32>) -> Vec<Oid> {
    ids.into_iter().map(|id| Oid(*id)).collect()
}

fn table_kind(kind: &str, persistence: &str) -> TableKind {
    let word = match kind {
        "r" | "p" if persistence == "t" => "temporary table",
        "r" => return TableKind::Ordinary,
        "p" => return TableKind::Partitioned,
        "v" => "view",
        "m" => "materialized view",
        "f" => "foreign table",
        "S" => "sequence",
        "c" => "composite type",
        "i" | "I" => "index",
        "t" => "TOAST table",
        _ => "relation of an unknown kind",
    };
    TableKind::Unsupported(word.to_owned())
}

const fn time_domain(base: u32) -> Option<TimeDomain> {
    match base {
        1184 => Some(TimeDomain::Instant),
        1114 => Some(TimeDomain::Local),
        1082 => Some(TimeDomain::Date),
        _ => None,
    }
}

/// What an encoding may be held by: the integers, numeric, double precision, text types, uuid. Not real, which holds the
/// seconds since 1970 to two minutes only.
const fn storage(base: u32) -> Option<Storage> {
    match base {
        20 | 21 | 23 => Some(Storage::Integer),
        1700 => Some(Storage::Decimal),
        701 => Some(Storage::Float),
        25 | 1042 | 1043 => Some(Storage::Text),
        2950 => Some(Storage::Uuid),
        _ => None,
    }
}

/// date, time, timestamp, timestamptz, interval, timetz.
const TEMPORAL_TYPES: [u32; 6] = [1082, 1083, 1114, 1184, 1186, 1266];

/// The system's own types whose operators are immutable and total: bool, bytea, "char", name, int8, int2, int4, text, oid, json,
/// cidr, float4, float8, macaddr8, macaddr, inet, bpchar, varchar, the temporal ones, bit, varbit, numeric, uuid, jsonb.
/// Left out on purpose: money (reads by locale), reg… (looks names up), xml, text search, ranges, geometry (`=` compares areas),
/// arrays, composites, transaction ids.
const PLAIN_TYPES: [u32; 29] = [
    16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 650, 700, 701, 774, 829, 869, 1042, 1043, 1082, 1083,
    1114, 1184, 1186, 1266, 1560, 1562, 1700, 2950, 3802,
];

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("r", "p", TableKind::Ordinary)]
    #[case("r", "u", TableKind::Ordinary)]
    #[case("p", "p", TableKind::Partitioned)]
    #[case("v", "p", TableKind::Unsupported("view".to_owned()))]
    #[case("r", "t", TableKind::Unsupported("temporary table".to_owned()))]
    fn a_relation_has_a_kind(
        #[case] kind: &str,
        #[case] persistence: &str,
        #[case] expected: TableKind,
    ) {
        assert_eq!(table_kind(kind, persistence), expected);
    }

    #[test]
    fn every_temporal_type_may_stand_in_a_predicate() {
        assert!(TEMPORAL_TYPES.iter().all(|id| PLAIN_TYPES.contains(id)));
        assert!(PLAIN_TYPES.is_sorted());
    }
}
