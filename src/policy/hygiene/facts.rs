//! What an engine reads for the checks: catalogs and statistics of a whole database, no row of a user's table.
//!
//! Left out by the engines: the system's own objects, those of extensions and of the operator, shadow objects of virtual
//! tables, temporary tables, foreign tables and views.

mod server;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

pub use self::server::{
    Aged, FedColumn, Feed, Freeze, HolderKind, IntegerKey, Sequence, Slot, SnapshotHolder,
    WalSettings,
};
pub use super::table_facts::{
    BLOCK, Bound, Column, ConstraintKind, Counters, Identity, Sample, TableDetail, Times, Toast,
    TotalKey, Unvalidated,
};
use crate::policy::usage::{self, Node, Usage};

/// Everything that the checks look at.
///
/// A database may have tens of thousands of tables and indexes: what there are so many of is kept small, in ordered maps rather than in
/// hashed ones, which leave half of their places empty, and with equal texts once.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Whose words the findings are in.
    pub dialect: Dialect,
    /// The database's clock.
    pub now: Option<Timestamp>,
    /// Its tables, partitioned ones and partitions included, by their numbers.
    pub tables: BTreeMap<u32, Table>,
    /// Its indexes.
    pub indexes: Vec<Index>,
    /// Its foreign keys.
    pub foreign_keys: Vec<ForeignKey>,
    /// What the role was not allowed to see, in sentences.
    pub unseen: Vec<String>,
    /// Its sequences.
    pub sequences: Vec<Sequence>,
    /// Unique columns of whole numbers that no sequence feeds.
    pub integer_keys: Vec<IntegerKey>,
    /// How near the end of the transaction ids is; `None`: the engine has none.
    pub freeze: Option<Freeze>,
    /// Who keeps dead rows.
    pub snapshots: Vec<SnapshotHolder>,
    /// The server's replication slots.
    pub slots: Vec<Slot>,
    /// What the slots are measured by.
    pub wal: WalSettings,
    /// The role that audits.
    pub role: String,
    /// The server is a standby: its counters do not see what is written.
    pub in_recovery: bool,
    /// Since when the counters count; `None`: not known (also after a crash, which sets them to zero).
    pub counting_since: Option<Timestamp>,
    /// Columns of the largest tables, in their order.
    pub columns: HashMap<u32, Vec<Column>>,
    /// Time columns of the tables with the most rows.
    pub times: HashMap<u32, Vec<Times>>,
    /// Columns by whose values a partitioned table is divided.
    pub partition_keys: HashMap<u32, Vec<String>>,
    /// Schemas and names of what is neither among the tables nor among the indexes and shares their names.
    pub other_names: Vec<(String, String)>,
    /// What tells rows apart where there is no primary key.
    pub total_keys: Vec<TotalKey>,
    /// Constraints that old rows were never held to.
    pub unvalidated: Vec<Unvalidated>,
    /// What the statistics say of its largest B-trees.
    pub btrees: Vec<Btree>,
    /// The server whose counters were read; `None`: it counts no use.
    pub node: Option<Node>,
    /// What `pg_stat_statements` remembers of some tables; `None`: nothing that can be read.
    pub statements: Option<usage::Statements>,
    /// What the server counted, by the numbers of tables and indexes.
    pub counters: BTreeMap<u32, usage::Counters>,
}

/// Which engine the facts are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL.
    #[default]
    Postgres,
    /// SQLite.
    Sqlite,
}

/// What a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A table that holds rows itself.
    #[default]
    Table,
    /// A partitioned table: its partitions hold the rows.
    Partitioned,
    /// A materialized view.
    Materialized,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The database's own number.
    pub id: u32,
    /// Its schema, unquoted.
    pub schema: String,
    /// Its name, unquoted.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The table of which it is a partition.
    pub partition_of: Option<u32>,
    /// Inheritance (not partitioning): the table from which it inherits.
    pub inherits: Option<u32>,
    /// Pages of the main fork, as the catalog remembers them.
    pub pages: u64,
    /// Rows, as the catalog remembers them; `None`: never analysed or vacuumed.
    pub rows: Option<f64>,
    /// Whether anybody uses it.
    pub usage: Usage,
    /// What the checks of single tables look at.
    pub detail: TableDetail,
}

impl Table {
    /// `schema.table`, as ids spell it.
    #[must_use]
    pub fn object(&self) -> String {
        super::object(&self.schema, &self.name)
    }
}

/// One index. There may be tens of thousands: texts that others have too are shared, and what few have is apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    /// The database's own number.
    pub id: u32,
    /// Its table.
    pub table: u32,
    /// Its schema, which is that of its table.
    pub schema: Arc<str>,
    /// Its name, unquoted.
    pub name: Box<str>,
    /// The index of the partitioned table to which it is attached: it goes only with that one.
    pub attached_to: Option<u32>,
    /// Its access method, such as `btree`.
    pub method: Arc<str>,
    /// It lets no two equal keys in.
    pub unique: bool,
    /// It is the primary key.
    pub primary: bool,
    /// Queries may use it.
    pub valid: bool,
    /// Writes enter their rows.
    pub ready: bool,
    /// Somebody builds it right now.
    pub being_built: bool,
    /// The constraint that it carries out (primary key, unique, exclusion), if any.
    pub constraint: Option<Box<str>>,
    /// Its key columns, in order.
    pub keys: Arc<[IndexKey]>,
    /// Its predicate, in the server's own form; only to be compared.
    pub predicate: Option<Arc<str>>,
    /// Its pages, as the catalog remembers them.
    pub pages: u64,
    /// Whether anybody uses it.
    pub usage: Usage,
    /// Replication tells rows apart by it.
    pub replica_identity: bool,
    /// `CLUSTER` orders the table by it.
    pub clustered: bool,
    /// It carries out an exclusion constraint.
    pub exclusion: bool,
    /// It is checked at the end of a statement or transaction, not at once.
    pub deferrable: bool,
    /// Unique, and two NULLs are equal.
    pub nulls_not_distinct: bool,
    /// A foreign key relies on it: the database refuses to drop it.
    pub referred: bool,
    /// An interrupted drop left it.
    pub dropping: bool,
    /// What few have.
    pub rare: Option<Box<Rare>>,
    /// How it is made, where a check needs that ([`super::indexes::to_define`]).
    pub definition: Option<Box<Definition>>,
}

