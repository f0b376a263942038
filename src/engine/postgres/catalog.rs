//! Tables as the catalog describes them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::{
    Row,
    postgres::{PgRow, types::Oid},
};

use super::{catalog_sql as q, keys::Keys, session::Session, sql::constant};
use crate::policy::encoding::Storage;
use crate::policy::table::{ColumnFacts, LeafFacts, TableFacts, TableKind, TableName, TimeDomain};

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
pub(super) fn scaled_rows(rows: f64, rows_of_pages: i64, pages: i64) -> Option<f64> {
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

/// From this major on the server counts changes without losing any; before, they were sent to a process that might not get them.
const COUNTS_SURELY: i32 = 150_000;

/// What the server has counted of a table since its last ANALYZE.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    /// They reach back to an ANALYZE: a crash, a restore or a reset forgets that there was one.
    counted: bool,
    /// Rows inserted, updated or deleted since.
    changed: i64,
    /// Rows that are there, by ANALYZE and what was counted since.
    live: i64,
}

/// Rows that a table has at the least which had `rows` at its last ANALYZE. That may be long ago: whatever was changed since may
/// have been deleted. A tenth is left for what ANALYZE, which reads a sample, may be wrong by.
fn rows_at_least(rows: f64, counters: Counters) -> u64 {
    if !counters.counted || rows <= 0.0 {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what does not fit is cut off at what does"
    )]
    let analyzed = rows as i64;
    let least = analyzed.saturating_sub(counters.changed).min(counters.live);
    u64::try_from(least - least / 10).unwrap_or(0)
}

/// One relation at or below a root.
pub(super) struct Member {
    pub(super) id: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) persistence: String,
    pub(super) pending: bool,
    /// Rows at the last VACUUM or ANALYZE; -1: there was none.
    pub(super) rows: f64,
    /// Pages at that time.
    pub(super) rows_of_pages: i64,
    counters: Counters,
    pub(super) may_select: bool,
    may_delete: bool,
    pub(super) may_lock: bool,
    pub(super) row_security: bool,
}

impl Member {
    pub(super) fn holds_rows(&self) -> bool {
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

pub(super) struct Size {
    pub(super) exact: bool,
    pub(super) pages: i64,
    bytes: i64,
}

/// Everything about several roots, read in a handful of queries.
struct Catalog {
    version: i32,
    members: HashMap<u32, Vec<Member>>,
    sizes: HashMap<u32, Size>,
    columns: HashMap<u32, Vec<ColumnFacts>>,
    keys: Keys,
    published: HashMap<u32, String>,
    rules: HashMap<u32, String>,
    triggers: HashMap<u32, Vec<String>>,
    leading: HashMap<u32, Vec<(u32, String)>>,
}

impl Catalog {
    async fn read(session: &mut Session, roots: &[Root]) -> Result<Self, sqlx::Error> {
        let root_ids: Vec<u32> = roots.iter().map(|root| root.id).collect();
        let members = tree(session, &root_ids).await?;
        let all: BTreeSet<u32> = members.values().flatten().map(|member| member.id).collect();
        let leaves = ids_with_rows(&members);
        let keys = Keys::read(session, all.clone()).await?;
        let mut sized = leaves.clone();
        sized.extend(ids_with_rows(keys.referrers()));
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
            version,
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
            leading: leading(session, &all).await?,
            members,
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
            incoming: self.keys.incoming(members, &self.sizes),
            row_security_active: members.iter().any(|member| member.row_security),
            published_without_identity: holders
                .iter()
                .find_map(|leaf| self.published.get(&leaf.id).cloned()),
            delete_rule: members
                .iter()
                .find_map(|member| self.rules.get(&member.id).cloned()),
            delete_triggers: triggers.into_iter().cloned().collect(),
            delete_fails: None,
            may_select: judged.iter().all(|member| member.may_select),
            may_delete: judged.iter().all(|member| member.may_delete),
            hindered_part: judged
                .iter()
                .find(|member| !member.may_select)
                .copied()
                .or_else(|| members.iter().find(|member| member.row_security))
                .or_else(|| judged.iter().find(|member| !member.may_delete).copied())
                .filter(|member| member.id != root.id)
                .map(|member| format!("{}.{}", member.schema, member.name)),
            leading_index_columns: self.leading_columns(root, &holders),
            leading_indexes: self.leading_indexes(members),
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
            rows_at_least: if self.version >= COUNTS_SURELY && pages > 0 {
                rows_at_least(leaf.rows, leaf.counters)
            } else {
                0
            },
            pages: u64::try_from(pages).unwrap_or(0),
        }
    }

    fn leading_indexes(&self, members: &[Member]) -> Vec<(u32, String)> {
        let of_members = members
            .iter()
            .filter_map(|member| self.leading.get(&member.id));
        of_members.flatten().cloned().collect()
    }

    /// Columns that lead an index on the whole table: on a partitioned one its own index, else an index on each holder of rows.
    fn leading_columns(&self, root: &Root, holders: &[&Member]) -> Vec<String> {
        let of = |id: u32| -> Vec<String> {
            let leading = self.leading.get(&id).into_iter().flatten();
            let mut names: Vec<String> = leading.map(|(_, name)| name.clone()).collect();
            names.dedup();
            names
        };
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

pub(super) async fn tree(
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
            counters: Counters {
                counted: row.try_get("counted")?,
                changed: row.try_get::<Option<i64>, _>("changed")?.unwrap_or(0),
                live: row.try_get::<Option<i64>, _>("live")?.unwrap_or(0),
            },
            may_select: row.try_get("may_select")?,
            may_delete: row.try_get("may_delete")?,
            may_lock: row.try_get("may_lock")?,
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
                has_fields: row.try_get("has_fields")?,
                is_temporal: TEMPORAL_TYPES.contains(&base),
            });
    }
    Ok(columns)
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

/// Indexes with the columns that they begin with, by their tables.
async fn leading(
    session: &mut Session,
    ids: &BTreeSet<u32>,
) -> Result<HashMap<u32, Vec<(u32, String)>>, sqlx::Error> {
    let rows = session.rows(constant(q::LEADING).bind(oids(ids))).await?;
    let mut leading: HashMap<u32, Vec<(u32, String)>> = HashMap::new();
    for row in &rows {
        leading
            .entry(oid(row, "id")?)
            .or_default()
            .push((oid(row, "index")?, row.try_get("name")?));
    }
    Ok(leading)
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

    #[test]
    fn rows_that_may_have_been_deleted_since_are_not_counted_on() {
        let counters = |counted, changed, live| Counters {
            counted,
            changed,
            live,
        };

        assert_eq!(rows_at_least(1_000.0, counters(true, 0, 1_000)), 900);
        assert_eq!(rows_at_least(1_000.0, counters(true, 400, 1_400)), 540);
        assert_eq!(rows_at_least(1_000.0, counters(true, 0, 100)), 90);
        assert_eq!(rows_at_least(1_000.0, counters(true, 5_000, 1_000)), 0);
        assert_eq!(rows_at_least(1_000.0, counters(false, 0, 1_000)), 0);
        assert_eq!(rows_at_least(-1.0, counters(true, 0, 1_000)), 0);
    }

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
