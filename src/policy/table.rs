//! What the policy calls a table, and what the database's catalog says about it.

use std::fmt;

/// A table as a rule names it: `[schema.]table`, spelled exactly as the database does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableName {
    /// `None`: the engine's default schema (PostgreSQL: `public`).
    pub schema: Option<String>,
    /// The table's own name, unquoted.
    pub name: String,
}

/// What kind of relation a name resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// An ordinary table, with or without inheritance children.
    Ordinary,
    /// A partitioned table: rows live in its leaves only.
    Partitioned,
    /// Something that rules cannot work on; the word says what (`view`, `foreign table`, …).
    Unsupported(String),
}

/// How a column's values are compared with a cutoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeDomain {
    /// An instant (PostgreSQL `timestamptz`).
    Instant,
    /// A wall-clock time without a zone (PostgreSQL `timestamp`).
    Local,
    /// A calendar date.
    Date,
}

/// One column as the catalog describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnFacts {
    /// Unquoted name.
    pub name: String,
    /// The type as the database prints it, for messages.
    pub type_name: String,
    /// Set where the column can be compared with a cutoff as it is.
    pub time_domain: Option<TimeDomain>,
    /// The type is the system's own (or an enum), so that only the system's operators apply to it in a predicate.
    pub safe_in_predicates: bool,
    /// The type holds dates or times: words such as `now` mean the current time to it.
    pub is_temporal: bool,
}

/// One table that really holds rows: the table itself, a leaf partition or an inheritance child.
#[derive(Clone, Debug, PartialEq)]
pub struct LeafFacts {
    /// The database's own number of the table (PostgreSQL: oid).
    pub id: u32,
    /// Schema, unquoted.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
    /// Set where rows of this leaf cannot be deleted by a rule (`foreign table`), with the reason.
    pub unsupported: Option<String>,
    /// Estimated rows of the catalog; `None` where the table was never analysed.
    pub rows: Option<f64>,
    /// Pages (blocks) of the main fork, exact.
    pub pages: u64,
}

/// What happens to rows that refer to a deleted row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// `NO ACTION` or `RESTRICT`: the delete fails.
    Restrict,
    /// `CASCADE`: they are deleted too.
    Cascade,
    /// `SET NULL` or `SET DEFAULT`: they are changed.
    Set,
}

/// A foreign key of another (or the same) table that refers to this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingKey {
    /// Constraint name.
    pub name: String,
    /// The referring table, `schema.table`, for messages.
    pub table: String,
    /// The referring table's number.
    pub table_id: u32,
    /// What a delete does there.
    pub on_delete: OnDelete,
    /// The referring table has no page at all.
    pub empty: bool,
}

/// Everything that the catalog says about one table that matters to a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct TableFacts {
    /// The database's own number of the table (PostgreSQL: oid).
    pub id: u32,
    /// Schema, unquoted.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// It belongs to the database system itself, or to an extension.
    pub system: bool,
    /// Its columns in their order, dropped ones left out.
    pub columns: Vec<ColumnFacts>,
    /// The tables that hold its rows, at least one for a supported kind (a partitioned table may have none).
    pub leaves: Vec<LeafFacts>,
    /// Foreign keys that refer to it or to one of its leaves.
    pub incoming: Vec<IncomingKey>,
    /// Row-level security hides rows from this role.
    pub row_security_active: bool,
    /// The table is published without a replica identity: every DELETE would fail. The publication's name.
    pub published_without_identity: Option<String>,
    /// An `ON DELETE` rewrite rule changes what a DELETE does. The rule's name.
    pub delete_rule: Option<String>,
    /// Enabled user triggers that fire on DELETE, for the plan.
    pub delete_triggers: Vec<String>,
    /// The role may read the table.
    pub may_select: bool,
    /// The role may delete from every leaf.
    pub may_delete: bool,
    /// An index, valid and total, leads with the named columns (first columns of each index).
    pub leading_index_columns: Vec<String>,
    /// Bytes of the table with its indexes and TOAST, over all leaves.
    pub total_bytes: i64,
}

impl TableFacts {
    /// `schema.table`, for messages and status.
    #[must_use]
    pub fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The column of that exact name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&ColumnFacts> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Estimated rows over all leaves; `None` when a leaf that has pages was never analysed.
    #[must_use]
    pub fn rows(&self) -> Option<f64> {
        self.leaves
            .iter()
            .map(|leaf| {
                if leaf.pages == 0 {
                    Some(0.0)
                } else {
                    leaf.rows
                }
            })
            .sum()
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// temp
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TableNameError(pub String);
impl std::str::FromStr for TableName {
    type Err = TableNameError;
    fn from_str(_: &str) -> Result<Self, TableNameError> {
        todo!()
    }
}
