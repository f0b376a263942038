//! What a rule's deletes set off beside themselves: triggers that fire, and publications that carry the deletes to subscribers.

/// What a rule's deletes set off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SideEffects {
    /// Triggers on the tables that the deletes reach, those that do not fire included.
    pub triggers: Vec<Trigger>,
    /// Publications of these tables.
    pub publications: Vec<Publication>,
    /// Indexes that are missing where rows are looked for that refer to those that go.
    pub missing_indexes: Vec<MissingIndex>,
}

/// A table of some size that is read as a whole for each chunk, or each row, as no index begins with a column of its foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingIndex {
    /// `schema.table`.
    pub table: String,
    /// The foreign key.
    pub key: String,
    /// What makes the index.
    pub statement: String,
}

/// What is done to the rows of a table, so that its triggers fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Rows are deleted: the rule's own, or those that go along.
    Delete,
    /// A foreign key sets columns of rows that refer to the deleted ones.
    Update,
    /// Rows are archived.
    Insert,
}

impl Event {
    /// As SQL spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Update => "UPDATE",
            Self::Insert => "INSERT",
        }
    }
}

/// When a trigger fires, as far as it is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enabled {
    /// In sessions of services, and so in sweeps.
    Origin,
    /// Always.
    Always,
    /// Only where changes are replayed: not in a sweep.
    Replica,
    /// Never.
    Disabled,
}

/// One trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// `schema.table`.
    pub table: String,
    /// Its name.
    pub name: String,
    /// `schema.name` of what it calls; `None`: it holds its statements itself.
    pub function: Option<String>,
    /// What it waits for.
    pub event: Event,
    /// For each row; else for each statement.
    pub each_row: bool,
    /// Before the rows are changed: it can keep them.
    pub before: bool,
    /// It has a condition of its own.
    pub conditional: bool,
    /// Whether it is switched on.
    pub enabled: Enabled,
}

impl Trigger {
    /// It fires in a sweep.
    #[must_use]
    pub fn fires(&self) -> bool {
        matches!(self.enabled, Enabled::Origin | Enabled::Always)
    }
}

/// Why a publication has a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// `FOR ALL TABLES`.
    AllTables,
    /// `FOR TABLES IN SCHEMA`.
    Schema,
    /// It names the table, or one above it.
    Table,
}

impl Reach {
    /// As SQL spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllTables => "FOR ALL TABLES",
            Self::Schema => "FOR TABLES IN SCHEMA",
            Self::Table => "FOR TABLE",
        }
    }
}

/// One publication, as far as the tables are part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Its name.
    pub name: String,
    /// Why.
    pub reach: Reach,
    /// Tables whose rows are deleted and that it has, `schema.table`, in order.
    pub tables: Vec<String>,
    /// It carries deletes.
    pub deletes: bool,
    /// Changes of partitions go out as those of the table above them.
    pub via_root: bool,
    /// Its condition on the rows of one of the tables, as SQL.
    pub filter: Option<String>,
}
