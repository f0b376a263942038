//! Tables as the schema describes them.

use sqlx::{Row, sqlite::SqliteRow};

use super::{
    catalog_sql as q,
    keys::{self, Pairs},
    session::Session,
    sql::{self, column, column_of},
    trigger,
    value::Value,
};
use crate::policy::{
    encoding::Storage,
    table::{ColumnFacts, LeafFacts, TableFacts, TableKind, TableName},
};

/// The only schema: temporary tables and attached files are those of somebody's own connection.
pub(super) const SCHEMA: &str = "main";
/// Rows of a page: chunks of fewer rows cost more for their commit than for their rows.
pub(super) const ROWS_PER_PAGE: u32 = 10_000;
/// What is said of a column without a declared type.
pub(super) const NO_TYPE: &str = "of no declared type";
/// The same of one that keeps everything as it comes, which elsewhere than in a STRICT table ANY does not.
pub(super) const STRICT_ANY: &str = "ANY (STRICT)";
/// Prefix of the ledger's tables.
const LEDGER: &str = "retention_operator_";

/// A table, and what its walk needs to know of it.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) facts: TableFacts,
    /// The order of its rows; else why there is none that can be named.
    pub(super) key: Result<Key, String>,
    /// How the columns of the keys that refer to it are paired.
    pub(super) pairs: Pairs,
    /// Text of the triggers that fire on DELETE.
    triggers: Vec<String>,
}

/// The columns by which a table's rows are stored, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    columns: Vec<KeyColumn>,
    /// One whole number, by a name that no column of the table's own has.
    is_rowid: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyColumn {
    name: String,
    collation: Option<String>,
}

impl KeyColumn {
    /// An expression under the collation of this part of the key.
    fn collated(&self, sql: &str) -> String {
        match &self.collation {
            None => sql.to_owned(),
            Some(collation) => format!("({sql}) COLLATE {}", sql::identifier(collation)),
        }
    }
}

impl Key {
    fn rowid(name: &str) -> Self {
        Self {
            columns: vec![KeyColumn {
                name: name.to_owned(),
                collation: None,
            }],
            is_rowid: true,
        }
    }

    pub(super) fn parts(&self) -> usize {
        self.columns.len()
    }

    /// Numbered values that one key takes.
    pub(super) fn places(&self) -> usize {
        if self.is_rowid {
            1
        } else {
            2 * self.columns.len()
        }
    }

    /// Whether a part is bound together with whether it is a text.
    pub(super) fn is_tagged(&self) -> bool {
        !self.is_rowid
    }

    /// Each part with its storage class before it; a text as its bytes.
    pub(super) fn select(&self) -> String {
        let parts: Vec<String> = self
            .columns
            .iter()
            .map(|part| {
                let name = column(&part.name);
                format!(
                    "typeof({name}), CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END"
                )
            })
            .collect();
        parts.join(", ")
    }

    /// For ORDER BY. Ascending in every part: that is what row values compare.
    pub(super) fn order(&self, descending: bool) -> String {
        let direction = if descending { " DESC" } else { "" };
        let parts: Vec<String> = self
            .columns
            .iter()
            .map(|part| format!("{}{direction}", part.collated(&column(&part.name))))
            .collect();
        parts.join(", ")
    }

    /// The row that a statement knows as `one` is the row that it knows as `other`.
    pub(super) fn same(&self, one: &str, other: &str) -> String {
        let parts: Vec<String> = self
            .columns
            .iter()
            .map(|part| {
                format!(
                    "{} IS {}",
                    part.collated(&column_of(one, &part.name)),
                    column_of(other, &part.name)
                )
            })
            .collect();
        parts.join(" AND ")
    }

    /// Compares the key with the values from number `first` on. They have no affinity: each was read from the column that it
    /// is compared with. The key's collations stand at the values: a column with one of its own would not be looked up.
    pub(super) fn compare(&self, operator: &str, first: usize) -> String {
        let names: Vec<String> = self.columns.iter().map(|part| column(&part.name)).collect();
        if self.is_rowid {
            return format!("{} {operator} ?{first}", names.concat());
        }
        let values: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(n, part)| {
                let (value, is_text) = (first + 2 * n, first + 2 * n + 1);
                let bound =
                    format!("CASE ?{is_text} WHEN 1 THEN CAST(?{value} AS TEXT) ELSE ?{value} END");
                part.collated(&bound)
            })
            .collect();
        format!("({}) {operator} ({})", names.join(", "), values.join(", "))
    }
}

