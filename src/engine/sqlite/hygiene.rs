//! What the checks of the whole database look at: the schema, and what ANALYZE left. Of the tables themselves no more than whether
//! they have a row.
//!
//! Left out: SQLite's own tables, those of the operator, virtual tables and their shadows, views.

use std::collections::{BTreeMap, HashMap};

use sqlx::{Row, sqlite::SqliteRow};

use super::{
    catalog::{self, SCHEMA},
    hygiene_sql as q,
    session::Session,
    sql::{self, constant},
};
use crate::policy::hygiene::facts::{
    Definition, Dialect, Facts, FedColumn, Feed, ForeignKey, Index, IndexKey, Rare, Sequence, Table,
};

/// Reads everything in the transaction that `session` is in.
pub(super) async fn read(session: &mut Session) -> Result<Facts, sqlx::Error> {
    let mut schema = Schema::read(session).await?;
    let mut facts = Facts {
        dialect: Dialect::Sqlite,
        indexes: indexes(session, &schema).await?,
        foreign_keys: foreign_keys(session, &schema).await?,
        sequences: sequences(session, &schema).await?,
        unseen: schema.left_out.clone(),
        ..Facts::default()
    };
    facts.indexes.extend(schema.row_numbers(&facts.indexes));
    // Those that constraints make have no number of their own.
    for (index, id) in facts.indexes.iter_mut().zip(1..) {
        index.id = id;
    }
    rows(session, &mut schema).await?;
    facts.tables = schema.into_tables();
    Ok(facts)
}

/// The tables with their columns, by names in lower case: SQLite compares them so.
#[derive(Default)]
struct Schema {
    tables: HashMap<String, Described>,
    /// What is not looked at, in words.
    left_out: Vec<String>,
}

struct Described {
    table: Table,
    columns: Vec<Column>,
    without_rowid: bool,
}

struct Column {
    number: i16,
    name: String,
    /// Its place in the primary key, from 1 on; 0: it has none.
    key: i64,
}

impl Schema {
    async fn read(session: &mut Session) -> Result<Self, sqlx::Error> {
        let mut schema = Self::default();
        let foreign = foreign_prefixes(session).await?;
        for row in session.rows(constant(q::TABLES)).await? {
            let name: String = row.try_get("name")?;
            let folded = name.to_ascii_lowercase();
            if foreign.iter().any(|prefix| folded.starts_with(prefix)) {
                continue;
            }
            let described = Described {
                table: Table {
                    // The number that rules know the table by.
                    id: catalog::number(&name),
                    schema: SCHEMA.to_owned(),
                    name: name.clone(),
                    ..Table::default()
                },
                columns: Vec::new(),
                without_rowid: row.try_get::<i64, _>("without_rowid")? != 0,
            };
            schema.tables.insert(name.to_ascii_lowercase(), described);
        }
        schema.leave_out_twins();
        for row in session.rows(constant(q::COLUMNS)).await? {
            let column = Column {
                number: column_number(&row, "cid")?,
                name: row.try_get("name")?,
                key: row.try_get("pk")?,
            };
            if let Some(described) = schema.get_mut(&row, "table_name")? {
                described.columns.push(column);
            }
        }
        Ok(schema)
    }

    /// Tables whose names have one number: the indexes of one would be taken for the other's.
    fn leave_out_twins(&mut self) {
        let mut names: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for Described { table, .. } in self.tables.values() {
            names.entry(table.id).or_default().push(table.name.clone());
        }
        names.retain(|_, names| names.len() > 1);
        self.tables
            .retain(|_, described| !names.contains_key(&described.table.id));
        for mut names in names.into_values() {
            names.sort_unstable();
            self.left_out.push(format!(
                "tables {}: their names have the same number, by which tables are told apart",
                names.join(" and ")
            ));
        }
    }

    fn by_name(&self, name: &str) -> Option<&Described> {
        self.tables.get(&name.to_ascii_lowercase())
    }

    fn get(&self, row: &SqliteRow, column: &str) -> Result<Option<&Described>, sqlx::Error> {
        Ok(self.by_name(row.try_get(column)?))
    }

