//! From what SQLite said to an [`EngineError`] that a policy's author understands.

use std::time::Duration;

use sqlx::sqlite::SqliteError;

use crate::engine::EngineError;

// Primary result codes: https://www.sqlite.org/rescode.html
const GENERIC: i32 = 1;
const PERM: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const INTERRUPT: i32 = 9;
const IOERR: i32 = 10;
const CANTOPEN: i32 = 14;
const NOTADB: i32 = 26;
/// Prefix of the ledger's tables.
const LEDGER: &str = "retention_operator_";
/// A primary code: what constraints say, those of foreign keys and of triggers too.
const CONSTRAINT: i32 = 19;
/// An extended code: a foreign key.
const CONSTRAINT_FOREIGNKEY: i32 = 787;
/// An extended code: a trigger's own words.
const CONSTRAINT_TRIGGER: i32 = 1811;
/// An extended code: a writer broke off, and its half transaction can only be taken back by somebody who may write.
const READONLY_ROLLBACK: i32 = 776;

fn said(error: &sqlx::Error) -> Option<(i32, &str)> {
    let error = error.as_database_error()?;
    // The driver formats the extended code, which always is a number.
    error
        .try_downcast_ref::<SqliteError>()
        .and_then(|error| sqlx::error::DatabaseError::code(error)?.parse().ok())
        .map(|code| (code, error.message()))
}

const fn primary(code: i32) -> i32 {
    code & 0xff
}

/// Somebody else holds the database's lock.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    said(error).is_some_and(|(code, _)| matches!(primary(code), BUSY | LOCKED))
}

/// `RESTRICT` is carried out by a trigger of SQLite's own, whose code it has.
fn is_foreign_key(code: i32, message: &str) -> bool {
    code == CONSTRAINT_FOREIGNKEY
        || (code == CONSTRAINT_TRIGGER && message == "FOREIGN KEY constraint failed")
}

/// A foreign key stands against the delete of some row: the others can go without it. `sets`: keys may set columns to NULL or to
/// their default, which other constraints may forbid.
pub(super) fn is_kept_by_a_key(error: &sqlx::Error, sets: bool) -> bool {
    said(error).is_some_and(|(code, message)| {
        is_foreign_key(code, message)
            || (sets && primary(code) == CONSTRAINT && code != CONSTRAINT_TRIGGER)
            || (primary(code) == GENERIC
                && message.contains("too many levels of trigger recursion"))
    })
}

/// What a constraint, or a trigger, said.
pub(super) fn of_constraint(error: &sqlx::Error) -> Option<&str> {
    said(error)
        .filter(|(code, _)| primary(*code) == CONSTRAINT)
        .map(|(_, message)| message)
}

/// Whether what was being committed is on disk cannot be said.
pub(super) fn is_unclear(error: &sqlx::Error) -> bool {
    said(error).is_none_or(|(code, _)| primary(code) == IOERR)
}

/// SQLite answered, and the connection serves on.
pub(super) fn session_survives(error: &sqlx::Error) -> bool {
    said(error).is_some_and(|(code, _)| primary(code) != IOERR)
        || matches!(
            error,
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::RowNotFound
        )
}

/// There was nothing to roll back: SQLite had done so by itself.
pub(super) fn has_no_transaction(error: &sqlx::Error) -> bool {
    said(error).is_some_and(|(code, message)| {
        primary(code) == GENERIC && message.contains("no transaction is active")
    })
}

/// The message of an error that concerns the statement's own text: names, functions, collations, types.
pub(super) fn of_statement(error: &sqlx::Error) -> Option<&str> {
    said(error)
        .filter(|(code, _)| primary(*code) == GENERIC)
        .map(|(_, message)| message)
}