impl Table {
    /// What must not change while the table is walked: `columns` are those that the plan reads.
    pub(super) fn fingerprint(&self, columns: &[String]) -> String {
        let read: Vec<Option<&ColumnFacts>> =
            columns.iter().map(|name| self.facts.column(name)).collect();
        format!(
            "{:?} {:?} {read:?} {:?} {:?} {}",
            self.facts.kind,
            self.key,
            self.triggers,
            self.facts.delete_fails,
            keys::told(&self.facts.incoming, &self.pairs)
        )
    }
}

/// Looks `names` up in the transaction that `session` is in.
pub(super) async fn tables(
    session: &mut Session,
    names: &[TableName],
) -> Result<Vec<Option<TableFacts>>, sqlx::Error> {
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let is_main = name.schema.as_deref().is_none_or(|schema| schema == SCHEMA);
        found.push(if is_main {
            table(session, &name.name).await?.map(|table| table.facts)
        } else {
            None
        });
    }
    Ok(found)
}

/// Looks one table up in the transaction that `session` is in.
pub(super) async fn table(session: &mut Session, name: &str) -> Result<Option<Table>, sqlx::Error> {
    let Some(root) = asked(session, q::RESOLVE, name).await?.into_iter().next() else {
        return Ok(None);
    };
    let kind = kind(&root.try_get::<String, _>("type")?);
    let id = number(name);
    let without_rowid = root.try_get::<i64, _>("without_rowid")? != 0;
    let columns = asked(session, q::COLUMNS, name).await?;
    let mut facts = TableFacts {
        id,
        schema: SCHEMA.to_owned(),
        name: name.to_owned(),
        system: is_system(name),
        columns: columns.iter().map(column_facts).collect::<Result<_, _>>()?,
        kind,
        leaves: Vec::new(),
        incoming: Vec::new(),
        row_security_active: false,
        published_without_identity: None,
        delete_rule: None,
        delete_triggers: Vec::new(),
        delete_fails: None,
        // The rights are those of the file; that is seen when it is opened.
        may_select: true,
        may_delete: true,
        hindered_part: None,
        leading_index_columns: Vec::new(),
        leading_indexes: Vec::new(),
        total_bytes: 0,
    };
    if matches!(facts.kind, TableKind::Unsupported(_)) {
        return Ok(Some(Table {
            facts,
            key: Err("it is no table".to_owned()),
            pairs: Pairs::new(),
            triggers: Vec::new(),
        }));
    }
    let indexes = indexes(session, name).await?;
    let key = key(without_rowid, &columns, &indexes)?;
    facts.leading_index_columns = leading(&columns, &indexes, without_rowid)?;
    let (incoming, pairs) = keys::read(session, name).await?;
    facts.incoming = incoming;
    let triggers = delete_triggers(session, name).await?;
    facts.delete_triggers = triggers.iter().map(|(name, _)| name.clone()).collect();
    facts.delete_fails = delete_fails(session, name).await?;
    facts.leaves = vec![leaf(session, &facts, key.as_ref().err().cloned()).await?];
    Ok(Some(Table {
        facts,
        key,
        pairs,
        triggers: triggers.into_iter().map(|(_, text)| text).collect(),
    }))
}

async fn asked(
    session: &mut Session,
    query: &'static str,
    name: &str,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    let name = Value::Text(name.to_owned());
    session.rows(name.bind(sql::constant(query))).await
}

fn kind(word: &str) -> TableKind {
    match word {
        "table" => TableKind::Ordinary,
        "virtual" => TableKind::Unsupported("virtual table".to_owned()),
        "shadow" => TableKind::Unsupported("part of a virtual table".to_owned()),
        other => TableKind::Unsupported(other.to_owned()),
    }
}

pub(super) fn is_system(name: &str) -> bool {
    let is_sqlite = name
        .get(..7)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case("sqlite_"));
    is_sqlite
        || name
            .get(..LEDGER.len())
            .is_some_and(|prefix| prefix.eq_ignore_ascii_case(LEDGER))
}

/// A table's number: a hash (FNV-1a) of its name, without regard to case. A table has no other sign that lasts: VACUUM moves its
/// pages. Were two names to share one, each table would be taken for the other: both stay.
pub(super) fn number(name: &str) -> u32 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    });
    hash.max(1)
}

/// The columns of a table in the transaction that `session` is in.
pub(super) async fn columns(
    session: &mut Session,
    name: &str,
) -> Result<Vec<ColumnFacts>, sqlx::Error> {
    let rows = asked(session, q::COLUMNS, name).await?;
    rows.iter().map(column_facts).collect()
}

fn column_facts(row: &SqliteRow) -> Result<ColumnFacts, sqlx::Error> {
    let declares: String = row.try_get("type")?;
    let strict = row.try_get::<i64, _>("strict")? != 0;
    let keeps_all = strict && declares.eq_ignore_ascii_case("ANY");
    Ok(declared(
        row.try_get("name")?,
        if keeps_all { STRICT_ANY } else { &declares },
    ))
}