    fn get_mut(
        &mut self,
        row: &SqliteRow,
        column: &str,
    ) -> Result<Option<&mut Described>, sqlx::Error> {
        let name: String = row.try_get(column)?;
        Ok(self.tables.get_mut(&name.to_ascii_lowercase()))
    }

    /// An INTEGER PRIMARY KEY is the table's own order, and has no index that one could list.
    fn row_numbers(&self, indexes: &[Index]) -> Vec<Index> {
        let lacks = |described: &&Described| {
            !described.without_rowid
                && !indexes
                    .iter()
                    .any(|index| index.primary && index.table == described.table.id)
        };
        self.tables
            .values()
            .filter(lacks)
            .filter_map(|described| {
                let column = described.row_number()?;
                Some(Index {
                    table: described.table.id,
                    schema: SCHEMA.into(),
                    name: "PRIMARY KEY".into(),
                    method: METHOD.into(),
                    unique: true,
                    primary: true,
                    valid: true,
                    ready: true,
                    constraint: Some("PRIMARY KEY".into()),
                    keys: [IndexKey {
                        column: column.number,
                        options: ASCENDING,
                        ..IndexKey::default()
                    }]
                    .into(),
                    ..Index::default()
                })
            })
            .collect()
    }

    fn into_tables(self) -> BTreeMap<u32, Table> {
        self.tables
            .into_values()
            .map(|described| (described.table.id, described.table))
            .collect()
    }
}

impl Described {
    fn column(&self, name: &str) -> Option<&Column> {
        self.columns
            .iter()
            .find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The columns of the primary key, in its order.
    fn primary_key(&self) -> Vec<&Column> {
        let mut key: Vec<&Column> = self
            .columns
            .iter()
            .filter(|column| column.key > 0)
            .collect();
        key.sort_by_key(|column| column.key);
        key
    }

    /// The only column of the primary key.
    fn row_number(&self) -> Option<&Column> {
        match *self.primary_key() {
            [column] => Some(column),
            _ => None,
        }
    }
}

/// Of virtual tables whose module this program does not have: SQLite cannot tell their shadows then, but for the names, which begin
/// with the virtual table's and an underscore.
async fn foreign_prefixes(session: &mut Session) -> Result<Vec<String>, sqlx::Error> {
    let mut prefixes = Vec::new();
    for row in session.rows(constant(q::VIRTUAL)).await? {
        let modules: Option<String> = row.try_get("modules")?;
        let own = module(&row.try_get::<String, _>("sql")?);
        let is_known = own.is_some_and(|own| {
            let mut known = modules.as_deref().unwrap_or_default().split(' ');
            known.any(|module| module == own)
        });
        if !is_known {
            let name: String = row.try_get("name")?;
            prefixes.push(format!("{}_", name.to_ascii_lowercase()));
        }
    }
    Ok(prefixes)
}

/// The module of a `CREATE VIRTUAL TABLE`, in lower case; `None`: it is not to be seen at once.
fn module(sql: &str) -> Option<String> {
    let folded = sql.to_ascii_lowercase();
    let mut words = folded.split_ascii_whitespace();
    words.find(|word| *word == "using")?;
    let module = words.next()?.split('(').next()?;
    Some(
        module
            .trim_matches(['"', '`', '[', ']', '\'', ';'])
            .to_owned(),
    )
}

/// All indexes of SQLite are B-trees.
const METHOD: &str = "btree";

async fn indexes(session: &mut Session, schema: &Schema) -> Result<Vec<Index>, sqlx::Error> {
    let mut indexes: Vec<Index> = Vec::new();
    let mut collations = Collations::default();
    for row in session.rows(constant(q::INDEXES)).await? {
        let Some(described) = schema.get(&row, "table_name")? else {
            continue;
        };
        let name: Box<str> = row.try_get("name")?;
        if indexes.last().is_none_or(|last| last.name != name) {
            indexes.push(index(&row, described, name)?);
        }
        let column = row.try_get::<Option<i64>, _>("cid")?;
        let is_key = row.try_get::<Option<i64>, _>("key")? == Some(1);
        let (Some(column), Some(index), true) = (column, indexes.last_mut(), is_key) else {
            continue;
        };
        let key = IndexKey {
            // -1 is the row's number, -2 an expression.
            column: i16::try_from(column).map_or(0, |column| (column + 1).max(0)),
            operator_class: 0,
            collation: collations.number(row.try_get("coll")?),
            options: if row.try_get::<Option<i64>, _>("desc")? == Some(1) {
                DESCENDING
            } else {
                ASCENDING
            },
        };
        index.keys = index.keys.iter().copied().chain([key]).collect();
    }
    Ok(indexes)
}

/// NULLs are the smallest values: in descending order they come last, in ascending order first.
const DESCENDING: i16 = 1;
const ASCENDING: i16 = 2;

fn index(row: &SqliteRow, described: &Described, name: Box<str>) -> Result<Index, sqlx::Error> {
    let origin: String = row.try_get("origin")?;
    let text: Option<String> = row.try_get("sql")?;
    let (keys, predicate) = text.as_deref().map_or((None, None), parts);
    let has_expression = row.try_get::<i64, _>("expressions")? > 0;
    let is_partial = row.try_get::<i64, _>("partial")? != 0;
    let rare = Rare {
        expressions: keys.filter(|_| has_expression).map(ToOwned::to_owned),
        not_null: predicate
            .filter(|_| is_partial)
            .and_then(not_null)
            .and_then(|name| Some(vec![described.column(&name)?.number])),
        ..Rare::default()
    };
    Ok(Index {
        // Of those that constraints make there is no text.
        constraint: (origin != "c").then(|| name.clone()),
        table: described.table.id,
        schema: SCHEMA.into(),
        name,
        method: METHOD.into(),
        unique: row.try_get::<i64, _>("unique")? != 0,
        primary: origin == "pk",
        valid: true,
        ready: true,
        rare: rare.boxed(),
        predicate: predicate.filter(|_| is_partial).map(Into::into),
        definition: text.map(|statement| {
            Box::new(Definition {
                statement,
                ..Definition::default()
            })
        }),
        ..Index::default()
    })
}

/// What stands between the parentheses of a `CREATE INDEX`, and behind its `WHERE`; only to be compared, but to the letter.
fn parts(text: &str) -> (Option<&str>, Option<&str>) {
    let mut depth = 0_u32;
    let mut quote = None;
    let mut first = None;
    for (place, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(end), _) if letter == end => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(letter),
            (None, '[') => quote = Some(']'),
            (None, '(') => {
                depth += 1;
                first = first.or(Some(place + 1));
            }
            (None, ')') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    let keys = first.and_then(|first| text.get(first..place));
                    let rest = text.get(place + 1..).map(str::trim);
                    let predicate = rest.filter(|rest| !rest.is_empty());
                    return (keys.map(str::trim), predicate);
                }
            }
            (None, _) => {}
        }
    }
    (None, None)
}