/// The file cannot be used.
fn of_file(name: &str, code: i32, message: &str) -> Option<EngineError> {
    Some(match primary(code) {
        BUSY | LOCKED => EngineError::LockTimeout {
            what: name.to_owned(),
        },
        CANTOPEN => cannot_be_opened(name, message),
        NOTADB => EngineError::Target(format!("{name} is no SQLite database, or an encrypted one")),
        PERM => EngineError::Permission(format!("{name}: {message}")),
        _ if code == READONLY_ROLLBACK => EngineError::ReadOnly(format!(
            "a writer of {name} broke off in the middle, and its half transaction cannot be taken back by somebody who only reads: \
             open the database once with a program that may write to it"
        )),
        READONLY => EngineError::ReadOnly(format!("{name} does not accept writes: {message}")),
        _ => return None,
    })
}

fn cannot_be_opened(name: &str, message: &str) -> EngineError {
    EngineError::Target(format!(
        "the database file {name} cannot be opened ({message}): it may be readable for nobody, or be in WAL mode in a folder \
         that cannot be written; of a file that nobody writes to, add ?immutable=1"
    ))
}

/// A file in WAL mode is not even read where nothing may be written: nobody who only reads asked for writes.
pub(super) fn reads_nothing(name: &str, error: &sqlx::Error) -> Option<EngineError> {
    said(error)
        .filter(|(code, _)| primary(*code) == READONLY && *code != READONLY_ROLLBACK)
        .map(|(_, message)| cannot_be_opened(name, message))
}

/// An error while a connection was being opened.
pub(super) fn opening(name: &str, error: &sqlx::Error) -> EngineError {
    match said(error) {
        Some((code, message)) => of_file(name, code, message)
            .unwrap_or_else(|| EngineError::Target(format!("{name} cannot be opened: {message}"))),
        None => lost(name, error.to_string()),
    }
}

/// The connection is of no use any more.
pub(super) fn lost(name: &str, reason: String) -> EngineError {
    EngineError::ConnectionLost {
        host: name.to_owned(),
        reason,
    }
}

/// What a statement was about, for the message of its error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doing<'a> {
    /// The path as the URL spells it.
    pub(super) file: &'a str,
    /// In the words of a sentence: `reading the catalog of`.
    pub(super) what: &'a str,
    /// The table, `main.table`, if there is one.
    pub(super) table: Option<&'a str>,
    /// How long the statement was allowed to take.
    pub(super) limit: Duration,
}

/// An error of a statement.
pub(super) fn running(doing: Doing<'_>, error: &sqlx::Error) -> EngineError {
    let subject = doing.table.unwrap_or(doing.file);
    let what = format!("{} {subject}", doing.what);
    let Some((code, message)) = said(error) else {
        return match error {
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::RowNotFound => EngineError::Database {
                what,
                message: error.to_string(),
                code: "-".to_owned(),
            },
            other => lost(doing.file, other.to_string()),
        };
    };
    if let Some(error) = of_file(doing.file, code, message) {
        return error;
    }
    let is = |word: &str| primary(code) == GENERIC && message.contains(word);
    if (is("no such table") || is("no such column")) && message.contains(LEDGER) {
        return EngineError::Ledger(format!("the ledger is gone: {message}"));
    }
    if is_foreign_key(code, message) || is("foreign key mismatch") {
        return EngineError::Dependents(format!("rows of {subject} are referred to: {message}"));
    }
    if primary(code) == INTERRUPT {
        return EngineError::StatementTimeout {
            what: subject.to_owned(),
            limit: format!("{:?} (database.statementTimeout)", doing.limit),
        };
    }
    if [
        "no such collation",
        "no such function",
        "no such module",
        "unsafe use of",
    ]
    .iter()
    .any(|word| is(word))
    {
        return EngineError::NotSupported(format!(
            "{what}: {message}: what an application defines for its own connections is not known here"
        ));
    }
    if doing.table.is_some() && (is("no such table") || is("no such column")) {
        return EngineError::TableChanged {
            table: subject.to_owned(),
            reason: message.to_owned(),
        };
    }
    EngineError::Database {
        what,
        message: message.to_owned(),
        code: format!("SQLITE {code}"),
    }
}