/// A column by its name and the type that its table declares, empty where it declares none.
pub(super) fn declared(name: &str, declared: &str) -> ColumnFacts {
    ColumnFacts {
        name: name.to_owned(),
        type_name: if declared.is_empty() {
            NO_TYPE.to_owned()
        } else {
            declared.to_owned()
        },
        // Whatever is declared: each value has its own type.
        time_domain: None,
        storage: Some(Storage::Any),
        safe_in_predicates: true,
        has_fields: false,
        is_temporal: false,
    }
}

struct Index {
    name: String,
    origin: String,
    is_partial: bool,
    /// Its first column is in descending order.
    descends: bool,
    /// The columns of its key; of an expression `None`.
    columns: Vec<Option<KeyColumn>>,
}

/// Whether ANALYZE has counted rows, and taken samples of them.
pub(super) async fn has_statistics(session: &mut Session) -> Result<(bool, bool), sqlx::Error> {
    let row = session.row(sql::constant(q::HAS_STATISTICS)).await?;
    Ok((
        row.try_get::<i64, _>("rows")? > 0,
        row.try_get::<i64, _>("samples")? > 0,
    ))
}

/// The first number of a statistic.
pub(super) fn first_number(stat: Option<&str>) -> Option<u64> {
    stat?.split(' ').next()?.parse().ok()
}

/// An index over all rows that begins with a column, smallest value first.
pub(super) async fn index_on(
    session: &mut Session,
    table: &str,
    column: &str,
) -> Result<Option<String>, sqlx::Error> {
    let indexes = indexes(session, table).await?;
    let fits = |index: &Index| {
        let first = index.columns.first().and_then(Option::as_ref);
        !index.is_partial && !index.descends && first.is_some_and(|first| first.name == column)
    };
    Ok(indexes.into_iter().find(fits).map(|index| index.name))
}

async fn indexes(session: &mut Session, name: &str) -> Result<Vec<Index>, sqlx::Error> {
    let mut indexes: Vec<Index> = Vec::new();
    for row in asked(session, q::INDEXES, name).await? {
        let index_name: String = row.try_get("index_name")?;
        if indexes.last().is_none_or(|last| last.name != index_name) {
            indexes.push(Index {
                name: index_name,
                origin: row.try_get("origin")?,
                is_partial: row.try_get::<i64, _>("partial")? != 0,
                descends: row.try_get::<i64, _>("desc")? != 0,
                columns: Vec::new(),
            });
        }
        if row.try_get::<i64, _>("key")? == 0 {
            continue;
        }
        let name: Option<String> = row.try_get("name")?;
        let collation: Option<String> = row.try_get("coll")?;
        if let Some(index) = indexes.last_mut() {
            index
                .columns
                .push(name.map(|name| KeyColumn { name, collation }));
        }
    }
    Ok(indexes)
}

/// The columns of the primary key, in no particular order.
fn primary_key(columns: &[SqliteRow]) -> Result<Vec<String>, sqlx::Error> {
    let mut names = Vec::new();
    for row in columns {
        if row.try_get::<i64, _>("pk")? != 0 {
            names.push(row.try_get("name")?);
        }
    }
    Ok(names)
}

/// A primary key without an index of its own is the rowid under another name.
fn rowid_alias(columns: &[SqliteRow], indexes: &[Index]) -> Result<Option<String>, sqlx::Error> {
    let mut names = primary_key(columns)?;
    let has_index = indexes.iter().any(|index| index.origin == "pk");
    Ok(names.pop().filter(|_| names.is_empty() && !has_index))
}

fn key(
    without_rowid: bool,
    columns: &[SqliteRow],
    indexes: &[Index],
) -> Result<Result<Key, String>, sqlx::Error> {
    if without_rowid {
        let primary = indexes.iter().find(|index| index.origin == "pk");
        let parts: Option<Vec<KeyColumn>> =
            primary.and_then(|index| index.columns.iter().cloned().collect());
        return Ok(match parts {
            Some(columns) if !columns.is_empty() => Ok(Key {
                columns,
                is_rowid: false,
            }),
            _ => Err("table WITHOUT ROWID whose primary key cannot be read".to_owned()),
        });
    }
    let names: Vec<String> = columns
        .iter()
        .map(|row| row.try_get("name"))
        .collect::<Result<_, _>>()?;
    let free = ["rowid", "_rowid_", "oid"]
        .into_iter()
        .find(|alias| !names.iter().any(|name| name.eq_ignore_ascii_case(alias)));
    Ok(match (free, rowid_alias(columns, indexes)?) {
        (Some(name), _) => Ok(Key::rowid(name)),
        (None, Some(name)) => Ok(Key::rowid(&name)),
        (None, None) => Err(
            "table with columns of its own called rowid, _rowid_ and oid, so that its rows cannot be named".to_owned(),
        ),
    })
}