/// What few indexes have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rare {
    /// Columns that it only carries along.
    pub included: Vec<i16>,
    /// Its expressions, in the server's own form; only to be compared.
    pub expressions: Option<String>,
    /// Other access methods than `btree`: what they were given, in the server's own form; only to be compared.
    pub parameters: Option<String>,
    /// Its predicate says nothing but that these columns are not NULL.
    pub not_null: Option<Vec<i16>>,
}

impl Rare {
    /// As an index holds it: nothing where there is nothing.
    #[must_use]
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// How an index is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// The statement that makes it.
    pub statement: String,
    /// Its constraint as `ADD CONSTRAINT name` takes it; over the index itself where that may be.
    pub constraint: Option<String>,
    /// Statements that give it what the others do not hold: comments, statistics targets, marks of its table.
    pub marks: Vec<String>,
}

impl Index {
    /// Columns that it only carries along.
    #[must_use]
    pub fn included(&self) -> &[i16] {
        self.rare.as_ref().map_or(&[], |rare| &rare.included)
    }

    /// Its expressions, in the server's own form; only to be compared.
    #[must_use]
    pub fn expressions(&self) -> Option<&str> {
        self.rare.as_ref()?.expressions.as_deref()
    }

    /// What another access method than `btree` was given, in the server's own form; only to be compared.
    #[must_use]
    pub fn parameters(&self) -> Option<&str> {
        self.rare.as_ref()?.parameters.as_deref()
    }

    /// The columns of which its predicate says that they are not NULL, if it says nothing else.
    #[must_use]
    pub fn not_null(&self) -> Option<&[i16]> {
        self.rare.as_ref()?.not_null.as_deref()
    }

    /// `schema.table.index`, as ids spell it; `None` where its table is not known.
    #[must_use]
    pub fn object(&self, facts: &Facts) -> Option<String> {
        let table = facts.tables.get(&self.table)?;
        Some(super::part(&table.schema, &table.name, &self.name))
    }
}

/// One key column of an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IndexKey {
    /// The column's number in the table; 0: an expression.
    pub column: i16,
    /// How values are compared.
    pub operator_class: u32,
    /// How texts are compared.
    pub collation: u32,
    /// Ascending or descending, NULLs first or last.
    pub options: i16,
}

/// One foreign key. Clones that partitioning makes are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// The referring table.
    pub table: u32,
    /// The referring columns, in the key's order.
    pub columns: Vec<i16>,
    /// Their names.
    pub column_names: Vec<String>,
    /// The referred table.
    pub referred: u32,
    /// Existing rows were checked.
    pub validated: bool,
    /// `NOT ENFORCED`: nothing is looked up for it.
    pub not_enforced: bool,
    /// The collations of the referring columns.
    pub collations: Vec<u32>,
    /// The unique index of the referred table that it relies on.
    pub relies_on: u32,
    /// The partitions of the referring table, with the numbers that the columns have there.
    pub parts: Vec<ForeignKeyPart>,
}

/// One partition below the referring table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignKeyPart {
    /// The partition.
    pub table: u32,
    /// Its referring columns, in the key's order.
    pub columns: Vec<i16>,
}

/// What the statistics say of a B-tree's entries. Only trees that hold rows themselves, not partitioned ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Btree {
    /// The index.
    pub index: u32,
    /// Its entries, as the catalog remembers them.
    pub entries: f64,
    /// To which percentage a build fills its leaves.
    pub fillfactor: u8,
    /// Equal keys are stored once, with a list of their rows.
    pub deduplicates: bool,
    /// Its columns in their order, included ones last; empty where the statistics of one of them cannot be read.
    pub columns: Vec<BtreeColumn>,
    /// Different keys, NULLs among them, where extended statistics were taken of all its columns together.
    pub different_keys: Option<f64>,
    /// When the figures of its table were taken last; `None`: that was forgotten.
    pub seen: Option<Timestamp>,
}

/// One column of a B-tree.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BtreeColumn {
    /// Bytes of a value, on the average.
    pub width: f64,
    /// Each value has that length (no variable one).
    pub fixed: bool,
    /// Values begin at multiples of that.
    pub alignment: u8,
    /// The part of the rows that have none, 0 to 1.
    pub null_fraction: f64,
    /// Different values: a number, or if negative a part of the rows, -1 to 0.
    pub distinct: f64,
    /// How many values are known as the most common ones.
    pub common_values: u32,
    /// Their part of all rows, 0 to 1.
    pub common_fraction: f64,
}
