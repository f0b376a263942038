//! Facts about what the whole server shares, or what runs out: sequences, transaction ids, snapshots, replication slots.

use jiff::Timestamp;

/// One sequence and the columns that take its numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Its schema, unquoted.
    pub schema: String,
    /// Its name, unquoted.
    pub name: String,
    /// Smallest number that it gives.
    pub min: i64,
    /// Largest number that it gives.
    pub max: i64,
    /// From one number to the next; below 0 it goes down.
    pub increment: i64,
    /// The type that bounds its numbers, as SQL writes it.
    pub type_name: String,
    /// It begins anew at its end.
    pub cycles: bool,
    /// The last number given; `None`: none yet, or not to be seen.
    pub last: Option<i64>,
    /// The columns that it feeds, and those that refer to such a column and are narrower.
    pub columns: Vec<FedColumn>,
}

/// A column that holds the numbers of a sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FedColumn {
    /// Its table.
    pub table: u32,
    /// Its name, unquoted.
    pub name: String,
    /// Its type, as SQL writes it.
    pub type_name: String,
    /// Largest number that its type holds; `None`: the type has no such bound.
    pub max: Option<i64>,
    /// How the numbers get there.
    pub by: Feed,
}

/// How a sequence's numbers get into a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Feed {
    /// `GENERATED … AS IDENTITY`, or SQLite's AUTOINCREMENT.
    Identity,
    /// The sequence is `OWNED BY` the column: `serial`, or the application calls `nextval`.
    #[default]
    Owner,
    /// The column's default mentions the sequence.
    Default,
    /// A foreign key refers to a column that the sequence feeds.
    Reference,
}

/// A unique column of whole numbers that no sequence feeds, as the statistics know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntegerKey {
    /// Its table.
    pub table: u32,
    /// Its name, unquoted.
    pub column: String,
    /// Largest number that its type holds.
    pub max: i64,
    /// Smallest number of the sample.
    pub low: i64,
    /// Largest number of the sample: there may be larger ones.
    pub high: i64,
}

/// How near to the end of the transaction ids the server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freeze {
    /// `autovacuum_freeze_max_age`: from this age on autovacuum freezes a table even where it is off.
    pub max_age: u64,
    /// `autovacuum_multixact_freeze_max_age`.
    pub multixact_max_age: u64,
    /// The databases of the server.
    pub databases: Vec<Aged>,
    /// The oldest tables of this database by either age, system's and temporary ones too; TOAST counts as its owner.
    pub tables: Vec<Aged>,
}

/// How old something's oldest transaction id and multixact id that are not frozen are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aged {
    /// The schema; empty for a database.
    pub schema: String,
    /// The name.
    pub name: String,
    /// The table's number; of a database `None`.
    pub table: Option<u32>,
    /// It is the database that is looked at, or lies in it.
    pub own: bool,
    /// A temporary table: no vacuum of another session may touch it.
    pub temporary: bool,
    /// In transactions.
    pub age: u64,
    /// In multixacts.
    pub multixact_age: u64,
    /// The older one is the TOAST table's.
    pub by_toast: bool,
}

/// Who keeps dead rows of this database from being removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHolder {
    /// What it is.
    pub kind: HolderKind,
    /// Since when; `None`: not known, or hidden from the role.
    pub since: Option<Timestamp>,
    /// Transactions begun since the oldest one that it still needs.
    pub age: u64,
}

/// What keeps dead rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HolderKind {
    /// A session with an open transaction.
    Session {
        /// Its role.
        role: String,
        /// It is a dump, by what it calls itself.
        dump: bool,
        /// The server's process id.
        pid: i32,
        /// It waits for its client: `idle in transaction`.
        idle: bool,
        /// The time at which its transaction began, as the server writes it.
        began: Option<String>,
    },
    /// A prepared transaction.
    Prepared {
        /// Who prepared it.
        owner: String,
    },
    /// A standby that feeds its oldest snapshot back.
    Standby {
        /// The role with which it reads.
        role: String,
    },
    /// A replication slot.
    Slot {
        /// Its name.
        name: String,
        /// It keeps dead rows of the catalogs only.
        catalog_only: bool,
        /// Somebody reads from it now.
        active: bool,
        /// It belongs to another database, or to none.
        foreign: bool,
    },
}

/// One replication slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// For logical decoding; else for a standby or a backup.
    pub logical: bool,
    /// It belongs to another database.
    pub foreign: bool,
    /// It goes away with its session.
    pub temporary: bool,
    /// Somebody reads from it now.
    pub active: bool,
    /// Since when nobody does (PostgreSQL 17 and newer).
    pub inactive_since: Option<Timestamp>,
    /// What the server says of its write-ahead log: `reserved`, `extended`, `unreserved`, `lost`.
    pub wal_status: Option<String>,
    /// Bytes of write-ahead log since the oldest position that it needs.
    pub held_bytes: Option<u64>,
    /// Bytes that may still be written before the slot is lost; `None`: there is no limit.
    pub safe_bytes: Option<i64>,
}

/// What the slots are measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalSettings {
    /// `max_wal_size`, in bytes: about so much is kept for the server itself.
    pub max_wal_bytes: u64,
    /// `max_slot_wal_keep_size`, in bytes; `None`: slots may fill the disk.
    pub max_slot_bytes: Option<u64>,
}