/// Columns that lead an index over all rows.
fn leading(
    columns: &[SqliteRow],
    indexes: &[Index],
    without_rowid: bool,
) -> Result<Vec<String>, sqlx::Error> {
    let mut names: Vec<String> = if without_rowid {
        Vec::new()
    } else {
        rowid_alias(columns, indexes)?.into_iter().collect()
    };
    for index in indexes.iter().filter(|index| !index.is_partial) {
        if let Some(Some(first)) = index.columns.first()
            && !names.contains(&first.name)
        {
            names.push(first.name.clone());
        }
    }
    Ok(names)
}

/// The names of the tables that refer to one.
pub(super) fn referrers(facts: &TableFacts) -> Vec<String> {
    let prefix = format!("{SCHEMA}.");
    let mut names: Vec<String> = facts
        .incoming
        .iter()
        .map(|key| {
            let name = key.table.strip_prefix(&prefix).unwrap_or(&key.table);
            name.to_owned()
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

async fn is_empty(session: &mut Session, name: &str) -> Result<bool, sqlx::Error> {
    let row = session.row(sql::is_empty(name).query([])).await?;
    Ok(row.try_get::<i64, _>("empty")? != 0)
}

/// Name and text of each trigger that fires on DELETE.
pub(super) async fn delete_triggers(
    session: &mut Session,
    name: &str,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    let mut triggers = Vec::new();
    for row in asked(session, q::TRIGGERS, name).await? {
        let text: String = row.try_get("sql")?;
        if trigger::fires_on_delete(&text) {
            triggers.push((row.try_get("name")?, text));
        }
    }
    Ok(triggers)
}

/// A table that is missing though every DELETE needs it: one that a foreign key refers to, of this table or of one to which its deletes
/// cascade.
async fn delete_fails(session: &mut Session, name: &str) -> Result<Option<String>, sqlx::Error> {
    let mut keys = Vec::new();
    for row in session.rows(sql::constant(q::FOREIGN_KEYS)).await? {
        let (child, parent): (String, String) = (row.try_get("child")?, row.try_get("parent")?);
        let (cascades, there): (bool, bool) = (row.try_get("cascades")?, row.try_get("there")?);
        keys.push((child, parent, cascades, there));
    }
    let mut deleted = vec![name.to_owned()];
    let mut next = 0;
    while let Some(table) = deleted.get(next).cloned() {
        next += 1;
        for (child, parent, cascades, there) in &keys {
            if child.eq_ignore_ascii_case(&table) && !there {
                return Ok(Some(format!(
                    "{SCHEMA}.{child} refers to {SCHEMA}.{parent}, which does not exist, and SQLite then refuses every DELETE: create that table \
                     again, or {SCHEMA}.{child} anew without that foreign key"
                )));
            }
            let is_known = deleted
                .iter()
                .any(|known| known.eq_ignore_ascii_case(child));
            if *cascades && parent.eq_ignore_ascii_case(&table) && !is_known {
                deleted.push(child.clone());
            }
        }
    }
    Ok(None)
}

/// A table is its own and only leaf.
async fn leaf(
    session: &mut Session,
    facts: &TableFacts,
    unsupported: Option<String>,
) -> Result<LeafFacts, sqlx::Error> {
    let (rows, pages) = if is_empty(session, &facts.name).await? {
        (None, 0)
    } else {
        let rows = analyzed_rows(session, &facts.name).await?;
        let pages = rows.map_or(1, |rows| rows.div_ceil(u64::from(ROWS_PER_PAGE)).max(1));
        (rows, pages)
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "an estimate needs no more than 53 bits"
    )]
    let rows = rows.map(|rows| rows as f64);
    Ok(LeafFacts {
        id: facts.id,
        schema: facts.schema.clone(),
        name: facts.name.clone(),
        unsupported,
        rows,
        // ANALYZE may be long ago, and nothing is counted since.
        rows_at_least: 0,
        pages,
    })
}

/// Rows at the last ANALYZE.
pub(super) async fn analyzed_rows(
    session: &mut Session,
    name: &str,
) -> Result<Option<u64>, sqlx::Error> {
    if !has_statistics(session).await?.0 {
        return Ok(None);
    }
    let mut most = None;
    for row in asked(session, q::STATISTICS, name).await? {
        let stat: Option<String> = row.try_get("stat")?;
        most = most.max(first_number(stat.as_deref()));
    }
    Ok(most)
}
