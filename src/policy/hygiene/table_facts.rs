//! What the checks of single tables look at beside what every check does.

use jiff::Timestamp;

use crate::policy::estimate::ColumnStatistics;

/// Bytes of a block in every build that is shipped.
pub const BLOCK: u64 = 8192;

/// One table, seen more closely.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableDetail {
    /// Something inherits from it, or did.
    pub has_children: bool,
    /// Some of its partitions are foreign tables, which are not looked at: what is known of the others is not all.
    pub foreign_children: bool,
    /// By what the rows of its changes are told apart for subscribers.
    pub identity: Identity,
    /// A publication that publishes its deletes although nothing tells its rows apart: they fail.
    pub published: Option<String>,
    /// Row-level security is active for the role that audits.
    pub row_security: bool,
    /// Columns, dropped ones included.
    pub attributes: u32,
    /// To how many percent pages are filled; `None`: wholly.
    pub fill_factor: Option<u8>,
    /// Where its long values are.
    pub toast: Option<Toast>,
    /// When it was last analysed, as far as the counters remember.
    pub analyzed_at: Option<Timestamp>,
    /// What was written since the counters count.
    pub counters: Counters,
    /// The role may read a column of it, and so its statistics.
    pub may_read: bool,
    /// Pages of its file, exact: asked only of tables that look empty to the catalog.
    pub file_pages: Option<u64>,
    /// A crash empties it.
    pub unlogged: bool,
    /// As a partition by ranges of a time column: its bound.
    pub bound: Option<Box<Bound>>,
}

/// By what rows are told apart for subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// The primary key, if there is one.
    #[default]
    Default,
    /// Nothing.
    Nothing,
    /// The whole row.
    Full,
    /// An index.
    Index,
}

impl Identity {
    /// As `ALTER TABLE … REPLICA IDENTITY` takes it; that of an index names the index, which is not known here.
    #[must_use]
    pub fn keyword(self) -> Option<&'static str> {
        match self {
            Self::Default => Some("DEFAULT"),
            Self::Nothing => Some("NOTHING"),
            Self::Full => Some("FULL"),
            Self::Index => None,
        }
    }
}

/// Where the long values of a table are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Toast {
    /// The name in `pg_toast`.
    pub name: String,
    /// Pages, as the catalog remembers them.
    pub pages: u64,
    /// Pieces of values, at most a quarter of a page each; `None`: never vacuumed.
    pub chunks: Option<f64>,
}

/// Rows written since the counters count: zero after a crash or a reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Inserted.
    pub inserted: u64,
    /// Updated.
    pub updated: u64,
    /// Deleted.
    pub deleted: u64,
    /// Alive now.
    pub live: u64,
    /// Written since the last ANALYZE.
    pub modified: u64,
}

/// The bound of a partition by ranges of a time column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bound {
    /// The first column of the key.
    pub column: String,
    /// The key has no other column.
    pub alone: bool,
    /// No row has a later time (with one column: nor this very one). Seconds since 1970, local times and dates as if they
    /// were UTC.
    pub upper: f64,
    /// As `ATTACH PARTITION` takes it.
    pub text: String,
    /// The partitioned table has a default partition, so that it gives none away without a short lock.
    pub beside_default: bool,
    /// What the server calls the CHECK constraint of the same bounds that it leaves where it lets go of the partition without a
    /// lock; `None`: that cannot be foreseen.
    pub detached_check: Option<String>,
}

/// One column of a table that is large enough to be looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// Its number in the table.
    pub number: i16,
    /// Its name; of a dropped column what the server made of it.
    pub name: String,
    /// Bytes of every value; `None`: they differ.
    pub length: Option<u16>,
    /// Values begin at multiples of so many bytes.
    pub alignment: u8,
    /// It was dropped: rows from before still hold its values.
    pub dropped: bool,
    /// It was added with a default, and rows from before hold no value of it.
    pub added: bool,
    /// Its values are computed from others.
    pub generated: bool,
    /// And that when they are read: a row holds a NULL for it.
    pub is_virtual: bool,
    /// Its values are times.
    pub is_time: bool,
    /// What ANALYZE saw of it; `None`: nothing, or the role may not know.
    pub sample: Option<Sample>,
}

/// What ANALYZE saw of a column.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Fraction of NULL, 0 to 1.
    pub null_fraction: f64,
    /// Bytes of a value that is not NULL, on average.
    pub width: f64,
    /// Distinct values, or as a negative number their fraction of all rows.
    pub distinct: f64,
    /// Of a column with one value: a number that tells it from others.
    pub value: Option<i64>,
}

/// A unique key, not the primary one, over columns that are never NULL, without predicate and expressions, on a table without
/// a primary key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TotalKey {
    /// Its table.
    pub table: u32,
    /// Its index.
    pub index: u32,
    /// The name of that.
    pub name: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// It is checked at once, not at the end of the transaction.
    pub immediate: bool,
    /// It compares and orders as a primary key does: its columns' own operator classes and collations, NULLs distinct.
    pub is_plain: bool,
}

/// A constraint that old rows were never held to. Those that a parent hands down are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unvalidated {
    /// Its table.
    pub table: u32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ConstraintKind,
    /// The table that a foreign key refers to.
    pub referred: Option<u32>,
}

/// What a constraint is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConstraintKind {
    /// `CHECK`.
    #[default]
    Check,
    /// `FOREIGN KEY`.
    ForeignKey,
    /// `NOT NULL`.
    NotNull,
}

impl ConstraintKind {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Check => "check constraint",
            Self::ForeignKey => "foreign key",
            Self::NotNull => "not-null constraint",
        }
    }
}

/// The times of one column of a large table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    /// The column.
    pub column: String,
    /// Their distribution.
    pub statistics: ColumnStatistics,
}
