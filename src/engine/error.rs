//! What can go wrong between the operator and a database.

/// An engine's error. Messages name hosts, tables and columns, never a password or a URL.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The URL or binding is not usable.
    #[error("{0}")]
    Target(String),
    /// Nobody answers, or the answer is not a database's.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// `host:port`.
        host: String,
        /// What the network said.
        reason: String,
    },
    /// The server refused the user, the password, the database name or the role's right to connect.
    #[error("{host} refused user {user:?} on database {database:?}: {reason}")]
    Refused {
        /// `host:port`.
        host: String,
        /// The role.
        user: String,
        /// The database.
        database: String,
        /// What the server said.
        reason: String,
    },
    /// The encrypted connection failed.
    #[error("TLS with {host} failed: {reason}")]
    Tls {
        /// `host:port`.
        host: String,
        /// Why.
        reason: String,
    },
    /// A lock was not free in time; nothing was changed.
    #[error("{what} is locked by another session")]
    LockTimeout {
        /// The table.
        what: String,
    },
    /// Another operator sweeps the same table right now.
    #[error("another sweep works on {table}")]
    SweptElsewhere {
        /// The table.
        table: String,
    },
    /// The table is not the one that was planned: dropped, renamed, or its columns changed.
    #[error("{table} has changed since the sweep was planned: {reason}")]
    TableChanged {
        /// The table.
        table: String,
        /// What is different.
        reason: String,
    },
    /// The role lacks a right.
    #[error("{0}")]
    Permission(String),
    /// The server, the database or the role was set read-only.
    #[error("{0}")]
    ReadOnly(String),
    /// The server is a standby, which can only be read until it is promoted.
    #[error("{0}")]
    NotPrimary(String),
    /// The connection broke.
    #[error("the connection to {host} broke: {reason}")]
    ConnectionLost {
        /// `host:port`.
        host: String,
        /// What happened.
        reason: String,
    },
    /// A statement, or the transaction that it was in, ran into a timeout.
    #[error("work on {what} took longer than {limit}")]
    StatementTimeout {
        /// What it worked on.
        what: String,
        /// The limit, and who set it.
        limit: String,
    },
    /// Deleting would reach rows of other tables.
    #[error("{0}")]
    Dependents(String),
    /// Somebody paused all sweeps of the database.
    #[error("sweeps of this database are paused in its ledger{}", said(.0))]
    Paused(String),
    /// Holds were placed or removed since the sweep was planned.
    #[error("the holds on this database changed since the sweep was planned")]
    HoldsChanged,
    /// A part of the table, or of one that refers to it, came or went since the sweep was planned: holds and claims may be on it.
    #[error(
        "partitions of {table}, or of a table that refers to it, came or went since the sweep was planned"
    )]
    PartsChanged {
        /// The table.
        table: String,
    },
    /// The ledger cannot be used.
    #[error("{0}")]
    Ledger(String),
    /// The archive table does not fit, or did not take the rows.
    #[error("{0}")]
    Archive(String),
    /// A `where` or a hold does not fit its table: a type error that only the database can see.
    #[error("{0}")]
    Predicate(String),
    /// The table is of a kind, or in a state, that this engine cannot sweep.
    #[error("{0}")]
    NotSupported(String),
    /// Anything else that the server said.
    #[error("{what}: {message} ({})", numbered(code))]
    Database {
        /// What was being done.
        what: String,
        /// The server's words.
        message: String,
        /// SQLSTATE, or `-`; of SQLite `SQLITE` and its result code.
        code: String,
    },
}

/// Whose code it is.
fn numbered(code: &str) -> String {
    if code.starts_with("SQLITE") {
        code.to_owned()
    } else {
        format!("SQLSTATE {code}")
    }
}

impl EngineError {
    /// A bounded word for metrics.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Target(_) => "target",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { .. } => "refused",
            Self::Tls { .. } => "tls",
            Self::LockTimeout { .. } => "lock_timeout",
            Self::SweptElsewhere { .. } => "swept_elsewhere",
            Self::TableChanged { .. } => "table_changed",
            Self::Permission(_) => "permission",
            Self::ReadOnly(_) => "read_only",
            Self::NotPrimary(_) => "not_primary",
            Self::ConnectionLost { .. } => "connection_lost",
            Self::StatementTimeout { .. } => "statement_timeout",
            Self::Dependents(_) => "dependents",
            Self::Paused(_) => "paused",
            Self::HoldsChanged => "holds_changed",
            Self::PartsChanged { .. } => "parts_changed",
            Self::Ledger(_) => "ledger",
            Self::Archive(_) => "archive",
            Self::Predicate(_) => "predicate",
            Self::NotSupported(_) => "not_supported",
            Self::Database { .. } => "database",
        }
    }

    /// Trying again later may help without anybody changing the policy or its Secret.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::LockTimeout { .. }
                | Self::SweptElsewhere { .. }
                | Self::ConnectionLost { .. }
                | Self::StatementTimeout { .. }
                | Self::NotPrimary(_)
                | Self::Paused(_)
                | Self::HoldsChanged
                | Self::PartsChanged { .. }
        )
    }
}

fn said(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    }
}