/// The column of a predicate that says nothing but that it is not NULL.
fn not_null(predicate: &str) -> Option<String> {
    let mut words = predicate.split_ascii_whitespace();
    let (keyword, name) = (words.next()?, words.next()?);
    let rest: Vec<String> = words.map(str::to_ascii_uppercase).collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let says_it = matches!(*rest, ["IS", "NOT", "NULL"] | ["NOTNULL"] | ["NOT", "NULL"]);
    let name = name
        .strip_prefix('"')
        .and_then(|name| name.strip_suffix('"'))
        .unwrap_or(name);
    (keyword.eq_ignore_ascii_case("WHERE") && says_it).then(|| name.to_owned())
}

/// Numbers for the names of collations.
#[derive(Default)]
struct Collations(HashMap<String, u32>);

impl Collations {
    fn number(&mut self, name: Option<String>) -> u32 {
        let name = name.unwrap_or_default().to_ascii_uppercase();
        if matches!(name.as_str(), "" | "BINARY") {
            return 0;
        }
        let next = u32::try_from(self.0.len() + 1).unwrap_or(u32::MAX);
        *self.0.entry(name).or_insert(next)
    }
}

async fn foreign_keys(
    session: &mut Session,
    schema: &Schema,
) -> Result<Vec<ForeignKey>, sqlx::Error> {
    let mut keys: Vec<ForeignKey> = Vec::new();
    let mut last = None;
    for row in session.rows(constant(q::FOREIGN_KEYS)).await? {
        let (Some(own), Some(referred)) = (
            schema.get(&row, "table_name")?,
            schema.get(&row, "referred")?,
        ) else {
            continue;
        };
        let place = (own.table.id, row.try_get::<i64, _>("id")?);
        if last != Some(place) {
            last = Some(place);
            keys.push(ForeignKey {
                table: own.table.id,
                referred: referred.table.id,
                validated: true,
                ..ForeignKey::default()
            });
        }
        let name: String = row.try_get("from")?;
        if let (Some(key), Some(column)) = (keys.last_mut(), own.column(&name)) {
            key.columns.push(column.number);
            key.column_names.push(column.name.clone());
        }
    }
    for key in &mut keys {
        // SQLite forgets the names of constraints.
        key.name = key.column_names.join("_");
    }
    Ok(keys)
}

async fn sequences(session: &mut Session, schema: &Schema) -> Result<Vec<Sequence>, sqlx::Error> {
    let there = session.row(constant(q::HAS_SEQUENCES)).await?;
    if there.try_get::<i64, _>("there")? == 0 {
        return Ok(Vec::new());
    }
    let mut sequences = Vec::new();
    for row in session.rows(constant(q::SEQUENCES)).await? {
        let Some(described) = schema.get(&row, "name")? else {
            continue;
        };
        let Some(column) = described.row_number() else {
            continue;
        };
        sequences.push(Sequence {
            schema: SCHEMA.to_owned(),
            name: "sqlite_sequence".to_owned(),
            min: 1,
            max: i64::MAX,
            increment: 1,
            type_name: String::new(),
            cycles: false,
            last: row.try_get("last")?,
            columns: vec![FedColumn {
                table: described.table.id,
                name: column.name.clone(),
                type_name: String::new(),
                max: Some(i64::MAX),
                by: Feed::Identity,
            }],
        });
    }
    Ok(sequences)
}

/// From so many rows on it matters that nobody counted them. To find that out so many are stepped over at most.
const MANY: u64 = 1_000;

/// Rows at the last ANALYZE; of an empty table that there are none.
async fn rows(session: &mut Session, schema: &mut Schema) -> Result<(), sqlx::Error> {
    if catalog::has_statistics(session).await?.0 {
        for row in session.rows(constant(q::STATISTICS)).await? {
            let stat: Option<String> = row.try_get("stat")?;
            let rows = catalog::first_number(stat.as_deref());
            if let Some(described) = schema.get_mut(&row, "tbl")? {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "an estimate needs no more than 53 bits"
                )]
                let rows = rows.map(|rows| rows as f64);
                // An index with a predicate has fewer entries than the table has rows.
                let most = described.table.rows.unwrap_or(0.0);
                described.table.rows = rows.map(|rows| rows.max(most)).or(described.table.rows);
            }
        }
    }
    for described in schema.tables.values_mut() {
        let table = &mut described.table;
        let row = session
            .row(sql::filled(&table.name, MANY).query([]))
            .await?;
        if row.try_get::<i64, _>("some")? == 0 {
            table.rows = Some(0.0);
            table.detail.file_pages = Some(0);
            continue;
        }
        // Pages are not counted; that there are some is known.
        table.pages = 1;
        if row.try_get::<i64, _>("many")? != 0 {
            table.detail.counters.live = MANY;
        }
    }
    Ok(())
}

fn column_number(row: &SqliteRow, name: &str) -> Result<i16, sqlx::Error> {
    let number: i64 = row.try_get(name)?;
    Ok(i16::try_from(number + 1).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_an_index_are_told_apart_by_its_parentheses() {
        let cases = [
            ("CREATE INDEX i ON t (a, b)", Some("a, b"), None),
            (
                r#"CREATE INDEX "i (x" ON t (lower(a), ')') WHERE a IS NOT NULL"#,
                Some("lower(a), ')'"),
                Some("WHERE a IS NOT NULL"),
            ),
            (
                "CREATE INDEX [i(] ON t(a)WHERE b>(1)",
                Some("a"),
                Some("WHERE b>(1)"),
            ),
            ("no index", None, None),
        ];
        for (text, keys, predicate) in cases {
            assert_eq!(parts(text), (keys, predicate), "{text}");
        }
    }
}
